"""The settings of the comparison of normalisation layers."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from landscape.checks import check_choice, check_count, check_number
from landscape.curvature.settings import CurvatureSettings
from landscape.errors import InputError
from landscape.models.normalization import NORMALIZATIONS, Normalization
from landscape.training.loop import Training

__all__ = ["NormalizationStudy"]

MOST = 1_000_000  # samples, steps or draws


@dataclass(frozen=True, kw_only=True)
class NormalizationStudy:
    """The networks to train, their training, and the measurements."""

    norms: tuple[Normalization, ...] = NORMALIZATIONS
    """Normalisation layers to compare."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the initial weights, the order of samples and dropout.
    One network is trained for each seed; two or more seeds give error bars."""
    dataset: str = "mnist"
    """Data set: mnist, fashion-mnist, mnist-5k, digits, ... (see train_classifier.py)."""
    subset: int | None = 10_000
    """Number of training samples; the first ones are taken. None takes all. The test set is always used whole."""
    validation: float = 0.1
    """Share of these training samples, in every class, that is held out for validation."""
    epochs: int = 3
    """Number of passes over the training samples."""
    train_batch_size: int = 64
    """Number of samples per training step."""
    lr: float = 0.02
    """Learning rate of SGD, the same for every normalisation."""
    momentum: float = 0.9
    """Momentum of SGD."""
    target_loss: float = 0.3
    """Training loss that defines the training speed.
    The report counts the steps until the mean loss of 20 successive batches is at most this value."""
    samples: int = 500
    """Number of training samples for the landscapes, the same for every network."""
    curvature_samples: int = 200
    """Number of training samples for eigenvalues, trace, density and sharpness, the same for every network."""
    curvature: CurvatureSettings = CurvatureSettings(  # noqa: RUF009 (frozen)
        k=3, tol=1e-3, relative_error=0.05, max_products=60, probes=2, steps=30
    )
    """Settings of eigenvalues, trace and spectral density of the Hessian."""
    draws: int = 10
    """Number of pairs of random perturbations for the measures of sharpness that are averages."""
    ascent_steps: int = 10
    """Number of ascent steps for the measures of sharpness that are maxima."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, if a value is out of range."""
        for what in ("norms", "seeds"):
            values = getattr(self, what)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{what} are {list(values)}: name at least one, and none twice")
        for norm in self.norms:
            check_choice("norm", norm, NORMALIZATIONS)
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
                f"{self.subset} samples; use fewer samples, or a larger subset"
            )
        for seed in self.seeds:
            self.training(seed).check()

    def training(self, seed: int) -> Training:
        """The settings of the training of the network with this ``seed``."""
        return Training(
            epochs=self.epochs, batch_size=self.train_batch_size, lr=self.lr, momentum=self.momentum, seed=seed
        )  # fmt: skip

    @property
    def facts(self) -> dict[str, str]:
        """The facts about training and measurements that a report states, by name."""
        training = asdict(self.training(self.seeds[0]))
        stated = ("optimizer", "lr", "momentum", "batch_size", "epochs")
        return {
            "network": "NormCNN, with the same initial weights, samples and order of samples for every normalisation",
            "training": ", ".join(f"{name.replace('_', ' ')} {training[name]}" for name in stated),
            "seeds": ", ".join(map(str, self.seeds)),
            "landscape": f"{self.samples:,} training samples",
            "curvature and sharpness": f"{self.curvature_samples:,} training samples, dropout off, trained statistics "
            f"of BatchNorm; {self.curvature.k} eigenvalues, at most {self.curvature.max_products} products for the "
            f"trace, {self.draws} pairs of draws, {self.ascent_steps} steps of a search",
        }

    def networks(self) -> Iterator[tuple[Normalization, int]]:
        """(normalisation, seed) of every network, in the order in which they are trained."""
        return ((norm, seed) for seed in self.seeds for norm in self.norms)

    def name(self, norm: Normalization, seed: int) -> str:
        """The name of one network in file names."""
        return norm if seed == self.seeds[0] else f"{norm}_seed{seed}"
