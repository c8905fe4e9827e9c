"""The networks that a study trains, with their data and settings."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

from landscape.checks import check_choice, check_count, check_number, check_seed
from landscape.datasets.synthetic import PointRecipe
from landscape.errors import InputError
from landscape.models import VARIANTS
from landscape.training.loop import Training

__all__ = ["Matrix", "RunPlan"]

MOST_POINTS = 10**7


@dataclass(frozen=True)
class RunPlan:
    """One network that the study trains."""

    points: PointRecipe
    architecture: str
    activation: str
    training: Training
    snapshots: tuple[int, ...]  # epochs at which a checkpoint is saved, from 0 to the last one

    @cached_property
    def place(self) -> str:
        """The folder of the run, relative to that of all experiments; its parent is the folder of the group."""
        return (
            f"dataset={self.points.kind}/arch={self.architecture}/act={self.activation}/"
            f"opt={self.training.optimizer}/seed={self.training.seed}"
        )

    @property
    def model_arguments(self) -> dict[str, Any]:
        classes = self.points.clusters if self.points.kind == "gaussians" else 2
        return {"activation": self.activation, "classes": classes}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The properties that runs must have in common to be trained together."""
        common = (self.training.epochs, self.training.batch_size, self.points.train, self.points.test)
        return (self.architecture, self.activation, self.model_arguments["classes"], *common)

    @property
    def recipe(self) -> dict[str, Any]:
        """All settings, as JSON types."""
        return {
            "dataset": self.points.name,
            "points": asdict(self.points),
            "architecture": {"name": self.architecture, **VARIANTS[self.architecture]},
            "activation": self.activation,
            "training": {**asdict(self.training), "milestones": list(self.training.milestones)},
            "snapshots": list(self.snapshots),
        }

    def checkpoint(self, epoch: int) -> str:
        """The path of the checkpoint of an ``epoch``, relative to the folder of the run."""
        name = {0: "init", self.training.epochs: "final"}.get(epoch, f"mid_{epoch:03d}")
        return f"checkpoints/{name}.pth"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Every architecture with every activation, optimizer, data set and seed."""

    architectures: tuple[str, ...] = tuple(VARIANTS)
    """Architectures, see the list of their hidden layers and units.
    shallow-small is 1 x 50, shallow-wide 1 x 500, medium 2 x 100, deep-small 4 x 100, and deep-large 4 x 250."""
    activations: tuple[Literal["relu", "tanh", "gelu"], ...] = ("relu", "tanh", "gelu")
    """Activation functions."""
    optimizers: tuple[Literal["sgd", "adam"], ...] = ("sgd", "adam")
    """Optimizers: SGD with momentum, and Adam."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the initial weights and of the order of samples; runs that differ only in the seed form a group."""
    include_circles: bool = False
    """Train on the data set circles as well as on moons."""
    include_xor: bool = False
    """Train on the data set xor as well."""
    include_gaussians: bool = False
    """Train on the data set gaussians (three clusters) as well."""
    n_train: int = 1000
    """Number of training points."""
    n_test: int = 1000
    """Number of test points."""
    noise: float = 0.2
    """Standard deviation of the noise that is added to every coordinate of a point."""
    data_seed: int = 0
    """Seed of the points, the same for all runs."""
    epochs: int = 100
    """Number of passes over the training points."""
    lr: float = 0.01
    """Initial learning rate of both optimizers."""
    batch_size: int = 64
    """Number of points per training step."""
    lr_step_size: int = 50
    """The learning rate is multiplied by gamma each time this number of epochs has passed."""
    gamma: float = 0.1
    """Factor by which the learning rate is multiplied."""
    momentum: float = 0.9
    """Momentum of SGD."""
    mid_checkpoints: int = 3
    """Number of evenly spaced checkpoints between the initial and the last one."""

    def plans(self) -> list[RunPlan]:
        """The plans of all runs; the seeds of a group follow each other.

        Raises:
            InputError: A name is unknown, a value is out of range, or a list is empty or has an entry twice.
        """
        self._check()
        return [
            RunPlan(points, architecture, activation, self._training(optimizer, seed), self._snapshots())
            for points, architecture, activation, optimizer, seed in product(
                self._points(), self.architectures, self.activations, self.optimizers, self.seeds
            )
        ]

    def _points(self) -> Iterator[PointRecipe]:
        included = {"moons": True, "circles": self.include_circles, "xor": self.include_xor}
        for kind, is_included in {**included, "gaussians": self.include_gaussians}.items():
            if is_included:
                points = PointRecipe(kind, self.n_train, self.n_test, self.noise, self.data_seed)
                points.check()
                yield points

    def _training(self, optimizer: Literal["sgd", "adam"], seed: int) -> Training:
        milestones = tuple(range(self.lr_step_size, self.epochs, self.lr_step_size))
        training = Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=seed,
            optimizer=optimizer,
            momentum=self.momentum if optimizer == "sgd" else 0.0,
            schedule="step" if milestones else "constant",
            milestones=milestones,
            gamma=self.gamma,
        )
        training.check()
        return training

    def _snapshots(self) -> tuple[int, ...]:
        parts = self.mid_checkpoints + 1
        return tuple(sorted({round(k * self.epochs / parts) for k in range(parts + 1)}))

    def _check(self) -> None:
        for what in ("architectures", "activations", "optimizers", "seeds"):
            values = getattr(self, what)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{what} are {list(values)}: name at least one, and none twice")
        for name in self.architectures:
            check_choice("architecture", name, VARIANTS)
        check_count("n_train", self.n_train, most=MOST_POINTS)
        check_count("n_test", self.n_test, most=MOST_POINTS)
        check_seed(self.data_seed, "data seed")
        check_number("gamma", self.gamma, above=0)
        if self.epochs < 1 or self.lr_step_size < 1 or self.mid_checkpoints < 0:
            raise InputError(
                f"epochs is {self.epochs}, lr step size {self.lr_step_size}, mid checkpoints {self.mid_checkpoints}: "
                "the first two must be at least 1, the last one 0"
            )
