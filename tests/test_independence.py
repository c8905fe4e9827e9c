"""Losses that depend on the batches are refused, saying why; one batch of all data is kept by every consumer."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import images, make
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape_lib as ll

ROWS = torch.randn(90, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SORTED = torch.tensor([0] * 60 + [1] * 20 + [2] * 10)  # as a folder of images has them
CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)


def network(outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs)).double().eval()


def objective(model, data, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, **options})


def contrastive(model, batch):
    z = F.normalize(model(batch[0]), dim=1)
    return F.cross_entropy(z @ z.T / 0.5, torch.arange(len(z)), reduction="none")


def class_weighted(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], CLASS_WEIGHTS)


def valid_pixels(model, batch):
    return F.cross_entropy(model(batch[0]).transpose(1, 2), batch[2], ignore_index=255)


def balanced(model, batch):
    """Cross-entropy with the balancing term of a mixture of experts, which is about 2 % of it."""
    outputs = model(batch[0])
    share, most = outputs.softmax(1), F.one_hot(outputs.argmax(1), 3).double()
    return F.cross_entropy(outputs, batch[1]) + 0.02 * 3 * (share.mean(0) * most.mean(0)).sum()


def cox(model, batch):
    """Negative partial log-likelihood of events ``batch[2]`` at times ``batch[1]`` (Cox 1972), all samples together."""
    order = batch[1].argsort(descending=True)
    risk, event = model(batch[0])[order, 0], batch[2][order]
    return -((risk - risk.logcumsumexp(0)) * event).sum() / event.sum()


def padded(seed):
    """Token classes [90, 5], many of which do not count."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (90,), generator=generator)
    tokens = torch.randint(0, 3, (90, 5), generator=generator)
    return tokens.masked_fill(torch.arange(5) >= lengths[:, None], 255)


class PerToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(15)

    def forward(self, rows):
        return self.net(rows).unflatten(1, (5, 3))


COUPLED = {
    "sum": (lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="sum"), "their sum"),
    "class weights": (class_weighted, r"samples have different weights .*Weighted\(values, weights\)"),
    "contrastive": (contrastive, "depends on the others of its batch"),
    "contrastive mean": (lambda net, b: contrastive(net, b).mean(), "depends on the others of its batch"),
    "balancing term": (balanced, "depends on the others of its batch"),
    "spread": (lambda net, b: net(b[0]).var(0, correction=0).sum(), "depends on the others of its batch"),
}


@pytest.mark.parametrize("batch_norm", [None, "batch"])
@pytest.mark.parametrize("count", [2, 90])
@pytest.mark.parametrize("case", COUPLED)
def test_losses_that_depend_on_the_batches_are_refused(case, count, batch_norm):
    loss, why = COUPLED[case]
    picked = [0, 85] if count == 2 else slice(None)  # of two classes, and of two experts
    with pytest.raises(ll.InputError, match=why if count > 2 or case == "sum" else "batch") as caught:
        objective(network(), (ROWS[picked], SORTED[picked]), loss=loss, batch_norm=batch_norm)
    assert "whole_batch=True" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(6))
def test_a_mean_over_the_tokens_that_count_is_refused_whatever_the_padding(seed):
    with pytest.raises(ll.InputError, match="have different weights"):
        objective(PerToken(), (ROWS, SORTED, padded(seed)), loss=valid_pixels)


def test_a_sum_is_refused_under_batch_statistics_of_batch_norm():
    model, (inputs, targets) = make("batch_norm_cnn").double(), images(40)
    mean = lambda net, b: F.cross_entropy(net(b[0]), b[1])  # noqa: E731
    objective(model, (inputs, targets), loss=mean, batch_norm="batch", batch_size=20)
    with pytest.raises(ll.InputError, match="their sum"):
        objective(
            model, (inputs, targets), batch_norm="batch", batch_size=20,
            loss=lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="sum"),
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_that_is_undefined_on_single_samples_is_refused(dtype):
    loss = lambda net, b: cox(net, (b[0], b[0][:, 0], b[1].clamp(max=1).to(b[0])))  # noqa: E731
    with pytest.raises(ll.InputError, match="depends on the others of its batch, by infinitely much"):
        objective(network(1).to(dtype), (ROWS, SORTED), loss=loss, dtype=dtype)


def test_streamed_batches_are_cut_to_try_the_loss(monkeypatch):
    monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
    loader = DataLoader(TensorDataset(ROWS, SORTED), batch_size=30)
    assert objective(network(), loader).samples.tensors is None
    for loss in (class_weighted, contrastive):
        with pytest.raises(ll.InputError, match="whole_batch=True"):
            objective(network(), loader, loss=loss)
    with pytest.raises(ll.InputError, match="needs batches that can be joined to one: they do not fit"):
        objective(network(), loader, loss=contrastive, whole_batch=True)


