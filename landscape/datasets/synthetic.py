"""Synthetic points in the plane, in two or more classes, drawn from the recipe in their name: "moons:noise=0.1"."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from landscape.checks import check_choice
from landscape.datasets.base import Data, checked_limit
from landscape.errors import InputError

__all__ = ["KINDS", "PointRecipe", "load_points"]

FEWEST = 10  # points of a split; fewer give no useful mean and standard deviation
MOST = 10**7  # points of a split, half a gigabyte: a checkpoint from elsewhere may name such data
SPREAD = 0.5  # distance of the clusters' centres from the origin, along each axis for xor


@dataclass(frozen=True)
class PointRecipe:
    """The distribution and seed from which points are drawn."""

    kind: str
    """moons, circles, gaussians or xor."""
    train: int = 1000
    """Training points."""
    test: int = 1000
    """Test points, independent of the training points."""
    noise: float = 0.2
    """Standard deviation of the Gaussian noise that is added to every coordinate."""
    seed: int = 0
    """Seed of the points."""
    clusters: int = 3
    """Number of clusters of gaussians, 2 to 4; each cluster is a class."""

    @classmethod
    def parse(cls, name: str) -> "PointRecipe":
        """The recipe in ``name``: a kind and, after a colon, settings that differ from their defaults.

        Raises:
            InputError: the kind or a setting is unknown, or a value is out of range.
        """
        kind, _, text = name.partition(":")
        types: dict[str, Any] = {field.name: field.type for field in fields(cls)[1:]}
        settings: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            key, _, value = part.partition("=")
            try:
                settings[key] = types[key](value)
            except (KeyError, ValueError):
                known = ", ".join(f"{known}={getattr(cls, known)}" for known in types)
                raise InputError(f"dataset {name!r}: {part!r} is no setting of points; use {known}") from None
        recipe = cls(kind, **settings)
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise InputError if a value is out of range; the message says what to change."""
        check_choice("points", self.kind, KINDS)
        if min(self.train, self.test) < FEWEST or max(self.train, self.test) > MOST:
            counts = f"{self.train:,} training and {self.test:,} test points"
            raise InputError(f"{self.kind}: {counts}; use {FEWEST} or more, and {MOST:,} at most")
        if not 0 <= self.noise < math.inf or self.seed < 0:
            raise InputError(f"{self.kind}: noise is {self.noise} and seed {self.seed}; both must be 0 or more")
        if not 2 <= self.clusters <= 4 or (self.kind != "gaussians" and self.clusters != type(self).clusters):
            raise InputError(f"{self.kind}: clusters is {self.clusters}; only gaussians have clusters, 2 to 4")

    @property
    def name(self) -> str:
        """The shortest name of this recipe, without the settings that equal their defaults."""
        pairs = [(field.name, getattr(self, field.name), field.default) for field in fields(self)[1:]]
        settings = ",".join(f"{key}={value}" for key, value, default in pairs if value != default)
        return f"{self.kind}:{settings}" if settings else self.kind

    def draw(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates [N, 2] float64 and class numbers [N] of ``split``, in random order."""
        number = ("train", "test").index(split)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return KINDS[self.kind](self, (self.train, self.test)[number], seed)


def load_points(name: str, split: str, limit: int | None) -> Data:
    """Points [N, 2] of the `PointRecipe` in ``name``, normalised by mean and deviation of the training points."""
    recipe = PointRecipe.parse(name)
    training, _ = recipe.draw("train")
    mean, std = training.mean(0), training.std(0)
    points, targets = recipe.draw(split)
    limit = checked_limit(limit, len(points), f"{recipe.name} {split}")
    return Data(
        inputs=torch.from_numpy((points[:limit] - mean) / std).float(),
        targets=torch.from_numpy(targets[:limit].astype(np.int64)),
        classes=tuple(map(str, range(recipe.clusters if recipe.kind == "gaussians" else 2))),
        name=recipe.name,
        split=split,
        source=f"{recipe.train:,} training and {recipe.test:,} test points drawn from seed {recipe.seed}",
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        indices=torch.arange(limit),
    )


def _moons(recipe: PointRecipe, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_moons  # a second to import, needed only here

    points, targets = make_moons(count, noise=recipe.noise, random_state=seed)
    return points, targets


def _circles(recipe: PointRecipe, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_circles

    points, targets = make_circles(count, noise=recipe.noise, random_state=seed, factor=0.5)
    return points, targets


def _gaussians(recipe: PointRecipe, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_blobs

    angles = 2 * np.pi * np.arange(recipe.clusters) / recipe.clusters
    centres = SPREAD * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points, targets = make_blobs(count, centers=centres, cluster_std=recipe.noise, random_state=seed)
    return points, targets


def _xor(recipe: PointRecipe, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four clusters, one in each quadrant; the class is 1 if the signs of the two coordinates differ."""
    generator = np.random.default_rng(seed)
    corners = generator.permutation(np.arange(count) % 4)
    signs = np.stack([corners % 2, corners // 2], axis=1)
    points = SPREAD * (2 * signs - 1) + recipe.noise * generator.standard_normal((count, 2))
    return points, signs[:, 0] ^ signs[:, 1]


Draw = Callable[[PointRecipe, int, int], tuple[np.ndarray, np.ndarray]]
KINDS: dict[str, Draw] = {"moons": _moons, "circles": _circles, "gaussians": _gaussians, "xor": _xor}
