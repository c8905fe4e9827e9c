"""Options that several command lines share; the field docstrings are the help text."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import nn

from landscape.checks import (
    MOST_LEVELS,
    check_choice,
    check_count,
    check_distinct,
    check_folder,
    check_number,
    check_seed,
)
from landscape.cli.figure_files import FigureFiles
from landscape.cli.messages import note_unused, refuse_unused
from landscape.cli.own_data import OwnData, SampleSet, check_targets
from landscape.errors import InputError
from landscape.evaluation.refinement.tolerance import check_tolerance
from landscape.models.own import check_own, is_own, own_function
from landscape.objective.objectives import Objective, objective
from landscape.objective.settings import LOSS_NAMES
from landscape.plotting.planes import check_style
from landscape.runtime.devices import select_device
from landscape.sharpness import MEASURES
from landscape.slices.chosen import chosen_parameters
from landscape.storage.reading import is_there
from landscape.training.loop import Training

__all__ = [
    "DEFAULT_CHECKPOINT",
    "ChosenParameters",
    "Drawing",
    "Evaluation",
    "JudgedPlane",
    "ModelOptions",
    "PlaneChoice",
    "Subject",
    "check_all",
    "check_levels",
    "check_measures",
    "check_own_files",
    "check_resolution",
    "check_stored",
    "check_training",
]

DEFAULT_CHECKPOINT = Path("mnist_linear_model.pth")
CROSS_ENTROPY = "cross_entropy"
MOST_POINTS = 10**8  # of a grid: arrays of 0.8 GB each


class Checked(Protocol):
    """Settings that can check their values."""

    def check(self) -> None: ...


@dataclass(frozen=True)
class Subject:
    """The trained network."""

    checkpoint: Path = DEFAULT_CHECKPOINT
    """Trained model (.pth); the default one is trained first if it is missing."""
    state: Path | None = None
    """Weights of your own network instead, with --model and --data; a checkpoint of these scripts needs neither.
    The file is a state dict, a Lightning .ckpt, safetensors, or an archive of torch.export."""
    model: str | None = None
    """FILE.py:FUNCTION that builds the network, if it is your own; THAT FILE IS RUN."""
    data: str | None = None
    """FILE.py:FUNCTION that returns (training data, test data) of your own; THAT FILE IS RUN.
    The data are tensors, data sets or DataLoaders, normalised as the network needs them."""
    accept_mismatch: bool = False
    """Continue even if the network does not have the test loss and accuracy that are stored in its checkpoint."""

    def check(self) -> None:
        """Raise InputError for weights without a network, and for files that do not exist; no file is run."""
        if self.state is not None:
            refuse_unused("with --state", checkpoint=(self.checkpoint, DEFAULT_CHECKPOINT))
        check_own_files(self.model, self.data)
        if self.state is not None:
            check_stored(self.state)
        elif self.checkpoint != DEFAULT_CHECKPOINT:
            check_stored(self.checkpoint)
        if self.data is not None:
            refuse_unused("with --data", accept_mismatch=(self.accept_mismatch, False))


@dataclass(frozen=True)
class ChosenParameters:
    """The parameters that a script moves or differentiates."""

    parameters: tuple[str, ...] = ()
    """Only these parameters, instead of all: patterns of names such as "layer3.*", or trainable.
    attention, mlp, embedding, head and norm choose layers of that kind, where the names of a network tell them."""

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The argument ``parameters`` of the library; None for all."""
        return self.parameters or None

    def chosen_in_points(self, network: nn.Module) -> tuple[str, ...] | None:
        """The same for points of ``network``, which do not tell what is trainable: by name."""
        if "trainable" not in self.parameters:
            return self.chosen
        patterns = (entry for entry in self.parameters if entry != "trainable")
        return *patterns, *chosen_parameters(network, "trainable")

    def check_networks(self, *networks: nn.Module) -> None:
        """Raise InputError if nothing of one of the ``networks`` is chosen."""
        for network in networks if self.parameters else ():
            chosen_parameters(network, self.parameters)


@dataclass(frozen=True)
class JudgedPlane(ChosenParameters):
    """A plane that is compared with the whole parameter space."""

    faithfulness: Literal["auto", "always", "never"] = "auto"
    """Compare the curvature in the plane with that in all directions, on up to 500 random samples.
    auto does so where it takes a small part of the time of the surface."""


