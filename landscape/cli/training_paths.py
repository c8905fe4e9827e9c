"""The training runs whose paths are drawn: trained and recorded now, or made of checkpoints."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from landscape.checks import check_count, check_distinct, check_folder, check_seed
from landscape.cli.file_names import own_suffix
from landscape.cli.messages import refuse_unused, wrote
from landscape.cli.settings import ChosenParameters, Evaluation, ModelOptions, check_training
from landscape.cli.sources import load_shared_data
from landscape.cli.stored_metrics import confirm_metrics
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.evaluation import load_or_evaluate
from landscape.models import build_model, check_model, import_own, is_own
from landscape.objective.objectives import Objective
from landscape.points import model_at
from landscape.results import Surface, Trajectory
from landscape.results.summary import path_summary
from landscape.slices.planes import Plane
from landscape.slices.random_slices import random_plane
from landscape.storage.files import plain_name
from landscape.training.checkpoints import Checkpoint, load_checkpoint
from landscape.training.loop import Training
from landscape.trajectories import (
    RecordedPoints,
    checkpoint_notes,
    load_or_project,
    load_or_record,
    record_checkpoints,
    recorded_owner,
    run_notes,
)

__all__ = ["PathSource", "RecordedPaths", "record_paths"]


@dataclass(frozen=True)
class PathSource:
    """Which runs are drawn: several may share one plane."""

    model: str | None = None
    """Model by name, as for train_classifier.py; None is simplenet, or what the checkpoints name. The file of
    FILE.py:FUNCTION is run."""
    dataset: str = "auto"
    """Data set: mnist, fashion-mnist, cifar10, mnist-5k, digits, folder:PATH, or auto (all of MNIST if it is there or
    can be downloaded, otherwise mnist-5k, with a warning)."""
    data_dir: Path = Path("data")
    """Folder of the data sets, also for downloads."""
    limit: int | None = 1000
    """Train on the first LIMIT samples only; None is all of them."""
    seeds: tuple[int, ...] = ()
    """One run for each seed."""
    optimizers: tuple[Literal["sgd", "adam"], ...] = ()
    """One run for each optimizer."""
    lrs: tuple[float, ...] = ()
    """Learning rates, one run for each."""
    checkpoints: tuple[Path, ...] = ()
    """Draw these instead of training: three or more; those of one folder are one run."""
    accept_mismatch: bool = False
    """Continue where the last checkpoint does not reach the test loss and accuracy that are stored in it."""

    def check(self, training: Training, usual: Training, network: ModelOptions) -> None:
        """Refuse runs that cannot be trained or are too short for a plane, and options without effect.

        ``usual`` is how the runs are trained unless options say otherwise.
        """
        check_seed(training.seed)
        check_folder("data_dir", self.data_dir)
        if self.checkpoints:
            unused = {name: (getattr(self, name), getattr(PathSource, name)) for name in ("limit", "dataset")}
            unused |= {name: (getattr(self, name), ()) for name in ("seeds", "optimizers", "lrs")}
            groups = ((replace(training, seed=usual.seed), usual), (network, ModelOptions()))
            refuse_unused("with --checkpoints", *groups, **unused)
            return
        refuse_unused("without --checkpoints", accept_mismatch=(self.accept_mismatch, False))
        for name in ("seeds", "optimizers", "lrs"):
            check_distinct(name, getattr(self, name))
        check_count("limit", self.limit)
        points = (training.epochs + 1) * len(self.variants(training))
        if points < 3:
            raise InputError(f"epochs is {training.epochs}, which gives {points} points; a plane takes at least three")
        check_training(training, usual)
        check_model(self.model or "simplenet", **network.arguments)

    def variants(self, training: Training) -> dict[str, Training]:
        """One run for every combination of seeds, optimizers and learning rates, named by what differs."""
        lists: dict[str, tuple[Any, ...]] = {"seed": self.seeds, "optimizer": self.optimizers, "lr": self.lrs}
        chosen = {key: values or (getattr(training, key),) for key, values in lists.items()}
        differ = [key for key, values in chosen.items() if len(values) > 1] or ["seed"]
        runs = {}
        for values in itertools.product(*chosen.values()):
            options = dict(zip(chosen, values, strict=True))
            run = replace(training, **options)
            run.check()  # of all, before the first one is trained
            runs[", ".join(f"{key} {options[key]}" for key in differ)] = run
        return runs


@dataclass(frozen=True)
class RecordedPaths:
    """The points of all runs, what they are evaluated on, and the names of their files."""

    out: Path
    runs: dict[str, RecordedPoints]
    network: nn.Module  # its parameters are those of no particular point
    data: Data  # that the runs were trained on
    suffix: str  # of the names of all files
    remarks: dict[str, str] = field(default_factory=dict)

    def file(self, name: str, ending: str) -> Path:
        """Where the file ``name`` of these runs is."""
        return self.out / f"{name}{self.suffix}{ending}"

    def projected(self, plane: Plane, target: Objective, *, force: bool) -> list[Trajectory]:
        """The path of every run as seen from ``plane``, kept or computed now."""
        paths = []
        for name, points in self.runs.items():
            path = self.file(f"trajectory_{plain_name(name)}", ".npz")
            paths.append(load_or_project(path, points, plane, target, name=name, force=force))
            wrote(path)
            print(path_summary(paths[-1]), flush=True)
        return paths

    def end_surfaces(
        self, target: Objective, seed: int, parameters: Sequence[str] | None, **options: Any
    ) -> dict[str, Surface]:
        """The loss over a random plane through the first point of the first run, and over one through its last.

        Only ``parameters`` move, see `random_plane`.
        """
        name, points = next(iter(self.runs.items()))
        surfaces = {}
        for label, at in (("before", 0), ("after", -1)):
            path, model = self.file(f"surface_{label}", ".npz"), model_at(self.network, points[at])
            plane = random_plane(model, seed=seed, parameters=parameters)
            surfaces[f"{label} training ({name})"] = load_or_evaluate(path, target, plane, **options)
            wrote(path)
        return surfaces


def record_paths(
    out: Path,
    source: PathSource,
    training: Training,
    network: ModelOptions,
    *,
    chosen: ChosenParameters,
    device: str,
    force: bool,
) -> RecordedPaths:
    """The runs of ``source``, trained where no points of the same run are in ``out`` yet.

    Raises:
        InputError: their network has no parameters that are ``chosen``.
    """
    if source.checkpoints:
        return _of_checkpoints(out, source, chosen, device, force)
    model = source.model or "simplenet"
    if is_own(model):  # before the data are loaded
        import_own(model, **network.arguments)
    train = load_dataset(source.dataset, split="train", data_dir=source.data_dir, limit=source.limit)
    test = load_dataset(train.name, split="test", data_dir=source.data_dir)
    arguments = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes), **network.arguments}
    built, variants = build_model(model, **arguments), source.variants(training)
    chosen.check_networks(built)
    notes = {name: run_notes(model, arguments, train, test, run, device=device) for name, run in variants.items()}
    suffix = _suffix(out, notes, plain_name(f"{model}_{train.name}"), force)
    runs = {}
    for name, run in variants.items():
        print(f"{name}: {model} on {train.name}, {len(train):,} samples", flush=True)
        path = _points_path(out, name, suffix)
        runs[name] = load_or_record(path, model, arguments, train, test, run, device=device, force=force)
        wrote(path)
    return RecordedPaths(out, runs, built, train, suffix)


def _of_checkpoints(out: Path, source: PathSource, chosen: ChosenParameters, device: str, force: bool) -> RecordedPaths:
    """Runs whose points are the weights of checkpoints, in the order of their epochs."""
    folders: dict[Path, list[Checkpoint]] = {}
    for path in source.checkpoints:
        if path.name != "state.pth":  # of train_classifier.py, no checkpoint; runs/NAME/*.pth matches it
            folders.setdefault(path.parent, []).append(load_checkpoint(path, model=source.model))
    names = [folder.name or "." for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    checkpoints = dict(zip(names, folders.values(), strict=True))
    loaded = [checkpoint for run in checkpoints.values() for checkpoint in run]
    if len(loaded) < 3:
        raise InputError(f"a path takes at least three checkpoints, not {len(loaded)}")
    chosen.check_networks(loaded[-1].model)
    data = _one_of(load_shared_data(loaded, "train", source.data_dir, seed=0))
    evaluation = Evaluation(device=device, data_dir=source.data_dir)
    remarks = confirm_metrics(loaded[-1], evaluation, accept=source.accept_mismatch)
    notes = {name: checkpoint_notes(run) for name, run in checkpoints.items()}
    suffix = _suffix(out, notes, plain_name("_".join(checkpoints))[:60], force)
    runs = {}
    for name, run in checkpoints.items():
        path = _points_path(out, name, suffix)
        runs[name] = record_checkpoints(path, run)
        wrote(path)
    return RecordedPaths(out, runs, loaded[-1].model, data, suffix, remarks)


def _one_of(data: Sequence[Data]) -> Data:
    if len({samples.fingerprint for samples in data}) > 1:
        raise InputError("the checkpoints were trained on different data, so they share no loss; give those of one")
    return data[0]


def _suffix(out: Path, notes: dict[str, dict[str, Any]], label: str, force: bool) -> str:
    """What the names of all files of runs with these ``notes`` end with: nothing, where others do not have that."""
    key = hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()[:8]
    return own_suffix(
        ["", f"_{label}", f"_{label}_{key}"],
        lambda suffix: recorded_owner({_points_path(out, name, suffix): run for name, run in notes.items()}, key),
        key,
        force=force,
    )


def _points_path(out: Path, name: str, suffix: str) -> Path:
    return out / f"trajectory_{plain_name(name)}{suffix}.points"
