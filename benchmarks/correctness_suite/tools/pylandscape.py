"""pylandscape behind the protocol."""

from typing import Any, ClassVar

import numpy as np
import torch
from pylandscape import Hessian, Surface

from benchmarks.correctness_suite.protocol import Estimate, Subject, Tool

__all__ = ["Adapter"]

TOLERANCE = 0.05


class Adapter(Tool):
    says_orthogonal = True
    differs: ClassVar[dict[str, str]] = {"trace": "that of PyHessian"}
    remarks: ClassVar[dict[str, str]] = {
        "mean over samples": "the first batch only",
        "seeds": "overwrites the directions instead of the weights, so that the picture is constant",
        "negative trace": "that of PyHessian",
        "float64 eigenvalue": "that of PyHessian",
    }

    def _surface(self, subject: Subject, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        return Surface(subject.model, subject.loss, subject.batches, torch.device("cpu"), seed=seed)

    def loss(self, subject: Subject) -> float:
        return float(self._surface(subject).random_surface((0.0, 0.0), 1)[2][0, 0])

    def random_picture(self, subject: Subject, seed: int) -> np.ndarray:
        return np.asarray(self._surface(subject, seed).random_surface((-1.0, 1.0), 3)[2])

    def _hessian(self, subject: Subject) -> Any:
        return Hessian(subject.model, subject.loss, subject.batches, device="cpu")

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        torch.manual_seed(0)
        return np.array(self._hessian(subject).compute_eigenvalues(n_iter=2000, tol=1e-7, top_n=count)[0])

    def trace(self, subject: Subject, seed: int) -> Estimate:
        torch.manual_seed(seed)
        tool = self._hessian(subject)
        tool.compute_trace(n_iter=5000, tol=TOLERANCE, aggregate="mean")
        value = float(tool.results["trace"])
        return Estimate(value, error=TOLERANCE * abs(value))
