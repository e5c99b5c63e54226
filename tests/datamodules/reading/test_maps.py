"""Labels of a value a pixel move with their image, and stay true."""

from pathlib import Path
from typing import Any

import mtan_files
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional._utils import _KERNEL_REGISTRY

from datamodules.multitask import MultiTaskDataModule
from datamodules.reading.maps import RandomScaledCrop
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TimmTransforms, TorchvisionTransforms
from datamodules.sources import NYUv2, TensorSplit
from datamodules.targets import DenseCategorical, DenseContinuous, UnitVectors
from datamodules.targets.maps import ClassMap, DepthMap, InverseDepthMap, Map, VectorMap

TURN = 0.4


def scene(turn: float = TURN) -> tuple[Tensor, dict[str, Tensor]]:
    """A turned wall above a floor, seen straight ahead."""
    arrays = mtan_files.scene(turn)
    image, normal = (torch.from_numpy(arrays[name]).movedim(-1, 0).float() for name in ("image", "normal"))
    depth = torch.from_numpy(arrays["depth"][..., 0]).float()
    return image, {
        "segmentation": torch.from_numpy(arrays["label"]).as_subclass(ClassMap),
        "depth": depth.as_subclass(DepthMap),
        "inverse": (1 / depth).as_subclass(InverseDepthMap),
        "normal": normal.as_subclass(VectorMap),
    }


def transformed(*transforms: v2.Transform, turn: float = TURN) -> tuple[Tensor, dict[str, Tensor]]:
    image, labels = TorchvisionTransforms(list(transforms), []).of("train", None)(*scene(turn))
    return image.as_subclass(Tensor), {task: label.as_subclass(Tensor) for task, label in labels.items()}


def assert_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0])
    for task, label in expected[1].items():
        torch.testing.assert_close(found[1][task], label.as_subclass(Tensor), atol=1e-5, rtol=1e-5)


def test_a_mirrored_scene_is_the_scene_turned_the_other_way() -> None:
    flipped = transformed(v2.RandomHorizontalFlip(1.0))
    assert_same(flipped, scene(-TURN))
    assert not torch.allclose(flipped[1]["normal"], scene()[1]["normal"].as_subclass(Tensor).flip(-1))


def test_an_upside_down_scene_has_a_ceiling() -> None:
    _, labels = transformed(v2.RandomVerticalFlip(1.0))
    assert torch.equal(labels["normal"][:, 0, 0], torch.tensor([0.0, 1.0, 0.0]))
    assert torch.equal(labels["depth"], scene()[1]["depth"].as_subclass(Tensor).flip(0))


@pytest.mark.parametrize("flip", [v2.RandomHorizontalFlip, v2.RandomVerticalFlip])
def test_twice_flipped_is_not_flipped(flip: Any) -> None:
    assert_same(transformed(flip(1.0), flip(1.0)), scene())


def test_normals_fit_the_depth_after_a_flip() -> None:
    """The normal of the wall, worked out from three of its points, is the one of the labels."""
    _, labels = transformed(v2.RandomHorizontalFlip(1.0))
    height, width = labels["depth"].shape
    points = []
    for y, x in ((1, 3), (5, 20), (2, 30)):
        ray = torch.tensor([x - (width - 1) / 2, y - (height - 1) / 2, mtan_files.FOCAL]) / mtan_files.FOCAL
        points.append(ray * labels["depth"][y, x])
    normal = torch.linalg.cross(points[1] - points[0], points[2] - points[0])
    cosine = torch.nn.functional.cosine_similarity(normal, labels["normal"][:, 1, 3], dim=0)
    assert abs(abs(cosine.item()) - 1) < 1e-5


@pytest.mark.parametrize("scale", [1.2, 1.5, 2.0])
def test_scaled_crop_brings_the_camera_nearer(scale: float) -> None:
    torch.manual_seed(3)
    image, labels = transformed(RandomScaledCrop([scale]))
    before, given = scene()
    height, width = before.shape[1:]
    h, w = int(height / scale), int(width / scale)
    y, x = (((torch.arange(size) + 0.5) * part / size).long() for size, part in ((height, h), (width, w)))
    fits = [
        (top, left)
        for top in range(height - h + 1)
        for left in range(width - w + 1)
        if torch.allclose(given["depth"].as_subclass(Tensor)[top + y][:, left + x] / scale, labels["depth"])
    ]
    assert fits, "depth is no part of the given one, divided by the scale"
    rows, columns = (fits[0][0] + y)[:, None], fits[0][1] + x
    assert torch.equal(labels["segmentation"], given["segmentation"].as_subclass(Tensor)[rows, columns])
    assert torch.equal(labels["normal"], given["normal"].as_subclass(Tensor)[:, rows, columns])
    torch.testing.assert_close(labels["inverse"], 1 / labels["depth"])
    assert (image - before[:, rows, columns]).abs().mean() < 0.01
    assert image.shape == before.shape


