"""Points of the plane: what scikit-learn draws, what the geometry says, names that rebuild them, refusals."""

import numpy as np
import pytest
import torch
from sklearn import datasets

import landscape_lib as ll
from landscape.datasets.synthetic import PointRecipe

KINDS = ["moons", "circles", "gaussians", "xor"]


def load(name):
    return [ll.load_dataset(name, split=split) for split in ("train", "test")]


def raw(data):
    """The coordinates before normalising."""
    return data.inputs.double() * torch.tensor(data.std) + torch.tensor(data.mean)


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_normalised_by_the_training_points(kind):
    train, test = load(f"{kind}:train=400,test=350,noise=0.3,seed=5")
    assert train.inputs.shape == (400, 2) and test.inputs.shape == (350, 2)
    assert train.inputs.dtype == torch.float32 and train.targets.dtype == torch.int64
    np.testing.assert_allclose(train.inputs.double().mean(0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(train.inputs.double().std(0, correction=0), [1, 1], atol=1e-6)
    assert train.mean == test.mean and train.std == test.std
    assert not np.allclose(test.inputs.double().mean(0), [0, 0], atol=1e-6)
    assert train.image(0) is None


@pytest.mark.parametrize(("kind", "distance"), [("gaussians:clusters=2", 0.5), ("gaussians:clusters=4", 0.5)])
def test_without_noise_clusters_are_their_centres(kind, distance):
    train, _ = load(f"{kind},noise=0.0")
    points, clusters = raw(train), len(train.classes)
    np.testing.assert_allclose(points.norm(dim=1), distance, atol=1e-6)
    for label in range(clusters):
        angle = 2 * np.pi * label / clusters
        expected = distance * np.array([np.cos(angle), np.sin(angle)])
        np.testing.assert_allclose(points[train.targets == label].mean(0), expected, atol=1e-6)


def test_without_noise_xor_is_the_sign_of_the_product_and_balanced():
    train, test = load("xor:noise=0.0,train=401")
    for data in (train, test):
        points = raw(data)
        np.testing.assert_allclose(points.abs(), 0.5, atol=1e-6)
        assert torch.equal(data.targets, (points.prod(1) < 0).long())
        assert abs(data.targets.double().mean() - 0.5) < 0.01
        assert data.targets[:50].unique().tolist() == [0, 1]  # the order is random


def test_moons_are_those_of_scikit_learn():
    train, _ = load("moons:seed=3,noise=0.1,train=57")
    seed = int(np.random.SeedSequence([3, 0]).generate_state(1)[0])
    points, targets = datasets.make_moons(57, noise=0.1, random_state=seed)
    expected = (points - points.mean(0)) / points.std(0)
    np.testing.assert_allclose(train.inputs, expected, rtol=1e-6, atol=1e-6)
    assert train.targets.tolist() == targets.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_rebuilds_the_points_and_is_the_shortest(kind):
    train, test = load(f"{kind}:seed=7,noise=0.25,test=300,train=1000")
    assert train.name == f"{kind}:test=300,noise=0.25,seed=7" == test.name
    assert [data.fingerprint for data in load(train.name)] == [train.fingerprint, test.fingerprint]
    assert ll.load_dataset(kind).name == kind
    others = [ll.load_dataset(f"{kind}:{setting}") for setting in ("seed=1", "noise=0.1", "train=999")]
    assert len({data.fingerprint for data in (ll.load_dataset(kind), *others)}) == 4
    assert train.fingerprint != test.fingerprint
    limited = ll.load_dataset(train.name, limit=20)
    assert torch.equal(limited.inputs, train.inputs[:20])


def test_a_checkpoint_rebuilds_its_points(tmp_path):
    train, _ = load("gaussians:clusters=4,seed=2")
    model = ll.build_model("medium", classes=4)
    path = ll.save_checkpoint(
        tmp_path / "m.pth", model, model_name="medium", model_arguments={"classes": 4},
        data={"name": train.name, "split": "train", "limit": None}, epoch=0, metrics={}, settings={},
    )  # fmt: skip
    assert ll.cli.load_checkpoint_data(ll.load_checkpoint(path), "train", tmp_path).fingerprint == train.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moons:size=5", "'size=5' is no setting of points; use train=1000"),
        ("moons:noise=loud", "'noise=loud' is no setting"),
        ("moons:kind=xor", "'kind=xor' is no setting"),
        ("moons:train=9", "use 10 or more"),
        ("moons:train=10000001", "10,000,000 at most"),
        ("xor:test=100000000000000", "10,000,000 at most"),
        ("xor:noise=-0.1", "noise is -0.1"),
        ("xor:noise=nan", "noise is nan"),
        ("circles:seed=-1", "seed -1"),
        ("gaussians:clusters=5", "clusters is 5; only gaussians have clusters, 2 to 4"),
        ("moons:clusters=2", "clusters is 2; only gaussians have clusters, 2 to 4"),
        ("spirals", "unknown dataset 'spirals'; use one of auto, mnist"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, message):
    with pytest.raises(ll.InputError, match=message):
        ll.load_dataset(name)


def test_the_limit_is_that_of_the_split():
    with pytest.raises(ll.InputError, match="has 30"):
        ll.load_dataset("moons:train=30", limit=31)
    assert PointRecipe.parse("xor:seed=1").name == "xor:seed=1"
