"""Figures as people need them: texts inside the canvas that do not overlap, in every style; and the shared looks."""

import inspect
from dataclasses import replace

import figures
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figures import GAPS, LONG, OTHER, PANELS, PICTURES, STYLES, SURFACE, faults, recorded_texts, style, whole
from matplotlib.colors import to_hex, to_rgb
from surfaces import contours, line, plane, star

import landscape_lib as ll
from landscape import plotting
from landscape.errors import InputError
from landscape.plotting.bands import LINES
from landscape.plotting.captions import LENGTHS
from landscape.plotting.room import fits, text_width, wrapped

pytestmark = pytest.mark.usefixtures("clean_figures")
ALL = {**PICTURES, **PANELS}


def test_every_plot_function_is_among_the_figures():
    functions = {name for name in plotting.__all__ if name.startswith("plot_")}
    assert {name.partition(",")[0] for name in ALL} == functions


@pytest.mark.parametrize("name", sorted(name for name in plotting.__all__ if name.startswith("plot_")))
def test_every_plot_function_takes_a_place_and_keywords_of_one_look(name):
    function = getattr(plotting, name)
    parameters = inspect.signature(function).parameters
    assert ("ax" in parameters) != ("figure" in parameters)
    place = parameters["ax" if "ax" in parameters else "figure"]
    assert place.default is None
    if name != "plot_panels":  # whose panels have looks of their own
        assert parameters["look"].kind is inspect.Parameter.VAR_KEYWORD
        assert "look" in inspect.getdoc(function)


# --- texts ----------------------------------------------------------------------------------------------------


def check_texts(kind, name):
    """Draw a figure in a style, and check its size and its texts."""
    with style(kind):
        figure = whole(ALL[name](None))
        assert faults(figure) == {}
    if "dark" in kind:
        check_tones(figure)
    width, height = figure.get_size_inches()
    assert width == 3.3 or kind not in ("paper", "narrow")
    if "slide" in kind and name != "plot_tiles":  # of two rows
        assert width / height == pytest.approx(16 / 9, abs=0.001)


def check_tones(figure):
    """Check that texts and curves of a figure are seen on a black background."""
    outside = [figure._suptitle, *figure.findobj(matplotlib.legend.Legend)]
    for ax in figure.axes:
        outside += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert to_hex(ax.get_facecolor()) == "#000000"
    texts = [text for item in outside if item for text in ([item] if hasattr(item, "get_text") else item.get_texts())]
    assert all(luminance(text.get_color()) > 0.5 for text in texts)
    curves = [line for ax in figure.axes if not ax.collections for line in ax.lines if len(line.get_xdata()) > 3]
    assert all(luminance(line.get_color()) > 0.15 for line in curves if line.get_linestyle() not in ("None", ""))


def luminance(color):
    return np.dot(to_rgb(color), (0.299, 0.587, 0.114))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["default", "narrow", "dark slide"])
def test_texts_stay_inside_keep_apart_and_are_seen(kind, name):
    check_texts(kind, name)


@pytest.mark.parametrize("name", ["plot_contour", "plot_surface", "plot_slices", "plot_comparison", "plot_barriers"])
@pytest.mark.parametrize("kind", ["paper", "large type", "slide", "dark"])
def test_other_styles_keep_texts_apart_as_well(kind, name):
    check_texts(kind, name)


@pytest.mark.parametrize("name", PICTURES)
def test_texts_keep_apart_in_panels_of_the_caller(name):
    projection = {"projection": "3d"} if "surface" in name else {}
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.8), subplot_kw=projection)
    for ax in axes:
        assert PICTURES[name](ax) is ax
    assert faults(figure) == {}


@pytest.mark.parametrize("name", PANELS)
def test_texts_keep_apart_in_subfigures_of_the_caller(name):
    figure = plt.figure(figsize=(13, 5.5))
    for part in figure.subfigures(1, 2):
        assert PANELS[name](part) is figure
    assert faults(figure) == {}


