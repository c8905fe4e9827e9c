"""Weighted means over samples, named losses with labels that do not count, and criteria of torch."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll

GENERATOR = torch.Generator().manual_seed(4)
ROWS = torch.randn(60, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
OWN = torch.rand(60, generator=GENERATOR, dtype=torch.float64) * (torch.arange(60) % 7 > 0)  # every seventh is 0
CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 5.0])
GRID = {"resolution": (3, 2), "progress": False}


def network(outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).double().eval()


def objective(model, data, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, **options})


def weighted(model, batch):
    return ll.Weighted(F.cross_entropy(model(batch[0]), batch[1], reduction="none"), batch[2])


def weighted_mean(model):
    """What `weighted` stands for, by hand, and its losses."""
    losses = F.cross_entropy(model(ROWS), LABELS, reduction="none")
    return (losses * OWN).sum() / OWN.sum(), losses


def at(model, point):
    moved = copy.deepcopy(model)
    moved.load_state_dict({**moved.state_dict(), **point})
    return moved


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("batch_size", [7, 60])
def test_a_weighted_mean_is_that_over_all_data_whatever_the_batches(batch_size, streamed, monkeypatch):
    data = TensorDataset(ROWS, LABELS, OWN)
    if streamed:
        monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
        data = DataLoader(data, batch_size=batch_size)
    model = network()
    target = objective(model, data, loss=weighted, batch_size=batch_size)
    plane = ll.random_plane(model, seed=2)
    surface = ll.evaluate(target, plane, per_sample=not streamed, **GRID)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        mean, losses = (value.detach().numpy() for value in weighted_mean(at(model, plane(a, b))))
        assert surface.loss[i, j] == pytest.approx(mean, rel=1e-12)
        # The ratio sum(w l) / sum(w), linearised: Cochran 1977, section 6.3.
        residuals = OWN.numpy() * (losses - mean) / OWN.mean().item()
        assert surface.standard_error[i, j] == pytest.approx(np.sqrt((residuals**2).sum() / (60 * 59)), rel=1e-9)
        if not streamed:
            np.testing.assert_allclose(surface.per_sample[i, j], losses, rtol=1e-12)
    assert float(target(model).mean()) == pytest.approx(weighted_mean(model)[0].item(), rel=1e-12)


def test_equal_weights_are_no_weights():
    model = network()
    plane = ll.random_plane(model, seed=2)
    same = objective(model, TensorDataset(ROWS, LABELS, torch.full((60,), 3.0)), loss=weighted)
    one, other = (ll.evaluate(o, plane, **GRID) for o in (same, objective(model, (ROWS, LABELS))))
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-12)
    np.testing.assert_allclose(one.standard_error, other.standard_error, rtol=1e-9)


def test_every_consumer_takes_the_weighted_mean():
    model = network()
    target = objective(model, TensorDataset(ROWS, LABELS, OWN), loss=weighted, batch_size=8)
    names, shapes = zip(*((name, value.shape) for name, value in model.named_parameters()), strict=True)

    def flat(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        point = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return weighted_mean(lambda rows: torch.func.functional_call(model, point, (rows,)))[0]

    origin = torch.cat([p.detach().flatten() for p in model.parameters()])
    hessian = torch.autograd.functional.hessian(flat, origin).numpy()
    vector = np.linspace(-1, 1, len(hessian))
    np.testing.assert_allclose(ll.hessian_product(target, model).matvec(vector), hessian @ vector, atol=1e-12)
    gradient = torch.autograd.functional.jacobian(flat, origin)
    expected = float(flat(origin + 0.05 * gradient / gradient.norm()) - flat(origin))
    assert ll.sharpness(target, model, "sam").value == pytest.approx(expected, rel=1e-9)
    plane = ll.random_plane(model, seed=2)
    full = ll.evaluate(target, plane, resolution=15, progress=False)
    refined = ll.evaluate(target, plane, resolution=15, tolerance="noise", progress=False)
    np.testing.assert_allclose(refined.loss, full.loss, atol=float(full.standard_error.max()))


BAD_WEIGHTS = {
    "negative": (lambda net, b: b[2] - 0.5, "run from -0.5 "),
    "not finite": (lambda net, b: b[2] / 0, "be finite"),
    "zero": (lambda net, b: 0 * b[2], "above 0 for some sample"),
    "of the parameters": (lambda net, b: net(b[0])[:, 0].square(), "change with the parameters"),
    "of the batch": (lambda net, b: b[2] / b[2].sum(), "depends on the others of its batch"),
    "of another shape": (lambda net, b: b[2][:, None], r"two tensors \[batch\]"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_cannot_be_are_refused(case):
    weights, why = BAD_WEIGHTS[case]
    loss = lambda net, b: ll.Weighted(net(b[0]).square().mean(1), weights(net, b))  # noqa: E731
    with pytest.raises(ll.InputError, match=why):
        objective(network(), TensorDataset(ROWS, LABELS, OWN), loss=loss)


class PerToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(15)

    def forward(self, rows):
        return self.net(rows).unflatten(1, (3, 5))


def tokens():
    """Labels [60, 5] of which those of padding, and all of three samples, do not count."""
    lengths = torch.randint(0, 6, (60,), generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (60, 5), generator=torch.Generator().manual_seed(1))
    return labels.masked_fill(torch.arange(5) >= lengths[:, None], -100)


@pytest.mark.parametrize("method", ["direct", "prefix"])
def test_labels_of_minus_100_do_not_count(method):
    model, labels = PerToken().eval(), tokens()
    plane = ll.random_plane(model, seed=2)
    surface = ll.evaluate(objective(model, (ROWS, labels), batch_size=7), plane, method=method, **GRID)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        expected = F.cross_entropy(at(model, plane(a, b))(ROWS), labels)
        assert surface.loss[i, j] == pytest.approx(expected.item(), rel=1e-12)


def test_class_labels_of_minus_100_do_not_count_under_a_linear_network():
    model, labels = nn.Linear(4, 3).double(), torch.where(torch.arange(60) % 3 > 0, LABELS, -100)
    plane = ll.random_plane(model)
    surface = ll.evaluate(objective(model, (ROWS, labels)), plane, resolution=3, progress=False)
    assert surface.loss[1, 1] == pytest.approx(F.cross_entropy(model(ROWS), labels).item(), rel=1e-12)
    assert surface.accuracy is None
    with pytest.raises(ll.InputError, match="above 0 for some sample"):
        objective(model, (ROWS, torch.full((60,), -100)))


def test_another_mark_of_labels_that_do_not_count_is_refused_with_a_way_out():
    labels = tokens()
    labels[labels == -100] = 255
    with pytest.raises(ll.InputError, match=r"ignore_index=255\) or a callable"):
        objective(PerToken(), (ROWS, labels))


CRITERIA = {
    "plain": nn.CrossEntropyLoss(),
    "function": F.cross_entropy,
    "class weights": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS),
    "smoothing": nn.CrossEntropyLoss(label_smoothing=0.1),
    "smoothing and class weights": nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.1),
    "one class does not count": nn.CrossEntropyLoss(ignore_index=1),
    "margin": nn.MultiMarginLoss(),
    "none": nn.CrossEntropyLoss(reduction="none"),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_of_class_labels(name):
    criterion, model = CRITERIA[name], network()
    double = copy.deepcopy(criterion).double() if isinstance(criterion, nn.Module) else criterion
    target = objective(model, (ROWS, LABELS), loss=criterion, batch_size=7)
    plane = ll.random_plane(model, seed=2)
    surface = ll.evaluate(target, plane, **GRID)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        expected = double(at(model, plane(a, b))(ROWS), LABELS).mean()
        assert surface.loss[i, j] == pytest.approx(expected.item(), rel=1e-10)


NUMBERS = {
    "bce": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0])), (torch.arange(180) % 2).reshape(60, 3)),
    "l1": (nn.L1Loss(), ROWS[:, :3]),
    "smooth l1": (F.smooth_l1_loss, ROWS[:, :3]),
    "huber": (nn.HuberLoss(delta=0.3), ROWS[:, :3]),
    "mse": (nn.MSELoss(), ROWS[:, :3]),
    "poisson": (nn.PoissonNLLLoss(), ROWS[:, :3].abs()),
    "kl": (nn.KLDivLoss(reduction="batchmean"), ROWS[:, :3].softmax(1)),
    "probabilities": (nn.CrossEntropyLoss(label_smoothing=0.2), ROWS[:, :3].softmax(1)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_criteria_of_numbers(name):
    (criterion, targets), model = NUMBERS[name], network()
    double = copy.deepcopy(criterion).double() if isinstance(criterion, nn.Module) else criterion
    target = objective(model, (ROWS, targets.double()), loss=criterion, batch_size=7)
    assert float(target(model).mean()) == pytest.approx(double(model(ROWS), targets.double()).item(), rel=1e-12)


REFUSED = {
    "sum": (lambda: nn.CrossEntropyLoss(reduction="sum"), LABELS, "grows with the number of samples"),
    "class": (lambda: nn.CrossEntropyLoss, LABELS, r"make one: loss=CrossEntropyLoss\(\)"),
    "broadcast": (nn.MSELoss, ROWS[:, 0], "would broadcast"),
    "three arguments": (nn.TripletMarginLoss, LABELS, "loss fails on a batch"),
    "labels beyond": (lambda: nn.CrossEntropyLoss(ignore_index=9), LABELS + 1, "labels run from 1 to 3"),
    "integers": (nn.BCEWithLogitsLoss, F.one_hot(LABELS, 3), "loss fails on a batch"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_criteria_that_cannot_be_are_refused(name):
    make, targets, why = REFUSED[name]
    with pytest.raises(ll.InputError, match=why) as caught:
        objective(network(1 if name == "broadcast" else 3), (ROWS, targets), loss=make())
    assert "\n" not in str(caught.value)


FORMS = {
    "one-hot": (F.one_hot(LABELS, 3), r"targets.argmax\(1\)"),
    "column": (LABELS[:, None], r"targets.squeeze\(1\)"),
    "numbers": (LABELS.double(), r"integers: targets.long\(\)"),
    "bool": (LABELS > 0, r"targets.long\(\)"),
    "column of numbers": (LABELS[:, None].double(), r"targets.squeeze\(1\).long\(\)"),
    "complex": (LABELS.to(torch.complex64), "real outputs and targets"),
}


@pytest.mark.parametrize("name", FORMS)
def test_labels_of_another_form_are_refused_with_the_form_named(name):
    targets, why = FORMS[name]
    with pytest.raises(ll.InputError, match=why) as caught:
        objective(network(), (ROWS, targets))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outputs", ["[N]", "[N, 1]"])
def test_mse_takes_integers_as_numbers_where_there_is_one_output(outputs):
    model = nn.Sequential(nn.Linear(4, 1), *([nn.Flatten(0)] if outputs == "[N]" else [])).double()
    ages = torch.arange(60)
    found = objective(model, (ROWS, ages), loss="mse")(model)
    torch.testing.assert_close(found, (model(ROWS).flatten() - ages).square().detach())
