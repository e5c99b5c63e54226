"""N ranks or k micro-batches end where one process with one large batch ends, bit for bit equal among themselves."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Train, slow_but, steps
from torch import Tensor

EXACT = [
    "fit", "--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}",
    "--trainer.precision", "64-true", "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1",
    "--model.optimizer.momentum", "0.9", "--model.backbone.init_args.dropout", "0", "--trainer.max_epochs", "2",
    "--trainer.gradient_clip_val", "1.0", "--trainer.limit_val_batches", "0",
    "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true", "--trainer.callbacks.folder",
]  # fmt: skip
PER_TASK = ["--data.sampling", "PerTask", "--data.sampling.epoch_length", "6", "--data.sampling.periods", "{sum: 3}"]


def run(
    train: Train, train_here: Callable, folder: Path, ranks: int, batch: int, accumulate: int, *options: str
) -> list[Tensor]:
    """Parameters after every micro-batch, [steps, P], for each rank."""
    folder.mkdir()
    several = ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"] if ranks > 1 else []
    size = (
        f"{{left: {batch}, right: {batch}, sum: {batch}, parity: {batch // 4}}}" if "PerTask" in options else str(batch)
    )
    batches = ["--data.sampling.batch_size", size, "--trainer.accumulate_grad_batches", str(accumulate)]
    (train if ranks > 1 else train_here)(*EXACT, str(folder), *options, *several, *batches)
    return [torch.load(folder / f"parameters-{rank}.pt") for rank in range(ranks)]


@pytest.mark.parametrize(
    "options",
    [[], PER_TASK, pytest.param(["--model.sharing", "IndependentNetworks"], marks=pytest.mark.slow)],
    ids=["shared", "per_task", "independent"],
)
def test_ranks_and_micro_batches_equal_one_large_batch(
    train: Train, train_here: Callable, tmp_path: Path, options: list[str]
) -> None:
    (whole,) = run(train, train_here, tmp_path / "whole", 1, 24, 1, *options)
    assert (whole[0] - whole[-1]).abs().max() > 1e-3
    three = [] if options else [(3, 8, 1)]
    for ranks, batch, accumulate in [*three, (1, 8, 3), (2, 4, 3)]:
        folder = tmp_path / f"{ranks}x{batch}x{accumulate}"
        parts = run(train, train_here, folder, ranks, batch, accumulate, *options)
        for part in parts:
            assert torch.equal(part, parts[0])
            assert (part[-1] - whole[-1]).abs().max() <= 1e-9, (ranks, batch, accumulate)


SCHEMES = {
    "cross-stitch": ["CrossStitch", "--model.sharing.rate", "2"],
    "sluice": ["Sluice", "--model.sharing.strength", "0.05", "--model.sharing.rate", "2"],
    "soft": ["SoftSharing", "--model.sharing.strength", "0.05"],
    "trace": ["SoftSharing", "--model.sharing.strength", "0.01", "--model.sharing.norm", "trace"],
    "mmoe": ["MMoE", "--model.sharing.experts", "2"],
    "dselect-k": ["DSelectK", "--model.sharing.experts", "3", "--model.sharing.entropy", "0.1"],
    "dselect-k, fixed": ["DSelectK", "--model.sharing.by_row", "false", "--model.sharing.entropy", "0.1"],
    "film": ["Conditioned", "--model.sharing.descriptor", "learned"],
    "adapters": ["LowRankAdapters", "--model.sharing.rank", "2"],
    "omoe": ["MMoE", "--model.sharing.experts", "2", "--model.sharing.one_gate", "true"],
    "cgc": ["CGC", "--model.sharing.from_stage", "1"],
    "ple": ["PLE", "--model.sharing.levels", "[0, 2]"],
    "mtan": ["MTAN", "--model.sharing.norm", "layer", "--model.backbone", "residual.Residual"],
    "tucker": ["TensorFactorisation", "--model.sharing.from_stage", "1", "--model.sharing.ranks", "{in: 0.5}"],
    "tensor train": ["TensorFactorisation", "--model.sharing.kind", "tt", "--model.sharing.ranks", "{out: 0.5}"],
    "laf": ["TensorFactorisation", "--model.sharing.kind", "laf", "--model.sharing.ranks.tasks", "2"],
}


@pytest.mark.parametrize("scheme", slow_but(SCHEMES, "ple", "soft"))
def test_schemes_on_ranks_and_micro_batches(train: Train, train_here: Callable, tmp_path: Path, scheme: str) -> None:
    options = ["--model.sharing", *SCHEMES[scheme], "--model.balancer", "UPGrad"]
    (whole,) = run(train, train_here, tmp_path / "whole", 1, 24, 1, *options)
    assert (whole[0] - whole[-1]).abs().max() > 1e-3
    for part in run(train, train_here, tmp_path / "two", 2, 4, 3, *options):
        assert (part[-1] - whole[-1]).abs().max() <= 1e-9
    first, second = (torch.load(tmp_path / f"two/parameters-{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)


def test_one_epoch_of_two_ranks_visits_every_row_once(train: Train, tmp_path: Path) -> None:
    train("fit", "--config", str(SMALL), "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.num_workers",
          "1", "--trainer.callbacks+=spies.RecordSteps", "--trainer.callbacks.parameters", "true",
          "--trainer.callbacks.folder", str(tmp_path), "--trainer.max_epochs", "2", "--model.backbone", "TimmBackbone",
          "--model.backbone.name", "resnet10t")  # fmt: skip
    for epoch in range(2):
        rows = [
            row for rank in range(2) for line in steps(tmp_path, rank) if line["epoch"] == epoch for row in line["rows"]
        ]
        assert sorted(rows) == list(range(250))
    first, second = (torch.load(tmp_path / f"parameters-{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)  # running statistics included
    orders = [[line["rows"] for line in steps(tmp_path) if line["epoch"] == epoch] for epoch in range(2)]
    assert orders[0] != orders[1]


def test_evaluation_of_two_ranks_is_that_of_one(
    train: Train, train_here: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    partial = ["--config", str(SMALL), "--data.sources", "{partial: {class_path: partial.PartialDigits}}"]
    train_here("fit", *partial, "--trainer.max_epochs", "1")
    folder = tmp_path / "runs/small/version_0"
    tables, predictions = [], []
    for launch, ranks in ((train_here, ["1"]), (train, ["2", "--trainer.strategy", "ddp"])):
        capfd.readouterr()
        done = launch("test", *partial, "--trainer.devices", *ranks)
        tables.append(capfd.readouterr().out if launch is train_here else done.stdout)
        launch("predict", *partial, "--trainer.devices", *ranks, "--overwrite", "true")
        with (folder / "predictions.csv").open() as file:
            predictions.append(list(csv.DictReader(file)))
    one, two = (table[table.index("┏") :] for table in tables)
    assert one.strip() == two.strip()
    alone, together = predictions
    assert [row["row"] for row in alone] == [row["row"] for row in together] == [str(row) for row in range(40)]
    assert [row["left"] for row in alone] == [row["left"] for row in together]


def test_lists_of_predictions_cannot_be_gathered(train: Train) -> None:
    auroc = "{auroc: {class_path: torchmetrics.classification.BinaryAUROC}}"
    done = train("fit", "--config", str(SMALL), "--model.tasks.parity.metrics", auroc, "--trainer.devices", "2",
                 "--trainer.strategy", "ddp", code=2)  # fmt: skip
    assert "model.tasks.parity.metrics.auroc" in done.stderr