@pytest.mark.parametrize("kind", ["narrow", "paper"])
@pytest.mark.parametrize("name", ["plot_contour", "plot_surface", "plot_slices", "plot_lines", "plot_comparison"])
def test_little_room_keeps_what_a_picture_leaves_out(kind, name):
    objective = {"loss": "cross_entropy", "batch_norm": "recalibrate", "precision": "bfloat16"}
    metadata = {
        **LONG,
        "objective": objective,
        "smoothed": 1.5,
        "interpolation": {"method": "rbf", "error_bound": 0.02},
    }
    surface = (
        line(np.linspace(1, 2, 9) ** 2, metadata=metadata)
        if name == "plot_lines"
        else replace(SURFACE, metadata=metadata)
    )
    with style(kind):
        figure = whole(getattr(ll, name)(surface if name not in ("plot_lines", "plot_comparison") else [surface] * 2))
        assert faults(figure) == {}
    title = (figure.get_suptitle() or figure.axes[0].get_title()).replace("\n", " ")
    for fact in (
        "BatchNorm: recalibrate",
        "in bfloat16",
        "smoothed (σ = 1.5)",
        "points evaluated",
        "within 2.0%",
        "error",
    ):
        assert fact in title
    assert "…" not in title and title.startswith("resnet14_fashion-mnist/epoch_009")


def test_the_check_of_texts_finds_faults():
    figure = plt.figure()
    for x, y, text in ((0.5, 0.5, "one"), (0.51, 0.51, "two"), (0.99, 0.1, "beyond the edge")):
        figure.text(x, y, text)
    assert faults(figure) == {"cut": ["beyond the edge"], "overlap": [("two", "one")]}
    tilted = plt.figure()
    tilted.text(0.2, 0.2, "a long text that rises", rotation=45)
    tilted.text(0.3, 0.2, "beside it")  # inside the box around the turned text, but not on it
    assert faults(tilted) == {}


@pytest.mark.parametrize("view", [(0, 0), (90, -90), (20, 30), (60, 200)])
def test_labels_in_three_dimensions_are_never_cut(view):
    figure = ll.plot_surface(SURFACE, view=view).figure
    with recorded_texts() as texts:
        figure.draw_without_rendering()
    assert len(texts) > 10
    assert all(box.min() >= 0 and (box.max(0) <= figure.bbox.size).all() for _, box in texts)


# --- settings of matplotlib -----------------------------------------------------------------------------------


def test_sizes_follow_the_settings_and_single_settings_win():
    sizes = {}
    for points in (10, 15):
        with plt.rc_context({"font.size": points}):
            ax = ll.plot_contour(SURFACE, plt.figure(figsize=(9, 7)).add_subplot())
        artists = [ax.title, ax.xaxis.label, ax.get_legend().get_texts()[0], contours(ax, filled=False).labelTexts[0]]
        sizes[points] = [artist.get_fontsize() for artist in artists] + [star(ax).get_markersize()]
    np.testing.assert_allclose(sizes[15], 1.5 * np.array(sizes[10]))
    with plt.rc_context({"axes.titlesize": 21, "legend.fontsize": 5, "axes.labelsize": 13, "figure.figsize": (9, 7)}):
        ax = ll.plot_contour(SURFACE)
    assert (ax.title.get_fontsize(), ax.xaxis.label.get_fontsize()) == (21, 13)
    assert ax.get_legend().get_texts()[0].get_fontsize() == 5
    assert ax.figure.get_size_inches().tolist() == [9, 7]


def test_the_layout_of_the_caller_is_kept():
    figure, ax = plt.subplots()
    figure.subplots_adjust(left=0.3)
    ll.plot_contour(SURFACE, ax)
    assert figure.get_layout_engine() is None
    figure, ax = plt.subplots(layout="tight")
    engine = figure.get_layout_engine()
    ll.plot_contour(SURFACE, ax)
    assert figure.get_layout_engine() is engine
    figure, ax = plt.subplots()
    ll.plot_contour(SURFACE, ax)
    assert figure.get_layout_engine() is not None


