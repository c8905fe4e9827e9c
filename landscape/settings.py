"""Options that several command lines share; the field docstrings are the help text."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Evaluation", "PlaneChoice", "describe"]


@dataclass(frozen=True)
class PlaneChoice:
    """Which plane, and which part of it."""

    seed: int = 42
    """Seed of the two random directions (and of a random choice of samples)."""
    normalize: Literal["filter", "layer", "model", "none"] = "filter"
    """Scale of the directions: every filter, every layer or the whole model has the norm of the weights."""
    ignore: tuple[str, ...] = ("bias", "norm")
    """Parameters that are not moved: bias, norm (normalisation layers), or patterns of parameter names."""
    orthogonal: bool = False
    """Make the directions orthogonal within every filter."""
    distribution: Literal["gaussian", "uniform", "rademacher"] = "gaussian"
    """Distribution of the raw directions."""
    alpha_range: tuple[float, float] = (-1.0, 1.0)
    """First and last coordinate along the first direction."""
    beta_range: tuple[float, float] = (-1.0, 1.0)
    """First and last coordinate along the second direction."""
    resolution: int | tuple[int, int] = 51
    """Grid points along both axes, or along each."""

    @property
    def directions(self) -> dict:
        """The arguments of `random_plane`."""
        normalize = None if self.normalize == "none" else self.normalize
        return {
            "seed": self.seed,
            "normalize": normalize,
            "ignore": self.ignore,
            "orthogonal": self.orthogonal,
            "distribution": self.distribution,
        }

    @property
    def grid(self) -> dict:
        """The grid arguments of `evaluate`."""
        return {"alpha_range": self.alpha_range, "beta_range": self.beta_range, "resolution": self.resolution}


@dataclass(frozen=True)
class Evaluation:
    """How the losses are computed."""

    method: Literal["auto", "affine", "prefix", "direct"] = "auto"
    """Evaluation method; auto takes the fastest that provably fits the network."""
    batch_norm: Literal["running", "batch", "recalibrate"] = "running"
    """Statistics of BatchNorm layers: the trained ones, of each batch, or re-estimated at every point."""
    device: str = "auto"
    """auto (the first there of cuda, mps, cpu), cpu, cuda, cuda:N or mps."""
    data_dir: Path = Path("data")
    """Folder where data sets are looked for and downloaded to."""
    force: bool = False
    """Compute again even where the same result is already there."""


def describe(*settings: Evaluation | PlaneChoice, **others: object) -> str:
    """All settings with their values, in one line."""
    pairs = {key: value for group in settings for key, value in asdict(group).items()} | others
    return ", ".join(f"{key} {value}" for key, value in pairs.items())
