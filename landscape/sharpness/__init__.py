"""Sharpness: how much the loss rises around a point, by several definitions under one interface."""

from landscape.sharpness.measures import MEASURES, layer_sharpness, sharpness

__all__ = ["MEASURES", "layer_sharpness", "sharpness"]
