"""See and measure the loss landscape of PyTorch networks: everything that people import.

    import landscape_lib as ll

    checkpoint = ll.load_checkpoint("mnist_linear_model.pth")
    data = ll.load_dataset("mnist", split="train")
    surface = ll.evaluate(ll.objective(checkpoint.model, data), ll.random_plane(checkpoint.model, seed=42))
    ll.plot_contour(surface)

This file only re-exports; the code is in the package ``landscape``.
"""

from landscape import __version__
from landscape.checks import MOST_LEVELS, check_count, check_distinct, check_number, check_seed
from landscape.cli.checkpoint_surfaces import check_budget, checkpoint_surface, settle_budget, settle_range
from landscape.cli.scripts import advised, run_script
from landscape.cli.settings import (
    Evaluation,
    ModelOptions,
    PlaneChoice,
    check_levels,
    check_measures,
    check_resolution,
    describe,
    refuse_unused,
)
from landscape.cli.sources import (
    DEFAULT_CHECKPOINT,
    checkpoint_suffix,
    distinct_names,
    file_owner,
    load_checkpoint_data,
    load_or_train,
    load_shared_data,
    note_unused_batch_norm,
    own_suffix,
    owner_in_npz,
    owners_in_json,
    result_suffix,
)
from landscape.cli.stored_metrics import confirm_metrics, input_scaling
from landscape.cli.summary import range_hint, summarize, surface_numbers, surface_table
from landscape.connectivity import (
    Alignment,
    Connectivity,
    Curve,
    align,
    barrier,
    barrier_table,
    connectivity,
    fit_curve,
)
from landscape.curvature import (
    Product,
    check_parameters,
    eigenvector_plane,
    ggn_product,
    hessian_product,
    load_or_measure,
    spectral_density,
    top_eigenpairs,
    trace,
)
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.evaluation import check_tolerance, evaluate, find_span, load_or_evaluate, plan_budget
from landscape.explorer import explore, plot_path_html
from landscape.models import LinearMNIST, MLPClassifier, NormCNN, TinyCNN, build_model, check_model
from landscape.objective.losses import Weighted
from landscape.objective.objectives import Objective, objective
from landscape.plotting import (
    animate_path,
    animate_surfaces,
    animation_formats,
    plot_barriers,
    plot_comparison,
    plot_contour,
    plot_density,
    plot_difference,
    plot_eigenvalues,
    plot_histories,
    plot_lines,
    plot_panels,
    plot_path,
    plot_path_losses,
    plot_rows,
    plot_sharpness,
    plot_slices,
    plot_spread,
    plot_surface,
    plot_tiles,
    save_figure,
    smooth,
)
from landscape.points import Point, cosine, inner, model_at, norm, parameters_of
from landscape.results import (
    SHARPNESS_CAUTION,
    Barrier,
    Eigenpairs,
    Sharpness,
    SpectralDensity,
    Surface,
    TraceEstimate,
    Trajectory,
)
from landscape.results.comparability import check_comparable, differences
from landscape.runtime.devices import seed_everything, select_device
from landscape.runtime.progress import with_time_left
from landscape.runtime.ranks import is_first_rank
from landscape.sharpness import layer_sharpness, load_or_measure_sharpness, sharpness
from landscape.slices.directions import filter_normalize, normalize_direction, random_directions
from landscape.slices.planes import (
    Line,
    Plane,
    interpolation_line,
    random_line,
    random_plane,
    three_point_plane,
)
from landscape.storage.files import make_folder, plain_name
from landscape.storage.logs import write_json, write_log, write_text
from landscape.storage.names import path_inside
from landscape.studies.matrix.plan import Matrix
from landscape.studies.matrix.probes import Probes
from landscape.studies.matrix.probing import probe_study
from landscape.studies.matrix.reports import write_reports
from landscape.studies.matrix.runs import find_runs
from landscape.studies.matrix.training import diverged_runs, train_matrix
from landscape.studies.normalizations import (
    NormalizationStudy,
    StoredResults,
    measure_curvature,
    measure_landscape,
    measure_sharpness,
    normalization_figures,
    normalization_report,
    study_data,
    train_normalization,
)
from landscape.training.checkpoints import Checkpoint, load_checkpoint, prepare_checkpoint, save_checkpoint
from landscape.training.loop import Training, fit, score
from landscape.training.predictions import predict
from landscape.training.runs import Run, epochs_to_save
from landscape.training.stacked import fit_stacked
from landscape.trajectories import (
    JoinedPoints,
    RecordedPoints,
    TrajectoryRecorder,
    checkpoint_notes,
    covering_ranges,
    load_or_project,
    load_or_record,
    pca_plane,
    project,
    record_checkpoints,
    recorded_owner,
    run_notes,
)

