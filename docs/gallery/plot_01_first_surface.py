"""
A first surface
===============

Train a small network on the 8 x 8 digits of scikit-learn and draw its loss over a random plane through its
weights. The directions are filter-normalised: 1 on an axis means as far as the weights are long.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=32)
history = ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=0)
print(f"test accuracy {history[-1]['test_accuracy']:.1%}")

# %%
# An objective is a model, data and a loss; a plane says where; the surface is what was computed, with standard errors.

objective = ll.objective(model, train)
surface = ll.evaluate(objective, ll.random_plane(model, seed=1), resolution=31)
ll.plot_contour(surface)

# %%
# A surface knows how it was made.

print(surface)
