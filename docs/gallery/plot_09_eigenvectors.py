"""
The most curved plane
=====================

The largest eigenvalues of the Hessian with their residuals, and the loss over the plane of their eigenvectors
beside a random plane: random directions show the mean curvature, which is far smaller.
"""

import tempfile
from pathlib import Path

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=16)
ll.fit(model, train, test, epochs=20, batch_size=32, lr=0.1, seed=0)
objective = ll.objective(model, train)
product = ll.hessian_product(objective, model)
pairs = ll.top_eigenpairs(product, k=8)
ll.plot_spectrum(pairs)

# %%
planes = {"eigenvectors": ll.eigenvector_plane(product, pairs), "random": ll.random_plane(model, normalize="model")}
surfaces = [ll.evaluate(objective, plane, resolution=21) for plane in planes.values()]
figure = ll.plot_comparison(surfaces, titles=[*planes])

# %%
# A film of the flight from one to the other: the planes in between have orthogonal axes of one length, and every frame
# is the loss over its own plane.

flight = planes["random"].flight(planes["eigenvectors"], steps=8)
frames = [ll.evaluate(objective, plane, resolution=15) for plane in flight]
film = ll.animate(frames, Path(tempfile.mkdtemp()) / "flight.gif", view="surface", log_scale=True)
print(film.name, film.stat().st_size, "bytes")

# %%
# The Gauss-Newton matrix leaves out the second derivatives of the network, and has no negative eigenvalues.

gauss_newton = ll.top_eigenpairs(ll.ggn_product(objective, model), k=3)
print(pairs.values[:3], gauss_newton.values)
