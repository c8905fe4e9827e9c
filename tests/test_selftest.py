"""The exact-answer suite passes, and every check tells the defects that it exists for."""

import dataclasses
import itertools
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape_lib as ll
from landscape.selftest import TOOLKIT, selftest
from landscape.selftest.checks import CHECKS
from landscape.selftest.run import _outcome
from landscape.selftest.subject import Place
from landscape.slices.curves import Curve

PLACE = Place(torch.device("cpu"), torch.float64)
BY_NAME = {check.name: check for check in CHECKS}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_toolkit_passes(name):
    outcome = _outcome(BY_NAME[name], TOOLKIT, PLACE)
    assert outcome.passed, (outcome.error, [c for c in outcome.comparisons if not c.passed])


def changed(**fields):
    """An evaluation whose surface has other values: name -> function of the surface."""

    def evaluate(objective, slice_, **options):
        surface = ll.evaluate(objective, slice_, **options)
        return dataclasses.replace(surface, **{name: function(surface) for name, function in fields.items()})

    return {"evaluate": evaluate}


def axes_swapped(objective, slice_, **options):
    return ll.evaluate(objective, dataclasses.replace(slice_, directions=slice_.directions[::-1]), **options)


def mean_over_batches(objective, slice_, **options):
    surface = ll.evaluate(objective, slice_, **{**options, "per_sample": True})
    bounds = [*range(0, objective.size, objective.batch_size), objective.size]
    batches = [surface.per_sample[..., a:b].mean(-1) for a, b in itertools.pairwise(bounds)]
    return dataclasses.replace(surface, loss=np.mean(batches, 0).astype(float))


def by_batch(objective, slice_, **options):
    surface = ll.evaluate(objective, slice_, **options)
    return dataclasses.replace(surface, loss=surface.loss * (1 + 1e-6 * objective.batch_size))


def by_threads(objective, slice_, **options):
    surface = ll.evaluate(objective, slice_, **options)
    return dataclasses.replace(surface, loss=surface.loss * (1 + 1e-6 * torch.get_num_threads()))


def moves_all(model, *, parameters=None, **options):
    return ll.random_plane(model, **options)


def whole_matrix(objective, point, *, parameters=("*",), **options):
    return ll.hessian_product(objective, point, **options)


def left_moved(objective, slice_, **options):
    surface = ll.evaluate(objective, slice_, **options)
    with torch.no_grad():
        next(objective.model.parameters()).mul_(1 + 1e-7)
    return surface


def left_moved_by_an_error(objective, slice_, **options):
    try:
        return ll.evaluate(objective, slice_, **options)
    except Exception:
        with torch.no_grad():
            next(objective.model.parameters()).view(-1)[0].add_(1e-6)
        raise


def without_bend(points, recipe):
    a, _, c = points
    middle = {name: (a[name] + c[name]) / 2 for name in a}
    return Curve.through((a, middle, c), recipe)


def by_resume(objective, slice_, *, resume=None, **options):
    surface = ll.evaluate(objective, slice_, resume=resume, **options)
    return dataclasses.replace(surface, loss=surface.loss + (1e-6 if resume else 0))


def leaves_eval_mode(model, data, **options):
    objective = ll.objective(model, data, **options)
    model.eval()
    return objective


def spoils_buffers(model, **options):
    """Give the plane, and change the network that it lies around."""
    plane = ll.random_plane(model, **options)
    for name, buffer in model.named_buffers():
        if "tracked" in name:
            buffer.add_(1)
    return plane


def takes_random_numbers(objective, slice_, **options):
    torch.rand(1)
    return ll.evaluate(objective, slice_, **options)


def without_weights(model, data, *, loss="cross_entropy", **options):
    def plain(network, batch):
        values = loss(network, batch)
        return values.values if isinstance(values, ll.Weighted) else values

    return ll.objective(model, data, loss=plain if callable(loss) else loss, **options)


def cut_into_batches(model, data, *, whole_batch=False, **options):
    """The mean over two halves of a loss that couples all samples."""
    if not whole_batch:
        return ll.objective(model, data, **options)
    half = len(data[0]) // 2
    loss = options.pop("loss")

    def halves(network, batch):
        return (loss(network, (batch[0][:half],)) + loss(network, (batch[0][half:],))) / 2

    return ll.objective(model, data, loss=halves, whole_batch=True, **options)


def error_without_weights(objective, slice_, **options):
    """The standard error of a plain mean, also of a weighted loss."""
    surface = ll.evaluate(objective, slice_, per_sample=objective.independent, **options)
    if surface.per_sample is None:
        return surface
    losses = surface.per_sample
    return dataclasses.replace(surface, standard_error=losses.std(-1, ddof=1) / np.sqrt(losses.shape[-1]))


