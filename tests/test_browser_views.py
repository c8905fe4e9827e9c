"""The pages at the sizes of windows in use: in view, without overlaps, scrolling, playing, and saved as files."""

import csv
import re
from io import BytesIO, StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from browser_tabs import Tab
from matplotlib.image import imread
from surfaces import METADATA
from test_explorer import FAITHFULNESS, HOSTILE, path_of

from landscape.explorer import explore
from landscape.plotting.captions import origin_name
from landscape.results import Surface

pytestmark = pytest.mark.browser
SIZES = [(390, 844), (1280, 720), (1600, 900)]


def wells():
    """Two wells at (-0.5, 0) and (0.5, 0), which meet at (0, 0); the losses span a factor of more than 100."""
    axis = np.linspace(-1, 1, 21)
    loss = 0.01 + np.add.outer(8 * (axis**2 - 0.25) ** 2 + 0.02 * (axis + 1), 2 * axis**2)
    metadata = {**METADATA, "faithfulness": {**FAITHFULNESS, "metadata": {"data": {"name": HOSTILE}}}}
    return Surface(axis, axis, loss, 0.001 * loss, np.linspace(0, 1, 441).reshape(21, 21), None, metadata)


SURFACE = wells()
SADDLE, MINIMA = (10, 10), [(5, 10), (15, 10)]  # grid points


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return explore(SURFACE, tmp_path_factory.mktemp("page") / "explorer.html")


@pytest.fixture(scope="module")
def page(browser, file):
    return Tab(browser, file, SIZES[1])


@pytest.fixture
def tab(page):
    page.resize(*SIZES[1])
    page.page.evaluate("scrollTo(0, 0)")
    page.page.click("#reset")
    page.settle()
    return page


@pytest.fixture(scope="module")
def long_path(browser, tmp_path_factory):
    """The page of a path on a PCA plane, whose labels are long, as a phone shows it."""
    recipe = {"kind": "pca plane", "explained_variance": [0.61, 0.22, 0.17]}
    surface = Surface(*SURFACE.axes, SURFACE.loss, SURFACE.standard_error, None, None, {**METADATA, "slice": recipe})
    path = path_of("run of a long name", {"unit": "epoch"})
    file = tmp_path_factory.mktemp("path") / "path.html"
    return Tab(browser, explore(surface, file, trajectories=path, view="path"), SIZES[0])


def boxes(tab, selector):
    """The visible boxes [left, top, right, bottom] of the elements that match."""
    code = """selector => [...document.querySelectorAll(selector)].map(element => element.getBoundingClientRect())
        .filter(({width, height}) => width && height).map(box => [box.left, box.top, box.right, box.bottom])"""
    return np.array(tab.page.evaluate(code, selector)).reshape(-1, 4)


def overlaps(first, second):
    """Whether two boxes share more than a pixel in both directions."""
    return all(min(first[k + 2], second[k + 2]) - max(first[k], second[k]) > 1 for k in (0, 1))


