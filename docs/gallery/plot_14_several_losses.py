"""
A loss of several terms
=======================

A physics-informed network for u'' = -u: the residual of the equation and the values at the data are terms of one
loss, and each has a surface of its own, from the same pass.
"""

import torch
from matplotlib import pyplot as plt

import landscape_lib as ll

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
points = torch.linspace(0, 3, 64)[:, None]


def physics(model, batch):
    x = batch.requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return {"physics": (curvature + u).square()[:, 0], "data": (u - torch.sin(x)).square()[:, 0]}


optimizer = torch.optim.Adam(network.parameters(), 0.01)
for _ in range(300):
    optimizer.zero_grad()
    sum(term.mean() for term in physics(network, points.clone()).values()).backward()
    optimizer.step()

surface = ll.evaluate(ll.objective(network, points, loss=physics), ll.random_plane(network, seed=0), resolution=21)
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, name in zip(axes, ("physics", "data"), strict=True):
    ll.plot_contour(surface, ax, quantity=name)
