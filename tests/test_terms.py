"""Losses of several terms, metrics and regularizers, in every consumer, against float64 passes over all data."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import landscape_lib as ll

GENERATOR = torch.Generator().manual_seed(3)
ROWS = torch.randn(23, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(0, 3, (23,), generator=GENERATOR)
UNITS = torch.randint(0, 6, (23,), generator=GENERATOR).double()  # one sample in six counts nothing
BATCH = {"x": ROWS, "y": LABELS, "units": UNITS}
GRID = {"resolution": (3, 2), "progress": False}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()


def objective(model, data=BATCH, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, "batch_size": 7, **options})


def losses_of(model, batch):
    outputs = model(batch["x"])
    return F.cross_entropy(outputs, batch["y"], reduction="none"), outputs.square().mean(1)


def average(values, weights=None):
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def named(model, batch):
    fit, size = losses_of(model, batch)
    return {"loss": fit + size, "fit": fit, "size": ll.Weighted(size, batch["units"])}


def summed(model, batch):
    fit, size = losses_of(model, batch)
    return {"fit": ll.Weighted(fit, batch["units"]), "size": size.mean()}


def summed_alike(model, batch):
    fit, size = losses_of(model, batch)
    return {"fit": ll.Weighted(fit, batch["units"]), "size": ll.Weighted(size, batch["units"])}


def decay(model):
    return 0.1 * sum(parameter.square().sum() for parameter in model.parameters())


FORMS = {
    "named": ({"loss": named}, lambda fit, size: average(fit + size)),
    "summed": ({"loss": summed}, lambda fit, size: average(fit, UNITS) + average(size)),
    "summed alike": ({"loss": summed_alike}, lambda fit, size: average(fit + size, UNITS)),
}

WEIGHTS = {
    "named": {"fit": None, "size": UNITS},
    "summed": {"fit": UNITS, "size": None},
    "summed alike": {"fit": UNITS, "size": UNITS},
}


def whole(model, form):
    """The loss of all samples at once, as a function of the point."""
    total = FORMS[form][1]
    return lambda point: total(*losses_of(lambda rows: functional_call(model, point, (rows,)), BATCH))


@pytest.mark.parametrize("form", FORMS)
def test_every_term_has_its_own_mean_over_all_data(form):
    model = network()
    target = objective(model, **FORMS[form][0])
    fit, size = losses_of(model, BATCH)
    weights = WEIGHTS[form]
    expected = {"fit": average(fit, weights["fit"]), "size": average(size, weights["size"])}
    assert target.quantity_names == ("fit", "size")
    with target.arithmetic(), torch.no_grad():
        pieces = [target.evaluate(batch) for _, batch in target.batches(5)]
    for name, value in expected.items():
        found = torch.cat([piece.quantities[name] for piece in pieces])
        assert float(found.mean()) == pytest.approx(value.item(), rel=1e-12)
    losses = torch.cat([piece.losses for piece in pieces])
    assert float(losses.mean()) == pytest.approx(whole(model, form)(ll.parameters_of(model)).item(), rel=1e-12)
    assert target.independent == (form != "summed")


@pytest.mark.usefixtures("patient_planner")
@pytest.mark.parametrize("form", FORMS)
def test_every_consumer_takes_the_terms(form):
    model = network()
    target, loss = objective(model, **FORMS[form][0]), whole(model, form)
    plane = ll.random_plane(model, seed=4)
    surface = ll.evaluate(target, plane, **GRID)
    for (i, a), (j, b) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        assert surface.loss[i, j] == pytest.approx(loss(plane(a, b)).item(), rel=1e-12)
        point = {name: value for name, value in plane(a, b).items()}
        fit, size = losses_of(lambda rows, moved=point: functional_call(model, moved, (rows,)), BATCH)
        assert surface.quantities["fit"][i, j] == pytest.approx(average(fit, WEIGHTS[form]["fit"]).item(), rel=1e-12)
        assert surface.quantities["size"][i, j] == pytest.approx(average(size, WEIGHTS[form]["size"]).item(), rel=1e-12)
    assert np.isnan(surface.standard_error).all() == (form == "summed")
    point = {name: value.requires_grad_() for name, value in ll.parameters_of(model).items()}
    hessian = dense_hessian(loss, point)
    pairs = ll.top_eigenpairs(ll.hessian_product(target, model), k=2)
    largest = np.sort(np.abs(np.linalg.eigvalsh(hessian)))[::-1][:2]
    np.testing.assert_allclose(np.abs(pairs.values), largest, rtol=1e-6)
    other = network(seed=1)
    curve = ll.fit_curve(target, model, other, epochs=1, bends=1, progress=False)
    along = ll.evaluate(target, curve, alpha_range=(0, 1), resolution=3, progress=False)
    assert along.loss[-1] == pytest.approx(loss(ll.parameters_of(other)).item(), rel=1e-10)
    grid = {"resolution": 25, "progress": False}
    filled, exact = ll.evaluate(target, plane, tolerance=0.05, **grid), ll.evaluate(target, plane, **grid)
    assert not filled.evaluated.all()
    np.testing.assert_allclose(filled.loss, exact.loss, rtol=0.075)


def dense_hessian(loss, point):
    value = loss(point)
    gradients = torch.autograd.grad(value, list(point.values()), create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    rows = [torch.autograd.grad(entry, list(point.values()), retain_graph=True, allow_unused=True) for entry in flat]
    return np.stack(
        [
            torch.cat(
                [
                    (r if r is not None else torch.zeros_like(p)).flatten()
                    for r, p in zip(row, point.values(), strict=True)
                ]
            )
            .detach()
            .numpy()
            for row in rows
        ]
    )


def test_a_mean_and_a_weighted_mean_add_up_in_batches_as_they_come():
    def loss(model, batch):
        fit, size = losses_of(model, batch)
        return {"size": size.mean(), "fit": ll.Weighted(fit, batch["units"])}

    model = network()
    rows = [{name: values[row] for name, values in BATCH.items()} for row in range(23)]
    target = objective(model, torch.utils.data.DataLoader(rows, batch_size=5), loss=loss)
    expected = whole(model, "summed")(ll.parameters_of(model)).item()
    assert float(target(model).mean()) == pytest.approx(expected, rel=1e-12)


def confidence(model, batch):
    inputs, _ = batch
    return model(inputs).softmax(1).amax(1)


def right(model, batch):
    inputs, targets = batch
    return model(inputs).argmax(1) == targets


def test_metrics_are_averaged_beside_a_named_loss():
    model = network()
    metrics = {"confidence": confidence, "right": right, "mean right": lambda m, b: right(m, b).double().mean()}
    target = objective(model, (ROWS, LABELS), metrics=metrics)
    assert target.quantity_names == tuple(metrics)
    with target.arithmetic(), torch.no_grad():
        pieces = [target.evaluate(batch).quantities for _, batch in target.batches(5)]
    hits = (model(ROWS).argmax(1) == LABELS).double().mean().item()
    expected = {"confidence": model(ROWS).softmax(1).amax(1).mean().item(), "right": hits, "mean right": hits}
    for name, value in expected.items():
        assert float(torch.cat([piece[name] for piece in pieces]).mean()) == pytest.approx(value, rel=1e-12)
    plain = objective(model, (ROWS, LABELS))
    plane = ll.random_plane(model, seed=2)
    one, other = (ll.evaluate(o, plane, **GRID) for o in (target, plain))
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-12)
    np.testing.assert_allclose(one.accuracy, other.accuracy, rtol=1e-12)


def model_at(model, point):
    moved = copy.deepcopy(model)
    moved.load_state_dict(point)
    return moved


@pytest.mark.parametrize("method", ["auto", "direct"])
@pytest.mark.parametrize("make", [network, lambda: nn.Linear(4, 3).double()])
def test_a_regularizer_belongs_to_the_loss_everywhere(make, method):
    torch.manual_seed(0)
    model, calls = make(), []

    def counted_decay(net):
        calls.append(1)
        return decay(net)

    target = objective(model, (ROWS, LABELS), regularizer=counted_decay)
    plane = ll.random_plane(model, seed=4)

    def loss(point):
        moved = model_at(model, point)
        return F.cross_entropy(moved(ROWS), LABELS).item() + decay(moved).item()

    calls.clear()
    surface = ll.evaluate(target, plane, method=method, per_sample=True, resolution=(9, 8), progress=False)
    checks = 10 * len(list(target.batches()))  # of a few points, batch by batch
    assert len(calls) <= surface.loss.size + checks
    for i, j in ((0, 0), (4, 3), (8, 7)):
        expected = loss(plane(surface.alphas[i], surface.betas[j]))
        assert surface.loss[i, j] == pytest.approx(expected, rel=1e-11)
        assert surface.per_sample[i, j].mean() == pytest.approx(expected, rel=1e-11)
        decays = decay(model_at(model, plane(surface.alphas[i], surface.betas[j]))).item()
        assert surface.quantities["regularizer"][i, j] == pytest.approx(decays, rel=1e-12)
    assert float(target(model).mean()) == pytest.approx(loss(ll.parameters_of(model)), rel=1e-12)
    product, plain = (ll.hessian_product(o, model) for o in (target, objective(model, (ROWS, LABELS))))
    direction = {name: torch.randn_like(value) for name, value in ll.parameters_of(model).items()}
    for name, value in product(direction).items():
        torch.testing.assert_close(value, plain(direction)[name] + 0.2 * direction[name])


class Sine(nn.Module):
    """u(x) = a sin(b x), which solves u'' = -b^2 u exactly."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.5).double()), nn.Parameter(torch.tensor(2.0).double())

    def forward(self, x):
        return self.a * torch.sin(self.b * x)


