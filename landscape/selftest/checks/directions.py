"""Random directions: their norms, what they leave alone, and that they are the same everywhere."""

from collections.abc import Iterator

import torch

from landscape.selftest.comparison import Check, Comparison, compared
from landscape.selftest.models import relu_network
from landscape.selftest.subject import Place, Toolkit

__all__ = ["CHECKS"]

# The first draws from seed 42, as every machine and device must give them.
RECORDED = (1.9269152879714966, 1.4872840642929077, 0.9007171988487244, -2.1055209636688232, -0.7581311464309692)


def filter_norms(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model = relu_network(1).to(place.device, torch.float32)
    plane = toolkit.random_plane(model, seed=3)
    for number, direction in enumerate(plane.directions, 1):
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                norms = direction[name].double().norm(dim=1)
                yield compared(f"direction {number}, {name}", norms, weight.detach().double().norm(dim=1), 1e-5)
            else:
                yield compared(f"direction {number}, {name}", direction[name], torch.zeros_like(weight), 0.0)


def orthogonality(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model = relu_network(1).to(place.device, torch.float32)
    first, second = toolkit.random_plane(model, seed=3, orthogonal=True).directions
    for name in (name for name, weight in model.named_parameters() if weight.ndim > 1):
        across = (first[name] * second[name]).double().sum(1)
        sizes = (first[name].double().norm(dim=1) * second[name].double().norm(dim=1)).clamp(min=1e-300)
        yield compared(f"cosines of the filters of {name}", across / sizes, torch.zeros_like(across), 1e-5, scale=1.0)


def recorded_draws(toolkit: Toolkit, place: Place) -> Iterator[Comparison]:
    model = torch.nn.Linear(5, 4, bias=False).to(place.device)
    drawn = toolkit.random_plane(model, seed=42, normalize=None).directions[0]["weight"].flatten()[:5]
    # Processors differ in the last bit of the logarithm and the cosine behind a Gaussian number.
    yield compared("first draws of seed 42", drawn, RECORDED, 1e-6)
    here, cpu = (relu_network(1).to(device, torch.float32) for device in (place.device, "cpu"))
    planes = [toolkit.random_plane(model, seed=3, normalize=None) for model in (here, cpu)]
    for name, value in planes[0].directions[1].items():
        yield compared(f"{name} drawn here and on the CPU", value, planes[1].directions[1][name], 0.0)


CHECKS = (
    Check("filter norms", "|d_f| = |theta_f| for every filter, biases zero (Li et al. 2018)", filter_norms),
    Check("orthogonal directions", "zero cosine within every filter", orthogonality),
    Check("directions are the same everywhere", "recorded numbers, and the same bits as on the CPU", recorded_draws),
)
