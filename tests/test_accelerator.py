"""What runs on a device gives the numbers of the CPU there, and moves its data once.

Everything is compared in float64. On the device that exists in tests only, an operation that mixes it with the CPU is
an error.
"""

import dataclasses

import numpy as np
import pretend_device
import pytest
import torch
from networks import images, make
from torch import nn

import landscape_lib as ll
from landscape.evaluation.methods.protocol import Arrangement
from landscape.evaluation.workers import Workers
from landscape.objective.gradients import MeanLoss
from landscape.selftest import TOOLKIT
from landscape.selftest.checks import CHECKS
from landscape.selftest.run import _outcome
from landscape.selftest.subject import Place
from landscape.training.predictions import predict

GRID = {"alpha_range": (-1, 0.5), "beta_range": (-0.5, 1), "resolution": (4, 3), "progress": False}


def data(count=29, seed=1):
    inputs, targets = images(count, seed)
    return inputs.double(), targets


def subject(device, name="mlp", seed=0, count=29, **options):
    """A network on ``device``, and its loss there."""
    model = make(name, seed).double().to(device)
    return model, ll.objective(model, data(count), device=device, dtype=torch.float64, **options)


def on_both(accelerator, compute):
    """The arrays that ``compute`` gives on the CPU and on the accelerator, checked to be equal."""
    expected, actual = (compute(device) for device in ("cpu", accelerator))
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(_array(actual[name]), _array(value), rtol=1e-7, atol=1e-10, err_msg=name)
    return actual


def _array(value):
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def values_of(surface):
    return {"loss": surface.loss, "error": surface.standard_error, "accuracy": surface.accuracy, **surface.quantities}


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize(("name", "method"), [("linear", "affine"), ("cnn", "prefix"), ("tied", "direct")])
def test_a_method_gives_the_surface_of_the_cpu(name, method, accelerator):
    def compute(device):
        model, objective = subject(device, name, batch_size=8)
        surface = ll.evaluate(objective, ll.random_plane(model, seed=3), method=method, **GRID)
        assert surface.metadata["method"] == method
        return values_of(surface)

    on_both(accelerator, compute)


def test_a_network_moved_in_place_on_the_device_is_put_back(accelerator):
    def compute(device):
        model, objective = subject(device, "batch_norm_cnn", copy=False, batch_size=8)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        surface = ll.evaluate(objective, ll.random_plane(model, seed=3), **GRID)
        assert surface.metadata["method"] == "in_place"
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return values_of(surface)

    on_both(accelerator, compute)


def weighted(model, batch):
    inputs, targets = batch
    losses = nn.functional.cross_entropy(model(inputs), targets, reduction="none")
    return {"loss": ll.Weighted(losses, 1.0 + targets), "square": losses.square()}


def penalty(model):
    return 1e-3 * sum(value.square().sum() for value in model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"loss": weighted},
        {"loss": lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]), "whole_batch": True},
        {"metrics": {"size": lambda model, batch: model(batch[0]).norm(dim=1)}, "regularizer": penalty},
    ],
    ids=["weighted", "whole batch", "metrics"],
)
def test_other_losses_give_the_surface_of_the_cpu(options, accelerator):
    def compute(device):
        model, objective = subject(device, **options)
        surface = ll.evaluate(objective, ll.random_plane(model, seed=3), **GRID)
        return {name: value for name, value in values_of(surface).items() if value is not None}

    on_both(accelerator, compute)


def test_samples_from_a_loader_are_moved_batch_by_batch(accelerator):
    def compute(device):
        model = make("mlp").double().to(device)
        batches = [tuple(part[start : start + 8] for part in data()) for start in range(0, 29, 8)]
        objective = ll.objective(model, torch.utils.data.DataLoader(Listed(batches), batch_size=None), device=device)
        return values_of(ll.evaluate(objective, ll.random_plane(model), **GRID))

    expected, actual = compute("cpu"), compute(accelerator)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5)


