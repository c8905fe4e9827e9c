"""Figures are checked by their arrays and artists, never by their pixels."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from surfaces import METADATA, contours, hatched, line, new_axes, plane, star, tilted, with_gap

from landscape.errors import InputError
from landscape.plotting import plot_contour, plot_slices, plot_surface, plot_tiles, save_figure
from landscape.plotting.captions import LENGTHS
from landscape.plotting.scales import Scale, level_text
from landscape.results import Surface

pytestmark = pytest.mark.usefixtures("clean_figures")


def test_import_loads_neither_torch_nor_pyplot():
    code = "import sys, landscape.plotting; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_given_axes_leave_pyplot_alone():
    code = (
        "import sys, numpy as np; from matplotlib.figure import Figure; from landscape.results import Surface;"
        "from landscape.plotting import plot_contour, plot_slices, plot_surface;"
        "x = np.linspace(-1, 1, 5); y = np.add.outer(x, x); s = Surface(x, x, y, y, None, None, {}); f = Figure();"
        "plot_contour(s, f.add_subplot(131)); plot_slices(s, f.add_subplot(132));"
        "plot_surface(s, f.add_subplot(133, projection='3d')); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("draw", [plot_contour, plot_surface, plot_slices])
def test_without_axes_a_pyplot_figure_is_made(draw):
    import matplotlib.pyplot as plt

    ax = draw(plane())
    assert plt.figure(ax.figure.number) is ax.figure


# --- contour ----------------------------------------------------------------------------------------------


def test_contour_has_thirty_bands_over_the_range_of_the_loss():
    surface, ax = plane(), new_axes()
    assert plot_contour(surface, ax) is ax
    filled = contours(ax)
    np.testing.assert_allclose(filled.levels, np.linspace(surface.loss.min(), surface.loss.max(), 31))
    assert filled.get_clim() == (surface.loss.min(), surface.loss.max())
    assert filled.extend == "neither"
    assert filled.get_cmap().name == "viridis"


def test_contour_lines_lie_where_the_function_has_their_level():
    ax = new_axes()
    plot_contour(plane(lambda x, y: 1 + 2 * x + y), ax, levels=8)  # linear, so that interpolation is exact
    lines = contours(ax, filled=False)
    assert lines.levels.tolist() == [-1, 0, 1, 2, 3, 4]  # inside the range, -1.5 to 5
    for level, segments in zip(lines.levels, lines.allsegs, strict=True):
        points = np.concatenate(segments)
        np.testing.assert_allclose(1 + 2 * points[:, 0] + points[:, 1], level, atol=1e-12)


def test_contour_axes_run_over_the_grid_first_axis_to_the_right():
    ax = new_axes()
    plot_contour(plane(), ax)
    assert ax.get_xlim() == (-1, 1)
    assert ax.get_ylim() == (-0.5, 2)


ROUND = {
    "0 to 1": ((0.0, 1.0), False, ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]),
    "both signs": ((-0.3, 0.71), False, ["-0.2", "-0.1", "0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]),
    "narrow": ((0.31, 0.4456), False, ["0.32", "0.34", "0.36", "0.38", "0.4", "0.42", "0.44"]),
    "far from zero": ((1000.001, 1000.00198), False, [f"1000.00{k}" for k in range(11, 20)]),
    "large": ((0.0, 2.6e6), False, ["250000", "500000", "750000"] + [f"{k}" for k in range(10**6, 2600000, 250000)]),
    "narrow log": ((0.31, 0.4456), True, ["0.32", "0.34", "0.36", "0.38", "0.4", "0.42", "0.44"]),
    "one decade": ((0.9, 11.0), True, ["1", "1.5", "2", "2.5", "3", "4", "5", "6", "8", "10"]),
    "four decades": (
        (0.4, 2500.0),
        True,
        ["0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "2000"],
    ),
    "ten decades": (
        (5e-9, 50.0),
        True,
        ["1e-08", "1e-07", "1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1", "10"],
    ),
    "forty decades": ((5e-21, 5e19), True, [f"{10.0**k:.10g}" for k in range(-20, 20, 4)]),
}


@pytest.mark.parametrize("case", ROUND)
def test_contour_levels_are_round_numbers(case):
    limits, log_scale, expected = ROUND[case]
    levels = Scale(limits, log_scale).round_levels(12)
    assert [level_text(level) for level in levels] == expected


@pytest.mark.parametrize("log_scale", [False, True])
def test_lines_are_labelled_with_the_number_of_their_level(log_scale):
    ax = new_axes()
    plot_contour(plane(alphas=(-1, 1, 41), betas=(-0.5, 2, 31)), ax, log_scale=log_scale)
    lines = contours(ax, filled=False)
    labels = [text.get_text() for text in lines.labelTexts]
    assert 3 <= len(labels) == len(set(labels)) <= len(lines.levels) <= 12
    assert {*labels} <= {level_text(level) for level in lines.levels}


def test_a_wide_title_keeps_clear_of_the_tick_labels():
    title = "a title that is wider than the axes over which it stands, as those of many checkpoints"
    ax = plot_contour(plane(metadata={"title": title}))
    ax.figure.canvas.draw()
    above, below = ax.title.get_window_extent(), ax.get_yticklabels()[-1].get_window_extent()
    assert "\n" in ax.get_title() and above.x0 > 0 and above.x1 < ax.figure.bbox.x1  # wrapped to its room
    assert ax.get_yticks()[-1] == ax.get_ylim()[1]
    assert above.y0 - below.y1 > 4  # pixels, at 100 an inch


def test_a_label_says_the_loss_where_it_stands():
    ax = new_axes()
    plot_contour(plane(alphas=(-1, 1, 41), betas=(-0.5, 2, 31)), ax)
    texts = contours(ax, filled=False).labelTexts
    assert len(texts) >= 3
    for text in texts:
        # Two decimals, and the error of linear interpolation over a step h: h^2 / 8 times the second derivative.
        assert float(text.get_text()) == pytest.approx(tilted(*text.get_position()), abs=0.005 + 0.05**2 / 4 + 0.001)


def test_star_at_the_origin_only_inside_the_axes():
    ax = new_axes()
    plot_contour(plane(), ax)
    np.testing.assert_array_equal(star(ax).get_xydata(), [[0, 0]])
    assert "model" in [text.get_text() for text in ax.get_legend().get_texts()]
    ax = new_axes()
    plot_contour(plane(alphas=(0.5, 2, 7)), ax)
    assert star(ax) is None and ax.get_legend() is None


def test_log_scale_has_levels_in_constant_ratio():
    surface, ax = plane(lambda x, y: 0.2 + 30 * (x**2 + y**2)), new_axes()
    plot_contour(surface, ax, log_scale=True, levels=12)
    filled = contours(ax)
    assert isinstance(filled.norm, LogNorm)
    np.testing.assert_allclose(filled.levels, np.geomspace(surface.loss.min(), surface.loss.max(), 13))


def test_limits_of_the_colours_can_be_given():
    ax = new_axes()
    plot_contour(plane(), ax, vmin=0.5, vmax=1.0)
    filled = contours(ax)
    assert filled.get_clim() == (0.5, 1.0) and filled.extend == "both"
    assert filled.colorbar.extend == "both"
    ax = new_axes()
    plot_contour(plane(), ax, vmin=0, vmax=10)
    assert contours(ax).get_clim() == (0, 10) and contours(ax).extend == "neither"
    ax = new_axes()
    plot_contour(plane(), ax, vmin=100)  # beyond every value
    assert contours(ax).get_clim()[0] == 100 and contours(ax).extend == "min"


@pytest.mark.parametrize(("quantity", "label"), [("accuracy", "accuracy"), ("standard_error", "standard error")])
def test_other_quantities(quantity, label):
    surface, ax = plane(), new_axes()
    plot_contour(surface, ax, quantity=quantity)
    np.testing.assert_array_equal(contours(ax).zmax, getattr(surface, quantity).max())
    assert contours(ax).colorbar.ax.get_ylabel() == label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantity": "entropy"}, "unknown quantity 'entropy'"),
        ({"levels": 1}, "at least 2 levels, not 1"),
        ({"vmin": 2, "vmax": 1}, "vmin=2 to vmax=1"),
        ({"vmin": -1, "log_scale": True}, "vmin=-1"),
    ],
)
def test_contour_refuses_what_it_cannot_draw(options, message):
    with pytest.raises(InputError, match=message):
        plot_contour(plane(), new_axes(), **options)


def test_contour_of_an_accuracy_that_is_not_there():
    surface = plane()
    surface = Surface(surface.alphas, surface.betas, surface.loss, surface.standard_error, None, None, {})
    with pytest.raises(InputError, match="no accuracy"):
        plot_contour(surface, new_axes(), quantity="accuracy")


def test_a_line_is_sent_to_plot_slices():
    for draw in (plot_contour, plot_surface):
        with pytest.raises(InputError, match="plot_slices"):
            draw(line())
    with pytest.raises(InputError, match="plot_slices"):
        plot_tiles([line()])


# --- non-finite, constant and tiny surfaces ---------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_points_are_hatched_and_never_replaced(value):
    surface, ax = with_gap(value), new_axes()
    plot_contour(surface, ax)
    (patch,) = hatched(ax)
    assert len(patch.get_path().vertices) == 5 * 4  # the four cells around the point
    box = patch.get_path().get_extents()
    np.testing.assert_allclose(box.x0, surface.alphas[4])
    np.testing.assert_allclose(box.x1, surface.alphas[6])
    np.testing.assert_allclose(box.y0, surface.betas[3])
    np.testing.assert_allclose(box.y1, surface.betas[5])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "NaN or infinite (1 of 42 points)" in texts
    assert not surface.nonfinite.all() and contours(ax).zmax == surface.loss[~surface.nonfinite].max()


def test_a_dot_marks_every_point_that_is_not_interpolated():
    evaluated = np.zeros((7, 6), bool)
    evaluated[[0, 2, 6], [5, 1, 3]] = True
    ax = plot_contour(replace(plane(), evaluated=evaluated), new_axes())
    (dots,) = [drawn for drawn in ax.lines if drawn.get_label() == "evaluated"]
    places = {tuple(place) for place in np.round(dots.get_xydata(), 6)}
    assert places == {(-1, 2), (round(-1 / 3, 6), 0), (1, 1)}
    assert "evaluated" in [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("evaluated", [None, np.ones((7, 6), bool)])
def test_no_dots_where_every_point_is_evaluated(evaluated):
    ax = plot_contour(replace(plane(), evaluated=evaluated), new_axes())
    assert [drawn.get_marker() for drawn in ax.lines] == ["*"]


def test_finite_surface_has_no_hatching():
    ax = new_axes()
    plot_contour(plane(), ax)
    assert hatched(ax) == []


def test_nothing_finite_still_draws():
    surface = plane(lambda x, y: x * np.nan)
    ax = new_axes()
    plot_contour(surface, ax)
    assert hatched(ax)[0].get_path().get_extents().extents == pytest.approx((-1, -0.5, 1, 2))
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-0.5, 2)
    ax.figure.draw_without_rendering()
    plot_surface(surface, new_axes(projection="3d")).figure.draw_without_rendering()
    plot_slices(surface, new_axes()).figure.draw_without_rendering()
    plot_tiles([surface, surface]).draw_without_rendering()


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0, 1e-30])
def test_constant_surface_still_draws(value):
    surface, ax = plane(lambda x, y: 0 * x + value), new_axes()
    plot_contour(surface, ax)
    low, high = contours(ax).get_clim()
    assert low < value < high
    ax.figure.draw_without_rendering()
    plot_surface(surface, new_axes(projection="3d")).figure.draw_without_rendering()


@pytest.mark.parametrize(
    "surface",
    [
        plane(alphas=(-1, 1, 2), betas=(-0.5, 2, 2)),
        plane(lambda x, y: 0.3 + 1e-6 * tilted(x, y)),
        plane(lambda x, y: 1e7 * tilted(x, y)),
        plane(lambda x, y: 1e-7 * tilted(x, y)),
    ],
)
@pytest.mark.parametrize("log_scale", [False, True])
def test_tiny_grids_and_extreme_values_still_draw(surface, log_scale):
    for draw, options in ((plot_contour, {}), (plot_slices, {}), (plot_surface, {"projection": "3d"})):
        draw(surface, new_axes(**options), log_scale=log_scale).figure.draw_without_rendering()


def test_a_single_row_has_no_area():
    with pytest.raises(InputError, match="1 x 6"):
        plot_contour(plane(alphas=(0, 0, 1)), new_axes())


# --- labels -----------------------------------------------------------------------------------------------


def test_labels_say_units_data_and_loss():
    ax = new_axes()
    plot_contour(plane(), ax)
    assert ax.get_xlabel() == "α (filter-norm units), |d|/|θ| = 0.98"
    assert ax.get_ylabel() == "β (filter-norm units), |d|/|θ| = 0.75"
    assert ax.get_title() == f"mnist train, 60,000 samples, cross-entropy\n{LENGTHS}"
    assert contours(ax).colorbar.ax.get_ylabel() == "loss (cross-entropy)"


@pytest.mark.parametrize(
    ("recipe", "x_label"),
    [
        ({"kind": "random plane", "normalize": "layer"}, "α (units of layer-wise norms), |d|/|θ| = 0.98"),
        ({"kind": "random plane", "normalize": "model"}, "α (units of the model's norm), |d|/|θ| = 0.98"),
        ({"kind": "random plane", "normalize": None}, "α (direction not normalised), |d|/|θ| = 0.98"),
        ({"kind": "three-point plane"}, "α (1 = second model)"),
        ({"kind": "pca plane"}, "α (principal component 1), |d|/|θ| = 0.98"),
        (
            {"kind": "pca plane", "explained_variance": [0.614, 0.2, 0.186], "normalize": None},
            "α (principal component 1, 61% of the variance), |d|/|θ| = 0.98",
        ),
        (
            {"kind": "pca plane", "explained_variance": [0.614, 0.2, 0.186], "normalize": "filter"},
            "α (principal component 1, filter-norm units), |d|/|θ| = 0.98",
        ),
    ],
)
def test_axis_label_follows_the_recipe(recipe, x_label):
    ax = new_axes()
    plot_contour(plane(metadata={**METADATA, "slice": recipe}), ax)
    assert ax.get_xlabel() == x_label


def test_batch_norm_policy_is_named_only_where_there_is_batch_norm():
    ax = new_axes()
    plot_contour(plane(metadata={**METADATA, "objective": {"loss": "mse", "batch_norm": "recalibrate"}}), ax)
    title = "mnist train, 60,000 samples, mean squared error\nBatchNorm: recalibrate"
    assert ax.get_title() == f"{title}\n{LENGTHS}"


def test_labels_and_title_of_the_caller_stay():
    for draw, options in ((plot_contour, {}), (plot_slices, {}), (plot_surface, {"projection": "3d"})):
        ax = new_axes(**options)
        ax.set(title="mine", xlabel="x of mine", ylabel="y of mine")
        draw(plane(), ax)
        assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("mine", "x of mine", "y of mine")


def test_title_in_the_metadata_wins():
    ax = new_axes()
    plot_contour(plane(metadata={**METADATA, "title": "sample 17"}), ax)
    assert ax.get_title() == f"sample 17\n{LENGTHS}"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"slice": None, "data": None, "objective": None, "relative_norms": None},
        {"slice": {"kind": None}, "data": {"size": None}, "objective": {"loss": None}, "relative_norms": [None]},
        {"slice": "x", "data": [1], "relative_norms": [float("nan"), "y"], "title": None},
    ],
)
def test_missing_metadata_never_breaks_a_drawing(metadata):
    surface = plane(metadata=metadata)
    assert plot_contour(surface, new_axes()).get_xlabel() == "α"
    assert plot_surface(surface, new_axes(projection="3d")).get_ylabel() == "β"
    assert plot_slices(surface, new_axes()).get_xlabel() == "α, β"
    assert plot_slices(line(metadata=metadata), new_axes()).get_title() == ""
    plot_tiles([surface])


# --- 3-D --------------------------------------------------------------------------------------------------


@pytest.fixture
def meshes(monkeypatch):
    """What reaches matplotlib's own surface, since it offers no way back from the drawn mesh."""
    seen, original = [], Axes3D.plot_surface

    def spy(self, x, y, z, **options):
        seen.append((x, y, z, options))
        return original(self, x, y, z, **options)

    monkeypatch.setattr(Axes3D, "plot_surface", spy)
    return seen


