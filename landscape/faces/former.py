"""Names that `landscape_lib` had before 0.2: they still work, and a warning says what they are called now."""

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

__all__ = ["former_name"]

REMOVAL = "0.4"  # the version without these names
RESULTS = (
    "Alignment", "Barrier", "BasinRadii", "Connectivity", "Curve", "Eigenpairs", "Faithfulness", "Sharpness",
    "SpectralDensity", "Topology", "TraceEstimate", "Trajectory",
)  # fmt: skip
# The module that holds the present object, its name there, keywords that make it the former one, and what to write now.
FORMER: dict[str, tuple[str, str, dict[str, str], str]] = {
    **{name: ("landscape.faces.results", name, {}, f"ll.results.{name}") for name in RESULTS},
    "NormCNN": ("landscape.models", "NormCNN", {}, "landscape.models.NormCNN"),
    "Point": ("landscape.points", "Point", {}, "landscape.points.Point"),
    "inner": ("landscape.points", "inner", {}, "landscape.points.inner"),
    "normalize_direction": (
        "landscape.slices.directions", "normalize_direction", {}, "landscape.slices.directions.normalize_direction",
    ),
    "predict": ("landscape.training.predictions", "predict", {}, "landscape.training.predictions.predict"),
    "seed_everything": ("landscape.runtime.devices", "seed_everything", {}, "ll.cli.seed_everything"),
    "plot_basins": ("landscape.plotting", "plot_topology", {"view": "basins"}, "ll.plot_topology(..., view='basins')"),
    "plot_persistence": ("landscape.plotting", "plot_topology", {"view": "persistence"}, "ll.plot_topology"),
    "plot_merge_tree": ("landscape.plotting", "plot_topology", {"view": "tree"}, "ll.plot_topology(..., view='tree')"),
    "plot_eigenvalues": ("landscape.plotting", "plot_spectrum", {}, "ll.plot_spectrum"),
    "plot_density": ("landscape.plotting", "plot_spectrum", {}, "ll.plot_spectrum"),
}  # fmt: skip


def former_name(name: str) -> Any:
    """What `landscape_lib` had under ``name`` before 0.2, with a FutureWarning that names what replaces it.

    Raises:
        AttributeError: `landscape_lib` never had this name.
    """
    thing: Callable[..., Any]
    if name in ADAPTED:
        thing, now = ADAPTED[name]
    elif name in FORMER:
        module, attribute, keywords, now = FORMER[name]
        thing = getattr(import_module(module), attribute)
        thing = partial(thing, **keywords) if keywords else thing
    else:
        raise AttributeError(f"module 'landscape_lib' has no attribute {name!r}")
    message = f"ll.{name} is now {now}; the former name goes in {REMOVAL}"
    warnings.warn(message, FutureWarning, stacklevel=2)
    return thing


def _plot_path_html(surface: Any, trajectories: Any, path: Any = "loss_landscape.html") -> Any:
    """Call `landscape.explorer.explore` with the view "path"; the order of the arguments is the former one."""
    from landscape.explorer import explore

    return explore(surface, path, trajectories=trajectories, view="path")


def _animate_path(surface: Any, trajectories: Any, path: Any, *, fps: float = 10, **options: Any) -> Any:
    """Call `landscape.plotting.animate` for paths that grow on a plane; there is one frame for each point."""
    from landscape.plotting import animate

    longest = max(len(each.steps) for each in ([trajectories] if hasattr(trajectories, "steps") else trajectories))
    return animate(surface, path, trajectories=trajectories, seconds=longest / fps, pause=0, **options)


def _animate_surfaces(surfaces: Any, path: Any, *, titles: Any, fps: float = 2, **options: Any) -> Any:
    """Call `landscape.plotting.animate` for planes one after the other."""
    from landscape.plotting import animate

    return animate(surfaces, path, names=titles, view="contour", seconds=len(surfaces) / fps, pause=0, **options)


# Functions whose arguments have another order or other names now, and what to write.
ADAPTED: dict[str, tuple[Callable[..., Any], str]] = {
    "plot_path_html": (_plot_path_html, "ll.explore(..., view='path')"),
    "animate_path": (_animate_path, "ll.animate(surface, path, trajectories=...)"),
    "animate_surfaces": (_animate_surfaces, "ll.animate(surfaces, path, names=...)"),
}
