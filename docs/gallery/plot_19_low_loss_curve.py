"""
A curve of low loss
===================

Two networks that a barrier separates on the straight line are connected by a curve of low loss (Garipov et al.
2018): align the units first, or train a curve with bends.
"""

import torch

import landscape_lib as ll

train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
networks = []
for seed in (0, 1):
    torch.manual_seed(seed)
    model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=64)
    ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=seed)
    networks.append(model)
a, b = networks
objective = ll.objective(a, train)
straight = ll.barrier(objective, a, b)
aligned = ll.align(a, b)
print(f"barrier {straight.value:.3f}; after alignment {ll.barrier(objective, a, aligned.model).value:.3f}")

# %%
curve = ll.fit_curve(objective, a, b, epochs=5, progress=False)
ll.plot_slices(ll.evaluate(objective, curve, alpha_range=(0, 1), resolution=41))
