"""The caller's own network, moved in place and put back bit for bit."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype).eval()


def data(dtype=torch.float32, samples=29):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, 6, generator=generator).to(dtype)
    return inputs, torch.randint(0, 3, (samples,), generator=generator)


def digest(model):
    sha = hashlib.sha256()
    for name, value in model.state_dict().items():
        sha.update(name.encode() + value.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


GRID = {"alpha_range": (-1, 0.5), "beta_range": (-0.5, 1), "resolution": (4, 7), "progress": False}


def borrowed(model, samples, **options):
    return ll.objective(model, samples, copy=False, dtype=None, device="cpu", batch_size=8, **options)


@pytest.mark.parametrize("spill", [False, True])
def test_the_surface_is_that_of_a_copy_and_the_network_is_as_before(tmp_path, spill):
    model, samples = network(), data()
    before, memory = digest(model), [p.data_ptr() for p in model.parameters()]
    plane = ll.random_plane(model, seed=3)
    copied = ll.evaluate(ll.objective(model, samples, device="cpu"), plane, **GRID)
    own = ll.evaluate(borrowed(model, samples, spill=tmp_path if spill else None), plane, **GRID)
    assert own.metadata["method"] == "in_place"
    assert np.abs(own.loss - copied.loss).max() <= 1e-6 * np.abs(copied.loss).max()
    assert np.array_equal(own.accuracy, copied.accuracy)
    assert digest(model) == before and [p.data_ptr() for p in model.parameters()] == memory
    assert not list(tmp_path.iterdir())


def test_points_of_weights_in_half_precision_are_computed_in_single_and_rounded():
    model, samples = network(torch.bfloat16), data(torch.bfloat16)
    before = digest(model)
    plane = ll.random_plane(model, seed=3)
    surface = ll.evaluate(borrowed(model, samples, loss=mean_loss), plane, **GRID)
    assert digest(model) == before
    exact = np.empty(surface.shape)
    for i, alpha in enumerate(surface.alphas):
        for j, beta in enumerate(surface.betas):
            moved = {
                name: (origin.float() + alpha * plane.directions[0][name] + beta * plane.directions[1][name]).bfloat16()
                for name, origin in plane.origin.items()
            }
            outputs = torch.func.functional_call(model, moved, (samples[0],)).float()
            exact[i, j] = F.cross_entropy(outputs, samples[1])
    assert np.abs(surface.loss - exact).max() < 0.01 * np.abs(exact).max()  # batches of other sizes round differently


def mean_loss(model, batch):
    inputs, targets = batch
    return F.cross_entropy(model(inputs.to(next(model.parameters()).dtype)).float(), targets, reduction="none")


class Stops(nn.Module):
    """A network that raises in one of its passes."""

    def __init__(self, error):
        super().__init__()
        self.inner, self.error, self.left = network(), error, None

    def forward(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error
        return self.inner(x)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), MemoryError()])
def test_whatever_stops_it_the_network_is_as_before(error):
    model, samples = Stops(error), data()
    objective, plane = borrowed(model, samples), ll.random_plane(model, seed=3)
    before = digest(model)
    model.left = 10
    with pytest.raises((type(error), ll.InputError)):
        ll.evaluate(objective, plane, **GRID)
    assert digest(model) == before
    model.left = None
    assert np.isfinite(ll.evaluate(objective, plane, **GRID).loss).all()


def test_losses_at_points_and_lines():
    model, samples = network(), data()
    before, objective = digest(model), borrowed(model, samples)
    other = {name: value + 0.1 for name, value in ll.parameters_of(model).items()}
    expected = F.cross_entropy(torch.func.functional_call(model, other, (samples[0],)), samples[1], reduction="none")
    assert torch.allclose(objective(other), expected.detach(), rtol=1e-5)
    line = ll.evaluate(objective, ll.random_line(model, seed=1), resolution=5, progress=False)
    assert line.loss[2] == pytest.approx(float(F.cross_entropy(model(samples[0]), samples[1])), rel=1e-5)
    assert digest(model) == before


def test_what_needs_a_network_of_its_own_is_refused():
    model, samples = network(), data()
    with pytest.raises(ll.InputError, match="copy=True"):
        ll.hessian_product(borrowed(model, samples), model)
    with pytest.raises(ll.InputError, match="dtype=None"):
        ll.objective(model, samples, copy=False, dtype=torch.float64, device="cpu")
    normed = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).eval()
    with pytest.raises(ll.InputError, match="copy=True"):
        borrowed(normed, samples, batch_norm="recalibrate")
    with pytest.raises(ll.InputError, match="spill"):
        ll.objective(model, samples, spill="/nowhere", device="cpu")
