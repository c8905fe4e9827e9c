"""What the comparison of normalisation layers trains and measures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from landscape.checks import check_count, check_number
from landscape.curvature.settings import CurvatureSettings
from landscape.errors import InputError
from landscape.models.normalization import NORMALIZATIONS, Normalization
from landscape.training.loop import Training

__all__ = ["NormalizationStudy"]

MOST = 1_000_000  # samples, steps or draws


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
    curvature: CurvatureSettings = CurvatureSettings(  # noqa: RUF009 (frozen)
        k=3, tol=1e-3, relative_error=0.05, max_products=60, probes=2, steps=30
    )
    """Eigenvalues, trace and spectral density of the Hessian."""
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
        self.curvature.check()
        for name in ("samples", "curvature_samples", "ascent_steps"):
            check_count(name, getattr(self, name), most=MOST)
        check_count("draws", self.draws, 2, MOST)
        check_count("subset", self.subset)
        check_number("target_loss", self.target_loss, above=0)
        if self.subset is not None and max(self.samples, self.curvature_samples) > self.subset:
            raise InputError(
                f"samples is {self.samples} and curvature_samples {self.curvature_samples}, but the subset has "
                f"{self.subset}; take fewer of them, or a larger subset"
            )
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
            f"of BatchNorm; {self.curvature.k} eigenvalues, at most {self.curvature.max_products} products for the "
            f"trace, {self.draws} pairs of draws, {self.ascent_steps} steps of a search",
        }

    def networks(self) -> Iterator[tuple[Normalization, int]]:
        """(normalisation, seed) of every network, in the order in which they are trained."""
        return ((norm, seed) for seed in self.seeds for norm in self.norms)

    def name(self, norm: str, seed: int) -> str:
        """What the files of one network are called."""
        return norm if seed == self.seeds[0] else f"{norm}_seed{seed}"
