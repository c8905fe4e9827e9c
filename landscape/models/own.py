"""Networks of the user's own: FILE.py:FUNCTION."""

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from landscape.errors import InputError

__all__ = ["build_own", "check_own", "is_own"]

OFFERED = ("input_shape", "classes")  # a function may do without them; it must take whatever else is asked for


def is_own(name: str) -> bool:
    """Whether ``name`` names a file of Python code, which is run to build the model."""
    return name.endswith(".py") or ".py:" in name


def build_own(name: str, **arguments: Any) -> nn.Module:
    """Run FILE.py and return the network that its FUNCTION builds, for ``name`` = "FILE.py:FUNCTION".

    The function is called with those of ``input_shape`` and ``classes`` that its signature takes, and with all
    other arguments. Files beside FILE.py can be imported by it.

    Raises:
        InputError: no such file, no such function, it does not take the arguments, or returns no ``nn.Module``; an
            error of the code itself, with the line of the file and as the cause.
    """
    path, function = check_own(name)
    print(f"Running {path}, whose function {function} builds the model", flush=True)
    with _explained(path):
        build = getattr(_imported(path), function, None)
    if not callable(build):
        raise InputError(f"{path} has no function {function!r}")
    taken = _taken(build, name, arguments)
    with _explained(path):
        model = build(**taken)
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__} itself" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"{name} returned {kind}; it must return a torch.nn.Module")
    return model


def check_own(name: str) -> tuple[Path, str]:
    """The file and the name of the function in ``name`` = "FILE.py:FUNCTION", without running the file.

    Raises:
        InputError: no such file, or one that is no Python code.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function:
        raise InputError(f"{name!r} names no function; write FILE.py:FUNCTION")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path} does not exist; a model of your own is FILE.py:FUNCTION")
    with _explained(path):
        compile(path.read_bytes(), str(path), "exec")
    return path, function


def _imported(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end, so that nothing there hides a module of another name
    spec = importlib.util.spec_from_file_location(f"own_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever the code in ``path`` raises into an InputError with the line at which it did."""
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
        raise InputError(f"{place}: {reason}; mend the code that builds the model") from error


def _taken(build: Callable[..., Any], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} tells no signature; make it a function") from error
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        taken = signature.parameters.keys()
        arguments = {key: value for key, value in arguments.items() if key in taken or key not in OFFERED}
    if "input_shape" in arguments:
        arguments["input_shape"] = tuple(arguments["input_shape"])
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(f"{name} cannot be called with {arguments}: {error}") from error
    return arguments
