"""Objectives: per-sample losses, BatchNorm policies by hand-written references, side effects, refusals."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import images, make
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll


def objective(model, data, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, **options})


@pytest.mark.parametrize("batch_size", [1, 3, 4, 13, 100])
def test_losses_do_not_depend_on_the_batch_size(batch_size):
    model, (inputs, targets) = make("residual").double(), images()
    losses = objective(model, (inputs, targets), batch_size=batch_size)(ll.parameters_of(model))
    expected = F.cross_entropy(model(inputs.double()), targets, reduction="none")
    torch.testing.assert_close(losses, expected.detach())


def test_every_kind_of_data_gives_the_same_losses():
    model, (inputs, targets) = make("cnn"), images()
    dataset = TensorDataset(inputs, targets)
    kinds = [(inputs, targets), dataset, DataLoader(dataset, batch_size=5)]
    results = [objective(model, data, dtype=torch.float32)(ll.parameters_of(model)) for data in kinds]
    assert results[0].shape == (13,) and results[0].dtype == torch.float32
    for losses in results[1:]:
        torch.testing.assert_close(losses, results[0])


def test_samples_that_do_not_fit_are_streamed_and_give_the_same(monkeypatch):
    model, (inputs, targets) = make("cnn").double(), images()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=5)
    resident = objective(model, loader)
    monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
    streamed = objective(model, loader)
    assert resident.samples.tensors is not None and streamed.samples.tensors is None
    plane = ll.random_plane(model)
    a, b = (ll.evaluate(o, plane, resolution=3, progress=False) for o in (resident, streamed))
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)


def test_dictionaries_as_batches_with_a_callable_loss():
    model, (inputs, targets) = make("mlp").double(), images()
    rows = [{"x": x, "y": y} for x, y in zip(inputs, targets, strict=True)]
    loss = lambda net, batch: F.cross_entropy(net(batch["x"]), batch["y"], reduction="none")  # noqa: E731
    found = objective(model, DataLoader(rows, batch_size=4), loss=loss)(ll.parameters_of(model))
    torch.testing.assert_close(found, objective(model, (inputs, targets))(ll.parameters_of(model)))


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int32, torch.uint16])
@pytest.mark.parametrize("streamed", [False, True])
def test_labels_of_any_integer_type_give_the_same(name, kind, streamed, monkeypatch):
    model, (inputs, targets) = make(name).double(), images(300)
    plane = ll.random_plane(model)
    expected = ll.evaluate(objective(model, (inputs, targets)), plane, resolution=3, progress=False)
    data = TensorDataset(inputs, targets.to(kind))
    if streamed:
        monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
        data = DataLoader(data, batch_size=290)
    found = ll.evaluate(objective(model, data), plane, resolution=3, progress=False)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)


def test_mse_of_labels_is_against_one_hot_vectors_and_of_vectors_itself():
    model, (inputs, targets) = make("mlp").double(), images()
    outputs = model(inputs.double()).detach()
    expected = ((outputs - torch.eye(3, dtype=torch.float64)[targets]) ** 2).mean(1)
    torch.testing.assert_close(objective(model, (inputs, targets), loss="mse")(ll.parameters_of(model)), expected)
    wanted = torch.randn(13, 3)
    expected = ((outputs - wanted.double()) ** 2).mean(1)
    torch.testing.assert_close(objective(model, (inputs, wanted), loss="mse")(ll.parameters_of(model)), expected)


def test_regression_targets_without_the_output_axis_are_not_broadcast():
    model = nn.Linear(4, 1).double()
    inputs, targets = torch.randn(6, 4), torch.randn(6)
    expected = (model(inputs.double()).flatten() - targets.double()) ** 2
    found = objective(model, (inputs, targets), loss="mse")(ll.parameters_of(model))
    torch.testing.assert_close(found, expected.detach())


def test_scalar_loss_is_averaged_over_samples_and_has_no_standard_error():
    model, (inputs, targets) = make("mlp").double(), images()
    scalar = objective(model, (inputs, targets), loss=lambda net, b: F.cross_entropy(net(b[0]), b[1]), batch_size=5)
    plane = ll.random_plane(model)
    found = ll.evaluate(scalar, plane, resolution=3, progress=False)
    expected = ll.evaluate(objective(model, (inputs, targets)), plane, resolution=3, progress=False)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    assert np.isnan(found.standard_error).all() and found.accuracy is None
    with pytest.raises(ll.InputError, match="per_sample needs a loss that gives one value a sample"):
        ll.evaluate(scalar, plane, per_sample=True, resolution=3, progress=False)


def batch_norm_by_hand(model, inputs, statistics):
    """Forward pass of `batch_norm_cnn` with the BatchNorm arithmetic written out."""
    h = inputs
    for index, layer in enumerate(model):
        if not isinstance(layer, nn.BatchNorm2d):
            h = layer(h)
            continue
        mean, var = statistics(index, h)
        h = (h - mean[:, None, None]) / (var[:, None, None] + layer.eps).sqrt()
        h = h * layer.weight[:, None, None] + layer.bias[:, None, None]
    return h


OTHER_BUFFERS = {
    "losses": lambda target, other: target(other),
    "hessian": ll.hessian_product,
    "ggn": ll.ggn_product,
    "sharpness": lambda target, other: ll.sharpness(target, other, "sam"),
}


class Scaled(nn.Module):
    """A network whose inputs are scaled by a buffer."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x):
        return self.fc(self.scale * x)


