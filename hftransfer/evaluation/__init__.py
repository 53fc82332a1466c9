"""Scores with their intervals, the trivial baseline, calibration and plots, from stored predictions alone."""

from hftransfer.evaluation.calibration import apply_temperature, fit_temperature, reliability
from hftransfer.evaluation.differences import Difference, holm, pairwise
from hftransfer.evaluation.metrics import (
    METRICS,
    Metric,
    check_names,
    default_metrics,
    greater_is_better,
    main_metric,
    main_metric_of,
)
from hftransfer.evaluation.plots import write_comparison, write_curve, write_plots
from hftransfer.evaluation.predictions import Predictions
from hftransfer.evaluation.reporting import baseline, below_baseline, report, without_rows
from hftransfer.evaluation.scoring import measure, measure_only, measure_point, per_class, prepare_metrics, replicates

__all__ = [
    "METRICS",
    "Difference",
    "Metric",
    "Predictions",
    "apply_temperature",
    "baseline",
    "below_baseline",
    "check_names",
    "default_metrics",
    "fit_temperature",
    "greater_is_better",
    "holm",
    "main_metric",
    "main_metric_of",
    "measure",
    "measure_only",
    "measure_point",
    "pairwise",
    "per_class",
    "prepare_metrics",
    "reliability",
    "replicates",
    "report",
    "without_rows",
    "write_comparison",
    "write_curve",
    "write_plots",
]