@dataclass(frozen=True)
class PlaneChoice(JudgedPlane):
    """The plane, and the part of it that is evaluated."""

    seed: int = 42
    """Seed of the two random directions (and of a random choice of samples)."""
    normalize: Literal["filter", "layer", "model", "none"] = "filter"
    """Parts in which directions get the norms of the weights: every filter, every layer, the whole model, or none."""
    ignore: tuple[str, ...] = ("bias", "norm")
    """Parameters that are not moved: bias, norm (normalisation layers), or patterns of parameter names."""
    orthogonal: bool = False
    """Make the directions orthogonal within every filter."""
    distribution: Literal["gaussian", "uniform", "rademacher"] = "gaussian"
    """Distribution of the entries of the directions before normalisation."""
    alpha_range: tuple[float, float] = (-1.0, 1.0)
    """First and last coordinate along the first direction."""
    beta_range: tuple[float, float] = (-1.0, 1.0)
    """First and last coordinate along the second direction."""
    resolution: int | tuple[int, int] = 51
    """Grid points along both axes, or along each."""
    range: Literal["auto"] | None = None
    """auto: both ranges are -s to s, where s is the span over which the loss rises by --rise."""
    rise: float = 1.0
    """Rise of the mean loss for --range auto, in units of the loss."""
    zoom: float = 1.0
    """Factor of both ranges: 0.01 magnifies a hundred times."""

    def check(self) -> None:
        """Raise InputError if a value is out of range; the message says what to change."""
        check_seed(self.seed)
        check_resolution(self.resolution)
        check_number("zoom", self.zoom, above=0)
        if not 0 < self.rise < math.inf:
            raise InputError(f"rise must be a positive number, not {self.rise}")
        for name in ("alpha_range", "beta_range"):
            low, high = (self.zoom * end for end in getattr(self, name))
            if not (math.isfinite(high - low) and low < high):
                raise InputError(
                    f"{name} must go from a smaller to a larger finite number, not from {low:g} to {high:g}"
                )
        default = PlaneChoice()
        if self.range is None:
            refuse_unused("without --range auto", rise=(self.rise, default.rise))
        else:
            ranges = {name: (getattr(self, name), getattr(default, name)) for name in ("alpha_range", "beta_range")}
            refuse_unused("beside --range auto, which finds both ranges", **ranges)

    @property
    def directions(self) -> dict[str, Any]:
        """The arguments of `random_plane`."""
        normalize = None if self.normalize == "none" else self.normalize
        return {
            "seed": self.seed,
            "normalize": normalize,
            "ignore": self.ignore,
            "parameters": self.chosen,
            "orthogonal": self.orthogonal,
            "distribution": self.distribution,
        }

    def pairs(self, count: int) -> list["PlaneChoice"]:
        """``count`` choices with consecutive seeds, beginning with this one's."""
        return [replace(self, seed=self.seed + k) for k in range(count)]

    @property
    def grid(self) -> dict[str, Any]:
        """The grid arguments of `evaluate`."""
        ranges = {"alpha_range": self.alpha_range, "beta_range": self.beta_range}
        zoomed = {name: (self.zoom * low, self.zoom * high) for name, (low, high) in ranges.items()}
        return {**zoomed, "resolution": self.resolution}