# --- the look -------------------------------------------------------------------------------------------------


def test_colours_levels_limits_title_and_star_of_planes():
    ax = ll.plot_contour(SURFACE, cmap="magma", levels=[0, 0.5, 1, 2], title="mine", star=False)
    filled = contours(ax)
    assert filled.get_cmap().name == "magma" and filled.levels.tolist() == [0, 0.5, 1, 2]
    assert filled.get_clim() == (0, 2) and filled.extend == "max"
    assert contours(ax, filled=False).levels.tolist() == [0.5, 1, 2]
    assert {text.get_text() for text in contours(ax, filled=False).labelTexts} <= {"0.5", "1", "2"}
    assert ax.get_title() == "mine" and star(ax) is None and ax.get_legend() is None
    assert ll.plot_contour(SURFACE, title="").get_title() == ""
    own = matplotlib.colors.ListedColormap(["black", "red"])
    assert contours(ll.plot_contour(SURFACE, cmap=own, vmin=0, vmax=9)).get_clim() == (0, 9)
    with plt.rc_context({"image.cmap": "cividis"}):
        assert contours(ll.plot_contour(SURFACE)).get_cmap().name == "cividis"


def test_the_look_reaches_panels_and_three_dimensions():
    figure = ll.plot_comparison([SURFACE, OTHER], cmap="magma", levels=[1, 5, 25], title="both", star=False)
    panels = [ax for ax in figure.axes if ax.get_subplotspec()]
    assert [contours(ax).levels.tolist() for ax in panels] == [[1, 5, 25]] * 2
    assert figure.get_suptitle() == "both" and star(panels[0]) is None
    figure = ll.plot_tiles([SURFACE, OTHER], vmin=0, vmax=3, cmap="gray")
    assert {contours(ax).get_clim() for ax in figure.axes if ax.get_subplotspec()} == {(0, 3)}
    ax = ll.plot_surface(SURFACE, cmap="magma", vmin=0.5, vmax=2, view=(10, 20), star=False, title="hill")
    assert (ax.elev, ax.azim) == (10, 20) and ax.get_zlim() == (0.5, 2) and star(ax) is None
    assert ax.collections[0].get_cmap().name == "magma" and ax.get_title() == "hill"
    ax = ll.plot_path(SURFACE, figures.path(), quantity="accuracy", star=False)
    assert contours(ax).colorbar.ax.get_ylabel() == "accuracy"
    assert not [artist for artist in ax.lines if artist.get_marker() in "Ds"]


def test_limits_and_title_of_curves():
    ax = ll.plot_slices(line(), vmin=-1, vmax=3, title="slices", star=False)
    assert ax.get_ylim() == (-1, 3) and ax.get_title() == "slices" and star(ax) is None
    assert ll.plot_spectrum(figures.pairs(), vmin=-50).get_ylim()[0] == -50
    assert ll.plot_sharpness(figures.sharpness(), vmax=7).get_xlim()[1] == 7


@pytest.mark.parametrize("draw", [ll.plot_contour, ll.plot_surface, ll.plot_slices])
def test_titles_name_the_loss_only_where_it_is_drawn(draw):
    assert "cross-entropy" in draw(SURFACE).get_title()
    assert "cross-entropy" not in draw(SURFACE, quantity="accuracy").get_title()


def test_long_numbers_keep_off_the_vertical_axis():
    ax = ll.plot_surface(replace(SURFACE, loss=0.5 + 1e-4 * SURFACE.loss))
    ax.figure.draw_without_rendering()
    line, labels = ax.zaxis.line.get_window_extent(), [label for label in ax.get_zticklabels() if label.get_visible()]
    assert len(labels) > 2 and all(len(label.get_text()) > 5 for label in labels)
    assert all(label.get_window_extent().x0 > line.x0 for label in labels)


