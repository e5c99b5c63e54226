"""What is done to images between their files and the network."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.errors import DataError
from datamodules.reading.reader import Transform
from datamodules.sources import SplitName

IMAGE = "image"  # the modality that holds the image, where an input is a dict
IMAGE_ALONE = (v2.AugMix, v2.AutoAugment, v2.RandAugment, v2.TrivialAugmentWide)  # they rotate or shear it


class Transforms(ABC):
    """What is done to the images of each split."""

    @abstractmethod
    def of(self, split: SplitName, network: str | None) -> Transform:
        """The transform (sample, labels) → (sample, labels) of a split's rows.

        A sample is an image (PIL, or a tensor [C, H, W]) or a dict with one as `image`. What is random draws from the
        global generators of torch, NumPy or Python; they are seeded for each row and visit.

        Args:
            split: "train", where it may be random, or "val" or "test".
            network: timm's name of the backbone; None if it is none of timm's.

        Raises:
            ValueError: There is no transform for this network, or an option is wrong.
        """

    @abstractmethod
    def recorded(self, network: str | None) -> dict[str, Any]:
        """What is done for validation and test, as plain values: `mean`, `std`, `interpolation` and what else there is.

        Raises:
            ValueError: There is no transform for this network.
        """

    def as_recorded(self, record: Mapping[str, Any]) -> Transforms:
        """These transforms, for validation and test as another one recorded them of the same configuration."""
        return self


class TorchvisionTransforms(Transforms):
    """Transforms of torchvision.transforms.v2, or a user's own subclasses of its `Transform`.

    Labels that lie on the image move with it: masks (`torchvision.tv_tensors.Mask`), and labels of a value a pixel
    (`datamodules.targets.maps`), where flips, crops within the image and `Resize` are right, `RandomScaledCrop` brings
    the camera nearer, and what would make them wrong is refused. Resizing alone leaves depth as it is: the same view on
    other pixels. Beside labels that lie on the image, what would move the image alone is refused: policies such as
    `RandAugment`, and `ToPureTensor` anywhere but at the end. Other labels and other modalities stay as they are. In
    YAML an item is a class by its name, with its arguments:

        transform:
          class_path: TorchvisionTransforms
          init_args:
            train:
              - {class_path: RandomResizedCrop, init_args: {size: [96, 96], scale: [0.5, 1.0]}}
              - RandomHorizontalFlip
            eval:
              - {class_path: Resize, init_args: {size: [96, 96], interpolation: bicubic}}

    Interpolations are written in small letters. Inside other transforms (`RandomApply`) a class needs its full path,
    torchvision.transforms.v2.GaussianBlur. Images in files arrive as PIL images; what works on tensors alone comes
    after `ToImage`, and `Normalize` also after {class_path: ToDtype, init_args: {dtype: torch.float32, scale: true}}.
    What ends as bytes is scaled to [0, 1].

    Args:
        train: For the training split, one after the other.
        eval: For the validation and test splits.
    """

    def __init__(self, train: list[v2.Transform], eval: list[v2.Transform]) -> None:
        self.train, self.eval = train, eval

    def of(self, split: SplitName, network: str | None) -> Transform:
        """`train` or `eval`, one after the other."""
        return partial(_one_by_one, self.train if split == "train" else self.eval)

    def recorded(self, network: str | None) -> dict[str, Any]:
        """Each of `eval` as it shows itself, and what the last of them says of itself under usual names."""
        known = {
            name: _plain(value)
            for transform in _with_inner(self.eval)
            for name in ("size", "interpolation", "mean", "std")
            if (value := getattr(transform, name, None)) is not None
        }
        return {"steps": [str(transform) for transform in self.eval], **known}


class TimmTransforms(Transforms):
    """The transforms that timm has for a network: mean, std, size, interpolation and crop as for its weights.

    They are `timm.data.create_transform`'s, options under timm's names with timm's defaults. They work on images of 8
    bits: a float tensor in [0, 1] is rounded to these. A grey image stays one channel; its mean and std are the means
    of those of the three colours. Labels that lie on the image, such as masks, cannot move with it.

    Args:
        model: timm's name of the network whose transforms these are; the backbone's by default.
        input_size: Height and width, one number if equal; the network's own by default.
        crop_pct: Part of the resized image that validation and test see; the network's own by default.
        scale: Range of the area of the random crop, as part of the image; (0.08, 1) by default.
        ratio: Range of its width / height; (3/4, 4/3) by default.
        hflip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        color_jitter: Strength of random brightness, contrast and saturation, or one number each and one for the hue.
            Off where `auto_augment` is on.
        auto_augment: A policy, as rand-m9-mstd0.5-inc1, original or augmix-m5-w4-d2.
        re_prob: Probability of random erasing.
    """

    def __init__(
        self,
        model: str | None = None,
        input_size: int | tuple[int, int] | None = None,
        crop_pct: float | None = None,
        scale: tuple[float, float] | None = None,
        ratio: tuple[float, float] | None = None,
        hflip: float = 0.5,
        vflip: float = 0.0,
        color_jitter: float | list[float] | None = 0.4,
        auto_augment: str | None = None,
        re_prob: float = 0.0,
    ) -> None:
        for option, probability in {"hflip": hflip, "vflip": vflip, "re_prob": re_prob}.items():
            if not 0 <= probability <= 1:
                raise DataError(f"data.transform.{option}", "must be a probability", probability)
        self.model = model
        self.record: Mapping[str, Any] = {}
        self.overrides: dict[str, Any] = {
            key: value for key, value in {"input_size": input_size, "crop_pct": crop_pct}.items() if value is not None
        }
        self.augmentation: dict[str, Any] = {
            "scale": scale,
            "ratio": ratio,
            "hflip": hflip,
            "vflip": vflip,
            "color_jitter": color_jitter,
            "auto_augment": auto_augment,
            "re_prob": re_prob,
        }

    def of(self, split: SplitName, network: str | None) -> Transform:
        """The training or evaluation transform that timm has for the network."""
        name = self.model or network
        if name is None:
            raise DataError(
                "data.transform",
                "timm's transforms are those of a network of timm; model.backbone must be a "
                "TimmBackbone with a name, or data.transform.model name one",
                "neither",
            )
        config = self._config(name) if split == "train" or not self.record else dict(self.record)
        grey = {key: (float(np.mean(config[key])),) for key in ("mean", "std")}
        options = self.augmentation if split == "train" else {}
        try:
            pipelines = {
                mode: create_transform(**{**config, **colours}, is_training=split == "train", **options)
                for mode, colours in {"RGB": {}, "L": grey}.items()
            }
        except (AssertionError, ValueError) as error:  # as timm and torchvision raise for a wrong option
            raise DataError("data.transform", "timm must know the options", f"{options}: {error}") from error
        return partial(_by_timm, pipelines)

    def recorded(self, network: str | None) -> dict[str, Any]:
        """What timm says of the network's images, and what is said otherwise, under timm's names."""
        name = self.model or network
        return {} if name is None else {key: _plain(value) for key, value in self._config(name).items()}

    def as_recorded(self, record: Mapping[str, Any]) -> Transforms:
        """Another version of timm may say something else of the same network."""
        transforms = copy.copy(self)
        transforms.record = record
        return transforms

    def _config(self, name: str) -> dict[str, Any]:
        return {**_data_config(name), **self.overrides}


def _plain(value: Any) -> Any:
    """Numbers, text, and tuples of them; enumerations, as torchvision has for interpolations, by their names."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value if isinstance(value, str | int | float) else str(getattr(value, "value", value))


