"""What the comparison of normalisation layers trains and measures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from landscape.checks import check_count, check_number
from landscape.errors import InputError
from landscape.models.normalization import NORMALIZATIONS, Normalization
from landscape.sharpness import MEASURES
from landscape.training.loop import Training

__all__ = ["NormalizationStudy"]

MOST = 1_000_000  # samples, products, probes, steps or draws


@dataclass(frozen=True, kw_only=True)
class NormalizationStudy:
    """Which networks are trained and how, and what is measured of them."""

    norms: tuple[Normalization, ...] = NORMALIZATIONS
    """Normalisation layers to compare."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of initial weights, order of samples and dropout: one network each; two or more give error bars."""
    dataset: str = "mnist"
    """Data set: mnist, fashion-mnist, mnist-5k, digits, ... (see train_classifier.py)."""
    subset: int | None = 10_000
    """Take the first SUBSET training samples only (None: all); the test set stays whole."""
    validation: float = 0.1
    """Share of every class of them that is kept for validation."""
    epochs: int = 3
    """Passes over the training samples."""
    train_batch_size: int = 64
    """Samples per step."""
    lr: float = 0.02
    """Learning rate of SGD, the same for every normalisation."""
    momentum: float = 0.9
    """Momentum of SGD."""
    target_loss: float = 0.3
    """Training speed: steps until the mean loss of 20 training batches in a row is no higher."""
    samples: int = 500
    """Training samples of the landscapes, the same for every network."""
    curvature_samples: int = 200
    """Training samples of eigenvalues, trace, density and sharpness, the same for every network."""
    eigenvalues: int = 3
    """Largest eigenvalues of the Hessian."""
    products: int = 60
    """Most Hessian-vector products of the trace; it ends earlier at a standard error of 5 %."""
    probes: int = 2
    """Random vectors of the spectral density."""
    lanczos_steps: int = 30
    """Lanczos steps from each of them."""
    draws: int = 10
    """Pairs of random perturbations of the averages."""
    ascent_steps: int = 10
    """Steps of the searches for a maximum, each from one start."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
        for what in ("norms", "seeds"):
            values = getattr(self, what)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{what} are {list(values)}: name at least one, and none twice")
        if unknown := [name for name in self.norms if name not in NORMALIZATIONS]:
            raise InputError(f"unknown norm {unknown[0]!r}; use one of {', '.join(NORMALIZATIONS)}")
        if not 0 < self.validation < 1:
            raise InputError(f"validation is {self.validation}; it must be above 0 and below 1")
        counts = ("samples", "curvature_samples", "eigenvalues", "probes", "lanczos_steps", "ascent_steps")
        if low := [name for name in counts if getattr(self, name) < 1]:
            raise InputError(f"{low[0]} is {getattr(self, low[0])}; it must be at least 1")
        for name in (*counts, "draws", "products"):
            check_count(name, getattr(self, name), most=MOST)
        check_count("subset", self.subset)
        check_number("target_loss", self.target_loss, above=0)
        if self.subset is not None and max(self.samples, self.curvature_samples) > self.subset:
            raise InputError(
                f"samples is {self.samples} and curvature_samples {self.curvature_samples}, but the subset has "
                f"{self.subset}; take fewer of them, or a larger subset"
            )
        if self.draws < 2 or self.products < 30:
            raise InputError(f"draws is {self.draws} and products {self.products}; they must be at least 2 and 30")
        for seed in self.seeds:
            self.training(seed).check()

    def training(self, seed: int) -> Training:
        """How a network is trained from ``seed``."""
        return Training(
            epochs=self.epochs, batch_size=self.train_batch_size, lr=self.lr, momentum=self.momentum, seed=seed
        )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """How the networks were trained and what they were measured on, for a report."""
        training = asdict(self.training(self.seeds[0]))
        kept = ("optimizer", "lr", "momentum", "batch_size", "epochs")
        return {
            "network": "NormCNN, the same initial weights, samples and order under every normalisation",
            "training": ", ".join(f"{name.replace('_', ' ')} {training[name]}" for name in kept),
            "seeds": ", ".join(map(str, self.seeds)),
            "landscape": f"{self.samples:,} training samples",
            "curvature and sharpness": f"{self.curvature_samples:,} training samples, dropout off, trained statistics "
            f"of BatchNorm; {self.eigenvalues} eigenvalues, at most {self.products} products for the trace, "
            f"{self.draws} pairs of draws, {self.ascent_steps} steps of a search",
        }

    def networks(self) -> Iterator[tuple[Normalization, int]]:
        """(normalisation, seed) of every network, in the order in which they are trained."""
        return ((norm, seed) for seed in self.seeds for norm in self.norms)

    def name(self, norm: str, seed: int) -> str:
        """What the files of one network are called."""
        return norm if seed == self.seeds[0] else f"{norm}_seed{seed}"

    def sharpness_options(self, measure: str) -> dict[str, Any]:
        """The arguments of `sharpness` for ``measure``."""
        taken = MEASURES[measure]
        starts_or_draws = self.draws if taken.steps is None else 1
        return {
            "samples": None if taken.samples is None else starts_or_draws,
            "steps": None if taken.steps is None else self.ascent_steps,
        }
