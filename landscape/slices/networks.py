"""The buffers of the networks of a slice, and their interpolation between these networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import batch_norm_layers
from landscape.objective.spectral_norm import spectral_layers
from landscape.points import Point, as_float64, check_match, unwrapped

__all__ = ["Networks", "buffers_of", "persistent_buffers", "set_buffers", "statistics_names", "varying_names"]

UNIT = 1e-3  # largest difference of the length of a unit vector from one
CONVERGED = 0.1  # largest relative error of an estimated spectral norm that can be interpolated


def buffers_of(model: nn.Module) -> Point:
    """Copies of all buffers of ``model``, detached; shared ones once."""
    return {name: buffer.detach().clone() for name, buffer in unwrapped(model).named_buffers()}


def statistics_names(model: nn.Module) -> set[str]:
    """Names of the buffers of BatchNorm layers, whose values the BatchNorm policy determines."""
    layers = set(batch_norm_layers(model))
    inside = {id(buffer) for layer in layers for buffer in layer.buffers(recurse=False)}
    return {name for name, buffer in model.named_buffers() if id(buffer) in inside}


def persistent_buffers(model: nn.Module) -> list[str]:
    """Names of the floating-point buffers in the state dict of ``model``, without those of BatchNorm."""
    state, policy = model.state_dict(keep_vars=True), statistics_names(model)
    return [
        name for name, buffer in model.named_buffers() if name in state and name not in policy and _continuous(buffer)
    ]


@torch.no_grad()
def set_buffers(model: nn.Module, values: Point) -> None:
    """Set the buffers of ``model`` to ``values``, see `Networks`; its weights must already be those of the point."""
    layers = {layer.left: layer for layer in spectral_layers(model)} if values else {}
    buffers = dict(model.named_buffers())
    for name, value in values.items():
        if name in layers:
            layers[name].renew(float(value))
        else:
            buffers[name].copy_(value)


def varying_names(ends: Sequence[Point]) -> list[str]:
    """Names of the values that differ between the ``ends``."""
    first, *others = ends
    return [name for name, value in first.items() if any(not _equal(value, other[name]) for other in others)]


@dataclass(frozen=True, eq=False)
class Networks:
    """The buffers at the origin of a slice and at the end of each direction; between these they are affine.

    For a spectrally normalised weight, the name of its buffer u holds the ratio of the estimated norm to the true norm
    (`SpectralLayer.ratio`), because the singular vectors are computed at every point. BatchNorm statistics are not
    included, see `statistics_names`.
    """

    ends: tuple[Point, ...]  # buffers at the origin and at origin + directions[i]; equal ones are included
    refused: dict[str, str] = field(default_factory=dict)  # buffer -> reason why it cannot be interpolated
    models: tuple[nn.Module, ...] = ()  # the networks themselves, for comparison
    places: tuple[tuple[float, ...], ...] = ()  # coordinates of each network

    @classmethod
    def around(cls, source: nn.Module | Point) -> "Networks | None":
        """The buffers of the one network at the origin of a slice; None for a point."""
        return cls((buffers_of(source),)) if isinstance(source, nn.Module) else None

    @classmethod
    def between(cls, sources: Sequence[nn.Module | Point], places: Sequence[tuple[float, ...]]) -> "Networks | None":
        """The buffers of several networks, the first at the origin, the others at ends of directions; None for points.

        Raises:
            InputError: a network has other buffers than the first one.
        """
        models = [source for source in sources if isinstance(source, nn.Module)]
        if len(models) < len(sources):
            return None
        ends = tuple(_values(model) for model in models)
        for number, values in enumerate(ends):
            check_match(values, ends[0], f"network {number + 1}", "buffer")
        refused = {name: why for name in ends[0] if (why := _why_not([values[name] for values in ends]))}
        for layer in spectral_layers(models[0]):
            ratios = [float(values[layer.left]) for values in ends]
            if (worst := max(ratios, key=lambda ratio: abs(ratio - 1))) and not abs(worst - 1) <= CONVERGED:
                refused[layer.left] = (
                    f"it estimates a spectral norm as {worst:.3g} times its true value; run the networks on a few "
                    "batches in training mode, which updates it"
                )
        return cls(ends, refused, tuple(models), tuple(places))

    def bent(self, segments: int) -> "Networks":
        """The buffers at the ``segments`` + 1 evenly spaced control points of a curve between two networks."""
        first, last = self.ends
        if self.refused:
            return replace(self, ends=(first,) * (segments + 1))
        steps = [k / segments for k in range(segments + 1)]
        ends = tuple(
            {name: torch.lerp(first[name], last[name], step) if name in self.varying else first[name] for name in first}
            for step in steps
        )
        return replace(self, ends=ends)

    def flat(self, origin: int) -> "Networks":
        """The buffers of a plane that goes through network ``origin`` only, on which nothing is interpolated."""
        why = "this plane does not go through the networks, so that its values are unknown"
        layers = {layer.left for layer in spectral_layers(self.models[origin])}
        refused = self.refused | {name: why for name in self.varying if name not in layers}
        ends = (self.ends[origin],) * 3
        return Networks(ends, refused, (self.models[origin],), ((0.0, 0.0),))

    def through_first(self) -> "Networks":
        """The same buffers on a slice that goes through the first network only."""
        return replace(self, models=self.models[:1], places=self.places[:1])

    @property
    def varying(self) -> list[str]:
        """Names of the values that differ between the ends."""
        return varying_names(self.ends)

    def check(self) -> None:
        """Raise InputError, with the name of the buffer, if one cannot be interpolated."""
        for name, why in self.refused.items():
            raise InputError(f"the networks of this slice cannot be mixed: their buffer {name!r} differs, and {why}")

    def own(self, number: int) -> nn.Module | None:
        """Network ``number``; None if its buffers have changed since the slice was made."""
        model, expected = self.models[number], self.ends[number]
        values = _values(model)
        same = values.keys() == expected.keys() and all(_equal(value, expected[name]) for name, value in values.items())
        return model if same else None


def _values(model: nn.Module) -> Point:
    """All buffers except those of BatchNorm; for spectral normalisation the ratio under the name of u."""
    layers, policy = spectral_layers(model), statistics_names(model)
    left_out = policy | {layer.right for layer in layers}
    ratios = {layer.left: torch.tensor(layer.ratio(), dtype=torch.float64) for layer in layers}
    buffers = {name: value for name, value in buffers_of(model).items() if name not in left_out}
    return {name: value for name, value in (buffers | ratios).items() if not name.endswith("num_batches_tracked")}


def _continuous(buffer: Tensor) -> bool:
    return buffer.is_floating_point() or buffer.is_complex()


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(torch.nan_to_num(first.cpu()), torch.nan_to_num(second.cpu())) and torch.equal(
        first.isnan().cpu(), second.isnan().cpu()
    )


def _why_not(values: list[Tensor]) -> str | None:
    """Why the ``values`` of one buffer cannot be interpolated; None if they are equal or can be."""
    if all(_equal(values[0], value) for value in values[1:]):
        return None
    if not all(_continuous(value) for value in values):
        return "it holds integers or booleans, which cannot be interpolated"
    if not all(value.isfinite().all() for value in values):
        return "it is not finite"
    lengths = [as_float64(value).norm() if not value.is_complex() else torch.zeros(()) for value in values]
    if values[0].numel() > 1 and all(abs(float(length) - 1) < UNIT for length in lengths):
        return "it is a unit vector, and the mean of two unit vectors is none (a custom spectral normalisation?)"
    return None
