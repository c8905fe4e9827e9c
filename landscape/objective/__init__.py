"""What is evaluated: model, data and loss make weighted losses of single samples at any point."""
