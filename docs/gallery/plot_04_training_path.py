"""
Where training went
===================

Two lines record any training loop; here a callback of :func:`fit`. The path is drawn in the plane of its two
principal components. It does not lie in that plane, so the second figure shows its true loss beside that of its
shadow.
"""

import tempfile
from pathlib import Path

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("simplenet", input_shape=(1, 8, 8), classes=10)
folder = Path(tempfile.mkdtemp())
recorder = ll.TrajectoryRecorder(folder / "run.points")
ll.fit(
    model, train, test, epochs=12, batch_size=32, lr=0.1, seed=0, epoch_zero=True, on_epoch=recorder.on_epoch
)  # fmt: skip
points = ll.RecordedPoints(folder / "run.points")

# %%
plane = ll.pca_plane(points)
objective = ll.objective(model, train)
path = ll.project(points, plane, objective)
low, high = path.coordinates.min(0) - 1, path.coordinates.max(0) + 1
surface = ll.evaluate(
    objective, plane, alpha_range=(low[0], high[0]), beta_range=(low[1], high[1]), resolution=31
)  # fmt: skip
ll.plot_path(surface, path, log_scale=True)

# %%
figure = ll.plot_path_losses(path, log_scale=True)

# %%
# The path as a film, in 3-D.

film = ll.animate(surface, folder / "path.gif", trajectories=path, view="surface", log_scale=True)
print(film.name, film.stat().st_size, "bytes")
