"""Where the loss is evaluated: directions, lines and planes through parameter space."""
