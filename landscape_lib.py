"""See and measure the loss landscape of PyTorch networks: everything that people import.

    import landscape_lib as ll

    checkpoint = ll.load_checkpoint("mnist_linear_model.pth")
    data = ll.load_dataset("mnist", split="train")
    surface = ll.evaluate(ll.objective(checkpoint.model, data), ll.random_plane(checkpoint.model, seed=42))
    ll.plot_contour(surface)

This file only re-exports; the code is in the package ``landscape``.
"""

from landscape import __version__
from landscape.cli import face as cli
from landscape.connectivity import (
    Alignment,
    Connectivity,
    align,
    barrier,
    connectivity,
    fit_curve,
)
from landscape.curvature import (
    Product,
    eigenvector_plane,
    faithfulness,
    ggn_product,
    hessian_product,
    spectral_density,
    top_eigenpairs,
    trace,
)
from landscape.datasets import (
    Data,
    load_dataset,
)
from landscape.errors import (
    InputError,
)
from landscape.evaluation import (
    evaluate,
    find_span,
    load_or_evaluate,
)
from landscape.explorer import (
    explore,
    plot_path_html,
)
from landscape.models import (
    LinearMNIST,
    NormCNN,
    TinyCNN,
    build_model,
)
from landscape.objective.losses import (
    Weighted,
)
from landscape.objective.objectives import (
    Objective,
    objective,
)
from landscape.plotting import (
    animate_path,
    animate_surfaces,
    plot_barriers,
    plot_basin_radii,
    plot_basins,
    plot_comparison,
    plot_contour,
    plot_density,
    plot_difference,
    plot_eigenvalues,
    plot_lines,
    plot_merge_tree,
    plot_path,
    plot_path_losses,
    plot_persistence,
    plot_sharpness,
    plot_slices,
    plot_surface,
    plot_tiles,
    save_figure,
)
from landscape.points import (
    Point,
    cosine,
    inner,
    model_at,
    norm,
    parameters_of,
)
from landscape.results import (
    Barrier,
    BasinRadii,
    Eigenpairs,
    Faithfulness,
    Sharpness,
    SpectralDensity,
    Surface,
    Topology,
    TraceEstimate,
    Trajectory,
)
from landscape.runtime.devices import (
    seed_everything,
    select_device,
)
from landscape.selftest import (
    selftest,
)
from landscape.sharpness import (
    basin_radii,
    layer_sharpness,
    sharpness,
)
from landscape.slices.curves import (
    Curve,
)
from landscape.slices.directions import (
    filter_normalize,
    normalize_direction,
    random_directions,
)
from landscape.slices.interpolations import (
    interpolation_line,
    three_point_plane,
)
from landscape.slices.planes import (
    Line,
    Plane,
)
from landscape.slices.random_slices import (
    random_line,
    random_plane,
)
from landscape.studies import face as studies
from landscape.topology import (
    permutation_test,
    topology,
)
from landscape.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from landscape.training.loop import (
    Training,
    fit,
)
from landscape.training.predictions import (
    predict,
)
from landscape.training.stacked import (
    fit_stacked,
)
from landscape.trajectories import (
    RecordedPoints,
    TrajectoryRecorder,
    pca_plane,
    project,
)

__all__ = [  # noqa: RUF022 (grouped by question)
    # Give it a network, data and a loss
    "objective",
    "Objective",
    "Weighted",
    "load_dataset",
    "Data",
    "load_checkpoint",
    "save_checkpoint",
    "Checkpoint",
    "build_model",
    "LinearMNIST",
    "TinyCNN",
    "NormCNN",
    "select_device",
    "seed_everything",
    "InputError",
    # Where: points, directions, lines and planes through the parameters
    "parameters_of",
    "model_at",
    "inner",
    "norm",
    "cosine",
    "Point",
    "random_plane",
    "random_line",
    "random_directions",
    "filter_normalize",
    "normalize_direction",
    "interpolation_line",
    "three_point_plane",
    "pca_plane",
    "eigenvector_plane",
    "find_span",
    "Line",
    "Plane",
    "Curve",
    # Evaluate: the loss over a line or a plane
    "evaluate",
    "load_or_evaluate",
    "Surface",
    # Its basins, and which of them are more than noise
    "topology",
    "permutation_test",
    "Topology",
    # How curved and how sharp
    "hessian_product",
    "ggn_product",
    "top_eigenpairs",
    "trace",
    "spectral_density",
    "sharpness",
    "layer_sharpness",
    "faithfulness",
    "basin_radii",
    "Product",
    "Eigenpairs",
    "TraceEstimate",
    "SpectralDensity",
    "Faithfulness",
    "Sharpness",
    "BasinRadii",
    # How networks are connected
    "align",
    "barrier",
    "fit_curve",
    "connectivity",
    "Alignment",
    "Barrier",
    "Connectivity",
    # Where training went
    "TrajectoryRecorder",
    "RecordedPoints",
    "project",
    "Trajectory",
    "fit",
    "fit_stacked",
    "predict",
    "Training",
    # Check it
    "selftest",
    # Draw it
    "plot_contour",
    "plot_surface",
    "plot_slices",
    "plot_lines",
    "plot_tiles",
    "plot_comparison",
    "plot_difference",
    "plot_path",
    "plot_path_losses",
    "plot_eigenvalues",
    "plot_density",
    "plot_sharpness",
    "plot_barriers",
    "plot_basin_radii",
    "plot_basins",
    "plot_persistence",
    "plot_merge_tree",
    "animate_path",
    "animate_surfaces",
    "save_figure",
    "explore",
    "plot_path_html",
    # What the scripts share, and the studies of many networks
    "cli",
    "studies",
    "__version__",
]
