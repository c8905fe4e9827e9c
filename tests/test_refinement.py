"""Few points where the loss is smooth: how many, and whether the errors reported are the errors there are."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import images, make
from random_surfaces import random_surface
from torch import nn

import landscape_lib as ll
from landscape.evaluation import budget, ledger, workers
from landscape.evaluation.refinement.radial_basis import interpolate
from landscape.evaluation.refinement.selection import VERIFICATION_POINTS, Refinement, _graded
from landscape.evaluation.refinement.tolerance import LOSS_FLOOR, error_bound, relative_error, scale_of

pytestmark = pytest.mark.usefixtures("patient_planner")

X, Y = np.meshgrid(np.linspace(-1, 1, 51), np.linspace(-1, 1, 41), indexing="ij")
WEDGE = np.where((X > 0.5) & (np.abs(Y) < X - 0.5), np.nan, 1 + X**2 + Y**2)
SMOOTH = {
    "quadratic": 0.3 + X**2 + 2 * Y**2 + X * Y,
    "exponential": np.exp(2 * X - Y) + 0.1,
    "well": 3 - 2.8 * np.exp(-(X**2 + Y**2) / 0.3),
    "constant": np.full_like(X, 0.7),
    "zero": np.zeros_like(X),
}
ROUGH = {
    "through zero, where small errors are large shares": X**2 + Y**2 - 0.05,
    "ridge off the lattice": 1 + X**2 + 3 * np.exp(-(((X - 0.6 * Y - 0.13) / 0.05) ** 2)),
    "step": 1 + 2.0 * (X > 0.137),
    "kink": 1 + np.abs(X - 0.3 * Y - 0.11),
    "needle on a plateau": 1 + 5 * np.exp(-((X - 0.23) ** 2 + (Y + 0.41) ** 2) / 0.1**2),
    "NaN wedge": WEDGE,
    "infinite half": np.where(X > 0.3, np.inf, 1 + Y**2),
    "noise": 1 + np.random.default_rng(0).random(X.shape),
    "all NaN": np.full_like(X, np.nan),
}


def refined(truth, tolerance, seed=0, **options):
    """The plan for a known surface [A, B], and the numbers of the points that it asked for."""
    values, asked = truth.reshape(-1, 1), []

    def evaluate(points):
        asked.extend(points.tolist())
        return values[points]

    allowed = lambda v, _: tolerance * np.maximum(np.abs(v), LOSS_FLOOR)  # noqa: E731
    plan = Refinement(truth.shape, evaluate, allowed, seed, **options).run()
    assert len(asked) == len(set(asked))  # no point twice
    return plan, asked


def true_error(plan, truth):
    """The largest error relative to max(|value|, LOSS_FLOOR) over the finite points; others must be as they are."""
    values, found = truth.ravel(), plan.values[:, 0]
    finite = np.isfinite(values)
    np.testing.assert_array_equal(found[~finite], values[~finite])
    return (np.abs(found[finite] - values[finite]) / np.maximum(np.abs(values[finite]), LOSS_FLOOR)).max(initial=0.0)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_surfaces_take_few_points(name):
    plan, asked = refined(SMOOTH[name], 0.01)
    assert len(asked) < 0.2 * X.size and true_error(plan, SMOOTH[name]) < 0.01
    assert plan.kind is not None and len(plan.checked) >= 64 and plan.errors.max() < 0.01


@pytest.mark.parametrize("name", ROUGH)
@pytest.mark.parametrize("tolerance", [0.01, 0.05])
def test_rough_surfaces_take_what_they_need(name, tolerance):
    plan, asked = refined(ROUGH[name], tolerance)
    assert true_error(plan, ROUGH[name]) < 1.5 * tolerance
    if name in ("noise", "all NaN"):
        assert len(asked) == X.size and plan.kind is None


@pytest.mark.parametrize("shape", [(61, 43), (62, 44), (63, 45), (64, 46)])
def test_a_narrow_minimum_about_the_centre_is_found_wherever_the_grid_falls(shape):
    x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-0.4, 2.2, shape[1]), indexing="ij")
    truth = 1 + x**2 + y**2 - 0.99 * np.exp(-(x**2 + y**2) / 0.03**2)  # about one cell wide
    for seed in range(3):
        plan, _ = refined(truth, 0.01, seed, centre=(0.5, 0.4 / 2.6))
        assert true_error(plan, truth) < 1.5 * 0.01


def test_a_rough_corner_does_not_refine_the_smooth_rest():
    truth = 1 + X**2 + 0.5 * np.sin(40 * X) * np.exp(-((X - 1) ** 2 + (Y - 1) ** 2) / 0.02)
    _, asked = refined(truth, 0.01)
    i, j = np.unravel_index(asked, truth.shape)
    rough = (X[i, j] > 0.4) & (Y[i, j] > 0.4)
    assert rough.mean() > 0.2 and (~rough).sum() < 0.2 * X.size  # that corner is 9 % of the square


@pytest.mark.parametrize("shape", [(101,), (5, 4), (2, 2), (200, 3), (9, 60)])
def test_any_grid(shape):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    truth = 0.5 + sum(axis**2 for axis in axes)
    plan, _ = refined(truth, 0.02)
    assert true_error(plan, truth) < 0.02


def test_a_large_grid_is_chosen_from_piece_by_piece():
    x, y = np.meshgrid(np.linspace(-1, 1, 120), np.linspace(-1, 1, 110), indexing="ij")
    truth = 1 + np.abs(x - 0.3 * y - 0.11)
    plan, asked = refined(truth, 0.02)
    assert true_error(plan, truth) < 1.5 * 0.02 and len(asked) < 0.15 * truth.size


def test_rough_surfaces_end_after_few_rounds():
    rounds = []
    truth = ROUGH["noise"].reshape(-1, 1)
    Refinement(
        ROUGH["noise"].shape, lambda points: rounds.append(points) or truth[points], lambda v, _: 0.01 * np.abs(v)
    ).run()
    assert len(rounds) < 10


def test_all_points_about_values_that_are_not_finite_are_evaluated():
    _, asked = refined(WEDGE, 0.01)
    evaluated = np.zeros(WEDGE.shape, bool)
    evaluated.ravel()[asked] = True
    broken = np.argwhere(np.isnan(WEDGE))
    around = [(i + a, j + b) for i, j in broken for a in (-1, 0, 1) for b in (-1, 0, 1)]
    inside = [(i, j) for i, j in around if i < WEDGE.shape[0] and j < WEDGE.shape[1]]
    assert all(evaluated[place] for place in inside) and len(asked) < 0.3 * WEDGE.size


def test_the_errors_are_those_of_fresh_points_which_then_join_the_interpolation():
    truth = np.exp(X) + 0.3 * np.sin(6 * X * Y)
    plan, asked = refined(truth, 0.02)
    known = np.zeros(truth.size, bool)
    known[asked] = True
    np.testing.assert_array_equal(plan.known, known)
    assert set(plan.checked) == set(asked[-VERIFICATION_POINTS:]) and len(plan.errors) == VERIFICATION_POINTS
    values = truth.reshape(-1, 1)
    for part, points in ((known, ~known), (known & ~np.isin(np.arange(truth.size), plan.checked), plan.checked)):
        found = interpolate(plan.kind, plan.places[part], values[part], plan.places[points])
        if points is plan.checked:
            expected = relative_error(found, values[points], scale_of(values[known]))[:, 0]
            np.testing.assert_allclose(plan.errors, expected, rtol=1e-3)
        else:
            np.testing.assert_allclose(plan.values[points], found, rtol=1e-6)


def test_a_zero_among_the_last_points_leaves_the_logarithm_out(monkeypatch):
    truth = np.exp(4 * X + 3 * Y)  # from 1e-3 to 1e3
    monkeypatch.setattr(Refinement, "_verification", lambda *_: np.arange(VERIFICATION_POINTS))
    _, asked = refined(truth, 0.05)
    first = int(asked[-VERIFICATION_POINTS])
    truth.ravel()[first] = 0.0  # off by less than is allowed below LOSS_FLOOR
    plan, _ = refined(truth, 0.3)
    assert "logarithm" in str(plan.kind) and first in plan.checked
    assert np.isfinite(plan.values).all() and true_error(plan, truth) < 0.3


def test_the_reported_bound_holds_on_random_surfaces():
    generator = np.random.default_rng(7)
    broken, interpolated = 0, 0
    for number in range(20):
        truth, tolerance = random_surface(generator), generator.choice([0.005, 0.01, 0.02, 0.05])
        plan, _ = refined(truth, tolerance, seed=number)
        interpolated += plan.kind is not None
        broken += true_error(plan, truth) > 1.5 * error_bound(tolerance, plan.errors, plan.reached)
    assert broken <= 0.02 * 20 and interpolated > 12  # not one of 20


@pytest.fixture(scope="module")
def trained():
    """A small convolutional network that has seen its data."""
    torch.manual_seed(0)
    model, (inputs, targets) = make("cnn"), images()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval(), (inputs, targets)


def surfaces_of(trained, tolerance, **options):
    model, data = trained
    options = {"resolution": (31, 27), "progress": False} | options
    target, plane = ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=1)
    return ll.evaluate(target, plane, **options), ll.evaluate(target, plane, tolerance=tolerance, **options)


def test_a_network_is_interpolated_within_the_tolerance_and_says_so(trained, tmp_path):
    exact, found = surfaces_of(trained, 0.05)
    assert exact.evaluated is None and exact.metadata["interpolation"] is None
    assert np.abs(found.loss / exact.loss - 1).max() < 0.075
    np.testing.assert_allclose(found.loss[found.evaluated], exact.loss[found.evaluated], rtol=1e-5)
    said = found.metadata["interpolation"]
    assert said["evaluated_points"] == found.evaluated.sum() < found.loss.size / 2
    assert said["verified_points"] == VERIFICATION_POINTS and 0 < said["percentile_99_error"] <= said["largest_error"]
    assert said["largest_error"] <= said["error_bound"] <= 0.05
    assert 0 < said["planning_seconds"] < found.metadata["seconds"]
    assert f"within {said['error_bound']:.1%}" in ll.plot_contour(found).get_title()
    assert np.abs(found.accuracy - exact.accuracy).max() <= said["largest_accuracy_error"] < 0.5
    assert np.abs(found.standard_error - exact.standard_error).max() <= said["largest_standard_error_error"]
    assert found.accuracy.max() <= 1
    assert found.metadata["checks"]["origin"] is not None  # the origin is always evaluated
    again = ll.Surface.load(found.save(tmp_path / "surface.npz"))
    np.testing.assert_array_equal(again.evaluated, found.evaluated)
    assert "fresh points" in ll.cli.summarize(found)


def test_tolerance_zero_is_the_exact_surface(trained):
    exact, found = surfaces_of(trained, 0.0, resolution=(7, 6))
    np.testing.assert_array_equal(exact.loss, found.loss)


def test_noise_allows_a_third_of_the_standard_error(trained):
    exact, found = surfaces_of(trained, "noise")
    assert (np.abs(found.loss - exact.loss) <= 1.5 / 3 * exact.standard_error).all()
    assert found.metadata["interpolation"]["evaluated_points"] < found.loss.size / 2


def test_single_samples_are_within_the_tolerance_too(trained):
    exact, found = surfaces_of(trained, 0.1, per_sample=True)
    floor = LOSS_FLOOR * np.median(exact.per_sample, axis=(0, 1))
    error = np.abs(found.per_sample - exact.per_sample) / np.maximum(exact.per_sample, floor)
    assert error.max() < 0.15
    np.testing.assert_allclose(found.per_sample.mean(-1), found.loss, rtol=0.1)


def test_an_interrupted_refinement_goes_on_to_the_same_surface(trained, tmp_path, monkeypatch):
    _, whole = surfaces_of(trained, 0.02)
    path, saves = tmp_path / "progress.npz", []
    plain = ledger.save_progress

    def interrupted(*arguments):
        plain(*arguments)
        saves.append(1)
        if len(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "save_progress", interrupted)
    model, data = trained
    target, plane = ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=1)
    options = {"resolution": (31, 27), "progress": False, "tolerance": 0.02, "resume": path}
    with pytest.raises(KeyboardInterrupt):
        ll.evaluate(target, plane, **options)
    found = ll.evaluate(target, plane, **options)
    assert found.metadata["resumed_points"] > 0
    np.testing.assert_array_equal(found.evaluated, whole.evaluated)
    np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-4)


def test_settings_are_tuned_again_where_the_rest_of_the_grid_is_evaluated(trained, monkeypatch):
    plain, counts = workers.tune, []
    monkeypatch.setattr(
        workers,
        "tune",
        lambda evaluators, points, *rest, **kw: counts.append(len(points)) or plain(evaluators, points, *rest, **kw),
    )
    model, data = trained

    def rough(model, batch):
        return 2 + (300 * next(model.parameters()).sum()).sin() + 0 * model(batch[0])[:, 0]

    target = ll.objective(model, data, loss=rough, device="cpu", dtype=torch.float64)
    found = ll.evaluate(target, ll.random_plane(model, seed=1), resolution=(21, 20), tolerance=0.01, progress=False)
    assert found.evaluated.all() and counts[0] == 42 and sum(counts[1:]) > 84


def test_a_linear_network_is_evaluated_whole_because_that_is_faster():
    model, data = make("linear"), images()
    found = ll.evaluate(
        ll.objective(model, data), ll.random_plane(model), resolution=31, tolerance=0.01, progress=False
    )
    assert found.evaluated.all() and found.metadata["method"] == "affine"
    assert found.metadata["interpolation"]["method"] is None and found.metadata["interpolation"]["reached"]


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan"), "little", [0.1]])
def test_a_tolerance_that_means_nothing_is_refused(trained, tolerance):
    with pytest.raises(ll.InputError, match="tolerance"):
        surfaces_of(trained, tolerance, resolution=3)


def test_noise_without_a_standard_error_is_refused(trained):
    with pytest.raises(ll.InputError, match="standard error"):
        surfaces_of(trained, "noise", per_sample=True, resolution=3)


def test_a_spent_budget_ends_the_refinement_and_reports_what_it_reached():
    truth, asked = ROUGH["noise"].reshape(-1, 1), []

    def evaluate(points):
        asked.extend(points.tolist())
        return truth[points]

    shape, allowed = ROUGH["noise"].shape, lambda v, _: 0.01 * v
    plan = Refinement(shape, evaluate, allowed, affords=lambda points: len(asked) + points <= 400).run()
    assert len(asked) <= 400 and not plan.reached and plan.errors.max() > 0.01
    beyond = np.abs(plan.values / truth - 1) > plan.errors.max()
    assert (
        beyond.mean() < 4 / VERIFICATION_POINTS
    )  # the share of all points beyond the largest of VERIFICATION_POINTS is about 1 / VERIFICATION_POINTS


def test_a_surface_whose_budget_was_spent_says_so(trained):
    model, data = trained
    found = ll.evaluate(
        ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=1), resolution=(31, 27),
        tolerance=1e-6, budget=1e-6, progress=False,
    )  # fmt: skip
    said = found.metadata["interpolation"]
    assert not said["reached"] and said["error_bound"] == 2 * said["largest_error"] > 1e-6
    assert "(tolerance 1e-06, which the budget did not reach)" in ll.cli.summarize(found)


def test_a_budget_holds_where_nothing_is_finite():
    asked = []

    def evaluate(points):
        asked.extend(points.tolist())
        return np.full((len(points), 1), np.nan)

    plan = Refinement((51, 51), evaluate, lambda v, _: v, affords=lambda points: len(asked) + points <= 400).run()
    assert 200 < len(asked) <= 400 and not plan.reached and np.isnan(plan.values).all()


@pytest.mark.parametrize("centre", [0.0, 0.5, 0.8, 1.0])
def test_the_first_points_lie_closest_about_the_centre(centre):
    places = _graded(10_001, centre) / 10_000
    steps = np.diff(places)
    nearest = np.abs(places[:-1] + steps / 2 - centre).argmin()
    assert places[0] == 0 and places[-1] == 1 and steps[nearest] <= steps.min() + 2e-4
    # A step is near its middle what cosh is there: the outermost middle lies half a step inside.
    assert 1.35 < steps.max() / steps[nearest] < np.cosh(1)


def test_a_bend_takes_fewer_points_where_it_is_expected():
    bend = np.sqrt(0.01 + (X + 0.5) ** 2 + (Y - 0.4) ** 2)
    expected, elsewhere = (len(refined(bend, 0.01, centre=centre)[1]) for centre in ((0.25, 0.7), (0.9, 0.1)))
    assert expected < elsewhere


def test_a_plan_for_a_budget_balances_both_errors(trained):
    model, (inputs, targets) = trained
    data = (inputs.repeat(300, 1, 1, 1), targets.repeat(300))
    target, plane = ll.objective(model, data, device="cpu"), ll.random_plane(model, seed=1)
    planned = ll.cli.plan_budget(target, plane, 5.0, resolution=(31, 31))
    assert 32 <= planned.samples <= len(data[0]) and 0 < planned.seconds < 5.0
    assert planned.tolerance == pytest.approx(np.clip(planned.relative_standard_error, 0.003, 0.1), rel=0.05)
    with pytest.raises(ll.InputError, match="too short here; about"):
        ll.cli.plan_budget(target, plane, 1e-3, resolution=(31, 31))


@pytest.mark.parametrize(
    ("method", "taken", "points"), [("direct", 300, 200), ("direct", 1000, 500), ("affine", 441, 200)]
)
def test_a_plan_divides_the_time_by_the_points_that_a_trial_lets_expect(trained, monkeypatch, method, taken, points):
    """With 1e-5 s a sample at a point, and losses whose coefficient of variation is 2."""

    def evaluate(part, slice_, *, resolution, **options):
        shape = (resolution, resolution) if isinstance(resolution, int) else resolution
        evaluated = np.arange(np.prod(shape)) < taken
        return SimpleNamespace(
            loss=np.ones(shape), standard_error=np.full(shape, 2 / np.sqrt(part.size)), evaluated=evaluated,
            metadata={"seconds": 1e-5 * part.size * np.prod(shape), "data": {"size": part.size}, "method": method},
        )  # fmt: skip

    monkeypatch.setattr(budget, "evaluate", evaluate)
    monkeypatch.setattr(budget, "_seconds", lambda part, _: 1e-5 * part.size)
    model, (inputs, targets) = trained
    target = ll.objective(model, (inputs.repeat(4000, 1, 1, 1), targets.repeat(4000)), device="cpu")
    planned = ll.cli.plan_budget(target, ll.random_plane(model), 60.0)
    assert planned.samples == pytest.approx(0.95 * 60 / points / 1e-5, rel=0.05)
    assert planned.relative_standard_error == pytest.approx(2 / np.sqrt(planned.samples))
    assert planned.tolerance == pytest.approx(planned.relative_standard_error, rel=0.05)


def test_a_budget_that_a_forward_pass_shows_to_be_too_short_is_refused_at_once(trained, monkeypatch):
    monkeypatch.setattr(budget, "_seconds", lambda *_: 3.2)  # 0.1 s a sample: 32 of them at 200 points take 640 s
    monkeypatch.setattr(budget, "evaluate", None)
    model, (inputs, targets) = trained
    data = (inputs.repeat(3, 1, 1, 1), targets.repeat(3))
    with pytest.raises(ll.InputError, match=r"a budget of 60 s is too short here; about 6\d\d s"):
        ll.cli.plan_budget(ll.objective(model, data, device="cpu"), ll.random_plane(model), 60.0)


def test_a_plan_without_a_standard_error_is_refused(trained):
    model, (inputs, targets) = trained
    mean_only = ll.objective(model, (inputs, targets), loss=lambda model, batch: model(batch[0]).mean(), device="cpu")
    for target in (mean_only, ll.objective(model, (inputs[:1], targets[:1]), device="cpu")):
        with pytest.raises(ll.InputError, match="standard error"):
            ll.cli.plan_budget(target, ll.random_plane(model), 5.0, resolution=3)


def test_a_budget_without_a_tolerance_is_refused(trained):
    model, data = trained
    with pytest.raises(ll.InputError, match="needs a tolerance"):
        ll.evaluate(ll.objective(model, data), ll.random_plane(model), resolution=3, budget=5.0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_units_of_the_loss_do_not_matter(trained, scale):
    model, data = trained
    loss = lambda m, batch: scale * nn.functional.cross_entropy(m(batch[0]), batch[1], reduction="none")  # noqa: E731
    target, plane = ll.objective(model, data, loss=loss, device="cpu"), ll.random_plane(model, seed=1)
    exact = ll.evaluate(target, plane, resolution=(31, 27), progress=False)
    found = ll.evaluate(target, plane, resolution=(31, 27), tolerance=0.02, progress=False)
    error = np.abs(found.loss / exact.loss - 1).max()
    assert error < 0.03 and error <= 1.5 * found.metadata["interpolation"]["error_bound"]
    assert not found.evaluated.all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("place", [(1.0, 0.31), (-1.0, -0.52), (0.43, 1.0), (-0.17, -1.0)])
def test_a_spike_at_the_border_is_seen(place, seed):
    truth = 1 + X**2 + 4 * np.exp(-((X - place[0]) ** 2 + (Y - place[1]) ** 2) / 0.12**2)
    plan, _ = refined(truth, 0.02, seed)
    assert true_error(plan, truth) < 0.03


def test_what_interpolated_accuracies_are_off_by_stays_within_what_is_said():
    beyond = 0
    for seed in range(6):
        torch.manual_seed(seed)
        inputs = torch.randn(60 + 50 * seed, 4)
        targets = (inputs[:, 0] + inputs[:, 1] ** 2 > 0.3).long() + (inputs[:, 2] > 0.5).long()
        model = nn.Sequential(nn.Linear(4, 12), nn.ReLU() if seed % 2 else nn.Tanh(), nn.Linear(12, 3))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        exact, found = surfaces_of((model, (inputs, targets)), 0.05)
        said = found.metadata["interpolation"]
        assert said["method"] is not None
        beyond += np.abs(found.accuracy - exact.accuracy).max() > said["largest_accuracy_error"]
        beyond += np.abs(found.standard_error - exact.standard_error).max() > said["largest_standard_error_error"]
    assert beyond == 0


def test_a_grid_that_takes_no_longer_than_a_plan_is_evaluated_whole(trained, monkeypatch):
    monkeypatch.setattr("landscape.evaluation.filling.QUICK", 1e9)
    exact, found = surfaces_of(trained, 0.05)
    assert found.evaluated.all() and found.metadata["interpolation"]["method"] is None
    np.testing.assert_allclose(found.loss, exact.loss, rtol=1e-5)


def test_a_plan_that_takes_longer_than_the_rest_of_the_grid_ends():
    truth = ROUGH["noise"]
    left = []
    plan, asked = refined(truth, 0.01, worthwhile=lambda points: left.append(points) or len(left) < 3)
    assert plan.kind is None and len(asked) == truth.size and len(left) == 3