@dataclass(frozen=True)
class Evaluation:
    """The computation of the losses."""

    method: Literal["auto", "affine", "prefix", "direct"] = "auto"
    """Evaluation method; auto chooses the fastest that is exact for the network."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile the forward pass: auto does so where it is known, or likely, to save more time than it takes."""
    tolerance: float | Literal["noise"] | None = None
    """Interpolate some points, with errors below this share of the loss, such as 0.01.
    noise: with errors below a third of the standard error of the loss."""
    batch_norm: Literal["running", "batch", "recalibrate"] | None = None
    """Statistics of BatchNorm layers: running (those of training; default), batch, or recalibrate.
    batch takes those of each batch; recalibrate estimates them from all samples at every point."""
    precision: Literal["full", "tf32", "bf16"] = "full"
    """Forward passes in float32 (full), or faster in tf32 (CUDA) or bf16, whose error is measured."""
    batch_size: int | None = None
    """Samples of a mini-batch, or of each batch for --batch-norm batch (None: 256); otherwise chosen by timing."""
    loss: str = CROSS_ENTROPY
    """cross_entropy, mse, language_model, model (the loss that the network returns), or FILE.py:FUNCTION.
    That function takes (model, batch), see `objective`; THAT FILE IS RUN."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu."""
    data_dir: Path = Path("data")
    """Folder of the data sets, also for downloads."""
    force: bool = False
    """Compute again even if the same result is stored."""

    def check(self) -> None:
        """Raise InputError if a value is out of range; the message says what to change."""
        check_tolerance(self.tolerance)
        check_count("batch_size", self.batch_size)
        device = select_device(self.device)
        if self.precision == "tf32" and device.type != "cuda":
            raise InputError(f"precision is tf32, which the device {device} does not have; use full, or bf16")
        check_folder("data_dir", self.data_dir)
        if is_own(self.loss):
            check_own(self.loss, "loss")
        elif self.loss not in LOSS_NAMES:
            raise InputError(f"unknown loss {self.loss!r}; use one of {', '.join(LOSS_NAMES)}, FILE.py:FUNCTION")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `objective`, the loss by its name and only if it is not the usual one."""
        names = ("batch_norm", "precision", "batch_size", "device")
        other = {} if self.loss == CROSS_ENTROPY else {"loss": self.loss}  # none in the files of earlier versions
        return {name: getattr(self, name) for name in names} | other

    def objective_of(self, model: nn.Module, data: SampleSet) -> Objective:
        """The loss of ``model`` on ``data``.

        Raises:
            InputError: they do not fit each other, or the code of a loss in the user's file raises an error.
        """
        arguments = self.arguments
        if is_own(self.loss):
            arguments["loss"] = own_function(self.loss, "loss")
        if not isinstance(data, OwnData):
            return objective(model, data, **arguments)
        check_targets(data, self.loss)
        try:
            return objective(model, data.samples, **arguments)
        except InputError as error:
            raise InputError(f"with the {data.split} data of {data.name}: {error}") from error

    @property
    def ways(self) -> dict[str, Any]:
        """The arguments of `evaluate` that say how the points are computed."""
        return {name: getattr(self, name) for name in ("method", "compile", "tolerance")}

    def of_minibatches(self) -> "Evaluation":
        """The settings for single mini-batches: by default those of a training step."""
        return replace(self, batch_norm=self.batch_norm or "batch", batch_size=self.batch_size or 256)


@dataclass(frozen=True)
class Drawing(FigureFiles):
    """The figures."""

    levels: int = 30
    """Number of bands of the contours."""
    log_scale: bool = False
    """Colours and heights on a logarithmic scale."""
    figures: bool = True
    """Draw figures; with --no-figures results are only computed."""
    html: bool = False
    """Also write an interactive page of the surfaces for the browser, which works offline."""

    def check(self) -> None:
        """Raise InputError if nothing can be drawn with these settings; the message says what to change."""
        super().check()
        check_levels(self.levels)
        if not self.figures:
            names = ["levels", *(field.name for field in fields(FigureFiles))]
            names += [] if self.html else ["log_scale"]  # the page has a scale, too
            unused = {name: (getattr(self, name), getattr(Drawing, name)) for name in names}
            note_unused("with --no-figures", **unused)


@dataclass(frozen=True)
class ModelOptions:
    """Options of the network; an option that the model does not have is refused."""

    activation: Literal["relu", "sigmoid", "tanh", "gelu"] | None = None
    """Activation function of resnet, vgg, simplenet and mlp; None means relu."""
    normalization: Literal["batch", "layer", "group", "rms", "dyt", "piecewise", "none"] | None = None
    """Normalisation layers of resnet, vgg and norm-cnn; None means batch."""
    shortcuts: bool = True
    """Shortcuts of resnet; --no-shortcuts removes them."""
    hidden: int | None = None
    """Hidden units of simplenet; None means 20."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `build_model` that differ from the model's own."""
        arguments = {key: value for key, value in asdict(self).items() if value is not None}
        if self.shortcuts:
            del arguments["shortcuts"]
        return arguments


def check_training(training: Training, usual: Training) -> None:
    """Raise InputError for a setting that is out of range or has no effect; ``usual`` holds the defaults."""
    training.check()
    if not training.milestones:
        refuse_unused("without --milestones", gamma=(training.gamma, usual.gamma))
    if training.optimizer == "adam":
        note_unused("with --optimizer adam", momentum=(training.momentum, usual.momentum))


def check_all(*settings: Checked) -> None:
    """Check the values of all ``settings``; the first one out of range raises InputError."""
    for one in settings:
        one.check()


def check_resolution(resolution: int | tuple[int, int]) -> None:
    """Raise InputError unless ``resolution``, the number of grid points along both or each of the axes, is valid."""
    sizes = (resolution, resolution) if isinstance(resolution, int) else resolution
    if min(sizes) < 2:
        raise InputError(f"resolution must be at least 2 points an axis, not {min(sizes)}")
    if math.prod(sizes) > MOST_POINTS:
        raise InputError(f"resolution is {resolution}; a grid may have {MOST_POINTS:,} points at most")


def check_own_files(model: str | None, data: str | None) -> None:
    """Raise InputError for a FILE.py:FUNCTION that cannot be run; none is run."""
    if model is not None and is_own(model):
        check_own(model)
    if data is not None:
        check_own(data, "data")


def check_stored(*paths: Path) -> None:
    """Raise InputError for files of weights that do not exist, before anything of the user's is run."""
    for path in paths:
        if not is_there(path):
            raise InputError(f"{path} does not exist; give the file of trained weights")


def check_levels(levels: int) -> None:
    """Raise InputError if contours with so many bands cannot be drawn."""
    check_style("contour", levels)
    check_count("levels", levels, most=MOST_LEVELS)


def check_measures(names: tuple[str, ...]) -> None:
    """Raise InputError for a measure of sharpness that is unknown or named twice."""
    for name in names:
        check_choice("measure", name, MEASURES)
    check_distinct("measures", names)