def test_scale_one_changes_nothing_and_scales_are_drawn_alike() -> None:
    assert_same(transformed(RandomScaledCrop([1.0])), scene())
    nearest = scene()[1]["depth"].max()
    drawn = [round((nearest / transformed(RandomScaledCrop())[1]["depth"].max()).item(), 2) for _ in range(60)]
    assert min(sum(low <= each for each in drawn) for low in (1.0, 1.2, 1.5)) > 8
    with pytest.raises(ValueError, match=r"scales: .*at least 1, found"):
        RandomScaledCrop([0.5])


def test_missing_values_stay_missing_and_are_mixed_with_none() -> None:
    image, labels = scene()
    labels["segmentation"][:, ::2], labels["depth"][:, ::2], labels["normal"][..., ::2] = -1, torch.nan, 0
    transforms = TorchvisionTransforms([RandomScaledCrop([1.5]), v2.RandomHorizontalFlip(1.0)], [])
    _, moved = transforms.of("train", None)(image, labels)
    moved = {task: label.as_subclass(Tensor) for task, label in moved.items()}
    missing = moved["segmentation"] == -1
    assert 0.2 < missing.double().mean() < 0.8
    assert torch.equal(moved["depth"].isnan(), missing)
    lengths = torch.linalg.vector_norm(moved["normal"], dim=0)
    torch.testing.assert_close(lengths, (~missing).float())


def test_resize_and_crop_take_the_nearest_value() -> None:
    _, labels = transformed(v2.Resize((12, 16)))
    given = {task: label.as_subclass(Tensor) for task, label in scene()[1].items()}
    assert torch.equal(labels["depth"], given["depth"][1::2, 1::2])
    assert labels["segmentation"].dtype == torch.int64
    assert torch.equal(transformed(v2.CenterCrop((20, 30)))[1]["normal"], given["normal"][:, 2:-2, 1:-1])
    assert transformed(v2.RandomCrop(10))[1]["normal"].shape == (3, 10, 10)


REFUSED = [
    v2.RandomRotation(10),
    v2.RandomResizedCrop(16),
    v2.RandomAffine(0, translate=(0.5, 0.5)),
    v2.Pad(2),
    v2.CenterCrop(40),
    v2.RandomCrop(40, pad_if_needed=True),
    v2.RandomZoomOut(p=1.0),
    v2.RandomPerspective(p=1.0),
    v2.ElasticTransform(),
    v2.FiveCrop(8),
]


@pytest.mark.parametrize("transform", REFUSED, ids=lambda transform: type(transform).__name__)
def test_what_would_make_labels_wrong_is_refused(transform: v2.Transform) -> None:
    image, labels = scene()
    for task in ("depth", "normal"):
        with pytest.raises(ValueError, match=rf"^data\.transform: {type(transform).__name__} cannot") as refusal:
            TorchvisionTransforms([transform], []).of("train", None)(image, {task: labels[task]})
        assert "\n" not in str(refusal.value)


