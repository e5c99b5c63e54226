"""Labels of a value a pixel, in words and in colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb

import torch
from PIL import Image, ImageColor
from torch import Tensor
from torchvision.transforms.v2 import functional

from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.reader import Reader
from datamodules.targets import Dense, DenseCategorical, DenseContinuous, Target

SAMPLED = 32  # training rows whose pixels are counted
GOLDEN = 0.618034  # steps around the circle of hues that stay apart, however many
LOW_TO_HIGH = ("#1d1147", "#b63679", "#fcfdbf")
NONE = 0.25  # grey where there is no value

Maps = dict[str, Dense]


def maps_of(targets: Mapping[str, Target]) -> Maps:
    """The targets that are dense."""
    return {task: target for task, target in targets.items() if isinstance(target, Dense)}


def sampled_labels(dataset: MultiTaskDataset, targets: Mapping[str, Target]) -> dict[str, list[Tensor]]:
    """Dense task → its labels in some rows, spread evenly, that can be read; before any transform."""
    reader = Reader(skip=True)
    labels: dict[str, list[Tensor]] = {}
    for task in maps_of(targets):
        rows = dataset.labelled[dataset.tasks.index(task)].nonzero().squeeze(1)
        some = rows[torch.linspace(0, len(rows) - 1, min(len(rows), SAMPLED)).round().long()]
        read = [reader(split, torch.tensor([row]), torch.tensor([0])) for split, row in dataset.located(some)]
        labels[task] = [each.labels[task][0] for each in read if each.inputs is not None]
    return labels


def counted(target: Dense, labels: Sequence[Tensor]) -> tuple[float, dict[str, float]]:
    """The share of pixels without a value, and of those with one the share of each class, of rows' `labels`.

    Without a class there is an empty dict.
    """
    valid = [target.valid(label[None])[0] for label in labels]
    pixels = sum(mask.numel() for mask in valid)
    known = sum(int(mask.sum()) for mask in valid)
    shares: dict[str, float] = {}
    if isinstance(target, DenseCategorical):
        found = torch.cat([label[mask] for label, mask in zip(labels, valid, strict=True)])
        counts = found.long().bincount(minlength=len(target.classes)) / max(known, 1)
        shares = dict(zip(target.classes, counts.tolist(), strict=True))
    return 1 - known / max(pixels, 1), shares


def spread(target: Dense, labels: Sequence[Tensor]) -> str:
    """Mean and standard deviation of the numbers of rows' `labels`, in their unit; nothing if they are not numbers."""
    if not isinstance(target, DenseContinuous):
        return ""
    std, mean = torch.std_mean(torch.cat([label[~label.isnan()] for label in labels]).double(), correction=0)
    return f"mean {mean:.4g}, std {std:.4g}" + (f" {target.unit}" if target.unit else "")


def described(target: Dense, label: Tensor) -> str:
    """One row's label in few words."""
    missing, shares = counted(target, [label])
    parts = [f"{missing:.0%} missing"] if missing else []
    if shares:
        parts.insert(0, f"{sum(share > 0 for share in shares.values())} classes")
    elif isinstance(target, DenseContinuous) and missing < 1:
        low, high = label[~label.isnan()].aminmax()
        parts.insert(0, f"{low:.3g} to {high:.3g}" + (f" {target.unit}" if target.unit else ""))
    return ", ".join(parts)


def coloured(target: Dense, label: Tensor) -> Image.Image:
    """One row's label as a picture, grey where there is no value.

    A class has a colour of its own; numbers go from dark to bright, from the least to the largest; a vector's first
    three components are red, green and blue, from -1 to 1.
    """
    valid = target.valid(label[None])[0]
    if isinstance(target, DenseCategorical):
        colours = torch.tensor([hsv_to_rgb(index * GOLDEN % 1, 0.75, 0.9) for index in range(len(target.classes))])
        picture = colours[torch.where(valid, label, 0).long()].movedim(-1, 0)
    elif isinstance(target, DenseContinuous):
        picture = _gradient(torch.where(valid, label, label[valid].min() if valid.any() else 0.0))
    else:
        picture = (torch.nn.functional.pad(label[:3], (0, 0, 0, 0, 0, 3 - len(label[:3]))) + 1) / 2
    shown = torch.where(valid, picture, NONE)
    image: Image.Image = functional.to_pil_image(functional.to_dtype(shown.float(), torch.uint8, scale=True))
    return image


def _gradient(numbers: Tensor) -> Tensor:
    """Numbers [H, W] as colours [3, H, W]."""
    colours = torch.tensor([ImageColor.getrgb(colour) for colour in LOW_TO_HIGH]) / 255
    low, high = numbers.min(), numbers.max()
    place = (numbers - low) / (high - low).clamp_min(torch.finfo(numbers.dtype).tiny) * (len(colours) - 1)
    before = place.long().clamp_max(len(colours) - 2)
    return torch.lerp(colours[before], colours[before + 1], (place - before)[..., None]).movedim(-1, 0)
