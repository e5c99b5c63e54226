"""Whether sharing helped: pure functions from the figures of runs to differences, intervals and decisions."""

from app.evaluation.delta_m import Average, Figures, delta_m
from app.evaluation.intervals import Interval, difference, holm, paired_difference
from app.evaluation.verdict import Verdict, verdicts

__all__ = [
    "Average",
    "Figures",
    "Interval",
    "Verdict",
    "delta_m",
    "difference",
    "holm",
    "paired_difference",
    "verdicts",
]
