"""Which points are evaluated: expected errors, interpolation, verification."""
