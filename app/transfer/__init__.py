"""From a trained network to new tasks: layers, their rates, and the schedule that freezes and thaws them."""

from app.transfer.fine_tuning import FineTuning
from app.transfer.parameter_groups import LayerConfig, layer_factors, parameter_groups, scaled_rates
from app.transfer.phases import Phase, check_phases
from app.transfer.presets import Preset, Schedule, phases_of
from app.transfer.progress import Progress
from app.transfer.sources import InitFrom
from app.transfer.starting_point import StartingPoint

__all__ = [
    "FineTuning",
    "InitFrom",
    "LayerConfig",
    "Phase",
    "Preset",
    "Progress",
    "Schedule",
    "StartingPoint",
    "check_phases",
    "layer_factors",
    "parameter_groups",
    "phases_of",
    "scaled_rates",
]
