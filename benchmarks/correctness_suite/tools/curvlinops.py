"""curvlinops behind the protocol."""

import numpy as np
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator, hutchinson_trace, lanczos_approximate_spectrum
from scipy.sparse.linalg import eigsh
from torch import Tensor

from benchmarks.correctness_suite.protocol import Density, Estimate, Subject, Tool

__all__ = ["Adapter"]

PROBES = 40


class Adapter(Tool):
    def _hessian(self, subject: Subject) -> HessianLinearOperator:
        return HessianLinearOperator(subject.model, subject.loss, list(subject.model.parameters()), subject.batches)

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        start = np.random.default_rng(0)
        operator = self._hessian(subject).to_scipy()
        values = eigsh(operator, k=count, v0=start.standard_normal(operator.shape[0]), return_eigenvectors=False)
        return np.asarray(values)

    def trace(self, subject: Subject, seed: int) -> Estimate:
        torch.manual_seed(seed)
        return Estimate(float(hutchinson_trace(self._hessian(subject), PROBES)), probes=PROBES)

    def density(self, subject: Subject, seed: int) -> Density:
        torch.manual_seed(seed)
        nodes, values = lanczos_approximate_spectrum(self._hessian(subject), ncv=12, num_repeats=PROBES)
        weights = values * (nodes[1] - nodes[0])
        return Density(nodes[None].numpy(), weights[None].numpy(), PROBES, smoothed=True)

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        product: Tensor = self._hessian(subject) @ vector
        return product

    def ggn_product(self, subject: Subject, vector: Tensor) -> Tensor:
        parameters = list(subject.model.parameters())
        product: Tensor = GGNLinearOperator(subject.model, subject.loss, parameters, subject.batches) @ vector
        return product
