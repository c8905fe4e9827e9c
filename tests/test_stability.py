"""Sharpness along training: quadratics with closed forms, dense matrices, and training that is left alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import landscape_lib as ll
from landscape.stability import batch_sharpness, critical_step, preconditioned_sharpness, preconditioner_of

GENERATOR = torch.Generator().manual_seed(7)
FACTOR = torch.randn(6, 6, generator=GENERATOR, dtype=torch.float64)
MATRIX = FACTOR @ FACTOR.T / 6 + torch.eye(6, dtype=torch.float64) / 2
OFFSET = torch.randn(6, generator=GENERATOR, dtype=torch.float64)
INPUTS, TARGETS = torch.randn(23, 4, generator=GENERATOR).double(), torch.arange(23) % 3


class Quadratic(nn.Module):
    """w^T A w / 2 - c^T w."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(2, 3))

    def forward(self):
        w = self.weight.flatten()
        return w @ MATRIX @ w / 2 - OFFSET @ w


def quadratic():
    model = Quadratic()
    target = ll.objective(
        model, torch.ones(3), loss=lambda network, batch: network() * batch, dtype=torch.float64, device="cpu"
    )  # fmt: skip
    return model, target


def mlp(seed=0, norm=False):
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6) if norm else nn.Identity(), nn.Tanh(), nn.Linear(6, 3)]
    return nn.Sequential(*layers).double()


def classifier(model, **options):
    return ll.objective(model, (INPUTS, TARGETS), dtype=torch.float64, device="cpu", **options)