def statistics_of_batches(model, data, *, batch_norm=None, **options):
    policy = {"recalibrate": "batch"}.get(batch_norm, batch_norm)
    return ll.objective(model, data, batch_norm=policy, batch_size=20, **options)


def statistics_of_the_data(model, data, *, batch_norm=None, **options):
    return ll.objective(model, data, batch_norm="recalibrate" if batch_norm == "running" else batch_norm, **options)


def random_plane(**forced):
    return {"random_plane": lambda model, **options: ll.random_plane(model, **{**options, **forced})}


def draws_elsewhere(model, *, seed=42, **options):
    return ll.random_plane(model, seed=seed + 1, **options)


class Scaled:
    """A product that is ``factor`` times the right one."""

    def __new__(cls, make, factor):
        def product(*arguments, **options):
            found = make(*arguments, **options)
            inner, whole = found.matvec, found._multiply
            found.matvec = lambda vector: factor * inner(vector)
            found._multiply = lambda vector: factor * whole(vector)
            return found

        return product


def no_permutation(a, b, **options):
    return dataclasses.replace(ll.align(a, b, **options), model=b)


def units_lost(a, b, **options):
    aligned = ll.align(a, b, **options)
    with torch.no_grad():
        aligned.model[0].weight[0].mul_(1.5)
    return aligned


def projects_by_inner_products(points, plane, **options):
    path = ll.project(points, plane, **options)
    flat = lambda point: torch.cat([value.double().flatten() for value in point.values()])  # noqa: E731
    origin, steps = flat(plane.origin), [flat(direction) for direction in plane.directions]
    coordinates = [[float((flat(p) - origin) @ step / (step @ step)) for step in steps] for p in points]
    return dataclasses.replace(path, coordinates=np.array(coordinates))


def no_distance(points, plane, **options):
    path = ll.project(points, plane, **options)
    return dataclasses.replace(path, distance=np.zeros_like(path.distance))


def value_times(function, factor):
    def scaled(*arguments, **options):
        result = function(*arguments, **options)
        return dataclasses.replace(result, value=factor * result.value)

    return scaled


def eigenvalues_passed_over(product, **options):
    pairs = ll.top_eigenpairs(product, **{**options, "k": options["k"] + 1})
    return dataclasses.replace(
        pairs, values=pairs.values[1:], residuals=pairs.residuals[1:], converged=pairs.converged[1:],
        vectors=pairs.vectors[1:],
    )  # fmt: skip


def density_of_magnitudes(product, **options):
    density = ll.spectral_density(product, **options)
    return dataclasses.replace(density, nodes=np.abs(density.nodes))


def fills_too_boldly(objective, slice_, *, tolerance=None, **options):
    surface = ll.evaluate(objective, slice_, **options)
    if tolerance is None:
        return surface
    loss = surface.loss.copy()
    rows = np.arange(len(loss))
    every = rows[::20]
    for j in range(loss.shape[1]):
        loss[:, j] = np.interp(rows, every, surface.loss[every, j])
    mask = np.zeros(loss.shape, bool)
    mask[::20] = True
    return dataclasses.replace(surface, loss=loss, evaluated=mask)


