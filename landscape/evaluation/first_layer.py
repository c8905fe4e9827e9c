"""The first perturbed layer of a network: what comes before it is constant, its output affine."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from landscape.evaluation.products import linear
from landscape.parameters import Point

__all__ = ["FirstLayer", "NotApplicable", "perturbed_names", "replaced_forwards"]

LINEAR_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class NotApplicable(Exception):
    """An evaluation method does not fit this network and slice; the message says why."""


class _Reached(Exception):
    """The forward pass has come to the first perturbed layer."""


def perturbed_names(directions: tuple[Point, ...]) -> list[str]:
    """Names of the parameters that some direction moves."""
    return [name for name in directions[0] if any(bool(direction[name].any()) for direction in directions)]


class FirstLayer:
    """The layer whose output at coordinates c is z_0 + sum_i c_i z_i for every batch.

    Everything that runs before the layer does not depend on c. z_0 is the layer's output at the origin, z_i the
    output of its linear part with the weights of direction i.
    """

    def __init__(
        self,
        layer: nn.Module,
        before: list[nn.Module],
        corners: list[Tensor | None],
        moved: set[str],
    ):
        self.layer = layer
        self.moved = moved  # names of all perturbed parameters, of this layer and of later ones
        self.before = before
        self.corners = corners  # weights [1 + D, ...] and biases of the origin and of every direction
        self.output: Tensor | None = None
        self._at: list[Tensor | None] = []  # weights and biases at the points of `prepare`
        self._kept: dict[nn.Module, Any] = {}

    @classmethod
    def find(cls, model: nn.Module, forward: Callable[[], Any], origin: Point, directions: tuple[Point, ...]):
        """Watch one forward pass, find the layer and `load` that pass.

        Raises:
            NotApplicable: nothing is perturbed, the first perturbed module is no plain linear or convolution layer or
                runs more than once, or some perturbed parameter is used outside the module that holds it.
        """
        names = set(perturbed_names(directions))
        if not names:
            raise NotApplicable("nothing moves")
        owners = _owners(model, names)
        calls, finished_before = _watch(model, forward, {module for module, _ in owners.values()})
        for module, label in owners.values():
            if module not in calls:
                raise NotApplicable(f"{label} is used without calling its module")
        layer = min((module for module, _ in owners.values()), key=lambda module: calls[module][0])
        label = next(text for module, text in owners.values() if module is layer)
        if type(layer) not in LINEAR_MAPS or set(layer._parameters) != {"weight", "bias"}:
            raise NotApplicable(f"{label} belongs to {type(layer).__name__}, which is no linear map")
        if len(calls[layer]) > 1:
            raise NotApplicable(f"the layer of {label} runs more than once")
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise NotApplicable(f"the layer of {label} carries hooks")
        keys = {id(p): name for name, p in model.named_parameters()}
        points = (origin, *directions)
        corners = [
            None if p is None else torch.stack([point[keys[id(p)]].to(p) for point in points])
            for p in (layer.weight, layer.bias)
        ]
        first = cls(layer, finished_before[layer], corners, names)
        first.load(forward)
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
        self._at = [
            None if values is None else values[0] + torch.tensordot(coordinates.to(values), values[1:], dims=1)
            for values in self.corners
        ]

    def load(self, forward: Callable[[], Any]) -> None:
        """Take what the layer is given in the pass that ``forward`` runs; what comes before is kept, too."""
        self._kept.clear()
        reached: list[Tensor] = []

        def stop(inputs: Tensor) -> Tensor:
            reached.append(inputs)
            raise _Reached

        def keeper(module: nn.Module, original: Callable) -> Callable:
            def run(*arguments: Any, **keywords: Any) -> Any:
                self._kept[module] = original(*arguments, **keywords)
                return self._kept[module]

            return run

        keepers = {module: keeper(module, module.forward) for module in self.before}
        with contextlib.suppress(_Reached), replaced_forwards({self.layer: stop, **keepers}):
            forward()
        self._inputs = reached[0].to(self.layer.weight.dtype)  # lower precision may have come before

    def reads(self, inputs: Tensor) -> bool:
        """Whether what the layer was given in `load` is ``inputs`` itself, in whatever shape."""
        return self._inputs.data_ptr() == inputs.data_ptr()

    def terms(self) -> list[Tensor]:
        """z_0, z_1, ... of the loaded batch."""
        weights, biases = self.corners
        if not isinstance(self.layer, nn.Linear):
            each = zip(weights, [None] * len(weights) if biases is None else biases, strict=True)
            return [self._apply(weight, bias) for weight, bias in each]
        # Side by side: one pass over the inputs.
        together = linear(self._inputs, weights.flatten(0, 1), None if biases is None else biases.flatten())
        return [part.contiguous() for part in together.split(self.layer.out_features, dim=-1)]

    def at(self, index: int) -> Tensor:
        """The output for the loaded batch at the prepared point ``index``."""
        return self._apply(*(None if values is None else values[index] for values in self._at))

    def replacements(self) -> dict[nn.Module, Callable]:
        """Forwards with which the layer gives ``self.output`` and what precedes it gives what it gave in `load`."""
        kept = {module: lambda *_, m=module, **__: self._kept[m] for module in self.before}
        return {self.layer: lambda _: self.output, **kept}

    def _apply(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return linear(self._inputs, weight, bias)
        return self.layer._conv_forward(self._inputs, weight, bias)


def _owners(model: nn.Module, names: set[str]) -> dict[tuple[str, int], tuple[nn.Module, str]]:
    """Every module that holds a perturbed parameter (tied ones have several), with the parameter's name."""
    wanted = {id(p): name for name, p in model.named_parameters() if name in names}
    return {
        (wanted[id(p)], id(module)): (module, wanted[id(p)])
        for module in model.modules()
        for p in module._parameters.values()
        if p is not None and id(p) in wanted
    }


def _watch(
    model: nn.Module, forward: Callable[[], Any], candidates: set[nn.Module]
) -> tuple[dict[nn.Module, list[int]], dict[nn.Module, list[nn.Module]]]:
    """Times at which each module was entered, and the outermost modules that had ended before each candidate."""
    clock, calls, ended = 0, {}, {}
    finished_before: dict[nn.Module, list[nn.Module]] = {}

    def enter(module: nn.Module, _: Any) -> None:
        nonlocal clock
        clock += 1
        calls.setdefault(module, []).append(clock)
        if module in candidates and module not in finished_before:
            inner = {part for other in ended for part in other.modules() if part is not other}
            finished_before[module] = [other for other in ended if other not in inner]

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            ended[module] = True

    handles = [module.register_forward_pre_hook(enter) for module in model.modules()]
    handles += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    once = {module for module, times in calls.items() if len(times) == 1}
    return calls, {module: [m for m in before if m in once] for module, before in finished_before.items()}


@contextlib.contextmanager
def replaced_forwards(replacements: dict[nn.Module, Callable]) -> Iterator[None]:
    """Replace the forward methods of modules, and put them back."""
    own = {module: module.__dict__["forward"] for module in replacements if "forward" in module.__dict__}
    try:
        for module, function in replacements.items():
            module.forward = function
        yield
    finally:
        for module in replacements:
            del module.forward
        for module, function in own.items():
            module.forward = function
