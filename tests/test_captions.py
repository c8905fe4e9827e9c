"""What figures say is so: titles, labels and marks; and no text from outside breaks them."""

import gc
import os
import subprocess
import sys
import warnings
import weakref
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from surfaces import METADATA, contours, line, new_axes, plane, star, tilted

import landscape_lib as ll
from landscape.errors import InputError
from landscape.explorer import explore
from landscape.explorer.contents import trajectory_content
from landscape.plotting.captions import quantity_label, title_of
from landscape.plotting.hidden import Star
from landscape.results import Barrier, Sharpness, Trajectory
from landscape.results.comparability import plane_differences

pytestmark = pytest.mark.usefixtures("clean_figures")


def noted(surface, **sections):
    return replace(surface, metadata={**surface.metadata, **sections})


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def path(coordinates, name="seed 1", off=0.0, unit="epoch"):
    coordinates = np.array(coordinates, dtype=float)
    count = len(coordinates)
    distance = np.full(count, off)
    relative = distance / np.hypot(distance, np.linalg.norm(coordinates, axis=1) + 1e-9)
    loss = np.linspace(2, 1, count)
    return Trajectory(np.arange(count), coordinates, distance, relative, loss, loss, {"name": name, "unit": unit})


LONG = [(-0.8, 1.5), (-0.5, 0.8), (-0.2, 0.3), (0, 0)]


# --- what is said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "name"),
    [
        ({}, "model"),
        ({"checkpoint": {"model": "cnn", "epoch": 0}}, "model at epoch 0"),
        ({"checkpoint": {"model": "cnn", "epoch": 3}}, "model at epoch 3"),
        ({"checkpoint": {"model": "cnn", "epoch": None}}, "model"),
        ({"slice": {"kind": "pca plane"}, "checkpoint": {"epoch": 3}}, "origin"),
    ],
)
def test_the_model_at_the_origin_is_called_by_its_epoch(sections, name):
    assert labels(ll.plot_contour(noted(plane(), **sections), new_axes())) == [name]


def test_the_surface_of_one_sample_says_so():
    per_sample = np.random.default_rng(0).random((7, 6, 10)).astype(np.float32)
    surface = replace(noted(plane(), data={"name": "mnist", "split": "train", "size": 10}), per_sample=per_sample)
    assert title_of(surface).startswith("mnist train, 10 samples,")
    assert title_of(surface.sample(3)).startswith("mnist train, sample 3 alone,")
    figure = ll.plot_tiles([surface.sample(k) for k in (3, 4)])
    assert figure.get_suptitle() == "mnist train, cross-entropy"


def test_the_loss_of_a_shared_bar_is_that_of_all_panels():
    other = noted(plane(), objective={"loss": "mse"})
    assert quantity_label([plane(), plane()], "loss", False) == "loss (cross-entropy)"
    assert quantity_label([plane(), other], "loss", True) == "loss (log scale)"


def test_the_error_of_interpolation_stands_beside_that_of_sampling():
    found = {"method": "cubic", "evaluated_points": 12, "error_bound": 0.01}
    surface = noted(plane(), interpolation=found)
    error = np.median(surface.standard_error / surface.loss)
    notes = ["12 of 42 points evaluated, the others within 1.0%", f"standard error of the loss {error:.1%} (median)"]
    assert title_of(surface).splitlines()[-2:] == notes
    unknown = replace(surface, standard_error=np.full((7, 6), np.nan))
    assert title_of(unknown).endswith("within 1.0%\nstandard error of the loss not known")
    tiny = replace(noted(plane(), interpolation={**found, "error_bound": 1e-5}), loss=np.zeros((7, 6)))
    assert title_of(tiny).endswith("within less than 0.1%\nstandard error of the loss not known")


@pytest.mark.parametrize(
    ("points", "off", "note"),
    [
        (3, 1e-9, "3 points always lie on one plane"),
        (3, 0.4, "off the plane by up to"),
        (4, 1e-9, "off the plane by up to less than 0.1% of the path's extent"),
        (4, 0, "off the plane by up to 0.0% of the path's extent"),
    ],
)
def test_three_points_are_not_praised_for_lying_on_their_plane(points, off, note):
    ax = ll.plot_path(plane(), path(LONG[:points], off=off), new_axes())
    assert note in ax.get_title()
    fact = trajectory_content(path(LONG[:points], off=off), [plane()])["fact"]
    assert ("off the plane" in fact) == (points > 3 or off > 0.1)


