"""
Before and after training
=========================

What training does to the surroundings of the weights: three planes of one kind on one colour scale.
"""

import copy
import tempfile
from pathlib import Path

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=2, width=32)
kept = {}


def keep(epoch, network, metrics):
    if epoch in (0, 1, 15):
        kept[epoch] = copy.deepcopy(network)


ll.fit(model, train, test, epochs=15, batch_size=32, lr=0.1, seed=0, epoch_zero=True, on_epoch=keep)
surfaces = [
    ll.evaluate(ll.objective(network, train), ll.random_plane(network, seed=2), resolution=21)
    for network in kept.values()
]
figure = ll.plot_comparison(surfaces, titles=[f"epoch {epoch}" for epoch in kept], log_scale=True)

# %%
# The same as a film, one epoch after the other, for a lecture.

names = [f"epoch {epoch}" for epoch in kept]
film = ll.animate(surfaces, Path(tempfile.mkdtemp()) / "epochs.gif", names=names, log_scale=True)
print(film.name, film.stat().st_size, "bytes")
