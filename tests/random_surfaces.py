"""Analytic surfaces of all kinds for the tests and the benchmark of refinement."""

import numpy as np


def random_surface(generator):
    """A sum of waves, exponentiated, on a tilted bowl, sometimes with a kink."""
    sizes = generator.integers(25, 70, 2)
    x, y = np.meshgrid(*(np.linspace(-1, 1, size) for size in sizes), indexing="ij")
    waves = np.zeros_like(x)
    scale = generator.uniform(0.5, 5)
    for _ in range(12):
        a, b = scale * generator.normal(size=2)
        waves += generator.normal() * np.cos(a * x + b * y + generator.uniform(0, 2 * np.pi)) / np.sqrt(12)
    bowl = (generator.normal() * x + generator.normal() * y) ** 2 + (
        generator.normal() * x + generator.normal() * y
    ) ** 2
    kink = np.abs(generator.normal() * x + generator.normal() * y + generator.uniform(-0.5, 0.5))
    surface = 0.5 * np.exp(waves * generator.uniform(0.3, 1.5)) + generator.uniform(0, 5) * bowl
    return surface + generator.integers(2) * generator.uniform(0, 1) * kink
