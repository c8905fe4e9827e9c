"""A matrix of small networks: training, probes of each run and of each group of seeds, figures, reports."""
