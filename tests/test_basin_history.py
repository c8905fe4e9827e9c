"""Basins over training, on surfaces whose wells appear, move and merge at known places."""

from dataclasses import replace

import numpy as np
import pytest

import landscape_lib as ll

X, Y = np.linspace(-2, 2, 81), np.linspace(-1.5, 1.5, 41)


def plane(profile, error=0.001, shift=0.0, **metadata):
    """profile(x) + (y - shift)^2 with the same standard error everywhere."""
    loss = profile(X)[:, None] + (Y[None] - shift) ** 2
    return ll.Surface(X, Y, loss, np.full(loss.shape, error), None, None, metadata)


def tilted(slope):
    """A double well whose wells are at the roots of 4 x^3 - 4 x + slope; only one of them for |slope| > 1.5396."""
    return lambda x: (x**2 - 1) ** 2 + slope * x


def exact_persistence(slope):
    roots = np.sort(np.roots([4, 0, -4, slope]).real)
    heights = (roots**2 - 1) ** 2 + slope * roots
    return heights[1] - heights[2]  # of the higher well, on the right


def test_a_well_that_vanishes_where_it_must():
    slopes = (0.3, 0.8, 1.3, 1.7)
    history = ll.follow_basins([plane(tilted(slope)) for slope in slopes], names=[f"tilt {s}" for s in slopes])
    assert history.present.tolist() == [[True, True]] * 3 + [[True, False]]
    expected = [exact_persistence(slope) for slope in slopes[:3]]
    assert history.persistence[:3, 1] == pytest.approx(expected, abs=0.02)
    assert np.isinf(history.persistence[:, 0]).all() and np.isnan(history.persistence[3, 1])
    for row, slope in enumerate(slopes):
        left, *_, right = np.sort(np.roots([4, 0, -4, slope]).real)
        assert history.minima[row, 0] == pytest.approx((left, 0), abs=0.04)
        assert row == 3 or history.minima[row, 1] == pytest.approx((right, 0), abs=0.04)
    assert history.errors[:3, 1] == pytest.approx(0.001 * 2**0.5) and history.fates.tolist() == [-1, 0]
    assert history.events == ["basin 1 becomes part of basin 0 at tilt 1.7"]


def test_a_well_that_becomes_two():
    growth = (-1.0, 0.5, 2.0)
    surfaces = [plane(lambda x, a=a: x**4 - a * x**2 + 0.05 * x) for a in growth]
    history = ll.follow_basins(surfaces)
    assert history.present.sum(1).tolist() == [1, 2, 2] and history.origins.tolist() == [-1, 0]
    assert history.first.tolist() == [0, 1] and history.last.tolist() == [2, 2]
    wells = np.sqrt(np.array(growth[1:]) / 2)  # up to the small tilt
    assert history.minima[1:, 1, 0] == pytest.approx(wells, abs=0.06)
    assert history.minima[1:, 0, 0] == pytest.approx(-wells, abs=0.06)
    depths = np.array(growth[1:]) ** 2 / 4 - 0.05 * wells
    assert history.persistence[1:, 1] == pytest.approx(depths, abs=0.01)


def test_wells_that_move_and_change_places_in_depth_stay_themselves():
    slopes, shifts = np.linspace(0.6, -0.6, 7), np.linspace(-0.6, 0.6, 7)
    surfaces = [plane(tilted(slope), shift=shift) for slope, shift in zip(slopes, shifts, strict=True)]
    history = ll.follow_basins(surfaces)
    assert history.present.all() and history.births.shape == (7, 2) and not history.events
    assert history.minima[:, 0, 1] == pytest.approx(shifts, abs=0.04)
    assert (history.minima[:, 0, 0] < -0.8).all() and (history.minima[:, 1, 0] > 0.8).all()
    assert np.isinf(history.persistence[:3, 0]).all() and np.isinf(history.persistence[-3:, 1]).all()


def test_basins_within_the_noise_are_part_of_their_parents():
    generator = np.random.default_rng(3)
    surfaces = []
    for _ in range(4):
        clean = plane(tilted(0.4), error=0.05)
        noisy = clean.loss + 0.05 * generator.normal(size=clean.shape)
        surfaces.append(ll.Surface(X, Y, noisy, clean.standard_error, None, None, {}))
    alone = [len(ll.topology(surface).births) for surface in surfaces]
    history = ll.follow_basins(surfaces)
    assert min(alone) > 20 and history.present[:, :2].all()  # the wells are followed through all the noise
    assert abs(np.nanmax(history.minima[:, 1, 0]) - 0.94) < 0.4


def test_transposed_and_reversed_surfaces_have_the_same_basins():
    surfaces = [plane(tilted(slope)) for slope in (0.3, 1.0, 1.7)]
    turned = [
        ll.Surface(s.betas, s.alphas, s.loss.T.copy(), s.standard_error.T.copy(), None, None, {}) for s in surfaces
    ]
    one, other = ll.follow_basins(surfaces), ll.follow_basins(turned)
    assert np.array_equal(one.minima, other.minima[..., ::-1], equal_nan=True)
    assert np.array_equal(one.persistence, other.persistence, equal_nan=True)
    back = ll.follow_basins(surfaces[::-1])
    assert np.array_equal(back.present, one.present[::-1]) and back.origins.tolist() == [-1, 0]


