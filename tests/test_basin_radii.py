"""Basins: radii along random lines of a quadratic bowl, and the bound on the share of directions that stay inside."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import landscape_lib as ll
from landscape.results import share_bound

CURVATURES = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0, 0.25], dtype=torch.float64)


class Bowl(nn.Module):
    """Six weights, at a minimum of `bowl`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0, 0.5], [3.0, 1.5, -1.0]], dtype=torch.float64))


MINIMUM = Bowl().weight.detach().clone()


def bowl(model, batch):
    """One value a sample, whose mean is 7 + sum_i h_i (w_i - m_i)^2 / 2."""
    rise = (CURVATURES * (model.weight - MINIMUM).flatten().square()).sum() / 2
    return 7 + rise * batch / batch.mean()


def objective_of(model):
    return ll.objective(model, torch.tensor([1.0, 2.0, 3.0]), loss=bowl, dtype=torch.float64, whole_batch=True)


def exact_radii(model, rise, count, seed=42, **options):
    """sqrt(2 rise / d^T H d) for the lines of `ll.random_line`."""
    radii = []
    for k in range(count):
        direction = ll.random_line(model, seed=seed + k, **options).directions[0]["weight"].flatten()
        radii.append(math.sqrt(2 * rise / float((CURVATURES * direction.square()).sum())))
    return np.array(radii)


@pytest.mark.parametrize("normalize", ["filter", None])
def test_the_radii_of_a_quadratic_bowl_are_those_of_the_closed_form(normalize):
    model = Bowl()
    expected = exact_radii(model, 0.3, 7, normalize=normalize)
    found = ll.basin_radii(
        objective_of(model), model, directions=7, rise=0.3, reach=2 * expected.max(), points=9, normalize=normalize
    )
    np.testing.assert_allclose(found.radii, expected, rtol=1e-9)  # linear in t^2 is exact here
    assert found.radius == pytest.approx(expected.min(), rel=1e-9)
    assert found.inside(expected.min() * 1.0001) == 6 and found.inside(expected.min() * 0.9999) == 7
    np.testing.assert_allclose(found.loss[:, 9], 7, rtol=1e-15)
    assert found.seed == 42 and found.rise == 0.3 and len(found) == 7


def test_radii_beyond_the_reach_are_infinite_and_the_basin_ends_at_the_reach():
    model = Bowl()
    expected = exact_radii(model, 0.3, 6)
    between = float(np.median(expected))
    found = ll.basin_radii(objective_of(model), model, directions=6, rise=0.3, reach=between, points=12)
    np.testing.assert_allclose(found.radii, np.where(expected < between, expected, np.inf), rtol=1e-9)
    everywhere = ll.basin_radii(objective_of(model), model, directions=2, rise=1e3, reach=0.5)
    assert np.isinf(everywhere.radii).all() and everywhere.radius == 0.5
    with pytest.raises(ll.InputError, match=r"radius is 0\.6; the loss is known from 0 to 0\.5"):
        everywhere.inside(0.6)


def test_without_a_reach_the_lines_go_beyond_the_basin():
    model = Bowl()
    found = ll.basin_radii(objective_of(model), model, directions=2, rise=0.3)
    assert 1.4 < found.reach / exact_radii(model, 0.3, 1)[0] < 1.6 and np.isfinite(found.radii[0])


def test_a_loss_that_is_not_finite_counts_as_risen():
    alphas = np.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    loss = np.array([[1.2, 1.0, 1.0, 1.05, np.nan], [np.inf, np.nan, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.4]])
    found = ll.results.BasinRadii(
        alphas, loss, np.zeros_like(loss), rise=0.1, seed=0, metadata={"relative_norms": [1, 1, 1]}
    )
    # by hand: first line, left: t^2 = 1 + (0.1 / 0.2) (4 - 1); second: the origin; third: t^2 = 1 + (0.1 / 0.4) (9 - 1)
    np.testing.assert_allclose(found.radii, [1.0, 0.0, math.sqrt(3)])
    assert found.radius == 0 and found.reach == 2 and found.inside(1.0) == 2


