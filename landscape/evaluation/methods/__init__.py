"""How a point is evaluated: one file for each way, and what these build on."""
