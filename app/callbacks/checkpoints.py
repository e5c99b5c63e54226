"""The two checkpoints of a run: the best one to use, the last one to go on from."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
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


class LastCheckpoint(ModelCheckpoint):
    """`checkpoints/last.ckpt`: the end of the last epoch, when everything of it is done and logged.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(
            run / "checkpoints", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        )

    @property
    def path(self) -> Path:
        """Where it is saved."""
        assert self.dirpath is not None
        return Path(self.dirpath) / "last.ckpt"
