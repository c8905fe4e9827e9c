"""The namespace ``cli`` of `landscape_lib`: what the scripts share."""

from tyro.conf import Positional, arg

from landscape.checks import (
    MOST_LEVELS,
    check_count,
    check_distinct,
    check_folder,
    check_number,
    check_seed,
)
from landscape.cli.budget import (
    check_budget,
    settle_budget,
)
from landscape.cli.checkpoint_surfaces import (
    Conditions,
    checkpoint_surface,
    rising_surface,
    settle_range,
    with_faithfulness,
)
from landscape.cli.figure_files import (
    FigureFiles,
)
from landscape.cli.file_names import (
    checkpoint_suffix,
    comparison_label,
    owner_in_npz,
    owners_in_json,
)
from landscape.cli.language import (
    GPTOptions,
    LanguageChoice,
    LanguageView,
    check_language_options,
    load_language_subject,
    with_adapters,
)
from landscape.cli.language_measurements import (
    LanguageMeasurements,
)
from landscape.cli.messages import (
    advised,
    describe,
    note_unused,
    optional,
    refuse_unused,
    wrote,
)
from landscape.cli.own_data import (
    SampleSet,
    images_of,
    load_own_data,
    predicted_classes,
)
from landscape.cli.scripts import (
    run_script,
)
from landscape.cli.settings import (
    DEFAULT_CHECKPOINT,
    ChosenParameters,
    Drawing,
    Evaluation,
    JudgedPlane,
    ModelOptions,
    PlaneChoice,
    Subject,
    check_all,
    check_measures,
    check_own_files,
    check_resolution,
    check_stored,
    check_training,
)
from landscape.cli.sources import (
    DEFAULT_TRAINING,
    distinct_names,
    load_network,
    load_shared_data,
    load_subject,
    note_unused_batch_norm,
)
from landscape.cli.stored_metrics import (
    confirm_metrics,
    input_scaling,
)
from landscape.cli.training_paths import (
    PathSource,
    RecordedPaths,
    record_paths,
)
from landscape.connectivity import (
    barrier_table,
)
from landscape.curvature import (
    CurvatureSettings,
    load_or_measure,
)
from landscape.curvature.report import (
    curvature_record,
    eigenvalue_lines,
    sharpness_lines,
    time_estimate,
    trace_line,
)
from landscape.datasets.text import (
    Bytes,
    load_text,
)
from landscape.evaluation import (
    check_tolerance,
    plan_budget,
)
from landscape.models import (
    check_model,
    import_own,
    is_own,
)
from landscape.models.pretrained import (
    adapter_step,
)
from landscape.plotting import (
    animation_formats,
    plot_histories,
    plot_panels,
    plot_rows,
    plot_spread,
    shared_colors,
    shared_limits,
    smooth,
)
from landscape.plotting.basin_history import (
    basins_title,
)
from landscape.presenting import (
    plural,
)
from landscape.results import (
    SHARPNESS_CAUTION,
)
from landscape.results.comparability import (
    check_comparable,
    differences,
)
from landscape.results.summary import (
    path_summary,
    range_hint,
    summarize,
    surface_numbers,
    surface_table,
)
from landscape.runtime.devices import (
    seed_everything,
)
from landscape.runtime.progress import (
    with_time_left,
)
from landscape.runtime.ranks import (
    is_first_rank,
)
from landscape.sharpness import (
    MeasureName,
    load_or_measure_sharpness,
)
from landscape.storage.files import (
    make_folder,
    plain_name,
)
from landscape.storage.logs import (
    write_json,
    write_log,
    write_text,
)
from landscape.storage.names import (
    path_inside,
)
from landscape.training.checkpoints import (
    load_checkpoint_data,
    prepare_checkpoint,
)
from landscape.training.language import (
    LanguageTraining,
)
from landscape.training.loop import (
    score,
)
from landscape.training.runs import (
    Run,
    check_run,
    epochs_to_save,
)
from landscape.training.single import (
    check_replacement,
    train_checkpoint,
)
from landscape.trajectories import (
    JoinedPoints,
    covering_ranges,
    load_or_record_language_model,
)

__all__ = [
    "DEFAULT_CHECKPOINT",
    "DEFAULT_TRAINING",
    "MOST_LEVELS",
    "SHARPNESS_CAUTION",
    "Bytes",
    "ChosenParameters",
    "Conditions",
    "CurvatureSettings",
    "Drawing",
    "Evaluation",
    "FigureFiles",
    "GPTOptions",
    "JoinedPoints",
    "JudgedPlane",
    "LanguageChoice",
    "LanguageMeasurements",
    "LanguageTraining",
    "LanguageView",
    "MeasureName",
    "ModelOptions",
    "PathSource",
    "PlaneChoice",
    "Positional",
    "RecordedPaths",
    "Run",
    "SampleSet",
    "Subject",
    "adapter_step",
    "advised",
    "animation_formats",
    "arg",
    "barrier_table",
    "basins_title",
    "check_all",
    "check_budget",
    "check_comparable",
    "check_count",
    "check_distinct",
    "check_folder",
    "check_language_options",
    "check_measures",
    "check_model",
    "check_number",
    "check_own_files",
    "check_replacement",
    "check_resolution",
    "check_run",
    "check_seed",
    "check_stored",
    "check_tolerance",
    "check_training",
    "checkpoint_suffix",
    "checkpoint_surface",
    "comparison_label",
    "confirm_metrics",
    "covering_ranges",
    "curvature_record",
    "describe",
    "differences",
    "distinct_names",
    "eigenvalue_lines",
    "epochs_to_save",
    "images_of",
    "import_own",
    "input_scaling",
    "is_first_rank",
    "is_own",
    "load_checkpoint_data",
    "load_language_subject",
    "load_network",
    "load_or_measure",
    "load_or_measure_sharpness",
    "load_or_record_language_model",
    "load_own_data",
    "load_shared_data",
    "load_subject",
    "load_text",
    "make_folder",
    "note_unused",
    "note_unused_batch_norm",
    "optional",
    "owner_in_npz",
    "owners_in_json",
    "path_inside",
    "path_summary",
    "plain_name",
    "plan_budget",
    "plot_histories",
    "plot_panels",
    "plot_rows",
    "plot_spread",
    "plural",
    "predicted_classes",
    "prepare_checkpoint",
    "range_hint",
    "record_paths",
    "refuse_unused",
    "rising_surface",
    "run_script",
    "score",
    "seed_everything",
    "settle_budget",
    "settle_range",
    "shared_colors",
    "shared_limits",
    "sharpness_lines",
    "smooth",
    "summarize",
    "surface_numbers",
    "surface_table",
    "time_estimate",
    "trace_line",
    "train_checkpoint",
    "with_adapters",
    "with_faithfulness",
    "with_time_left",
    "write_json",
    "write_log",
    "write_text",
    "wrote",
]