def test_lengths_are_explained_once_and_only_where_they_stand():
    for name in ("plot_contour", "plot_surface", "plot_slices", "plot_lines", "plot_comparison", "plot_tiles"):
        figure = whole(ALL[name](None))
        with recorded_texts() as texts:
            figure.draw_without_rendering()
        shown = "\n".join(text for text, _ in texts)
        assert shown.count(LENGTHS) == 1 and shown.count("|d|/|θ| = ") >= 1, name
    with style("paper"), recorded_texts() as texts:
        whole(PICTURES["plot_contour"](None)).draw_without_rendering()
    assert "|d|" not in "\n".join(text for text, _ in texts)


def corner_bowl(x, y):
    return 0.3 + 4 * (x - 0.9) ** 2 + (y - 1.8) ** 2


@pytest.mark.parametrize(
    ("place", "shift"),
    [
        ("default", (0, 0)),
        ("default", (-0.9, -1.8)),
        ("slide", (0.9, 0.4)),
        ("narrow", (-0.9, -1.8)),
        ("panels", (0, 0)),
    ],
)
def test_the_legend_of_a_plane_never_covers_the_star(place, shift):
    surface = plane(corner_bowl, metadata=LONG)
    surface = replace(surface, alphas=surface.alphas + shift[0], betas=surface.betas + shift[1])
    with style("default" if place == "panels" else place):
        axes = plt.subplots(2, 3)[1].ravel() if place == "panels" else [None]
        drawn = [ll.plot_contour(surface, ax) for ax in axes]
    for ax in drawn:
        ax.figure.draw_without_rendering()
        origin, radius = ax.transData.transform((0, 0)), star(ax).get_markersize() / 144 * ax.figure.dpi
        legend = ax.get_legend()
        assert (legend is None) == (place == "panels")
        assert legend is None or not legend.get_window_extent().padded(radius / 2).contains(*origin)


def test_the_legend_of_a_path_covers_fewest_of_its_points():
    for turn in range(4):
        way = figures.path()
        signs = np.array([(1, 1), (-1, 1), (1, -1), (-1, -1)][turn])
        surface = plane(figures.waves, alphas=(-1, 1, 11), betas=(-2, 2, 13), metadata=LONG)
        ax = ll.plot_path(surface, replace(way, coordinates=way.coordinates * signs))
        ax.figure.draw_without_rendering()
        box = ax.get_legend().get_window_extent()
        assert not any(box.contains(*place) for place in ax.transData.transform(way.coordinates * signs))


@pytest.mark.parametrize("log_scale", [False, True])
def test_contours_beneath_paths_and_in_panels_have_round_numbers_that_nothing_covers(log_scale):
    fine = plane(figures.waves, alphas=(-1, 1, 41), betas=(-1, 2, 41), metadata=LONG)
    beneath = ll.plot_path(fine, [figures.path(), figures.path(9, "adam")], log_scale=log_scale)
    panels = ll.plot_comparison([fine, replace(fine, loss=2 * fine.loss)], log_scale=log_scale)
    for ax in (beneath, *[ax for ax in panels.axes if ax.get_subplotspec()]):
        whole(ax).draw_without_rendering()
        texts = contours(ax, filled=False).labelTexts
        assert len(texts) >= 2
        assert all(len(text.get_text().strip("0").replace(".", "")) <= 2 for text in texts)
        levels = contours(ax, filled=False).levels
        assert all(np.isclose(levels, float(text.get_text())).any() for text in texts)
        marks = [ax.transData.transform(drawn.get_xydata()) for drawn in ax.lines]
        for text in texts:
            box = text.get_window_extent()
            assert not any(box.contains(*place) for place in np.concatenate(marks))
            assert ax.get_legend() is None or not ax.get_legend().get_window_extent().overlaps(box)
    small = ll.plot_comparison([fine] * 6, figure=plt.figure(figsize=(4, 3)))
    assert not [text for ax in small.axes if ax.get_subplotspec() for text in contours(ax, filled=False).labelTexts]


