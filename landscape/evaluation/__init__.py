"""Evaluation of an objective over a slice: one entry, one file per method."""

from landscape.evaluation.budget import plan_budget
from landscape.evaluation.engine import evaluate
from landscape.evaluation.refinement.tolerance import check_tolerance
from landscape.evaluation.span import find_span
from landscape.evaluation.stored import load_or_evaluate, load_or_find_span

__all__ = ["check_tolerance", "evaluate", "find_span", "load_or_evaluate", "load_or_find_span", "plan_budget"]
