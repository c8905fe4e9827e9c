"""See and measure the loss landscape of PyTorch networks; `landscape_lib` is what people import."""

from landscape.cli.interrupts import await_script, is_script
from landscape.runtime.waiting import wait_briefly

__all__ = ["__version__"]

__version__ = "0.2.0.dev0"

if is_script():
    wait_briefly()
await_script()