def test_paths_that_look_like_dots_are_said_to_be_small():
    short = np.array(LONG) / 50 + 0.5
    assert "dot" not in ll.plot_path(plane(), path(LONG), new_axes()).get_title()
    title = ll.plot_path(plane(), [path(LONG), path(short, "seed 2"), path(-short, "seed 3")], new_axes()).get_title()
    assert "2 of 3 paths span less than 3% of the plane and look like a dot" in title
    assert "the path spans less than 3% of the plane and looks like a dot" in (
        ll.plot_path(plane(), path(short), new_axes()).get_title()
    )


def test_planes_of_other_networks_or_directions_have_no_difference():
    network = {"checkpoint": {"model": "resnet14", "epoch": 1}, "architecture": {"parameters": 10, "shapes": "a"}}
    same, other = noted(plane(), **network), noted(plane(), checkpoint={"model": "vgg11", "epoch": 1})
    resized = noted(plane(), **{**network, "architecture": {"parameters": 12, "shapes": "b"}})
    turned = noted(plane(), slice={**METADATA["slice"], "seed": 7})
    ll.plot_difference(same, noted(plane(), **{**network, "checkpoint": {"model": "resnet14", "epoch": 2}}))
    ll.plot_difference(same, plane())  # as far as it is known
    for second, reason in (
        (other, r"network: resnet14 and vgg11"),
        (resized, r"parameters: 10 \(shapes a\) and 12 \(shapes b\)"),
        (turned, r"directions: kind random plane, seed 42, normalize filter and kind random plane, seed 7"),
    ):
        with pytest.raises(InputError, match=f"the points of the planes do not correspond to each other .*{reason}"):
            ll.plot_difference(same, second)
    identical = [{**surface.metadata, "slice": {"fingerprint": "f"}} for surface in (same, other)]
    assert plane_differences(identical) == {}


# --- the star in 3-D --------------------------------------------------------------------------------------------


def wall(x, y):
    """High along the front edge, as the camera of the figures sees it."""
    return 0.1 + 3.0 * (y < -0.6)


@pytest.mark.parametrize(("function", "hidden"), [(lambda x, y: 2 - x**2 - y**2, False), (wall, True)])
@pytest.mark.parametrize("size", [21, 140])  # below and above the size that is drawn in every cell
def test_the_star_is_hollow_behind_the_surface(function, hidden, size):
    ax = ll.plot_surface(plane(function, (-1, 1, size), (-1, 1, size)))
    ax.figure.draw_without_rendering()
    drawn = next(artist for artist in ax.lines if isinstance(artist, Star))
    assert (drawn.get_markerfacecolor() == "none") == hidden
    assert labels(ax) == ["model (behind the surface)" if hidden else "model"]
    ax.view_init(elev=ax.elev, azim=ax.azim + 180)  # whoever turns the figure sees it change
    ax.figure.draw_without_rendering()
    assert drawn.get_markerfacecolor() != "none"


def test_a_surface_with_gaps_hides_the_star_as_one_without():
    surface = plane(wall, (-1, 1, 21), (-1, 1, 21))
    surface.loss[3, 15] = np.nan
    ax = ll.plot_surface(surface)
    assert labels(ax) == ["model (behind the surface)"]


# --- values that a log scale has no place for -------------------------------------------------------------------

DRAWINGS = {
    "contour": lambda surface: ll.plot_contour(surface, log_scale=True),
    "surface": lambda surface: ll.plot_surface(surface, log_scale=True),
    "slices": lambda surface: ll.plot_slices(surface, log_scale=True),
    "comparison": lambda surface: ll.plot_comparison([plane(), surface], log_scale=True),
    "difference": lambda surface: ll.plot_difference(plane(), surface, log_scale=True),
    "spread": lambda surface: ll.cli.plot_spread([surface, surface], log_scale=True),
    "tiles": lambda surface: ll.plot_tiles([plane(), surface], log_scale=True),
    "own tiles": lambda surface: ll.plot_tiles([plane(), surface], log_scale=True, color_scale="individual"),
    "path": lambda surface: ll.plot_path(surface, path(LONG), log_scale=True),
    "line": lambda surface: ll.plot_slices(along(surface), log_scale=True),
    "lines": lambda surface: ll.plot_lines([along(surface), along(plane())], log_scale=True),
    "barriers": lambda surface: ll.plot_barriers({"way": barrier(along(surface, 0))}, log_scale=True),
}


def barrier(surface):
    with np.errstate(invalid="ignore"):  # infinite ends
        return Barrier.of(surface)


