"""The settings of an objective, checked before any work."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from landscape.checks import check_choice
from landscape.errors import InputError
from landscape.objective.batch_norm import POLICIES, Policy
from landscape.objective.criteria import as_loss
from landscape.objective.language_loss import LanguageModelLoss
from landscape.objective.losses import LOSSES
from landscape.objective.own_loss import OwnLoss
from landscape.objective.terms import LOSS, REGULARIZER, check_name
from landscape.runtime.devices import has_bf16, select_device

__all__ = ["LOSS_NAMES", "LossName", "Precision", "Settings"]

LossName = Literal["cross_entropy", "mse", "language_model", "model"]  # the keys of `LOSSES` and `OWN`
Precision = Literal["full", "tf32", "bf16"]
OWN: dict[str, Callable[[], Callable[..., Any]]] = {"language_model": LanguageModelLoss, "model": OwnLoss}
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BATCH = 256  # the number of samples of a batch for batch_norm="batch"


@dataclass(frozen=True, eq=False)
class Settings:
    """The settings of an objective; `landscape.objective.objectives.objective` explains them."""

    loss: str | Callable[..., Any]  # the name of a loss, or a callable (model, batch)
    metrics: Mapping[str, Callable[..., Any]]  # name -> callable (model, batch)
    regularizer: Callable[..., Any] | None  # callable (model)
    batch_norm: Policy | None
    device: torch.device | None  # None: the device of the caller's network, which is not copied
    dtype: torch.dtype | None  # None: parameters keep their own dtypes
    precision: Precision
    batch_size: int | None
    whole_batch: bool
    copy: bool = True
    spill: Path | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the loss is a named one that depends only on the outputs of the network."""
        return isinstance(self.loss, str) and not self.metrics and self.regularizer is None

    @property
    def facts(self) -> dict[str, Any]:
        """The settings that ranks can compare, by name."""
        named = {"loss": self.loss if isinstance(self.loss, str) else type(self.loss).__name__}
        alike = ("batch_norm", "dtype", "precision", "batch_size", "whole_batch")
        return named | {"metrics": list(self.metrics)} | {name: getattr(self, name) for name in alike}

    @classmethod
    def checked(
        cls,
        *,
        loss: LossName | Callable[..., Any],
        metrics: Mapping[str, Callable[..., Any]] | None,
        regularizer: Callable[..., Any] | None,
        batch_norm: Policy | None,
        device: str | torch.device,
        dtype: torch.dtype | None,
        precision: Precision,
        batch_size: int | None,
        whole_batch: bool,
        copy: bool,
        spill: str | Path | None,
    ) -> "Settings":
        """The settings, after checks that each of them is possible.

        Raises:
            InputError: a name is unknown, a value is not allowed, or a combination does not exist.

        Warns:
            UserWarning: the precision is "bf16" on a device without instructions for it.
        """
        known = _known_loss(loss)
        _check_further_terms(known, {} if metrics is None else metrics, regularizer)
        check_choice("BatchNorm policy", batch_norm, (*POLICIES, None))
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        if dtype not in (torch.float32, torch.float64, None):
            raise InputError(
                f"dtype is torch.float32, torch.float64 or None, not {dtype}: None leaves parameters in their own "
                "dtype, precision='bf16' lowers that of the forward pass"
            )
        if spill is not None and (copy or not Path(spill).is_dir()):
            raise InputError(
                f"spill={str(spill)!r} is a folder that exists, for the weights of a network with copy=False; "
                f"{'pass copy=False' if copy else 'make it first'}"
            )
        if precision not in PRECISIONS or (precision != "full" and dtype != torch.float32):
            raise InputError(
                f"precision {precision!r} with {dtype}: use {', '.join(PRECISIONS)}, lower ones for float32"
            )
        place = select_device(device) if copy or str(device) != "auto" else None
        if precision == "bf16" and place is not None and not has_bf16(place):
            warnings.warn("this device has no bf16 instructions, so bf16 is slower than full precision", stacklevel=4)
        further = dict(metrics or {})
        folder = None if spill is None else Path(spill)
        return cls(
            known, further, regularizer, batch_norm, place, dtype, precision, batch_size, whole_batch, copy, folder
        )


def _known_loss(loss: Any) -> str | Callable[..., Any]:
    """The name of a loss that is a function of outputs and targets, or the callable for any other loss.

    Raises:
        InputError: ``loss`` is neither a callable nor one of `LOSS_NAMES`.
    """
    known: str | Callable[..., Any] = OWN[loss]() if isinstance(loss, str) and loss in OWN else as_loss(loss)
    if callable(known) or (isinstance(known, str) and known in LOSSES):
        return known
    raise InputError(f"unknown loss {known!r}; use {', '.join(map(repr, LOSS_NAMES))} or a callable")


def _check_further_terms(loss: Any, metrics: Any, regularizer: Any) -> None:
    """Raise InputError unless ``metrics`` and ``regularizer`` are callables, and no metric has a name that is taken."""
    if not isinstance(metrics, Mapping):
        raise InputError(f"metrics map names to callables (model, batch), and are no {type(metrics).__name__}")
    for name, metric in metrics.items():
        check_name(name, "a metric")
        if name in (LOSS, REGULARIZER, *getattr(loss, "derived", ())):
            raise InputError(f"a metric has the name {name!r}, which stands for something else; choose another")
        if not callable(metric):
            raise InputError(f"the metric {name!r} is {type(metric).__name__}, not a callable (model, batch)")
    if regularizer is not None and not callable(regularizer):
        raise InputError(f"the regularizer is {type(regularizer).__name__}, not a callable (model) -> scalar")
