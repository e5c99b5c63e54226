"""Transforms of torchvision and of timm, on images from files and on tensors."""

import random
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules.reading.transforms import TimmTransforms, TorchvisionTransforms
from datamodules.sources import ImageSplit

LABELS = {"number": torch.tensor(3)}


@pytest.fixture
def photo(tmp_path: Path) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((250, 190), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=95)
    return ImageSplit(tmp_path, ["photo.jpg"], {}).image(0)


def seeded() -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)


@pytest.mark.parametrize("name", ["test_resnet", "efficientnet_lite0", "test_vit.r160_in1k"])
def test_timm_evaluates_as_timm_does(photo: Image.Image, name: str) -> None:
    config = resolve_model_data_config(timm.create_model(name))
    expected = create_transform(**config)(photo)
    for split in ("val", "test"):
        x, labels = TimmTransforms().of(split, name)(photo, LABELS)
        assert torch.equal(x, expected)
        assert labels == LABELS
    assert x.shape == config["input_size"]


AUGMENTATIONS = [
    {},
    {"scale": (0.5, 0.6), "ratio": (1.0, 1.2), "hflip": 0.3, "vflip": 0.4, "color_jitter": [0.1, 0.2, 0.3, 0.4]},
    {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 1.0},
]


@pytest.mark.parametrize("options", AUGMENTATIONS)
def test_timm_trains_as_timm_does(photo: Image.Image, options: dict) -> None:
    config = resolve_model_data_config(timm.create_model("test_resnet"))
    seeded()
    expected = create_transform(**config, is_training=True, **options)(photo)
    seeded()
    x, _ = TimmTransforms(**options).of("train", "test_resnet")(photo, LABELS)
    assert torch.equal(x, expected)


def test_timm_takes_the_size_and_the_crop_that_are_asked_for(photo: Image.Image) -> None:
    whole, _ = TimmTransforms(input_size=(32, 48), crop_pct=1.0).of("val", "test_resnet")(photo, {})
    part, _ = TimmTransforms(input_size=(32, 48), crop_pct=0.5).of("val", "test_resnet")(photo, {})
    assert whole.shape == part.shape == (3, 32, 48)
    assert not torch.equal(whole, part)
    assert TimmTransforms(input_size=20).of("train", "test_resnet")(photo, {})[0].shape == (3, 20, 20)


def test_model_wins_over_the_backbone(photo: Image.Image) -> None:
    x, _ = TimmTransforms("efficientnet_lite0").of("val", "test_resnet")(photo, {})
    assert x.shape == (3, 224, 224)


def test_timm_on_tensors_is_timm_on_files(photo: Image.Image) -> None:
    transform = TimmTransforms().of("val", "test_resnet")
    expected, _ = transform(photo, {})
    pixels = v2.functional.pil_to_tensor(photo)
    assert torch.equal(transform(pixels, {})[0], expected)
    assert torch.equal(transform(pixels.float() / 255, {})[0], expected)
    both, _ = transform({"image": photo, "features": torch.ones(4)}, {})
    assert torch.equal(both["image"], expected)
    assert torch.equal(both["features"], torch.ones(4))


def test_grey_images_stay_one_channel(photo: Image.Image) -> None:
    """A grey image as three equal colours, normalised, differs from ours by the spread of the colours alone."""
    grey = photo.convert("L")
    for options in ({}, {"auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 1.0}):
        assert TimmTransforms(**options).of("train", "efficientnet_lite0")(grey, {})[0].shape == (1, 224, 224)
    transform = TimmTransforms().of("val", "efficientnet_lite0")
    ours, colours = transform(grey, {})[0], transform(grey.convert("RGB"), {})[0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = colours * std.view(3, 1, 1) + mean.view(3, 1, 1)
    torch.testing.assert_close(ours, (pixels[:1] - mean.mean()) / std.mean(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (torch.rand(5), r"\[C, H, W\].*\(5,\)"),
        (torch.rand(4, 8, 8), "1 or 3 channels, found 4"),
        (torch.randn(3, 8, 8) * 9, r"\[0, 1\], found -"),
        (Image.new("RGBA", (8, 8)), "RGBA"),
        ({"features": torch.rand(5)}, "'image', found features"),
    ],
)
def test_timm_refuses_what_is_no_image(sample, words: str) -> None:
    with pytest.raises(ValueError, match=f"^data.transform: .*{words}"):
        TimmTransforms().of("val", "test_resnet")(sample, {})


def test_timm_refuses_labels_that_lie_on_the_image(photo: Image.Image) -> None:
    mask = tv_tensors.Mask(torch.zeros(190, 250))
    with pytest.raises(ValueError, match=r"^data\.transform: .*'road'.*TorchvisionTransforms"):
        TimmTransforms().of("train", "test_resnet")(photo, {"road": mask})


@pytest.mark.parametrize(
    ("options", "network", "words"),
    [
        ({}, None, "TimmBackbone"),
        ({}, "resnet81", "'resnet81'"),
        ({}, "resnet18.nobodys", "'resnet18.nobodys'"),
        ({"auto_augment": "magic"}, "resnet18", "magic"),
        ({"color_jitter": [0.1, 0.2]}, "resnet18", "color_jitter"),
        ({"re_prob": 1.5}, "resnet18", "re_prob: must be a probability, found 1.5"),
    ],
)
def test_timm_refuses_wrong_options(options: dict, network: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.transform.*{words}"):
        TimmTransforms(**options).of("train", network)


def coordinates() -> torch.Tensor:
    """[1, 20, 30] bytes: an image that says of every pixel where it was."""
    return (torch.arange(600) % 251).to(torch.uint8).view(1, 20, 30)


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("transforms", [[v2.RandomHorizontalFlip(1.0)], [v2.RandomCrop(9)], [v2.RandomRotation(90)]])
def test_masks_move_with_their_image(transforms: list, as_file: bool) -> None:
    image = coordinates()
    features = torch.rand(1, 20, 30)  # of the shape of an image, and before it
    sample = {"features": features, "image": v2.functional.to_pil_image(image) if as_file else image}
    labels = {"mask": tv_tensors.Mask(image), "depth": torch.rand(1, 20, 30)}
    moved, moved_labels = TorchvisionTransforms(transforms, []).of("train", None)(sample, labels)
    pixels = v2.functional.pil_to_tensor(moved["image"]) if as_file else moved["image"]
    assert torch.equal(pixels.as_subclass(torch.Tensor), moved_labels["mask"].as_subclass(torch.Tensor))
    assert pixels.shape != image.shape or not torch.equal(pixels.as_subclass(torch.Tensor), image)
    assert torch.equal(moved["features"], features)
    assert torch.equal(moved_labels["depth"], labels["depth"])


def test_evaluation_is_not_training(photo: Image.Image) -> None:
    transforms = TorchvisionTransforms([v2.CenterCrop(50)], [v2.Resize((20, 30))])
    assert transforms.of("train", None)(photo, {})[0].size == (50, 50)
    for split in ("val", "test"):
        assert transforms.of(split, None)(photo, {})[0].size == (30, 20)


def test_torchvision_names_the_class_that_refuses(photo: Image.Image) -> None:
    transform = TorchvisionTransforms([v2.Normalize([0.5], [0.5])], []).of("train", None)
    with pytest.raises(ValueError, match=r"^data\.transform: Normalize .*PIL"):
        transform(photo, {})
    with pytest.raises(ValueError, match=r"\[C, H, W\].*\(5,\)"):
        transform(torch.rand(5), {})
