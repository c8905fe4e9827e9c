"""The caller's own network, moved in place and put back bit for bit."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape_lib as ll
from landscape.evaluation.methods import moved
from landscape.objective import steps
from landscape.objective.spill import SpillFile
from landscape.results.summary import summarize
from landscape.slices import drawn, random_slices

HALF = [torch.bfloat16, torch.float16]


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


@pytest.fixture
def drawn_anew(monkeypatch):
    """Directions are drawn anew, a few entries at a time."""
    monkeypatch.setattr(random_slices, "LARGE", 1)
    monkeypatch.setattr(drawn, "CHUNK", 32)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("place", ["folder", "system", "nowhere", "full"])
def test_directions_are_read_from_a_file_where_there_is_room(tmp_path, monkeypatch, drawn_anew, dtype, place):
    model, samples, written = network(dtype), data(dtype), []
    before, write = digest(model), SpillFile.write

    def counted(file, piece):
        written.append(piece.numel())
        if place == "full" and len(written) > 5:
            raise ll.InputError("the disk is full")
        return write(file, piece)

    plane = ll.random_plane(model, seed=3)
    assert plane.draws is not None
    monkeypatch.setattr(steps, "SHARE", 0.0)
    expected = ll.evaluate(borrowed(model, samples, loss=mean_loss), plane, **GRID)
    monkeypatch.setattr(steps, "SHARE", 0.0 if place == "nowhere" else 1.0)
    monkeypatch.setattr(steps.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(SpillFile, "write", counted)
    objective = borrowed(model, samples, loss=mean_loss, spill=tmp_path if place == "folder" else None)
    surface = ll.evaluate(objective, plane, **GRID)
    np.testing.assert_array_equal(surface.loss, expected.loss)
    moves = sum(plane.origin[name].numel() for name in plane.moved)
    expected_count = {"folder": 3 * moves, "system": 2 * moves, "nowhere": 0}  # the weights and both directions, once
    assert place == "full" or sum(written) == expected_count[place]
    assert digest(model) == before and not list(tmp_path.iterdir())


def test_a_named_folder_that_is_full_is_told_and_the_network_is_as_before(tmp_path, monkeypatch, drawn_anew):
    model, samples = network(), data()
    before, write, written = digest(model), SpillFile.write, []

    def full(file, piece):
        written.append(piece)
        if len(written) > 9:
            raise ll.InputError("takes no more data")
        return write(file, piece)

    objective, plane = borrowed(model, samples, spill=tmp_path), ll.random_plane(model, seed=3)
    monkeypatch.setattr(SpillFile, "write", full)
    with pytest.raises(ll.InputError, match="takes no more data"):
        ll.evaluate(objective, plane, **GRID)
    assert digest(model) == before and not list(tmp_path.iterdir())


def in_half(model, plane, samples, alphas, betas):
    """The losses at the points of a grid, computed in float32 and rounded to the weights' own dtype."""
    losses, origin = np.empty((len(alphas), len(betas))), plane.origin
    for i, alpha in enumerate(alphas):
        for j, beta in enumerate(betas):
            steps = {name: alpha * plane.directions[0][name] + beta * plane.directions[1][name] for name in origin}
            point = {name: (value.float() + steps[name]).to(value) for name, value in origin.items()}
            losses[i, j] = F.cross_entropy(torch.func.functional_call(model, point, (samples[0],)).float(), samples[1])
    return losses


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("copy", ["in place", "copy", "large copy"])
def test_points_of_weights_in_half_precision_are_computed_in_single_and_rounded(monkeypatch, dtype, copy):
    model, samples = network(dtype), data(dtype)
    before, plane = digest(model), ll.random_plane(model, seed=3)
    monkeypatch.setattr(moved, "STACK_BYTES", 1 if copy == "large copy" else 2**20)
    own = {"copy": copy != "in place", "dtype": None, "device": "cpu", "batch_size": 29, "loss": mean_loss}
    surface = ll.evaluate(ll.objective(model, samples, **own), plane, **GRID)
    assert surface.metadata["method"] == ("in_place" if copy == "in place" else "direct")
    assert surface.metadata["objective"]["dtype"] == str(dtype).removeprefix("torch.") and digest(model) == before
    exact = in_half(model, plane, samples, surface.alphas, surface.betas)
    assert np.abs(surface.loss - exact).max() < 0.01 * np.abs(exact).max()  # batches of other sizes round differently
    full = ll.evaluate(ll.objective(model, samples, **{**own, "copy": True, "dtype": torch.float32}), plane, **GRID)
    assert np.abs(surface.loss - exact).mean() < 0.3 * np.abs(full.loss - exact).mean()  # which does not round points