@pytest.mark.parametrize("scalar", [False, True])
def test_a_surrogate_whose_mean_is_zero_is_accepted(scalar):
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        rows, actions = torch.randn(32, 4, generator=generator), torch.randint(0, 3, (32,), generator=generator)
        gains = torch.randn(32, generator=generator)
        gains -= gains.mean()
        model = network(seed=seed).float()
        with torch.no_grad():
            old = model(rows).log_softmax(1).gather(1, actions[:, None])[:, 0]

        def surrogate(net, b):
            now = net(b[0]).log_softmax(1).gather(1, b[1][:, None])[:, 0]
            losses = -(now - b[3]).exp() * b[2]
            return losses.mean() if scalar else losses

        data = TensorDataset(rows, actions, gains, old)
        assert ll.objective(model, data, loss=surrogate, device="cpu").per_sample is not scalar


def test_rounding_of_large_losses_is_no_coupling():
    offset = lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="none") * 1e-4 + 1e3  # noqa: E731
    assert objective(network().float(), (ROWS, SORTED), loss=offset, dtype=torch.float32).per_sample


class Recurrent(nn.Module):
    """Takes [T, B, F] and gives [T, B]."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, 5), nn.Linear(5, 1)

    def forward(self, sequences):
        return self.out(self.rnn(sequences)[0])[..., 0]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_network_whose_samples_lie_along_the_second_axis_is_told_so(reduction):
    torch.manual_seed(0)
    sequences, targets = torch.randn(12, 7, 4), torch.randn(12, 7)

    def loss(net, b):
        losses = (net(b[0]) - b[1]) ** 2
        return losses.mean() if reduction == "mean" else losses.mean(1)

    with pytest.raises(ll.InputError, match=r"along the second axis .*batch_first=True"):
        objective(Recurrent().double(), (sequences, targets), loss=loss)


def test_attention_along_the_samples_is_refused_for_a_named_loss():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0).eval()  # batch_first=False
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(ll.InputError, match="batch_first"):
        objective(model, (torch.randn(20, 3, 4), torch.randint(0, 3, (20,))))


def test_batch_norm_without_statistics_is_named_and_may_be_declared():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3)).double()
    with pytest.raises(ll.InputError, match=r"layer '1' has no running statistics .*batch_norm='batch'"):
        objective(model, (ROWS, SORTED))
    found = objective(model, (ROWS, SORTED), batch_norm="batch", batch_size=45)(model)
    expected = [F.cross_entropy(model(ROWS[a:b]), SORTED[a:b], reduction="none") for a, b in ((0, 45), (45, 90))]
    torch.testing.assert_close(found, torch.cat(expected).detach())


class Remembers(nn.Module):
    """Scales by the largest input seen so far, like an observer that was left on."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.register_buffer("largest", torch.zeros((), dtype=torch.float64))

    def forward(self, rows):
        self.largest = torch.maximum(self.largest, rows.abs().max()) + 0.01
        return self.net(rows / self.largest)


def test_a_network_that_changes_a_buffer_is_told_which():
    with pytest.raises(ll.InputError, match="changes its buffer 'largest'"):
        objective(Remembers(), (ROWS, SORTED))


def test_a_loss_that_fails_on_one_sample_is_refused_before_the_work():
    model = network(1)
    loss = lambda net, b: net(b[0]).squeeze()[: len(b[0])]  # noqa: E731
    with pytest.raises(ll.InputError, match="fails on a batch of 1 samples"):
        objective(model, (ROWS, SORTED), loss=loss)


def survival():
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(90, generator=generator, dtype=torch.float64)
    return ROWS, times, (torch.rand(90, generator=generator) > 0.4).double()


def at(model, point):
    moved = copy.deepcopy(model)
    moved.load_state_dict({**moved.state_dict(), **point})
    return moved