class Listed(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_bf16_casts_on_the_device(accelerator):
    model = make("cnn")
    objective = ll.objective(model, images(29), device=accelerator, precision="bf16")
    surface = ll.evaluate(objective, ll.random_plane(model), **GRID)
    assert 0 < surface.metadata["checks"]["precision_error"] < 0.05


def test_a_surface_is_resumed(tmp_path, accelerator):
    def compute(device):
        model, objective = subject(device)
        plane, path = ll.random_plane(model), tmp_path / f"{device}.npz"
        ll.evaluate(objective, plane, resume=path, **GRID)
        again = ll.evaluate(objective, plane, resume=path, **GRID)
        assert again.metadata["resumed_points"] == 12
        return values_of(again)

    on_both(accelerator, compute)


# ---------------------------------------------------------------- slices


def lines(device):
    first, last = (make("residual", seed).double().to(device) for seed in (0, 1))
    return first, {"interpolation": ll.interpolation_line(first, last)}


def planes(device):
    models = [make("mlp", seed).double().to(device) for seed in range(4)]
    return models[0], {"three points": ll.three_point_plane(*models[:3]), "principal": ll.pca_plane(models)}


def curves(device):
    models = [make("mlp", seed).double().to(device) for seed in range(2)]
    objective = ll.objective(models[0], data(), device=device, dtype=torch.float64)
    return models[0], {"curve": ll.fit_curve(objective, *models, epochs=2, batch_size=8, bends=1, progress=False)}


def eigenvectors(device):
    model, objective = subject(device)
    pairs = ll.top_eigenpairs(objective, model, k=2, progress=False)
    return model, {"eigenvectors": ll.eigenvector_plane(model, pairs)}


@pytest.mark.parametrize("slices", [lines, planes, curves, eigenvectors], ids=lambda slices: slices.__name__)
def test_slices_through_networks_on_the_device(slices, accelerator):
    def compute(device):
        model, made = slices(device)
        objective = ll.objective(model, data(), device=device, dtype=torch.float64)
        grid = {**GRID, "alpha_range": (0, 1), "resolution": 3}
        assert all(value.device.type == device for slice_ in made.values() for value in slice_.origin.values())
        return {name: ll.evaluate(objective, slice_, **grid).loss for name, slice_ in made.items()}

    on_both(accelerator, compute)


# ---------------------------------------------------------------- curvature, sharpness, connectivity


@pytest.mark.parametrize("kind", ["hessian", "ggn", "differences"])
def test_products_are_those_of_the_cpu(kind, accelerator):
    def compute(device):
        model, objective = subject(device, "cnn")
        make_product = ll.ggn_product if kind == "ggn" else ll.hessian_product
        product = make_product(objective, model, **({"differences": True} if kind == "differences" else {}))
        vector = np.random.default_rng(0).standard_normal(product.dimension)
        there = {name: torch.ones_like(value) for name, value in model.named_parameters()}
        return {"vector": product.matvec(vector), "point": torch.cat([v.flatten() for v in product(there).values()])}

    on_both(accelerator, compute)


def test_measures_of_the_curvature_are_those_of_the_cpu(accelerator):
    def compute(device):
        model, objective = subject(device)
        product = ll.hessian_product(objective, model, parameters=("1.*", "3.*"))
        pairs = ll.top_eigenpairs(product, k=2, tol=1e-8, progress=False)
        plane = ll.random_plane(model, seed=1)
        faith = ll.faithfulness(objective, plane, probes=2, tol=1e-6, progress=False)
        return {
            "eigenvalues": pairs.values,
            "trace": ll.trace(product, max_products=30, progress=False).value,
            "density": ll.spectral_density(product, probes=2, steps=5, progress=False).nodes,
            "faithfulness": [*faith.axis_curvatures, faith.hessian_share, faith.gradient_norm],
        }

    on_both(accelerator, compute)


@pytest.mark.parametrize("measure", ["keskar", "sam", "ascent", "adaptive-gaussian"])
def test_sharpness_is_that_of_the_cpu(measure, accelerator):
    def compute(device):
        model, objective = subject(device)
        return {"value": ll.sharpness(objective, model, measure).value}

    on_both(accelerator, compute)


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_permuted_networks_on_the_device_are_aligned(method, accelerator):
    def compute(device):
        a, b = (make("mlp", seed).double().to(device) for seed in (0, 1))
        aligned = ll.align(a, b, method=method, data=data())
        assert {value.device.type for value in aligned.model.state_dict().values()} == {device}
        objective = ll.objective(a, data(), device=device, dtype=torch.float64)
        barrier = ll.barrier(objective, a, aligned.model, resolution=3, progress=False)
        return {"barrier": barrier.value, "orders": np.concatenate([*aligned.permutations.values()])}

    on_both(accelerator, compute)


# ---------------------------------------------------------------- training and its path


def moons(count, which):
    loaded = ll.load_dataset("moons", split=which, limit=count)
    return dataclasses.replace(loaded, inputs=loaded.inputs.double())


SETTINGS = {"batch_size": 16, "lr": 0.05, "seed": 3}


def flat(model):
    return torch.cat([value.detach().flatten().cpu() for value in model.parameters()])


def built(device):
    torch.manual_seed(0)
    return ll.build_model("deep-small", classes=2).double().to(device)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_and_its_path_are_those_of_the_cpu(optimizer, tmp_path, accelerator):
    train, test = moons(67, "train"), moons(40, "test")

    def compute(device):
        model = built(device)
        recorder = ll.TrajectoryRecorder(tmp_path / f"{device}.points", dtype=torch.float64)
        history = ll.fit(
            model, train, test, device=device, epochs=3, optimizer=optimizer, on_epoch=recorder.on_epoch, **SETTINGS
        )
        path = ll.RecordedPoints(tmp_path / f"{device}.points")
        objective = ll.objective(model, (test.inputs, test.targets), device=device, dtype=torch.float64)
        projected = ll.project(path, ll.pca_plane(path), objective, progress=False)
        shown = {"shadow": projected.coordinates, "distance": projected.distance, "loss": projected.loss}
        return {"weights": flat(model), "losses": [epoch["train_loss"] for epoch in history], **shown}

    on_both(accelerator, compute)


def test_interrupted_training_goes_on_to_the_same_weights(tmp_path, accelerator):
    train, test = moons(67, "train"), moons(40, "test")
    settings = {"device": accelerator, "epochs": 3, "optimizer": "adam", **SETTINGS}

    def stop(epoch, *_):
        if epoch == 2:
            raise KeyboardInterrupt

    whole, parts = built(accelerator), built(accelerator)
    ll.fit(whole, train, test, **settings)
    with pytest.raises(KeyboardInterrupt):
        ll.fit(parts, train, test, state=tmp_path / "state", on_epoch=stop, **settings)
    parts = built(accelerator)
    ll.fit(parts, train, test, state=tmp_path / "state", **settings)
    assert torch.equal(flat(parts), flat(whole))


def test_stacked_training_is_that_of_the_cpu(accelerator):
    train, test = moons(67, "train"), moons(40, "test")

    def compute(device):
        models = [built(device) for _ in range(2)]
        settings = [ll.Training(epochs=2, batch_size=16, lr=lr, seed=3) for lr in (0.05, 0.1)]
        ll.fit_stacked(models, [train] * 2, [test] * 2, settings, device=device)
        return {"first": flat(models[0]), "second": flat(models[1]), "predicted": predict(models[0], test)}

    on_both(accelerator, compute)


# ---------------------------------------------------------------- transfers, counted on the device of the tests


@pytest.fixture
def transfers_of(accelerator, monkeypatch):
    """The transfers of the passes alone, without proofs and checks, in batches of a given size: no timing decides."""
    if accelerator != "pretend":
        pytest.skip("transfers are counted on the device that exists in tests only")

    def compute(method, batch_size, **options):
        def arrange(members, coordinates, team, **_):
            for member in members:
                member.arrange(Arrangement(batch_size))
            return 1.0

        def watched(workers, *arguments):
            with pretend_device.counted() as counted:
                for block in evaluate(workers, *arguments):
                    blocks.append(block)
                    yield block
            noted.append(counted)

        blocks, noted, evaluate = [], [], Workers.evaluate
        with monkeypatch.context() as patch:
            patch.setattr("landscape.evaluation.workers.tune", arrange)
            patch.setattr("landscape.evaluation.methods.affine.LOAD", batch_size)
            patch.setattr(Workers, "evaluate", watched)
            model, objective = subject(accelerator, "linear" if method == "affine" else "cnn", count=61, **options)
            ll.evaluate(objective, ll.random_plane(model), method=method, **GRID)
        return len(blocks), [name for counted in noted for name in counted.to_host]

    return compute


@pytest.mark.parametrize("options", [{}, {"loss": weighted}], ids=["cross-entropy", "weighted"])
@pytest.mark.parametrize("method", ["prefix", "direct"])
def test_the_host_waits_twice_a_block_whatever_the_number_of_batches(method, options, transfers_of):
    few, many = transfers_of(method, 61, **options), transfers_of(method, 6, **options)
    assert few == many
    blocks, waits = many
    assert len(waits) <= 2 * blocks


def test_the_affine_method_waits_twenty_times_a_batch_at_most(transfers_of):
    """Its batches hold thousands of samples, and it decides by their values what it computes."""
    (blocks, few), (_, many) = transfers_of("affine", 61), transfers_of("affine", 16)
    assert len(few) <= 20 + 2 * blocks and len(many) <= 4 * 20 + 2 * blocks


def test_resident_samples_are_moved_once(accelerator):
    if accelerator != "pretend":
        pytest.skip("transfers are counted on the device that exists in tests only")
    inputs, targets = data(200)
    model = make("mlp").double()
    with pretend_device.counted() as counted:
        objective = ll.objective(model, (inputs, targets), device=accelerator, dtype=torch.float64, batch_size=16)
    assert counted.to_device.count(inputs.numel()) == 1
    weights = sum(value.numel() for value in model.parameters())
    with pretend_device.counted() as counted:
        ll.evaluate(objective, ll.random_plane(model), **GRID)
    assert max(counted.to_device) <= weights and len(counted.to_device) <= 120


def test_training_moves_its_data_once_and_reads_its_sums_once_an_epoch(accelerator):
    if accelerator != "pretend":
        pytest.skip("transfers are counted on the device that exists in tests only")
    train, test, counts = moons(67, "train"), moons(40, "test"), []
    for epochs in (1, 3):
        with pretend_device.counted() as counted:
            ll.fit(built("cpu"), train, test, device=accelerator, epochs=epochs, **SETTINGS)
        assert counted.to_device.count(train.inputs.numel()) == counted.to_device.count(test.inputs.numel()) == 1
        counts.append(len(counted.to_host))
    assert counts[1] - counts[0] <= 2 * 4  # epochs x (running loss and accuracy, test loss, test accuracy)


@pytest.mark.parametrize("kind", ["hessian", "gradient"])
def test_derivatives_wait_as_often_for_many_batches_as_for_few(kind, accelerator):
    if accelerator != "pretend":
        pytest.skip("transfers are counted on the device that exists in tests only")
    counts = []
    for batch_size in (5, 61):
        model, objective = subject(accelerator, count=61, batch_size=batch_size)
        product = ll.hessian_product(objective, model)
        mean = MeanLoss(objective.in_batches(batch_size))
        vector, point = np.ones(product.dimension), ll.parameters_of(model)
        product.matvec(vector), mean.with_gradient(point)  # whose checks are done now
        with pretend_device.counted() as counted:
            product.matvec(vector) if kind == "hessian" else mean.with_gradient(point)
        counts.append(len(counted.to_host))
    assert counts[0] == counts[1] <= 4


# ---------------------------------------------------------------- the device itself


def test_the_device_of_the_tests_refuses_what_a_gpu_refuses(accelerator):
    there = torch.ones(3, 2, device=accelerator)
    assert (there * torch.tensor(2.0)).device.type == accelerator  # a number of the CPU is none of its tensors
    assert there[torch.tensor([0, 2])].shape == (2, 2)
    with pytest.raises(RuntimeError):
        there + torch.ones(3, 2)
    with pytest.raises(RuntimeError):
        torch.cat([there, torch.ones(1, 2)])
    with pytest.raises(RuntimeError):
        torch.ones(3, 2)[torch.zeros(1, dtype=torch.int64, device=accelerator)]
    with pytest.raises(RuntimeError):
        torch.rand(2, device=accelerator, generator=torch.Generator())
    with pytest.raises(TypeError):
        there.numpy()
    with pytest.raises(RuntimeError):
        there.data = torch.ones(3, 2)


def test_its_transfers_are_counted(accelerator):
    if accelerator != "pretend":
        pytest.skip("transfers are counted on the device that exists in tests only")
    with pretend_device.counted() as counted:
        there = torch.ones(3, 2).to(accelerator)
        (
            there.sum().item(),
            bool(there[0, 0] > 0),
            there.cpu(),
            there.tolist(),
            there[there > 0],
            torch.equal(there, there),
        )
    assert counted.to_device == [6] and len(counted.to_host) == 6
    with pretend_device.counted() as counted:
        (there @ there.mT).relu_().sum(), there.clone(), torch.zeros(2, device=accelerator)
    assert not counted.to_device and not counted.to_host


# ---------------------------------------------------------------- exact answers


def is_long(check):
    return not check.quick or check.name in ("sharpness of quadratics", "spectra of quadratics")


@pytest.mark.parametrize(
    "check", [pytest.param(check, marks=[pytest.mark.slow] * is_long(check), id=check.name) for check in CHECKS]
)
def test_the_checks_of_the_self_test_pass_on_the_device(check, accelerator):
    outcome = _outcome(check, TOOLKIT, Place(ll.select_device(accelerator), torch.float64))
    assert outcome.passed, (outcome.error, [c for c in outcome.comparisons if not c.passed])
