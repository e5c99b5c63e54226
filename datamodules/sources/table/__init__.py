"""A table of rows: images and features in, any mixture of tasks out."""

from datamodules.sources.table.features import FeatureColumn
from datamodules.sources.table.kinds import Column
from datamodules.sources.table.table import Table

__all__ = ["Column", "FeatureColumn", "Table"]
