"""Networks, data and losses of the user's own: functions in a file of theirs, FILE.py:FUNCTION."""

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from torch import nn

from landscape.errors import InputError

__all__ = [
    "OwnCodeError",
    "build_own",
    "call_own",
    "check_own",
    "import_own",
    "is_in_own_code",
    "is_own",
    "own_function",
    "required_of",
]

Kind = Literal["model", "data", "loss"]
PURPOSES: dict[Kind, str] = {"model": "builds the model", "data": "returns the data", "loss": "computes the loss"}
OPTIONAL = ("input_shape", "classes")  # left out if the function does not take them; it must take all others
_modules: dict[Path, tuple[bytes, ModuleType]] = {}  # file -> its code, and the module that running it has made


class OwnCodeError(InputError):
    """An error of the user's own code, which is its cause; scripts print the traceback of the cause as well."""


def is_own(name: str) -> bool:
    """Whether ``name`` names a file of Python code, which is run."""
    return name.endswith(".py") or ".py:" in name


def build_own(name: str, **arguments: Any) -> nn.Module:
    """Run FILE.py and return the network that its FUNCTION builds, for ``name`` = "FILE.py:FUNCTION".

    The function is called with ``input_shape`` and ``classes``, if its signature takes them, and with all other
    arguments. FILE.py can import the files in its folder.

    Raises:
        InputError: the file or the function does not exist; the function does not take the arguments, or does not
            return an ``nn.Module``; or the code raises an error, which is chained and reported with its line.
    """
    model = call_own(name, "model", **arguments)
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__} itself" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"{name} returned {kind}; it must return a torch.nn.Module")
    return model


def call_own(name: str, kind: Kind, **arguments: Any) -> Any:
    """What the function ``name`` = "FILE.py:FUNCTION" returns for ``arguments``, see `build_own`.

    Raises:
        InputError: as `build_own`.
    """
    function = own_function(name, kind)
    accepted = _accepted(function, name, arguments)
    with _explained(Path(name.rpartition(":")[0]), kind):
        return function(**accepted)


def import_own(name: str, **arguments: Any) -> None:
    """Run FILE.py of ``name`` = "FILE.py:FUNCTION" before other work, so that its mistakes are reported early.

    ``arguments`` are those of `build_own` but for input_shape and classes.

    Raises:
        InputError: as `build_own`, but for errors of the function itself, which is not called.
    """
    _accepted(own_function(name, "model"), name, {**dict.fromkeys(OPTIONAL, ()), **arguments})


def is_in_own_code(error: BaseException) -> bool:
    """Whether a file of the user's that has been run takes part in the calls that raised ``error``."""
    calls = traceback.extract_tb(error.__traceback__)
    return any(Path(call.filename).resolve() in _modules for call in calls)


def required_of(name: str) -> frozenset[str]:
    """Those of ``input_shape`` and ``classes`` without which the function ``name`` cannot be called."""
    parameters = _signature(own_function(name, "model"), name).parameters.values()
    return frozenset(part.name for part in parameters if part.name in OPTIONAL and part.default is part.empty)


def own_function(name: str, kind: Kind) -> Callable[..., Any]:
    """The function of ``name`` = "FILE.py:FUNCTION"; the file is run once, and again when it has changed.

    Raises:
        InputError: the file or the function does not exist, or the code raises an error.
    """
    path, function = check_own(name, kind)
    place, code = path.resolve(), path.read_bytes()
    if place not in _modules or _modules[place][0] != code:
        print(f"Running {path}, whose function {function} {PURPOSES[kind]}", flush=True)
        with _explained(path, kind):
            _modules[place] = code, _run(path)
    chosen: object = getattr(_modules[place][1], function, None)
    if not callable(chosen):
        raise InputError(f"{path} has no function {function!r}")
    return chosen


def check_own(name: str, kind: Kind = "model") -> tuple[Path, str]:
    """The file and the name of the function in ``name`` = "FILE.py:FUNCTION", without running the file.

    Raises:
        InputError: no such file, or one that is no Python code.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function:
        raise InputError(f"{name!r} names no function; write FILE.py:FUNCTION")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path} does not exist; give FILE.py:FUNCTION that {PURPOSES[kind]}")
    with _explained(path, kind):
        compile(path.read_bytes(), str(path), "exec")
    return path, function


def _run(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end, so that no file there hides an installed module of the same name
    spec = importlib.util.spec_from_file_location(f"own_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _explained(path: Path, kind: Kind) -> Iterator[None]:
    """Turn any error of the code in ``path`` into an OwnCodeError that names the file and the line."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        calls = traceback.extract_tb(error.__traceback__)
        lines = [call.lineno for call in calls if Path(call.filename).resolve() == path.resolve()]
        place = ", line ".join(str(part) for part in (path, lines[-1] if lines else line) if part)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OwnCodeError(f"{place}: {reason}; correct the code that {PURPOSES[kind]}") from error


def _accepted(function: Callable[..., Any], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of ``arguments`` with which ``function`` is called."""
    signature = _signature(function, name)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        names = signature.parameters.keys()
        arguments = {key: value for key, value in arguments.items() if key in names or key not in OPTIONAL}
    if "input_shape" in arguments:
        arguments["input_shape"] = tuple(arguments["input_shape"])
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(f"{name} cannot be called with {arguments}: {error}") from error
    return arguments


def _signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has no signature that Python can read; make it a function") from error
