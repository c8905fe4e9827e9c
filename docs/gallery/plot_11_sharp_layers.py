"""
Which layer is sharp
====================

Noise in one layer at a time, relative to the size of its weights: the layers in which the loss rises most.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=4, width=32)
ll.fit(model, train, test, epochs=15, batch_size=32, lr=0.1, seed=0)
layers = ll.layer_sharpness(ll.objective(model, train), model, samples=10)
ll.plot_sharpness(layers)

# %%
# One number for the whole network, with its definition and source.

print(ll.sharpness(ll.objective(model, train), model, "adaptive-sam"))
