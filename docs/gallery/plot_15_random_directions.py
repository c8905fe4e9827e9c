"""
How far can one go
==================

The loss along thirty random directions at once: mean and spread, and how many directions stay within a rise.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=2, width=32)
ll.fit(model, train, test, epochs=15, batch_size=32, lr=0.1, seed=0)
basin = ll.basin_radii(ll.objective(model, train), model, directions=30, rise=0.1)
print(f"{basin.share_inside(basin.radius):.1%} of all directions rise by less than 0.1 up to {basin.radius:.2g}")
ll.plot_basin_radii(basin)
