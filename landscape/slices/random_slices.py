"""Lines and planes along random directions."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from landscape.checks import check_type
from landscape.points import Point, as_point, check_values, named_parameters, point_moving
from landscape.results.axes import SliceAxes
from landscape.runtime import own_torch_state
from landscape.runtime.seeds import checked_seed
from landscape.runtime.shards import agree_on, is_sharded
from landscape.slices.chosen import choice_of, chosen_parameters
from landscape.slices.directions import DRAWS, Distribution, Normalize, moved_values, random_directions
from landscape.slices.drawn import Drawing, Draws
from landscape.slices.ignored import RULE, reasons_not_to_move
from landscape.slices.networks import Networks
from landscape.slices.planes import Line, Plane

__all__ = ["random_line", "random_plane"]

LARGE = 2**25  # moved parameters from which on directions are drawn when they are needed, and weights are not copied


@own_torch_state()
def random_plane(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: Normalize | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    parameters: str | Sequence[str] | None = None,
    orthogonal: bool = False,
    distribution: Distribution = "gaussian",
    rule: int = RULE,
) -> Plane:
    """The plane through the parameters of ``model`` along two random directions, see `random_directions`.

    With ``parameters``, such as ``("*lora*",)`` or ``"trainable"``, only these are moved, see `chosen_parameters`, and
    only these are copied. For a large network (from `LARGE` parameters on) nothing is copied: directions are drawn from
    the seed when they are needed, and `evaluate` refuses the plane once the network has been trained further.

    Example:
        >>> import torch
        >>> plane = random_plane(torch.nn.Linear(3, 2), seed=0)
        >>> sorted(plane(0.5, -0.5))
        ['bias', 'weight']
    """
    check_type(model, nn.Module, "random_plane(model)", "a torch.nn.Module")
    settings = {"seed": seed, "normalize": normalize, "ignore": ignore, "parameters": parameters}
    settings |= {"orthogonal": orthogonal, "distribution": distribution, "rule": rule}
    return Plane(*_random_slice("random plane", model, 2, settings))


@own_torch_state()
def random_line(
    model: nn.Module,
    *,
    seed: int = 42,
    normalize: Normalize | None = "filter",
    ignore: Sequence[str] = ("bias", "norm"),
    parameters: str | Sequence[str] | None = None,
    distribution: Distribution = "gaussian",
    rule: int = RULE,
) -> Line:
    """The line through the parameters of ``model`` along one random direction, see `random_plane`."""
    check_type(model, nn.Module, "random_line(model)", "a torch.nn.Module")
    settings = {"seed": seed, "normalize": normalize, "ignore": ignore, "parameters": parameters}
    settings |= {"orthogonal": False, "distribution": distribution, "rule": rule}
    return Line(*_random_slice("random line", model, 1, settings))


def _draws_of(model: nn.Module, count: int, settings: dict[str, Any]) -> Draws | None:
    """How the directions of a large network are drawn anew; None for others, whose directions and weights are kept.

    Each rank keeps its shards of the directions of a network in shards.
    """
    check_values(model)
    if is_sharded(model) or sum(value.numel() for _, value in named_parameters(model)) < LARGE:
        return None
    ways = {name: settings[name] for name in ("ignore", "parameters", "normalize", "distribution", "rule")}
    values, chosen, ignored = moved_values(model, **ways)
    moved = [name for name in chosen if name not in ignored]
    real = all(values[name].is_floating_point() for name in moved)
    known = settings["normalize"] in ("filter", "layer", None) and settings["rule"] == RULE and real
    if not known or sum(values[name].numel() for name in moved) < LARGE:
        return None
    seed, draw = checked_seed(settings["seed"]), DRAWS[settings["distribution"]]
    return Draws(values, moved, Drawing(draw, seed, count, settings["normalize"], settings["orthogonal"]))


def _random_slice(
    kind: str, model: nn.Module, count: int, settings: dict[str, Any]
) -> tuple[Point, tuple[Point, ...], dict[str, Any], int, Networks | None, SliceAxes]:
    """The fields of the slice: origin, directions, recipe, one network, its buffers, axes."""
    agree_on(model, {"slice": kind, **settings})
    draws = _draws_of(model, count, settings)
    directions = random_directions(model, count, **settings) if draws is None else draws.directions
    parameters, ignore = settings.pop("parameters"), settings["ignore"]
    not_moved = reasons_not_to_move(model, ignore, rule=settings["rule"])
    recipe = {"kind": kind, **settings, "seed": checked_seed(settings["seed"]), "ignore": list(ignore)}
    if parameters is None:
        origin = point_moving(model, ()) if draws or is_sharded(model) else as_point(model)
    else:
        names = chosen_parameters(model, parameters)
        origin = point_moving(model, () if draws or is_sharded(model) else names)
        choice = choice_of(origin, names, parameters)
        others = {reason: [name for name in group if name in names] for reason, group in not_moved.items()}
        recipe["parameters"], not_moved = choice["parameters"], choice["not_moved"] | others
    recipe["not_moved"] = not_moved
    axes = SliceAxes.random(settings["normalize"], count)
    return origin, tuple(directions), recipe, 1, Networks.around(model), axes