def test_surface_draws_every_cell_at_its_coordinates(meshes):
    surface, ax = plane(), new_axes(projection="3d")
    assert plot_surface(surface, ax) is ax
    x, y, z, options = meshes[0]
    np.testing.assert_allclose(tilted(x, y), z, rtol=1e-12)
    assert (x[0, 0], x[-1, 0], y[0, 0], y[0, -1]) == (-1, 1, -0.5, 2)
    assert (options["rcount"], options["ccount"]) == surface.shape
    assert ax.collections[0].get_clim() == (surface.loss.min(), surface.loss.max())
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-0.5, 2)
    assert ax.get_zlabel() == "loss (cross-entropy)"


def test_surface_star_sits_on_the_loss_of_the_trained_model():
    ax = new_axes(projection="3d")
    plot_surface(plane(betas=(-1, 2, 7)), ax)  # 0 is a grid point of both axes
    x, y, z = star(ax).get_data_3d()
    assert (x[0], y[0]) == (0, 0)
    assert z[0] == pytest.approx(tilted(0, 0))


def test_surface_star_between_grid_points_sits_on_the_drawn_cell():
    surface = plane(lambda x, y: 1 + 2 * x + 3 * y + x * y, alphas=(-1, 1, 4), betas=(-0.5, 2, 4))
    ax = new_axes(projection="3d")
    plot_surface(surface, ax)
    assert star(ax).get_data_3d()[2][0] == pytest.approx(1)