@pytest.mark.parametrize(("place", "log_scale"), [("narrow", False), ("paper", True), ("panels", False)])
def test_the_legend_of_barriers_covers_no_peak(place, log_scale):
    with style("default" if place == "panels" else place):
        axes = plt.subplots(2, 2)[1].ravel() if place == "panels" else [None]
        drawn = [ll.plot_barriers(figures.barriers(), ax, log_scale=log_scale) for ax in axes]
    assert faults(drawn[0].figure) == {}
    for ax in drawn:
        legend = ax.get_legend().get_window_extent()
        for curve in ax.lines:
            places = ax.transData.transform(curve.get_xydata())
            assert not any(legend.contains(*place) for place in places)


@pytest.mark.parametrize("name", ["plot_topology, history", "plot_contour"])
def test_texts_keep_apart_in_four_panels_of_the_caller(name):
    figure, axes = plt.subplots(2, 2)
    for ax in axes.ravel():
        PICTURES[name](ax)
    assert faults(figure) == {}


def test_small_panels_of_numbers_have_three_ticks_or_more():
    rows = [("batch normalisation", 190.0, 2.0), ("none", 80.0, None)]
    figure = ll.cli.plot_panels({name: lambda ax: ll.cli.plot_rows(rows, ax) for name in "ab"}, size=(4.0, 2.8))
    assert faults(figure) == {}
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert len([tick for tick in ax.get_xticks() if low <= tick <= high]) >= 3


def of_epoch(epoch):
    return replace(SURFACE, metadata={**LONG, "checkpoint": {"model": "resnet14", "epoch": epoch}})


@pytest.mark.parametrize(("epochs", "name"), [((0, 1, 9), "model of each panel"), ((9, 9), "model at epoch 9")])
def test_one_star_stands_for_the_models_of_all_panels(epochs, name):
    figure = ll.plot_comparison([of_epoch(epoch) for epoch in epochs])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_texts_around_panels_stand_near_them(count):
    figure = ll.plot_comparison([SURFACE] * count, titles=[f"panel {k}" for k in range(count)])
    figure.draw_without_rendering()
    lowest = min(ax.get_tightbbox().y0 for ax in figure.axes if ax.get_subplotspec())
    assert 0 < lowest - figure._supxlabel.get_window_extent().y1 < 0.25 * figure.dpi


@pytest.mark.parametrize("width", [90, 130, 170, 210])
def test_no_single_word_is_left_on_the_last_line(width):
    text = "one two three four five six seven eight nine ten"
    lines = wrapped(text, width, 10, most=9).split("\n")
    assert " ".join(lines) == text and len(lines) > 1
    assert all(fits(line, width, 10) for line in lines) and " " in lines[-1]
    assert wrapped("one incomprehensibilities", 110, 10) == "one\nincomprehensibilities"


def test_shortened_lines_end_with_commas():
    text = "a network, mnist-5k train, 4,000 samples, cross-entropy"
    width = text_width("a network, mnist-5k train, 4,000 samples,", 10) + 1
    assert wrapped(text, width, 10) == "a network, mnist-5k train,\n4,000 samples, cross-entropy"


@pytest.mark.parametrize("log_scale", [False, True])
def test_labels_of_contours_are_round_and_few_where_there_is_little_room(log_scale):
    counts = []
    for size in ((9, 7), (3.3, 2.6)):
        ax = ll.plot_contour(OTHER, plt.figure(figsize=size).add_subplot(), log_scale=log_scale)
        labels = [text.get_text() for text in contours(ax, filled=False).labelTexts]
        assert labels and all(len(label.strip("0").replace(".", "")) <= 2 for label in labels)
        counts.append(len(contours(ax, filled=False).levels))
    assert counts[1] < counts[0] <= LINES


