"""PyHessian behind the protocol."""

from typing import Any, ClassVar

import numpy as np
import torch
from pyhessian import hessian

from benchmarks.correctness_suite.protocol import Density, Estimate, Subject, Tool

__all__ = ["Adapter"]

TOLERANCE, PROBES = 0.05, 40


class Adapter(Tool):
    differs: ClassVar[dict[str, str]] = {
        "trace": "takes its tolerance for that between two estimates in turn, which says little about their error",
    }
    remarks: ClassVar[dict[str, str]] = {
        "negative trace": "ends as soon as an estimate is negative, for lack of an absolute value",
        "float64 eigenvalue": "vectors are divided by their norm plus 1e-6",
        "mean of the density": "calls a function that torch removed in version 1.13",
        "mean square of the density": "calls a function that torch removed in version 1.13",
    }

    def _hessian(self, subject: Subject) -> Any:
        return hessian(subject.model, subject.loss, dataloader=subject.batches, cuda=False)

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        torch.manual_seed(0)
        return np.array(self._hessian(subject).eigenvalues(maxIter=2000, tol=1e-7, top_n=count)[0])

    def trace(self, subject: Subject, seed: int) -> Estimate:
        torch.manual_seed(seed)
        value = float(np.mean(self._hessian(subject).trace(maxIter=5000, tol=TOLERANCE)))
        return Estimate(value, error=TOLERANCE * abs(value))

    def density(self, subject: Subject, seed: int) -> Density:
        torch.manual_seed(seed)
        nodes, weights = self._hessian(subject).density(iter=12, n_v=PROBES)
        return Density(np.array(nodes), np.array(weights), PROBES)
