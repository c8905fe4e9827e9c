"""
One surface, three views
========================

Contours show where, a 3-D view shows how steep, slices show numbers with their standard errors. All take a result
and an optional ``ax``, and save nothing.
"""

import torch
from matplotlib import pyplot as plt

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=2, width=24)
ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=0)
surface = ll.evaluate(ll.objective(model, test), ll.random_plane(model, seed=3), resolution=25)

# %%
ll.plot_surface(surface)

# %%
# Every quantity that was computed can be drawn: here the accuracy beside the loss.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
ll.plot_slices(surface, left)
ll.plot_contour(surface, right, quantity="accuracy")
