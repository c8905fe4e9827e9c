"""
Basins, and which are more than noise
=====================================

A surface with several minima: which basin leads where, how deep each is, and which are deeper than two standard
errors. The figure needs no network; any surface will do.
"""

import numpy as np

import landscape_lib as ll

x, y = np.linspace(-2, 2, 61), np.linspace(-1.5, 1.5, 41)
loss = (x[:, None] ** 2 - 1) ** 2 + 0.3 * x[:, None] + y[None] ** 2 + 0.15 * np.cos(9 * y)[None]
surface = ll.Surface(x, y, loss, np.full(loss.shape, 0.05), None, None, {})
topology = ll.topology(surface)
print(topology)
ll.plot_topology(topology, view="basins")

# %%
# Birth and death of every basin; hollow ones are within the noise.

ll.plot_topology(topology)

# %%
# Is there structure in what deviates from a bowl, or only noise? Shuffled residuals say.

print(ll.permutation_test(surface, permutations=39))
