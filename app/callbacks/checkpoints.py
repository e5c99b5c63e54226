"""The two checkpoints of a run: the best one to use, the last one to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from app.callbacks.non_finite import NonFinite
from app.ranks.collectives import wait_for_all

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # Lightning's names in a checkpoint


class WholeCheckpoint(ModelCheckpoint):
    """A checkpoint that is there whole, or as it was, by the trainer's `WholeCheckpointIO`."""

    def save(self, trainer: Trainer, path: Path) -> None:
        """Write it, and the curves up to here: a run that goes on from it does not write them again. Collective.

        Weights that follow a step that was not finite are not saved: the file of before stays.
        """
        if any(each.spoiled(trainer) for each in trainer.callbacks if isinstance(each, NonFinite)):  # type: ignore[attr-defined]
            return
        trainer.save_checkpoint(path, self.save_weights_only)
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.save()
        wait_for_all()

    def state_dict(self) -> dict[str, Any]:
        """What is saved of the best score; files by their names alone, since a run may be moved."""
        state: dict[str, Any] = super().state_dict()
        paths = {key: Path(state[key]).name for key in PATHS}
        best = {Path(path).name: score for path, score in state["best_k_models"].items()}
        return state | paths | {"best_k_models": best, "dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best score, whose file must be in this run's folder: without it, the best is sought anew."""
        assert self.dirpath is not None
        folder, best = Path(self.dirpath), Path(state_dict["best_model_path"]).name
        if not (best and (folder / best).is_file()):
            return
        paths = {key: str(folder / Path(state_dict[key]).name) if state_dict[key] else "" for key in PATHS}
        scores = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": scores, "dirpath": self.dirpath})

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self.save(trainer, Path(filepath))
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.after_save_checkpoint(proxy(self))


class BestCheckpoint(WholeCheckpoint):
    """`checkpoints/best.ckpt`: where a validation curve was best.

    Args:
        run: The run's folder.
        monitor: Name of the curve.
        higher_is_better: Its direction.
    """

    def __init__(self, run: Path, monitor: str, higher_is_better: bool) -> None:
        super().__init__(
            run / "checkpoints",
            filename="best",
            monitor=monitor,
            mode="max" if higher_is_better else "min",
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Save, if the curve is better; a value that is not finite, or that there is none of, never is."""
        assert self.monitor is not None
        value = monitor_candidates.get(self.monitor)
        if value is None or not value.isfinite():
            return
        super()._save_topk_checkpoint(trainer, monitor_candidates)


class LastCheckpoint(WholeCheckpoint):
    """`checkpoints/last.ckpt`: the end of the last epoch, when everything of it is done and logged, or the beginning.

    Args:
        run: The run's folder.
        every_n_steps: Save after every so many optimizer steps too; one step later where the step is followed by a
            validation, and not at the end of an epoch, which is saved anyway.
    """

    def __init__(self, run: Path, every_n_steps: int | None = None) -> None:
        super().__init__(
            run / "checkpoints", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        self.every_n_steps, self._due = every_n_steps, False

    @property
    def path(self) -> Path:
        """Where it is saved."""
        assert self.dirpath is not None
        return Path(self.dirpath) / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a new run before its first step, whose numbers may not be finite."""
        super().on_train_start(trainer, pl_module)
        if not trainer.ckpt_path and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save(trainer, self.path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time to."""
        loop: Any = trainer.fit_loop.epoch_loop
        if self.every_n_steps is None or trainer.fast_dev_run or loop._should_accumulate():  # type: ignore[attr-defined]
            return
        self._due = self._due or trainer.global_step % self.every_n_steps == 0
        if self._due and between_steps(trainer):
            self.save(trainer, self.path)
            self._due = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        super().on_train_epoch_end(trainer, pl_module)
        self._due = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what is done, if it was the next batch that could not be had, such as for a row that is broken.

        Only between two optimizer steps, where the run can be gone on with exactly; and only in a single process,
        since saving is collective and the other ranks know nothing of the exception.
        """
        loop: Any = trainer.fit_loop.epoch_loop
        done = loop.batch_progress.current
        fetching = trainer.training and not loop.restarting and 0 < done.ready == done.completed
        if isinstance(exception, Exception) and trainer.world_size == 1 and fetching and between_steps(trainer):
            self.save(trainer, self.path)
            rank_zero_info(f"Saved after step {trainer.global_step}; `--ckpt_path last` goes on from {self.path}")


def between_steps(trainer: Trainer) -> bool:
    """Whether an optimizer step has ended and another one is next, so that a checkpoint goes on exactly.

    Lightning leaves out a validation or an end of an epoch that a checkpoint was saved just before.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    if loop._should_accumulate() or loop._is_training_done:
        return False
    return not loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
