"""
The plane through three networks
================================

Three networks span a plane (Garipov et al. 2018, section 3): the loss between solutions from different seeds.
"""

import torch

import landscape_lib as ll

train, test = (ll.load_dataset("digits", split=split) for split in ("train", "test"))
networks = []
for seed in range(3):
    torch.manual_seed(seed)
    model = ll.build_model("mlp", input_shape=(1, 8, 8), classes=10, depth=1, width=32)
    ll.fit(model, train, test, epochs=10, batch_size=32, lr=0.1, seed=seed)
    networks.append(model)

plane = ll.three_point_plane(*networks)
objective = ll.objective(networks[0], train)
surface = ll.evaluate(objective, plane, alpha_range=(-0.3, 1.3), beta_range=(-0.3, 1.3), resolution=25)
ll.plot_contour(surface, log_scale=True)
