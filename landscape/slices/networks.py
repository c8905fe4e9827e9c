"""What the networks that a slice goes through hold besides their parameters: their buffers, and what lies between."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.objective.batch_norm import batch_norm_layers
from landscape.objective.spectral_norm import spectral_layers
from landscape.points import Point, as_float64, check_match, unwrapped

__all__ = ["Networks", "buffers_of", "persistent_buffers", "set_buffers", "statistics_names", "varying_names"]

UNIT = 1e-3  # difference of a length from one below which a vector counts as a unit vector
CONVERGED = 0.1  # largest error of the estimate of a spectral norm that can be interpolated


def buffers_of(model: nn.Module) -> Point:
    """Copies of all buffers of ``model``, detached; shared ones once."""
    return {name: buffer.detach().clone() for name, buffer in unwrapped(model).named_buffers()}


def statistics_names(model: nn.Module) -> set[str]:
    """Names of the buffers of the BatchNorm layers, which follow from a policy."""
    layers = set(batch_norm_layers(model))
    inside = {id(buffer) for layer in layers for buffer in layer.buffers(recurse=False)}
    return {name for name, buffer in model.named_buffers() if id(buffer) in inside}


def persistent_buffers(model: nn.Module) -> list[str]:
    """Names of the floating-point buffers that belong to the state of ``model``, those of BatchNorm left out."""
    state, policy = model.state_dict(keep_vars=True), statistics_names(model)
    return [
        name for name, buffer in model.named_buffers() if name in state and name not in policy and _continuous(buffer)
    ]


@torch.no_grad()
def set_buffers(model: nn.Module, values: Point) -> None:
    """Put ``values``, as `Networks` holds them, into the buffers of ``model``, whose weights are those of the point."""
    layers = {layer.left: layer for layer in spectral_layers(model)} if values else {}
    buffers = dict(model.named_buffers())
    for name, value in values.items():
        if name in layers:
            layers[name].renew(float(value))
        else:
            buffers[name].copy_(value)


def varying_names(ends: Sequence[Point]) -> list[str]:
    """Names of the values that are not equal in all ``ends``."""
    first, *others = ends
    return [name for name, value in first.items() if any(not _equal(value, other[name]) for other in others)]


@dataclass(frozen=True, eq=False)
class Networks:
    """Buffers at the origin of a slice and at the end of each of its directions, affine in between.

    Of a spectrally normalised weight stands, under the name of its buffer u, how good the estimate of its norm is
    (`SpectralLayer.ratio`): the singular vectors themselves are computed anew at every point. BatchNorm statistics are
    left out, see `statistics_names`.
    """

    ends: tuple[Point, ...]  # of the origin, then of origin + directions[i]; the names that are equal everywhere too
    refused: dict[str, str] = field(default_factory=dict)  # buffer -> why nothing between the networks' values is right
    models: tuple[nn.Module, ...] = ()  # the networks themselves, to compare with
    places: tuple[tuple[float, ...], ...] = ()  # the coordinates of each of them

    @classmethod
    def around(cls, source: nn.Module | Point) -> "Networks | None":
        """The one network that a slice lies around, all of its buffers as they are; None for a point."""
        return cls((buffers_of(source),)) if isinstance(source, nn.Module) else None

    @classmethod
    def between(cls, sources: Sequence[nn.Module | Point], places: Sequence[tuple[float, ...]]) -> "Networks | None":
        """Several networks, the first at the origin and each other at the end of a direction; None for points.

        Raises:
            InputError: networks with other buffers than the first one.
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
                    f"it estimates a spectral norm as {worst:.3g} times what it is; run the networks on a few batches "
                    "in training mode, which renews it"
                )
        return cls(ends, refused, tuple(models), tuple(places))

    def bent(self, segments: int) -> "Networks":
        """Those of a curve with ``segments`` + 1 control points from the first network to the second, evenly spaced."""
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
        """Those of a plane that runs through network ``origin`` only, so that nothing is interpolated."""
        why = "this plane does not run through them, so that there is no value to take"
        layers = {layer.left for layer in spectral_layers(self.models[origin])}
        refused = self.refused | {name: why for name in self.varying if name not in layers}
        ends = (self.ends[origin],) * 3
        return Networks(ends, refused, (self.models[origin],), ((0.0, 0.0),))

    @property
    def varying(self) -> list[str]:
        """Names of the values that differ between the ends."""
        return varying_names(self.ends)

    def check(self) -> None:
        """Refuse buffers between whose values none is right.

        Raises:
            InputError: there is one; it is named.
        """
        for name, why in self.refused.items():
            raise InputError(f"the networks of this slice cannot be mixed: their buffer {name!r} differs, and {why}")

    def own(self, number: int) -> nn.Module | None:
        """Network ``number``, None where it has been changed since."""
        model, expected = self.models[number], self.ends[number]
        values = _values(model)
        same = values.keys() == expected.keys() and all(_equal(value, expected[name]) for name, value in values.items())
        return model if same else None


def _values(model: nn.Module) -> Point:
    """All buffers, with the ratio under u and without v of spectral normalisation, and without BatchNorm."""
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
    """Why there is nothing between ``values`` of one buffer; None where they are equal or can be interpolated."""
    if all(_equal(values[0], value) for value in values[1:]):
        return None
    if not all(_continuous(value) for value in values):
        return "it holds whole numbers or truth values, between which there is none"
    if not all(value.isfinite().all() for value in values):
        return "it is not finite"
    lengths = [as_float64(value).norm() if not value.is_complex() else torch.zeros(()) for value in values]
    if values[0].numel() > 1 and all(abs(float(length) - 1) < UNIT for length in lengths):
        return "it is a unit vector, and what lies between two of them is none (a custom spectral normalisation?)"
    return None
