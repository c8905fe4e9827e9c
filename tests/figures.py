"""Every figure, drawn from small results with long names, and a way to find texts that are cut off or overlap."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from surfaces import METADATA, line, plane

import landscape_lib as ll
from landscape.results import (
    Barrier,
    BasinRadii,
    Eigenpairs,
    Sharpness,
    SharpnessHistory,
    SpectralDensity,
    Trajectory,
)

LONG = {
    **METADATA,
    "slice": {"kind": "random plane", "normalize": "filter", "seed": 42},
    "checkpoint": {"model": "resnet14", "epoch": 9},
    "checkpoint_file": "runs/resnet14_fashion-mnist/epoch_009.pth",
    "data": {"name": "fashion-mnist", "split": "train", "size": 60000},
    "objective": {"loss": "cross_entropy", "batch_norm": "recalibrate"},
}


def waves(x, y):
    return 0.3 + x**2 + 0.5 * y**2 + 0.4 * x + 0.3 * np.cos(4 * x) * np.sin(3 * y)


SURFACE = plane(waves, alphas=(-1, 1, 11), betas=(-1, 2, 13), metadata=LONG)
OTHER = plane(lambda x, y: 20 * waves(x, y) + 8, alphas=(-1, 1, 11), betas=(-1, 2, 13), metadata=LONG)
GAPS = replace(SURFACE, loss=np.where(np.add.outer(SURFACE.alphas, SURFACE.betas) > 2.5, np.inf, SURFACE.loss))
LINES = [line(0.5 + (k + 1) * np.linspace(-1, 1, 9) ** 2, metadata=LONG) for k in range(4)]
WAY = {**LONG, "slice": {"kind": "interpolation line"}}


def path(count=12, name="sgd, learning rate 0.01"):
    turn = np.linspace(0, 2, count)
    coordinates = np.column_stack([0.8 - 0.4 * turn, 1.5 * np.cos(turn)]) * np.linspace(1, 0, count)[:, None]
    off, loss = 0.3 * np.linspace(1, 0, count), np.linspace(2, 0.4, count)
    return Trajectory(
        np.arange(count), coordinates, off, off / 2, loss, loss * 0.9, {"name": name, "unit": "epoch", **LONG}
    )


def barriers():
    t = np.linspace(0, 1, 9)
    ways = {"unaligned": 1.2, "matched by their activations": 0.4, "matched by their weights": 0.3}
    return {
        name: Barrier.of(replace(line(0.3 + rise * np.sin(np.pi * t), WAY), alphas=t, accuracy=1 - t / 10))
        for name, rise in ways.items()
    }


def basin():
    t = np.linspace(-1, 1, 21)
    loss = np.array([0.2 + (k + 2) * t**2 for k in range(5)])
    metadata = {**LONG, "slice": {"kind": "random line", "normalize": "filter"}, "relative_norms": [0.9] * 5}
    return BasinRadii(t, loss, np.full_like(loss, 0.01), 1.0, 0, metadata)


def pairs():
    values = np.array([210.0, 93.0, 44.0, 20.0, -12.0])
    return Eigenpairs(
        values, np.full(5, 0.02), np.array([True] * 4 + [False]), np.zeros((5, 3)), 10, {**LONG, "operator": "hessian"}
    )


def density():
    nodes = np.sort(np.random.default_rng(0).normal(size=(3, 20)) * 50, axis=1)
    return SpectralDensity(nodes, np.full((3, 20), 0.05), 60, {**LONG, "operator": "ggn"})


def sharpness():
    layers = ("stem.convolution.weight", "layer1.0.convolution1.weight", "layer2.1.convolution2.weight", "head.weight")
    return [
        Sharpness("noise", 10.0**-k, 10.0**-k / 5, None, 0.1, "", "", 0.3, (), 8, None, 0, layer=layer, metadata=LONG)
        for k, layer in enumerate(layers)
    ]


def history():
    steps = np.arange(0, 200, 5)
    rising = 20 + steps * 0.5
    metadata = {"measures": ("critical", "batch", "preconditioned"), "optimizer": "Adam", **LONG}
    flat = np.full(len(steps), 38 / 0.02)
    return SharpnessHistory(
        steps, np.full(len(steps), 0.02), rising, rising, rising * 0.8, rising * 0.1, rising * 30, flat, metadata
    )


@cache
def topology():
    return ll.topology(SURFACE)


@cache
def basin_history():
    x = np.linspace(-2, 2, 21)
    planes = [np.add.outer(x**4 - a * x**2 + 0.1 * x, x**2) for a in (0, 1, 2, 3)]
    error = np.full((21, 21), 0.01)
    surfaces = [ll.Surface(x, x, loss, error, None, None, LONG) for loss in planes]
    return ll.follow_basins(surfaces, names=[f"epoch {epoch}" for epoch in (0, 1, 10, 100)])


# Figure -> a function that draws it into axes; what it takes beside them is the look.
PICTURES = {
    "plot_contour": lambda ax, **look: ll.plot_contour(SURFACE, ax, **look),
    "plot_contour, gaps on a log scale": lambda ax, **look: ll.plot_contour(GAPS, ax, log_scale=True, **look),
    "plot_contour, wide range": lambda ax, **look: ll.plot_contour(OTHER, ax, log_scale=True, **look),
    "plot_surface": lambda ax, **look: ll.plot_surface(SURFACE, ax, **look),
    "plot_surface, gaps on a log scale": lambda ax, **look: ll.plot_surface(GAPS, ax, log_scale=True, **look),
    "plot_slices": lambda ax, **look: ll.plot_slices(SURFACE, ax, **look),
    "plot_slices, line": lambda ax, **look: ll.plot_slices(LINES[0], ax, log_scale=True, **look),
    "plot_lines": lambda ax, **look: ll.plot_lines(LINES, ax, **look),
    "plot_path": lambda ax, **look: ll.plot_path(SURFACE, [path(), path(9, "adam")], ax, **look),
    "plot_topology, persistence": lambda ax, **look: ll.plot_topology(topology(), ax, **look),
    "plot_topology, basins": lambda ax, **look: ll.plot_topology(topology(), ax, view="basins", **look),
    "plot_topology, tree": lambda ax, **look: ll.plot_topology(topology(), ax, view="tree", **look),
    "plot_topology, history": lambda ax, **look: ll.plot_topology(basin_history(), ax, **look),
    "plot_topology, position": lambda ax, **look: ll.plot_topology(basin_history(), ax, view="position", **look),
    "plot_spectrum": lambda ax, **look: ll.plot_spectrum(pairs(), ax, **look),
    "plot_spectrum, density": lambda ax, **look: ll.plot_spectrum(density(), ax, **look),
    "plot_sharpness": lambda ax, **look: ll.plot_sharpness(sharpness(), ax, **look),
    "plot_sharpness, history": lambda ax, **look: ll.plot_sharpness(history(), ax, **look),
    "plot_barriers": lambda ax, **look: ll.plot_barriers(barriers(), ax, **look),
    "plot_basin_radii": lambda ax, **look: ll.plot_basin_radii(basin(), ax, **look),
    "plot_histories": lambda ax, **look: ll.cli.plot_histories(
        {"batch normalisation": [[2, 1, 0.5], [2, 1.2, 0.6]], "none": [[2.2, 1.5, 1]]}, ax, y_label="loss", **look
    ),
    "plot_rows": lambda ax, **look: ll.cli.plot_rows(
        [("batch normalisation", 1.0, 0.2), ("none", 3.0, None)], ax, x_label="trace of the Hessian", **look
    ),
}
# The same for figures of several panels, drawn into a figure.
PANELS = {
    "plot_tiles": lambda figure, **look: ll.plot_tiles(
        [SURFACE] * 4, figure=figure, titles=[f"{k}: sneaker\npredicted ankle boot 97%\nloss 0.312" for k in range(4)],
        **look,
    ),
    "plot_tiles, individual": lambda figure, **look: ll.plot_tiles(
        [SURFACE, OTHER, GAPS], figure=figure, color_scale="individual", **look
    ),
    "plot_comparison": lambda figure, **look: ll.plot_comparison(
        [SURFACE, OTHER, GAPS], figure=figure, titles=["with shortcuts", "without shortcuts", "gaps"], log_scale=True,
        **look,
    ),
    "plot_comparison, one": lambda figure, **look: ll.plot_comparison([SURFACE], figure=figure, **look),
    "plot_difference": lambda figure, **look: ll.plot_difference(
        SURFACE, OTHER, figure=figure, titles=["epoch 1", "epoch 9"], **look
    ),
    "plot_spread": lambda figure, **look: ll.cli.plot_spread([SURFACE, OTHER], figure=figure, **look),
    "plot_path_losses": lambda figure, **look: ll.plot_path_losses([path(), path(9, "adam")], figure=figure, **look),
    "plot_panels": lambda figure, **look: ll.cli.plot_panels(
        {"largest eigenvalues": lambda ax: ll.plot_spectrum(pairs(), ax), "lines": lambda ax: ll.plot_lines(LINES, ax)},
        figure=figure, size=(4.6, 3.6),
    ),
}  # fmt: skip

STYLES = {
    "default": {},
    "paper": "landscape.plotting.paper",
    "slide": "landscape.plotting.slide",
    "narrow": {"figure.figsize": (3.3, 2.6)},
    "large type": {"font.size": 14},
    "dark": "dark_background",
    "dark slide": ["dark_background", "landscape.plotting.slide"],
}


@contextmanager
def style(name):
    with plt.style.context(STYLES[name]):
        yield


def whole(drawn):
    return drawn if isinstance(drawn, Figure) else drawn.figure


@contextmanager
def recorded_texts():
    """The texts that are drawn inside, as (text, corners of its rotated box [4, 2]) in pixels."""
    seen, original = [], Text.draw

    def draw(self, renderer):
        original(self, renderer)
        if self.get_visible() and self.get_text().strip():
            seen.append((self.get_text().strip(), corners(self, renderer)))

    Text.draw = draw
    try:
        yield seen
    finally:
        Text.draw = original


def corners(text, renderer):
    """The corners of the box around ``text``, which its rotation turns."""
    box, angle = text.get_window_extent(renderer), np.deg2rad(text.get_rotation())
    turned = abs(np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]))
    # The box around a turned w x h is (w |cos| + h |sin|) x (w |sin| + h |cos|); at 45 degrees that does not tell w, h.
    if abs(np.linalg.det(turned)) > 0.2:
        width, height = np.linalg.solve(turned, (box.width, box.height))
    else:
        text.set_rotation(0)
        width, height = text.get_window_extent(renderer).size
        text.set_rotation(np.rad2deg(angle))
    lines = text.get_text().split("\n")
    blank = next(k for k, each in enumerate(lines) if each.strip()) / len(lines)  # which stand above a legend
    box = Bbox.from_extents(box.x0, box.y0, box.x1, box.y1 - blank * box.height)
    height -= blank * height
    half = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return half @ rotation + np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])


def overlap(first, second, slack=1.0):
    """Whether two turned boxes share more than a margin of ``slack`` pixels: no axis separates them."""
    for box in (first, second):
        for side in (box[1] - box[0], box[2] - box[1]):
            axis = side / (np.linalg.norm(side) or 1)
            a, b = first @ axis, second @ axis
            if a.max() - slack <= b.min() or b.max() - slack <= a.min():
                return False
    return True


def faults(figure):
    """What is wrong with the texts of ``figure`` as it is drawn: those beyond its edge, and pairs that overlap."""
    with recorded_texts() as texts:
        figure.draw_without_rendering()
    cut = [text for text, box in texts if box.min() < -1 or (box.max(0) > figure.bbox.size + 1).any()]
    touching = [(a, b) for k, (a, first) in enumerate(texts) for b, second in texts[:k] if overlap(first, second)]
    return {"cut": cut, "overlap": touching} if cut or touching else {}