__all__ = [
    "DEFAULT_CHECKPOINT",
    "MOST_LEVELS",
    "SHARPNESS_CAUTION",
    "Alignment",
    "Barrier",
    "Checkpoint",
    "Connectivity",
    "Curve",
    "Data",
    "Eigenpairs",
    "Evaluation",
    "InputError",
    "JoinedPoints",
    "Line",
    "LinearMNIST",
    "MLPClassifier",
    "Matrix",
    "ModelOptions",
    "NormCNN",
    "NormalizationStudy",
    "Objective",
    "Plane",
    "PlaneChoice",
    "Point",
    "Probes",
    "Product",
    "RecordedPoints",
    "Run",
    "Sharpness",
    "SpectralDensity",
    "StoredResults",
    "Surface",
    "TinyCNN",
    "TraceEstimate",
    "Training",
    "Trajectory",
    "TrajectoryRecorder",
    "Weighted",
    "__version__",
    "advised",
    "align",
    "animate_path",
    "animate_surfaces",
    "animation_formats",
    "barrier",
    "barrier_table",
    "build_model",
    "check_budget",
    "check_comparable",
    "check_count",
    "check_distinct",
    "check_levels",
    "check_measures",
    "check_model",
    "check_number",
    "check_parameters",
    "check_resolution",
    "check_seed",
    "check_tolerance",
    "checkpoint_notes",
    "checkpoint_suffix",
    "checkpoint_surface",
    "confirm_metrics",
    "connectivity",
    "cosine",
    "covering_ranges",
    "describe",
    "differences",
    "distinct_names",
    "diverged_runs",
    "eigenvector_plane",
    "epochs_to_save",
    "evaluate",
    "explore",
    "file_owner",
    "filter_normalize",
    "find_runs",
    "find_span",
    "fit",
    "fit_curve",
    "fit_stacked",
    "ggn_product",
    "hessian_product",
    "inner",
    "input_scaling",
    "interpolation_line",
    "is_first_rank",
    "layer_sharpness",
    "load_checkpoint",
    "load_checkpoint_data",
    "load_dataset",
    "load_or_evaluate",
    "load_or_measure",
    "load_or_measure_sharpness",
    "load_or_project",
    "load_or_record",
    "load_or_train",
    "load_shared_data",
    "make_folder",
    "measure_curvature",
    "measure_landscape",
    "measure_sharpness",
    "model_at",
    "norm",
    "normalization_figures",
    "normalization_report",
    "normalize_direction",
    "note_unused_batch_norm",
    "objective",
    "own_suffix",
    "owner_in_npz",
    "owners_in_json",
    "parameters_of",
    "path_inside",
    "pca_plane",
    "plain_name",
    "plan_budget",
    "plot_barriers",
    "plot_comparison",
    "plot_contour",
    "plot_density",
    "plot_difference",
    "plot_eigenvalues",
    "plot_histories",
    "plot_lines",
    "plot_panels",
    "plot_path",
    "plot_path_html",
    "plot_path_losses",
    "plot_rows",
    "plot_sharpness",
    "plot_slices",
    "plot_spread",
    "plot_surface",
    "plot_tiles",
    "predict",
    "prepare_checkpoint",
    "probe_study",
    "project",
    "random_directions",
    "random_line",
    "random_plane",
    "range_hint",
    "record_checkpoints",
    "recorded_owner",
    "refuse_unused",
    "result_suffix",
    "run_notes",
    "run_script",
    "save_checkpoint",
    "save_figure",
    "score",
    "seed_everything",
    "select_device",
    "settle_budget",
    "settle_range",
    "sharpness",
    "smooth",
    "spectral_density",
    "study_data",
    "summarize",
    "surface_numbers",
    "surface_table",
    "three_point_plane",
    "top_eigenpairs",
    "trace",
    "train_matrix",
    "train_normalization",
    "with_time_left",
    "write_json",
    "write_log",
    "write_reports",
    "write_text",
]