@pytest.mark.parametrize(("inside", "total", "expected"), [(100, 100, 0.9705), (20, 20, 0.8609), (19, 20, 0.7839)])
def test_the_bound_has_the_values_of_the_tables(inside, total, expected):
    assert share_bound(inside, total) == pytest.approx(expected, abs=5e-5)


def test_the_bound_is_that_of_scipy_and_of_the_binomial_distribution():
    for total in (1, 7, 20, 300):
        for inside in {0, 1, total // 2, total - 1, total}:
            bound = share_bound(inside, total, 0.9)
            exact = scipy.stats.binomtest(inside, total, alternative="greater").proportion_ci(0.9, "exact").low
            assert bound == pytest.approx(exact, rel=1e-9)
            if inside:
                assert scipy.stats.binom.sf(inside - 1, total, bound) == pytest.approx(0.1, rel=1e-6)
                assert bound == pytest.approx(scipy.stats.beta.ppf(0.1, inside, total - inside + 1), rel=1e-9)


def test_the_bound_at_an_observed_radius_covers_the_true_share_as_often_as_it_says():
    generator = np.random.default_rng(0)  # radii uniform on [0, 1]: the share beyond r is 1 - r
    least = generator.random((4000, 20)).min(1)
    covered = (share_bound(20, 20) <= 1 - least).mean()
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize(("inside", "total", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_a_bound_of_nothing_is_refused(inside, total, confidence):
    with pytest.raises(ll.InputError):
        share_bound(inside, total, confidence)


def test_lines_in_a_file_are_found_again_and_more_are_added(tmp_path, monkeypatch, capsys):
    model, path = Bowl(), tmp_path / "basin.npz"
    target = objective_of(model)
    few = ll.basin_radii(target, model, directions=3, rise=0.3, path=path)
    count = []
    monkeypatch.setattr(type(target), "on", lambda *_: pytest.fail("a span was searched again"))
    module = __import__("landscape.sharpness.basin_radii", fromlist=["evaluate"])
    whole = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: count.append(1) or whole(*a, **k))
    more = ll.basin_radii(target, model, directions=5, rise=0.3, path=path)
    assert len(count) == 2 and len(more) == 5 and len(more.metadata["relative_norms"]) == 5
    again = ll.basin_radii(target, model, directions=2, rise=0.3, path=path)
    assert len(count) == 2 and len(again) == 2
    np.testing.assert_array_equal(more.loss[:3], few.loss)
    np.testing.assert_array_equal(ll.results.BasinRadii.load(path).radii, more.radii)
    monkeypatch.undo()
    other = ll.basin_radii(target, model, directions=2, rise=0.2, path=path)
    assert "is computed again: its lines" in capsys.readouterr().out and other.rise == 0.2


def test_a_basin_tells_its_radius_and_bound_and_is_drawn(tmp_path, clean_figures):
    model = Bowl()
    found = ll.basin_radii(objective_of(model), model, directions=20, rise=0.3)
    assert "directions 20" in repr(found) and "at least 86.09% (with 95 %)" in repr(found)
    ax = ll.plot_basin_radii(found)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert any(f"radius {found.radius:.3g}: 20 of 20 stay below" in text and "86.1%" in text for text in legend)
    assert any("0.3 above the centre" in text for text in legend)
    assert ll.save_figure(ax, tmp_path / "basin.png").stat().st_size > 10_000
    assert "<img" in found._repr_html_()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": 1}, "directions is 1; it must be a whole number from 2"),
        ({"rise": 0.0}, "rise is 0.0; it must be a finite number above 0"),
        ({"reach": -1.0}, "reach is -1.0"),
        ({"points": 1}, "points is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"ignore": ("weight",)}, "no parameter is left to perturb"),
    ],
)
def test_bad_input_is_refused_in_one_line(options, message):
    model = Bowl()
    with pytest.raises(ll.InputError, match=message) as error:
        ll.basin_radii(objective_of(model), model, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_basin_is_refused(tmp_path):
    alphas = np.array([-1.0, 1.0])
    found = ll.results.BasinRadii(alphas, np.ones((1, 2)), np.ones((1, 2)), rise=0.1, seed=0, metadata={})
    with pytest.raises(ll.InputError, match="the point itself, 0, is not among the coordinates"):
        found.save(tmp_path / "basin.npz")
