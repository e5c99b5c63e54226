"""Sources in, batches of tasks out."""

from __future__ import annotations

import signal
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from datamodules.batch import MultiTaskBatch
from datamodules.errors import DataError
from datamodules.reading.checks import (
    check_classes,
    check_files,
    check_split,
    common_input_shape,
    declared_targets,
    fitted_target,
)
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TimmTransforms, Transforms
from datamodules.sampling import DrawSampler, Pages, Plan, Sampling, Shared, positive
from datamodules.sources import SPLITS, Source, SplitName
from datamodules.sources.table import encoded_alike
from datamodules.splits.folds import Folds, fold_sources


class MultiTaskDataModule(LightningDataModule):
    """Samples the batches of several tasks from one or several sources, sharded over ranks.

    Args:
        sources: Name → where samples come from. Sources may carry different tasks, and the same task more than once.
        sampling: How the rows of a training step are chosen: `Shared` (the default) or `PerTask`.
        eval_batch_size: Rows a batch on each process in validation, test and prediction, which visit every row once.
        on_error: What to do with a row whose image is missing or broken: stop with its name ("raise"), or leave it out
            and report it ("skip"). A task's loss is then still the mean over the rows that were drawn.
        transform: What is done to images: `TimmTransforms` (as the word timm does, with its defaults),
            `TorchvisionTransforms`, or nothing but that bytes are scaled to [0, 1].
        network: timm's name of the backbone, for its transforms; comes from the model.
        folds: Divide the rows for training and validation of every source anew, for cross-validation.
        num_workers: Processes that load batches ahead, on each rank; 0 loads them in the main process.
        seed: Of the order of the rows; `train.py` sets it to `seed_everything`.

    Attributes:
        targets: task → what its label is, with the statistics of the training split.
        input_shape: Shape of one row's input.

    Raises:
        ValueError: A split is empty, a task has no label, an input or a label is bad, a class is not in training,
            sources disagree, or there is no such transform or fold.
    """

    def __init__(
        self,
        sources: dict[str, Source],
        sampling: Sampling | None = None,
        eval_batch_size: int = 256,
        on_error: Literal["raise", "skip"] = "raise",
        transform: Transforms | Literal["timm"] | None = None,
        network: str | None = None,
        folds: Folds | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sampling = sampling or Shared()
        self.eval_batch_size = positive("eval_batch_size", eval_batch_size)
        if num_workers < 0:
            raise DataError("data.num_workers", "must not be negative", num_workers)
        self.num_workers, self.seed = num_workers, seed
        declared = declared_targets(sources)
        sources = encoded_alike(fold_sources(sources, folds, declared) if folds else sources)
        splits = {name: {key: source.split(name) for key, source in sources.items()} for name in SPLITS}
        for name in SPLITS:
            check_split(name, splits[name], declared)
            if on_error == "raise":
                check_files(name, splits[name])
        check_classes(splits, declared)
        training = list(splits["train"].values())
        self.targets = {task: fitted_target(task, target, training) for task, target in declared.items()}
        transforms = TimmTransforms() if transform == "timm" else transform
        readers = {
            name: Reader(transforms.of(name, network) if transforms else None, seed, on_error == "skip", declared)
            for name in SPLITS
        }
        self.input_shape = common_input_shape(splits, readers, declared)
        self.datasets = {name: MultiTaskDataset(splits[name], list(declared), readers[name]) for name in SPLITS}

    def setup(self, stage: str) -> None:
        """Refuse settings of the trainer that the sampler cannot follow.

        Raises:
            ValueError: Accumulation changes under way, the sampler would be replaced, or ranks would be without rows.
        """
        trainer: Any = self.trainer
        if trainer is None:
            return
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
            raise DataError(
                "trainer.callbacks",
                "GradientAccumulationScheduler changes the rows of a step under way; set "
                "trainer.accumulate_grad_batches",
            )
        if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
            raise DataError(
                "trainer.use_distributed_sampler", "would replace the sampler, which shards by itself; set false"
            )
        if trainer.overfit_batches:
            raise DataError("trainer.overfit_batches", "would replace the sampler; set trainer.limit_train_batches")
        rows = {name: len(dataset) for name, dataset in self.datasets.items()}
        rows["train"] = int(self.datasets["train"].labelled.any(dim=0).sum())  # others are not visited in training
        for name, number in rows.items():
            if number < trainer.world_size:
                raise DataError(
                    "trainer.devices",
                    f"split {name!r} must have a row for each process",
                    f"{number} rows for {trainer.world_size} processes",
                )

    def train_batches(self) -> int:
        """Micro-batches an epoch on each process, `trainer.limit_train_batches` applied."""
        return self._limited(len(self._train_plan()))

    def train_dataloader(self) -> DataLoader[MultiTaskBatch]:
        """Batches of the training split, drawn as `sampling` says."""
        return self._loader("train", self._train_plan(), self.train_batches())

    def val_dataloader(self) -> DataLoader[MultiTaskBatch]:
        """Every row of the validation split once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[MultiTaskBatch]:
        """Every row of the test split once."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[MultiTaskBatch]:
        """Every row of the test split once."""
        return self._eval_loader("test")

    def _train_plan(self) -> Plan:
        train = self.datasets["train"]
        return self.sampling.plan(
            train.labelled, train.tasks, self.seed, self._ranks, self._accumulate, limit=self._limited
        )

    def _limited(self, length: int) -> int:
        """Micro-batches of an epoch of `length` that the trainer uses."""
        return limited(length, self.trainer.limit_train_batches if self.trainer else 1.0)

    def _eval_loader(self, split: SplitName) -> DataLoader[MultiTaskBatch]:
        labelled = self.datasets[split].labelled
        rows = np.arange(labelled.shape[1])
        plan = Pages(labelled, lambda epoch: rows, self.eval_batch_size, self._ranks)
        return self._loader(split, plan, len(plan))

    def _loader(self, split: SplitName, plan: Plan, length: int) -> DataLoader[MultiTaskBatch]:
        train = split == "train"
        sampler = DrawSampler(
            plan,
            rank=self.trainer.global_rank if self.trainer else 0,
            ranks=self._ranks,
            accumulate=self._accumulate if train else 1,
            length=length,
            position=self._position if train else lambda: (0, 0),
        )
        return DataLoader(
            self.datasets[split],
            sampler=sampler,
            batch_size=None,  # a draw is a batch already
            collate_fn=_as_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            worker_init_fn=_leave_interrupts_to_the_main_process,
            generator=torch.Generator().manual_seed(self.seed),  # without it, each epoch draws from the global one
        )

    @property
    def _ranks(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _accumulate(self) -> int:
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def _position(self) -> tuple[int, int]:
        """Epoch, and micro-batches of it that a resumed run has behind it."""
        if self.trainer is None:
            return 0, 0
        loop: Any = self.trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
        return epochs.processed, batches.current.ready if epochs.processed < epochs.started else 0


def limited(length: int, limit: float) -> int:
    """What the trainer uses of `length` batches: at most `limit` of them if it is an int, else that part."""
    return min(length, limit) if isinstance(limit, int) else int(length * limit)


def _as_is(batch: Any) -> Any:
    return batch


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
