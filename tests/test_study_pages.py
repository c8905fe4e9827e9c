"""The index of the matrix study: the same blocks as Markdown and HTML, escaped; figures inline; tables that sort."""

import re

import numpy as np
import pytest
from browser_tabs import Tab
from matplotlib.image import imsave
from test_explorer import HOSTILE

from landscape.studies.kit.blocks import Bullets, Heading, Images, Paragraph, Table, as_html, as_markdown, listed
from landscape.studies.matrix.index import index_page
from landscape.studies.matrix.links import Links
from landscape.studies.matrix.tables import Group

SIZES = [(390, 844), (1280, 720), (1600, 900)]
BLOCKS = [
    Heading("Title", 1), Paragraph("a <b> | c"), Bullets(["one", "two_"]), Table(["x", "y"], [["1", "a|b"]]),
    Images([("figure: a", "figures/a b.png"), ("figure: c", "figures/c.png")]), *listed("Left out", []), Images([]),
]  # fmt: skip


def test_blocks_become_markdown():
    assert as_markdown(BLOCKS) == (
        "# Title\n\na &#60;b&#62; &#124; c\n\n- one\n- two&#95;\n\n| x | y |\n| --- | --- |\n| 1 | a&#124;b |\n\n"
        "![figure: a](figures/a%20b.png)\n![figure: c](figures/c.png)\n"
    )


def test_blocks_become_html():
    text = re.sub(r"\n", "", as_html(BLOCKS))
    for part in (
        "<h2>Title</h2><p>a &lt;b&gt; | c</p><ul><li>one</li><li>two_</li></ul>",
        '<tr><th scope="col">x</th><th scope="col">y</th></tr>',
        "<tr><td>1</td><td>a|b</td></tr>",
        '<a href="figures/a%20b.png"><img src="figures/a%20b.png" alt="figure: a" loading="lazy"></a>',
    ):
        assert part in text
    assert "Left out" not in text and text.count("<figure>") == 2


def group(folder, name, accuracies, curvature):
    """A group of seeds with two figures each."""
    runs = []
    for seed, accuracy in enumerate(accuracies):
        place = f"{name}/seed={seed}"
        for figure in ("slices", "curvature"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            imsave(folder / place / f"{figure}.png", np.full((30, 60), float(seed)), vmin=0, vmax=2)
        keys = dict.fromkeys(("architecture", "activation", "optimizer"), name)
        summary = {"dataset": HOSTILE, **keys, "seed": seed, "place": place, "final": {"test_accuracy": accuracy}}
        runs.append((summary, {"curvature": {"largest_eigenvalue": curvature, "trace": None}}))
    return Group(name, tuple(runs), {})


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    links = Links(folder / "figures", folder)
    groups = [
        group(folder / "figures", name, accuracies, curvature)
        for name, accuracies, curvature in (("a", [0.9, 0.8], 1500.5), ("b", [0.99, 0.97], 2.5), ("c", [0.2], 30.25))
    ]
    table = Table(["name", "value"], [["x 10", "1.5"], ["x 9", "- (1 missing)"], ["x 2", "-3"], ["x 1", "2e-05"]])
    reports = {
        "summary.md": [Heading(HOSTILE, 1), Paragraph(HOSTILE), table, *listed("Left out", [HOSTILE])],
        "depth_study.md": [Heading("Depth", 1), Images([("a figure", links.to("a/seed=0", ("slices.png",))[0])])],
    }
    for name, blocks in reports.items():
        (folder / name).write_text(as_markdown(blocks))
    (folder / "index.html").write_text(index_page(groups, reports, links), "utf-8")
    return folder / "index.html"


def test_every_link_leads_to_a_file_and_no_name_leaves_its_place(index):
    text = index.read_text("utf-8")
    links = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert len(links) == 2 + 2 * (2 * 5 + 1) and all((index.parent / link).is_file() for link in links)
    assert "alert(1)</script>" not in text and text.count("</script>") == 1 and "<b title" not in text


@pytest.fixture(scope="module")
def tab(browser, index):
    return Tab(browser, index, SIZES[1])


def column(tab, table, k):
    code = "([n, k]) => [...document.querySelectorAll('.sortable')[n].tBodies[0].rows].map(r => r.cells[k].textContent)"
    return tab.page.evaluate(code, [table, k])


@pytest.mark.browser
def test_tables_are_sorted_by_click_and_by_key_and_gaps_stay_last(tab):
    buttons = tab.page.locator(".sortable >> nth=1").locator("th button")
    buttons.nth(1).click()
    assert column(tab, 1, 1) == ["-3", "2e-05", "1.5", "- (1 missing)"]
    buttons.nth(1).focus()
    tab.page.keyboard.press("Enter")
    assert column(tab, 1, 1) == ["1.5", "2e-05", "-3", "- (1 missing)"]
    heads = tab.page.evaluate("[...document.querySelectorAll('.sortable')[1].tHead.rows[0].cells].map(c => c.ariaSort)")
    assert heads == [None, "descending"]
    buttons.nth(0).click()
    assert column(tab, 1, 0) == ["x 1", "x 2", "x 9", "x 10"] and column(tab, 1, 1)[3] == "1.5"
    tab.page.locator(".sortable >> nth=0").locator("th button").nth(2).click()
    assert [text[0] for text in column(tab, 0, 2)] == ["2", "3", "1"]  # 2.5, 30.25, 1,500
    assert column(tab, 0, 1)[0].startswith("0.98")  # whole rows move


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))
def test_the_index_fits_windows_of_all_sizes_and_shows_its_figures(tab, size):
    tab.resize(*size)
    tab.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    tab.page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    tab.page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth === 60)")
    assert tab.page.evaluate("document.images.length") == 11
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    tab.keep(f"index_{size[0]}")
    assert [text for kind, text in tab.logged if kind == "error"] == []
    assert [url for url in tab.requests if not url.startswith("file:")] == []


@pytest.mark.browser
def test_reports_unfold_by_key(tab):
    part = tab.page.locator("body > details").nth(1)
    part.evaluate("part => { part.open = false; }")
    part.locator("summary").first.focus()
    tab.page.keyboard.press("Enter")
    assert part.evaluate("part => part.open") and "a figure" in part.inner_text()
