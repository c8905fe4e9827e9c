"""How networks are trained and kept: loops, states, checkpoints, run folders."""
