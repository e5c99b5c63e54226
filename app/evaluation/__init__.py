"""Whether sharing helped: pure functions from the figures of runs to differences, intervals and decisions."""

from app.evaluation.delta_m import Average, Figures, delta_m
from app.evaluation.intervals import Interval, difference, holm, paired_difference

__all__ = ["Average", "Figures", "Interval", "delta_m", "difference", "holm", "paired_difference"]
