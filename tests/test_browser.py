"""The pages in a real browser: drawn, linked, right to the digit, usable by keyboard, silent and offline."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from browser_tabs import Tab, assert_drawn
from matplotlib.image import imread
from surfaces import METADATA, plane
from test_explorer import HOSTILE, path_of

from landscape.explorer import explore
from landscape.explorer.pages import page_script

pytestmark = pytest.mark.browser
TURN = 0.05  # of the camera along x, which a drag of 80 pixels exceeds several times
START = {"shown": 0, "beside": -1, "quantity": "loss", "linear": True, "shared": True, "follow": True}


def bowl(k):
    """Surface ``k`` of three, with an accuracy that is zero somewhere; the last one has a NaN and an infinity."""
    surface = plane(
        lambda x, y: 0.3 + 0.2 * k + (1 + k) * (x**2 + 0.5 * y**2 + 0.4 * x * y), (-1, 1, 21), (-0.5, 2, 16)
    )
    surface = replace(surface, standard_error=0.02 * surface.loss)
    if k == 2:
        surface.loss[4, 10], surface.loss[15, 12] = np.nan, np.inf
    return surface


SURFACES = [bowl(k) for k in range(3)]
NAMES = ["epoch 0", HOSTILE, "epoch 2"]
FIRST = SURFACES[0]


@pytest.fixture(scope="module")
def explorer_tab(browser, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "explorer.html"
    pictures = [np.eye(8), np.eye(8)[::-1], None]
    return Tab(browser, explore(SURFACES, file, names=NAMES, pictures=pictures))


@pytest.fixture(scope="module")
def path_tab(browser, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "loss_landscape.html"
    recipe = {"kind": "pca plane", "explained_variance": [0.61, 0.22, 0.17]}
    surface = replace(FIRST, metadata={**METADATA, "slice": recipe})
    return Tab(browser, explore(surface, file, trajectories=path_of("run <1>", {"unit": "epoch"}), view="path"))


@pytest.fixture
def tab(explorer_tab):
    explorer_tab.page.mouse.move(1, 1)
    explorer_tab.page.click("#reset")
    explorer_tab.set(**START)
    return explorer_tab


def move_to(tab, surface, i, j):
    """Move the pointer to a grid point in the contours."""
    code = """([x, y]) => {
        const figure = document.querySelector(".contours");
        figure.scrollIntoView({block: "center"});
        const {xaxis, yaxis} = figure._fullLayout, box = figure.getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }"""
    x, y = tab.page.evaluate(code, [surface.alphas[i], surface.betas[j]])
    tab.page.mouse.move(x + 30, y)
    tab.page.mouse.move(x, y, steps=3)


def hover_over(tab, surface, i, j):
    """Move the pointer to a grid point, and wait until the contours say its value."""
    move_to(tab, surface, i, j)
    code = "text => document.querySelector('.contours .hovertext')?.textContent.includes(text)"
    tab.page.wait_for_function(code, arg=f"loss {surface.loss[i, j]:.6g}")
    tab.settle()


def test_surface_and_contours_are_drawn_in_light_and_dark(tab):
    assert_drawn(tab, ".surface")
    assert_drawn(tab, ".contours")
    tab.keep("light")
    tab.page.emulate_media(color_scheme="dark")
    tab.settle()
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = imread(BytesIO(tab.page.screenshot()), format="png")[0, 0, :3]
    assert dark.max() < 0.2
    tab.keep("dark")
    tab.page.click("#theme")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "light"
    tab.page.emulate_media(color_scheme="light")


def test_level_lines_lie_below_where_the_loss_has_their_level(tab):
    code = "() => document.querySelector('.surface').data.filter(trace => trace.type === 'scatter3d')[1]"
    lines = tab.page.evaluate(code)
    level = np.array(lines["line"]["color"])
    x, y, z = (np.array(lines[axis], dtype=float) for axis in "xyz")
    exact = 0.3 + x**2 + 0.5 * y**2 + 0.4 * x * y
    assert np.isfinite(x).sum() > 150 and np.nanmax(z) < FIRST.loss.min()
    # Linear interpolation over a step h errs by at most h^2 / 8 times the second derivative, here 2 and 1.
    assert np.nanmax(np.abs(exact - level)) <= max(0.1**2 / 8 * 2, (2.5 / 15) ** 2 / 8) + 1e-9


def test_the_slider_the_keys_and_the_pictures_change_the_data(tab):
    np.testing.assert_array_equal(tab.heights(), FIRST.loss)
    np.testing.assert_array_equal(tab.heights(".contours", "contour"), FIRST.loss)
    tab.page.focus("#shown")
    tab.page.keyboard.press("ArrowRight")
    tab.settle()
    np.testing.assert_array_equal(tab.heights(), SURFACES[1].loss)
    np.testing.assert_array_equal(tab.heights(".contours", "contour"), SURFACES[1].loss)
    assert HOSTILE in tab.page.inner_text("h2") and tab.page.inner_text("#shown-name").endswith("(2 of 3)")
    tab.page.keyboard.press("]")
    tab.settle()
    np.testing.assert_array_equal(tab.heights(), np.where(np.isfinite(SURFACES[2].loss), SURFACES[2].loss, np.nan))
    tab.page.keyboard.press("[")
    tab.page.keyboard.press("[")
    tab.settle()
    np.testing.assert_array_equal(tab.heights(), FIRST.loss)
    tab.page.locator("#pictures button").nth(1).click()
    tab.settle()
    np.testing.assert_array_equal(tab.heights(), SURFACES[1].loss)


def test_hovering_over_the_contours_says_the_value_and_moves_every_cursor(tab):
    i, j = 16, 11
    move_to(tab, FIRST, i, j)
    tab.wait_for(f"loss {FIRST.loss[i, j]:.6g}")
    label = tab.page.locator(".contours .hovertext").text_content().replace("−", "-")
    assert float(re.match(r"loss ([\d.]+)", label)[1]) == float(f"{FIRST.loss[i, j]:.6g}")
    assert f"accuracy {100 * FIRST.accuracy[i, j]:.4g} %" in tab.readout()
    assert f"α = {FIRST.alphas[i]:.4g}, β = {FIRST.betas[j]:.4g}" in tab.readout()
    lines = tab.trace(".surface", "scatter3d")
    assert lines["x"][-1] == FIRST.alphas[i] and lines["y"][0] == FIRST.betas[j]
    np.testing.assert_array_equal(tab.trace("#slice-0", "scatter")["y"], FIRST.loss[:, j])
    np.testing.assert_array_equal(tab.trace("#slice-1", "scatter")["y"], FIRST.loss[i])
    band = tab.page.evaluate("document.querySelector('#slice-1').data.find(trace => trace.fill)")
    np.testing.assert_allclose(band["y"][:16], FIRST.loss[i] + 2 * FIRST.standard_error[i])
    np.testing.assert_allclose(band["y"][31:15:-1], FIRST.loss[i] - 2 * FIRST.standard_error[i])


def test_hovering_over_the_surface_moves_the_cursor_to_its_value(tab):
    tab.move_cursor(10, 12)
    tab.set(follow=True)
    box = tab.page.locator(".surface").bounding_box()
    tab.page.evaluate(
        "document.querySelector('.surface').on('plotly_hover', ({points: [p]}) => { seen = [p.x, p.y, p.z]; })"
    )
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 10, steps=3)
    # Hovering goes on after the first event; wait until the cursor stands where the last one was.
    lines = "document.querySelector('.surface').data.find(trace => trace.type === 'scatter3d')"
    stands = "[cursor.x.at(-1), cursor.y[0]].every((at, k) => Math.abs(at - seen[k]) < 1e-6)"
    tab.page.wait_for_function(f"() => {{ const cursor = {lines}; return window.seen && {stands}; }}")
    tab.settle()
    x, y, z = tab.page.evaluate("seen")
    i, j = np.abs(FIRST.alphas - x).argmin(), np.abs(FIRST.betas - y).argmin()
    assert abs(z - FIRST.loss[i, j]) < 1e-6
    tab.wait_for(f"loss {FIRST.loss[i, j]:.6g} ± ")
    assert f"at α = {FIRST.alphas[i]:.4g}, β = {FIRST.betas[j]:.4g}" in tab.readout()


def test_arrow_keys_move_the_cursor_and_stop_at_the_edge(tab):
    tab.move_cursor(2, 1)
    assert f"loss {FIRST.loss[12, 4]:.6g}" in tab.readout()
    assert not tab.page.is_checked("#follow")
    tab.move_cursor(0, -6)
    assert f"loss {FIRST.loss[12, 0]:.6g}" in tab.readout()


def test_a_click_holds_the_cursor(tab):
    move_to(tab, FIRST, 4, 3)
    tab.wait_for(f"loss {FIRST.loss[4, 3]:.6g}")
    tab.page.mouse.down()
    tab.page.mouse.up()
    tab.settle()
    hover_over(tab, FIRST, 15, 12)
    assert f"loss {FIRST.loss[4, 3]:.6g}" in tab.readout()


def test_a_click_during_which_the_contours_are_redrawn_holds_the_cursor(tab):
    move_to(tab, FIRST, 4, 3)
    tab.wait_for(f"loss {FIRST.loss[4, 3]:.6g}")
    tab.page.mouse.down()
    tab.page.evaluate("""async () => {
        await Plotly.relayout(document.querySelector(".contours"), { shapes: [] });
        document.dispatchEvent(new MouseEvent("mouseup", { bubbles: true }));
    }""")
    tab.page.mouse.up()
    hover_over(tab, FIRST, 15, 12)
    assert f"loss {FIRST.loss[4, 3]:.6g}" in tab.readout()


def test_a_log_scale_is_drawn_where_it_exists_and_refused_elsewhere(tab):
    tab.page.check("#log")
    tab.settle()
    np.testing.assert_allclose(tab.heights(), np.log10(FIRST.loss), rtol=1e-12)
    assert (FIRST.accuracy == 0).any()
    tab.page.select_option("#quantity", "accuracy")
    tab.settle()
    assert tab.page.is_disabled("#log") and tab.page.is_checked("#linear")
    np.testing.assert_array_equal(tab.heights(), FIRST.accuracy)
    tab.page.select_option("#quantity", "standard_error")
    tab.settle()
    assert tab.page.is_enabled("#log")
    np.testing.assert_allclose(tab.heights(), np.log10(FIRST.standard_error), rtol=1e-12)


def test_values_that_are_not_finite_are_gaps_with_crosses_and_named(tab):
    tab.set(shown=2)
    tab.move_cursor(4 - 10, 10 - 3)  # from the origin of the plane
    assert np.isnan(tab.heights()[[4, 15], [10, 12]]).all() and np.isnan(tab.heights()).sum() == 2
    crosses = tab.trace(".contours", "scatter")
    assert set(zip(crosses["x"], crosses["y"], strict=True)) == {
        (SURFACES[2].alphas[4], SURFACES[2].betas[10]), (SURFACES[2].alphas[15], SURFACES[2].betas[12])
    }  # fmt: skip
    assert "loss NaN" in tab.readout()
    assert "2 of 336" in tab.page.inner_text(".gaps") and "2 of 336" in tab.page.inner_text("#about .facts")


def turned(tab, tries=20):
    """The eyes [3] of the camera before, and [2, 3] of both after the mouse has turned the first surface.

    A scene that was just drawn does not listen to the mouse yet, and its camera differs from the constant by rounding.
    """
    code = "[...document.querySelectorAll('.surface')].map(figure => figure._fullLayout.scene._scene.getCamera().eye)"
    eye = tab.page.evaluate("document.querySelector('.surface').layout.scene.camera.eye")
    start = [eye[axis] for axis in "xyz"]
    for _ in range(tries):
        box = tab.page.locator(".surface").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.page.mouse.move(x, y)
        tab.page.mouse.down()
        tab.page.mouse.move(x + 80, y + 20, steps=3)
        tab.settle()
        tab.page.mouse.up()
        tab.settle()
        eyes = [[eye[axis] for axis in "xyz"] for eye in tab.page.evaluate(code)]
        if abs(eyes[0][0] - start[0]) > TURN and np.allclose(eyes[0], eyes[1], rtol=0, atol=1e-6):
            break
    return start, *eyes


def test_two_surfaces_share_camera_cursor_and_scale(tab):
    tab.page.select_option("#beside", "2")
    tab.settle()
    np.testing.assert_array_equal(tab.heights(n=0), FIRST.loss)
    assert np.isnan(tab.heights(n=1)).sum() == 2
    limits = [(trace["cmin"], trace["cmax"]) for trace in (tab.trace(".surface", "surface", n) for n in (0, 1))]
    everything = np.concatenate([surface.loss[np.isfinite(surface.loss)] for surface in SURFACES])
    assert limits == [(everything.min(), everything.max())] * 2
    before, first, second = turned(tab)
    assert abs(first[0] - before[0]) > TURN
    np.testing.assert_allclose(first, second, atol=1e-6)
    tab.page.click("#reset")  # the pointer has moved the cursor on the way
    tab.move_cursor(15 - 10, 9 - 3)
    assert [f"loss {surface.loss[15, 9]:.6g}" in tab.readout() for surface in (FIRST, SURFACES[2])] == [True] * 2
    tab.page.uncheck("#shared")
    tab.settle()
    tab.keep("side_by_side")


def test_every_control_and_figure_has_a_name(tab):
    code = """() => [...document.querySelectorAll("input, select, button, [role=img]")]
        .filter(element => element.offsetParent && !element.labels?.length)
        .filter(element => !element.getAttribute("aria-label") && !element.textContent.trim())
        .map(element => element.outerHTML)"""
    assert tab.page.evaluate(code) == []
    assert tab.page.get_attribute("#readout", "aria-live") == "polite"
    assert tab.page.get_attribute("#shown", "aria-valuetext") == "epoch 0"
    assert f"from {FIRST.loss.min():.4g}" in tab.page.get_attribute(".surface", "aria-label")


def test_a_narrow_window_has_no_overflow(tab):
    tab.resize(700, 850)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 700
    tab.keep("narrow")
    tab.resize(1200, 850)


def test_the_drawn_path_stands_at_the_recorded_losses(path_tab):
    path = path_of()
    traces = {
        trace.get("name"): trace
        for trace in path_tab.page.evaluate("document.querySelector('.surface').data")
        if trace["type"] == "scatter3d"
    }
    red = traces["path at its true loss"]
    np.testing.assert_array_equal(np.array(red["z"], dtype=float), path.loss)
    np.testing.assert_array_equal([red["x"], red["y"]], path.coordinates.T)
    assert red["line"]["color"] == "#e31a1c"
    shadow = traces["shadow on the surface"]["z"]
    np.testing.assert_array_equal(np.delete(shadow, 3), np.delete(path.shadow_loss, 3))
    # Where no loss of the shadow was computed, the surface itself: bilinear between the grid points.
    a, b = path.coordinates[3]
    around = np.abs(FIRST.alphas - a).argmin(), np.abs(FIRST.betas - b).argmin()
    assert shadow[3] == pytest.approx(FIRST.loss[around], rel=0.1)
    assert (traces["start"]["marker"]["symbol"], traces["end"]["marker"]["symbol"]) == ("diamond", "square")
    assert traces["start"]["z"] == [2.0] and traces["end"]["z"] == [1.0]
    text = red["text"][1]
    for part in (
        "run &lt;1&gt;, epoch 1",
        "loss 1.75, of its shadow 1.25",
        "α = −0.6, β = 0.8438",
        "off the plane by 0.75",
        "37.5 %",
    ):
        assert part in text
    titles = path_tab.page.evaluate(
        "Object.values(document.querySelector('.surface').layout.scene).map(a => a.title?.text)"
    )
    assert "α (principal component 1,<br>61% of the variance)<br>|d|/|θ| = 0.98" in titles
    assert_drawn(path_tab, ".surface")
    path_tab.keep("path")
    path_tab.page.focus("#step")
    path_tab.page.keyboard.press("ArrowLeft")
    path_tab.page.keyboard.press("ArrowLeft")
    path_tab.settle()
    drawn = "document.querySelector('.surface').data.find(trace => trace.meta === 'path 0').x"
    np.testing.assert_array_equal(path_tab.page.evaluate(drawn), path.coordinates[:3, 0])
    assert path_tab.page.inner_text("#step-name") == "epoch 2"


def test_only_the_library_adds_names_to_the_page(explorer_tab):
    assert explorer_tab.page.evaluate("typeof Plotly") == "object"
    names = set(re.findall(r"^(?:const|let|function) (\w+)", page_script(), re.MULTILINE))
    assert {"state", "draw", "scale", "CONFIG"} <= names
    # An element with an id is a name in every browser, such as "content".
    code = "names => names.filter(name => eval(`typeof ${name} !== 'undefined' && !(${name} instanceof Element)`))"
    assert explorer_tab.page.evaluate(code, [*names]) == []


def test_nothing_is_logged_as_an_error_and_nothing_is_requested(explorer_tab, path_tab):
    for tab in (explorer_tab, path_tab):
        assert [text for kind, text in tab.logged if kind == "error"] == []
        assert [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert tab.requests[0].startswith("file:")
