"""What every command line shares: parsing, one-line errors, exit codes."""

import sys
import warnings
from collections.abc import Callable

import tyro

from landscape import ranks
from landscape.errors import InputError

__all__ = ["run_script"]


def run_script(main: Callable, arguments: list[str] | None = None) -> None:
    """Parse ``arguments`` (default: the command line) into the typed signature of ``main`` and call it.

    An error that a person can mend (:class:`InputError`, a file that cannot be read or written) ends in one
    line on stderr and exit code 2, Ctrl-C in exit code 130; anything else keeps its traceback. Under torchrun the
    processes work together, see `landscape.ranks`.
    """
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr, flush=True)
    try:
        manual = sys.modules[main.__module__].__doc__
        with ranks.joined():
            tyro.cli(main, args=arguments, description=manual, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:
        sys.exit(_fail(f"{error.filename or 'input/output'}: {error.strerror or error}"))
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; files already written are whole.", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2