POLICIES = [v2.AutoAugment, v2.AugMix, v2.RandAugment, v2.TrivialAugmentWide]
WITHIN = [
    lambda policy: v2.RandomApply([v2.ColorJitter(0.1), policy], p=0.01),
    lambda policy: v2.RandomChoice([v2.Compose([policy])]),
    lambda policy: v2.RandomOrder([policy]),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_that_move_the_image_alone_are_refused(policy: Any) -> None:
    image, labels = scene()
    image = v2.functional.to_dtype(image, torch.uint8, scale=True)
    words = rf"^data\.transform: {policy.__name__} moves the image alone, but the label of 'depth' .* a DepthMap$"
    for transform in [policy(), *(within(policy()) for within in WITHIN)]:
        of_train = TorchvisionTransforms([v2.RandomHorizontalFlip(), transform], []).of("train", None)
        with pytest.raises(ValueError, match=words):
            of_train(image, {"depth": labels["depth"]})
        of_train(image, {"depth": torch.tensor(1.0)})  # which does not lie on the image


def test_labels_become_plain_tensors_at_the_end_alone() -> None:
    pure = v2.ToPureTensor()
    assert_same(transformed(v2.RandomHorizontalFlip(1.0), pure), scene(-TURN))
    for early in ([pure, v2.RandomHorizontalFlip(1.0)], [v2.Compose([pure, v2.RandomHorizontalFlip(1.0)])]):
        with pytest.raises(ValueError, match=r"^data\.transform: ToPureTensor must come last: .* 'segmentation' lies"):
            transformed(*early)


def test_classes_may_be_cropped_to_any_size() -> None:
    image, labels = scene()
    only = {"segmentation": labels["segmentation"]}
    moved, found = TorchvisionTransforms([v2.RandomResizedCrop((16, 16))], []).of("train", None)(image, only)
    assert found["segmentation"].shape == moved.shape[1:] == (16, 16)


def test_no_function_of_torchvision_passes_labels_by() -> None:
    """What moves masks moves labels too, or refuses them: a new function would leave them where they were."""
    moving = {each.__name__ for each, kinds in _KERNEL_REGISTRY.items() if tv_tensors.Mask in kinds}
    ours = {each.__name__ for each, kinds in _KERNEL_REGISTRY.items() if Map in kinds}
    assert moving - {"get_size", "to_dtype"} <= ours


def test_colours_leave_labels_alone() -> None:
    image, labels = transformed(v2.ColorJitter(0.5), v2.GaussianBlur(3), v2.ToDtype(torch.float64, scale=True))
    assert not torch.equal(image.float(), scene()[0])
    assert_same((scene()[0], labels), scene())


TARGETS = {"kind": DenseCategorical(("a", "b")), "height": DenseContinuous("m"), "way": UnitVectors()}


def plain() -> TensorSplit:
    """Labels that are tensors and no more, as a user's source gives them."""
    _, labels = scene()
    images = scene()[0][None]
    given = {"kind": labels["segmentation"] // mtan_files.WALL, "height": labels["depth"], "way": labels["normal"]}
    return TensorSplit(images, {task: label.as_subclass(Tensor)[None] for task, label in given.items()})


def test_a_users_dense_labels_move_too() -> None:
    flip = TorchvisionTransforms([v2.RandomHorizontalFlip(1.0)], []).of("train", None)
    read = Reader(flip, targets=TARGETS)(plain(), torch.tensor([0]), torch.tensor([0]))
    mirrored = scene(-TURN)[1]
    torch.testing.assert_close(read.labels["way"][0], mirrored["normal"].as_subclass(Tensor), atol=1e-6, rtol=0)
    torch.testing.assert_close(read.labels["height"][0], mirrored["depth"].as_subclass(Tensor))
    assert {type(label) for label in read.labels.values()} == {Tensor}
    crop = TorchvisionTransforms([RandomScaledCrop([1.5])], []).of("train", None)
    with pytest.raises(ValueError, match=r"not known how the values of a ValueMap change"):
        Reader(crop, targets=TARGETS)(plain(), torch.tensor([0]), torch.tensor([0]))
    timm = TimmTransforms("test_resnet").of("train", None)
    with pytest.raises(ValueError, match="timm's transforms move the image alone"):
        Reader(timm, targets=TARGETS)(plain(), torch.tensor([0]), torch.tensor([0]))


def test_batches_repeat_by_row_and_visit(tmp_path: Path) -> None:
    """Whatever the batch, a row moves alike at the same visit, and otherwise at another; the image with its labels."""
    mtan_files.write_nyuv2(tmp_path)
    transform = TorchvisionTransforms([RandomScaledCrop(), v2.RandomHorizontalFlip()], [])
    data = MultiTaskDataModule({"rooms": NYUv2(str(tmp_path))}, transform=transform)
    dataset = data.datasets["train"]
    everything, zero = torch.arange(9), torch.zeros(9, dtype=torch.int64)
    first = dataset.reader(dataset.splits[0], everything, zero)
    for row in range(9):
        again = dataset.reader(dataset.splits[0], torch.tensor([row]), torch.tensor([0]))
        for task, labels in again.labels.items():
            assert np.array_equal(labels[0].numpy(), first.labels[task][row].numpy(), equal_nan=True)
    other = dataset.reader(dataset.splits[0], everything, zero + 1)
    assert not torch.equal(other.labels["segmentation"], first.labels["segmentation"])
