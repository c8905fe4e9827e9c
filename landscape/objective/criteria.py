"""torch's losses of (outputs, targets), converted to losses of (model, batch) with one value for each sample."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from landscape.errors import InputError
from landscape.objective.losses import IGNORED, Weighted
from landscape.storage.provenance import fingerprint

__all__ = ["Criterion", "as_loss"]

FUNCTIONS = {"cross_entropy": nn.CrossEntropyLoss, "nll_loss": nn.NLLLoss}
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)  # given class indices, they average with class weights


def as_loss(loss: Any) -> Any:
    """``loss``, or a `Criterion` or name in place of a criterion of torch.nn or function of torch.nn.functional.

    Raises:
        InputError: the value of the criterion is a sum, or ``loss`` is a class instead of an object.
    """
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise InputError(f"loss is the class {loss.__name__}; make one: loss={loss.__name__}()")
    if isinstance(loss, _Loss):
        return Criterion.of(loss)
    if getattr(loss, "__module__", None) == "torch.nn.functional":
        kind = FUNCTIONS.get(loss.__name__)
        return Criterion.of(kind()) if kind else Criterion(loss, loss.__name__)
    return loss


class Criterion:
    """The map (model, batch) -> losses [batch] of a criterion of torch, with weights if the criterion has them."""

    def __init__(self, criterion: Callable[..., Tensor], name: str):
        self.criterion: Any = criterion
        self.name = name
        self.by_class = isinstance(criterion, CLASSES)
        self.__qualname__ = name

    @classmethod
    def of(cls, criterion: nn.Module) -> "Criterion | str":
        """The converted criterion, or the name "cross_entropy" if it is cross-entropy with default settings.

        Raises:
            InputError: the criterion adds up the losses of a batch (reduction="sum").
        """
        kind = type(criterion).__name__
        if criterion.reduction == "sum":
            raise InputError(
                f"{kind}(reduction='sum') grows with the number of samples; use {kind}() and scale the result"
            )
        extra = [f"{key}={value}" for key, value in vars(criterion).items() if _is_setting(key, value)]
        tensors = dict(criterion.named_buffers())
        if type(criterion) is nn.CrossEntropyLoss and not extra and not tensors:
            return "cross_entropy"
        extra += [f"{key}={fingerprint([tensor])[:8]}" for key, tensor in tensors.items()]
        return cls(copy.deepcopy(criterion), f"{kind}({', '.join(extra)})")

    def __call__(self, model: nn.Module, batch: Any) -> Tensor | Weighted:
        inputs, targets = batch
        outputs = model(inputs)
        return self.losses(outputs, targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor | Weighted:
        """One value for each sample, whose (weighted) mean is the value of the criterion.

        Raises:
            InputError: the criterion gives no such values, would broadcast its arguments, or leaves open how to
                average them.
        """
        elements = self._elements(outputs, targets)
        if not elements.ndim or len(elements) != len(outputs):
            raise InputError(f"{self.name} gives no value for every sample; pass loss=callable(model, batch)")
        if elements.numel() > max(outputs.numel(), targets.numel()):
            raise InputError(
                f"{self.name} would broadcast outputs {tuple(outputs.shape)} against targets {tuple(targets.shape)}; "
                "make both of one shape"
            )
        if self._reduction == "none" and (elements.ndim > 1 or self._weighs):
            raise InputError(
                f"{self.name} leaves open how to average {tuple(elements.shape)} losses; use reduction='mean', or "
                "loss=callable(model, batch) that gives one loss a sample"
            )
        rows = elements.flatten(1) if elements.ndim > 1 else elements[:, None]
        if self.by_class and not targets.is_floating_point():
            return self._by_class(rows, targets)
        return rows.sum(1) if self._reduction == "batchmean" else rows.mean(1)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise InputError unless the mean of the losses equals the value of the criterion for a batch."""
        losses, own = self.losses(outputs, targets), self._call(outputs, targets)
        if isinstance(losses, Weighted):
            mean = (losses.values * losses.weights).sum() / losses.weights.sum()
        else:
            mean = losses.mean()
        if self._reduction == "none":
            own = own.mean()
        if own.ndim or not torch.allclose(mean, own.to(mean), rtol=1e-3, equal_nan=True):
            raise InputError(
                f"{self.name} is not the mean of its losses of single samples; pass loss=callable(model, batch) that "
                "gives one loss a sample"
            )

    @property
    def _reduction(self) -> str:
        return str(getattr(self.criterion, "reduction", "mean"))

    @property
    def _weighs(self) -> bool:
        return self.by_class and (self.criterion.weight is not None or self.criterion.ignore_index != IGNORED)

    def _elements(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The values of the criterion without any averaging (reduction="none")."""
        if not isinstance(self.criterion, nn.Module):
            return self._call(outputs, targets, functools.partial(self.criterion, reduction="none"))
        plain: Any = copy.copy(self.criterion)
        plain.reduction = "none"
        return self._call(outputs, targets, plain)

    def _call(self, outputs: Tensor, targets: Tensor, criterion: Callable[..., Tensor] | None = None) -> Tensor:
        criterion = criterion or self.criterion
        if isinstance(criterion, nn.Module):
            tensors = {name: value.to(outputs) for name, value in criterion.named_buffers()}
            value: Tensor = torch.func.functional_call(criterion, tensors, (outputs, targets))
            return value
        return criterion(outputs, targets)

    def _by_class(self, rows: Tensor, targets: Tensor) -> Weighted:
        """The losses l_n = sum_e v_ne / w_n of the samples, and their weights w_n = sum_e c_ne.

        v_ne are the ``rows`` [batch, elements], which contain the class weights already; c_ne is the weight of the
        class of element e of sample n, and 0 if the element is ignored. A sample without weight has the loss 0.
        """
        labels = targets.reshape(len(targets), -1)
        counts = labels != self.criterion.ignore_index
        weights = counts.to(rows.dtype)
        if self.criterion.weight is not None:
            weights = weights * self.criterion.weight.to(rows)[torch.where(counts, labels, 0)]
        total = weights.sum(1)
        return Weighted(rows.sum(1) / torch.where(total > 0, total, 1), total)


def _is_setting(key: str, value: Any) -> bool:
    """Whether an attribute of a criterion is a setting that differs from its default."""
    default = {"label_smoothing": 0.0, "ignore_index": IGNORED, "reduction": "mean", "training": True}
    return not key.startswith("_") and default.get(key) != value
