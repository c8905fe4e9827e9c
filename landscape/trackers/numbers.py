"""The main numbers of results, by name."""

import math
from collections.abc import Iterator
from typing import Any

from landscape.errors import InputError
from landscape.presenting import Pictured
from landscape.results import (
    Barrier,
    Eigenpairs,
    LearningCoefficient,
    Sharpness,
    SharpnessHistory,
    Surface,
    TraceEstimate,
)

__all__ = ["numbers_of", "rows_of_history"]


def numbers_of(result: Pictured) -> dict[str, float]:
    """The main numbers of ``result``; none for kinds whose picture says all.

    Raises:
        InputError: a quantity of a surface has the name of another of its numbers.
    """
    numbers: dict[str, Any] = {}
    match result:
        case Surface():
            numbers = {"loss": result.loss[result.centre], "standard_error": result.standard_error[result.centre]}
            numbers["accuracy"] = None if result.accuracy is None else result.accuracy[result.centre]
            numbers["smallest_loss"] = None if result.minimum is None else result.loss[result.minimum]
            if taken := numbers.keys() & result.quantities.keys():
                raise InputError(
                    f"the quantity {min(taken)!r} has the name of another number of the surface; evaluate it under "
                    "another name"
                )
            numbers |= {name: values[result.centre] for name, values in result.quantities.items()}
        case Sharpness():
            numbers = {result.measure: result.value, "standard_error": result.standard_error}
        case TraceEstimate() | LearningCoefficient():
            numbers = {"value": result.value, "standard_error": result.standard_error}
        case Eigenpairs():
            numbers = {f"eigenvalue_{k + 1}": value for k, value in enumerate(result.values)}
        case Barrier():
            numbers = {"barrier": result.value}
    return {name: float(value) for name, value in numbers.items() if value is not None}


def rows_of_history(history: SharpnessHistory) -> Iterator[tuple[int, dict[str, float]]]:
    """Every step of ``history`` with what was measured at it, and 2 / lr."""
    columns = {name: getattr(history, name) for name in ("loss", "critical", "batch", "preconditioned")}
    columns["2_over_lr"] = history.edge
    for row, step in enumerate(history.steps.tolist()):
        yield step, {name: float(v[row]) for name, v in columns.items() if not math.isnan(v[row])}
