"""The basin around a point, measured along random lines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from landscape.checks import check_count, check_number, check_seed
from landscape.evaluation import evaluate, find_span
from landscape.evaluation.together import together
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

BEYOND = 1.5  # all lines extend this many times as far as the span over which the loss rises along the first line
BEYOND_SPAN = f"{BEYOND} times the span of the first line"
COMMON = ("slice", "architecture", "data", "objective", "method", "device", "processes", "versions")  # metadata entries


@together
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
    """The loss along random lines through ``model``, with the radius at which it has risen by ``rise`` along each.

    `BasinRadii.share_inside` gives a lower bound of the share of all random directions in which the loss stays below
    that rise. The bound improves with the number of lines and makes no assumption about the loss.

    Args:
        objective: The loss and the data; its network is not changed.
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
        InputError: A value is out of range, the model is another network than that of the objective, or the loss never
            rises by ``rise``.

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
    result = look_up(path, identity, read=_stored) if path and not force else None
    if reach is None:
        reach = result.reach if result else BEYOND * find_span(objective, first, rise=rise, seed=seed)["span"]
    stored_lines = len(result) if result else 0
    visible = progress and ranks.is_first_rank()
    with progress_bar(visible, "Basin", directions, unit="lines", initial=stored_lines) as bar:
        for k in range(stored_lines, directions):
            line = random_line(model, seed=seed + k, **options)
            surface = evaluate(
                objective, line, alpha_range=(-reach, reach), resolution=2 * points + 1, progress=False
            )  # fmt: skip
            result = _with_line(result, surface, rise, seed, identity)
            if path and ranks.is_first_rank():
                result.save(path)
            bar.update()
    assert result is not None  # because there is more than one direction
    return result.first(directions)


def _check(directions: int, rise: float, reach: float | None, points: int, seed: int) -> None:
    check_count("directions", directions, least=2)
    check_count("points", points, least=2)
    check_number("rise", rise, above=0)
    check_seed(seed)
    check_seed(seed + directions - 1, "the seed of the last direction")
    if reach is not None:
        check_number("reach", reach, above=0)


def _stored(path: Path) -> tuple[BasinRadii, dict[str, Any]]:
    """The lines stored in ``path``, and their recipe."""
    stored = BasinRadii.load(path)
    return stored, stored.metadata.get("identity", {})


def _with_line(
    earlier: BasinRadii | None, surface: Surface, rise: float, seed: int, identity: dict[str, Any]
) -> BasinRadii:
    """The ``earlier`` lines (None if there are none) with one more line."""
    rows = {name: getattr(surface, name)[None] for name in ("loss", "standard_error")}
    norms, seconds = surface.metadata["relative_norms"], surface.metadata["seconds"]
    if earlier is None:
        common = {name: surface.metadata[name] for name in COMMON}
        common["slice"] = {name: value for name, value in common["slice"].items() if name != "fingerprint"}
        metadata = {"identity": identity, **common, "relative_norms": norms, "seconds": seconds}
        return BasinRadii(surface.alphas, rise=rise, seed=seed, metadata=metadata, **rows)
    metadata = {
        **earlier.metadata,
        "relative_norms": [*earlier.metadata["relative_norms"], *norms],
        "seconds": earlier.metadata["seconds"] + seconds,
    }
    rows = {name: np.concatenate([getattr(earlier, name), row]) for name, row in rows.items()}
    return replace(earlier, metadata=metadata, **rows)
