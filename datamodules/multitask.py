"""Sources in, batches of tasks out."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from datamodules.contract import Contract, contract_in_force
from datamodules.errors import DataError
from datamodules.new_rows.streamed import StreamedFeatures
from datamodules.reading.checks import (
    check_classes,
    check_files,
    check_split,
    common_input,
    declared_targets,
    first_input,
    fitted_target,
    shape_of,
)
from datamodules.reading.dataset import MultiTaskDataset
from datamodules.reading.known import check_shape, taken_targets
from datamodules.reading.loader import BatchLoader, load
from datamodules.reading.reader import Reader
from datamodules.reading.transforms import TimmTransforms, Transforms
from datamodules.sampling import DrawSampler, Pages, Plan, Sampling, Shared, World, at_least_one
from datamodules.sources import SPLITS, Source, Split, SplitName
from datamodules.sources.base import align_sources, fold_sources, joined_columns
from datamodules.splits.folds import Folds


class EvaluationData(LightningDataModule):
    """Gives every row of its splits once, sharded over ranks.

    Args:
        eval_batch_size: Rows a batch on each process.
        num_workers: Processes that load batches ahead, on each rank; 0 loads them in the main process.
        seed: Of the order of the rows.

    Attributes:
        datasets: Split → its rows; "test" also has those to predict.
        contract: What a network that is trained on this data takes and gives.
    """

    datasets: dict[SplitName, MultiTaskDataset]
    contract: Contract

    def __init__(self, eval_batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.eval_batch_size = at_least_one("eval_batch_size", eval_batch_size)
        if num_workers < 0:
            raise DataError("data.num_workers", "must not be negative", num_workers)
        self.num_workers, self.seed = num_workers, seed
        self._predicted: MultiTaskDataset | None = None

    @property
    def world(self) -> World:
        """What batches are drawn for: as the trainer says, or one process and whole epochs where there is none."""
        trainer: Any = self.trainer
        if trainer is None:
            return World()
        return World(
            rank=trainer.global_rank,
            ranks=trainer.world_size,
            accumulate=trainer.accumulate_grad_batches,
            limit=trainer.limit_train_batches,
            position=partial(_position, trainer.fit_loop),
        )

    def val_dataloader(self) -> BatchLoader:
        """Every row of the validation split once."""
        return self._eval_loader(self.datasets["val"])

    def test_dataloader(self) -> BatchLoader:
        """Every row of the test split once."""
        return self._eval_loader(self.datasets["test"])

    def predict_dataloader(self) -> BatchLoader:
        """Every row of the test split once, or of those of `predict_from`."""
        return self._eval_loader(self._predicted or self.datasets["test"])

    def _eval_loader(self, dataset: MultiTaskDataset) -> BatchLoader:
        rows = np.arange(len(dataset))
        world = World(self.world.rank, self.world.ranks)
        plan = Pages(dataset.labelled, lambda epoch: rows, self.eval_batch_size, world.ranks, fewest=1)
        return self._loader(dataset, DrawSampler(plan, world))

    def _loader(self, dataset: MultiTaskDataset, sampler: DrawSampler) -> BatchLoader:
        trainer: Any = self.trainer
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        return load(dataset, sampler, self.num_workers, pin_memory=on_gpu, seed=self.seed)


class MultiTaskDataModule(EvaluationData):
    """Samples the batches of several tasks from one or several sources, sharded over ranks.

    Args:
        sources: Name → where samples come from. Sources may carry different tasks, and the same task more than once.
        sampling: How a step's rows are chosen: `Shared`, `PerTask` or `Successive`; null for `Shared`.
        eval_batch_size: Rows a batch on each process in validation, test and prediction; these visit every row once.
        on_error: What to do with a row whose image is missing or broken: stop with its name ("raise"), or leave it out
            and report it ("skip"). A task's loss is then still the mean over the rows that were drawn.
        transform: What is done to images: timm, `TimmTransforms` or `TorchvisionTransforms`; the word timm means
            `TimmTransforms` with its defaults, and null scales bytes to [0, 1] and does nothing else.
        network: timm's name of the backbone, for its transforms; comes from the model.
        folds: Divide the rows for training and validation of every source anew, for cross-validation.
        num_workers: Processes that load batches ahead, on each rank; 0 loads them in the main process.
        seed: Of the order of the rows; `train.py` sets it to `seed_everything`.

    Attributes:
        targets: task → what its label is, with the statistics of the training split.
        example: One row's input, [1, ...].
        input_shape: Its shape.

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
        super().__init__(eval_batch_size, num_workers, seed)
        self.sampling = sampling or Shared()
        declared, contract = declared_targets(sources), contract_in_force()
        sources = align_sources(fold_sources(sources, folds, declared) if folds else sources)
        splits = {name: {key: source.split(name) for key, source in sources.items()} for name in SPLITS}
        for name in SPLITS:
            check_split(name, splits[name], declared)
            if on_error == "raise":
                check_files(name, splits[name])
        every = [split for of_sources in splits.values() for split in of_sources.values()]
        taken = taken_targets(declared, every, contract) if contract else {}
        fresh = {task: target for task, target in declared.items() if task not in taken}
        check_classes(splits, fresh)
        training = list(splits["train"].values())
        fitted = {task: fitted_target(task, target, training) for task, target in fresh.items()}
        order = contract.targets if contract and contract.whole else declared
        self.targets = {task: (taken | fitted)[task] for task in [*order, *fitted]}
        self.transforms, self.network = TimmTransforms() if transform == "timm" else transform, network
        if self.transforms and contract and contract.whole:
            self.transforms = self.transforms.as_recorded(contract.transform)
        made = {name: self.transforms.of(name, network) if self.transforms else None for name in SPLITS}
        readers = {name: Reader(made[name], seed, on_error == "skip", self.targets) for name in SPLITS}
        self.example = common_input(splits, readers, declared)
        if contract:
            check_shape("data.sources", self.example, contract)
        self.input_shape = shape_of(self.example)
        self.columns = joined_columns(sources.values())
        self.datasets = {name: MultiTaskDataset(splits[name], list(self.targets), readers[name]) for name in SPLITS}

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

    @property
    def contract(self) -> Contract:  # type: ignore[override]  # worked out where it is asked for
        """What a network that is trained on this data takes and gives."""
        transform = self.transforms.recorded(self.network) if self.transforms else {}
        return Contract(self.targets, self.input_shape, self.columns, transform)

    def predict_from(self, name: SplitName | Literal["all"]) -> None:
        """Predict the rows of a split, or of all of them one after the other, read as those of the test are."""
        wanted = SPLITS if name == "all" else (name,)
        parts = [(key, split, self.datasets[split].splits[number]) for split in wanted for number, key in self._sources]
        splits = {f"{key} ({split})" if name == "all" else key: rows for key, split, rows in parts}
        self._predicted = MultiTaskDataset(splits, list(self.targets), self.datasets["test"].reader)

    @property
    def _sources(self) -> list[tuple[int, str]]:
        return list(enumerate(self.datasets["test"].sources))

    def train_batches(self) -> int:
        """Micro-batches an epoch on each process, `trainer.limit_train_batches` applied."""
        world = self.world
        return world.limited(len(self.train_plan(world)))

    def train_plan(self, world: World) -> Plan:
        """What all processes draw together in training."""
        train = self.datasets["train"]
        return self.sampling.plan(
            train.labelled, train.tasks, self.seed, world.ranks, world.accumulate, limit=world.limited
        )

    def train_dataloader(self) -> BatchLoader:
        """Batches of the training split, drawn as `sampling` says."""
        world = self.world
        return self._loader(self.datasets["train"], DrawSampler(self.train_plan(world), world))


