"""What is timed before an evaluation, and what is not."""

import importlib

import pytest
import torch
from networks import Decides
from torch import nn

import landscape_lib as ll

tuning = importlib.import_module("landscape.evaluation.tuning")


class Timed(BaseException):  # which no fallback takes for a setting that fails
    pass


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch):
    def seconds(*_):
        raise Timed

    monkeypatch.setattr(tuning, "seconds_per_sample", seconds)


def evaluated(model, *shape, samples=9):
    torch.manual_seed(0)
    data = (torch.randn(samples, *shape), torch.arange(samples) % 3)
    target = ll.objective(model, data, device="cpu")
    return ll.evaluate(target, ll.random_plane(model, seed=1), resolution=5, method="prefix", progress=False)


def perceptron(width=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3))


def test_short_work_of_a_chain_is_not_timed():
    surface = evaluated(perceptron(), 6)
    settings = surface.metadata["method_settings"]
    assert settings["layout"] == "features_first" and settings["together"] > 1


def test_long_work_is_timed(monkeypatch):
    monkeypatch.setattr(tuning, "SHORT", 9 * 25 * 5)  # values: samples, points, width
    with pytest.raises(Timed):
        evaluated(perceptron(), 6)
    evaluated(perceptron(width=4), 6)


def test_what_is_no_chain_is_timed():
    with pytest.raises(Timed):
        evaluated(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), 1, 4, 4)


def test_what_decides_by_its_values_is_no_chain():
    with pytest.raises(Timed):
        evaluated(Decides(perceptron(), bound=30), 6)


def test_a_wide_chain_takes_few_points_at_once(monkeypatch):
    monkeypatch.setitem(tuning.CHAINED, "cpu", (6, 6 * 40))
    monkeypatch.setattr(tuning, "LEAST", 3)
    assert evaluated(perceptron(width=5), 6).metadata["method_settings"]["together"] == 8
    deep = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))
    assert evaluated(deep, 6).metadata["method_settings"]["together"] == 2
    wide = evaluated(perceptron(width=50), 6).metadata["method_settings"]
    assert (wide["together"], wide["batch_size"]) == (2, 3)
