"""Directions that are drawn when they are needed are those that would have been kept, to the bit."""

import numpy as np
import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.slices import drawn, random_slices

pytestmark = pytest.mark.filterwarnings("ignore:1 weight")  # that is zero


class Odd(nn.Module):
    """Parameters of many shapes, a tied one, whole numbers, a single number and zeros among them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.first = nn.Embedding(37, 6), nn.Linear(6, 29)
        self.norm, self.second = nn.LayerNorm(29), nn.Linear(29, 6)
        self.convolution = nn.Conv1d(1, 5, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.zero = nn.Parameter(torch.zeros(4, 3))
        self.counts = nn.Parameter(torch.arange(3), requires_grad=False)
        self.head = nn.Linear(6, 37, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        hidden = self.norm(torch.tanh(self.first(self.embedding(tokens).mean(1))))
        hidden = self.second(hidden) + self.convolution(hidden[:, None]).mean((1, 2))[:, None] * self.scale
        return self.head(hidden)


def both(monkeypatch, model, chunk=48, kind=ll.random_plane, **settings):
    """A slice with kept directions, and one whose directions are drawn in small pieces."""
    kept = kind(model, **settings)
    monkeypatch.setattr(random_slices, "LARGE", 1)
    monkeypatch.setattr(drawn, "CHUNK", chunk)
    return kept, kind(model, **settings)


SETTINGS = {
    "default": {},
    "everything": {"ignore": ()},
    "layers": {"normalize": "layer", "ignore": ()},
    "raw": {"normalize": None},
    "orthogonal": {"orthogonal": True, "seed": 3},
    "uniform": {"distribution": "uniform", "ignore": ("norm",)},
    "rademacher": {"distribution": "rademacher"},
    "chosen": {"parameters": ("first*", "head*")},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_drawn_piece_by_piece_is_what_would_be_kept(monkeypatch, settings, dtype):
    model = Odd()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    kept, fresh = both(monkeypatch, model, **SETTINGS[settings])
    assert kept.draws is None and fresh.draws is not None
    assert fresh.moved == kept.moved and fresh.not_moved == kept.not_moved
    for number, direction in enumerate(kept.directions):
        for name, value in direction.items():
            again = fresh.draws.whole(number, name)
            assert again.dtype == value.dtype and torch.equal(again, value), name
    for name in ("origin_norm", "direction_norms", "relative_norms", "cosine", "rounding"):
        np.testing.assert_allclose(
            np.array(fresh.geometry[name], float), np.array(kept.geometry[name], float), rtol=1e-9, atol=1e-12
        )
    for name, value in kept(0.3, -0.7).items():
        assert torch.equal(fresh(0.3, -0.7)[name], value), name


@pytest.mark.parametrize("chunk", [16, 100, 2**19])
def test_the_size_of_the_pieces_changes_nothing(monkeypatch, chunk):
    kept, fresh = both(monkeypatch, Odd(), chunk, ignore=())
    pieces = {name: list(fresh.rows(name)) for name in fresh.moved}
    assert max(map(len, pieces.values())) > 1 or chunk > 1000
    for name, rows in pieces.items():
        assert [part.start for part in rows[1:]] == [part.stop for part in rows[:-1]]
        for number, direction in enumerate(kept.directions):
            assert torch.equal(torch.cat([part.steps[number] for part in rows]), direction[name].reshape(-1))


def test_the_network_may_be_moved_while_directions_are_drawn(monkeypatch):
    model = Odd()
    kept, fresh = both(monkeypatch, model)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data.mul_(3.0)
    for number, direction in enumerate(kept.directions):
        assert torch.equal(fresh.directions[number]["first.weight"], direction["first.weight"])


def tokens(count=9):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(37, (count, 4), generator=generator), torch.randint(37, (count,), generator=generator)


@pytest.mark.parametrize("kind", [ll.random_plane, ll.random_line])
def test_a_surface_over_drawn_directions_is_the_same(monkeypatch, kind):
    model, data = Odd().eval(), tokens()
    kept, fresh = both(monkeypatch, model, kind=kind)
    target = ll.objective(model, data, device="cpu")
    surfaces = [ll.evaluate(target, slice_, resolution=4, progress=False) for slice_ in (kept, fresh)]
    np.testing.assert_array_equal(surfaces[0].loss, surfaces[1].loss)
    assert surfaces[0].metadata["direction_norms"] == pytest.approx(surfaces[1].metadata["direction_norms"], rel=1e-12)
    again = kind(model)
    assert again.fingerprint == fresh.fingerprint and kind(model, seed=1).fingerprint != fresh.fingerprint
    if kind is ll.random_plane:
        assert kind(model, orthogonal=True).fingerprint != fresh.fingerprint


def test_a_network_that_was_trained_on_is_refused(monkeypatch):
    model, data = Odd().eval(), tokens()
    _, fresh = both(monkeypatch, model)
    with torch.no_grad():
        model.first.weight.add_(1.0)
    with pytest.raises(ll.InputError, match="changed since"):
        ll.evaluate(ll.objective(model, data, device="cpu"), fresh, resolution=3, progress=False)


def test_small_networks_and_other_settings_keep_their_directions(monkeypatch):
    assert ll.random_plane(Odd()).draws is None
    monkeypatch.setattr(random_slices, "LARGE", 1)
    assert ll.random_plane(Odd(), normalize="model").draws is None
    assert ll.random_plane(Odd(), rule=1).draws is None