def test_surface_log_scale_draws_the_logarithm_and_labels_the_loss():
    surface, ax = plane(lambda x, y: 10.0 ** (x + y)), new_axes(projection="3d")
    plot_surface(surface, ax, log_scale=True)
    assert ax.get_zlim() == pytest.approx((-1.5, 3))
    ticks = dict(zip(ax.get_zticks(), [t.get_text() for t in ax.get_zticklabels()], strict=True))
    assert ticks[0] == "1" and ticks[2] == "100"


def test_surface_leaves_gaps_and_says_so(meshes):
    ax = new_axes(projection="3d")
    plot_surface(with_gap(np.inf), ax)
    assert [text.get_text() for text in ax.texts] == ["gaps: NaN or infinite (1 of 42 points)"]
    np.testing.assert_array_equal(np.argwhere(np.isnan(meshes[0][2])), [[5, 4]])


def test_surface_without_a_finite_origin_has_no_star():
    surface = plane(betas=(-1, 2, 7))
    surface.loss[3, 2] = np.nan
    ax = new_axes(projection="3d")
    plot_surface(surface, ax)
    assert star(ax) is None


def test_surface_needs_3d_axes():
    with pytest.raises(InputError, match="projection='3d'"):
        plot_surface(plane(), new_axes())


# --- slices -----------------------------------------------------------------------------------------------


