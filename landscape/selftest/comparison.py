"""Checks, and the comparisons that they make."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from landscape.selftest.subject import Place, Toolkit

__all__ = ["Check", "Comparison", "compared"]


@dataclass(frozen=True)
class Comparison:
    """One number or array beside the exact one."""

    what: str
    difference: float  # largest |computed - exact|, by the largest |exact|; infinite where shapes or gaps differ
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Check:
    """A question with an exact answer."""

    name: str
    answer: str  # where the exact answer comes from
    run: Callable[[Toolkit, Place], Iterator[Comparison]]
    quick: bool = True  # whether it is part of the quick run


def compared(what: str, computed: Any, exact: Any, allowed: float, *, scale: float | None = None) -> Comparison:
    """``computed`` beside ``exact``, relative to the largest absolute value of the latter or to ``scale``."""
    a, b = _array(computed), _array(exact)
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return Comparison(what, math.inf, allowed)
    same = np.isfinite(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[~same], b[~same], equal_nan=True):
        return Comparison(what, math.inf, allowed)
    size = float(np.abs(b[same]).max(initial=0.0)) if scale is None else scale
    off = float(np.abs(a[same] - b[same]).max(initial=0.0))
    return Comparison(what, off / size if size else (0.0 if off == 0 else math.inf), allowed)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    array: np.ndarray = np.asarray(value, dtype=np.float64)
    return array
