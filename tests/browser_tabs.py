"""Pages in a real browser: what the tests of pages share."""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.image import imread

ARTIFACTS = Path(__file__).parents[1] / "test-artifacts"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",  # WebGL without a GPU
]  # fmt: skip


class Tab:
    """A page, and everything that it logged or asked for."""

    def __init__(self, browser, file, size=(1200, 850), **options):
        self.page = browser.new_page(viewport=_viewport(size), color_scheme="light", **options)
        self.page.set_default_timeout(60_000)  # drawing in software takes seconds on a busy machine
        self.logged, self.requests = [], []
        self.page.on("console", lambda message: self.logged.append((message.type, message.text)))
        self.page.on("pageerror", lambda error: self.logged.append(("error", str(error))))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: self.logged.append(("error", dialog.message)) or dialog.dismiss())
        self.page.goto(file.as_uri())
        self.page.wait_for_function("[...document.querySelectorAll('.surface')].every(figure => figure.data?.length)")
        self.settle()

    def set(self, **controls):
        """Give controls other values, as their users do, whether they are in view or not."""
        code = """controls => {
            for (const [id, value] of Object.entries(controls)) {
                const control = document.getElementById(id);
                control[typeof value === "boolean" ? "checked" : "value"] = value;
                control.dispatchEvent(new Event(control.type === "range" ? "input" : "change"));
            }
        }"""
        self.page.evaluate(code, controls)
        self.settle()

    def resize(self, *size):
        """Give the window another size, and wait until all figures have taken it."""
        self.page.set_viewport_size(_viewport(size))
        code = """() => [...document.querySelectorAll(".plot")].filter(figure => figure.offsetParent).every(figure => {
            const {width, height} = figure._fullLayout;
            return Math.abs(figure.clientWidth - width) < 1.5 && Math.abs(figure.clientHeight - height) < 1.5;
        })"""
        self.page.wait_for_function(code)
        self.settle()

    def move_cursor(self, right, up):
        """Move the cursor by so many grid points with the arrow keys."""
        self.page.focus(".contours")
        for key, count in (("ArrowRight", right), ("ArrowLeft", -right), ("ArrowUp", up), ("ArrowDown", -up)):
            for _ in range(count):
                self.page.keyboard.press(key)
        self.settle()

    def settle(self):
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def trace(self, figure, kind, n=0):
        """The first trace of a kind that a figure (a selector, the n-th of it) draws."""
        code = "([figure, kind, n]) => document.querySelectorAll(figure)[n].data.find(trace => trace.type === kind)"
        return self.page.evaluate(code, [figure, kind, n])

    def heights(self, figure=".surface", kind="surface", n=0):
        return np.array(self.trace(figure, kind, n)["z"], dtype=float).T

    def readout(self):
        return self.page.inner_text("#readout").replace("−", "-")

    def wait_for(self, text):
        """Wait until the readout says ``text``: hovering is drawn with a delay."""
        code = "text => document.querySelector('#readout').textContent.includes(text)"
        self.page.wait_for_function(code, arg=text)

    def keep(self, name):
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


def _viewport(size):
    width, height = size
    return {"width": width, "height": height}


def assert_drawn(tab, selector):
    """Many saturated colours, as viridis has them, cover a good part of the figure."""
    pixels = imread(BytesIO(tab.page.locator(selector).first.screenshot()), format="png")[..., :3]
    colored = pixels[np.ptp(pixels, axis=-1) > 0.2]
    assert len(colored) > 0.05 * pixels[..., 0].size
    assert len(np.unique((colored * 16).astype(int), axis=0)) > 40
