"""The tools: one adapter a module, imported only where its questions are asked."""

import importlib
import importlib.metadata
from dataclasses import dataclass

from benchmarks.correctness_suite.protocol import Tool

__all__ = ["TOOLS", "Entry"]

HERE = "benchmarks.correctness_suite.tools."


@dataclass(frozen=True)
class Entry:
    """Where a tool's adapter is, and how it is used there."""

    name: str
    adapter: str  # module whose class `Adapter` is the tool
    use: str
    package: str | None = None  # distribution that it comes from
    module: str | None = None  # what to import to see whether that works

    def load(self) -> Tool:
        tool: Tool = importlib.import_module(self.adapter).Adapter()
        return tool

    @property
    def version(self) -> str | None:
        if self.package is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


TOOLS = (
    Entry(
        "this toolkit",
        HERE + "toolkit",
        "`evaluate`, `random_plane`, `interpolation_line`, `hessian_product` and what is measured from it",
    ),
    Entry(
        "2018 tool",
        HERE + "functions_of_2018",
        "its functions written anew as it defines them: filter normalisation, biases and BatchNorm ignored, as in its "
        "README; cross-entropy averaged over samples",
    ),
    Entry(
        "loss-landscapes",
        HERE + "loss_landscapes",
        "`random_plane`, `planar_interpolation`, `linear_interpolation` and `Loss`, with `deepcopy_model=True`; all "
        "samples as one batch; its releases 4.x were not at hand",
        "loss-landscapes",
        "loss_landscapes.metrics",
    ),
    Entry(
        "landscaper",
        HERE + "landscaper",
        "`LossLandscape.compute` with the caller's loss function, and its `PyHessian`",
        "landscaper",
        "landscaper",
    ),
    Entry(
        "loss-landscape-3d",
        HERE + "loss_landscape_3d",
        "`LossLandscapeCalculator`, `generate_random_directions` and `compute_hvp`",
        "loss-landscape-3d",
        "loss_landscape_3d",
    ),
    Entry(
        "losscape",
        HERE + "losscape",
        "`create_3D_losscape`, `create_2D_losscape` and `compute_loss`",
        "losscape",
        "losscape.create_landscape",
    ),
    Entry(
        "nngeom",
        HERE + "nngeom",
        "`plane_slice_2d`, `linear_interpolation`, `power_iteration` and `hutchinson_trace`; all samples as one batch",
        "nngeom",
        "nngeom",
    ),
    Entry(
        "gradfield",
        HERE + "gradfield",
        "`model_loss_fn` and `sample_grid`; all samples as one batch",
        "gradfield",
        "gradfield",
    ),
    Entry(
        "pylandscape",
        HERE + "pylandscape",
        "`Surface` and `Hessian`; it asks for torch 2.10 and is run with that of this page",
        "pylandscape",
        "pylandscape",
    ),
    Entry(
        "PyHessian",
        HERE + "pyhessian",
        "`hessian` with a loader; tolerances tighter than its defaults",
        "PyHessian",
        "pyhessian",
    ),
    Entry(
        "hessian-eigenthings",
        HERE + "hessian_eigenthings",
        "`lanczos`, `trace` and `spectral_density` of its operators, with as many Lanczos steps as parameters",
        "hessian-eigenthings",
        "hessian_eigenthings",
    ),
    Entry(
        "curvlinops",
        HERE + "curvlinops",
        "its operators with scipy's `eigsh`, `hutchinson_trace` and `lanczos_approximate_spectrum`",
        "curvlinops-for-pytorch",
        "curvlinops",
    ),
)
