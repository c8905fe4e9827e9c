"""A study of seven normalisation layers in the same network: training, landscape, curvature, sharpness, report."""

from landscape.studies.normalizations.figures import normalization_figures
from landscape.studies.normalizations.measuring import measure_curvature, measure_landscape, measure_sharpness
from landscape.studies.normalizations.report import normalization_report, steps_to_loss, unmeasured
from landscape.studies.normalizations.settings import NormalizationStudy
from landscape.studies.normalizations.training import study_data, train_normalization

__all__ = [
    "NormalizationStudy",
    "measure_curvature",
    "measure_landscape",
    "measure_sharpness",
    "normalization_figures",
    "normalization_report",
    "steps_to_loss",
    "study_data",
    "train_normalization",
    "unmeasured",
]
