"""Measurements of runs that differ only in the seed: connectivity of the networks, and training paths in one plane."""

import dataclasses
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from landscape.connectivity import connectivity
from landscape.evaluation import evaluate
from landscape.objective.objectives import Objective, objective
from landscape.results import Trajectory
from landscape.slices.planes import Plane
from landscape.storage.files import plain_name
from landscape.studies.kit.measurements import measured_once
from landscape.studies.matrix.probes import Probes
from landscape.studies.matrix.runs import GROUP, StudyRun
from landscape.training.checkpoints import load_checkpoint, load_checkpoint_data
from landscape.trajectories import covering_ranges, pca_plane, project

__all__ = ["probe_group"]


def probe_group(runs: list[StudyRun], probes: Probes, device: str) -> bool:
    """Measure the group of all ``runs``, unless its record exists already.

    Writes ``group/*.npz`` below the folder of the group and, last, ``group/group.json``. Connectivity needs two runs,
    and the plane of the paths three checkpoints. If something cannot be measured, the record gives the reason.

    Returns:
        Whether anything was measured.
    """
    seeds = [run.summary["seed"] for run in runs]

    def measure() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        checkpoints = [[load_checkpoint(run.path(name)) for name in run.hashes] for run in runs]
        last = [path[-1] for path in checkpoints]
        data = load_checkpoint_data(last[0], "train", Path("data"))
        target = objective(last[0].model, data, device=device)
        yield {"seeds": seeds, "pairs": [], "paths": {}}, {}
        for run in runs:
            run.check()
        pairs, surfaces = _connectivity(target, dict(zip(seeds, last, strict=True)), probes)
        yield {"pairs": pairs}, surfaces
        paths, planes = _paths(target, dict(zip(seeds, checkpoints, strict=True)), probes)
        yield {"paths": paths}, planes

    recipe = probes.recipe({run.summary["seed"]: list(run.hashes.values()) for run in runs})
    return measured_once(runs[0].root / runs[0].group / GROUP, recipe, measure)


def _connectivity(
    target: Objective, models: dict[str, Any], probes: Probes
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The barriers between each pair of seeds (on the line, on the line after alignment, on a curve), and surfaces."""
    pairs: list[dict[str, Any]] = []
    surfaces: dict[str, Any] = {}
    for first, second in combinations(models, 2):
        result = connectivity(
            target, models[first].model, models[second].model, methods=("weights",), curve="bezier",
            resolution=probes.line_resolution, seed=probes.probe_seed, progress=False,
            bends=probes.bends, epochs=probes.curve_epochs, lr=probes.curve_lr,
        )  # fmt: skip
        ways = dict(zip(("line", "aligned", "curve"), result.barriers.values(), strict=True))
        pairs.append({"seeds": [first, second], **{name: way.numbers for name, way in ways.items()}})
        surfaces |= {f"{name}_{first}_{second}": way.surface for name, way in ways.items()}
    return pairs, surfaces


def _paths(target: Objective, checkpoints: dict[str, Any], probes: Probes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoints in their PCA plane and the loss over it, for all seeds together and for each seed alone."""
    paths = {f"seed {seed}": [checkpoint.model for checkpoint in path] for seed, path in checkpoints.items()}
    epochs = {f"seed {seed}": [c.metadata["epoch"] for c in path] for seed, path in checkpoints.items()}
    planes = {"together": paths} | ({name: {name: path} for name, path in paths.items()} if len(paths) > 1 else {})
    numbers: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for title, models in planes.items():
        points = [model for path in models.values() for model in path]
        if len(points) < 3:
            continue
        plane = pca_plane(points)
        projected = {name: _projected(name, path, plane, target, epochs[name]) for name, path in models.items()}
        ranges: dict[str, Any] = covering_ranges(list(projected.values()))
        surface = evaluate(target, plane, **ranges, resolution=probes.plane_resolution, progress=False)
        numbers[title] = {
            "explained_variance": plane.recipe["explained_variance"][:2],
            "share_off_plane": max(float(np.max(path.share_off_plane)) for path in projected.values()),
            "paths": list(projected),
        }
        key = plain_name(title)
        results[f"plane_{key}"] = surface
        results |= {f"path_{key}_{plain_name(name)}": path for name, path in projected.items()}
    return numbers, results


def _projected(name: str, models: list[nn.Module], plane: Plane, target: Objective, epochs: list[int]) -> Trajectory:
    """The projection of the path of ``models`` onto ``plane``, with ``epochs`` as its steps."""
    path = project(models, plane, target, name=name, progress=False)
    return dataclasses.replace(path, steps=np.array(epochs), metadata={**path.metadata, "unit": "epoch"})
