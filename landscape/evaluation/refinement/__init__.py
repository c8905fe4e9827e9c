"""The choice of the points to evaluate: expected errors, interpolation, verification."""
