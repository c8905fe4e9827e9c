"""Which method evaluates a slice: the fastest that applies by structure and agrees with plain forward passes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.methods.affine import Affine
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.first_layer import NotApplicable
from landscape.evaluation.proof import Proof, deviation
from landscape.objective.objectives import Objective
from landscape.slices.planes import Slice

__all__ = ["METHODS", "Choice", "choose_method", "few_losses", "reason_of"]

Method = Literal["auto", "affine", "prefix", "direct"]
METHODS: dict[str, Callable[[Objective, Slice], Affine | Direct]] = {
    "affine": Affine,
    "prefix": lambda objective, slice_: Direct(objective, slice_, prefix=True),
    "direct": lambda objective, slice_: Direct(objective, slice_, prefix=False),
}


@dataclass(frozen=True, eq=False)
class Choice:
    """An evaluation method and the reasons for it."""

    evaluator: Affine | Direct
    proof: Proof
    deviation: float  # largest difference to plain forward passes in full precision, relative to the mean loss
    precision_error: float | None  # largest relative error of the mean loss that a lower precision causes
    rejected: dict[str, str] = field(default_factory=dict)  # faster methods, and why they do not apply


def choose_method(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], method: Method) -> Choice:
    """The first of all methods ("auto"), or the named one, that applies and agrees with plain forward passes.

    Whatever fails in a faster method than "direct" speaks against that method only.

    Raises:
        InputError: the named method does not fit this network and slice; rounding alone changes the losses.
    """
    rejected: dict[str, str] = {}
    full = objective.in_full_precision()
    with full.arithmetic():
        proof = Proof(full, slice_, axes)
    for name in METHODS if method == "auto" else [method]:
        try:
            evaluator = METHODS[name](full, slice_)
            with full.arithmetic():
                found = few_losses(evaluator, proof.points)
        except Exception as error:
            if name == "direct" or isinstance(error, torch.OutOfMemoryError | InputError):
                raise
            rejected[name] = reason_of(error)
            continue
        off = deviation(found, proof.expected)
        if proof.holds(found):
            error_of_precision = None
            if objective.precision != "full":
                evaluator = METHODS[name](objective, slice_)
                means = [losses.cpu().double().mean(1)[:, None] for losses in (few_losses(evaluator, proof.points),)]
                error_of_precision = deviation(means[0], proof.expected.mean(1)[:, None])
            return Choice(evaluator, proof, off, error_of_precision, rejected)
        rejected[name] = f"differs from a plain forward pass by {off:.2g} of the loss"
    if method in ("affine", "prefix"):
        raise InputError(f"method {method!r} does not fit: {rejected[method]}; use method='auto'")
    remedy = (
        "use dtype=torch.float64" if objective.dtype == torch.float32 else "does the network or the loss keep state?"
    )
    raise InputError(
        f"two forward passes at one point differ by {off:.2g} of the loss, so that a surface would depend on how it is "
        f"computed; {remedy}"
    )


def few_losses(evaluator: Affine | Direct, points: Tensor) -> Tensor:
    """Losses [K, n] of the first batch at ``points``, by the evaluator."""
    batch = evaluator.objective.batches.few()
    found = []
    for block in points.split(evaluator.largest_block):
        evaluator.prepare(block)
        evaluator.load(batch)
        found.append(torch.cat([losses.clone() for losses, _ in evaluator.run()], dim=1))
    return torch.cat(found)


def reason_of(error: Exception) -> str:
    """Why a faster method is not used, in a line."""
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, NotApplicable) else f"{type(error).__name__}: {line}"
