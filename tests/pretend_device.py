"""An accelerator that exists in tests only, so that mistakes that only a GPU would show are seen without one.

Tensors on the device "pretend" hold memory of the CPU, and every operation on them runs there. As on a GPU, operations
refuse a mixture of them with tensors of the CPU (those of no dimension aside), generators belong to a device, a tensor
has to be moved before numpy sees it, and whatever needs a value on the host waits for the device; `counted` tells how
often. torch knows one further device at most, and knows it for good once `register` has been called, but nothing uses
it unasked.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["DEVICE", "MODULE", "PretendTensor", "Transfers", "counted", "missing", "register"]

NAME = "pretend"
DEVICE = torch.device("privateuseone:0")  # as torch calls it until it is registered
COPIES = ("aten::_to_copy", "aten::copy_")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")  # indices may be elsewhere
JOINING = ("aten::cat", "aten::stack")  # which take no numbers of the CPU, as pointwise operations do
WAITING = (  # for a value, or for the size of their result
    "aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::_unique2",
    "aten::unique_dim", "aten::unique_consecutive", "aten::bincount", "aten::repeat_interleave",
)  # fmt: skip
PRODUCTS = ("linear", "conv1d", "conv2d", "conv3d", "matmul", "mm", "bmm", "addmm", "baddbmm")  # in autocast


def missing() -> str | None:
    """Why the device cannot be had here; None if it can."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        return f"torch {torch.__version__} has no devices written in Python, which came with 2.9"
    if torch.cuda.is_available():
        return "there is a CUDA device, whose place as the accelerator of torch it would take"
    return None


@dataclass
class Transfers:
    """Copies between host and device, and further operations that make the host wait."""

    to_host: list[str] = field(default_factory=list)  # name of the operation
    to_device: list[int] = field(default_factory=list)  # number of values


_TRANSFERS: list[Transfers] = []  # of the `counted` blocks


@contextlib.contextmanager
def counted() -> Iterator[Transfers]:
    """Count the transfers of the block, in all threads."""
    transfers = Transfers()
    _TRANSFERS.append(transfers)
    try:
        yield transfers
    finally:
        _TRANSFERS.remove(transfers)


class PretendTensor(Tensor):
    """A tensor on the device, whose values are those of ``inner`` on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "PretendTensor":
        tensor: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Make `nn.Module.to` move a parameter in place, so that tied parameters stay tied."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], context: None, size: Any, stride: Any) -> "PretendTensor":
        return PretendTensor(parts["inner"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo or not self.is_leaf:
            return super().__deepcopy__(memo)
        twin = PretendTensor(self.inner.clone()).requires_grad_(self.requires_grad)
        vars(twin).update({key: value for key, value in vars(self).items() if key != "inner"})  # that of a parameter
        memo[id(self)] = twin
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Files hold the values as those of the CPU."""
        return self.cpu().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"PretendTensor({self.inner})"

    @property
    def data(self) -> Tensor:
        return PretendTensor(self.inner)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendTensor):
            raise RuntimeError(f"tensors on {self.device} cannot take the data of one on {value.device}")
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner

    def tolist(self) -> Any:
        _note_wait("tolist")
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert a tensor on {self.device} to numpy; use Tensor.cpu()")

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, with its results on the device where they would be on a GPU."""
    name: str = func._schema.name
    if name == "aten::is_pinned":
        return False
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    here = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    target = None if (device := kwargs.get("device")) is None else torch.device(device).type
    if here and name not in COPIES:
        _check_one_device(name, tensors, args)
    _note(name, args, target, here)
    plain = {**kwargs, **({"device": torch.device("cpu")} if target else {})}
    if plain.get("pin_memory"):
        plain["pin_memory"] = False
    if any(argument.name == "generator" for argument in func._schema.arguments) and (here or target == NAME):
        plain["generator"] = _generator(plain.get("generator"))
    results = func(*tree_map(_inner, args), **tree_map(_inner, plain))
    if name == "aten::copy_":
        return args[0]
    if not (target == NAME or (target is None and here)):
        return results
    own = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, PretendTensor)}
    return tree_map(lambda result: _outer(result, own), results)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendTensor) else value


def _outer(value: Any, own: dict[int, PretendTensor]) -> Any:
    """``value`` on the device: one of the arguments itself where it was changed in place, to a new shape perhaps."""
    if not isinstance(value, Tensor):
        return value
    if (argument := own.get(id(value))) is None:
        return PretendTensor(value)
    if argument.shape != value.shape or argument.stride() != value.stride():
        argument.data = PretendTensor(value)
    return argument


def _check_one_device(name: str, tensors: list[Tensor], args: tuple[Any, ...]) -> None:
    """Raise RuntimeError if an operation mixes the devices as no operation of a GPU may."""
    if name in INDEXING and isinstance(args[0], PretendTensor):
        tensors = [value for value in args[2:] if isinstance(value, Tensor)]
    foreign = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if any(tensor.ndim or name in JOINING for tensor in foreign):
        raise RuntimeError(f"{name}: expected all tensors on {DEVICE}, but some are on the CPU")


def _note(name: str, args: tuple[Any, ...], target: str | None, here: bool) -> None:
    """Take note of what an operation moves, or waits for."""
    if name in COPIES:
        source, goes = (args[0], target) if name == "aten::_to_copy" else (args[1], args[0].device.type)
        if isinstance(source, PretendTensor) and goes == "cpu":
            _note_wait(name)
        elif not isinstance(source, PretendTensor) and goes == NAME:
            for transfers in _TRANSFERS:
                transfers.to_device.append(source.numel())
    elif here and (name in WAITING or (name in INDEXING and any(_is_mask(index) for index in args[1]))):
        _note_wait(name)


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool


def _note_wait(name: str) -> None:
    for transfers in _TRANSFERS:
        transfers.to_host.append(name)


_GENERATOR = torch.Generator()  # that of the device


def _generator(requested: torch.Generator | None) -> torch.Generator:
    if requested is not None:
        raise RuntimeError(f"expected a generator of {DEVICE}, not one of {requested.device}")
    return _GENERATOR


class _Module:
    """What torch asks the module of a device for."""

    in_use = False  # by the present test: `torch.nn.DataParallel`, for one, takes whatever device is available

    def is_available(self) -> bool:
        return self.in_use

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def synchronize(self, device: Any = None) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        _GENERATOR.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> Tensor:
        return _GENERATOR.get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        _GENERATOR.set_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_LIBRARIES: list[torch.library.Library] = []  # whose operations end with them


MODULE = _Module()


@functools.cache
def register() -> torch.device:
    """Make the device known to torch, for the rest of the process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=MODULE)
    _LIBRARIES.append(library := torch.library.Library("_", "IMPL"))
    library.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _LIBRARIES.append(library := torch.library.Library("aten", "IMPL"))
    for name in PRODUCTS:
        library.impl(name, _in_low_precision(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")
    return DEVICE


def _in_low_precision(operation: Any) -> Callable[..., Any]:
    """``operation`` with its float32 tensors in the precision of autocast."""

    def lower(value: Any) -> Any:
        convert = isinstance(value, Tensor) and value.dtype == torch.float32 and value.device.type == NAME
        return value.to(torch.get_autocast_dtype(NAME)) if convert else value

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(NAME, enabled=False):
            return operation(*tree_map(lower, args), **tree_map(lower, kwargs))

    return run
