"""
A tenth of the points, with a known error
=========================================

With a tolerance, some points are evaluated and the others are interpolated, until further points confirm the
error. Dots are the points that were evaluated.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("mnist-5k", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 28, 28), classes=10, depth=2, width=100)
ll.fit(model, train, test, epochs=4, batch_size=64, lr=0.03, seed=0)
surface = ll.evaluate(ll.objective(model, test), ll.random_plane(model, seed=0), resolution=51, tolerance=0.01)
ll.plot_contour(surface)

# %%
print(surface.metadata.get("interpolation", "every point was evaluated: the grid is so cheap that planning costs more"))
