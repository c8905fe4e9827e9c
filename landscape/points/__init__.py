"""Points in parameter space, each a plain ``dict[str, Tensor]`` keyed like ``named_parameters()``."""

from landscape.points.checks import check_finite, check_match, check_values, check_whole
from landscape.points.copies import copy_of, model_at
from landscape.points.point import Point
from landscape.points.sources import SharedPoint, as_point, parameters_of, point_moving
from landscape.points.tensors import (
    as_float64,
    as_real,
    in_precision,
    is_continuous,
    is_half,
    is_no_step,
    is_step,
    no_step,
    precise,
    whole_step,
)
from landscape.points.vectors import aligned, cosine, cut, flatten, inner, norm, unflatten
from landscape.points.wrappers import (
    named_parameters,
    unwrapped,
    with_wrapped_names,
    without_wrapped_names,
    wrapped_by,
    wrapper_free,
)

__all__ = [
    "Point",
    "SharedPoint",
    "aligned",
    "as_float64",
    "as_point",
    "as_real",
    "check_finite",
    "check_match",
    "check_values",
    "check_whole",
    "copy_of",
    "cosine",
    "cut",
    "flatten",
    "in_precision",
    "inner",
    "is_continuous",
    "is_half",
    "is_no_step",
    "is_step",
    "model_at",
    "named_parameters",
    "no_step",
    "norm",
    "parameters_of",
    "point_moving",
    "precise",
    "unflatten",
    "unwrapped",
    "whole_step",
    "with_wrapped_names",
    "without_wrapped_names",
    "wrapped_by",
    "wrapper_free",
]
