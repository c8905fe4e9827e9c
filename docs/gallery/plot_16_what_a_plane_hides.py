"""
What a plane does not show
==========================

The curvature of the plane beside the eigenvalues of the whole Hessian, and what kind of point the origin is.
"""

import torch

import landscape_lib as ll

torch.manual_seed(0)
train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=16)
ll.fit(model, train, test, epochs=5, batch_size=32, lr=0.1, seed=0)
result = ll.faithfulness(ll.objective(model, train), ll.random_plane(model, seed=0), samples=200)
print(result.line)
print(result.verdict)
