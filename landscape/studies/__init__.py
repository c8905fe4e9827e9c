"""Many networks compared: the matrix of small networks, and the normalisation layers."""