DEFECTS = [
    ("filter norms", random_plane(normalize="layer")),
    ("filter norms", random_plane(ignore=())),
    ("orthogonal directions", random_plane(orthogonal=False)),
    ("directions are the same everywhere", {"random_plane": draws_elsewhere}),
    ("directions are the same everywhere", random_plane(distribution="uniform")),
    ("quadratic surfaces", {"evaluate": axes_swapped}),
    ("quadratic surfaces", {"evaluate": mean_over_batches}),
    ("chosen parameters", {"random_plane": moves_all}),
    ("chosen parameters", {"hessian_product": whole_matrix}),
    ("chosen parameters", {"evaluate": axes_swapped}),
    ("quadratic surfaces", {"curve": without_bend}),
    ("ranges of the axes", changed(alphas=lambda s: s.alphas - s.alphas[0])),
    ("sharpness of quadratics", {"sharpness": value_times(ll.sharpness, 1.05)}),
    ("sharpness of quadratics", {"sharpness": value_times(ll.sharpness, 0.5)}),
    ("surfaces of networks", {"evaluate": axes_swapped}),
    ("surfaces of networks", changed(standard_error=lambda s: s.standard_error * 23**0.5)),
    ("surfaces of networks", changed(accuracy=lambda s: None if s.accuracy is None else 1 - s.accuracy)),
    ("surfaces of networks", {"evaluate": mean_over_batches}),
    ("linear classifiers", changed(loss=lambda s: s.loss + 1e-6)),
    ("linear classifiers", {"evaluate": axes_swapped}),
    ("what must not change a surface", {"evaluate": by_batch}),
    ("what must not change a surface", {"evaluate": by_threads}),
    ("what must not change a surface", {"evaluate": by_resume}),
    ("what a surface must not change", {"objective": leaves_eval_mode}),
    ("what a surface must not change", {"random_plane": spoils_buffers}),
    ("what a surface must not change", {"evaluate": takes_random_numbers}),
    ("evaluation in place", {"evaluate": left_moved}),
    ("evaluation in place", {"evaluate": left_moved_by_an_error}),
    ("gaps", changed(loss=lambda s: np.where(np.isnan(s.loss), np.nanmax(s.loss), s.loss))),
    ("gaps", changed(loss=lambda s: np.where(np.isnan(s.loss), 1000.0, s.loss))),
    ("weighted and coupled losses", {"objective": without_weights}),
    ("weighted and coupled losses", {"objective": cut_into_batches}),
    ("weighted and coupled losses", {"evaluate": error_without_weights}),
    ("rescaled ReLU units", random_plane(normalize="model")),
    ("permuted units", {"align": no_permutation}),
    ("permuted units", {"align": units_lost}),
    ("BatchNorm between networks", {"objective": statistics_of_batches}),
    ("BatchNorm between networks", {"objective": statistics_of_the_data}),
    ("softmax regression at zero weights", {"hessian_product": Scaled(ll.hessian_product, 1.001)}),
    ("softmax regression at zero weights", {"ggn_product": Scaled(ll.ggn_product, 0.5)}),
    ("softmax regression at zero weights", {"top_eigenpairs": eigenvalues_passed_over}),
    ("spectra of quadratics", {"trace": value_times(ll.trace, 2)}),
    ("spectra of quadratics", {"spectral_density": density_of_magnitudes}),
    ("spectra of quadratics", {"top_eigenpairs": eigenvalues_passed_over}),
    ("coverage of standard errors", changed(standard_error=lambda s: s.standard_error / 2)),
    ("coverage of standard errors", changed(standard_error=lambda s: s.standard_error * 2)),
    ("error of interpolation", {"evaluate": fills_too_boldly}),
    ("paths beside their plane", {"project": projects_by_inner_products}),
    ("paths beside their plane", {"project": no_distance}),
]


@pytest.mark.parametrize(("name", "defect"), DEFECTS, ids=[f"{name}-{k}" for k, (name, _) in enumerate(DEFECTS)])
def test_a_defect_is_told(name, defect):
    outcome = _outcome(BY_NAME[name], dataclasses.replace(TOOLKIT, **defect), PLACE)
    assert outcome.error is None  # told by a number, not by a crash
    assert not outcome.passed


def test_every_check_is_shown_to_fail():
    assert {name for name, _ in DEFECTS} == set(BY_NAME)


def test_what_cannot_be_finished_has_failed():
    broken = dataclasses.replace(TOOLKIT, evaluate=lambda *_, **__: 1 / 0)
    outcome = _outcome(BY_NAME["linear classifiers"], broken, PLACE)
    assert not outcome.passed and outcome.error == "ZeroDivisionError: division by zero"


def test_the_report_and_the_exit_code(tmp_path, monkeypatch, capsys):
    toolkit = dataclasses.replace(TOOLKIT, align=no_permutation)
    result = selftest(device="cpu", quick=True, toolkit=toolkit, progress=False)
    assert not result.passed and "failed permuted units" in repr(result)
    assert "FAIL permuted units" in result.table and "ok   filter norms" in result.table
    record = json.loads(result.save(tmp_path / "selftest.json").read_text())
    assert record["passed"] is False and record["device"] == "cpu"
    assert len(record["outcomes"]) == sum(check.quick for check in CHECKS)
    script = runpy.run_path(str(Path(__file__).parents[1] / "selftest.py"))
    monkeypatch.setitem(script["main"].__globals__, "selftest", lambda **_: result)
    with pytest.raises(SystemExit) as stop:
        script["main"](out=tmp_path / "again.json")
    assert stop.value.code == 1 and "FAIL permuted units" in capsys.readouterr().out
    assert (tmp_path / "again.json").exists()


def test_the_script_exits_with_the_outcome(tmp_path):
    script = Path(__file__).parents[1] / "selftest.py"
    command = [sys.executable, str(script), "--quick", "--device", "cpu", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["passed"] is True and "failed none" in done.stdout
