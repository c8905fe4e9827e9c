"""Several surfaces in one figure: the drawn numbers, what is shared, what is refused, and that nothing overlaps."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from surfaces import METADATA, contours, hatched, line, new_axes, plane, star, tilted, with_gap

from landscape.errors import InputError
from landscape.plotting import plot_comparison, plot_difference, plot_lines, plot_spread
from landscape.results.comparability import check_comparable, differences

pytestmark = pytest.mark.usefixtures("clean_figures")


def panels(figure):
    return [ax for ax in figure.axes if ax.get_subplotspec() and not hasattr(ax, "_colorbar")]


def bars(figure):
    """Every colour bar, beside a panel or beside all."""
    axes = [*figure.axes, *(child for ax in figure.axes for child in ax.child_axes)]
    return [ax._colorbar for ax in axes if hasattr(ax, "_colorbar")]


def mesh(ax):
    return next(artist for artist in ax.collections if isinstance(artist, QuadMesh))


def note(ax):
    texts = (text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in ax.texts)
    return next(text for text in texts if "range" in text or "finite" in text)


def cells(artist):
    """Middle of every cell -> its value, NaN where nothing is drawn."""
    corners = artist.get_coordinates()
    middles = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    return middles, np.ma.filled(artist.get_array(), np.nan).reshape(middles.shape[:2])


def with_metadata(surface, **changes):
    return replace(surface, metadata={**surface.metadata, **changes})


SHIFTED = plane(lambda x, y: tilted(x, y) - 0.25 + 0.5 * x)


# --- one scale for all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_scale", [False, True])
def test_all_panels_share_limits_levels_and_one_bar(log_scale):
    surfaces = [plane(), plane(lambda x, y: 3 * tilted(x, y)), plane(lambda x, y: 0.01 + tilted(x, y))]
    figure = plot_comparison(surfaces, levels=8, log_scale=log_scale)
    low, high = min(s.loss.min() for s in surfaces), max(s.loss.max() for s in surfaces)
    edges = (np.geomspace if log_scale else np.linspace)(low, high, 9)
    for ax in panels(figure):
        np.testing.assert_allclose(contours(ax).levels, edges)
        assert contours(ax).get_clim() == (low, high)
        assert isinstance(contours(ax).norm, LogNorm) == log_scale
    (bar,) = bars(figure)
    assert (bar.vmin, bar.vmax) == pytest.approx((low, high)) and bar.extend == "neither"
    assert bar.ax.get_ylabel() == f"loss (cross-entropy{', log scale' if log_scale else ''})"


def test_limits_of_the_caller_clip_and_the_bar_shows_it():
    figure = plot_comparison([plane(), SHIFTED], vmax=1.5)
    (bar,) = bars(figure)
    assert bar.extend == "max" and bar.vmax == 1.5
    (bar,) = bars(plot_comparison([plane(), SHIFTED] * 2, vmin=0.5, vmax=1.5, style="heatmap"))  # in two rows
    assert bar.extend == "both"


def test_every_panel_tells_its_title_centre_and_range():
    surface = plane(betas=(-1, 2, 7))  # zero is a grid point of both axes
    figure = plot_comparison([surface, plane()], titles=["one", "$two_"])
    assert [ax.get_title() for ax in panels(figure)] == ["one", "$two_"]
    low, high = surface.loss.min(), surface.loss.max()
    assert note(panels(figure)[0]) == f"centre 0.3, range {low:.3g} to {high:.3g}"
    assert note(panels(figure)[1]).startswith("centre 0.3,")
    between = plot_comparison([plane(alphas=(-1, 1, 4))])
    assert note(panels(between)[0]).startswith("near the centre ")
    outside = plot_comparison([plane(alphas=(0.5, 1, 4))])
    assert note(panels(outside)[0]).startswith("range ") and star(panels(outside)[0]) is None
    np.testing.assert_array_equal(star(panels(figure)[0]).get_xydata(), [[0, 0]])


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.3, 0.3 + 1e-5, "range 0.3 to 0.30001"),
        (-2, 2e-9, "range −2 to 2e−09"),
        (12345.678, 12345.978, "range 12345.68 to 12345.98"),
        (0.5, 0.5, "range 0.5 to 0.5"),
        (0, 0, "range 0 to 0"),
        (0.0123456, 98.7654, "range 0.0123 to 98.8"),
    ],
)
def test_the_range_has_digits_enough_to_tell_its_ends_apart(low, high, text):
    surface = plane(lambda x, y: low + (high - low) * (x + 1) / 2 + 0 * y)
    assert note(panels(plot_comparison([surface]))[0]).endswith(text)


def test_numbers_that_are_not_finite_are_said():
    surface = plane(betas=(-1, 2, 7))
    surface.loss[3, 2] = np.inf
    assert note(panels(plot_comparison([surface]))[0]).startswith("centre not finite, range ")
    nothing = plane(lambda x, y: x * np.nan)
    figure = plot_comparison([plane(), nothing])
    assert note(panels(figure)[1]).endswith("no finite value") and len(hatched(panels(figure)[1])) == 1
    assert bars(plot_comparison([nothing, nothing])) == []


def test_lengths_stand_at_the_axes_where_shared_and_in_the_panels_where_not():
    figure = plot_comparison([plane(), plane()])
    assert figure.get_supxlabel() == "α (filter-norm units), |d|/|θ| = 0.98"
    assert "|d|" not in note(panels(figure)[0])
    figure = plot_comparison([plane(), with_metadata(plane(), relative_norms=[0.5, 0.6])])
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("α (filter-norm units)", "β (filter-norm units)")
    assert [note(ax).splitlines()[1] for ax in panels(figure)] == ["|d|/|θ| = 0.98, 0.75", "|d|/|θ| = 0.5, 0.6"]
    figure = plot_comparison([plane(), with_metadata(plane(), slice={"normalize": None})])
    assert [ax.get_xlabel() for ax in panels(figure)] == ["α (filter-norm units)", "α (direction not normalised)"]


def test_panels_of_another_kind_are_drawn_with_a_caution():
    other = with_metadata(plane(), data={"name": "digits", "split": "train"}, objective={"loss": "mse"})
    figure = plot_comparison([plane(), other])
    assert "Caution: the panels differ in data and loss" in figure.legends[0].get_title().get_text()
    assert figure.get_suptitle() == ""
    assert "Caution" not in plot_comparison([plane(), SHIFTED]).legends[0].get_title().get_text()


def test_the_head_keeps_what_all_agree_on():
    batch_norm = with_metadata(plane(), objective={"loss": "cross_entropy", "batch_norm": "running"})
    figure = plot_comparison([plane(), batch_norm])  # a network without BatchNorm goes with any policy
    assert figure.get_suptitle() == "mnist train, 60,000 samples, cross-entropy\nBatchNorm, where there is any: running"
    assert "Caution" not in figure.legends[0].get_title().get_text()


def test_accuracy_instead_of_the_loss():
    figure = plot_comparison([plane(), SHIFTED], quantity="accuracy", style="heatmap")
    np.testing.assert_array_equal(cells(mesh(panels(figure)[1]))[1], SHIFTED.accuracy.T)
    assert bars(figure)[0].ax.get_ylabel() == "accuracy"


# --- heat maps ------------------------------------------------------------------------------------------------


def test_the_cells_of_a_heat_map_are_centred_on_their_grid_points():
    surface = plane(alphas=(-1, 1, 5), betas=(-0.5, 2, 9))
    ax = panels(plot_comparison([surface], style="heatmap"))[0]
    middles, values = cells(mesh(ax))
    assert values.shape == (9, 5)
    np.testing.assert_allclose(middles[..., 0], np.broadcast_to(surface.alphas, (9, 5)))
    np.testing.assert_allclose(middles[..., 1], np.broadcast_to(surface.betas[:, None], (9, 5)))
    np.testing.assert_allclose(values, tilted(middles[..., 0], middles[..., 1]))
    assert ax.get_xlim() == (-1.25, 1.25) and ax.get_ylim() == (-0.65625, 2.15625)


def test_the_heat_map_hatches_the_cell_of_a_nonfinite_point():
    surface = with_gap(np.inf)
    ax = panels(plot_comparison([surface], style="heatmap"))[0]
    assert np.argwhere(np.isnan(cells(mesh(ax))[1])).tolist() == [[4, 5]]  # loss[5, 4], drawn in row 4
    box = hatched(ax)[0].get_path().get_extents()
    a, b = surface.alphas, surface.betas
    assert box.extents == pytest.approx(((a[4] + a[5]) / 2, (b[3] + b[4]) / 2, (a[5] + a[6]) / 2, (b[4] + b[5]) / 2))
    assert hatched(ax)[0].get_label() == "NaN or infinite (1 of 42 points)"


# --- layout ---------------------------------------------------------------------------------------------------

LONG = "resnet-14 without_shortcuts, lr=0.1_batch=128_weight_decay=0.0005 after epoch 300 of a very long run of many"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_long_titles_stay_inside_and_nothing_overlaps(count):
    surfaces = [with_metadata(with_gap(), relative_norms=[0.9 + k / 100, 0.8]) for k in range(count)]
    figure = plot_comparison(surfaces, titles=[f"{k} {LONG}" for k in range(count)], log_scale=True)
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox(for_layout_only=True) for ax in panels(figure)]
    titles = [ax.title.get_window_extent() for ax in panels(figure)]
    notes = [ax.texts[-1].get_window_extent() for ax in panels(figure)]
    assert len(boxes) == count
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in [*boxes, *titles])
    assert max(box.y1 for box in titles) <= figure.legends[0].get_window_extent().y0 + 1
    assert all(note.y1 <= title.y0 + 1 for note, title in zip(notes, titles, strict=True))
    for k, title in enumerate(titles):
        assert all(not title.overlaps(other) for other in [*titles[:k], *boxes[:k], *boxes[k + 1 :]])
    assert all(ax.get_title().count("\n") == 2 and ax.get_title().endswith("…") for ax in panels(figure))


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (7, (2, 4)), (12, (3, 4))])
def test_panels_wrap_to_rows(count, shape):
    grid = panels(plot_comparison([plane()] * count))[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape


# --- difference -----------------------------------------------------------------------------------------------


def test_the_difference_is_the_second_minus_the_first_on_a_scale_centred_at_zero():
    figure = plot_difference(plane(), SHIFTED, titles=["A", "B"], style="heatmap")
    first, second, third = panels(figure)
    np.testing.assert_array_equal(cells(mesh(first))[1], plane().loss.T)
    np.testing.assert_array_equal(cells(mesh(second))[1], SHIFTED.loss.T)
    middles, values = cells(mesh(third))
    np.testing.assert_allclose(values, 0.5 * middles[..., 0] - 0.25, atol=1e-12)
    assert mesh(first).get_clim() == mesh(second).get_clim() == (SHIFTED.loss.min(), SHIFTED.loss.max())
    assert mesh(third).get_clim() == pytest.approx((-0.75, 0.75))
    red, _, blue, _ = mesh(third).to_rgba([0.75])[0]
    assert red > blue and third.get_title() == "B minus A"
    assert [bar.ax.get_ylabel() for bar in bars(figure)] == ["loss (cross-entropy)", "loss, second − first"]
    assert note(third) == "centre −0.25, range −0.75 to 0.25"


def test_the_contours_of_the_difference_have_zero_among_their_levels():
    figure = plot_difference(plane(), SHIFTED, levels=10)
    levels = contours(panels(figure)[2]).levels
    np.testing.assert_allclose(levels, np.linspace(-0.75, 0.75, 11), atol=1e-12)


def test_on_a_log_scale_the_difference_is_the_ratio():
    figure = plot_difference(plane(), plane(lambda x, y: tilted(x, y) * 2**x), log_scale=True, style="heatmap")
    third = mesh(panels(figure)[2])
    middles, values = cells(third)
    np.testing.assert_allclose(values, 2 ** middles[..., 0])
    assert isinstance(third.norm, LogNorm) and third.get_clim() == pytest.approx((0.5, 2))
    assert panels(figure)[2].get_title() == "second divided by first"


@pytest.mark.parametrize("log_scale", [False, True])
def test_equal_planes_and_planes_without_a_finite_value_still_draw(log_scale):
    figure = plot_difference(plane(), plane(), log_scale=log_scale)
    assert contours(panels(figure)[2]).get_clim() == ((0.5, 2) if log_scale else (-1, 1))
    figure.draw_without_rendering()
    nothing = plane(lambda x, y: x * np.nan)
    plot_difference(plane(), nothing, log_scale=log_scale).draw_without_rendering()


def test_a_gap_in_either_plane_is_a_gap_of_the_difference():
    figure = plot_difference(with_gap(np.inf), plane(), style="heatmap")
    assert [len(hatched(ax)) for ax in panels(figure)] == [1, 0, 1]


# --- spread ---------------------------------------------------------------------------------------------------


def test_spread_shows_mean_and_sample_standard_deviation():
    surfaces = [plane(lambda x, y, k=k: 1 + k * x**2 + y**2) for k in (1, 2, 6)]
    first, second = panels(plot_spread(surfaces, style="heatmap"))
    middles, mean = cells(mesh(first))
    np.testing.assert_allclose(mean, 1 + 3 * middles[..., 0] ** 2 + middles[..., 1] ** 2)
    np.testing.assert_allclose(cells(mesh(second))[1], 7**0.5 * middles[..., 0] ** 2, atol=1e-12)
    assert (first.get_title(), second.get_title()) == ("mean over 3 planes", "standard deviation")
    first, second = panels(plot_spread(surfaces, style="heatmap", log_scale=True))
    np.testing.assert_allclose(cells(mesh(second))[1], 7**0.5 * middles[..., 0] ** 2 / mean, atol=1e-12)
    assert isinstance(mesh(first).norm, LogNorm) and second.get_title() == "standard deviation / mean"


# --- lines ----------------------------------------------------------------------------------------------------


def lines(count=4):
    return [line(0.5 + (k + 1) * np.linspace(-1, 1, 9) ** 2) for k in range(count)]


def labelled(ax, label):
    return next(artist for artist in [*ax.lines, *ax.collections] if artist.get_label() == label)


def test_lines_their_mean_and_their_spread():
    ax, x = new_axes(), np.linspace(-1, 1, 9)
    assert plot_lines(lines(), ax) is ax
    thin = [artist for artist in ax.lines if artist.get_linewidth() < 0.7 and len(artist.get_xdata()) == 9]
    np.testing.assert_allclose([artist.get_ydata() for artist in thin], [s.loss for s in lines()])
    np.testing.assert_allclose(labelled(ax, "mean").get_ydata(), 0.5 + 2.5 * x**2)
    band = labelled(ax, "± 1 standard deviation over lines").get_paths()[0].vertices
    at_one = band[np.isclose(band[:, 0], 1)][:, 1]
    deviation = np.sqrt(5 / 3)  # of 1, 2, 3, 4
    assert (at_one.min(), at_one.max()) == pytest.approx((3 - deviation, 3 + deviation))
    np.testing.assert_allclose(star(ax).get_xydata(), [[0, 0.5]] * 4)
    assert "4 lines" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_xlabel() == "α (filter-norm units), |d|/|θ| = 0.98"


def test_a_nonfinite_point_of_one_line_is_a_gap_of_the_mean_with_a_cross():
    surfaces, ax = lines(), new_axes()
    surfaces[1].loss[7] = np.inf
    plot_lines(surfaces, ax)
    assert np.argwhere(np.isnan(labelled(ax, "mean").get_ydata())).tolist() == [[7]]
    np.testing.assert_allclose(labelled(ax, "NaN or infinite (1 of 36 points)").get_xdata(), [0.75])


def test_lines_on_a_log_scale_keep_their_range_under_a_wide_band():
    ax = new_axes()
    plot_lines([line(np.full(9, 1e-2)), line(np.full(9, 1.0)), line(np.full(9, 10.0))], ax, log_scale=True)
    assert ax.get_yscale() == "log" and 1e-3 < ax.get_ylim()[0] < 1e-2


def test_accuracy_of_lines():
    surfaces = [replace(s, accuracy=1 - s.loss / 10) for s in lines(2)]
    ax = new_axes()
    plot_lines(surfaces, ax, quantity="accuracy")
    np.testing.assert_allclose(labelled(ax, "mean").get_ydata()[-1], 0.8)
    assert ax.get_ylabel() == "accuracy"


# --- refusals -------------------------------------------------------------------------------------------------

OTHER_UNIT = with_metadata(plane(), slice={"kind": "random plane", "normalize": "layer"})
REFUSED = {
    "no surfaces": (lambda: plot_comparison([]), "got no surfaces"),
    "titles": (lambda: plot_comparison([plane()], titles=["a", "b"]), "1 surfaces but 2 titles"),
    "line": (lambda: plot_comparison([plane(), line()]), "plot_slices"),
    "style": (lambda: plot_comparison([plane()], style="3d"), "unknown style '3d'; use one of contour, heatmap"),
    "levels": (lambda: plot_comparison([plane()], levels=1), "at least 2 levels, not 1"),
    "limits": (lambda: plot_comparison([plane()], vmin=2, vmax=1), "vmin=2 to vmax=1"),
    "grids": (lambda: plot_difference(plane(), plane(alphas=(-1, 1, 5))), r"7 points from -1 to 1 .* and 5 points"),
    "ranges": (lambda: plot_difference(plane(), plane(alphas=(-1, 2, 7))), "different grids.*same ranges"),
    "units": (lambda: plot_difference(plane(), OTHER_UNIT), "filter-norm units.*layer-wise.*one kind"),
    "one plane": (lambda: plot_spread([plane()]), "got 1 surface, needs 2"),
    "spread grids": (lambda: plot_spread([plane(), plane(betas=(0, 1, 6))]), "different grids"),
    "plane among lines": (lambda: plot_lines([line(), plane()]), "is a plane"),
    "one line": (lambda: plot_lines([line()]), "needs 2"),
    "line grids": (lambda: plot_lines([line(), replace(line(), alphas=np.linspace(0, 1, 9))]), "different grids"),
    "no accuracy": (lambda: plot_lines([line(), line()], quantity="accuracy"), "no accuracy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_before_a_figure_is_made(case):
    import matplotlib.pyplot as plt

    call, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        call()
    assert plt.get_fignums() == []


# --- what is of one kind --------------------------------------------------------------------------------------


def test_differences_are_those_of_data_loss_and_policy():
    first = {"data": {"name": "a", "split": "train", "fingerprint": "0" * 64}, "objective": {"loss": "mse"}}
    normalised = {**first, "data": {**first["data"], "fingerprint": "1" * 64}}
    policies = [{**first, "objective": {"loss": "mse", "batch_norm": p}} for p in (None, "running", "batch")]
    assert differences([first, first]) == {} == differences([METADATA, METADATA])
    assert differences([first, normalised]) == {"data": [f"a train, sha256 {digit * 12}" for digit in "01"]}
    assert differences(policies[:2]) == {}
    assert differences(policies) == {"BatchNorm policy": ["none", "running", "batch"]}
    check_comparable([first, first], ["x", "y"])
    with pytest.raises(InputError, match=r"other data \(x: a train, sha256 0{12}; y: a train, sha256 1{12}\)$"):
        check_comparable([first, normalised], ["x", "y"])