def _data_config(name: str) -> dict[str, Any]:
    """What timm says of the images that a network was trained with; nothing is built or downloaded."""
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag behind a known name
        config = None
    if config is None:
        raise DataError("data.transform", "the network must be one of timm's", repr(name))
    resolved: dict[str, Any] = resolve_data_config(pretrained_cfg=asdict(config))  # type: ignore[no-untyped-call]
    return resolved


def _one_by_one(transforms: list[Any], sample: Any, labels: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    sample = _on_image(_as_image, sample)
    moving = {task: label for task, label in labels.items() if isinstance(label, tv_tensors.TVTensor)}
    if moving:
        _check_moving(transforms, moving)
    for transform in transforms:
        try:
            if moving:
                sample, moving = transform(sample, moving)
            else:  # several times faster than beside labels that stay as they are
                sample = transform(sample)
        except (RuntimeError, TypeError, ValueError) as error:  # as torchvision raises for what it cannot transform
            raise DataError("data.transform", f"{type(transform).__name__} cannot transform it: {error}") from error
    return sample, labels | moving


def _check_moving(transforms: Sequence[Any], labels: dict[str, Tensor]) -> None:
    """Refuse what would move the image and leave the labels that lie on it."""
    task, label = next(iter(labels.items()))
    for transform in _with_inner(transforms):
        where = f"data.transform: {type(transform).__name__}"
        lies = f"but the label of {task!r} lies on it, a {type(label).__name__}"
        if isinstance(transform, IMAGE_ALONE):
            raise DataError(f"{where} moves the image alone, {lies}")
        if isinstance(transform, v2.ToPureTensor) and transform is not transforms[-1]:
            raise DataError(f"{where} must come last", f"what follows would move the image alone, {lies}")


def _with_inner(transforms: Sequence[Any]) -> Iterator[Any]:
    """The transforms, and those within them, as of `RandomApply`."""
    for transform in transforms:
        yield transform
        yield from _with_inner(getattr(transform, "transforms", ()))


def _by_timm(
    pipelines: dict[str, Callable[[Image.Image], Tensor]], sample: Any, labels: dict[str, Tensor]
) -> tuple[Any, dict[str, Tensor]]:
    for task, label in labels.items():
        if isinstance(label, tv_tensors.TVTensor):
            raise DataError(
                "data.transform",
                f"timm's transforms move the image alone, but the label of {task!r} lies on it, a "
                f"{type(label).__name__}; take TorchvisionTransforms",
            )

    def transformed(image: Any) -> Tensor:
        image = _as_pil(_as_image(image))
        if image.mode not in pipelines:
            raise DataError("data.transform", "timm's transforms take RGB and grey (L) images", image.mode)
        return pipelines[image.mode](image)

    return _on_image(transformed, sample), labels


def _on_image(fn: Callable[[Any], Any], sample: Any) -> Any:
    """`sample` with `fn` applied to its image."""
    if not isinstance(sample, dict):
        return fn(sample)
    if IMAGE not in sample:
        raise DataError("data.transform", f"an input must have an image as {IMAGE!r}", ", ".join(sample))
    return {**sample, IMAGE: fn(sample[IMAGE])}


def _as_image(image: Any) -> Image.Image | tv_tensors.Image:
    """`image` as torchvision knows it from other tensors."""
    if isinstance(image, Image.Image):
        return image
    tensor = torch.as_tensor(image)
    if tensor.ndim != 3:
        raise DataError("data.transform", "an input must be an image [C, H, W]", f"the shape {tuple(tensor.shape)}")
    return tv_tensors.Image(tensor)


def _as_pil(image: Image.Image | tv_tensors.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if len(image) not in (1, 3):
        raise DataError("data.transform", "timm's transforms take images of 1 or 3 channels", len(image))
    if image.is_floating_point() and not 0 <= image.min() <= image.max() <= 1:
        low, high = image.min().item(), image.max().item()
        raise DataError("data.transform", "timm's transforms take images in [0, 1]", f"{low:.3g} to {high:.3g}")
    picture: Image.Image = functional.to_pil_image(functional.to_dtype(image, torch.uint8, scale=True))
    return picture
