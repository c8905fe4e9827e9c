"""Digests of functions: their code, constants, defaults and all values that they can reach."""

import enum
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.storage.provenance import fingerprint

__all__ = ["PLAIN", "digest_of", "names_read"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range, slice, torch.dtype, torch.device, Path)
BUILTIN = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)
SCRIPTED = (torch.jit.ScriptFunction, torch.jit.ScriptModule)
NOT_STATE = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
}
MOST = 100_000  # largest number of objects in a digest; nobody would wait for that of more
OWN = __name__.split(".")[0]
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class _Unknown(Exception):
    """Raised for objects whose content cannot be determined."""


def digest_of(thing: Any) -> str | None:
    """SHA-256 digest of everything that ``thing``, such as a callable loss, computes with; None if it is unknown.

    For functions the digest covers the code with its constants, the defaults, and the values of the closure and of the
    global names in use; for methods and partial functions also the object and the arguments; for networks and other
    objects the code of the class and the attributes. Tensors count by their content, objects of an installed library by
    their name.

    Example:
        >>> def scaled(factor):
        ...     return lambda model, batch: factor * model(batch).square()
        >>> digest_of(scaled(1)) == digest_of(scaled(1)), digest_of(scaled(1)) == digest_of(scaled(5))
        (True, False)
        >>> digest_of(number for number in [1, 2]) is None
        True
    """
    try:
        return _Digest().of(thing)
    except (_Unknown, RecursionError):
        return None


def names_read(thing: Any) -> set[str]:
    """All names of attributes and global variables that the code of a callable looks up.

    This includes the code of functions that it defines, and of those that it reaches by a global name or through its
    closure. For a mapping, these are the names that its values look up.

    Example:
        >>> sorted(names_read(lambda model, batch: model.decay * model(batch)))
        ['decay']
    """
    waiting, seen, collected = [thing], set[int](), set[str]()
    while waiting:
        function = waiting.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if isinstance(function, functools.partial | types.MethodType):
            waiting.append(function.func if isinstance(function, functools.partial) else function.__func__)
        elif isinstance(function, types.FunctionType):
            names = _names(function.__code__)
            collected |= names
            reached = [value for name, value in function.__globals__.items() if name in names]
            cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
            waiting += [value for value in (*reached, *cells) if isinstance(value, types.FunctionType)]
        elif isinstance(function, Mapping):
            waiting += function.values()
        elif callable(function) and not isinstance(function, type) and not _is_library(type(function)):
            waiting += [value for value in vars(type(function)).values() if isinstance(value, types.FunctionType)]
    return collected


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


class _Digest:
    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # id -> number of the objects visited so far, because an object may hold itself
        self.kept: list[Any] = []  # keeps these objects alive, so that their ids remain unique

    def of(self, thing: Any) -> str:
        """The digest of ``thing``."""
        if isinstance(thing, PLAIN) and not isinstance(thing, enum.Enum):
            return _hashed(type(thing).__qualname__, repr(thing))
        if id(thing) in self.seen:
            return _hashed("seen before", str(self.seen[id(thing)]))
        if len(self.seen) == MOST:
            raise _Unknown
        self.seen[id(thing)] = len(self.seen)
        self.kept.append(thing)
        return _hashed(type(thing).__qualname__, *self._parts(thing))

    def _parts(self, thing: Any) -> list[str]:
        if isinstance(thing, SCRIPTED):
            raise _Unknown
        if isinstance(thing, Tensor):
            return [fingerprint([thing]), str(thing.requires_grad)]
        if isinstance(thing, np.ndarray | np.generic):
            if thing.dtype.hasobject:
                raise _Unknown
            return [str(thing.dtype), str(thing.shape), hashlib.sha256(thing.tobytes()).hexdigest()]
        if isinstance(thing, dict):
            return [self.of(part) for item in thing.items() for part in item]
        if isinstance(thing, set | frozenset):
            return sorted(_Digest().of(part) for part in thing)
        if isinstance(thing, list | tuple):
            return [self.of(part) for part in thing]
        if isinstance(thing, functools.partial):
            return [self.of(part) for part in (thing.func, thing.args, thing.keywords)]
        if isinstance(thing, types.MethodType):
            return [self.of(thing.__func__), self.of(thing.__self__)]
        if isinstance(thing, types.FunctionType | type) and _is_library(thing) and "<locals>" not in thing.__qualname__:
            return [thing.__module__, thing.__qualname__]
        if isinstance(thing, types.FunctionType):
            return self._function_parts(thing)
        if isinstance(thing, types.CodeType):
            return self._code_parts(thing)
        if isinstance(thing, BUILTIN):
            owner = getattr(thing, "__self__", None)
            bound = [] if owner is None or isinstance(owner, types.ModuleType) else [self.of(owner)]
            return [getattr(thing, "__qualname__", thing.__name__), *bound]
        if isinstance(thing, types.ModuleType):
            return [thing.__name__]
        return self._object_parts(thing)

    def _function_parts(self, function: types.FunctionType) -> list[str]:
        code, used = function.__code__, _names(function.__code__)
        try:
            cells = [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError as error:  # a cell that is still empty
            raise _Unknown from error
        reached = {name: function.__globals__[name] for name in sorted(used) if name in function.__globals__}
        waiting = [*reached.values()]
        while waiting:  # look up these names also in the caller's own modules, and in modules inside those
            module = waiting.pop()
            if isinstance(module, types.ModuleType) and not _is_library(module):
                named = {f"{module.__name__}.{name}": vars(module)[name] for name in sorted(used & vars(module).keys())}
                waiting += [value for name, value in named.items() if name not in reached]
                reached |= named
        known = (function.__defaults__, function.__kwdefaults__, cells, reached, vars(function))
        return [self.of(code), *map(self.of, known)]

    def _code_parts(self, code: types.CodeType) -> list[str]:
        names = (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)
        return [
            code.co_code.hex(),
            *map(self.of, code.co_consts),
            *names,
            getattr(code, "co_exceptiontable", b"").hex(),
        ]

    def _object_parts(self, thing: Any) -> list[str]:
        """Class and state of any other object, as pickle would store it; of a class, its bases and attributes."""
        if isinstance(thing, property):
            return [self.of(part) for part in (thing.fget, thing.fset)]
        if isinstance(thing, staticmethod | classmethod):
            return [self.of(thing.__func__)]
        if isinstance(thing, type):
            attributes = {name: value for name, value in vars(thing).items() if name not in NOT_STATE}
            return [*map(self.of, thing.__bases__), self.of(attributes)]
        if isinstance(thing, nn.Module):  # some layers cannot be pickled
            state = {name: value for name, value in vars(thing).items() if name != "_flat_weight_refs"}
            return [self.of(type(thing)), self.of(state)]
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception as error:
            raise _Unknown from error
        if isinstance(reduced, str):
            return [reduced]
        make, arguments, *others = reduced
        state, *pieces = [*others, None, None, None][:3]
        contents = [None if piece is None else list(piece) for piece in pieces]
        return [self.of(type(thing)), *map(self.of, (make, arguments, state, contents))]


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _names(code: types.CodeType) -> set[str]:
    """All names that ``code`` and the functions inside it look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_library(thing: Any) -> bool:
    """Whether ``thing`` belongs to Python, this package or an installed one; their versions are recorded elsewhere."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    root = (name or "").split(".")[0]
    if root == "__main__" or root not in sys.modules:
        return False
    if root == OWN:
        return True
    file = getattr(sys.modules[root], "__file__", None)
    return root in sys.builtin_module_names or (file is not None and file.startswith(LIBRARIES))
