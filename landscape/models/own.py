"""Networks built by a function in a file of the user: FILE.py:FUNCTION."""

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

__all__ = ["build_own", "check_own", "import_own", "is_own"]

OPTIONAL = ("input_shape", "classes")  # left out if the function does not take them; it must take all others
_imported: dict[Path, tuple[bytes, ModuleType]] = {}  # file -> its code and module, until its network is built


def is_own(name: str) -> bool:
    """Whether ``name`` names a file of Python code, which is run to build the model."""
    return name.endswith(".py") or ".py:" in name


def build_own(name: str, **arguments: Any) -> nn.Module:
    """Run FILE.py and return the network that its FUNCTION builds, for ``name`` = "FILE.py:FUNCTION".

    The function is called with ``input_shape`` and ``classes``, if its signature takes them, and with all other
    arguments. FILE.py can import the files in its folder.

    Raises:
        InputError: the file or the function does not exist; the function does not take the arguments, or does not
            return an ``nn.Module``; or the code raises an error, which is chained and reported with its line.
    """
    path, build = _function(name)
    accepted = _accepted(build, name, arguments)
    with _explained(path):
        model = build(**accepted)
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__} itself" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"{name} returned {kind}; it must return a torch.nn.Module")
    return model


def import_own(name: str, **arguments: Any) -> None:
    """Run FILE.py of ``name`` = "FILE.py:FUNCTION" before other work; the next network of it is built without a rerun.

    ``arguments`` are those of `build_own` but for input_shape and classes.

    Raises:
        InputError: as `build_own`, but for errors of the function itself, which is not called.
    """
    path, build = _function(name)
    _accepted(build, name, {**dict.fromkeys(OPTIONAL, ()), **arguments})
    _imported[path.resolve()] = path.read_bytes(), sys.modules[f"own_model_{path.stem}"]


def _function(name: str) -> tuple[Path, Callable[..., Any]]:
    path, function = check_own(name)
    code, module = _imported.pop(path.resolve(), (b"", None))
    if module is None or code != path.read_bytes():
        print(f"Running {path}, whose function {function} builds the model", flush=True)
        with _explained(path):
            module = _run(path)
    build: object = getattr(module, function, None)
    if not callable(build):
        raise InputError(f"{path} has no function {function!r}")
    return path, build


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
def _explained(path: Path) -> Iterator[None]:
    """Turn any error of the code in ``path`` into an InputError that names the file and the line."""
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
        raise InputError(f"{place}: {reason}; correct the code that builds the model") from error


def _accepted(build: Callable[..., Any], name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of ``arguments`` with which the function ``build`` is called."""
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has no signature that Python can read; make it a function") from error
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