def assert_tidy(tab):
    """Nothing is wider than the window; the texts of every flat figure are inside it, and none covers another."""
    width = tab.page.evaluate("innerWidth")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    everything = boxes(tab, "button, select, input, label, output, h1, .plot, table")
    assert len(everything) > 10 and everything[:, 0].min() >= 0 and everything[:, 2].max() <= width + 0.5
    for figure in ("#slice-0", "#slice-1", ".contours"):
        if not len(outer := boxes(tab, figure)):
            continue  # the page of a path has no flat figures
        texts = boxes(tab, f"{figure} svg text")
        assert len(texts) > 5
        assert (texts[:, :2] > outer[0, :2] - 1).all() and (texts[:, 2:] < outer[0, 2:] + 1).all()
        assert not [(a, b) for n, a in enumerate(texts) for b in texts[:n] if overlaps(a, b)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_the_page_fits_windows_of_all_sizes(tab, size):
    tab.resize(*size)
    assert_tidy(tab)
    tab.keep(f"explorer_{size[0]}")


def test_the_surface_the_contours_and_the_slices_are_in_view_together(tab):
    figures = boxes(tab, ".surface, .contours, #slice-0, #slice-1")
    assert len(figures) == 4 and figures[:, 1].min() >= 0 and figures[:, 3].max() <= SIZES[1][1]
    assert (figures[:, 3] - figures[:, 1]).min() > 200 and (figures[:, 2] - figures[:, 0]).min() > 250


def test_the_page_of_a_path_fits_a_phone(long_path):
    for size in SIZES[::-1]:
        long_path.resize(*size)
        assert_tidy(long_path)
        long_path.keep(f"path_{size[0]}")
    texts = boxes(long_path, ".surface svg .legend text, .surface svg .cbtitle text, .surface svg .colorbar text")
    outer = boxes(long_path, ".surface")[0]
    assert len(texts) > 6 and (texts[:, 0] >= outer[0]).all() and (texts[:, 2] <= outer[2]).all()
    assert not [(a, b) for n, a in enumerate(texts) for b in texts[:n] if overlaps(a, b)]


def test_contours_of_equal_axes_have_equal_units_and_others_fill_the_figure(tab, browser, tmp_path):
    code = "['x', 'y'].map(k => document.querySelector('.contours')._fullLayout[`${k}axis`]).map(a => a._length)"
    for size in SIZES:
        tab.resize(*size)
        across, up = tab.page.evaluate(code)
        assert across == pytest.approx(up, abs=0.01) and across > 180
    flat = Surface(SURFACE.alphas, SURFACE.betas / 10, SURFACE.loss, SURFACE.standard_error, None, None, METADATA)
    other = Tab(browser, explore(flat, tmp_path / "flat.html"))
    across, up = other.page.evaluate(code)
    assert across > 180 and up > 180 and abs(across - up) > 1
    other.page.close()


def test_the_scale_is_logarithmic_where_the_range_asks_for_it_or_the_call(tab, browser, tmp_path):
    assert tab.page.is_checked("#log")
    np.testing.assert_allclose(tab.heights(), np.log10(SURFACE.loss), rtol=1e-12)
    tab.page.select_option("#quantity", "accuracy")
    tab.settle()
    assert tab.page.is_checked("#linear")
    tab.page.select_option("#quantity", "loss")
    for log_scale, expected in ((False, SURFACE.loss), (True, np.log10(SURFACE.loss + 1))):
        surface = SURFACE if not log_scale else Surface(*SURFACE.axes, SURFACE.loss + 1, SURFACE.loss, None, None, {})
        other = Tab(browser, explore(surface, tmp_path / "page.html", log_scale=log_scale))
        np.testing.assert_allclose(other.heights(), expected, rtol=1e-12)
        other.page.close()


def test_the_star_and_the_basins_stand_on_the_surface(tab):
    code = "meta => document.querySelector('.surface').data.find(trace => trace.meta === meta)"
    heights, span = np.log10(SURFACE.loss), np.ptp(np.log10(SURFACE.loss))
    for meta, points in (("minimum", MINIMA), ("saddle", [SADDLE]), ("origin", [SADDLE])):
        drawn = tab.page.evaluate(code, meta)
        for n, (i, j) in enumerate(points):
            assert (drawn["x"][n], drawn["y"][n]) == pytest.approx((SURFACE.alphas[i], SURFACE.betas[j]), abs=1e-12)
            assert 0 < drawn["z"][n] - heights[i, j] < 0.06 * span
        assert len(drawn["x"]) == len(points)
    depth = SURFACE.loss[SADDLE] - SURFACE.loss[MINIMA[1]]
    second = tab.page.evaluate(code, "minimum")["text"][1]
    assert float(re.match(r"basin 2, ([\d.]+) ± [\d.e-]+ below its saddle<br>", second)[1]) == float(f"{depth:.4g}")
    flat = "document.querySelector('.contours').data.map(trace => trace.name).filter(name => name)"
    assert {"minimum (2)", "saddle (1)", origin_name(SURFACE)} <= set(tab.page.evaluate(flat))
    tab.page.uncheck("#basins")
    tab.settle()
    assert tab.page.evaluate(code, "minimum") is None and "minimum (2)" not in tab.page.evaluate(flat)
    tab.page.check("#basins")


def edge_surface():
    """Wells at (-0.75, 0) and (0.25, 0), and a loss that still falls at (1, 0); units of both axes differ."""
    axes = np.linspace(-1, 1, 41), np.linspace(-0.5, 0.5, 21)
    loss = 3 + np.add.outer(-np.cos(2 * np.pi * (axes[0] - 0.25)), axes[1] ** 2)
    return Surface(*axes, loss, 0 * loss, None, None, METADATA)


@pytest.fixture(scope="module")
def edge_tab(browser, tmp_path_factory):
    return Tab(browser, explore(edge_surface(), tmp_path_factory.mktemp("edge") / "edge.html"), SIZES[1])


def close_to(tab, alpha, beta, color):
    """Mask [29, 29] of the pixels of the contours around a point that have nearly a colour."""
    code = """([x, y]) => {
        const {xaxis, yaxis} = document.querySelector(".contours")._fullLayout;
        return [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(y)].map(Math.round);
    }"""
    x, y = tab.page.evaluate(code, [alpha, beta])
    pixels = imread(BytesIO(tab.page.locator(".contours").screenshot()), format="png")[..., :3]
    return np.abs(pixels[y - 14 : y + 15, x - 14 : x + 15] - np.array(color) / 255).max(-1) < 0.15


def test_a_lowest_point_at_the_edge_of_the_plane_is_called_so_and_drawn_whole(edge_tab):
    name = "lowest point at the edge of the plane"
    code = """([figure, meta]) => document.querySelector(figure).data.find(trace => trace.meta === meta)"""
    for figure in (".surface", ".contours"):
        edge, minimum = (edge_tab.page.evaluate(code, [figure, meta]) for meta in (name, "minimum"))
        assert (edge["x"], edge["y"]) == ([1], [0]) and edge["name"] == f"{name} (1)"
        assert minimum["x"] == pytest.approx([-0.75, 0.25]) and not any("edge" in text for text in minimum["text"])
        assert edge["text"][0].startswith(f"basin 3, 1 ± 0 below its saddle<br>{name}<br>loss 3 ± 0<br>α = 1,")
    for size in SIZES:
        edge_tab.resize(*size)
        assert_tidy(edge_tab)
        edge_tab.page.evaluate("document.querySelector('.contours').scrollIntoView({block: 'center'})")
        blue = close_to(edge_tab, 1, 0, (0, 114, 178))
        assert blue[:, 14 + 4 :].sum() > 3  # outside of the axes, which end in the middle
        edge_tab.keep(f"edge_{size[0]}")
    assert "3; 1 with the lowest point at the edge of the plane" in edge_tab.page.inner_text("#about .facts")


def test_the_star_stays_visible_under_the_cursor(edge_tab):
    edge_tab.resize(*SIZES[1])
    for theme in ("light", "dark"):
        edge_tab.page.emulate_media(color_scheme=theme)
        edge_tab.page.click("#reset")
        edge_tab.settle()
        assert "α = 0, β = 0" in edge_tab.readout()
        under = close_to(edge_tab, 0, 0, (213, 94, 0)).sum()
        edge_tab.keep(f"star_{theme}")
        edge_tab.move_cursor(5, 5)
        alone = close_to(edge_tab, 0, 0, (213, 94, 0)).sum()
        assert alone > 60 and under == pytest.approx(alone, abs=4)
    edge_tab.page.emulate_media(color_scheme="light")


def test_a_legend_of_paths_names_what_they_share_once_and_last(browser, tmp_path):
    paths = [path_of(name, {"unit": "epoch"}) for name in ("first", "second")]
    paths[1].coordinates[:, 1] *= -0.3
    ends, both = ["start", "end"], ["first, shadow", "second, shadow"]
    losses = ["shadow on the surface", "first, path at its true loss", "second, path at its true loss"]
    code = "figure => [...document.querySelectorAll(`${figure} .legendtext`)].map(text => text.dataset.unformatted)"
    for view, size in (("path", SIZES[0]), ("path", SIZES[2]), ("explorer", SIZES[1])):
        file = explore(SURFACE, tmp_path / "page.html", trajectories=paths, view=view)
        tab = Tab(browser, file, size)
        assert tab.page.evaluate(code, ".surface") == [*losses, *ends]
        data = tab.page.evaluate("document.querySelector('.surface').data")
        shadow = next(trace for trace in data if trace.get("name") == losses[0])
        assert shadow["x"] == [*paths[0].coordinates[:, 0], None, *paths[1].coordinates[:, 0]]
        assert [len(trace["x"]) for trace in data[-2:]] == [2, 2]
        vertical = tab.page.evaluate("document.querySelector('.surface').layout.scene.zaxis")
        assert vertical["title"]["text"] == "loss (log scale)"
        assert vertical["ticktext"] == ["0.03", "0.1", "0.3", "1", "3"]
        tab.keep(f"paths_{view}_{size[0]}")
        tab.set(step="2")
        assert tab.page.evaluate(code, ".surface") == [*losses, "start", "epoch 2"]
        if view == "explorer":
            assert tab.page.evaluate(code, ".contours")[-4:] == [*both, "start", "epoch 2"]
        else:
            tab.page.emulate_media(color_scheme="dark")
            tab.settle()
            tab.keep(f"paths_dark_{size[0]}")
        tab.page.close()


def test_play_advances_to_the_end_and_starts_anew_there(long_path):
    page = long_path.page
    assert page.input_value("#step") == "4"
    page.evaluate(
        "drawn = []; document.getElementById('step').addEventListener('input', e => drawn.push(e.target.value))"
    )
    page.click(".paths .play")
    assert page.inner_text(".paths .play") == "Pause"
    page.wait_for_function("drawn.length === 5")
    assert page.evaluate("drawn") == list("01234") and page.inner_text("#step-name") == "epoch 4"
    assert page.inner_text(".paths .play") == "Play"
    page.click(".paths .play")
    page.wait_for_function("drawn.length === 7")
    page.click(".paths .play")
    assert page.inner_text(".paths .play") == "Play" and page.input_value("#step") < "4"
    long_path.set(step="4")


def eye(tab):
    return np.array(tab.page.evaluate("Object.values(document.querySelector('.surface').layout.scene.camera.eye)"))


@pytest.mark.parametrize("figure", [".surface", ".contours", "#slice-0"])
def test_the_wheel_scrolls_the_page_over_every_figure(tab, figure):
    before = eye(tab)
    box = boxes(tab, figure)[0]
    tab.page.mouse.move(*(box[:2] + box[2:]) / 2)
    tab.page.mouse.wheel(0, 150)
    tab.page.wait_for_function("scrollY > 100")
    np.testing.assert_array_equal(eye(tab), before)


def test_the_wheel_with_ctrl_zooms_the_surface_and_not_the_page(tab):
    box = boxes(tab, ".surface")[0]
    code = "Math.hypot(...document.querySelector('.surface')._fullLayout.scene._scene.camera.eye)"
    before = tab.page.evaluate(code)
    tab.page.mouse.move(*(box[:2] + box[2:]) / 2)
    tab.page.keyboard.down("Control")
    for _ in range(5):
        tab.page.mouse.wheel(0, -100)
        tab.settle()
    tab.page.keyboard.up("Control")
    tab.page.wait_for_function(f"{code} < {0.97 * before}")
    assert tab.page.evaluate("scrollY") == 0 and tab.page.evaluate("visualViewport.scale") == 1


def swipe(tab, points, by):
    """Move fingers from ``points`` [F, 2] on the screen by ``by`` [2], in eight steps."""
    finger = tab.page.context.new_cdp_session(tab.page)
    for k in range(9):
        moved = [
            dict(zip(("x", "y"), point + np.array(by) * k / 8, strict=True), id=n) for n, point in enumerate(points)
        ]
        kind = "touchMove" if k else "touchStart"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": moved})
        tab.settle()
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_one_finger_scrolls_the_page_two_turn_the_surface_and_a_tap_moves_the_cursor(browser, file):
    tab = Tab(browser, file, SIZES[0], has_touch=True)
    before = eye(tab)

    def centre(figure):
        tab.page.evaluate("figure => document.querySelector(figure).scrollIntoView({block: 'center'})", figure)
        box = boxes(tab, figure)[0]
        return (box[:2] + box[2:]) / 2

    for figure in (".surface", ".contours"):
        at = centre(figure)
        start = tab.page.evaluate("scrollY")
        swipe(tab, [at], (0, -120))
        tab.page.wait_for_function(f"scrollY > {start} + 80")
        np.testing.assert_array_equal(eye(tab), before)
    at = centre(".surface")
    apart = np.array([40, 0])
    swipe(tab, [at - apart, at + apart], (90, 0))
    tab.page.wait_for_function(
        f"Math.abs(document.querySelector('.surface')._fullLayout.scene._scene.getCamera().eye.x - {before[0]}) > 0.2"
    )
    at = centre(".contours")
    code = """([x, y]) => {
        const {xaxis, yaxis} = document.querySelector(".contours")._fullLayout;
        const box = document.querySelector(".contours").getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }"""
    tab.page.touchscreen.tap(*tab.page.evaluate(code, [SURFACE.alphas[15], SURFACE.betas[6]]))
    tab.wait_for(f"loss {SURFACE.loss[15, 6]:.6g}")
    assert not tab.page.is_checked("#follow")
    tab.page.close()


def saved(tab, view, kind):
    """The file that a button writes for a view."""
    tab.page.select_option("#saved", label=view)
    with tab.page.expect_download() as download:
        tab.page.click(f"#save [data-format={kind}]")
    return download.value


@pytest.mark.parametrize("view", ["3-D surface", "contours", "slice along α", "slice along β"])
def test_every_view_is_saved_as_pictures(tab, view):
    download = saved(tab, view, "png")
    assert download.suggested_filename == f"loss_landscape_{re.sub('[- ]', '_', view).lower()}.png"
    picture = imread(download.path(), format="png")
    assert picture.shape[:2] == (1280, 1800) and (picture[..., 3] == 1).all()  # opaque
    colors = np.unique((picture[..., :3] * 16).astype(int).reshape(-1, 3), axis=0)
    assert len(colors) > (5 if "slice" in view else 40)
    svg = saved(tab, view, "svg").path().read_text("utf-8")
    texts = {"".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert any(text.startswith("Loss landscape") and text.endswith(view) for text in texts)
    tab.page.evaluate("svg => document.body.insertAdjacentHTML('beforeend', `<div id='picture'>${svg}</div>`)", svg)
    outer, drawn = boxes(tab, "#picture > svg")[0], boxes(tab, "#picture text")
    tab.page.evaluate("document.getElementById('picture').remove()")
    assert len(drawn) and (drawn[:, :2] > outer[:2] - 1).all() and (drawn[:, 2:] < outer[2:] + 1).all()


@pytest.mark.parametrize("view", ["3-D surface", "contours"])
def test_the_numbers_of_a_surface_are_those_of_its_own_file(tab, view, tmp_path):
    rows = list(csv.reader(StringIO(saved(tab, view, "csv").path().read_text("utf-8"))))
    own = list(csv.reader(SURFACE.to_csv(tmp_path / "own.csv").open()))
    order = [rows[0].index(name) for name in own[0]]
    found = np.array([[row[k] for k in order] for row in rows[1:]], dtype=float)
    np.testing.assert_array_equal(found, np.array(own[1:], dtype=float))


def test_the_numbers_of_slices_and_paths_are_saved(tab, long_path):
    tab.move_cursor(3, -2)
    for axis, name in enumerate("αβ"):
        text = saved(tab, f"slice along {name}", "csv").path().read_text("utf-8")
        rows = list(csv.DictReader(StringIO(text)))
        expected = SURFACE.loss[:, 8] if axis == 0 else SURFACE.loss[13]
        np.testing.assert_array_equal([float(row["loss"]) for row in rows], expected)
        assert {row[("beta", "alpha")[axis]] for row in rows} == {str([SURFACE.betas[8], SURFACE.alphas[13]][axis])}
    path = path_of()
    rows = list(csv.DictReader(StringIO(saved(long_path, "training paths", "csv").path().read_text("utf-8"))))
    np.testing.assert_array_equal([float(row["loss"]) for row in rows], path.loss)
    np.testing.assert_array_equal([float(row["alpha"]) for row in rows], path.coordinates[:, 0])
    assert long_path.page.is_disabled("#save [data-format=png]")


def test_names_in_saved_numbers_are_no_formulas(browser, tmp_path):
    names = ["=1+1", 'a "b", c\nd']
    tab = Tab(browser, explore([SURFACE, SURFACE], tmp_path / "page.html", names=names, title="../<b>"))
    tab.set(beside="1")
    download = saved(tab, "slice along α", "csv")
    rows = list(csv.reader(StringIO(download.path().read_text("utf-8"))))
    assert {row[0] for row in rows[1:]} == {"'=1+1", 'a "b", c, d'} and len(rows) == 1 + 2 * 21
    assert download.suggested_filename == "b_slice_along_α.csv"
    tab.keep("two_in_a_window")
    tab.page.close()


def test_the_box_of_the_plane_says_what_it_leaves_out(tab):
    text = tab.page.inner_text("#faithfulness")
    assert "A SADDLE THAT THIS PLANE HIDES" in text and "2.5" in text and HOSTILE in text


def test_nothing_is_logged_as_an_error_and_nothing_is_requested(page, long_path):
    for tab in (page, long_path):
        assert [text for kind, text in tab.logged if kind == "error"] == []
        assert [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))] == []
