"""
The barrier between two networks
================================

Two networks trained from different seeds are separated by a barrier. Much of it comes from the order of their
hidden units alone: permuting the units of one network does not change what it computes, but what lies between the
two.
"""

import torch

import landscape_lib as ll

train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
networks = []
for seed in (0, 1):
    torch.manual_seed(seed)
    model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=256)
    ll.fit(model, train, test, epochs=15, batch_size=32, lr=0.1, seed=seed)
    networks.append(model)

objective = ll.objective(networks[0], train)
result = ll.connectivity(objective, *networks, resolution=15, progress=False)
print(result)

# %%
ll.plot_barriers(result.barriers)
