"""The surface that an evaluation returns, with the metadata that say how far it can be trusted."""

import math
from typing import Any

import numpy as np

from landscape.evaluation.filling import Filled
from landscape.evaluation.ledger import Ledger
from landscape.evaluation.workers import Workers
from landscape.results import Surface
from landscape.runtime import ranks
from landscape.slices.planes import Slice
from landscape.storage.provenance import versions

__all__ = ["described"]


def described(
    workers: Workers,
    ledger: Ledger,
    filled: Filled,
    slice_: Slice,
    axes: tuple[np.ndarray, ...],
    checks: dict[str, Any],
    seconds: float,
) -> Surface:
    """The surface of the values in ``filled`` over ``axes``, with the metadata of the evaluation."""
    objective, choice, values = workers.objective, workers.choice, filled.values
    shape = tuple(len(axis) for axis in axes)
    loss = values.mean.reshape(shape)
    error = values.standard_error if objective.independent else np.full(math.prod(shape), np.nan)
    derived = {name: function(values.mean) for name, function in objective.derived.items()}
    quantities = {name: mean.reshape(shape) for name, mean in {**values.quantities, **derived}.items()}
    weights = None if values.losses is None else objective.weights_of(0, objective.size)
    metadata = {
        "identity": ledger.identity,
        "slice": slice_.description,
        **slice_.geometry,
        "architecture": slice_.architecture,
        "data": {**objective.samples.description, "size": objective.size},
        "objective": objective.description,
        "interpolation": filled.interpolation,
        **({"quantities": list(quantities)} if quantities else {}),  # absent in files of earlier versions
        "method": workers.evaluator.name,
        "method_settings": workers.evaluator.settings,
        "methods_rejected": workers.rejected,
        "compilation": workers.compilation.description,
        "checks": {
            **checks,
            "largest_relative_deviation": choice.deviation,
            "rounding": choice.proof.rounding_share if choice.proof else None,
            "precision_error": choice.precision_error,
        },
        "device": str(objective.device),
        "processes": ranks.count(),
        **objective.network.description,
        "versions": versions(),
        "seconds": seconds,
        "resumed_points": ledger.resumed,
        "nonfinite_points": int((~np.isfinite(loss)).sum()),
    }
    return Surface(
        alphas=axes[0],
        betas=axes[1] if len(axes) == 2 else None,
        loss=loss,
        standard_error=error.reshape(shape),
        accuracy=values.accuracy.reshape(shape) if objective.has_accuracy else None,
        per_sample=None if values.losses is None else values.losses.reshape(*shape, -1),
        metadata=metadata,
        quantities=quantities,
        sample_weights=None if weights is None else weights.numpy(),
        evaluated=ledger.statistics.finished.numpy().reshape(shape) if filled.interpolation else None,
    )
