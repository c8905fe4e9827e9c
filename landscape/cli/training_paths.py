"""The training runs whose paths are drawn: trained and recorded now, or read from checkpoints."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from landscape.checks import check_count, check_distinct, check_folder, check_seed
from landscape.cli.file_names import own_suffix
from landscape.cli.messages import refuse_unused, wrote
from landscape.cli.own_data import SampleSet, load_own_data
from landscape.cli.settings import (
    ChosenParameters,
    Evaluation,
    ModelOptions,
    check_own_files,
    check_stored,
    check_training,
)
from landscape.cli.sources import load_network, load_shared_data
from landscape.cli.stored_metrics import confirm_metrics
from landscape.datasets import load_dataset
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
from landscape.training.checkpoints import Checkpoint
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
from landscape.trajectories.point_files import Unit

__all__ = ["PathSource", "RecordedPaths", "record_paths"]


@dataclass(frozen=True)
class PathSource:
    """The training runs to draw; several runs share one plane."""

    model: str | None = None
    """Name of the model, as for train_classifier.py, or FILE.py:FUNCTION; THAT FILE IS RUN.
    None stands for simplenet, or for the model of the checkpoints."""
    dataset: str = "auto"
    """Data set: mnist, fashion-mnist, cifar10, mnist-5k, digits, folder:PATH, or auto.
    auto is all of MNIST if it is there or can be downloaded, otherwise mnist-5k, with a warning."""
    data_dir: Path = Path("data")
    """Folder of the data sets, also for downloads."""
    limit: int | None = 1000
    """Number of training samples; the first ones are taken. None takes all."""
    seeds: tuple[int, ...] = ()
    """Seeds; one run is trained for each."""
    optimizers: tuple[Literal["sgd", "adam"], ...] = ()
    """Optimizers; one run is trained for each."""
    lrs: tuple[float, ...] = ()
    """Learning rates; one run is trained for each."""
    checkpoints: tuple[Path, ...] = ()
    """Draw these checkpoints, at least three, instead of training; checkpoints in one folder are one run."""
    state: tuple[Path, ...] = ()
    """Draw weights of your own network instead, in the order of these files, with --model and --data.
    Checkpoints of these scripts need neither.
    A file is a state dict, a Lightning .ckpt, safetensors, or an archive of torch.export."""
    data: str | None = None
    """FILE.py:FUNCTION that returns (training data, test data) of your own, for --state or --checkpoints.
    THAT FILE IS RUN."""
    accept_mismatch: bool = False
    """Continue even if the last checkpoint does not have the test loss and accuracy that are stored in it."""

    def check(self, training: Training, usual: Training, network: ModelOptions) -> None:
        """Raise InputError for runs that cannot be trained or are too short for a plane, and for unused options.

        ``usual`` holds the defaults of ``training``.
        """
        check_seed(training.seed)
        check_folder("data_dir", self.data_dir)
        if self.is_stored:
            check_own_files(self.model, self.data)
            unused = {name: (getattr(self, name), getattr(PathSource, name)) for name in ("limit", "dataset")}
            unused |= {name: (getattr(self, name), ()) for name in ("seeds", "optimizers", "lrs")}
            groups = ((replace(training, seed=usual.seed), usual), (network, ModelOptions()))
            refuse_unused("with --checkpoints and --state", *groups, **unused)
            check_stored(*self.checkpoints, *self.state)
            return
        options = {"accept_mismatch": (self.accept_mismatch, False), "data": (self.data, None)}
        refuse_unused("without --checkpoints or --state", **options)
        for name in ("seeds", "optimizers", "lrs"):
            check_distinct(name, getattr(self, name))
        check_count("limit", self.limit)
        points = (training.epochs + 1) * len(self.variants(training))
        if points < 3:
            raise InputError(f"epochs is {training.epochs}, which gives {points} points; a plane takes at least three")
        check_training(training, usual)
        check_model(self.model or "simplenet", **network.arguments)

    @property
    def is_stored(self) -> bool:
        """Whether the runs are read from files of weights, so that nothing is trained."""
        return bool(self.checkpoints or self.state)

    def settings(self, training: Training, network: ModelOptions) -> dict[str, Any]:
        """The settings that have an effect on the runs, by name."""
        if not self.is_stored:
            return {**asdict(training), **asdict(network), **asdict(self)}
        files = {"checkpoints": self.checkpoints, "state": self.state}
        chosen = {name: " ".join(map(str, paths)) for name, paths in files.items() if paths}
        return {"seed": training.seed, "model": self.model, "data": self.data, "data_dir": self.data_dir, **chosen}

    def variants(self, training: Training) -> dict[str, Training]:
        """One run for each combination of seeds, optimizers and learning rates, named by the settings that differ."""
        lists: dict[str, tuple[Any, ...]] = {"seed": self.seeds, "optimizer": self.optimizers, "lr": self.lrs}
        chosen = {key: values or (getattr(training, key),) for key, values in lists.items()}
        differ = [key for key, values in chosen.items() if len(values) > 1] or ["seed"]
        runs = {}
        for values in itertools.product(*chosen.values()):
            options = dict(zip(chosen, values, strict=True))
            run = replace(training, **options)
            run.check()  # all runs are checked before the first one is trained
            runs[", ".join(f"{key} {options[key]}" for key in differ)] = run
        return runs


@dataclass(frozen=True)
class RecordedPaths:
    """The recorded points of all runs, with their network, their data and the names of their files."""

    out: Path  # folder of all files
    runs: dict[str, RecordedPoints]  # by the name of the run
    network: nn.Module  # the architecture; the values of its parameters do not matter
    data: SampleSet  # data on which the runs were trained
    suffix: str  # the end of the names of all files
    remarks: dict[str, str]  # entries for the metadata of results, among them the name of the network

    def file(self, name: str, ending: str) -> Path:
        """The path of the file ``name`` of these runs."""
        return self.out / f"{name}{self.suffix}{ending}"

    def projected(self, plane: Plane, target: Objective, *, force: bool) -> list[Trajectory]:
        """The path of every run, projected onto ``plane``; each is loaded, or computed and stored."""
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
        """The loss over random planes through the first and through the last point of the first run.

        Only ``parameters`` are moved, see `random_plane`.
        """
        name, points = next(iter(self.runs.items()))
        surfaces, remarks = {}, {"network": self.remarks["network"]}
        for label, at in (("before", 0), ("after", -1)):
            path, model = self.file(f"surface_{label}", ".npz"), model_at(self.network, points[at])
            plane = random_plane(model, seed=seed, parameters=parameters)
            surfaces[f"{label} training ({name})"] = load_or_evaluate(path, target, plane, remarks=remarks, **options)
            wrote(path)
        return surfaces


def record_paths(
    out: Path,
    source: PathSource,
    training: Training,
    network: ModelOptions,
    settings: str,
    *,
    chosen: ChosenParameters,
    device: str,
    force: bool,
) -> RecordedPaths:
    """The runs of ``source``; those whose points are not recorded in ``out`` are trained.

    The ``settings`` are printed once the data or the checkpoints are loaded, and before anything is trained.

    Raises:
        InputError: The network of the runs has no parameters that are ``chosen``.
    """
    if source.is_stored:
        return _of_checkpoints(out, source, settings, chosen, device, force)
    model = source.model or "simplenet"
    if is_own(model):  # before the data are loaded
        import_own(model, **network.arguments)
    train = load_dataset(source.dataset, split="train", data_dir=source.data_dir, limit=source.limit)
    test = load_dataset(train.name, split="test", data_dir=source.data_dir)
    arguments = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes), **network.arguments}
    built, variants = build_model(model, **arguments), source.variants(training)
    chosen.check_networks(built)
    print(f"Settings: {settings}", flush=True)
    notes = {name: run_notes(model, arguments, train, test, run, device=device) for name, run in variants.items()}
    suffix = _suffix(out, notes, plain_name(f"{model}_{train.name}"), force)
    runs = {}
    for name, run in variants.items():
        print(f"{name}: {model} on {train.name}, {len(train):,} samples", flush=True)
        path = _points_path(out, name, suffix)
        runs[name] = load_or_record(path, model, arguments, train, test, run, device=device, force=force)
        wrote(path)
    return RecordedPaths(out, runs, built, train, suffix, {"network": model})


def _of_checkpoints(
    out: Path, source: PathSource, settings: str, chosen: ChosenParameters, device: str, force: bool
) -> RecordedPaths:
    """The runs whose points are the weights of checkpoints, in the order of their epochs."""
    folders: dict[Path, list[Checkpoint]] = {}
    own = load_own_data(source.data) if source.data else None
    for path in source.checkpoints:
        if path.name != "state.pth":  # matched by runs/NAME/*.pth, but the state of training and not a checkpoint
            folders.setdefault(path.parent, []).append(load_network(path, source.model, own))
    for epoch, path in enumerate(source.state):
        trained = load_network(path, source.model, own)
        folders.setdefault(path.parent, []).append(replace(trained, metadata=trained.metadata | {"epoch": epoch}))
    checkpoints = dict(zip(_run_names(source, folders), folders.values(), strict=True))
    loaded = [checkpoint for run in checkpoints.values() for checkpoint in run]
    if len(loaded) < 3:
        raise InputError(f"a path takes at least three checkpoints, not {len(loaded)}")
    chosen.check_networks(loaded[-1].model)
    data = _one_of(load_shared_data(loaded, "train", source.data_dir, own, seed=0))
    print(f"Settings: {settings}", flush=True)
    evaluation = Evaluation(device=device, data_dir=source.data_dir)
    remarks = {} if own else confirm_metrics(loaded[-1], evaluation, accept=source.accept_mismatch)
    notes = {name: checkpoint_notes(run) for name, run in checkpoints.items()}
    unit: Unit = "file" if source.state else "epoch"
    suffix = _suffix(out, notes, plain_name("_".join(checkpoints))[:60], force)
    runs = {}
    for name, run in checkpoints.items():
        path = _points_path(out, name, suffix)
        runs[name] = record_checkpoints(path, run, unit)
        wrote(path)
    return RecordedPaths(out, runs, loaded[-1].model, data, suffix, {"network": loaded[-1].model_name, **remarks})


def _run_names(source: PathSource, folders: dict[Path, list[Checkpoint]]) -> list[str]:
    """Names of the runs: of their folders, or of the network where files of weights in one folder are the run."""
    if source.state and len(folders) == 1:
        return [plain_name(next(iter(folders.values()))[0].model_name)]
    names = [folder.resolve().name or "." for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _one_of(data: Sequence[SampleSet]) -> SampleSet:
    if len({samples.fingerprint for samples in data}) > 1:
        raise InputError(
            "the checkpoints were trained on different data, so they share no loss; give checkpoints of one data set"
        )
    return data[0]


def _suffix(out: Path, notes: dict[str, dict[str, Any]], label: str, force: bool) -> str:
    """The end of the names of all files of runs with these ``notes``; empty unless other runs have such files."""
    key = hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()[:8]
    return own_suffix(
        ["", f"_{label}", f"_{label}_{key}"],
        lambda suffix: recorded_owner({_points_path(out, name, suffix): run for name, run in notes.items()}, key),
        key,
        force=force,
    )


def _points_path(out: Path, name: str, suffix: str) -> Path:
    return out / f"trajectory_{plain_name(name)}{suffix}.points"