def along(surface, start=-1.0):
    """The line through the middle of a plane, from ``start`` to 1."""
    return replace(
        surface, alphas=np.linspace(start, 1, 7), betas=None, loss=surface.loss[:, 1],
        standard_error=surface.standard_error[:, 1], accuracy=None,
    )  # fmt: skip


SURFACES = {
    "one zero": lambda x, y: np.where((np.abs(x) < 1e-9) & (np.abs(y) < 1e-9), 0, tilted(x, y)),
    "negative": lambda x, y: tilted(x, y) - 0.5,
    "denormal": lambda x, y: np.where(x < 0, 5e-324, 1.0) * (y >= 0),
    "all zero": lambda x, y: 0 * x,
    "all negative": lambda x, y: -1 - x**2,
    "all NaN": lambda x, y: x * np.nan,
    "infinite": lambda x, y: np.where(x < 0, np.inf, np.where(y > 1, -np.inf, tilted(x, y))),
    "huge": lambda x, y: 1e30 * (1 + x + y**2),
}


FEW = ("contour", "surface", "difference")
MANY = ("one zero", "all negative", "infinite")


@pytest.mark.parametrize(
    ("kind", "drawing"),
    [(kind, name) for kind in SURFACES for name in DRAWINGS if kind in MANY or name in FEW],
)
def test_every_surface_has_a_figure_on_a_log_scale(kind, drawing):
    warnings.filterwarnings("ignore", "values at or below 0|no value is positive")
    made = DRAWINGS[drawing](plane(SURFACES[kind]))
    (made if isinstance(made, Figure) else made.figure).draw_without_rendering()


@pytest.mark.parametrize("draw", [ll.plot_contour, ll.plot_surface, ll.plot_slices])
def test_a_zero_stands_at_the_smallest_positive_value_and_is_said(draw):
    surface = plane(SURFACES["one zero"], (-1, 1, 21), (-1, 1, 21))
    lowest = surface.loss[surface.loss > 0].min()
    on_axes = np.concatenate([surface.loss[:, 10], surface.loss[10]])
    if draw is ll.plot_slices:
        lowest = on_axes[on_axes > 0].min()
    with pytest.warns(UserWarning, match="no place on a log scale"):
        ax = draw(surface, log_scale=True)
    note = f"points at or below 0 drawn at {lowest:.3g}"
    if draw is ll.plot_contour:
        assert contours(ax).norm.vmin == lowest
        assert contours(ax).colorbar.ax.get_ylabel() == f"loss (cross-entropy, log scale)\n1 of 441 {note}"
    elif draw is ll.plot_surface:
        assert ax.get_zlim()[0] == pytest.approx(np.log10(lowest))
        assert ax.get_zlabel().endswith(f"1 of 441 {note}")
    else:
        assert ax.get_ylabel().endswith(f"2 of 42 {note}")
        assert min(artist.get_ydata().min() for artist in ax.lines[1:3]) == lowest
        assert star(ax).get_ydata()[0] == lowest


def test_without_a_positive_value_the_scale_is_linear_and_says_so():
    with pytest.warns(UserWarning, match="the scale is linear"):
        ax = ll.plot_contour(plane(SURFACES["all negative"]), log_scale=True)
    assert ax.collections[0].colorbar.ax.get_ylabel() == ("loss (cross-entropy)\nlinear scale, as no value is positive")


def test_the_numbers_above_a_panel_are_not_those_that_were_clipped():
    with pytest.warns(UserWarning, match="no place on a log scale"):
        figure = ll.plot_comparison([plane(SURFACES["negative"])], log_scale=True)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert f"range\N{NO-BREAK SPACE}−{0.5 - plane().loss.min():.3g}" in texts


def test_histories_and_losses_of_paths_are_clipped_alike():
    with pytest.warns(UserWarning, match="no place on a log scale"):
        ax = ll.cli.plot_histories({"a": [[1, 0.1, 0]]}, log_scale=True, y_label="loss")
    assert ax.get_ylabel() == "loss\n1 of 3 points at or below 0 drawn at 0.1"
    assert ax.lines[0].get_ydata().tolist() == [1, 0.1, 0.1]
    fallen = path(LONG)
    fallen = replace(fallen, loss=np.array([2, 1.5, 1.1, 0]))
    with pytest.warns(UserWarning, match="no place on a log scale"):
        figure = ll.plot_path_losses(fallen, log_scale=True)
    assert "1 of 8 points at or below 0 drawn at 1" in figure.axes[0].get_ylabel()


