"""With labels missing, losses, gradients and metrics are those of the labelled rows."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional

from app.training.module import MultiTaskModule
from datamodules.batch import MultiTaskBatch
from datamodules.multitask import MultiTaskDataModule
from datamodules.sampling import Shared
from datamodules.sources import Source, TensorSplit
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel
from models.backbones import MLP

TASKS = ("kind", "alive", "marks", "size")


class Holes(Source):
    """Random rows, a share of whose labels is missing, differently for each task."""

    def __init__(self, rows: int = 90, missing: float = 0.3, never: str = "") -> None:
        self.rows, self.missing, self.never = rows, missing, never
        self.targets = {
            "kind": Categorical(("a", "b", "c")),
            "alive": Binary(),
            "marks": MultiLabel(("x", "y")),
            "size": Continuous("kg"),
        }

    def split(self, name: str) -> TensorSplit:
        draw = torch.Generator().manual_seed(len(name))
        labels = {
            "kind": torch.arange(self.rows) % 3,
            "alive": (torch.rand(self.rows, generator=draw) > 0.5).double(),
            "marks": (torch.rand(self.rows, 2, generator=draw) > 0.5).double(),
            "size": 5 + 3 * torch.randn(self.rows, generator=draw),
        }
        labelled = {task: torch.rand(self.rows, generator=draw) > self.missing for task in TASKS}
        if name == "train" and self.never:
            labelled[self.never][3:] = False
        return TensorSplit(torch.randn(self.rows, 6, generator=draw), labels, labelled)


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def build(source: Source, batch_size: int) -> tuple[MultiTaskModule, list[MultiTaskBatch], TensorSplit]:
    torch.manual_seed(0)
    data = MultiTaskDataModule({"holes": source}, Shared(batch_size))
    module = MultiTaskModule(data.targets, data.input_shape, partial(MLP, hidden=(8,)))
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    return module, list(data.train_dataloader()), data.datasets["train"].splits[0]


def masked_losses(module: MultiTaskModule, split: TensorSplit, rows: Tensor) -> dict[str, Tensor]:
    """Every task's mean loss over the labelled ones of `rows`, by multiplying with a mask, as by hand."""
    inputs, labels = split.__getitems__(rows)
    features = module.network.sharing.backbone(inputs)
    out = {task: module.network.heads[task](features) for task in TASKS}
    size = module.network.tasks["size"].target
    each = {
        "kind": functional.cross_entropy(out["kind"], labels["kind"], reduction="none"),
        "alive": functional.binary_cross_entropy_with_logits(out["alive"][:, 0], labels["alive"], reduction="none"),
        "marks": functional.binary_cross_entropy_with_logits(out["marks"], labels["marks"], reduction="none").mean(1),
        "size": (out["size"][:, 0] - (labels["size"] - size.mean) / size.std) ** 2,
    }
    masks = {task: split.labelled[task][rows].double() for task in TASKS}
    return {task: (each[task] * masks[task]).sum() / masks[task].sum() for task in TASKS}


def gradients(module: MultiTaskModule, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def test_gradients_equal_those_of_a_masked_loss() -> None:
    module, batches, split = build(Holes(), 32)
    for batch in batches:
        assert any(len(rows) < len(batch.ids) for rows in batch.rows.values())
        ours = gradients(module, module.training_step(batch, 0))
        theirs = gradients(module, torch.stack(list(masked_losses(module, split, batch.ids).values())).sum())
        for mine, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)


def test_metrics_and_mean_losses_count_labelled_rows_only() -> None:
    module, batches, split = build(Holes(), 32)
    with torch.no_grad():
        for batch in batches:
            module.training_step(batch, 0)
        values = module.stages["train"].compute()
        everything = torch.arange(len(split))
        for task, loss in masked_losses(module, split, everything).items():
            assert values[f"loss/train/{task}"].item() == pytest.approx(loss.item(), rel=1e-12)
        inputs, labels = split.__getitems__(everything)
        features = module.network.sharing.backbone(inputs)
        right = module.network.heads["kind"](features).argmax(dim=1) == labels["kind"]
        error = module.network.tasks["size"].predictions(module.network.heads["size"](features)) - labels["size"]
    kind, size = split.labelled["kind"], split.labelled["size"]
    assert values["accuracy/train/kind"].item() == pytest.approx((right & kind).sum().item() / kind.sum().item())
    assert values["mae/train/size"].item() == pytest.approx(error[size].abs().mean().item(), rel=1e-6)


def test_a_batch_without_a_label_of_a_task_changes_nothing_of_it() -> None:
    module, batches, _ = build(Holes(never="alive"), 6)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.5)
    without = [batch for batch in batches if "alive" not in batch.rows]
    assert len(without) > 5
    before = [parameter.clone() for parameter in module.network.heads["alive"].parameters()]
    for batch in without:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    for now, then in zip(module.network.heads["alive"].parameters(), before, strict=True):
        assert now.grad is None
        assert torch.equal(now, then)
    values = module.stages["train"].compute()
    assert not [name for name in values if name.endswith("/alive")]
