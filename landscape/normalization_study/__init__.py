"""Seven normalisation layers in one network: training, landscape, curvature, sharpness, report."""

from landscape.normalization_study.figures import normalization_figures
from landscape.normalization_study.measuring import measure_curvature, measure_landscape, measure_sharpness
from landscape.normalization_study.report import normalization_report, steps_to_loss
from landscape.normalization_study.settings import NormalizationStudy
from landscape.normalization_study.stored import StoredResults
from landscape.normalization_study.training import study_data, train_normalization

__all__ = [
    "NormalizationStudy",
    "StoredResults",
    "measure_curvature",
    "measure_landscape",
    "measure_sharpness",
    "normalization_figures",
    "normalization_report",
    "steps_to_loss",
    "study_data",
    "train_normalization",
]
