"""The choice of the evaluation method: the fastest that fits the network and agrees with plain forward passes."""

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from landscape.errors import InputError
from landscape.evaluation.methods.affine import Affine
from landscape.evaluation.methods.direct import Direct
from landscape.evaluation.methods.in_place import InPlace
from landscape.evaluation.methods.prefix import Prefix
from landscape.evaluation.methods.protocol import Evaluator, NotApplicable, faster_way, reason_of
from landscape.evaluation.proof import Proof
from landscape.objective.objectives import Objective
from landscape.objective.terms import LOSS
from landscape.slices.planes import Slice

__all__ = ["METHODS", "PLAIN", "Choice", "Method", "choose_method", "does_not_fit", "few_values"]

Method = Literal["auto", "affine", "prefix", "direct", "in_place"]
METHODS: dict[str, Callable[[Objective, Slice], Evaluator]] = {
    "affine": Affine,
    "prefix": Prefix,
    "direct": Direct,
    "in_place": InPlace,
}
AUTO = ("affine", "prefix", "direct")  # the fastest one first
PLAIN = "direct"  # fits every network and can replace every other method
ROUNDED = 0.01  # share of the loss; larger changes by rounding are warned of


@dataclass(frozen=True, eq=False)
class Choice:
    """An evaluation method and the reasons for it."""

    evaluator: Evaluator
    proof: Proof | None  # None for a network that is moved in place: its passes are the plain ones
    deviation: float  # largest difference from plain forward passes in full precision, relative to the mean loss
    precision_error: float | None  # largest relative error of the mean loss caused by a lower precision
    rejected: dict[str, str]  # faster methods, with the reasons why they do not fit
    named: bool  # whether the caller has named the method, so that no other may replace it


def choose_method(objective: Objective, slice_: Slice, axes: tuple[np.ndarray, ...], method: Method) -> Choice:
    """The first method ("auto"), or the named one, that fits and agrees with plain forward passes.

    An error in a faster method than "direct" excludes only that method.

    Raises:
        InputError: the named method does not fit this network and slice, or two plain passes at one point differ.
    """
    if objective.network.in_place:
        if method not in ("auto", "in_place"):
            raise InputError(f"method {method!r} needs a copy of the network; use 'in_place', or copy=True")
        return Choice(InPlace(objective, slice_), None, 0.0, None, {}, named=True)
    rejected: dict[str, str] = {}
    full = objective.in_full_precision()
    with full.arithmetic():
        proof = Proof(full, slice_, axes)
    if proof.rounding_share > ROUNDED:
        share = f"{proof.rounding_share:.1%}"
        warnings.warn(
            f"ROUNDING CHANGES THE LOSS BY {share} HERE, so that it has few correct digits; use dtype=torch.float64",
            stacklevel=5,
        )
    off = math.nan
    for name in AUTO if method == "auto" else [method]:
        if objective.network.rounds and name != PLAIN:
            rejected[name] = "it computes points, which are to be rounded to half precision, without that"
            continue
        try:
            with contextlib.nullcontext() if name not in AUTO[:-1] else faster_way():
                evaluator = METHODS[name](full, slice_)
                with full.arithmetic():
                    values = few_values(evaluator, proof.points)
        except NotApplicable as error:
            rejected[name] = reason_of(error)
            continue
        off = proof.deviation(values[LOSS])
        if proof.holds(values):
            precision_error = None
            if objective.precision != "full":
                evaluator = METHODS[name](objective, slice_)
                precision_error = proof.precision_error(few_values(evaluator, proof.points)[LOSS])
            return Choice(evaluator, proof, off, precision_error, rejected, method != "auto")
        rejected[name] = f"differs from a plain forward pass by {off:.2g} of the loss"
    if method in AUTO[:-1]:
        raise does_not_fit(method, rejected[method])
    remedy = (
        "use dtype=torch.float64" if objective.dtype == torch.float32 else "does the network or the loss keep state?"
    )
    raise InputError(
        f"two forward passes at one point differ by {off:.2g} of the loss, so that a surface would depend on how it is "
        f"computed; {remedy}"
    )


def does_not_fit(method: str, reason: str) -> InputError:
    """The error about a named method that does not fit."""
    return InputError(f"method {method!r} does not fit: {reason}; use method='auto'")


def few_values(evaluator: Evaluator, points: Tensor, batch: Any = None) -> dict[str, Tensor]:
    """Losses and quantities [K, n] of ``batch``, or else of a trial batch, at ``points``, by the evaluator."""
    batch = evaluator.objective.batches.few() if batch is None else batch
    blocks = []
    for block in points.split(evaluator.largest_block):
        evaluator.prepare(block)
        evaluator.load(batch)
        pieces = [{LOSS: scores.losses.clone(), **scores.quantities} for scores in evaluator.run()]
        blocks.append({name: torch.cat([piece[name] for piece in pieces], dim=1) for name in pieces[0]})
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