def curves(ax):
    return [artist for artist in ax.lines if artist.get_label().startswith(("along", "loss along"))]


def test_slices_run_through_the_grid_point_nearest_the_origin():
    surface, ax = plane(), new_axes()
    assert plot_slices(surface, ax) is ax
    i, j = surface.centre
    assert (i, j) == (3, 1)
    first, second = curves(ax)
    np.testing.assert_array_equal(first.get_xydata(), np.column_stack([surface.alphas, surface.loss[:, j]]))
    np.testing.assert_array_equal(second.get_xydata(), np.column_stack([surface.betas, surface.loss[i]]))
    assert first.get_label() == "along α, β = 0, |d|/|θ| = 0.98"
    assert second.get_label() == "along β, α = 0, |d|/|θ| = 0.75"
    assert ax.get_xlabel() == "α, β (filter-norm units)"


def test_slices_have_a_band_of_two_standard_errors():
    surface, ax = line(), new_axes()
    plot_slices(surface, ax)
    box = ax.collections[0].get_paths()[0].vertices
    at_one = box[np.isclose(box[:, 0], 1)][:, 1]
    assert at_one.min() == pytest.approx(1.5 - 0.2) and at_one.max() == pytest.approx(1.5 + 0.2)
    assert "± 2 standard errors" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_unknown_standard_errors_give_no_band():
    ax, surface = new_axes(), line()
    surface.standard_error[:] = np.nan
    plot_slices(surface, ax)
    assert "± 2 standard errors" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_slices_star_lies_on_the_curves_or_is_left_out():
    ax = new_axes()
    plot_slices(plane(betas=(-1, 2, 7)), ax)
    np.testing.assert_allclose(star(ax).get_xydata(), [[0, tilted(0, 0)]])
    ax = new_axes()
    plot_slices(plane(alphas=(-1, 1, 4)), ax)  # no grid point at alpha = 0
    assert star(ax) is None


