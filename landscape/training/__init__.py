"""Training of networks: loops, augmentation, training states, checkpoints and run folders."""
