"""The frame of every command line: parsing of options, one-line errors, exit codes."""

import contextlib
import functools
import io
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
import tyro

from landscape.cli.console import sturdy_streams
from landscape.cli.interrupts import STOPPED, begin_script
from landscape.errors import InputError
from landscape.models.own import OwnCodeError, is_in_own_code
from landscape.runtime import ranks
from landscape.studies.kit.names import EARLIER_NAMES

__all__ = ["run_script"]

PACKAGE = str(Path(__file__).resolve().parents[1])
EARLIER_OPTIONS = {f"--{old}".replace("_", "-"): f"--{new}".replace("_", "-") for old, new in EARLIER_NAMES.items()}
# Advice of the library to callers of Python functions -> the corresponding option of a command line.
ADVICE_AS_OPTIONS = {
    r"load_checkpoint\(path, model=('[^']*')\)": r"--model \1",
    r"load_checkpoint\(path, model=network\)": "--model FILE.py:FUNCTION --data FILE.py:FUNCTION",
}
KINDS = {"INT": "a whole number", "{INT INT}": "two of them", "FLOAT": "a number", "{FLOAT FLOAT}": "two numbers"}


def run_script(main: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Parse ``arguments`` (default: the command line) into the typed signature of ``main`` and call it.

    An error that a user can correct (:class:`InputError`, options that cannot be parsed, a file that cannot be read or
    written, too little memory) ends the script with one line on stderr and exit code 2. Ctrl-C ends it with exit code
    130. Any other exception keeps its traceback. Standard streams that are closed or break do not end the script, see
    `landscape.cli.console`. Figures are only saved, so matplotlib needs no display; LaTeX is not used. Under torchrun
    the processes work together, see `landscape.runtime.ranks`.
    """
    arguments = _present(sys.argv[1:] if arguments is None else arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr, flush=True)
    matplotlib.use("agg")
    matplotlib.rcParams["text.usetex"] = False  # names of data and files are not valid LaTeX
    with sturdy_streams():
        try:
            begin_script()
            with ranks.joined():
                _parsed(main, arguments)()
        except InputError as error:
            _show_own_code(error)
            sys.exit(_fail(str(error)))
        except OSError as error:
            sys.exit(_fail(f"{error.filename or 'input/output'}: {error.strerror or error}"))
        except MemoryError as error:
            reason = f": {error}" if str(error) else ""
            sys.exit(_fail(f"out of memory{reason}; use fewer samples or grid points, or a smaller network"))
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            sys.exit(_fail("out of memory; use fewer samples or grid points, or a smaller network"))
        except KeyboardInterrupt:
            print(STOPPED, file=sys.stderr)
            sys.exit(130)


def _present(arguments: list[str]) -> list[str]:
    """``arguments`` with names of options from earlier versions replaced by the present ones."""
    parts = (argument.partition("=") for argument in arguments)
    return [EARLIER_OPTIONS.get(name.replace("_", "-"), name) + equals + value for name, equals, value in parts]


def _parsed(main: Callable[..., None], arguments: list[str]) -> Callable[[], None]:
    """``main`` with the values of all options; ``-h`` prints the help and exits.

    Raises:
        InputError: The options cannot be parsed; the message is tyro's, as one line without its frame and its help.
    """

    @functools.wraps(main)
    def bound(*values: object, **options: object) -> Callable[[], None]:
        return functools.partial(main, *values, **options)

    if not {"-h", "--help"}.isdisjoint(arguments):
        print(_wrapped(sys.modules[main.__module__].__doc__ or "") + "\n")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(bound, args=arguments, description="", config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_in_one_line(errors.getvalue())) from None


def _wrapped(manual: str) -> str:
    """The paragraphs of ``manual`` in lines as wide as the terminal, which tyro does not wrap; examples as they are."""
    width = shutil.get_terminal_size().columns
    paragraphs = re.split(r"\n\n", manual.strip())
    return "\n\n".join(
        text if text.startswith("    ") else textwrap.fill(text, width, break_on_hyphens=False) for text in paragraphs
    )


def _in_one_line(text: str) -> str:
    """The first paragraph of tyro's error ``text`` below its title, with the similar options that it lists."""
    lines = re.sub("^╭.*$|[│╰╯]", "", text, flags=re.MULTILINE).rstrip().splitlines()
    sections = re.split(r"^\s*[-─]{5,}\s*$", "\n".join(lines), flags=re.MULTILINE)
    message, *others = sections if "╭" in text else sections[1:] or sections
    paragraph = re.split(r"\n\s*\n", message.strip())[0].removeprefix("Error parsing ")
    similar = re.findall(r"^\s+(--[\w-]+)", "\n".join(others), re.MULTILINE) if "nrecognized" in paragraph else []
    suggestion = f"; perhaps {' or '.join(dict.fromkeys(similar))} is meant" if similar else ""
    return f"{_in_words(' '.join(paragraph.split()).rstrip('.'))}{suggestion}; -h explains the options"


def _in_words(message: str) -> str:
    """``message`` with tyro's and Python's notation of the types of a value in words."""

    def in_words(match: re.Match[str]) -> str:
        kinds = [KINDS.get(kind, kind.strip("{}")) for kind in match[1].split("|")]
        values = re.findall("'([^']*)'", match[2])
        return f"takes {' or '.join(kinds)}, not {' '.join(values)}"

    message = re.sub(r"no type matching (.+) could be instantiated from \[(.*)\]", in_words, message)
    message = re.sub(r"could not convert string to float: '(.*)'", r"takes a number, not \1", message)
    message = re.sub(r"invalid literal for int\(\) with base 10: '(.*)'", r"takes a whole number, not \1", message)
    return re.sub(r"^(--[\w-]+): takes", r"\1 takes", message)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch could not allocate a tensor, which on the CPU only the message shows."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error)


def _show_own_code(error: BaseException | None) -> None:
    """Print the traceback of an error in the user's own code, if it is the cause of ``error``."""
    while error is not None and (cause := error.__cause__) is not None:
        if isinstance(error, OwnCodeError) or is_in_own_code(cause):
            break
        error = cause
    else:
        return
    place = cause.__traceback__
    while place and place.tb_frame.f_code.co_filename.startswith((PACKAGE, "<frozen importlib")):
        place = place.tb_next
    traceback.print_exception(type(cause), cause, place, file=sys.stderr)


def _fail(message: str) -> int:
    for call, option in ADVICE_AS_OPTIONS.items():
        message = re.sub(call, option, message)
    print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    return 2