def test_shared_limits_span_all_finite_values():
    surfaces = [SURFACE, OTHER, GAPS]
    finite = [value for surface in surfaces for value in surface.loss.ravel().tolist() if np.isfinite(value)]
    assert ll.cli.shared_limits(surfaces) == {"vmin": min(finite), "vmax": max(finite)}
    shifted = plane(lambda x, y: x)
    assert ll.cli.shared_limits([shifted], log_scale=True)["vmin"] == shifted.alphas[shifted.alphas > 0].min()
    assert ll.cli.shared_limits([plane(lambda x, y: 0 * x)]) == {}


@pytest.mark.parametrize(
    ("losses", "log_scale", "shared"),
    [
        ((lambda x, y: 1 + x, lambda x, y: 1.5 + x), False, True),
        (
            (lambda x, y: 1 + x / 100, lambda x, y: 2 + x / 100),
            False,
            False,
        ),  # apart, as after a zoom
        ((lambda x, y: 3 + x, lambda x, y: 300 + 100 * x), False, False),
        ((lambda x, y: 3 + x, lambda x, y: 300 + 100 * x), True, True),
        ((lambda x, y: 1 + x / 100, lambda x, y: 9 + x / 100), True, False),
        ((lambda x, y: 0 * x + 1, lambda x, y: 1 + x), False, True),  # a constant has no shape to hide
    ],
)
def test_colours_are_shared_only_where_every_plane_keeps_its_shape(losses, log_scale, shared):
    surfaces = {name: plane(loss) for name, loss in zip(("train", "test"), losses, strict=True)}
    colored, limits = ll.cli.shared_colors(surfaces, log_scale)
    assert limits == (ll.cli.shared_limits([*surfaces.values()], log_scale=log_scale) if shared else {})
    for name, surface in colored.items():
        title = ll.plot_contour(surface, log_scale=log_scale, **limits).get_title().replace("\n", " ")
        assert ("colours of its own: one scale for train and test would hide its shape" in title) != shared
        np.testing.assert_array_equal(surface.loss, surfaces[name].loss)
    assert "colors" not in surfaces["train"].metadata


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmap": "virdis"}, "unknown colour map 'virdis'; did you mean viridis"),
        ({"cmap": "xyz"}, "unknown colour map 'xyz'; use one such as viridis"),
        ({"cmap": 3}, "cmap takes the name of a colour map or a Colormap, not int"),
        ({"levels": [1]}, r"levels is \[1\]; it must be their number, or two or more values in increasing order"),
        ({"levels": [2, 1]}, "increasing order"),
        ({"levels": "many"}, "levels is 'many'"),
        ({"vmin": "low"}, "vmin is 'low'; it must be a finite number, or None"),
        ({"vmin": 2, "vmax": 1}, "values cannot run from vmin=2 to vmax=1"),
        ({"levels": [0, 1], "log_scale": True}, "vmin=0 to vmax=1 on a log scale"),
        ({"view": (1, 2)}, "plot_contour has no option 'view'; its figures take title, cmap, levels, vmin, vmax, star"),
    ],
)
def test_looks_that_cannot_be_drawn_are_refused_before_a_figure_is_made(options, message):
    with pytest.raises(InputError, match=message) as refused:
        ll.plot_contour(SURFACE, **options)
    assert "\n" not in str(refused.value) and plt.get_fignums() == []


def test_every_figure_refuses_an_unknown_option():
    for name, draw in ALL.items():
        if not name.startswith("plot_panels"):
            with pytest.raises(TypeError, match=rf"{name.partition(',')[0]} has no option 'colour'"):
                draw(None, colour="red")
    with pytest.raises(InputError, match="view is 3; it must be two angles"):
        ll.plot_surface(SURFACE, view=3)


@pytest.mark.parametrize("kind", ["paper", "slide"])
def test_styles_are_those_of_matplotlib(kind):
    assert STYLES[kind] == f"landscape.plotting.{kind}"
    with plt.style.context(["dark_background", STYLES[kind]]):
        assert matplotlib.rcParams["axes.facecolor"] == "black"
        assert matplotlib.rcParams["font.size"] == {"paper": 8, "slide": 20}[kind]
