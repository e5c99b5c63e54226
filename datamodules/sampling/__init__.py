"""Which task, which rows."""

from datamodules.sampling.base import Draw, DrawSampler, Plan, Sampling, positive
from datamodules.sampling.per_task import PerTask
from datamodules.sampling.shared import Pages, Shared

__all__ = ["Draw", "DrawSampler", "Pages", "PerTask", "Plan", "Sampling", "Shared", "positive"]
