"""Random directions in parameter space, and normalisation of directions to the scale of the weights."""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from landscape.checks import check_choice, check_type
from landscape.errors import InputError
from landscape.points import (
    Point,
    as_float64,
    as_real,
    check_match,
    check_values,
    is_continuous,
    named_parameters,
    norm,
    precise,
    whole_step,
    with_wrapped_names,
)
from landscape.runtime import own_torch_state
from landscape.runtime.seeds import checked_seed
from landscape.runtime.shards import in_shards_of, is_shard, whole
from landscape.slices.chosen import chosen_parameters
from landscape.slices.ignored import RULE, ignored_parameters

__all__ = [
    "DRAWS",
    "Distribution",
    "Normalize",
    "filter_normalize",
    "ignored_parameters",
    "moved_values",
    "normalize_direction",
    "orthogonal_rows",
    "orthogonalize_filters",
    "random_directions",
]

Normalize = Literal["filter", "layer", "model"]  # the parts whose norms a direction gets
Distribution = Literal["gaussian", "uniform", "rademacher"]  # of the entries of a direction before normalisation


@own_torch_state()
def random_directions(
    model: nn.Module,
    count: int,
    *,
    seed: int,
    normalize: Normalize | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    parameters: str | Sequence[str] | None = None,
    distribution: Distribution = "gaussian",
    orthogonal: bool = False,
    rule: int = RULE,
) -> list[Point]:
    """Draw ``count`` random directions in the parameter space of ``model``.

    Entries are independent random numbers (N(0, 1), uniform on [-1, 1], or 1 and -1 with equal probability) from one
    CPU generator, in float32 and in the order of ``named_parameters``, all of the first direction before those of the
    second. So the same ``seed`` gives the same entries on every device and for every choice of parameters. With
    ``orthogonal`` the entries are orthogonalised filter by filter before they are normalised, so that both the filter
    norms and the orthogonality are exact. Complex parameters get complex numbers with independent real and imaginary
    parts and the same total variance; integer parameters are never moved. Directions of parameters in half precision
    are in float32, because rounding would change their norms by up to 0.4 %.

    Directions of a network in shards are those of the whole network, in the same shards; all ranks call the function.

    Args:
        model: Network with the names, shapes and weights; it is not changed.
        count: Number of directions.
        seed: Seed of the generator.
        normalize: "filter" (|d_f| = |theta_f| for every filter f; Li et al. 2018, section 4), "layer"
            (|d_p| = |theta_p| for every parameter p), "model" (|d| = |theta|) or None.
        ignore: Kinds or glob patterns of parameters whose direction is exactly zero, see `ignored_parameters`.
        parameters: The parameters to move, such as ("*lora*",) or "trainable", see `chosen_parameters`; default: all.
            The directions of the others are zero and take no memory, and norms are those of the chosen parameters.
        distribution: "gaussian", "uniform" or "rademacher".
        orthogonal: Make every pair of directions orthogonal within every filter.
        rule: Version of the meaning of ``ignore``, see `ignored_parameters`; recipes that name none have 1.

    Raises:
        InputError: the normalisation, distribution, pattern or seed is unknown, or no parameter would be moved.

    Warns:
        UserWarning: weights are zero, such as B of a new LoRA adapter; their directions are normalised to zero, so
            that they are not moved.
    """
    check_type(model, nn.Module, "random_directions(model, count)", "a torch.nn.Module")
    values, reference, ignored = moved_values(model, ignore, parameters, normalize, distribution, rule)
    chosen = reference.keys()
    generator = torch.Generator().manual_seed(checked_seed(seed))
    draw = functools.partial(_drawn, DRAWS[distribution], generator, rule)
    drawn = [((name, draw(value)) for name, value in values.items()) for _ in range(count)]
    raw = [{name: in_shards_of(entries, values[name]) for name, entries in pairs if name in chosen} for pairs in drawn]
    if orthogonal:
        orthogonalize_filters(raw, reference.keys() - ignored)
    directions = []
    for direction in raw:
        for name in ignored:
            direction[name].zero_()
        direction = _like(direction, reference, rule)
        direction = _like(normalize_direction(direction, reference, normalize), reference, rule)
        directions.append(with_wrapped_names(whole_step(direction, values), model))
    return directions


def moved_values(
    model: nn.Module,
    ignore: Sequence[str],
    parameters: str | Sequence[str] | None,
    normalize: Normalize | None,
    distribution: Distribution,
    rule: int,
) -> tuple[Point, Point, set[str]]:
    """The parameters of ``model``, not copied: all, those that are chosen, and the names of these that stay.

    Raises:
        InputError: see `random_directions`.
    """
    check_choice("distribution", distribution, DRAWS)
    check_values(model)
    values = {name: value.detach() for name, value in named_parameters(model)}
    chosen = set(values if parameters is None else chosen_parameters(model, parameters))
    reference = {name: value for name, value in values.items() if name in chosen}
    ignored = ignored_parameters(model, ignore, rule=rule) & chosen
    ignored |= {name for name, value in reference.items() if not is_continuous(value)}
    _check_moves(reference, ignored, ignore, normalize, parameters is not None)
    return values, reference, ignored


