"""The parts of an objective, and the properties that follow from them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.objective.batch_norm import Policy
from landscape.objective.batches import Batches
from landscape.objective.contract import Contract
from landscape.objective.layer_order import Order
from landscape.objective.network import Network
from landscape.objective.passes import Passes
from landscape.objective.samples import Samples
from landscape.objective.settings import Precision
from landscape.presenting import Presented

__all__ = ["Parts"]


class Parts(Presented):
    """The parts of an objective, from which all its properties follow.

    These are ``batches`` (the samples), ``passes`` (the execution of network and loss), ``network`` (the network that
    is moved to points) and ``contract`` (the terms of loss and metrics).
    """

    batches: Batches
    passes: Passes
    contract: Contract
    order: Order | None  # of the BatchNorm layers, once it has been watched on all samples

    @property
    def network(self) -> Network:
        """The network that is moved to points: a private copy, or the caller's own (``copy=False``)."""
        return self.passes.network

    @property
    def model(self) -> nn.Module:
        """The module of torch that is moved to points."""
        return self.network.model

    @property
    def loss(self) -> str | Callable[..., Any]:
        """The name of the loss, or the callable that computes it."""
        return self.contract.loss

    @property
    def overwrites(self) -> bool:
        """Whether passes write into the parameters."""
        return self.network.overwrites

    @property
    def renews(self) -> bool:
        """Whether statistics or other buffers depend on the point."""
        return self.network.renews

    @property
    def precision(self) -> Precision:
        return self.passes.precision

    @property
    def batches_fixed(self) -> bool:
        """Whether the division into batches is fixed, see `Batches`."""
        return self.batches.fixed

    @property
    def regularizes(self) -> bool:
        """Whether there is a regularizer, which `measure` does not include."""
        return self.contract.regularizer is not None

    @property
    def scores_outputs(self) -> bool:
        """Whether `score` computes the results of `measure` from the outputs of the network alone."""
        return not callable(self.loss) and not self.contract.metrics

    @property
    def samples(self) -> Samples:
        return self.batches.samples

    @property
    def size(self) -> int:
        """N, the number of samples."""
        return self.batches.size

    @property
    def batch_size(self) -> int:
        return self.batches.batch_size

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def batch_norm(self) -> Policy | None:
        return self.network.batch_norm

    @property
    def has_batch_norm(self) -> bool:
        return self.network.has_batch_norm

    @property
    def has_accuracy(self) -> bool:
        """Whether `evaluate` returns hits."""
        return self.contract.has_accuracy

    @property
    def quantity_names(self) -> tuple[str, ...]:
        """Names of the quantities that `evaluate` returns in addition to the losses."""
        return self.contract.quantity_names

    @property
    def derived(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Quantities that are functions of the mean loss at a point: name -> function."""
        functions: Mapping[str, Callable[[np.ndarray], np.ndarray]] = getattr(self.loss, "derived", {})
        return functions

    @property
    def per_sample(self) -> bool:
        """Whether single samples have losses of their own."""
        return self.contract.per_sample

    @property
    def independent(self) -> bool:
        """Whether the loss is a mean over losses of single samples, so that it has a standard error."""
        return self.per_sample and not self.samples.whole

    @property
    def facts(self) -> dict[str, str]:
        name = self.loss if isinstance(self.loss, str) else getattr(self.loss, "__qualname__", type(self.loss).__name__)
        return {
            "model": type(self.model).__name__,
            "parameters": f"{sum(parameter.numel() for parameter in self.model.parameters()):,}",
            "samples": f"{self.size:,}",
            "loss": name,
            "BatchNorm": (self.batch_norm or "") if self.has_batch_norm else "",
            "dtype": self.network.dtype_text,
            "precision": self.precision if self.precision != "full" else "",
            "device": str(self.device),
        }

    @property
    def description(self) -> dict[str, Any]:
        """What the losses depend on besides the point and the samples, as metadata of JSON types."""
        name = self.loss if isinstance(self.loss, str) else _name_of(self.loss)
        whole = {"whole_batch": True} if self.samples.whole else {}  # absent otherwise, as in files of earlier versions
        return whole | {
            "loss": name,
            "batch_norm": (self.batch_norm or "running") if self.has_batch_norm else None,
            "batch_size": self.batch_size if self.has_batch_norm and self.batch_norm == "batch" else None,
            "dtype": self.network.dtype_text,
            "precision": self.passes.precision,
            "buffers": self.network.buffer_fingerprint(),
        }


def _name_of(loss: Callable[..., Any]) -> str:
    """The name of a callable loss, which is the same in every process."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))
