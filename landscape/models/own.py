"""Networks of the user's own: FILE.py:FUNCTION."""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from landscape.errors import InputError

__all__ = ["build_own", "is_own"]

OFFERED = ("input_shape", "classes")  # a function may do without them; it must take whatever else is asked for


def is_own(name: str) -> bool:
    """Whether ``name`` names a file of Python code, which is run to build the model."""
    return name.endswith(".py") or ".py:" in name


def build_own(name: str, **arguments) -> nn.Module:
    """Run FILE.py and return the network that its FUNCTION builds, for ``name`` = "FILE.py:FUNCTION".

    The function is called with those of ``input_shape`` and ``classes`` that its signature takes, and with all
    other arguments. Files beside FILE.py can be imported by it. An error inside the file keeps its traceback.

    Raises:
        InputError: no such file, no such function, it does not take the arguments, or returns no ``nn.Module``.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function:
        raise InputError(f"{name!r} names no function; write FILE.py:FUNCTION")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path} does not exist; a model of your own is FILE.py:FUNCTION")
    print(f"Running {path}, whose function {function} builds the model", flush=True)
    build = getattr(_imported(path), function, None)
    if not callable(build):
        raise InputError(f"{path} has no function {function!r}")
    model = build(**_taken(build, name, arguments))
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _imported(path: Path) -> ModuleType:
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end, so that nothing there hides a module of another name
    spec = importlib.util.spec_from_file_location(f"own_model_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    spec.loader.exec_module(module)
    return module


def _taken(build, name: str, arguments: dict) -> dict:
    signature = inspect.signature(build)
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