def physics(model, batch):
    """u'' = -u inside, u = sin at the data: residuals by derivatives of the network by its inputs."""
    x = batch.requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return {"physics": (curvature + u).square().flatten(), "data": (u - torch.sin(x)).square().flatten()}


def test_a_physics_informed_loss_has_a_surface_for_each_term():
    x, model = torch.linspace(-2, 2, 29, dtype=torch.float64)[:, None], Sine()
    target = objective(model, x, loss=physics)
    assert target.quantity_names == ("physics", "data")
    plane = ll.random_plane(model, seed=1, ignore=())
    surface = ll.evaluate(target, plane, **GRID)
    for (i, s), (j, t) in itertools.product(enumerate((-1, 0, 1)), enumerate((-1, 1))):
        a, b = plane(s, t)["a"], plane(s, t)["b"]
        u = a * torch.sin(b * x)
        residual, misfit = ((1 - b**2) * u).square().mean(), (u - torch.sin(x)).square().mean()
        assert surface.loss[i, j] == pytest.approx((residual + misfit).item(), rel=1e-10)
    with target.arithmetic(), torch.no_grad():
        target.move_to(ll.parameters_of(model))
        pieces = [target.evaluate(batch).quantities["physics"] for _, batch in target.batches()]
    expected = ((1 - model.b**2) * model(x)).square().mean()
    assert float(torch.cat(pieces).mean()) == pytest.approx(expected.item(), rel=1e-10)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)

    def forward(self, x, noise):
        mean, spread = self.encoder(x).chunk(2, dim=1)
        return self.decoder(mean + noise * spread.exp()), mean, spread


