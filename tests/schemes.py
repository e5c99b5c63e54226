"""Every sharing scheme on small backbones and rows in every layout."""

from functools import partial

import torch
from residual import Residual
from torch import Tensor

from app.network.network import Network
from datamodules.batch import MultiTaskBatch
from datamodules.targets import Binary, Categorical, Continuous
from models.backbones import MLP, TimmBackbone
from models.sharing import (
    CGC,
    MTAN,
    PLE,
    Branching,
    Conditioned,
    CrossStitch,
    DSelectK,
    HardSharing,
    IndependentNetworks,
    LowRankAdapters,
    MMoE,
    Sluice,
    SoftSharing,
    TaskNormalization,
    TensorFactorisation,
)

TARGETS = {"kind": Categorical(("a", "b", "c")), "size": Continuous(), "alive": Binary(("no", "yes"))}
TASKS = list(TARGETS)
SCHEMES = {
    "hard": HardSharing,
    "hard, statistics by task": partial(HardSharing, statistics="task"),
    "independent": IndependentNetworks,
    "soft": partial(SoftSharing, strength=0.1),
    "soft, trace": partial(SoftSharing, strength=0.1, norm="trace"),
    "cross-stitch": CrossStitch,
    "cross-stitch by channel": partial(CrossStitch, by_channel=True),
    "mmoe": partial(MMoE, experts=3),
    "mmoe from stage 1": partial(MMoE, experts=2, from_stage=1),
    "mmoe on a trunk": partial(MMoE, experts=2, hidden=[6]),
    "omoe": partial(MMoE, experts=2, from_stage=1, one_gate=True),
    "dselect-k": partial(DSelectK, experts=3, entropy=0.1),
    "dselect-k from stage 1": partial(DSelectK, from_stage=1, selected=1),
    "dselect-k, fixed": partial(DSelectK, by_row=False),
    "cgc": CGC,
    "cgc from stage 1": partial(CGC, shared=2, own=2, from_stage=1),
    "ple": PLE,
    "film": Conditioned,
    "film at the input and after stage 1": partial(Conditioned, after=["input", 1]),
    "added, learned": partial(Conditioned, by="add", after=[0, -1], descriptor="learned"),
    "film, given": partial(Conditioned, after=[0], descriptor={"kind": [1, 0], "size": [0, 1], "alive": [1, 1]}),
    "adapters": partial(LowRankAdapters, rank=2),
    "adapters, none shared": partial(LowRankAdapters, rank=2, shared=False),
    "normalisation per task": TaskNormalization,
    "ple of two levels": partial(PLE, levels=[0, 1]),
    "sluice": Sluice,
    "sluice of one subspace": partial(Sluice, subspaces=1),
    "mtan": MTAN,
    "mtan, rows by themselves": partial(MTAN, norm="layer", reduction=1),
    "branching": Branching,
    "branching, given tree": partial(Branching, tree={1: [["kind", "alive"], ["size"]]}),
    "branching, all split": partial(Branching, tree={0: [["kind"], ["size"], ["alive"]]}),
    "tucker": TensorFactorisation,
    "tucker from stage 1, of low rank": partial(TensorFactorisation, from_stage=1, ranks={"in": 0.5, "tasks": 2}),
    "tensor train": partial(TensorFactorisation, kind="tt", from_stage=1, ranks={"out": 0.5}),
    "laf": partial(TensorFactorisation, kind="laf", from_stage=1, ranks={"tasks": 2}),
}
SHAPE = (3, 32, 32)
BACKBONES = {
    "resnet": partial(TimmBackbone, name="test_resnet"),
    "vit": partial(TimmBackbone, name="test_vit"),
    "mlp": partial(MLP, hidden=(8, 6, 4)),
}
LARGE = {
    "resnet18": partial(TimmBackbone, name="resnet18"),
    "vit_tiny": partial(TimmBackbone, name="vit_tiny_patch16_224"),
}
OTHERS = {"residual": Residual, **LARGE}  # backbones that some tests alone have
NOT_FOR = {  # scheme → backbones without what it changes
    "normalisation per task": ["mlp"],
    "adapters": ["resnet"],
    "adapters, none shared": ["resnet"],
    "mtan": ["mlp"],
    "mtan, rows by themselves": ["mlp"],
}
ROWS = 8
LAYOUTS = {
    "single input": {task: torch.arange(ROWS) for task in TASKS},
    "multi-input": {"kind": torch.tensor([0, 3, 6]), "size": torch.tensor([1, 4, 7]), "alive": torch.tensor([2, 5])},
    "partial": {"kind": torch.tensor([0, 1, 2, 5]), "size": torch.tensor([1, 4, 5, 6]), "alive": torch.arange(8)},
}


def network_of(scheme: str, backbone: str, seed: int = 0) -> Network:
    """In double precision, all modules in training."""
    torch.manual_seed(seed)
    return Network(TARGETS, SHAPE, (BACKBONES | OTHERS)[backbone], SCHEMES[scheme]).double()


def batch_of(layout: str, without: str | None = None) -> MultiTaskBatch:
    """Random images and labels; of all tasks but one, if one is to be absent."""
    draw = torch.Generator().manual_seed(1)
    labels: dict[str, Tensor] = {
        "kind": torch.randint(3, (ROWS,), generator=draw),
        "size": torch.randn(ROWS, generator=draw, dtype=torch.float64),
        "alive": torch.randint(2, (ROWS,), generator=draw).double(),
    }
    rows = {task: own for task, own in LAYOUTS[layout].items() if task != without}
    inputs = torch.randn(ROWS, *SHAPE, generator=draw, dtype=torch.float64)
    targets = {task: labels[task][own] for task, own in rows.items()}
    return MultiTaskBatch(inputs, targets, rows, {task: len(own) for task, own in rows.items()}, torch.arange(ROWS))


def losses_of(network: Network, batch: MultiTaskBatch) -> dict[str, Tensor]:
    """Task → mean loss."""
    sums = network.losses(batch, network(batch.inputs, batch.rows))
    return {task: total / batch.counts[task] for task, total in sums.items()}