def dense_hessian(model, loss):
    """Of loss(network), flattened in the order of the parameters."""
    names, shapes = zip(*((name, value.shape) for name, value in model.named_parameters()), strict=True)

    def flat(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        point = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(lambda rows: torch.func.functional_call(model, point, (rows,)))

    return torch.autograd.functional.hessian(flat, torch.cat([p.detach().flatten() for p in model.parameters()]))


@pytest.mark.parametrize("as_loader", [False, True])
@pytest.mark.parametrize("loss", [cox, contrastive])
def test_one_batch_of_all_data_for_every_consumer(loss, as_loader):
    model, data = network(), survival()
    given = DataLoader(TensorDataset(*data), batch_size=20) if as_loader else data
    target = objective(model, given, loss=loss, whole_batch=True)
    plane = ll.random_plane(model, seed=1)
    value = lambda net: loss(net, data).mean()  # noqa: E731
    true = float(value(model).detach())
    assert float(target(model).mean()) == pytest.approx(true, rel=1e-12)

    surface = ll.evaluate(target, plane, resolution=(3, 2), progress=False)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        assert surface.loss[i, j] == pytest.approx(float(value(at(model, plane(a, b))).detach()), rel=1e-10)
    assert np.isnan(surface.standard_error).all()
    assert surface.metadata["objective"]["whole_batch"] is True

    hessian = dense_hessian(model, value)
    vector = np.linspace(-1, 1, len(hessian))
    np.testing.assert_allclose(ll.hessian_product(target, model).matvec(vector), hessian.numpy() @ vector, atol=1e-11)
    values = torch.linalg.eigvalsh(hessian)
    top = values[values.abs().argmax()]
    assert ll.top_eigenpairs(target, model, k=1, progress=False).values[0] == pytest.approx(top.item(), rel=1e-5)

    gradient = torch.autograd.grad(value(model), list(model.parameters()))
    length = torch.cat([g.flatten() for g in gradient]).norm()
    ahead = {n: p.detach() + 0.05 * g / length for (n, p), g in zip(model.named_parameters(), gradient, strict=True)}
    expected = float(value(at(model, ahead)).detach()) - true
    assert ll.sharpness(target, model, "sam").value == pytest.approx(expected, rel=1e-8)

    other = network(seed=5)
    path = ll.project([model, other], ll.random_plane(model, seed=1), target, progress=False)
    np.testing.assert_allclose(path.loss, [true, float(value(other).detach())], rtol=1e-10)
    line = ll.interpolation_line(model, other)
    ends = true, float(value(other).detach())
    rise = float(value(at(model, line(0.5))).detach()) - sum(ends) / 2
    barrier = ll.barrier(target, model, other, resolution=3, progress=False)
    assert barrier.value == pytest.approx(max(rise, 0), rel=1e-9)
    curve = ll.fit_curve(target, model, other, epochs=1, progress=False)
    assert any(not torch.allclose(bend, line(0.5)[name]) for name, bend in curve.points[1].items())  # it was trained
    along = ll.evaluate(target, curve, alpha_range=(0, 1), resolution=3, progress=False)
    expected = [float(value(at(model, curve(t))).detach()) for t in (0, 0.5, 1)]
    np.testing.assert_allclose(along.loss, expected, rtol=1e-10)


@pytest.mark.usefixtures("patient_planner")
def test_one_batch_in_refinement_with_a_tolerance_and_no_noise_to_refer_to():
    model = network()
    target = objective(model, survival(), loss=cox, whole_batch=True)
    plane = ll.random_plane(model, seed=1)
    full = ll.evaluate(target, plane, resolution=31, progress=False)
    refined = ll.evaluate(target, plane, resolution=31, tolerance=0.02, progress=False)
    assert not refined.evaluated.all()
    np.testing.assert_allclose(refined.loss, full.loss, rtol=0.03)
    with pytest.raises(ll.InputError, match="needs the standard error"):
        ll.evaluate(target, plane, tolerance="noise", progress=False)
    with pytest.raises(ll.InputError, match="needs the standard error"):
        ll.cli.plan_budget(target, plane, 10)


def test_parts_of_several_lengths_are_one_batch_when_that_is_asked():
    inside, edge = ROWS[:30], ROWS[30:34]
    loss = lambda net, b: net(b[0]).square().mean() + net(b[1]).square().mean()  # noqa: E731
    model = network(1)
    with pytest.raises(ll.InputError, match=r"not 4 and 30; whole_batch=True"):
        objective(model, (inside, edge), loss=loss)
    target = objective(model, (inside, edge), loss=loss, whole_batch=True)
    expected = dense_hessian(model, lambda net: loss(net, (inside, edge))).numpy()
    np.testing.assert_allclose(ll.hessian_product(target, model).matvec(np.ones(len(expected))), expected.sum(1))
    assert float(target(model).mean()) == pytest.approx(float(loss(model, (inside, edge)).detach()))


def test_a_last_batch_of_one_sample_joins_the_one_before_it(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    inputs, targets = ROWS[:9], SORTED[-9:]
    found = objective(model, (inputs, targets), batch_norm="batch", batch_size=4)(model)
    model.train()
    expected = [F.cross_entropy(model(inputs[a:b]), targets[a:b], reduction="none") for a, b in ((0, 4), (4, 9))]
    torch.testing.assert_close(found, torch.cat(expected).detach())
    with pytest.raises(ll.InputError, match="Expected more than 1 value per channel"):
        objective(model, (inputs, targets), batch_norm="batch", batch_size=1)
    monkeypatch.setattr("landscape.objective.samples.available_memory", lambda device: 0)
    with pytest.raises(ll.InputError, match="a batch of the DataLoader holds one sample"):
        objective(model, DataLoader(TensorDataset(inputs, targets), batch_size=4), batch_norm="batch")
