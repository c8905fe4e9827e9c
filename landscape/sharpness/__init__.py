"""Sharpness: how much the loss rises around a point, by several definitions under one interface."""

from landscape.sharpness.measures import MEASURES, layer_sharpness, sharpness
from landscape.sharpness.stored import load_or_measure_sharpness

__all__ = ["MEASURES", "layer_sharpness", "load_or_measure_sharpness", "sharpness"]
