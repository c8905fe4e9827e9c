"""Sharpness: the rise of the loss around a point, by several definitions with one interface."""

from landscape.sharpness.basin_radii import basin_radii
from landscape.sharpness.learning_coefficient import learning_coefficient
from landscape.sharpness.measures import (
    MEASURES,
    MeasureName,
    layer_sharpness,
    layer_sharpness_in,
    sharpness,
    sharpness_in,
)
from landscape.sharpness.neighbourhood import Neighbourhood
from landscape.sharpness.stored import load_or_measure_layers, load_or_measure_sharpness

__all__ = [
    "MEASURES",
    "MeasureName",
    "Neighbourhood",
    "basin_radii",
    "layer_sharpness",
    "layer_sharpness_in",
    "learning_coefficient",
    "load_or_measure_layers",
    "load_or_measure_sharpness",
    "sharpness",
    "sharpness_in",
]