@pytest.mark.parametrize("use", OTHER_BUFFERS.values(), ids=OTHER_BUFFERS)
def test_a_network_with_other_buffers_is_no_point_of_the_objective(use):
    data = (torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)
    target = ll.objective(Scaled(1.0), data, device="cpu")
    use(target, Scaled(1.0))
    use(target, ll.parameters_of(Scaled(2.0)))  # a point has no buffers: those are the objective's
    with pytest.raises(ll.InputError, match="whose buffer 'scale' is not that of the objective's network"):
        use(target, Scaled(2.0))


@pytest.mark.parametrize("batch_size", [4, 13])
@pytest.mark.parametrize("policy", ["running", "batch", "recalibrate"])
def test_batch_norm_policies_against_hand_written_references(policy, batch_size):
    model, (inputs, targets) = make("batch_norm_cnn").double(), images(12)
    plane = ll.random_plane(model, seed=2)
    surface = ll.evaluate(
        objective(model, (inputs, targets), batch_norm=policy, batch_size=batch_size),
        plane,
        resolution=(3, 2),
        progress=False,
    )

    def losses(weights, batch, labels):
        moved = copy.deepcopy(model)
        moved.load_state_dict({**moved.state_dict(), **weights})
        own = lambda i, _: (moved[i].running_mean, moved[i].running_var)  # noqa: E731
        of_batch = lambda _, h: (h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0))  # noqa: E731
        outputs = batch_norm_by_hand(moved, batch, own if policy == "running" else of_batch)
        return F.cross_entropy(outputs, labels, reduction="none").detach()

    size = batch_size if policy == "batch" else len(inputs)
    for i, a in enumerate((-1, 0, 1)):
        for j, b in enumerate((-1, 1)):
            pieces = zip(inputs.double().split(size), targets.split(size), strict=True)
            expected = torch.cat([losses(plane(a, b), *piece) for piece in pieces]).mean()
            assert surface.loss[i, j] == pytest.approx(expected.item(), rel=1e-9)
    assert surface.metadata["objective"]["batch_norm"] == policy


def test_interpolation_recalibrates_and_its_ends_are_the_models_own_losses():
    data = images(40)
    a, b = make("residual", 0).double(), make("residual", 1).double()
    surface = ll.evaluate(
        objective(a, data), ll.interpolation_line(a, b), alpha_range=(0, 1), resolution=3, progress=False
    )
    for end, model in ((0, a), (-1, b)):
        own = objective(model, data, batch_norm="recalibrate")(ll.parameters_of(model)).mean()
        assert surface.loss[end] == pytest.approx(own.item(), rel=1e-10)
    assert surface.betas is None and surface.loss.shape == (3,)
    assert surface.metadata["objective"]["batch_norm"] == "recalibrate"


def test_running_statistics_of_one_network_are_refused_between_two():
    a, b = make("residual", 0), make("residual", 1)
    target = objective(a, images(), batch_norm="running")
    with pytest.raises(ll.InputError, match="a barrier that does not exist; use 'recalibrate'"):
        ll.evaluate(target, ll.interpolation_line(a, b), progress=False)
    plain = objective(make("mlp", 0), images(), batch_norm="running")  # without BatchNorm there is nothing to refuse
    ll.evaluate(plain, ll.interpolation_line(make("mlp", 0), make("mlp", 1)), resolution=3, progress=False)


class Explodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(32, 3), 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 60:
            raise RuntimeError("boom")
        return self.layer(x.flatten(1)) ** 2


