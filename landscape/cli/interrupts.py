"""Ctrl-C in the scripts: one line and exit code 130, even during the seconds in which torch is imported."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

__all__ = ["STOPPED", "await_script", "begin_script", "is_script"]

STOPPED = "Stopped by Ctrl-C; files already written are whole."
SCRIPTS = Path(__file__).resolve().parents[2]  # the folder of the scripts beside the package


def is_script() -> bool:
    """Whether a script beside the package is running in this process."""
    started = getattr(sys.modules.get("__main__"), "__file__", None)
    return bool(started and Path(started).resolve().parent == SCRIPTS and not multiprocessing.parent_process())


def await_script() -> None:
    """Make Ctrl-C end the process at once until `begin_script`, if a script beside the package is running.

    An exception could be swallowed by the imports of other packages, or be printed with a long traceback.
    """
    ours = is_script() and threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def begin_script() -> None:
    """Make Ctrl-C raise KeyboardInterrupt again, as `run_script` expects."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        if os.environ.get("RANK", "0") == "0":  # one line for all processes of torchrun
            os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)