def test_slices_mark_nonfinite_points_at_the_edge():
    loss = 0.5 + np.linspace(-1, 1, 9) ** 2
    loss[[1, 6]] = np.nan, np.inf
    ax = new_axes()
    plot_slices(line(loss), ax)
    crosses = next(artist for artist in ax.lines if artist.get_marker() == "x")
    np.testing.assert_allclose(crosses.get_xdata(), np.linspace(-1, 1, 9)[[1, 6]])
    assert crosses.get_transform() == ax.get_xaxis_transform()
    assert crosses.get_label() == "NaN or infinite (2 of 9 points)"
    assert np.isnan(curves(ax)[0].get_ydata()[[1, 6]]).all()


def test_slices_of_an_interpolation_name_its_ends():
    ax = new_axes()
    plot_slices(line(metadata={"slice": {"kind": "interpolation line"}, "relative_norms": [1.4]}), ax)
    assert ax.get_xlabel() == "α (0 = first model, 1 = second model)"
    assert star(ax).get_label() == "first model, loss 0.5"
    second = next(artist for artist in ax.lines if artist.get_marker() == "D")
    np.testing.assert_allclose(second.get_xydata(), [[1, 1.5]])
    assert second.get_label() == "second model, loss 1.5"


def test_slices_of_a_normalised_interpolation_do_not_claim_to_reach_the_second_model():
    recipe = {"kind": "normalised interpolation line", "normalize": "filter"}
    ax = new_axes()
    plot_slices(line(metadata={"slice": recipe, "relative_norms": [0.9]}), ax)
    assert ax.get_xlabel() == "α (filter-norm units towards the second model), |d|/|θ| = 0.9"
    assert star(ax).get_label() == "first model"
    assert all(artist.get_marker() != "D" for artist in ax.lines)