class NewRows(EvaluationData):
    """Rows that a trained network has not seen, all of them in one split.

    Args:
        rows: The rows.
        contract: What the network takes and gives.
        key: What a message calls the rows.
        transform: As in training.
        network: timm's name of the backbone.
        on_error: As in training.
        eval_batch_size: Rows a batch on each process.
        num_workers: Processes that load batches ahead, on each rank.
        seed: Of a transform that draws numbers.

    Raises:
        ValueError: The rows are of another shape than those of training.
    """

    def __init__(
        self,
        rows: Split,
        contract: Contract,
        key: str,
        transform: Transforms | Literal["timm"] | None = None,
        network: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        eval_batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(eval_batch_size, 0 if isinstance(rows, StreamedFeatures) else num_workers, seed)
        self.contract, self.targets = contract, dict(contract.targets)
        made = TimmTransforms() if transform == "timm" else transform
        evaluation = made.as_recorded(contract.transform).of("test", network) if made else None
        reader = Reader(evaluation, seed, on_error == "skip", self.targets)
        self.example = first_input(key, rows, reader, self.targets)
        check_shape(key, self.example, contract)
        self.input_shape = contract.input_shape
        self.datasets = {"test": MultiTaskDataset({key: rows}, list(self.targets), reader)}


def _position(loop: Any) -> tuple[int, int]:
    """Epoch, and micro-batches of it that a resumed run has behind it, as Lightning's fit loop counts them."""
    epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    return epochs.processed, batches.current.ready if epochs.processed < epochs.started else 0
