"""Directions in parameter space: random, and normalised to the scale of the weights they perturb."""

import fnmatch
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from landscape.errors import InputError
from landscape.parameters import Point, as_float64, check_match, norm, parameters_of
from landscape.runtime import own_torch_state

__all__ = [
    "filter_normalize",
    "ignored_parameters",
    "normalize_direction",
    "orthogonalize_filters",
    "random_directions",
]

NORMALIZATION_LAYERS = (
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm of every dimension
    nn.GroupNorm,
    nn.LayerNorm,
    *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []),
)


@own_torch_state()
def random_directions(
    model: nn.Module,
    count: int,
    *,
    seed: int,
    normalize: str | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    distribution: str = "gaussian",
    orthogonal: bool = False,
) -> list[Point]:
    """Draw ``count`` random directions at the parameters of ``model``.

    Entries are independent draws (N(0, 1), uniform on [-1, 1], or +-1 with equal chance) from one CPU generator,
    all parameters of the first direction before those of the second, in ``named_parameters`` order and always
    in float32: the same ``seed`` gives the same directions on every device and for every ``ignore``. With
    ``orthogonal`` the raw draws are orthogonalised filter by filter before they are normalised, so that the
    filter norms and the orthogonality both hold.

    Args:
        model: gives names, shapes and the weights to normalise by; not changed.
        count: number of directions.
        seed: seed of the generator.
        normalize: "filter" (|d_f| = |theta_f| for every filter f; Li et al. 2018, section 4), "layer"
            (|d_p| = |theta_p| for every parameter p), "model" (|d| = |theta|) or None.
        ignore: kinds or glob patterns of parameters whose direction is exactly zero, see `ignored_parameters`.
        distribution: "gaussian", "uniform" or "rademacher".
        orthogonal: make every pair of directions orthogonal within every filter.

    Raises:
        InputError: unknown normalisation, distribution or pattern; nothing left to perturb.
    """
    if distribution not in _DRAWS:
        raise InputError(f"unknown distribution {distribution!r}; use one of {', '.join(_DRAWS)}")
    reference = parameters_of(model)
    ignored = ignored_parameters(model, ignore)
    if not any(reference[name].any() for name in reference.keys() - ignored):
        raise InputError(
            f"no parameter is left to perturb: ignore={tuple(ignore)} matches all that are not zero; "
            "pass a smaller ignore, for example ignore=()"
        )
    generator = torch.Generator().manual_seed(seed)
    draw = _DRAWS[distribution]
    raw = [{name: draw(value.shape, generator) for name, value in reference.items()} for _ in range(count)]
    if orthogonal:
        orthogonalize_filters(raw, reference.keys() - ignored)
    directions = []
    for direction in raw:
        for name in ignored:
            direction[name].zero_()
        direction = {name: value.to(reference[name]) for name, value in direction.items()}
        directions.append(normalize_direction(direction, reference, normalize))
    return directions


def ignored_parameters(model: nn.Module, ignore: Sequence[str]) -> set[str]:
    """Names of the parameters that ``ignore`` matches.

    "bias" stands for one-dimensional parameters whose name ends in "bias"; "norm" for every parameter of a
    normalisation layer: torch's own, and modules whose class name contains "Norm" and that hold no other module.
    Any other entry is a glob pattern over parameter names, such as "layer1.*".
    """
    if isinstance(ignore, str):
        raise InputError(f"ignore takes a sequence of names, not the string {ignore!r}; write ({ignore!r},)")
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for entry in ignore:
        if entry == "bias":
            found |= {name for name, p in model.named_parameters() if name.endswith("bias") and p.ndim == 1}
        elif entry == "norm":
            inside = {id(p) for module in model.modules() if _normalizes(module) for p in module.parameters()}
            found |= {name for name, p in model.named_parameters() if id(p) in inside}
        else:
            matches = fnmatch.filter(names, entry)
            if not matches:
                raise InputError(f"ignore: {entry!r} matches no parameter; use 'bias', 'norm' or a pattern of names")
            found |= set(matches)
    return found


def filter_normalize(direction: Point, reference: Point) -> Point:
    """Rescale every filter of ``direction`` to the norm of the same filter of ``reference``.

    d_f <- d_f |theta_f| / |d_f|, where a filter f is one row of ``weight.flatten(1)`` and a parameter with fewer
    than two dimensions is one filter. Filters that are zero in either stay or become zero.
    Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4.

    Example:
        >>> direction, reference = {"w": torch.tensor([[3.0, 4.0]])}, {"w": torch.tensor([[0.0, 10.0]])}
        >>> filter_normalize(direction, reference)["w"].tolist()
        [[6.0, 8.0]]
    """
    return normalize_direction(direction, reference, "filter")


@own_torch_state()
def normalize_direction(direction: Point, reference: Point, normalize: str | None) -> Point:
    """Rescale ``direction`` to the scale of ``reference``, per "filter", "layer", "model", or not at all (None)."""
    check_match(direction, reference, "direction")
    if normalize is None:
        return dict(direction)
    if normalize == "model":
        length = norm(direction)
        factor = norm(reference) / length if length else 0.0
        return {name: value * factor for name, value in direction.items()}
    if normalize not in ("filter", "layer"):
        raise InputError(f"unknown normalization {normalize!r}; use 'filter', 'layer', 'model' or None")
    rows = _filters if normalize == "filter" else _whole
    return {name: _match_norms(value, reference[name], rows) for name, value in direction.items()}


def _match_norms(direction: Tensor, reference: Tensor, rows: Callable[[Tensor], Tensor]) -> Tensor:
    raw, scale = rows(as_float64(direction)), rows(as_float64(reference)).norm(dim=1, keepdim=True)
    length = raw.norm(dim=1, keepdim=True)
    scaled = torch.where(length > 0, raw / length * scale.to(length), 0.0)
    return scaled.reshape(direction.shape).to(direction)


def _filters(parameter: Tensor) -> Tensor:
    return parameter.flatten(1) if parameter.ndim > 1 else parameter.reshape(1, -1)


def _whole(parameter: Tensor) -> Tensor:
    return parameter.reshape(1, -1)


def _normalizes(module: nn.Module) -> bool:
    own = "Norm" in type(module).__name__ and not any(True for _ in module.children())
    return own or isinstance(module, NORMALIZATION_LAYERS)


def orthogonalize_filters(directions: list[Point], names: set[str]) -> None:
    """Gram-Schmidt per filter, in place, on raw draws (float32 in, float64 inside)."""
    for name in names:
        bases: list[Tensor] = []
        for direction in directions:
            rows = _filters(direction[name].double()).clone()
            if bases and rows.shape[1] <= len(bases):
                # A filter of one weight has one direction: the later ones are zero there, orthogonal but shorter.
                rows.zero_()
                warnings.warn(
                    f"{name}: filters of {rows.shape[1]} weight(s) cannot hold {len(directions)} orthogonal "
                    "directions; the later direction is zero there",
                    stacklevel=4,
                )
            for _ in range(2):  # the second pass removes what rounding left of the first
                for basis in bases:
                    rows -= (rows * basis).sum(1, keepdim=True) * basis
            length = rows.norm(dim=1, keepdim=True)
            bases.append(torch.where(length > 0, rows / length, 0.0))
            direction[name] = rows.reshape(direction[name].shape)


def _gaussian(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float32) * 2 - 1


def _rademacher(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


_DRAWS = {"gaussian": _gaussian, "uniform": _uniform, "rademacher": _rademacher}
