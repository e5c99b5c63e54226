"""What a trained network takes and gives, as it is kept with its weights."""

from datamodules.contract.contract import Columns, Contract, contract_in_force, under
from datamodules.contract.features import BUCKETS, Cells, Dates, Feature, Hashed, Kind, Numbers, Texts, fitted

__all__ = [
    "BUCKETS",
    "Cells",
    "Columns",
    "Contract",
    "Dates",
    "Feature",
    "Hashed",
    "Kind",
    "Numbers",
    "Texts",
    "contract_in_force",
    "fitted",
    "under",
]
