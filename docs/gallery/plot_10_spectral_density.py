"""
All eigenvalues at once
=======================

The spectral density of the Hessian, by Lanczos quadrature with random probes: a few outliers, and a bulk around
zero.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=16)
ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=0)
product = ll.hessian_product(ll.objective(model, train), model)
total = ll.trace(product)
print(f"trace {total.value:.3g} +- {total.standard_error:.1g}")
ll.plot_spectrum(ll.spectral_density(product, probes=3, steps=40))