def evidence(model, batch):
    """Reconstruction and Kullback-Leibler divergence of a variational autoencoder, the noise part of the data."""
    x, noise = batch
    found, mean, spread = model(x, noise)
    divergence = 0.5 * (mean.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1)
    return {"reconstruction": (found - x).square().sum(1), "kl": divergence}


def test_an_autoencoder_has_a_surface_for_reconstruction_and_divergence():
    torch.manual_seed(0)
    model, noise = Autoencoder().double(), torch.randn(23, 2, generator=GENERATOR, dtype=torch.float64)
    target = objective(model, (ROWS, noise), loss=evidence)
    with torch.no_grad():
        found, mean, spread = model(ROWS, noise)
        normal, standard = torch.distributions.Normal(mean, spread.exp()), torch.distributions.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(normal, standard).sum(1)
        reconstruction = (found - ROWS).square().sum(1)
    with target.arithmetic(), torch.no_grad():
        pieces = [target.evaluate(batch) for _, batch in target.batches()]
    torch.testing.assert_close(torch.cat([piece.quantities["kl"] for piece in pieces]), kl)
    torch.testing.assert_close(torch.cat([piece.losses for piece in pieces]), reconstruction + kl)


def contrastive(model, batch):
    """Every row against all others of its batch; the second view of a row is its right answer."""
    first, second = (F.normalize(model(part), dim=1) for part in batch)
    scores = first @ second.T / 0.5
    return {"loss": F.cross_entropy(scores, torch.arange(len(scores)), reduction="none"), "spread": scores.std()}