def test_slices_of_a_part_of_an_interpolation_mark_only_the_model_that_is_there():
    surface = line(metadata={"slice": {"kind": "interpolation line"}})
    ax = new_axes()
    plot_slices(replace(surface, alphas=np.linspace(0.5, 1, 9)), ax)
    assert star(ax) is None
    assert [artist.get_xdata()[0] for artist in ax.lines if artist.get_marker() == "D"] == [1]


def test_slices_log_scale():
    ax = new_axes()
    plot_slices(line(), ax, log_scale=True)
    assert ax.get_yscale() == "log"


# --- tiles ------------------------------------------------------------------------------------------------


def family(count=10):
    return [plane(lambda x, y, k=k: (k + 1) * tilted(x, y)) for k in range(count)]


def tiles(figure):
    return [ax for ax in figure.axes if star(ax) is not None]


def test_ten_tiles_stand_in_two_rows_of_five():
    titles = [f"#{k}" for k in range(10)]
    figure = plot_tiles(family(), titles=titles)
    axes = tiles(figure)
    assert [ax.get_title() for ax in axes] == titles
    places = [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes]
    assert places == [(k // 5, k % 5) for k in range(10)]
    for ax in axes:
        np.testing.assert_array_equal(star(ax).get_xydata(), [[0, 0]])
        assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-0.5, 2)


def test_global_scale_spans_all_tiles_with_one_bar():
    surfaces = family()
    figure = plot_tiles(surfaces)
    low, high = min(s.loss.min() for s in surfaces), max(s.loss.max() for s in surfaces)
    assert {contours(ax).get_clim() for ax in tiles(figure)} == {(low, high)}
    assert len(figure.axes) == 11
    assert figure.axes[-1].get_ylabel() == "loss (cross-entropy)"
    assert (figure.axes[-1].get_ylim()) == pytest.approx((low, high))


def test_quantile_scale_spans_the_2nd_to_98th_percentile_and_ends_in_arrows():
    surfaces = family()
    figure = plot_tiles(surfaces, color_scale="quantile")
    expected = np.percentile([s.loss for s in surfaces], [2, 98])
    for ax in tiles(figure):
        np.testing.assert_allclose(contours(ax).get_clim(), expected)
    assert figure.axes[-1]._colorbar.extend == "both"


def test_individual_scale_gives_each_tile_its_own_range_and_bar():
    surfaces = family(3)
    figure = plot_tiles(surfaces, color_scale="individual")
    for ax, surface in zip(tiles(figure), surfaces, strict=True):
        assert contours(ax).get_clim() == (surface.loss.min(), surface.loss.max())
        assert contours(ax).colorbar is not None
    assert "own colour scale" in figure.legends[0].get_title().get_text()


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("color_scale", ["global", "individual"])
@pytest.mark.parametrize("batch_norm", [None, "recalibrate"])
def test_title_of_the_tiles_stands_clear_above_the_legend(count, color_scale, batch_norm):
    metadata = {**METADATA, "objective": {"loss": "cross_entropy", "batch_norm": batch_norm}}
    surfaces = [plane(metadata=metadata), *family(count - 1)]
    surfaces[-1].loss[5, 4] = np.nan
    figure = plot_tiles(surfaces, color_scale=color_scale, log_scale=True)
    figure.draw_without_rendering()
    assert figure.get_suptitle().startswith("mnist train, 60,000 samples, cross-entropy")
    bottom = figure._suptitle.get_window_extent().y0
    legend = figure.legends[0]
    assert all(text.get_window_extent().y1 <= bottom for text in legend.get_texts())
    if color_scale == "individual":
        note = legend.get_title()  # the last line of it, of 8 points
        assert note.get_window_extent().y0 + 1.2 * note.get_fontsize() * figure.dpi / 72 <= bottom
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert all(ax.get_tightbbox().y1 <= box.y0 for ax in tiles(figure))


def test_thumbnails_are_the_images_with_missing_ones_left_out():
    images = [np.random.default_rng(0).random((28, 28)), None, np.random.default_rng(1).random((32, 32, 3))]
    figure = plot_tiles(family(3), images=images)
    for ax, image in zip(tiles(figure), images, strict=True):
        shown = [child.images[0] for child in ax.child_axes if child.images]
        assert len(shown) == (image is not None)
        if image is not None:
            np.testing.assert_allclose(np.asarray(shown[0].get_array()), image)


def test_tiles_hatch_nonfinite_points_and_say_so():
    figure = plot_tiles([plane(), with_gap(), plane(lambda x, y: x * np.nan)])
    assert [len(hatched(ax)) for ax in tiles(figure)] == [0, 1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["model", "NaN or infinite"]


def test_tiles_log_scale_and_one_flat_tile_between_two_levels():
    surfaces = [*family(2), plane(lambda x, y: 0 * x + 0.777)]
    figure = plot_tiles(surfaces, log_scale=True)
    assert all(isinstance(contours(ax).norm, LogNorm) for ax in tiles(figure))


def test_an_unfinished_last_row_keeps_its_tick_labels():
    figure = plot_tiles(family(3), columns=2)
    figure.draw_without_rendering()
    shown = [any(t.get_text() and t.get_visible() for t in ax.get_xticklabels()) for ax in tiles(figure)]
    assert shown == [False, True, True]


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "no surfaces"),
        (2, {"titles": ["a"]}, "2 surfaces but 1 titles"),
        (2, {"images": []}, "2 surfaces but 0 images"),
        (2, {"color_scale": "rainbow"}, "unknown colour scale 'rainbow'"),
        (2, {"columns": 0}, "columns must be a whole number of at least 1, not 0"),
    ],
)
def test_tiles_refuse_what_they_cannot_draw(count, options, message):
    with pytest.raises(InputError, match=message):
        plot_tiles(family(count), **options)


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_are_whole_and_the_same_twice(tmp_path, suffix, magic):
    path = save_figure(plot_contour(with_gap(), new_axes()), tmp_path / f"figure.{suffix}", dpi=50)
    first = path.read_bytes()
    assert first.startswith(magic)
    save_figure(plot_contour(with_gap(), new_axes()).figure, path, dpi=50)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_axes_in_a_subfigure_saves_its_whole_figure(tmp_path):
    ax = Figure(layout="constrained").subfigures(1, 2)[1].add_subplot()
    assert save_figure(plot_contour(plane(), ax), tmp_path / "a.png").is_file()


def test_unknown_formats_and_missing_folders_are_refused(tmp_path):
    ax = plot_slices(line(), new_axes())
    with pytest.raises(InputError, match=r"no figure format '\.txt'"):
        save_figure(ax, tmp_path / "a.txt")
    for wrong in (0, -5, np.nan, "x"):
        with pytest.raises(InputError, match="dpi is"):
            save_figure(ax, tmp_path / "a.png", dpi=wrong)
    for drawn, path in ((None, tmp_path / "a.png"), (ax, 5)):
        with pytest.raises(InputError, match="save_figure"):
            save_figure(drawn, path)
    with pytest.raises(InputError, match="cannot write"):
        save_figure(ax, tmp_path / "missing" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    ax = plot_slices(line(), new_axes())

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ax.figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_figure(ax, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
