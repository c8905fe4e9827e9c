"""The first perturbed layer of a network: what is before it is constant, and its output affine in the coordinates."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from landscape.evaluation.methods.products import linear
from landscape.evaluation.methods.protocol import NotApplicable
from landscape.objective.forwards import has_own_forward, input_of, replaced_forwards
from landscape.objective.reads import Read, Reads, is_differentiated
from landscape.slices.planes import Slice

__all__ = ["FirstLayer", "Unsummed", "holders"]

LINEAR_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Reached(BaseException):
    """Ends a forward pass at the first perturbed layer; an ``except Exception`` in a network does not catch it."""


def holders(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    """The modules of ``model`` that hold a parameter of these ``names``; tied ones are held by several."""
    return list({id(module): module for module, _ in _owners(model, set(names)).values()}.values())


class Unsummed(NamedTuple):
    """base + factor * step, which a compiled pass computes within its first operation, without writing the sum."""

    base: Tensor
    step: Tensor
    factor: Tensor  # []

    @property
    def sum(self) -> Tensor:
        return torch.addcmul(*self)


class FirstLayer:
    """The layer whose output at coordinates c is z_0 + sum_i c_i z_i for every batch.

    Everything that runs before the layer does not depend on c. z_0 is the layer's output at the origin, z_i the
    output of its linear part with the weights of direction i. What one pass has shown is checked in all others: a
    pass that runs the modules in another way raises `NotApplicable`.
    """

    def __init__(
        self, layer: nn.Module, label: str, trace: "_Trace", corners: tuple[Tensor, Tensor | None], moved: set[str]
    ):
        self.layer: Any = layer  # one of `LINEAR_MAPS`
        self.label = label  # the name of its parameter, for messages
        self.moved = moved  # names of all perturbed parameters, of this layer and of later ones
        self.before = trace.finished_before[layer]
        self.later = trace.candidates - {layer}  # modules that hold further perturbed parameters
        self.corners = corners  # weights [1 + D, ...] and biases of the origin and of every direction
        self.output: Tensor | Unsummed | None = None
        self._at: tuple[Tensor, Tensor | None] = corners  # weights and biases at the points of `prepare`
        self._kept: dict[nn.Module, list[tuple[Tensor, int]]] = {}  # outputs of earlier modules, and their versions
        self._taken: Counter[nn.Module] = Counter()  # how many of them the present pass has taken

    @classmethod
    def find(cls, model: nn.Module, forward: Callable[[], Any], slice_: Slice) -> "FirstLayer":
        """Watch one forward pass, find the layer and `load` that pass.

        Raises:
            NotApplicable: nothing is perturbed, the first perturbed module is no plain linear or convolution layer or
                runs more than once, some perturbed parameter is used outside the module that holds it, or the loss
                differentiates through the layer.
        """
        names = set(slice_.moved)
        if not names:
            raise NotApplicable("nothing moves")
        owners = _owners(model, names)
        trace = _Trace(model, {module for module, _ in owners.values()}, names)
        trace.run(forward)
        for module, label in owners.values():
            if module not in trace.calls:
                raise NotApplicable(f"{label} is used without calling its module")
        layer = min((module for module, _ in owners.values()), key=lambda module: trace.calls[module][0])
        label = next(text for module, text in owners.values() if module is layer)
        _check_layer(layer, label, trace)
        keys = {id(p): name for name, p in model.named_parameters()}
        points = (slice_.origin, *slice_.directions)

        def corners(parameter: Any) -> Tensor:
            return torch.stack([point[keys[id(parameter)]].to(parameter) for point in points])

        both = corners(layer.weight), None if layer.bias is None else corners(layer.bias)
        first = cls(layer, label, trace, both, names)
        first.load(forward)
        if outside := trace.reads_elsewhere(layer, first.only_here(model)):
            raise NotApplicable(f"{outside.name} is read outside its layer, or before the first layer that moves")
        return first

    def only_here(self, model: nn.Module) -> set[str]:
        """Names of the parameters that no module but the layer holds (not tied)."""
        elsewhere = {
            id(p) for module in model.modules() if module is not self.layer for p in module._parameters.values()
        }
        own = {id(p) for p in self.layer._parameters.values() if p is not None} - elsewhere
        return {name for name, p in model.named_parameters() if id(p) in own}

    def prepare(self, coordinates: Tensor) -> None:
        """Compute the layer's parameters v_0 + sum_i c_i v_i at ``coordinates`` c [K, D], for `at`."""

        def at_points(values: Tensor) -> Tensor:
            moved: Tensor = torch.tensordot(coordinates.to(values), values[1:], dims=1)
            return values[0] + moved

        weights, biases = self.corners
        self._at = at_points(weights), None if biases is None else at_points(biases)

    def load(self, forward: Callable[[], Any]) -> None:
        """Record the input of the layer in the pass that ``forward`` runs, and the outputs of earlier layers.

        Raises:
            NotApplicable: this pass does not reach the layer, reaches another perturbed one first, or the loss
                differentiates through the layer.
        """
        self._kept.clear()
        reached: list[Tensor | None] = []

        def stop(*arguments: Any, **keywords: Any) -> NoReturn:
            reached.append(input_of(arguments, keywords))
            raise _Reached

        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise NotApplicable(f"on some batches another perturbed layer runs before that of {self.label}")

        def keeper(module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **keywords: Any) -> Any:
                output = original(*arguments, **keywords)
                if not isinstance(output, Tensor):
                    raise NotApplicable("what a module returns depends on the data")
                self._kept.setdefault(module, []).append((output, output._version))
                return output

            return run

        keepers = {module: keeper(module, module.forward) for module in self.before}
        guards = dict.fromkeys(self.later, refuse)
        with contextlib.suppress(_Reached), replaced_forwards({**guards, **keepers, self.layer: stop}):
            forward()
        if not reached or reached[0] is None:
            raise NotApplicable(f"the layer of {self.label} does not run on every batch with one tensor")
        if self.layer.weight.requires_grad or is_differentiated(reached[0]):
            raise NotApplicable(f"the loss differentiates through the layer of {self.label}")
        self._inputs = reached[0].to(self.layer.weight.dtype)  # lower precision may have come before

    def reads(self, inputs: Tensor) -> bool:
        """Whether the input that `load` recorded has the same memory as ``inputs``, in whatever shape."""
        return self._inputs.data_ptr() == inputs.data_ptr()

    def terms(self) -> list[Tensor]:
        """The outputs z_0, ..., z_D of the layer for the loaded batch."""
        weights, biases = self.corners
        if not isinstance(self.layer, nn.Linear):
            each = zip(weights, [None] * len(weights) if biases is None else biases, strict=True)
            return [self._apply(weight, bias) for weight, bias in each]
        # One product with all weights side by side reads the inputs only once.
        together = linear(self._inputs, weights.flatten(0, 1), None if biases is None else biases.flatten())
        return [part.contiguous() for part in together.split(self.layer.out_features, dim=-1)]

    def at(self, index: int) -> Tensor:
        """The output for the loaded batch at the prepared point ``index``."""
        weights, biases = self._at
        return self._apply(weights[index], None if biases is None else biases[index])

    def give(self, output: Tensor | Unsummed | None) -> None:
        """Set the output of the layer in the next pass."""
        self.output = output
        self._taken.clear()

    @property
    def shared(self) -> list[Tensor]:
        """What the next pass starts from: the output of the layer, and the recorded ones of earlier modules."""
        if self.output is None:
            raise NotApplicable(f"the layer of {self.label} runs more than once on some batches")
        parts = self.output if isinstance(self.output, Unsummed) else [self.output]
        return [*parts, *(output for module in self.before for output, _ in self._kept.get(module, ()))]

    @contextlib.contextmanager
    def replaying(self, shared: list[Tensor]) -> Iterator[None]:
        """A context in which passes start from the tensors ``shared``, in the order of the property of this name."""
        before, kept = self.output, self._kept
        values = iter(shared)
        try:
            self.give(Unsummed(*itertools.islice(values, 3)) if isinstance(before, Unsummed) else next(values))
            self._kept = {
                module: [(value, value._version) for value in itertools.islice(values, len(kept.get(module, ())))]
                for module in self.before
            }
            yield
        finally:
            self._kept = kept
            self.give(before)

    def take(self) -> None:
        """Use up the output that `give` set, as a call of the layer does, without computing it."""
        self.output = None

    def replacements(self) -> dict[nn.Module, Callable[..., Any]]:
        """Forward methods that return what `give` set for the layer, and what `load` recorded for earlier modules."""
        return {self.layer: self._take, **{module: self._replay(module, module.forward) for module in self.before}}

    def _take(self, *_: Any, **__: Any) -> Tensor:
        output, self.output = self.output, None
        if output is None:
            raise NotApplicable(f"the layer of {self.label} runs more than once on some batches")
        return output.sum if isinstance(output, Unsummed) else output

    def _replay(self, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        """A forward method that returns the recorded outputs of ``module``, one per call; later calls are computed."""

        def forward(*arguments: Any, **keywords: Any) -> Any:
            kept = self._kept.get(module, [])
            number = self._taken[module]
            if number >= len(kept):
                return original(*arguments, **keywords)
            self._taken[module] += 1
            output, version = kept[number]
            if output._version != version:
                raise NotApplicable("what all points share is overwritten")
            return output

        return forward

    def _apply(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return linear(self._inputs, weight, bias)
        output: Tensor = self.layer._conv_forward(self._inputs, weight, bias)
        return output


def _owners(model: nn.Module, names: set[str]) -> dict[tuple[str, int], tuple[nn.Module, str]]:
    """Every module that holds a perturbed parameter (tied ones have several), with the parameter's name."""
    names_by_id = {id(p): name for name, p in model.named_parameters() if name in names}
    return {
        (names_by_id[id(p)], id(module)): (module, names_by_id[id(p)])
        for module in model.modules()
        for p in module._parameters.values()
        if p is not None and id(p) in names_by_id
    }


class _Trace:
    """One forward pass: when each module was entered, which had finished before, which read perturbed parameters."""

    def __init__(self, model: nn.Module, candidates: set[nn.Module], moved: set[str]):
        self.model, self.candidates = model, candidates
        self.calls: dict[nn.Module, list[int]] = {}  # when each was entered, as a count of entries
        self.finished_before: dict[nn.Module, list[nn.Module]] = {}  # the outermost ones, for each candidate
        self.reads = Reads({n: p for n, p in model.named_parameters() if n in moved}, self._where)
        self._clock, self._inside, self._ended = 0, list[nn.Module](), dict[nn.Module, bool]()

    def run(self, forward: Callable[[], Any]) -> None:
        """Watch the pass that ``forward`` runs."""
        modules = list(self.model.modules())
        handles = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in modules]
        handles += [module.register_forward_hook(self._leave, with_kwargs=True) for module in modules]
        try:
            with self.reads:
                forward()
        finally:
            for handle in handles:
                handle.remove()
        once = {module for module, times in self.calls.items() if len(times) == 1}
        self.finished_before = {key: [m for m in ms if m in once] for key, ms in self.finished_before.items()}

    def reads_elsewhere(self, layer: nn.Module, own: set[str]) -> Read | None:
        """A read of a parameter of the layer's ``own`` by anything but the ``layer``, or of any before it ran."""
        began = self.calls[layer][0]
        return next(
            (read for read in self.reads.reads if read.time < began or (read.name in own and read.module is not layer)),
            None,
        )

    def _where(self) -> tuple[nn.Module | None, int]:
        return (self._inside[-1] if self._inside else None), self._clock

    def _enter(self, module: nn.Module, *_: Any) -> None:
        self._clock += 1
        self._inside.append(module)
        self.calls.setdefault(module, []).append(self._clock)
        if module in self.candidates and module not in self.finished_before:
            inner = {part for other in self._ended for part in other.modules() if part is not other}
            self.finished_before[module] = [other for other in self._ended if other not in inner]

    def _leave(self, module: nn.Module, *given_and_output: Any) -> None:
        self._inside.pop()
        if isinstance(given_and_output[-1], Tensor):
            self._ended[module] = True


def _check_layer(layer: nn.Module, label: str, trace: _Trace) -> None:
    if type(layer) not in LINEAR_MAPS or set(layer._parameters) != {"weight", "bias"}:
        raise NotApplicable(f"{label} belongs to {type(layer).__name__}, which is no linear map")
    if len(trace.calls[layer]) > 1:
        raise NotApplicable(f"the layer of {label} runs more than once")
    if layer._forward_hooks or layer._forward_pre_hooks or has_own_forward(layer):
        raise NotApplicable(f"the layer of {label} carries hooks, or a forward method of its own")