def test_a_contrastive_loss_takes_all_data_as_one_batch():
    model, views = network(), (ROWS, ROWS + 0.1)
    with pytest.raises(ll.InputError, match=r"the loss of a sample depends on the others .*whole_batch=True"):
        objective(model, views, loss=contrastive)
    target = objective(model, views, loss=contrastive, whole_batch=True)
    with torch.no_grad():
        expected = contrastive(model, views)
    torch.testing.assert_close(target(model), expected["loss"])
    with target.arithmetic(), torch.no_grad():
        measured = target.evaluate(views)
    assert float(measured.quantities["spread"].mean()) == pytest.approx(expected["spread"].item(), rel=1e-12)


def test_parts_of_several_lengths_are_one_batch():
    def loss(model, batch):
        inside, border = batch
        return {"inside": model(inside).square().mean(1), "border": (model(border) - 1).square().mean(1)}

    model, parts = network(), (ROWS, ROWS[:5] + 2)
    target = objective(model, parts, loss=loss, whole_batch=True)
    with torch.no_grad():
        inside, border = model(ROWS).square().mean(), (model(parts[1]) - 1).square().mean()
    assert float(target(model).mean()) == pytest.approx((inside + border).item(), rel=1e-12)


def coupled_metric(model, batch):
    return model(batch[0]).std()


BAD = {
    "coupled metric": ({"metrics": {"spread": coupled_metric}}, "the quantity 'spread' of a sample depends on"),
    "sum": ({"metrics": {"total": lambda m, b: m(b[0]).sum()}}, "the scalar quantity 'total' .* but their sum"),
    "shape": ({"metrics": {"all": lambda m, b: m(b[0])}}, r"the quantity 'all' gives shape \(7, 3\); it must be \[7\]"),
    "no tensor": ({"metrics": {"one": lambda m, b: 1.0}}, "the metric 'one' gives float; it must give a tensor"),
    "dict": ({"metrics": {"one": lambda m, b: {"a": m(b[0]).mean(1)}}}, "the metric 'one' gives a dict"),
    "the name of the loss": ({"metrics": {"loss": right}}, "the name 'loss', which stands for something else"),
    "a name of the surface": ({"metrics": {"accuracy": right}}, "the name 'accuracy', which is taken"),
    "a name of a term": ({"loss": lambda m, b: {"a": m(b[0]).mean(1)}, "metrics": {"a": right}}, "'a' has the name of"),
    "no name": ({"metrics": {3: right}}, "has the name 3; the names of quantities are text"),
    "a list": ({"metrics": [right]}, "metrics map names to callables"),
    "the name of the regularizer": (
        {"loss": lambda m, b: {"loss": m(b[0]).mean(1), "regularizer": decay(m)}, "regularizer": decay},
        "the name 'regularizer', which is taken",
    ),
    "no callable": ({"metrics": {"a": 3}}, "the metric 'a' is int, not a callable"),
    "failure": ({"metrics": {"a": lambda m, b: m(b)}}, "the metric 'a' fails on a batch of 7 samples"),
    "empty": ({"loss": lambda m, b: {}}, "the loss gives an empty dict"),
    "whole numbers": ({"loss": lambda m, b: b[1]}, "the loss gives values of torch.int64"),
    "text": (
        {"loss": lambda m, b: {"loss": m(b[0]).mean(1), "a": "b"}},
        "the term 'a' of the loss gives str",
    ),
    "a taken name": ({"loss": lambda m, b: {"accuracy": m(b[0]).mean(1)}}, "the name 'accuracy', which is taken"),
    "regularizer of samples": ({"regularizer": lambda m: m(ROWS).mean(1)}, r"the regularizer gives shape \(23,\)"),
    "random regularizer": ({"regularizer": lambda m: torch.rand(())}, "not deterministic"),
    "failing regularizer": ({"regularizer": lambda m: m.missing}, "the regularizer fails on"),
    "no regularizer": ({"regularizer": 0.1}, "the regularizer is float, not a callable"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_term_is_refused_in_one_line(name):
    options, why = BAD[name]
    with pytest.raises(ll.InputError, match=why) as caught:
        objective(network(), (ROWS, LABELS), **options)
    assert "\n" not in str(caught.value)


def test_terms_that_change_from_batch_to_batch_are_refused():
    def loss(model, batch):
        values = model(batch["x"]).square().mean(1)
        return {"loss": values, "a": values} if len(values) > 2 else {"loss": values}

    with pytest.raises(ll.InputError, match=r"gives .*'loss'.* though 'loss', 'a' for others"):
        objective(network(), loss=loss)
