"""Regularizers: terms of the objective on weights that every task has of its own."""

from models.regularizers.base import ProximalRegularizer, Regularizer, SmoothRegularizer
from models.regularizers.block_sparse import BlockSparse
from models.regularizers.clustered import Clustered
from models.regularizers.dirty import Dirty
from models.regularizers.mean import MeanRegularized
from models.regularizers.orthogonality import Orthogonality
from models.regularizers.relationship import TaskRelationship
from models.regularizers.tensor_normal import TensorNormal
from models.regularizers.trace_norm import TraceNorm
from models.regularizers.unknown_clusters import UnknownClusters

__all__ = [
    "BlockSparse",
    "Clustered",
    "Dirty",
    "MeanRegularized",
    "Orthogonality",
    "ProximalRegularizer",
    "Regularizer",
    "SmoothRegularizer",
    "TaskRelationship",
    "TensorNormal",
    "TraceNorm",
    "UnknownClusters",
]
