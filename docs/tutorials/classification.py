"""
A classifier from training to judgement
=======================================

Train a classifier of digits, look at its loss, ask where training went, how curved the loss is, and what the
picture does not show. Everything runs on a laptop in a minute; replace the model and the data by yours.
"""

# %%
# The data come with scikit-learn. Your own would be a pair of tensors, a ``Dataset`` or a ``DataLoader``.

import tempfile
from pathlib import Path

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
train

# %%
# Train a network and record its weights after every epoch. ``recorder.record(model)`` does the same in a loop of yours.

model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=2, width=32)
points_file = Path(tempfile.mkdtemp()) / "run.points"
recorder = ll.TrajectoryRecorder(points_file)
history = ll.fit(
    model, train, test, epochs=15, batch_size=32, lr=0.1, seed=0, epoch_zero=True, on_epoch=recorder.on_epoch
)  # fmt: skip
print(f"test accuracy {history[-1]['test_accuracy']:.1%}")

# %%
# Look around
# -----------
# The loss over a random plane. Training and test data are two objectives on one plane, so that the two are comparable.

plane = ll.random_plane(model, seed=0)
objectives = {"training data": ll.objective(model, train), "test data": ll.objective(model, test)}
surfaces = {name: ll.evaluate(objective, plane, resolution=25) for name, objective in objectives.items()}
figure = ll.plot_comparison([*surfaces.values()], titles=[*surfaces])

# %%
# A surface shows itself when it is the last line of a cell: how it was made, and how it was checked.

surfaces["training data"]

# %%
# Where training went
# -------------------
# The path in the plane of its two principal components. The loss at the shadow of a point is not that at the point.

points, objective = ll.RecordedPoints(points_file), objectives["training data"]
principal = ll.pca_plane(points)
path = ll.project(points, principal, objective)
low, high = path.coordinates.min(0) - 1, path.coordinates.max(0) + 1
ranges = {"alpha_range": (low[0], high[0]), "beta_range": (low[1], high[1])}
ll.plot_path(ll.evaluate(objective, principal, resolution=25, **ranges), path, log_scale=True)

# %%
figure = ll.plot_path_losses(path, log_scale=True)

# %%
# How curved it is
# ----------------
# One product with the Hessian, asked several questions. A pair that has not converged says so.

product = ll.hessian_product(objective, model)
pairs = ll.top_eigenpairs(product, k=6)
ll.plot_spectrum(pairs)

# %%
total = ll.trace(product)
print(f"trace {total.value:.3g} +- {total.standard_error:.1g}, largest eigenvalue {pairs.values[0]:.3g}")

# %%
# What the picture does not show
# ------------------------------
# Two directions of thousands. How much of the curvature lies in the plane, and is this a minimum?

faithfulness = ll.faithfulness(objective, plane, samples=200)
print(faithfulness.line)
print(faithfulness.verdict)
