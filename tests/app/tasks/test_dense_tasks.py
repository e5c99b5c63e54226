"""Losses of tasks with a label a pixel, against loops over the pixels that have one; heads that do not fit."""

from functools import partial

import numpy as np
import pytest
import torch
from scene import Scene
from torch import Tensor, nn

from app.tasks import Task, TaskConfig, task_of
from app.training.module import MultiTaskModule
from datamodules.batch import MultiTaskBatch
from datamodules.targets import Binary, Dense, DenseCategorical, DenseContinuous, UnitVectors
from models.backbones import MLP, LateFusion, LeNet
from models.heads import DeepLabHead, LinearHead, UpsamplingHead

SEGMENTS = DenseCategorical(("a", "b", "c"))
ROWS, HEIGHT, WIDTH = 4, 5, 6
TARGETS: dict[str, Dense] = {"segments": SEGMENTS, "depth": DenseContinuous("m"), "normals": UnitVectors()}


def task(target: Dense, **config) -> Task:
    return task_of("it", target, TaskConfig(**config))


def drawn(target: Dense, rows: int = ROWS, missing: float = 0.4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and labels with missing pixels."""
    draw = torch.Generator().manual_seed(seed)
    size = (rows, HEIGHT, WIDTH)
    outputs = torch.randn(rows, target.outputs, HEIGHT, WIDTH, generator=draw, dtype=torch.float64)
    if isinstance(target, DenseCategorical):
        labels = torch.randint(target.outputs, size, generator=draw)
    elif isinstance(target, DenseContinuous):
        labels = torch.randn(size, generator=draw).double()
    else:
        labels = nn.functional.normalize(torch.randn(rows, 3, HEIGHT, WIDTH, generator=draw).double(), dim=1)
    holes = torch.rand(size, generator=draw) < missing
    return outputs, torch.where(holes if labels.ndim == 3 else holes[:, None], target.missing, labels).to(labels.dtype)


def pixel_loss(output: np.ndarray, label: np.ndarray, target: Dense) -> float | None:
    """Of one pixel, None where it has no label."""
    if isinstance(target, DenseCategorical):
        exponents = np.exp(output)
        return None if label == target.ignore_index else -np.log(exponents[label] / exponents.sum())
    if isinstance(target, DenseContinuous):
        return None if np.isnan(label) else abs(output[0] - label)
    if not label.any():
        return None
    return 1 - output @ label / np.sqrt(output @ output)


@pytest.mark.parametrize("name", TARGETS)
def test_a_row_has_the_mean_of_its_pixels_that_have_a_label(name: str) -> None:
    target = TARGETS[name]
    outputs, labels = drawn(target)
    expected = []
    for output, label in zip(outputs.numpy(), labels.numpy(), strict=True):
        each = [pixel_loss(output[:, y, x], label[..., y, x], target) for y in range(HEIGHT) for x in range(WIDTH)]
        there = [loss for loss in each if loss is not None]
        assert 0 < len(there) < HEIGHT * WIDTH
        expected.append(np.mean(there))
    found = task(target).losses(outputs, labels)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_missing_pixels_have_no_gradient(name: str) -> None:
    target = TARGETS[name]
    outputs, labels = drawn(target)
    labels[2] = target.missing  # as a random crop may leave it
    outputs.requires_grad_()
    losses = task(target).losses(outputs, labels)
    assert losses[2] == 0
    losses.sum().backward()
    valid = target.valid(labels)
    assert torch.equal(outputs.grad.abs().sum(1) > 0, valid)
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("loss", [None, nn.MSELoss(reduction="none")], ids=["own", "user's"])
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_outputs_at_missing_pixels_spoil_no_gradient(name: str, loss: nn.Module | None, value: float) -> None:
    target = TARGETS[name]
    outputs, labels = drawn(target)
    if loss and name == "segments":
        loss = nn.CrossEntropyLoss(reduction="none")
    valid = target.valid(labels)
    spoilt = torch.where(valid[:, None], outputs, value).requires_grad_()
    outputs.requires_grad_()
    for each in (spoilt, outputs):
        task(target, loss=loss).losses(each, labels).sum().backward()
    assert torch.equal(spoilt.grad, outputs.grad)
    assert torch.equal(outputs.grad.abs().sum(1) > 0, valid)


class Logarithm(nn.Module):
    """A loss that has no value at 0 or NaN."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.abs().log() - labels.abs().log()) ** 2 + (outputs / labels).abs()


def test_a_loss_of_a_user_never_sees_what_is_missing() -> None:
    target = TARGETS["depth"]
    outputs, labels = drawn(target)
    outputs.requires_grad_()
    losses = task(target, loss=Logarithm()).losses(outputs, labels)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert outputs.grad.isfinite().all()
    valid = target.valid(labels)
    by_hand = [Logarithm()(out[0][there], row[there]).mean() for out, row, there in zip(outputs, labels, valid)]  # noqa: B905
    torch.testing.assert_close(losses, torch.stack(by_hand))
    vectors = task(TARGETS["normals"], loss=nn.L1Loss(reduction="none"))
    outputs, labels = drawn(TARGETS["normals"])
    there = TARGETS["normals"].valid(labels)
    first = (outputs - labels)[0, :, there[0]].abs().mean()
    torch.testing.assert_close(vectors.losses(outputs, labels)[0], first)
    with pytest.raises(ValueError, match=r"^model\.tasks\.it\.loss: must give one loss a pixel, shape \(4, 5, 6\), "
                       r"found \(4,\); .*$"):  # fmt: skip
        task(target, loss=Whole()).losses(*drawn(target))


class Whole(nn.Module):
    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).abs().mean((1, 2))


