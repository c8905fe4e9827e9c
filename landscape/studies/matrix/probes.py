"""The measurements of every trained run: slices, curvature, sharpness; numbers in JSON, surfaces in .npz."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from landscape.checks import check_choice, check_count, check_distinct, check_number, check_seed
from landscape.connectivity import barrier
from landscape.curvature.settings import CurvatureSettings
from landscape.errors import InputError
from landscape.evaluation import evaluate
from landscape.objective.objectives import Objective, objective
from landscape.sharpness import MEASURES, MeasureName, Neighbourhood
from landscape.slices.interpolations import interpolation_line
from landscape.slices.planes import Slice
from landscape.slices.random_slices import random_line, random_plane
from landscape.studies.kit.measurements import curvature_measurements, measured_once, sharpness_measurements
from landscape.studies.matrix.runs import PROBES, StudyRun
from landscape.training.checkpoints import load_checkpoint, load_checkpoint_data

__all__ = ["VERSION", "Probes", "probe_run"]

MOST = 10_000  # points of an axis, bends or epochs
COUNTS = {"line_resolution": 2, "plane_resolution": 2, "bends": 1, "curve_epochs": 1}
Measured = tuple[dict[str, Any], dict[str, Any]]  # numbers by kind, and results to be saved by the name of the file
VERSION = 1  # of the measurements; results of another version are measured again


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The measurements of a study, and their accuracy."""

    probe_seed: int = 0
    """Seed of random directions, probes and searches."""
    line_resolution: int = 41
    """Number of points of every line."""
    plane_resolution: int = 21
    """Number of points of every plane along each axis."""
    span: float = 1.0
    """Random slices and the layer-normalised line run from -span to span."""
    curvature: CurvatureSettings = CurvatureSettings(  # noqa: RUF009 (frozen)
        k=5, tol=0.01, relative_error=0.1, max_products=100, probes=2, steps=30
    )
    """Eigenvalues, trace and spectral density of the Hessian."""
    sharpness: tuple[MeasureName, ...] = ("sam", "gaussian", "adaptive-sam", "adaptive-gaussian")
    """Measures of sharpness."""
    bends: int = 1
    """Number of trained control points of the curve between two seeds."""
    curve_epochs: int = 40
    """Passes over the training points when a curve is trained."""
    curve_lr: float = 0.01
    """Learning rate when a curve is trained."""

    def check(self) -> None:
        """Raise InputError if a value is out of range."""
        for measure in self.sharpness:
            check_choice("measure", measure, MEASURES)
        if min(self.line_resolution, self.plane_resolution) < 2 or not 0 < self.span < math.inf:
            raise InputError(
                f"line resolution is {self.line_resolution}, plane resolution {self.plane_resolution}, span "
                f"{self.span}; points must be at least 2, the span positive"
            )
        check_distinct("sharpness", self.sharpness)
        check_seed(self.probe_seed, "probe seed")
        for name, least in COUNTS.items():
            check_count(name.replace("_", " "), getattr(self, name), least, MOST)
        check_number("curve lr", self.curve_lr, above=0)
        self.curvature.check()

    def recipe(self, checkpoints: dict[Any, Any]) -> dict[str, Any]:
        """The recipe of the record of these ``checkpoints``: their digests and all settings by name."""
        settings = asdict(self)
        return {"version": VERSION, "checkpoints": checkpoints, **settings, **settings.pop("curvature")}


def probe_run(run: StudyRun, probes: Probes, device: str) -> bool:
    """Measure ``run`` unless its measurements are stored, and return whether it was measured now.

    Writes ``probes/*.npz`` and, last, ``probes/probes.json`` below the folder of the run. If something cannot be
    measured, for instance for a network whose loss is not finite, the record gives the reason under "failed".
    """
    names = list(run.hashes)
    ends = {name: run.hashes[name] for name in (names[0], names[-1])}

    def measure() -> Iterator[Measured]:
        first, last = (load_checkpoint(run.path(name)) for name in (names[0], names[-1]))
        data = {split: load_checkpoint_data(last, split, Path("data")) for split in ("train", "test")}
        targets = {split: objective(last.model, samples, device=device) for split, samples in data.items()}
        run.check()
        for part in (_slices, _curvature, _sharpness):
            yield part(targets, first.model, last.model, probes)

    return measured_once(run.path(PROBES), probes.recipe(ends), measure)


def _slices(targets: dict[str, Objective], first: nn.Module, last: nn.Module, probes: Probes) -> Measured:
    """Lines from the initial to the trained network, and a random line and plane through the trained one."""
    line, around = probes.line_resolution, (-probes.span, probes.span)
    ways = {split: barrier(target, first, last, resolution=line, progress=False) for split, target in targets.items()}
    seed, target = probes.probe_seed, targets["train"]
    slices: dict[str, Slice] = {
        "layer_line": interpolation_line(last, first, normalize="layer"),
        "random_line": random_line(last, seed=seed),
        "random_plane": random_plane(last, seed=seed),
    }
    surfaces = {
        name: evaluate(
            target, slice_, alpha_range=around, beta_range=around, progress=False,
            resolution=probes.plane_resolution if name == "random_plane" else line,
        )
        for name, slice_ in slices.items()
    }  # fmt: skip
    loss = ways[
        "train"
    ].surface.loss  # its last point is the trained network, which may not be on the grid of a random slice
    numbers = {
        "interpolation": {**ways["train"].numbers, "monotone": bool((np.diff(loss) <= 0).all())},
        "random_rise": {
            name: float(np.median(surfaces[name].loss) - loss[-1]) for name in ("random_line", "random_plane")
        },
    }
    return numbers, {f"interpolation_{split}": way.surface for split, way in ways.items()} | surfaces


def _curvature(targets: dict[str, Objective], first: nn.Module, last: nn.Module, probes: Probes) -> Measured:
    """Eigenvalues, trace and spectral density of the Hessian of the training loss at the trained network."""
    target = targets["train"]
    kinds = curvature_measurements(target, last, probes.curvature, seed=probes.probe_seed, progress=False)
    pairs, total, density = (kinds[name].measure() for name in ("eigenvalues", "trace", "density"))
    numbers = {
        "eigenvalues": pairs.values,
        "eigenvalues_converged": bool(pairs.converged.all()),
        "largest_eigenvalue": float(pairs.values.max()),
        "smallest_node": float(density.nodes.min()),
        "trace": total.value,
        "trace_error": total.standard_error,
        "trace_converged": bool(total.converged),
    }
    without_vectors = dataclasses.replace(
        pairs, vectors=pairs.vectors[:, :0]
    )  # eigenvectors take megabytes and are not used
    return {"curvature": numbers}, {"eigenvalues": without_vectors, "density": density}


def _sharpness(targets: dict[str, Objective], first: nn.Module, last: nn.Module, probes: Probes) -> Measured:
    """The rise of the training loss around the trained network, by each measure."""
    around = functools.cache(lambda: Neighbourhood(targets["train"], last))  # only made if a measure needs it
    kinds = sharpness_measurements(around, probes.sharpness, seed=probes.probe_seed, draws=None, steps=None)
    results = {name: kind.measure() for name, kind in kinds.items()}
    kept = ("value", "standard_error", "radius", "definition")
    return {"sharpness": {name: {key: getattr(one, key) for key in kept} for name, one in results.items()}}, {}
