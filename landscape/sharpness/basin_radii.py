"""The basin around a point, measured along random lines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from landscape.checks import check_count, check_number, check_seed
from landscape.evaluation import evaluate, find_span
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective, check_objective
from landscape.points import as_point
from landscape.results import BasinRadii, Surface
from landscape.runtime import ranks
from landscape.runtime.progress import progress_bar
from landscape.slices.random_slices import random_line
from landscape.storage.caching import look_up
from landscape.storage.provenance import fingerprint

__all__ = ["basin_radii"]

BEYOND = 1.5  # times the span at which the loss has risen along the first line: how far all lines go
BEYOND_SPAN = f"{BEYOND} times the span of the first line"
KEPT = ("slice", "architecture", "data", "objective", "method", "device", "processes", "versions")  # of its metadata


def basin_radii(
    objective: Objective,
    model: nn.Module,
    *,
    directions: int = 20,
    rise: float = 0.1,
    reach: float | None = None,
    points: int = 10,
    seed: int = 42,
    path: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> BasinRadii:
    """The loss along random lines through ``model``, and how far one can go along each before it rises by ``rise``.

    In high dimensions nearly all random directions are alike: how alike is what the bound of `BasinRadii.share_inside`
    tells, which grows with the number of directions and assumes nothing of the loss.

    Args:
        objective: what to evaluate; its own network does not move.
        model: The network at the point.
        directions: Number of lines, at least 2; line k is drawn from the seed ``seed`` + k.
        rise: Rise of the mean loss above that of ``model``, in units of the loss.
        reach: The lines run from -reach to reach; None means 1.5 times the span over which the loss rises along the
            first line, see `find_span`.
        points: Number of points on each side of every line.
        seed: Seed of the first line.
        path: File (.npz) from which stored lines are loaded, if point, data, objective and settings are the same, and
            to which new lines are added one by one.
        force: Evaluate all lines even if they are stored.
        progress: Show a progress bar.
        options: Options of `random_line`: normalize, ignore, distribution.

    Raises:
        InputError: a value out of range, a point of another network, a loss that never rises so much.

    Example:
        >>> import torch
        >>> from landscape_lib import objective
        >>> model, data = nn.Linear(4, 3), (torch.randn(50, 4), torch.randint(0, 3, (50,)))
        >>> radii = basin_radii(objective(model, data), model, directions=5, progress=False)
        >>> radii.loss.shape
        (5, 21)
    """
    check_objective(objective, "basin_radii(objective, model)")
    _check(directions, rise, reach, points, seed)
    first = random_line(model, seed=seed, **options)
    identity = {
        "point": fingerprint(as_point(model).values()),
        "lines": {**first.recipe, "rise": rise, "reach": reach or BEYOND_SPAN, "points": points},
        "data": objective.samples.description["fingerprint"],
        **objective_identity(objective.for_slice(first)),
    }
    path = Path(path) if path else None
    known = look_up(path, identity, read=_stored) if path and not force else None
    if reach is None:
        reach = known.reach if known else BEYOND * find_span(objective, first, rise=rise, seed=seed)["span"]
    begun = len(known) if known else 0
    with progress_bar(progress and ranks.is_first_rank(), "Basin", directions, unit="lines", initial=begun) as bar:
        for k in range(begun, directions):
            line = random_line(model, seed=seed + k, **options)
            surface = evaluate(
                objective, line, alpha_range=(-reach, reach), resolution=2 * points + 1, progress=False
            )  # fmt: skip
            known = _with_line(known, surface, rise, seed, identity)
            if path and ranks.is_first_rank():
                known.save(path)
            bar.update()
    assert known is not None  # as there is more than one direction
    return known.first(directions)


def _check(directions: int, rise: float, reach: float | None, points: int, seed: int) -> None:
    check_count("directions", directions, least=2)
    check_count("points", points, least=2)
    check_number("rise", rise, above=0)
    check_seed(seed)
    check_seed(seed + directions - 1, "the seed of the last direction")
    if reach is not None:
        check_number("reach", reach, above=0)


def _stored(path: Path) -> tuple[BasinRadii, dict[str, Any]]:
    """The lines in ``path``, and what they are of."""
    known = BasinRadii.load(path)
    return known, known.metadata.get("identity", {})


def _with_line(
    known: BasinRadii | None, surface: Surface, rise: float, seed: int, identity: dict[str, Any]
) -> BasinRadii:
    """``known``, of which the first line may be none, with one more line."""
    rows = {name: getattr(surface, name)[None] for name in ("loss", "standard_error")}
    norms, seconds = surface.metadata["relative_norms"], surface.metadata["seconds"]
    if known is None:
        kept = {name: surface.metadata[name] for name in KEPT}
        kept["slice"] = {name: value for name, value in kept["slice"].items() if name != "fingerprint"}
        metadata = {"identity": identity, **kept, "relative_norms": norms, "seconds": seconds}
        return BasinRadii(surface.alphas, rise=rise, seed=seed, metadata=metadata, **rows)
    metadata = {
        **known.metadata,
        "relative_norms": [*known.metadata["relative_norms"], *norms],
        "seconds": known.metadata["seconds"] + seconds,
    }
    rows = {name: np.concatenate([getattr(known, name), row]) for name, row in rows.items()}
    return replace(known, metadata=metadata, **rows)