def test_class_weights_and_smoothing() -> None:
    outputs, labels = drawn(SEGMENTS)
    weights = [0.5, 2.0, 1.0]
    plain = nn.CrossEntropyLoss(torch.tensor(weights).double(), ignore_index=-1, label_smoothing=0.1, reduction="none")
    expected = plain(outputs, labels).sum((1, 2)) / (labels != -1).sum((1, 2))
    found = task(SEGMENTS, class_weights=weights, label_smoothing=0.1).double().losses(outputs, labels)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"^model\.tasks\.it\.class_weights: must be a list .* found 'balanced'$"):
        task(SEGMENTS, class_weights="balanced")
    with pytest.raises(ValueError, match=r"class_weights: must be 3 numbers"):
        task(SEGMENTS, class_weights=[1.0])
    with pytest.raises(ValueError, match=r"label_smoothing: is not for a target of kind UnitVectors"):
        task(UnitVectors(), label_smoothing=0.1)


def test_predictions_as_files_hold_them() -> None:
    outputs = {name: drawn(target)[0] for name, target in TARGETS.items()}
    (segments,) = task(SEGMENTS).decode(outputs["segments"]).values()
    assert {(each.dtype, each.shape) for each in segments} == {(np.dtype("uint8"), (HEIGHT, WIDTH))}
    assert np.array_equal(segments, outputs["segments"].argmax(1))
    many = DenseCategorical(tuple(map(str, range(300))))
    assert task(many).decode(torch.zeros(1, 300, 2, 2))["it"][0].dtype == np.uint16
    (depth,) = task(TARGETS["depth"]).decode(outputs["depth"].bfloat16()).values()
    assert (depth[0].dtype, depth[0].shape) == (np.dtype("float32"), (HEIGHT, WIDTH))
    (normals,) = task(TARGETS["normals"]).decode(outputs["normals"]).values()
    assert normals[0].shape == (3, HEIGHT, WIDTH)
    assert np.allclose(np.linalg.norm(normals[0], axis=0), 1)


def module(head=None, backbone=partial(LeNet, widths=(4, 6)), targets=TARGETS, shape=(3, 32, 48), **tasks):  # noqa: B008
    return MultiTaskModule(targets, shape, backbone, head=head, tasks=tasks)


def test_each_kind_of_target_has_its_head() -> None:
    both = {**TARGETS, "indoors": Binary()}
    trained = module(targets=both, depth=TaskConfig(head=partial(DeepLabHead, width=8)))
    kinds = {name: type(head) for name, head in trained.network.heads.items()}
    assert kinds == {"segments": UpsamplingHead, "depth": DeepLabHead, "normals": UpsamplingHead, "indoors": LinearHead}
    assert trained.training
    assert all(each.training for each in trained.modules())
    rows = {"segments": torch.tensor([1, 2]), "indoors": torch.tensor([0])}
    outputs = trained(torch.randn(3, 3, 32, 48), rows)
    assert (outputs["segments"].shape, outputs["indoors"].shape) == ((2, 3, 32, 48), (1, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": LinearHead}, r"model\.tasks\.segments\.head: must be a dense one, such as UpsamplingHead or "
         r"DeepLabHead, for a target of kind DenseCategorical, found LinearHead; .*"),
        ({"head": UpsamplingHead, "targets": {"indoors": Binary()}}, r"model\.tasks\.indoors\.head: must be no dense "
         r"one, for a target of kind Binary, found UpsamplingHead; .*"),
        ({"backbone": MLP}, r"model\.tasks\.segments\.head: a dense head needs stages of maps .*, found stage 0 of "
         r"shape \['B', 256\]"),
        ({"backbone": MLP, "shape": (5,)}, r"model\.head: a dense head needs images \(channels, height, width\) as "
         r"inputs, found \(5,\)"),
        ({"backbone": partial(LateFusion, backbones={"image": LeNet}), "shape": {"image": (3, 32, 48)}},
         r"head\.lowest: a dense head reads a stage below the last one of the backbone's 1, found 0"),
    ],
)  # fmt: skip
def test_a_head_that_does_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        module(**options)


def test_a_row_without_a_pixel_counts_in_no_mean_of_an_epoch() -> None:
    trained = module().eval()
    inputs = torch.randn(2, 3, 32, 48)
    labels = {name: torch.full((2, *[3] * (name == "normals"), 32, 48), each.missing) for name, each in TARGETS.items()}
    labels["segments"] = labels["segments"].long()
    labels["segments"][1], labels["normals"][1, 0] = 2, 1.0
    rows = dict.fromkeys(TARGETS, torch.arange(2))
    batch = MultiTaskBatch(inputs, labels, rows, dict.fromkeys(TARGETS, 2), torch.arange(2))
    with torch.no_grad():
        trained.validation_step(batch, 0)
        outputs = trained(inputs, rows)
        losses = {name: each.losses(outputs[name], labels[name]) for name, each in trained.network.tasks.items()}
    values = trained.stages["val"].compute()
    assert {key.split("/")[-1] for key in values} == {"segments", "normals", "total"}
    for name in ("segments", "normals"):
        torch.testing.assert_close(values[f"loss/val/{name}"].float(), losses[name][1])
    assert values["loss/val/total"] == values["loss/val/segments"] + values["loss/val/normals"]


def test_sources_and_tasks_agree_on_the_scene() -> None:
    assert list(Scene().targets) == list(TARGETS)
