"""
Keep results, and find them again
=================================

A surface is stored with its recipe. Asked for the same again, it is loaded; asked for something else, it is
computed. A checkpoint describes itself, too: the network is rebuilt from it.
"""

import tempfile
from pathlib import Path

import torch

import landscape_lib as ll

folder = Path(tempfile.mkdtemp())
torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
arguments = {"input_shape": (1, 8, 8), "classes": 10}
model = ll.build_model("linear-mnist", **arguments)
training = ll.Training(epochs=5, batch_size=32, lr=0.1, seed=0)
history = ll.fit(model, train, test, epochs=5, batch_size=32, lr=0.1, seed=0)
ll.save_checkpoint(
    folder / "digits.pth",
    model,
    model_name="linear-mnist",
    model_arguments=arguments,
    data={"name": "digits"},
    epoch=5,
    metrics=history[-1],
    settings={"training": str(training)},
)
checkpoint = ll.load_checkpoint(folder / "digits.pth")
print(checkpoint)

# %%
objective, plane = ll.objective(checkpoint.model, test), ll.random_plane(checkpoint.model, seed=0)
for resolution in (21, 21, 31):  # computed, loaded, computed
    surface = ll.load_or_evaluate(folder / "surface.npz", objective, plane, resolution=resolution)
print(ll.Surface.load(folder / "surface.npz"))

# %%
# For other programs: tables, xarray, ParaView, HDF5, and one page for the browser.

surface.to_csv(folder / "surface.csv")
print((folder / "surface.csv").read_text().splitlines()[0])
ll.explore(surface, folder / "explorer.html")
ll.plot_contour(surface)