@pytest.mark.parametrize("make_model", [lambda: make("batch_norm_cnn"), Explodes])
def test_nothing_of_the_caller_changes_also_when_it_raises(make_model):
    model, data = make_model(), images()
    model.train()
    next(model.parameters()).requires_grad_(False)
    state, flags = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    pointers = [p.data_ptr() for p in model.parameters()]
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy()
    loader = DataLoader(TensorDataset(*data), batch_size=4)  # iterating draws from the global generator
    target = ll.objective(model, loader, batch_norm="batch", batch_size=4, device="cpu")
    plane = ll.random_plane(model)
    if isinstance(model, Explodes):
        with pytest.raises(RuntimeError, match="boom"):
            ll.evaluate(target, plane, resolution=5, progress=False)
    else:
        ll.evaluate(target, plane, resolution=5, progress=False)
    assert model.training and all(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random_states[0], torch.get_rng_state())
    assert (random_states[1] == np.random.get_state()[1]).all()
    assert torch.is_grad_enabled()


class Dropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 3)

    def forward(self, x):
        return F.dropout(self.layer(x.flatten(1)))  # functional dropout is on in eval mode too


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 3)

    def forward(self, x):
        return self.layer(x.flatten(1)), None


X, Y = images()
BAD = {
    "unknown loss": (lambda: ll.objective(make("mlp"), (X, Y), loss="hinge"), "unknown loss 'hinge'"),
    "unknown policy": (lambda: ll.objective(make("mlp"), (X, Y), batch_norm="eval"), "unknown BatchNorm policy"),
    "unknown device": (lambda: ll.objective(make("mlp"), (X, Y), device="tpu"), "unknown device 'tpu'"),
    "absent device": (lambda: ll.objective(make("mlp"), (X, Y), device="cuda:99"), "'cuda:99' is not available"),
    "labels": (lambda: ll.objective(make("mlp"), (X, Y + 7)), "labels run from 7 to 9 but the model has 3 outputs"),
    "negative label": (lambda: ll.objective(make("mlp"), (X, Y - 1)), "labels run from -1"),
    "lengths": (lambda: ll.objective(make("mlp"), (X, Y[:4])), "not 4 and 13; whole_batch=True"),
    "empty": (lambda: ll.objective(make("mlp"), (X[:0], Y[:0])), "no samples"),
    "shape": (lambda: ll.objective(make("mlp"), (X[:, :1], Y)), r"does not accept inputs of shape \(13, 1, 4, 4\)"),
    "no data": (lambda: ll.objective(make("mlp"), "mnist"), "not str"),
    "no model": (lambda: ll.objective(ll.parameters_of(make("mlp")), (X, Y)), "torch.nn.Module, not dict"),
    "dropout": (lambda: ll.objective(Dropout(), (X, Y)), "not deterministic"),
    "tuple output": (lambda: ll.objective(Pair(), (X, Y)), "returns tuple, not a tensor"),
    "loss shape": (
        lambda: ll.objective(make("mlp"), (X, Y), loss=lambda net, b: net(b[0])),
        r"shape \(13, 3\); it must be \[13\]",
    ),
    "sum": (
        lambda: ll.objective(make("mlp"), (X, Y), loss=lambda n, b: F.cross_entropy(n(b[0]), b[1], reduction="sum")),
        "not the mean over the samples",
    ),
    "loss of outputs and targets": (
        lambda: ll.objective(make("mlp"), (X, Y), loss=lambda outputs, targets: F.cross_entropy(outputs, targets)),
        r"called with \(model, batch\), not with \(outputs, targets\)",
    ),
    "difference of outputs and targets": (
        lambda: ll.objective(make("mlp"), (X, Y), loss=lambda outputs, targets: (outputs - targets).square()),
        r"called with \(model, batch\), not with \(outputs, targets\)",
    ),
    "criterion of three": (
        lambda: ll.objective(make("mlp"), (X, Y), loss=torch.nn.GaussianNLLLoss()),
        r"missing .* pass loss=callable\(model, batch\), which can give",
    ),
    "shuffled": (
        lambda: ll.objective(make("mlp"), DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)),
        "gives other data on a second pass",
    ),
    "foreign point": (
        lambda: ll.objective(make("mlp"), (X, Y))(ll.parameters_of(make("cnn"))),
        "does not belong to this network",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case):
    call, message = BAD[case]
    with pytest.raises(ll.InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
