"""See and measure the loss landscape of PyTorch networks: everything that people import.

    import landscape_lib as ll

    checkpoint = ll.load_checkpoint("mnist_linear_model.pth")
    data = ll.load_dataset("mnist", split="train")
    surface = ll.evaluate(ll.objective(checkpoint.model, data), ll.random_plane(checkpoint.model, seed=42))
    ll.plot_contour(surface)

This file only re-exports; the code is in the package ``landscape``.
"""

from landscape import __version__, trackers
from landscape.connectivity import (
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
)
from landscape.faces import cli, results, studies
from landscape.faces.former import former_name as __getattr__  # noqa: F401 (names of earlier versions)
from landscape.models import (
    LinearMNIST,
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
    animate,
    plot_barriers,
    plot_basin_radii,
    plot_comparison,
    plot_contour,
    plot_difference,
    plot_lines,
    plot_path,
    plot_path_losses,
    plot_sharpness,
    plot_slices,
    plot_spectrum,
    plot_surface,
    plot_tiles,
    plot_topology,
    save_figure,
)
from landscape.points import (
    cosine,
    model_at,
    norm,
    parameters_of,
)
from landscape.results import (
    Surface,
)
from landscape.runtime.devices import (
    select_device,
)
from landscape.selftest import (
    selftest,
)
from landscape.sharpness import (
    basin_radii,
    layer_sharpness,
    learning_coefficient,
    sharpness,
)
from landscape.slices.directions import (
    filter_normalize,
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
from landscape.stability import (
    SharpnessRecorder,
)
from landscape.topology import (
    follow_basins,
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
    "select_device",
    "InputError",
    # Where: points, directions, lines and planes through the parameters
    "parameters_of",
    "model_at",
    "norm",
    "cosine",
    "random_plane",
    "random_line",
    "random_directions",
    "filter_normalize",
    "interpolation_line",
    "three_point_plane",
    "pca_plane",
    "eigenvector_plane",
    "find_span",
    "Line",
    "Plane",
    # Evaluate: the loss over a line or a plane
    "evaluate",
    "load_or_evaluate",
    "Surface",
    # Its basins, and which of them are more than noise
    "follow_basins",
    "topology",
    "permutation_test",
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
    "learning_coefficient",
    "SharpnessRecorder",
    "Product",
    # How networks are connected
    "align",
    "barrier",
    "fit_curve",
    "connectivity",
    # Where training went
    "TrajectoryRecorder",
    "RecordedPoints",
    "project",
    "fit",
    "fit_stacked",
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
    "plot_topology",
    "plot_spectrum",
    "plot_sharpness",
    "plot_barriers",
    "plot_basin_radii",
    "animate",
    "save_figure",
    "explore",
    # The classes of all results; trackers of experiments; what the scripts share; studies of many networks
    "results",
    "trackers",
    "cli",
    "studies",
    "__version__",
]
