"""Measurements around a language model, each of which is made once and stored in a folder."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from landscape.cli.language import ADAPTERS, LanguageChoice, LanguageSubject, LanguageView, with_adapters
from landscape.curvature import load_or_judge
from landscape.errors import InputError
from landscape.evaluation import find_span, load_or_evaluate
from landscape.models.pretrained import adapter_step
from landscape.objective.identity import objective_identity
from landscape.objective.objectives import Objective
from landscape.points import model_at, parameters_of
from landscape.results import BasinRadii, Faithfulness, Sharpness, Surface, Trajectory
from landscape.runtime import ranks
from landscape.sharpness import basin_radii, load_or_measure_layers
from landscape.slices.planes import Plane, Slice
from landscape.slices.random_slices import random_line, random_plane
from landscape.storage import cached
from landscape.storage.files import plain_name
from landscape.storage.json_files import read_json, write_sealed
from landscape.training.language import LanguageTraining
from landscape.trajectories import covering_ranges, load_or_project, pca_plane

__all__ = ["LanguageMeasurements"]

BEYOND = 1.5  # all lines of the basin extend this many times as far as the first line takes to rise


class LanguageMeasurements:
    """Planes, basin, sharpness and adapters of ``subject``; results that are stored in ``out`` are loaded."""

    def __init__(
        self,
        subject: LanguageSubject,
        choice: LanguageChoice,
        view: LanguageView,
        training: LanguageTraining,
        out: Path,
        *,
        force: bool = False,
    ):
        self.subject, self.choice, self.view, self.training = subject, choice, view, training
        self.out, self.force, self.seed = out, force, training.seed
        self.targets = self._targets(subject.model)

    @cached_property
    def plane(self) -> Plane:
        """The random plane through the model."""
        return random_plane(self.subject.model, seed=self.seed, **self.choice.directions)

    @cached_property
    def ranges(self) -> dict[str, Any]:
        """The ranges of the random plane; at their ends the loss of the first part has risen by the chosen amount."""
        span = self._span("plane", self.plane, self.view.edge)
        return {"alpha_range": (-span, span), "beta_range": (-span, span)}

    def random_plane(self) -> dict[str, Surface]:
        """The loss of each part of the text over the random plane; the first one is stored with the judgement of it."""
        surfaces, result = self._surfaces("random", self.targets, self.plane, self.ranges), self.judgement
        part, surface = next(iter(surfaces.items()))
        if result is not None and surface.faithfulness != result:
            surfaces[part] = replace(surface, metadata={**surface.metadata, "faithfulness": result.record})
            if ranks.is_first_rank():
                surfaces[part].save(self._surface_path("random", part))
        return surfaces

    def training_plane(self) -> tuple[dict[str, Surface], dict[str, Trajectory]]:
        """The loss over the plane through the initial, middle and last weights, and the path of training in it.

        Both are empty if the model was not trained here.
        """
        points = self.subject.points
        if points is None:
            return {}, {}
        plane = pca_plane([points[0], points[len(points) // 2], points[-1]])
        paths = {
            part: load_or_project(self.path(f"path_{part}.npz"), points, plane, target, name=part, force=self.force)
            for part, target in self.targets.items()
        }
        return self._surfaces("training", self.targets, plane, covering_ranges([*paths.values()])), paths

    def basin(self) -> BasinRadii:
        """The radii of the basin of the first part's loss along random lines."""
        line = random_line(self.subject.model, seed=self.seed, **self.choice.directions)
        return basin_radii(
            self.target, self.subject.model, directions=self.view.directions, rise=self.view.rise,
            reach=BEYOND * self._span("line", line, self.view.rise), seed=self.seed, path=self.path("basin.npz"),
            force=self.force, **self.choice.directions,
        )  # fmt: skip

    def layers(self) -> tuple[Sharpness, ...]:
        """The sharpness of each layer; none of a model that is moved itself."""
        if self.choice.spill is not None:
            return ()
        return load_or_measure_layers(
            self.path("layers.json"), self.target, self.subject.model, samples=self.view.draws, seed=self.seed,
            parameters=self.choice.parameters or None, force=self.force,
        )  # fmt: skip

    @cached_property
    def judgement(self) -> Faithfulness | None:
        """The comparison of the curvature in the random plane with that in all directions; None if it is skipped."""
        exact = not self.target.network.rounds  # second derivatives in half precision have hardly a digit, or overflow
        if not self.view.judged or self.choice.parameters or self.choice.spill is not None or not exact:
            return None
        samples = min(self.view.judged, self.target.size)
        return load_or_judge(
            self.path("judgement.json"), self.target, self.plane, samples=samples, seed=self.seed, force=self.force
        )

    def adapters(self) -> dict[str, tuple[Surface, float]]:
        """The loss of the first part over a plane of the weights and a plane of the adapters of the same network.

        The plane of the adapters is evaluated in two ranges: that of the plane of the weights, and the one at whose end
        the adapters change the weights as much as that plane does.

        Returns:
            Name -> surface, with |dW| / |W| of the adapted layers at the end of its first axis.
        """
        if self.choice.lora is None:
            return {}
        model = with_adapters(self.subject, self.choice, self.training, self.out, force=self.force)
        targets = dict([next(iter(self._targets(model).items()))])
        full = random_plane(model, seed=self.seed, ignore=("bias", "norm", *ADAPTERS))
        low = random_plane(model, seed=self.seed, parameters=ADAPTERS)
        span = self.ranges["alpha_range"][1]
        far = adapter_step(model, _moved(model, full, span))
        wide = _farther(lambda end: adapter_step(model, _moved(model, low, end)), far)
        steps = {}
        for name, plane, end in (("weights", full, span), ("adapters", low, span), ("adapters, as far", low, wide)):
            ranges = {"alpha_range": (-end, end), "beta_range": (-end, end)}
            [surface] = self._surfaces(plain_name(name), targets, plane, ranges).values()
            steps[name] = (surface, adapter_step(model, _moved(model, plane, end)))
        return steps

    @property
    def target(self) -> Objective:
        """The objective of the first part of the text."""
        return next(iter(self.targets.values()))

    def path(self, name: str) -> Path:
        """The path of the file ``name`` for this subject."""
        return self.out / f"{Path(name).stem}{self.subject.suffix}{Path(name).suffix}"

    def _targets(self, model: nn.Module) -> dict[str, Objective]:
        return {part: self.choice.objective_of(model, text) for part, text in self.subject.parts.items()}

    def _span(self, name: str, slice_: Slice, rise: float) -> float:
        """The coordinate along ``slice_`` where the first part's loss has risen by ``rise``; 1 if there is none."""
        recipe = {
            "slice": slice_.fingerprint,
            "rise": rise,
            "seed": self.seed,
            "data": self.target.samples.description["fingerprint"],
            **objective_identity(self.target),
        }

        def search() -> float:
            try:
                return float(find_span(self.target, slice_, rise=rise, seed=self.seed)["span"])
            except InputError as error:
                print(f"Note: the {name} extends from -1 to 1, because no range can be found: {error}", flush=True)
                return 1.0

        def read(path: Path) -> tuple[float, dict[str, Any]]:
            content = read_json(path, {"recipe": dict, "span": float}, "range", "find it again")
            return content["span"], content["recipe"]

        def write(path: Path, span: float) -> None:
            write_sealed(path, {"recipe": recipe, "span": span})

        return cached(self.path(f"range_{name}.json"), recipe, search, read=read, write=write, force=self.force)

    def _surfaces(
        self, name: str, targets: dict[str, Objective], plane: Plane, ranges: dict[str, Any]
    ) -> dict[str, Surface]:
        return {
            part: load_or_evaluate(
                self._surface_path(name, part), target, plane, force=self.force,
                resolution=self.view.resolution, tolerance=self.view.tolerance, **ranges,
            )
            for part, target in targets.items()
        }  # fmt: skip

    def _surface_path(self, name: str, part: str) -> Path:
        return self.path(f"surface_{name}_{part}.npz")


def _moved(model: nn.Module, plane: Plane, end: float) -> nn.Module:
    """A copy of ``model`` at the coordinates (end, 0) of ``plane``, which may move only some of the parameters."""
    return model_at(model, {**parameters_of(model), **plane(end, 0.0)})


def _farther(step: Callable[[float], float], goal: float) -> float:
    """The argument at which the increasing function ``step`` reaches ``goal``, to three digits, by bisection."""
    low, high = 0.0, 1.0
    while step(high) < goal:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if step(middle) < goal else (low, middle)
    return float(f"{high:.3g}")
