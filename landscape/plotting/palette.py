"""Colours that colour-blind readers tell apart: the set of Okabe and Ito (2008), `Color Universal Design`."""

__all__ = ["BLUE", "GREEN", "ORANGE", "PURPLE", "SKY", "VERMILLION"]

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
