"""Sharpness: how much the loss rises around a point, by several definitions under one interface."""

from landscape.sharpness.measures import MEASURES, layer_sharpness, layer_sharpness_in, sharpness, sharpness_in
from landscape.sharpness.neighbourhood import Neighbourhood
from landscape.sharpness.stored import load_or_measure_sharpness

__all__ = [
    "MEASURES",
    "Neighbourhood",
    "layer_sharpness",
    "layer_sharpness_in",
    "load_or_measure_sharpness",
    "sharpness",
    "sharpness_in",
]