def _check_moves(
    reference: Point, ignored: set[str], ignore: Sequence[str], normalize: str | None, chosen: bool
) -> None:
    """Raise InputError if directions move nothing; warn of chosen weights that are not moved because they are zero."""
    left = reference.keys() - ignored
    zero = [name for name in reference if name in left and not reference[name].any()]
    if not left:
        raise InputError(
            f"no parameter is left to perturb: ignore={tuple(ignore)} matches all that are chosen; pass a smaller "
            "ignore, for example ignore=()"
        )
    if len(zero) == len(left) and normalize is not None:
        raise InputError(
            f"no parameter is left to perturb: all that are not ignored are zero, first {zero[0]!r}, and so are "
            f"directions with normalize={normalize!r}; pass normalize=None"
        )
    weights = [name for name in zero if reference[name].ndim > 1 and reference[name].numel()]
    if weights and normalize in ("filter", "layer") and (chosen or any("lora" in name.lower() for name in weights)):
        warnings.warn(
            f"{len(weights)} weight(s) are zero, first {weights[0]!r}, as in LoRA adapters before they are trained: "
            f"with normalize={normalize!r} directions get the norms of the weights, so that these are not moved; train "
            "first, or pass normalize='model' or None",
            stacklevel=5,
        )


def _drawn(
    draw: Callable[[torch.Size, torch.Generator], Tensor], generator: torch.Generator, rule: int, like: Tensor
) -> Tensor:
    """Random entries of the shape of ``like``, complex if that is complex (real under rule 1)."""
    real = draw(like.shape, generator)
    return torch.complex(real, draw(like.shape, generator)) / 2**0.5 if like.is_complex() and rule > 1 else real


def _like(direction: Point, reference: Point, rule: int) -> Point:
    """``direction`` in the dtypes of ``reference``; float32 for half precision (except under rule 1)."""
    return {
        name: value.to(reference[name] if rule == 1 else precise(reference[name])) for name, value in direction.items()
    }


def filter_normalize(direction: Point, reference: Point) -> Point:
    """Rescale every filter of ``direction`` to the norm of the same filter of ``reference``.

    d_f <- d_f |theta_f| / |d_f|, where a filter f is one row of ``weight.flatten(1)`` and a parameter with fewer
    than two dimensions is one filter. Filters that are zero in one of both become zero, and so do integer parameters.
    Half precision is converted to float32, so that the norms are exact.
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
    for point in (direction, reference):
        check_type(point, dict, "normalize_direction(direction, reference)", "points, each a dict[str, Tensor]")
    check_match(direction, reference, "direction")
    if normalize is None:
        return dict(direction)
    if normalize == "model":
        length = norm(direction)
        factor = norm(reference) / length if length else 0.0
        return {name: precise(value) * factor if is_continuous(value) else value for name, value in direction.items()}
    check_choice("normalization", normalize, (*get_args(Normalize), None))
    rows = _filters if normalize == "filter" else _whole
    return {name: _match_norms(value, reference[name], rows) for name, value in direction.items()}


def _match_norms(direction: Tensor, reference: Tensor, rows: Callable[[Tensor], Tensor]) -> Tensor:
    if not is_continuous(reference):
        return torch.zeros_like(direction)
    if is_shard(reference):
        return in_shards_of(_match_norms(whole(direction), whole(reference), rows), reference)
    raw, scale = rows(as_float64(direction)), rows(as_float64(reference)).norm(dim=1, keepdim=True)
    length = raw.norm(dim=1, keepdim=True)
    scaled = torch.where(length > 0, raw / length * scale.to(length), 0.0)
    return scaled.reshape(direction.shape).to(precise(direction))


def _filters(parameter: Tensor) -> Tensor:
    return parameter.flatten(1) if parameter.ndim > 1 else parameter.reshape(1, -1)


def _whole(parameter: Tensor) -> Tensor:
    return parameter.reshape(1, -1)


def orthogonalize_filters(directions: list[Point], names: set[str]) -> None:
    """Orthogonalise the ``directions`` in place, within every filter of the parameters ``names`` (Gram-Schmidt).

    The arithmetic is float64; complex numbers are treated as pairs of real ones.
    """
    for name in (name for name, entries in directions[0].items() if name in names and entries.numel()):
        drawn = [_filters(as_real(whole(direction[name]).cpu())) for direction in directions]
        if drawn[0].shape[1] < len(directions):
            warnings.warn(
                f"{name}: filters of {drawn[0].shape[1]} weight(s) cannot hold {len(directions)} orthogonal "
                "directions; the later direction is zero there",
                stacklevel=4,
            )
        for direction, rows in zip(directions, orthogonal_rows(drawn), strict=True):
            shape, pairs = direction[name].shape, direction[name].is_complex()
            entries = rows.reshape(*shape, 2) if pairs else rows.reshape(shape)
            direction[name] = in_shards_of(torch.view_as_complex(entries) if pairs else entries, direction[name])


def orthogonal_rows(drawn: list[Tensor]) -> list[Tensor]:
    """Gram-Schmidt per row of several matrices [filters, entries], in float64.

    A row of fewer entries than there are matrices has no more directions for the later ones, which are zero there.
    """
    bases: list[Tensor] = []
    orthogonal = []
    for matrix in drawn:
        rows = as_float64(matrix).clone()
        if bases and rows.shape[1] <= len(bases):
            rows.zero_()
        for _ in range(2):  # the second pass removes what rounding left of the first
            for basis in bases:
                rows -= (rows * basis).sum(1, keepdim=True) * basis
        length = rows.norm(dim=1, keepdim=True)
        bases.append(torch.where(length > 0, rows / length, 0.0))
        orthogonal.append(rows)
    return orthogonal


def _gaussian(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float32) * 2 - 1


def _rademacher(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1


DRAWS = {"gaussian": _gaussian, "uniform": _uniform, "rademacher": _rademacher}