def train(model, optimizer, steps=4, loss=None):
    for _ in range(steps):
        optimizer.zero_grad()
        (loss or (lambda: F.cross_entropy(model(INPUTS), TARGETS)))().backward()
        optimizer.step()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), betas=(0.7, 0.99)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "centered": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "lion-like": lambda p: torch.optim.Rprop(p, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_critical_sharpness_of_a_quadratic_is_its_closed_form(name):
    model, target = quadratic()
    optimizer = OPTIMIZERS[name](model.parameters())
    recorder = ll.SharpnessRecorder(target, model, optimizer)
    points = [model.weight.detach().clone()]
    for _ in range(5):
        train(model, optimizer, 1, model)
        points.append(model.weight.detach().clone())
    history, lr = recorder.history, float(optimizer.param_groups[0]["lr"])
    assert history.steps.tolist() == [0, 1, 2, 3, 4] and history.lr == pytest.approx([lr] * 5)
    for k, found in enumerate(history.critical):
        w, u = points[k].flatten(), (points[k] - points[k + 1]).flatten() / lr
        gradient = MATRIX @ w - OFFSET
        expected = u @ MATRIX @ u / (u @ gradient)
        if name == "sgd":
            torch.testing.assert_close(expected, gradient @ MATRIX @ gradient / (gradient @ gradient))
        assert found == pytest.approx(max(0, expected.item()) if expected > 0 else math.inf, rel=1e-9)
        assert history.loss[k] == pytest.approx((w @ MATRIX @ w / 2 - OFFSET @ w).item(), rel=1e-12)


def test_a_critical_step_takes_few_passes_and_is_where_the_loss_is_that_of_the_point():
    model = mlp()
    target = classifier(model)
    point = ll.parameters_of(model)
    loss = F.cross_entropy(model(INPUTS), TARGETS)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    update = dict(zip(point, gradient, strict=True))
    first = critical_step(target, point, update)
    again = critical_step(target, point, update, start=first.multiple * 1.1)
    assert again.passes <= 7 and again.loss == pytest.approx(loss.item(), abs=1e-12)
    for found in (first, again):
        end = {name: value - found.multiple * update[name] for name, value in point.items()}
        nearer = {name: value - 0.9 * found.multiple * update[name] for name, value in point.items()}
        rises = [target(other).mean().item() - loss.item() for other in (end, nearer)]
        assert abs(rises[0]) < 1e-3 * abs(rises[1]) and rises[1] < 0


def test_updates_without_an_end_and_without_a_descent_are_told_apart():
    model, target = quadratic()
    point = ll.parameters_of(model)
    gradient = {"weight": (MATRIX @ point["weight"].flatten() - OFFSET).reshape(2, 3)}
    assert critical_step(target, point, {"weight": -gradient["weight"]}).multiple == 0
    assert math.isnan(critical_step(target, point, {"weight": torch.zeros(2, 3)}).multiple)
    line = nn.Linear(1, 1).double()
    falling = ll.objective(line, torch.ones(2, 1), loss=lambda m, x: m(x)[:, 0], dtype=torch.float64, device="cpu")
    slope = {name: torch.ones_like(value) for name, value in line.named_parameters()}
    assert critical_step(falling, ll.parameters_of(line), slope).multiple == math.inf


def test_a_loss_that_is_nan_beyond_a_wall_counts_as_risen():
    model = nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(1.7)
    target = ll.objective(
        model, torch.ones(2, 1), loss=lambda m, x: m(x).sqrt()[:, 0], dtype=torch.float64, device="cpu"
    )  # fmt: skip
    found = critical_step(target, ll.parameters_of(model), {"weight": torch.ones(1, 1).double()})
    assert found.multiple == pytest.approx(1.7, rel=1e-3) and found.passes < 40


def dense_hessian(model, inputs, targets):
    names = [name for name, _ in model.named_parameters()]
    values = [value.detach() for value in model.parameters()]

    def loss(vector):
        pieces = vector.split([value.numel() for value in values])
        point = {n: p.reshape(v.shape) for n, p, v in zip(names, pieces, values, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, point, inputs), targets)

    vector = torch.cat([value.flatten() for value in values])
    return torch.func.grad(loss)(vector), torch.func.hessian(loss)(vector)


def test_batch_sharpness_is_the_mean_of_dense_quotients():
    model = mlp()
    target, point = classifier(model), ll.parameters_of(model)
    gradient, matrix = dense_hessian(model, INPUTS, TARGETS)
    whole, error = batch_sharpness(target, point, batch_size=23)
    assert whole == pytest.approx((gradient @ matrix @ gradient / (gradient @ gradient)).item(), rel=1e-8)
    assert error == 0
    singles = []
    for k in range(23):
        gradient, matrix = dense_hessian(model, INPUTS[k : k + 1], TARGETS[k : k + 1])
        singles.append((gradient @ matrix @ gradient / (gradient @ gradient)).item())
    mean, error = batch_sharpness(target, point, batch_size=1, batches=40)
    assert abs(mean - np.mean(singles)) < 4 * error and error < np.std(singles)
    assert mean > 1.5 * whole  # the smaller the batch, the sharper
    assert batch_sharpness(target, point, batch_size=1, batches=40) == (mean, error)
    single, unknown = batch_sharpness(target, point, batch_size=1, batches=1)
    assert math.isfinite(single) and math.isnan(unknown)


def preconditioner(optimizer, gradients, name):
    """P by the formulas, from the gradients of all steps."""
    group = optimizer.param_groups[0]
    mean, square, largest = 0, 0, 0
    second = group.get("alpha") or group["betas"][1]
    for g in gradients:
        square = second * square + (1 - second) * g**2
        mean = second * mean + (1 - second) * g
        largest = np.maximum(largest, square)
    if name == "rmsprop":
        return np.sqrt(square) + group["eps"]
    if name == "centered":
        return np.sqrt(square - mean**2) + group["eps"]
    steps, first = len(gradients), group["betas"][0]
    square = largest if name == "amsgrad" else square
    return (1 - first**steps) * (np.sqrt(square / (1 - second**steps)) + group["eps"])


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "amsgrad", "adamw", "rmsprop", "centered"])
def test_the_preconditioned_sharpness_is_that_of_the_dense_matrix(name):
    model = mlp(1)
    optimizer = OPTIMIZERS[name](model.parameters())
    recorder = ll.SharpnessRecorder(classifier(model), model, optimizer, measures=("preconditioned",))
    gradients, expected = [], []
    for _ in range(3):
        gradient, matrix = dense_hessian(model, INPUTS, TARGETS)
        gradients.append(gradient.detach().numpy())
        train(model, optimizer, 1)
        scale = np.ones(len(gradient)) if name in ("sgd", "momentum", "nesterov") else None
        scale = preconditioner(optimizer, gradients, name) if scale is None else scale
        expected.append(np.linalg.eigvals(matrix.numpy() / scale[:, None]).real.max())
    history = recorder.history
    np.testing.assert_allclose(history.preconditioned, expected, rtol=1e-5)
    factor = {
        "sgd": 2, "momentum": 3.8, "nesterov": 3.6 / 2.6, "adam": 38, "amsgrad": 38, "adamw": 3.4 / 0.3, "rmsprop": 2,
        "centered": 3,
    }  # fmt: skip
    np.testing.assert_allclose(history.threshold * history.lr, factor[name], rtol=1e-6)
    assert np.isnan(history.critical).all() and np.isfinite(history.loss).all()