def test_large_copies_are_moved_to_the_same_points(monkeypatch):
    model, samples = network(), data()
    plane = ll.random_plane(model, seed=3)
    surfaces = []
    for size in (2**20, 1):
        monkeypatch.setattr(moved, "STACK_BYTES", size)
        objective = ll.objective(model, samples, device="cpu")
        surfaces.append(ll.evaluate(objective, plane, **GRID, method="direct"))
    np.testing.assert_allclose(surfaces[1].loss, surfaces[0].loss, rtol=1e-6)


@pytest.mark.parametrize("dtype", HALF)
def test_what_rounding_takes_of_a_step_of_the_grid_is_told(dtype):
    model, samples = network(dtype), data(dtype)
    plane = ll.random_plane(model, seed=3)
    objective = borrowed(model, samples, loss=mean_loss)
    surface = ll.evaluate(objective, plane, **GRID)
    told = surface.metadata["checks"]["rounding_of_steps"]
    assert [step["step"] for step in told] == pytest.approx([0.5, 0.25])
    for number, step in enumerate(told):
        lost = length = still = count = 0.0
        for name in plane.moved:
            origin, move = plane.origin[name].double(), step["step"] * plane.directions[number][name].double()
            rounded = (plane.origin[name].float() + move.float()).to(dtype).double()
            lost += float((rounded - origin - move).square().sum())
            length += float(move.square().sum())
            still += float((rounded == origin).sum())
            count += move.numel()
        assert step["lost"] == pytest.approx((lost / length) ** 0.5, rel=1e-3)
        assert step["unchanged"] == pytest.approx(still / count, abs=1e-9) and 0 < step["lost"] < 0.1
    assert "of a step of 0.5" in summarize(surface)
    fine = {**GRID, "alpha_range": (-2e-5, 2e-5)}
    with pytest.warns(UserWarning, match="BELOW ROUNDING"):
        surface = ll.evaluate(objective, plane, **fine)
    assert surface.metadata["checks"]["rounding_of_steps"][0]["unchanged"] > 0.9
    wide = ll.evaluate(ll.objective(model, samples, device="cpu"), plane, **fine)  # computed in float32
    assert "rounding_of_steps" not in wide.metadata["checks"]


def mean_loss(model, batch):
    inputs, targets = batch
    return F.cross_entropy(model(inputs.to(next(model.parameters()).dtype)).float(), targets, reduction="none")


class Stops(nn.Module):
    """A network that raises in one of its passes."""

    def __init__(self, error, dtype):
        super().__init__()
        self.inner, self.error, self.left = network(dtype), error, None

    def forward(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error
        return self.inner(x)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), MemoryError()])
@pytest.mark.parametrize(("dtype", "spill"), [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)])
def test_whatever_stops_it_the_network_is_as_before(tmp_path, drawn_anew, error, dtype, spill):
    model, samples = Stops(error, dtype), data(dtype)
    objective = borrowed(model, samples, loss=mean_loss, spill=tmp_path if spill else None)
    plane = ll.random_plane(model, seed=3)
    before = digest(model)
    model.left = 25  # passes, in the middle of the grid
    with pytest.raises((type(error), ll.InputError)):
        ll.evaluate(objective, plane, **GRID)
    assert model.left < 0 and digest(model) == before and not list(tmp_path.iterdir())
    model.left = None
    assert np.isfinite(ll.evaluate(objective, plane, **GRID).loss).all() and digest(model) == before


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
