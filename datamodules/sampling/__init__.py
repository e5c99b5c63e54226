"""Which task, which rows."""

from datamodules.sampling.base import Booleans, Draw, DrawSampler, Integers, Plan, Sampling, at_least_one
from datamodules.sampling.per_task import PerTask
from datamodules.sampling.shared import Pages, Shared
from datamodules.sampling.successive import Successive
from datamodules.sampling.world import World

__all__ = [
    "Booleans",
    "Draw",
    "DrawSampler",
    "Integers",
    "Pages",
    "PerTask",
    "Plan",
    "Sampling",
    "Shared",
    "Successive",
    "World",
    "at_least_one",
]