@pytest.mark.parametrize("kind", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"])
def test_optimizers_are_unstable_just_above_their_threshold(kind):
    """On h w^2 / 2 with P held still, by the powers of the matrix of one step."""
    model = nn.Linear(1, 1, bias=False).double()
    optimizer = OPTIMIZERS[kind](model.parameters())
    x = torch.ones(1, 1).double()
    train(model, optimizer, 1, lambda: model(x).square().mean())
    [diagonal], threshold = preconditioner_of(optimizer, model)[0].values(), preconditioner_of(optimizer, model)[1]
    group = optimizer.param_groups[0]
    lr, first = float(group["lr"]), group["betas"][0] if "betas" in group else group["momentum"]
    share = 1 - first if "betas" in group else 1
    for h, stable in ((0.99 * threshold, True), (1.01 * threshold, False)):  # of P^-1 H
        if group.get("nesterov"):  # v = m v + g, w = w - lr (g + m v)
            step = np.array([[1 - lr * h - lr * first * h, -lr * first**2], [h, first]])
        else:  # v = m v + share g, w = w - lr v
            step = np.array([[1 - lr * share * h, -lr * first], [share * h, first]])
        assert (abs(np.linalg.eigvals(step)).max() < 1) == stable
    assert diagonal.shape == (1, 1)


@pytest.mark.parametrize("norm", [False, True])
def test_training_is_the_same_bits_with_a_recorder(norm, tmp_path):
    ends = []
    for recorded in (False, True):
        model = mlp(norm=norm)
        model.insert(1, nn.Dropout(0.2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        if recorded:
            target = classifier(model, batch_norm="running" if norm else None)
            recorder = ll.SharpnessRecorder(
                target, model, optimizer, measures=("critical", "batch", "preconditioned"), every=3, batch_size=5,
                batches=2, path=tmp_path / "sharpness.npz",
            )  # fmt: skip
        torch.manual_seed(3)
        train(model, optimizer, 8)
        ends.append({**model.state_dict(), "draw": torch.rand(3)})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    history = ll.results.SharpnessHistory.load(tmp_path / "sharpness.npz")
    assert history.steps.tolist() == [0, 3, 6]
    assert np.array_equal(history.critical, recorder.history.critical)
    assert (history.preconditioned > 0).all() and history.metadata["optimizer"] == "Adam"
    assert history.critical[0] > 0 and model.training
    recorder.close()
    train(model, optimizer, 2)
    assert len(recorder.history) == 3


def test_batch_norm_is_that_of_the_present_network():
    model = mlp(norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = ll.SharpnessRecorder(classifier(model, batch_norm="running"), model, optimizer)
    train(model, optimizer, 5)
    optimizer.zero_grad()
    F.cross_entropy(model(INPUTS), TARGETS).backward()
    with torch.no_grad():
        expected = F.cross_entropy(model.eval()(INPUTS), TARGETS).item()
    optimizer.step()
    assert recorder.history.loss[5] == pytest.approx(expected, abs=1e-12)


def test_gradient_descent_goes_to_the_edge():
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 10).double(), torch.randint(0, 2, (40,))
    model = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
    target = ll.objective(model, (inputs, targets), loss="mse", dtype=torch.float64, device="cpu")
    recorder = ll.SharpnessRecorder(target, model, optimizer, every=20)
    train(model, optimizer, 400, lambda: F.mse_loss(model(inputs), F.one_hot(targets, 2).double()))
    history = recorder.history
    assert history.critical[0] < 0.5 * history.edge[0]
    assert 0.5 < np.median(history.critical[-5:] / history.edge[-5:]) < 1.5
    assert len(history) == 20 and "critical" in repr(history)


def test_the_figure_draws_every_measure_and_its_edge(clean_figures):
    metadata = {"measures": ["critical", "batch", "preconditioned"], "optimizer": "Adam_$x"}
    values = np.array([1.0, 2.0, np.inf, 4.0])
    history = ll.results.SharpnessHistory(
        np.arange(4), np.full(4, 0.5), np.ones(4), values, values + 1, np.full(4, 0.1), 2 * values[::-1],
        np.full(4, 38 / 0.5), metadata,
    )  # fmt: skip
    ax = ll.plot_sharpness(history)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(lines["2 / lr"], [4] * 4)
    np.testing.assert_array_equal(lines["critical sharpness (1 of 4 steps not drawn)"], [1, 2, np.nan, 4])
    assert len(lines) == 5 and ax.get_yscale() == "log" and ax.get_xlabel() == "step"
    ax.figure.canvas.draw()
    with pytest.raises(ll.InputError, match="the history of sharpness is empty"):
        ll.plot_sharpness(ll.results.SharpnessHistory(*[np.zeros(0)] * 8, {}))


class Plain(torch.optim.Optimizer):
    def __init__(self, parameters, **defaults):
        super().__init__(parameters, defaults)

    def step(self, closure=None):
        pass


def wrong(**options):
    model = mlp()
    optimizer = options.pop("optimizer", lambda m: torch.optim.SGD(m.parameters(), lr=0.1))(model)
    target = options.pop("target", classifier)(model)
    return ll.SharpnessRecorder(target, options.pop("model", model), optimizer, **options)


FAULTS = {
    "no lr": ({"optimizer": lambda m: Plain(m.parameters())}, "Plain has no learning rate"),
    "lr is None": ({"optimizer": lambda m: Plain(m.parameters(), lr=None)}, "Plain has no learning rate"),
    "several lr": (
        {"optimizer": lambda m: torch.optim.SGD([{"params": m[0].weight, "lr": 0.2}, {"params": m[3].weight}], lr=0.1)},
        "learning rates 0.1, 0.2; sharpness is compared with one",
    ),
    "no optimizer": ({"optimizer": lambda m: m}, r"needs a torch.optim.Optimizer, not Sequential"),
    "others": ({"optimizer": lambda m: torch.optim.SGD(mlp().parameters(), lr=0.1)}, "not those of the model"),
    "unknown": ({"measures": ("flat",)}, r"measures is \('flat',\); give a sequence of 'critical'"),
    "text": ({"measures": "critical"}, "give a sequence"),
    "twice": ({"measures": ("critical", "critical")}, "measures has 'critical' twice"),
    "no batch size": ({"measures": ("batch",)}, "pass batch_size"),
    "large batch": ({"measures": ("batch",), "batch_size": 24}, "batch_size is 24"),
    "few batches": ({"measures": ("batch",), "batch_size": 5, "batches": 1}, "batches is 1"),
    "fixed batches": (
        {"measures": ("batch",), "batch_size": 5, "target": lambda m: classifier(m, whole_batch=True)}, "are fixed"
    ),
    "preconditioner": (
        {"measures": ("preconditioned",), "optimizer": lambda m: torch.optim.Adagrad(m.parameters())},
        "known for SGD, Adam, AdamW, RMSprop, not for Adagrad; leave this measure out",
    ),
    "maximise": (
        {"measures": ("preconditioned",), "optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=1, maximize=True)},
        "maximises the loss",
    ),
    "momenta": (
        {
            "measures": ("preconditioned",),
            "optimizer": lambda m: torch.optim.SGD(
                [{"params": m[0].parameters(), "momentum": 0.5}, {"params": m[3].parameters()}], lr=0.1
            ),
        },
        "different momenta",
    ),
    "every": ({"every": 0}, "every is 0"),
    "size as text": ({"batch_size": "x"}, "batch_size is x"),
    "batches": ({"batches": -1}, "batches is -1"),
    "measures as number": ({"measures": 5}, "measures is 5; give a sequence"),
    "measures in lists": ({"measures": [["x"]]}, "give a sequence"),
    "model": ({"model": 5}, "takes the network that is trained, not int"),
    "suffix": ({"path": "x.txt"}, "cannot write x.txt: a history of sharpness is an .npz file"),
    "path": ({"path": 5}, "takes the path of a file, not int"),
    "other network": ({"model": nn.Linear(2, 2)}, "does not belong to this network"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_wrong_arguments_are_told_in_one_line(case):
    options, message = FAULTS[case]
    with pytest.raises(ll.InputError, match=message) as raised:
        wrong(**options)
    assert "\n" not in str(raised.value)


def test_no_preconditioner_before_the_first_step():
    model = mlp()
    with pytest.raises(ll.InputError, match="has made no step"):
        preconditioner_of(torch.optim.Adam(model.parameters()), model)


def test_large_matrices_are_iterated():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    _, matrix = dense_hessian(model, INPUTS, TARGETS)
    diagonal = {name: torch.rand_like(value) + 0.1 for name, value in model.named_parameters()}
    scale = torch.cat([value.detach().flatten() for value in diagonal.values()]).numpy()
    expected = np.linalg.eigvals(matrix.numpy() / scale[:, None]).real.max()
    found = preconditioned_sharpness(classifier(model), ll.parameters_of(model), diagonal)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_folder_is_refused_as_file_before_training(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ll.InputError, match="it is a folder; give the name of a file in it"):
        wrong(path=tmp_path / "folder.npz")
