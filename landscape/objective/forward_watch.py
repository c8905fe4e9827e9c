"""Watching what a forward pass does with the memory of parameters: which it reads, from where, and which it changes."""

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

__all__ = ["Findings", "find_out", "find_out_in_place", "parameters_touched"]

FAR_AWAY = 3.0  # factor on the weights, so large that a forward pass which limits their size then does so


@dataclass
class Findings:
    """What a few passes of a private copy of a network do with its parameters."""

    touched: set[str] | None = None  # parameters that operations read; None if the passes could not be watched
    elsewhere: set[str] = field(default_factory=set)  # parameters read from memory that does not change when they move
    written: set[str] = field(default_factory=set)  # parameters that the pass itself changes
    draws: bool = False  # whether the pass draws from torch's global random generators
    constants: bool = False  # whether the pass creates tensors of the default dtype
    lowered: str | None = None  # line of code at which the precision of the inputs is lowered


def find_out(model: nn.Module, original: nn.Module, run: Callable[[], Any], dtype: torch.dtype) -> Findings:
    """Watch passes ``run`` of ``model``, a private copy of ``original``, whose weights are restored afterwards.

    There are three passes: one with the weights as they are; one with the same weights in other memory, which shows
    whether the pass uses tensors that still lie in the first memory or were computed from it; and one with much larger
    weights, which shows whether the pass limits their size.
    """
    findings, own = Findings(), dict(model.named_parameters())
    watch = _Watch(own, [*named_parameters(original), *_computed(original, model)], dtype, findings)
    factories = _Factories(findings)
    try:
        with watch, factories:
            run()
    except Exception:
        return findings
    _note_replaced(model, own, findings)
    findings.written |= {name for name, value in named_parameters(original) if _differs(own.get(name), value)}
    before = {name: parameter.data for name, parameter in model.named_parameters()}
    first = watch.touched
    try:
        _place(model, {name: value.clone() for name, value in before.items()})
        again = _Watch(dict(model.named_parameters()), [*watch.others, *before.items()], dtype, findings)
        with contextlib.suppress(Exception), again:
            run()
            findings.touched = first | again.touched
            findings.elsewhere |= watch.elsewhere | again.elsewhere | (watch.read - again.touched)
        _watch_far_away(model, run, dtype, findings)
    finally:
        _place(model, before)
    return findings


def find_out_in_place(model: nn.Module, run: Callable[[], Any], dtype: torch.dtype) -> tuple[Findings, int]:
    """Watch a pass ``run`` of ``model`` itself, which is not moved.

    Returns the findings and the bytes of the largest tensor that the pass creates.
    """
    findings = Findings()
    watch, sizes = _Watch(dict(model.named_parameters()), [], dtype, findings), _Sizes()
    with contextlib.suppress(Exception), sizes, watch, _Factories(findings):  # reported later
        run()
        findings.touched = watch.touched
    return findings, sizes.largest


