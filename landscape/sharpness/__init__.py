"""Sharpness: how much the loss rises around a point, by several definitions under one interface."""

from landscape.sharpness.measures import MEASURES, check_measures, layer_sharpness, sharpness

__all__ = ["MEASURES", "check_measures", "layer_sharpness", "sharpness"]
