"""One backbone, in whose features every task attends to what it needs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.backbones.base import Inputs
from models.backbones.last_block import LastBlock, last_blocks
from models.bounds import check_sizes
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing.base import Sharing
from models.sharing.rows import size_of, take
from models.sharing.statistics import statistics_of

Norm = Literal["batch", "layer"]


class MTAN(Sharing):
    """One backbone sees all rows once; every task masks what its stages give.

    Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention" (2019), eq. 1–2. With the input u^j and output
    p^j of the last block of stage j, task t has the mask a^j_t = σ(h_t(g_t([u^j; f^j(â^{j−1}_t)]))), and reads
    â^j_t = a^j_t ⊙ p^j. g_t and h_t are a task's own: 1×1 convolution and batch normalisation, then ReLU or σ. The
    refiner f^j, a 3×3 convolution (1×1 of tokens), batch normalisation and ReLU, brings â^{j−1}_t to the size and
    channels of u^j. All tasks share it, but it normalises each one's rows by themselves. The first mask reads u^1
    alone.

    The paper is of networks whose every stage has several blocks. Here stages attend whose last block reads as much as
    it gives: the second to last of a ResNet-18, the first alone of a ResNet-10, all but the embedding of a transformer.
    Masks at stages below the last of these leave the backbone's own features as they are; the stages above it read the
    masked features of each task's rows.
    """

    walks_stages = True

    def __init__(self, backbone: BackboneBuilder, tasks: list[str], reduction: int = 4, norm: Norm = "batch") -> None:
        """Build the backbone, the masks and the refiners.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            reduction: g gives the channels of its stage, divided by this: 4 in the official code for ResNets, 1 in
                that for SegNet.
            norm: of masks and refiners: `batch`, or `layer` for each row by itself, whatever others are in the batch.

        Raises:
            ValueError: the backbone has no stage of blocks, one has a size that no stride makes of the one below, or
                the reduction is less than 1.
        """
        super().__init__()
        check_sizes("model.sharing.reduction", [reduction])
        self.backbone, self.tasks = backbone(), tasks
        self.channels = dict.fromkeys(tasks, self.backbone.channels)
        blocks = last_blocks(self.backbone, backbone.input_shape)
        if not blocks:
            rule = "MTAN needs a backbone whose stages end in blocks, as those of ResNets and transformers do"
            raise ConfigurationError("model.sharing", rule, type(self.backbone).__name__)
        self.attended = list(blocks)
        self.entries = {stage: Entry(block.module) for stage, block in blocks.items()}
        self.masks = ModulesByName[nn.ModuleList]({task: nn.ModuleList() for task in tasks})
        for own in self.masks.values():
            own.extend(
                mask_of(block, self._width(stage), stage != self.attended[0], reduction, norm)
                for stage, block in blocks.items()
            )
        self.refiners = nn.ModuleList(
            refiner_of(blocks[below], blocks[above], self._width(below), self._width(above), norm)
            for below, above in pairwise(self.attended)
        )

    def _width(self, stage: int) -> int:
        return self.backbone.channels[stage]

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage; see `Sharing.forward`."""
        given, x = list[Tensor](), inputs
        with statistics_of(size_of(inputs), self.training):
            for call in self.backbone.stage_calls()[: self.attended[-1] + 1]:
                x = call(x)  # type: ignore[arg-type]  # what the first stage reads
                given.append(x)
        read = [entry.take() for entry in self.entries.values()]
        features = {}
        for task, own in rows.items():
            with statistics_of(own.shape[0], self.training):
                features[task] = self._attend(task, [take(u, own) for u in read], [take(p, own) for p in given])
        return features

    def _attend(self, task: str, u: Sequence[Tensor], p: Sequence[Tensor]) -> list[Tensor]:
        """A task's features, of what its rows' blocks have read and its stages have given."""
        features, refined = list(p), list[Tensor]()
        for place, (stage, mask) in enumerate(zip(self.attended, self.masks[task], strict=True)):
            a = mask(torch.cat([channels_first(u[place]), *refined], dim=1))
            features[stage] = channels_first(a) * p[stage]
            refined = [f(channels_first(features[stage])) for f in self.refiners[place : place + 1]]
        for call in self.backbone.stage_calls()[len(p) :]:
            features.append(call(features[-1]))
        return features

    def compared_weights(self) -> list[nn.Parameter]:
        """Those of the backbone's last layer."""
        return self.backbone.compared_weights()

    def rows_in_trunk(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Nothing: refiners, and the stages above the masks, see the rows of each task by themselves."""
        return {}

    def shared_parameters(self) -> list[nn.Parameter]:
        """The backbone and the refiners."""
        return [*self.backbone.parameters(), *self.refiners.parameters()]

    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """Those of the task's masks."""
        return list(self.masks[task].parameters())


class Entry:
    """Keeps what a module reads, from its call until it is taken."""

    def __init__(self, module: nn.Module) -> None:
        self._read: Tensor | None = None
        module.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._read = inputs[0]

    def take(self) -> Tensor:
        """What was read, once."""
        read, self._read = self._read, None
        assert read is not None
        return read


def mask_of(block: LastBlock, channels: int, refined: bool, reduction: int, norm: Norm) -> nn.Sequential:
    """σ ∘ h ∘ g: from what a stage's last block reads, beside what is refined if there is some, to its mask."""
    width, places = max(1, channels // reduction), len(block.shape) - 1
    g = _layer(places, (2 if refined else 1) * channels, width, norm)
    return nn.Sequential(*g, nn.ReLU(), *_layer(places, width, channels, norm), nn.Sigmoid())


def refiner_of(below: LastBlock, above: LastBlock, channels: int, wanted: int, norm: Norm) -> nn.Sequential:
    """f: from what is masked at a stage to the shape that the next one's last block reads.

    Raises:
        ConfigurationError: no stride brings the one to the other.
    """
    old, new = sizes(below), sizes(above)
    strides = [(before - 1) // after + 1 for before, after in zip(old, new, strict=False)]
    if len(old) != len(new) or [(n - 1) // s + 1 for n, s in zip(old, strides, strict=True)] != new:
        rule = "MTAN needs stages whose sizes strides make of those below"
        raise ConfigurationError("model.sharing", rule, f"{new} above {old}")
    return nn.Sequential(*_layer(len(old), channels, wanted, norm, strides), nn.ReLU())


def _layer(
    places: int, channels: int, wanted: int, norm: Norm, strides: Sequence[int] | None = None
) -> tuple[nn.Module, nn.Module]:
    """A convolution of maps [B, C, H, W] or tokens [B, C, N], 3×3 if it is one of maps with strides, and its norm."""
    kernel = 3 if strides and places == 2 else 1
    convolution, batch_norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[places - 1]
    stride = tuple(strides or [1] * places)
    normed = batch_norm(wanted) if norm == "batch" else nn.GroupNorm(1, wanted)
    return convolution(channels, wanted, kernel, stride, kernel // 2, bias=False), normed  # type: ignore[arg-type]


def sizes(block: LastBlock) -> list[int]:
    """Height and width of a block's maps, or number of its tokens."""
    return list(block.shape[1:]) if len(block.shape) == 3 else list(block.shape[:1])


def channels_first(x: Tensor) -> Tensor:
    """Maps [B, C, H, W] as they are; tokens [B, N, C] as [B, C, N], and the other way round."""
    return x if x.ndim == 4 else x.mT
