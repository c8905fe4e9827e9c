"""Figures as people need them: texts inside the canvas that do not overlap, in every style; and the shared looks."""

import inspect

import matplotlib.pyplot as plt
import pytest
from figures import PANELS, PICTURES, faults, style, whole

from landscape import plotting

pytestmark = pytest.mark.usefixtures("clean_figures")
ALL = {**PICTURES, **PANELS}


def ignored_clipping():
    """Values at or below 0 on a log scale are said in a warning, which the tests of scales check."""


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


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["default", "paper", "narrow", "slide"])
def test_texts_stay_inside_and_keep_apart(kind, name):
    with style(kind):
        figure = whole(ALL[name](None))
        assert faults(figure) == {}
    width, height = figure.get_size_inches()
    if kind in ("paper", "narrow"):
        assert width == 3.3
    if kind == "slide":
        assert width / height == pytest.approx(16 / 9, abs=0.001) or name == "plot_tiles"


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