def test_gaps_and_interpolated_surfaces_are_named():
    surfaces = [plane(tilted(0.3)) for _ in range(3)]
    loss = surfaces[1].loss.copy()
    loss[X > 0] = np.nan
    evaluated = np.ones(loss.shape, bool)
    evaluated[::2] = False
    surfaces[1] = ll.Surface(
        X, Y, loss, surfaces[1].standard_error, None, None, {"interpolation": {"method": "x"}}, evaluated
    )
    with pytest.warns(UserWarning, match="1 OF 3 SURFACES ARE INTERPOLATED") as caught:
        history = ll.follow_basins(surfaces, names=["a", "b", "c"])
    assert len(caught) == 1
    assert history.gaps.tolist() == [0, int((X > 0).sum()) * len(Y), 0]
    assert history.interpolated == pytest.approx([0, 41 / 81, 0])
    assert history.events == [
        "basin 1 ends in a gap at b",
        "basin 2 appears where there was a gap at c, 0.7156 ± 0.0014 deep",
    ]
    assert "interpolated b" in repr(history) and "with gaps b" in repr(history)
    title = ll.plot_topology(history).get_title()
    assert "1 of 3 surfaces with gaps" in title and "1 of 3 surfaces interpolated in part" in title


def test_lines_and_epochs():
    lines = [
        ll.Surface(X, None, X**4 - a * X**2, np.full(81, 0.01), None, None, {"checkpoint": {"epoch": epoch}})
        for epoch, a in ((0, -1), (5, 2))
    ]
    history = ll.follow_basins(lines)
    assert history.names == ["epoch 0", "epoch 5"] and history.minima.shape == (2, 2, 1)


def test_stored_and_read_again(tmp_path):
    history = ll.follow_basins([plane(tilted(slope)) for slope in (0.3, 1.7)])
    again = ll.results.BasinHistory.load(history.save(tmp_path / "history.npz"))
    for name in ("minima", "births", "deaths", "errors", "origins", "fates", "gaps", "interpolated"):
        assert np.array_equal(getattr(again, name), getattr(history, name), equal_nan=True)
    assert again.names == ["0", "1"] and again.events == history.events


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ll.follow_basins([plane(np.cos)]), "at least 2 surfaces, not 1"),
        (lambda: ll.follow_basins([plane(np.cos), 3]), "takes surfaces"),
        (lambda: ll.follow_basins([plane(np.cos)] * 2, names=["a"]), "2 surfaces, but 1 names"),
        (lambda: ll.follow_basins([plane(np.cos)] * 2, names=["a", "a"]), "'a' twice"),
        (
            lambda: ll.follow_basins(
                [ll.Surface(x, None, x**2, x**0, None, None, {}) for x in (np.arange(3.0), np.arange(3.0) + 1)]
            ),
            "surface 2 has other axes",
        ),
        (lambda: ll.follow_basins([plane(lambda x: x * np.nan)] * 2), "no loss of this surface is finite"),
        (lambda: ll.plot_topology(ll.follow_basins([plane(np.cos)] * 2), view="map"), "unknown view 'map'"),
        (lambda: ll.plot_topology(plane(np.cos)), "or of ll.follow_basins"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ll.InputError, match=message):
        call()


def test_figures_show_every_basin():
    history = ll.follow_basins([plane(tilted(slope)) for slope in (0.3, 0.8, 1.7)], names=["a", "b", "c"])
    ax = ll.plot_topology(history)
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == ["basin 0", "basin 1"]
    lines = [line.get_ydata() for line in ax.lines if np.isfinite(line.get_ydata()).sum() == 2]
    assert any(np.allclose(values[:2], history.persistence[:2, 1]) for values in lines)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    where = ll.plot_topology(history, view="position")
    drawn = [line.get_xydata() for line in where.lines if len(line.get_xydata()) == 3]
    assert np.array_equal(drawn[0], history.minima[:, 0]) and len(drawn) == 2
    assert where.get_xlim() == (-2, 2) and where.get_ylim() == (-1.5, 1.5)


def test_basins_that_never_end_have_no_axis_of_persistence():
    bowl = ll.follow_basins([plane(lambda x: x**2)] * 2, names=["a", "b"])
    ax = ll.plot_topology(bowl)
    assert not len(ax.get_yticks()) and ax.get_ylabel().startswith("no basin ends")
    (handle,) = ax.get_legend().legend_handles
    assert handle.get_marker() == "^"  # the mark that is drawn
    where = ll.plot_topology(bowl, view="position")
    assert [text.get_text() for text in where.get_legend().get_texts()] == ["basin 0", "the last surface that has it"]


def test_the_places_of_basins_have_the_units_of_the_surfaces():
    units = {"slice": {"kind": "random plane", "normalize": "filter", "axes": {"units": ["m", "n"], "models": []}}}
    surfaces = [replace(plane(tilted(slope)), metadata=units) for slope in (0.3, 1.7)]
    where = ll.plot_topology(ll.follow_basins(surfaces), view="position")
    assert (where.get_xlabel(), where.get_ylabel()) == ("α (m)", "β (n)")
