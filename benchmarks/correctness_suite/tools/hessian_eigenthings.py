"""hessian-eigenthings behind the protocol."""

from typing import ClassVar

import hessian_eigenthings as package
import numpy as np
from torch import Tensor

from benchmarks.correctness_suite.protocol import Density, Estimate, Subject, Tool

__all__ = ["Adapter"]

PROBES = 40


class Adapter(Tool):
    differs: ClassVar[dict[str, str]] = {"unequal batches": "says that the Hessian is averaged over batches"}

    def _hessian(self, subject: Subject) -> package.HessianOperator:
        return package.HessianOperator(subject.model, subject.batches, package.supervised_loss(subject.loss))

    def eigenvalues(self, subject: Subject, count: int) -> np.ndarray:
        operator = self._hessian(subject)
        return np.asarray(package.lanczos(operator, k=count, max_iter=operator.size, seed=0).eigenvalues)

    def trace(self, subject: Subject, seed: int) -> Estimate:
        result = package.trace(self._hessian(subject), num_matvecs=99, seed=seed)
        return Estimate(result.estimate, error=result.stderr)

    def density(self, subject: Subject, seed: int) -> Density:
        result = package.spectral_density(self._hessian(subject), num_runs=PROBES, lanczos_steps=12, seed=seed)
        return Density(result.raw_eigenvalues.numpy(), result.raw_weights.numpy(), PROBES)

    def hessian_product(self, subject: Subject, vector: Tensor) -> Tensor:
        product: Tensor = self._hessian(subject).matvec(vector)
        return product

    def ggn_product(self, subject: Subject, vector: Tensor) -> Tensor:
        operator = package.GGNOperator(
            subject.model, subject.batches, package.supervised_forward, package.supervised_loss_of_output(subject.loss)
        )
        product: Tensor = operator.matvec(vector)
        return product
