"""Run every check and tell what came out."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from landscape.checks import check_type, checked_path
from landscape.presenting import Presented
from landscape.runtime.devices import select_device
from landscape.runtime.progress import progress_bar
from landscape.selftest.checks import CHECKS
from landscape.selftest.comparison import Check, Comparison
from landscape.selftest.subject import TOOLKIT, Place, Toolkit
from landscape.storage.files import written_whole
from landscape.storage.provenance import versions

__all__ = ["Outcome", "SelfTest", "selftest"]


@dataclass(frozen=True)
class Outcome:
    """The result of one check."""

    name: str
    answer: str  # where the exact answer comes from
    comparisons: tuple[Comparison, ...]
    error: str | None  # of a check that could not be finished
    seconds: float

    @property
    def passed(self) -> bool:
        return self.error is None and bool(self.comparisons) and all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison that is farthest off, in units of what is allowed."""
        return max(self.comparisons, key=lambda c: c.difference / (c.allowed or 1e-300), default=None)


@dataclass(frozen=True, repr=False)
class SelfTest(Presented):
    """The outcomes of all checks on one device."""

    outcomes: tuple[Outcome, ...]
    device: str
    dtype: str
    seconds: float
    versions: dict[str, Any]

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def facts(self) -> dict[str, str]:
        comparisons = sum(len(outcome.comparisons) for outcome in self.outcomes)
        failed = [outcome.name for outcome in self.outcomes if not outcome.passed]
        return {
            "checks": f"{len(self.outcomes)} with {comparisons} comparisons",
            "failed": ", ".join(failed) or "none",
            "device": self.device,
            "dtype": self.dtype,
            "seconds": f"{self.seconds:.1f}",
        }

    @property
    def table(self) -> str:
        """One line a check: what was compared with what, and how far off the worst comparison is."""
        lines = []
        for outcome in self.outcomes:
            mark = "ok  " if outcome.passed else "FAIL"
            lines.append(f"{mark} {outcome.name}: {outcome.answer} ({outcome.seconds:.1f} s)")
            if outcome.error:
                lines.append(f"       stopped: {outcome.error}")
            failures = [comparison for comparison in outcome.comparisons if not comparison.passed]
            for comparison in failures or filter(None, [outcome.worst]):
                lines.append(
                    f"       {comparison.what}: off by {comparison.difference:.1e}, allowed {comparison.allowed:.0e}"
                )
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON."""
        record = {**asdict(self), "passed": self.passed}
        path = checked_path(path)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1))
        return path


def selftest(
    *, device: str | torch.device = "auto", quick: bool = False, toolkit: Toolkit = TOOLKIT, progress: bool = True
) -> SelfTest:
    """Compare the toolkit with exact answers, on this machine and ``device``.

    Exact answers come from closed forms, from numpy, or from plain forward passes in float64 on the CPU. Arithmetic is
    float64 where the device has it, otherwise float32, with larger allowed differences.

    Args:
        device: as in `objective`.
        quick: leave out the checks that repeat an evaluation many times.
        toolkit: the functions that are checked; another may stand in for each, to see that a defect is told.
        progress: show a bar.
    """
    check_type(toolkit, Toolkit, "selftest(toolkit=)", "a Toolkit")
    place = Place(device := select_device(device), torch.float32 if device.type == "mps" else torch.float64)
    checks = [check for check in CHECKS if check.quick or not quick]
    began = time.perf_counter()
    with progress_bar(progress, "self-test", len(checks), unit="checks") as bar:
        outcomes = []
        for check in checks:
            outcomes.append(_outcome(check, toolkit, place))
            bar.update()
    return SelfTest(
        tuple(outcomes), str(device), str(place.dtype).removeprefix("torch."), time.perf_counter() - began, versions()
    )


def _outcome(check: Check, toolkit: Toolkit, place: Place) -> Outcome:
    comparisons: list[Comparison] = []
    began, error = time.perf_counter(), None
    try:
        comparisons.extend(check.run(toolkit, place))
    except Exception as failure:  # any error is the result of the check
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    return Outcome(check.name, check.answer, tuple(comparisons), error, time.perf_counter() - began)
