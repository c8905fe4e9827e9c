"""The namespace ``studies`` of `landscape_lib`: studies of many networks, and their reports."""

from landscape.studies.kit.results_file import (
    StoredResults,
)
from landscape.studies.language_model import (
    LanguageModelResults,
    kinds_of_layers,
    language_model_report,
)
from landscape.studies.matrix.plan import (
    Matrix,
)
from landscape.studies.matrix.probes import (
    Probes,
)
from landscape.studies.matrix.probing import (
    probe_study,
)
from landscape.studies.matrix.reports import (
    write_reports,
)
from landscape.studies.matrix.runs import (
    find_runs,
)
from landscape.studies.matrix.training import (
    diverged_runs,
    train_matrix,
)
from landscape.studies.normalizations import (
    NormalizationStudy,
    measure_curvature,
    measure_landscape,
    measure_sharpness,
    normalization_figures,
    normalization_report,
    study_data,
    train_normalization,
    unmeasured,
)

__all__ = [
    "LanguageModelResults",
    "Matrix",
    "NormalizationStudy",
    "Probes",
    "StoredResults",
    "diverged_runs",
    "find_runs",
    "kinds_of_layers",
    "language_model_report",
    "measure_curvature",
    "measure_landscape",
    "measure_sharpness",
    "normalization_figures",
    "normalization_report",
    "probe_study",
    "study_data",
    "train_matrix",
    "train_normalization",
    "unmeasured",
    "write_reports",
]
