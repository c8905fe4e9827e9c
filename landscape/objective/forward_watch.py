"""What a forward pass does with the memory of parameters: which it reads, from where, and into which it writes."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._pytree import tree_leaves

from landscape.points import named_parameters, unwrapped, wrapped_by
from landscape.runtime.watching import WatchingMode

__all__ = ["Findings", "find_out", "parameters_touched"]

TWO_AND_MORE = 3.0  # times its weights: where a limit on weights that holds at the network itself is exceeded


@dataclass
class Findings:
    """What was seen in a few passes of a network of our own."""

    touched: set[str] | None = None  # parameters that some operation took; None where the passes could not be watched
    elsewhere: set[str] = field(default_factory=set)  # parameters whose values are read from where no move shows
    written: set[str] = field(default_factory=set)  # parameters that the pass itself changes
    draws: bool = False  # whether the pass draws from the global random generators of torch
    constants: bool = False  # whether it makes tensors of the default dtype
    lowered: str | None = None  # where it goes on in a lower precision than it was given


def find_out(model: nn.Module, given: nn.Module, run: Callable[[], Any], dtype: torch.dtype) -> Findings:
    """Watch passes ``run`` of ``model``, a private copy of ``given``, which is left as it was.

    Three passes: at the weights as they are; with the same weights in other memory, which what was computed or kept
    from the first memory does not follow; and far away, where limits on the weights are exceeded.
    """
    found, own = Findings(), dict(model.named_parameters())
    watch = _Watch(own, [*named_parameters(given), *_computed(given, model)], dtype, found)
    factories = _Factories(found)
    try:
        with watch, factories:
            run()
    except Exception:
        return found
    _note_replaced(model, own, found)
    found.written |= {name for name, value in named_parameters(given) if _differs(own.get(name), value)}
    before = {name: parameter.data for name, parameter in model.named_parameters()}
    first = watch.touched
    try:
        _place(model, {name: value.clone() for name, value in before.items()})
        again = _Watch(dict(model.named_parameters()), [*watch.others, *before.items()], dtype, found)
        with contextlib.suppress(Exception), again:
            run()
            found.touched = first | again.touched
            found.elsewhere |= watch.elsewhere | again.elsewhere | (watch.read - again.touched)
        _watch_far_away(model, run, dtype, found)
    finally:
        _place(model, before)
    return found


def parameters_touched(model: nn.Module, run: Callable[[], Any], dtype: torch.dtype) -> set[str]:
    """Names of the parameters that operations of the pass ``run`` take."""
    watch = _Watch(dict(model.named_parameters()), [], dtype, Findings())
    with watch:
        run()
    return watch.touched


class _Watch(WatchingMode):
    """Notes what the operations of one pass read and write, through whatever views."""

    def __init__(
        self, own: Mapping[str, Tensor], others: Iterable[tuple[str, Tensor]], dtype: torch.dtype, found: Findings
    ):
        super().__init__()
        self.own, self.others, self.dtype, self.found = own, list(others), dtype, found
        self._own, self._others = _ranges(own.items()), _ranges(self.others)
        self.touched, self.read, self.elsewhere = set[str](), set[str](), set[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, schema = kwargs or {}, function._schema
        is_view = any(value.alias_info is not None and not value.alias_info.is_write for value in schema.returns)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            names = _names_at(tensor, self._own)
            self.touched |= names
            if not is_view:
                self.read |= names
                self.elsewhere |= _names_at(tensor, self._others)
        for argument, value in zip(schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    self.found.written |= _names_at(tensor, self._own)
        self.found.draws |= torch.Tag.nondeterministic_seeded in function.tags
        outputs = function(*args, **kwargs)
        kind = function._schema.name.partition("::")[2]
        made = kind.startswith("new_") or kind.endswith("_like")  # constants, whatever is in the tensor they are like
        if self.found.lowered is None and not made and any(tensor.dtype == self.dtype for tensor in tensors):
            lower = any(_is_lower(leaf, self.dtype) for leaf in tree_leaves(outputs))
            self.found.lowered = _place_in_code() if lower else None
        return outputs


class _Factories(TorchFunctionMode):
    """Notes whether tensors of the default dtype are made."""

    def __init__(self, found: Findings):
        super().__init__()
        self.found, self.made_by = found, _device_constructors()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        if function in self.made_by and kwargs.get("dtype") is None:
            self.found.constants |= isinstance(made, Tensor) and made.dtype == torch.get_default_dtype()
        return made


def _watch_far_away(model: nn.Module, run: Callable[[], Any], dtype: torch.dtype, found: Findings) -> None:
    """Find limits on the weights that only a pass with larger weights enforces."""
    own = dict(model.named_parameters())
    for parameter in own.values():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.data = parameter.data * TWO_AND_MORE
    with contextlib.suppress(Exception), _Watch(own, [], dtype, found):
        run()
        _note_replaced(model, own, found)


def _note_replaced(model: nn.Module, own: Mapping[str, Tensor], found: Findings) -> None:
    """Note the parameters that are other objects, or in other memory, than the pass was given."""
    ranges = _ranges(own.items())
    for name, parameter in model.named_parameters():
        if name not in own or own[name] is not parameter or name not in _names_at(parameter, ranges):
            found.written.add(name)


def _differs(own: Tensor | None, value: Tensor) -> bool:
    """Whether the values of ``own``, a copy of ``value`` in whatever dtype, are others now."""
    if own is None:
        return True
    expected = value.detach().to(own.device, own.dtype)
    return not torch.equal(own.detach().nan_to_num(), expected.nan_to_num())


def _place(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name]


def _computed(given: nn.Module, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """(name of a parameter, tensor of the copy ``model`` that was once taken from it and does not follow it)."""
    names = {id(parameter): name for name, parameter in named_parameters(given)}
    ranges = _ranges(named_parameters(given))
    for module, copied in zip(_modules(given), model.modules(), strict=False):
        held, kept = _held(module), _held(copied)
        for value, own in zip(held, kept, strict=True) if len(held) == len(kept) else ():
            computed = {names[id(leaf)] for leaf in _leaves_of(value) if id(leaf) in names}
            for name in computed | _names_at(value, ranges):
                yield name, own


def _held(module: nn.Module) -> list[Tensor]:
    """The tensors of ``module`` that are no parameters, those inside lists and mappings, too."""
    own = {key: value for key, value in vars(module).items() if key != "_parameters"}
    return [leaf for leaf in tree_leaves(own) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)]


def _modules(given: nn.Module) -> list[nn.Module]:
    """The modules of ``given`` as its copy has them, without wrappers."""
    return [module for module in unwrapped(given).modules() if wrapped_by(module) is None]


def _leaves_of(tensor: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph that ``tensor`` was computed by."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


Ranges = dict[int, list[tuple[int, int, str]]]  # storage -> (first byte, end, name) of every tensor in it


def _ranges(tensors: Iterable[tuple[str, Tensor]]) -> Ranges:
    found: Ranges = {}
    for name, tensor in tensors:
        if (place := _place_of(tensor)) is not None:
            found.setdefault(place[0], []).append((place[1], place[2], name))
    return found


def _names_at(tensor: Any, ranges: Ranges) -> set[str]:
    place = _place_of(tensor) if isinstance(tensor, Tensor) else None
    if place is None or place[0] not in ranges:
        return set()
    return {name for low, high, name in ranges[place[0]] if place[1] < high and low < place[2]}


def _place_of(tensor: Tensor) -> tuple[int, int, int] | None:
    """(storage, first byte, end) of ``tensor``; None where it has no memory that could be told."""
    try:
        start, storage = tensor.data_ptr(), tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None
    if not tensor.numel() or not storage:
        return None
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return storage, start, start + extent * tensor.element_size()


def _is_lower(value: Any, dtype: torch.dtype) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return torch.finfo(value.dtype).eps > torch.finfo(dtype).eps


def _place_in_code() -> str:
    """The module and line outside of torch and this package that runs now."""
    frame = sys._getframe(1)
    own = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    module = frame.f_locals.get("self")
    kind = f"{type(module).__name__}, " if isinstance(module, nn.Module) else ""
    return f"{kind}{Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
