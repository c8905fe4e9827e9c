"""What is evaluated: a model, data and a loss, which give the weighted losses of single samples at any point."""
