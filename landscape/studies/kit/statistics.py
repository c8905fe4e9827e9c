"""Means over seeds, rank correlations with intervals, and sentences generated from numbers by fixed rules."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

__all__ = ["Correlation", "Spread", "compare", "number", "rank_correlation", "sign_test", "with_error"]

CONFIDENCE = 0.95
FEWEST_PAIRS = 5  # pairs of values for an interval, at least


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of values that differ only in the seed."""

    values: tuple[float, ...]  # the finite values
    missing: int = 0  # number of values that are not finite or unknown

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread":
        """The spread of the finite ``values``; None stands for a value that is not finite or unknown."""
        finite = tuple(float(value) for value in values if value is not None and math.isfinite(value))
        return cls(finite, len(values) - len(finite))

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation (n - 1); NaN for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        """Mean ± standard deviation, and the number of missing values."""
        text = with_error(self.mean, self.deviation)
        return text + (f" ({self.missing} missing)" if self.missing else "")


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n pairs and its 95 % confidence interval."""

    value: float  # NaN where one side is constant
    low: float  # NaN for few pairs
    high: float
    count: int

    def __str__(self) -> str:
        interval = f" ({self.low:+.2f} to {self.high:+.2f})" if math.isfinite(self.low) else ""
        return f"{self.value:+.2f}{interval}" if math.isfinite(self.value) else "-"

    @property
    def reading(self) -> str:
        """The conclusion from the interval, in words."""
        if self.count >= FEWEST_PAIRS and not math.isfinite(self.value):
            return "one of both is the same everywhere"
        if not math.isfinite(self.low):
            return "too few settings to tell"
        if self.low <= 0 <= self.high:
            return "the interval holds zero: no relation can be told"
        return f"larger goes with {'larger' if self.value > 0 else 'smaller'} in these settings"


def rank_correlation(a: Sequence[float | None], b: Sequence[float | None]) -> Correlation:
    """Spearman's rho of the n pairs that are finite in both, and its interval tanh(atanh(rho) +- 1.96 s).

    s^2 = (1 + rho^2 / 2) / (n - 3).
    Source of the standard error: Bonett and Wright 2000, "Sample Size Requirements for Estimating Pearson, Kendall and
    Spearman Correlations", Psychometrika 65.
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    count = len(pairs)
    if count < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return Correlation(math.nan, math.nan, math.nan, count)
    value = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    if count < FEWEST_PAIRS or abs(value) > 1 - 1e-12:
        return Correlation(value, *((value, value) if count >= FEWEST_PAIRS else (math.nan, math.nan)), count)
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((1 + value**2 / 2) / (count - 3))
    low, high = (math.tanh(math.atanh(value) + sign * reach) for sign in (-1, 1))
    return Correlation(value, low, high, count)


def sign_test(pairs: Sequence[tuple[float, float]]) -> tuple[int, int, float]:
    """(pairs whose second value is larger, pairs that differ, two-sided p-value), over the finite pairs."""
    finite = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b) and a != b]
    larger = sum(b > a for a, b in finite)
    return larger, len(finite), float(stats.binomtest(larger, len(finite)).pvalue) if finite else 1.0


def compare(first: str, second: str, pairs: Sequence[tuple[float, float]]) -> str:
    """The conclusion of a sign test of ``second`` against ``first`` at the level of 5 %, in words."""
    larger, count, p_value = sign_test(pairs)
    if not count:
        return "nothing to compare"
    if p_value >= 1 - CONFIDENCE:
        return f"no clear difference (larger for {second} in {larger} of {count})"
    winner, times = (second, larger) if larger > count / 2 else (first, count - larger)
    return f"larger for {winner} (in {times} of {count}, p = {number(p_value)})"


def number(value: float) -> str:
    """``value`` with four significant digits, or as an integer from 1000 on; a dash if it is not finite."""
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def with_error(value: float, error: float) -> str:
    """``value`` ± ``error`` with two digits of the error, which is left out if it is not finite."""
    return number(value) + (f" ± {error:.2g}" if math.isfinite(error) else "")