# --- text from outside ------------------------------------------------------------------------------------------

TEXTS = ["$\\frac{1}{0}$ _^{ \\$5 }$", "$$", "_\ud800 nul \0\t", "two\nlines <b>&amp; #%~", ""]


def everywhere(text):
    """Figures in which ``text`` stands in every place that text from outside can reach."""
    sections = {
        "data": {"name": text, "split": text, "size": 3}, "objective": {"loss": text, "batch_norm": text},
        "checkpoint": {"model": text, "epoch": 1},
    }  # fmt: skip
    surface, way = noted(plane(), **sections), noted(line(), **sections)
    yield ll.plot_contour(surface)
    yield ll.plot_surface(surface)
    yield ll.plot_slices(surface)
    yield ll.plot_comparison([surface, plane()], titles=[text, text])
    yield ll.plot_tiles([surface, noted(surface, slice={"kind": text})], titles=[text, text])
    yield ll.plot_lines([way, way])
    run = path(LONG, text, unit=text)
    yield ll.plot_path(surface, [run, run])
    yield ll.plot_path_losses([run, run])
    yield ll.cli.plot_histories({text: [[1, 2]]}, x_label=text, y_label=text)
    yield ll.cli.plot_rows([(text, 1.0, 0.1)], x_label=text, title=text)
    yield ll.cli.plot_panels({text: lambda ax: None})
    yield ll.plot_barriers({text: Barrier.of(replace(way, alphas=np.linspace(0, 1, 9)))})
    result = Sharpness(text, 1.0, None, None, 0.1, "", "", 0.0, (), None, None, 0, layer=text)
    yield ll.plot_sharpness([result])


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_breaks_a_figure(text, tmp_path):
    warnings.filterwarnings("ignore", "Glyph")
    for made in everywhere(text):
        figure = made if isinstance(made, Figure) else made.figure
        figure.draw_without_rendering()
        plt.close(figure)
    ll.save_figure(ll.plot_contour(noted(plane(), title=text)), tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text("utf-8")


def test_dollars_are_drawn_as_they_are():
    ax = ll.plot_contour(noted(plane(), title="$x$ and $y$"), new_axes())
    shown, is_math = ax.title._preprocess_math(ax.title.get_text())
    assert shown.splitlines()[0] == "$x$ and $y$" and not is_math


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend():
    ax = ll.cli.plot_histories({"_run": [[1, 2]]})
    assert labels(ax) == [" _run"]
    assert " _run" in labels(ll.plot_path(plane(), path(LONG, "_run"), new_axes()))


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_breaks_a_page(text, tmp_path):
    surface = noted(plane(), data={"name": text}, checkpoint={"model": text, "epoch": 1})
    page = explore({text: surface}, tmp_path / "page.html", trajectories=[path(LONG, text)], title=text or None)
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


# --- figures of pyplot ------------------------------------------------------------------------------------------


def test_a_loop_without_axes_keeps_few_figures_and_all_stay_usable(tmp_path):
    made = [ll.plot_contour(plane()) for _ in range(30)]  # beyond twenty, pyplot warns
    assert len(plt.get_fignums()) == 5 and plt.gcf() is made[-1].figure
    ll.save_figure(made[0], tmp_path / "first.png", dpi=30)
    figures = [weakref.ref(ax.figure) for ax in made]
    del made
    gc.collect()
    assert sum(figure() is not None for figure in figures) == 5


def test_figures_of_the_caller_stay_open():
    mine = plt.figure()
    for _ in range(7):
        ll.plot_slices(plane())
    assert plt.fignum_exists(mine.number)


def test_where_figures_are_shown_all_are_kept(monkeypatch):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "inline")
    for _ in range(7):
        ll.plot_slices(plane())
    assert len(plt.get_fignums()) == 7


@pytest.mark.parametrize("backend", ["module://nothing.here", "nonsense", "TkAgg"])
def test_an_inherited_backend_that_is_not_here_does_no_harm(backend, tmp_path):
    code = (
        "import sys, numpy as np, landscape.plotting as p; from landscape.results import Surface;"
        "x = np.linspace(-1, 1, 5); y = np.add.outer(x, x); s = Surface(x, x, y, y, None, None, {});"
        "p.save_figure(p.plot_contour(s), sys.argv[1])"
    )
    environment = {**os.environ, "MPLBACKEND": backend, "DISPLAY": ""}
    command = [sys.executable, "-c", code, str(tmp_path / "x.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").exists()
