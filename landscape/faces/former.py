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
    if name == "plot_path_html":
        thing: Callable[..., Any] = _plot_path_html
        now = "ll.explore(..., view='path')"
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