class _Sizes(WatchingMode):
    """Notes the bytes of the largest tensor that a pass creates."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() * leaf.element_size() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return outputs


def parameters_touched(model: nn.Module, run: Callable[[], Any], dtype: torch.dtype) -> set[str]:
    """Names of the parameters that operations of the pass ``run`` read."""
    watch = _Watch(dict(model.named_parameters()), [], dtype, Findings())
    with watch:
        run()
    return watch.touched


class _Watch(WatchingMode):
    """Notes which memory the operations of one pass read and write, also through views."""

    def __init__(
        self, own: Mapping[str, Tensor], others: Iterable[tuple[str, Tensor]], dtype: torch.dtype, findings: Findings
    ):
        super().__init__()
        self.own, self.others, self.dtype, self.findings = own, list(others), dtype, findings
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
                    self.findings.written |= _names_at(tensor, self._own)
        self.findings.draws |= torch.Tag.nondeterministic_seeded in function.tags
        outputs = function(*args, **kwargs)
        kind = function._schema.name.partition("::")[2]
        constant = kind.startswith("new_") or kind.endswith("_like")  # uses the dtype of a tensor, not its values
        if self.findings.lowered is None and not constant and any(tensor.dtype == self.dtype for tensor in tensors):
            lower = any(_is_lower(leaf, self.dtype) for leaf in tree_leaves(outputs))
            self.findings.lowered = _line_of_code() if lower else None
        return outputs


class _Factories(TorchFunctionMode):
    """Notes whether tensors of the default dtype are created."""

    def __init__(self, findings: Findings):
        super().__init__()
        self.findings, self.constructors = findings, _device_constructors()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in self.constructors and kwargs.get("dtype") is None:
            self.findings.constants |= isinstance(result, Tensor) and result.dtype == torch.get_default_dtype()
        return result


def _watch_far_away(model: nn.Module, run: Callable[[], Any], dtype: torch.dtype, findings: Findings) -> None:
    """Note parameters that a pass changes only if they are large, because it limits their size."""
    own = dict(model.named_parameters())
    for parameter in own.values():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.data = parameter.data * FAR_AWAY
    with contextlib.suppress(Exception), _Watch(own, [], dtype, findings):
        run()
        _note_replaced(model, own, findings)


def _note_replaced(model: nn.Module, own: Mapping[str, Tensor], findings: Findings) -> None:
    """Note the parameters that the pass has replaced by other objects or moved to other memory."""
    ranges = _ranges(own.items())
    for name, parameter in model.named_parameters():
        if name not in own or own[name] is not parameter or name not in _names_at(parameter, ranges):
            findings.written.add(name)


def _differs(own: Tensor | None, value: Tensor) -> bool:
    """Whether the values of ``own``, which was a copy of ``value`` in some dtype, have changed."""
    if own is None:
        return True
    expected = value.detach().to(own.device, own.dtype)
    return not torch.equal(own.detach().nan_to_num(), expected.nan_to_num())


def _place(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in values:
            parameter.data = values[name]


def _computed(original: nn.Module, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield (name of a parameter, tensor of the copy ``model`` that was computed from it and does not follow it)."""
    names = {id(parameter): name for name, parameter in named_parameters(original)}
    ranges = _ranges(named_parameters(original))
    for module, copied in zip(_modules(original), model.modules(), strict=False):
        values, copies = _held(module), _held(copied)
        for value, own in zip(values, copies, strict=True) if len(values) == len(copies) else ():
            computed = {names[id(leaf)] for leaf in _leaves_of(value) if id(leaf) in names}
            for name in computed | _names_at(value, ranges):
                yield name, own


def _held(module: nn.Module) -> list[Tensor]:
    """The tensors of ``module`` that are not parameters, including those in lists and mappings."""
    own = {key: value for key, value in vars(module).items() if key != "_parameters"}
    return [leaf for leaf in tree_leaves(own) if isinstance(leaf, Tensor) and not isinstance(leaf, nn.Parameter)]


def _modules(original: nn.Module) -> list[nn.Module]:
    """The modules of ``original`` that its copy has as well: all but wrappers."""
    return [module for module in unwrapped(original).modules() if wrapped_by(module) is None]


def _leaves_of(tensor: Tensor) -> Iterator[Tensor]:
    """The leaves of the graph from which ``tensor`` was computed."""
    waiting, visited = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [parent for parent, _ in node.next_functions]


Ranges = dict[int, list[tuple[int, int, str]]]  # storage -> (first byte, end, name) of every tensor in it


def _ranges(tensors: Iterable[tuple[str, Tensor]]) -> Ranges:
    ranges: Ranges = {}
    for name, tensor in tensors:
        if (memory := _memory_of(tensor)) is not None:
            ranges.setdefault(memory[0], []).append((memory[1], memory[2], name))
    return ranges


def _names_at(tensor: Any, ranges: Ranges) -> set[str]:
    memory = _memory_of(tensor) if isinstance(tensor, Tensor) else None
    if memory is None or memory[0] not in ranges:
        return set()
    return {name for low, high, name in ranges[memory[0]] if memory[1] < high and low < memory[2]}


def _memory_of(tensor: Tensor) -> tuple[int, int, int] | None:
    """(storage, first byte, end) of ``tensor``; None if it has no memory of its own."""
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


def _line_of_code() -> str:
    """The innermost running line of code outside of torch and of this folder, with the class of the layer it is in."""
    frame = sys._getframe(1)
    own = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    module = frame.f_locals.get("self")
    kind = f"{type(module).__name__}, " if isinstance(module, nn.Module) else ""
    return f"{kind}{Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
