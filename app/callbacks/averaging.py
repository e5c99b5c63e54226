"""Averages of the weights over the steps or epochs of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from app.tasks.decision import Decision
from app.training.module import MultiTaskModule
from app.training.schedulers import total_epochs
from models.errors import ConfigurationError
from models.sharing import Branching
from models.sharing.branching import Groups

Average = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]
AVERAGE = "averaging_state"  # Lightning's name in a checkpoint


class WeightAverage(WeightAveraging):
    """Lightning's averaging of weights, mended.

    Once it has begun, validation and the best checkpoint use the average, as does what tests, predicts or starts from
    any checkpoint of the run; a resumed run goes on with both the average and the weights that are trained.

    Running statistics are averaged as the weights are, so that no pass over the data is needed for them; whole numbers,
    such as counts of batches, are copied. What is frozen stays as it is.

    What is mended: Lightning copies the network before its precision is set, its starting point taken and its device
    known, so that on a GPU it would average on the CPU; it validates and saves the initial weights as long as there is
    no average; it tests the weights that are not averaged after a fit; and its moving average rounds, so that frozen
    weights drift.
    """

    def __init__(self, average: Average) -> None:
        super().__init__(multi_avg_fn=_copying_whole_numbers(average))
        self._loaded: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait.

        Raises:
            ValueError: There is another average, which would be saved in the same place.
        """
        averages = [each for each in trainer.callbacks if isinstance(each, WeightAverage)]  # type: ignore[attr-defined]
        if len(averages) > 1:
            kinds = [type(each).__name__ for each in averages]
            raise ConfigurationError("trainer.callbacks", "must have one average of the weights at most", kinds)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the network, which is now as it is trained."""
        self._average_model = average = AveragedModel(pl_module, use_buffers=True, **self._kwargs)
        if self._loaded:
            average.load_state_dict(self._loaded)
            self._loaded = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Leave it to the kind of average when weights count."""

    @property
    def begun(self) -> bool:
        """Whether there is an average."""
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def follow_split(self, stage: int, groups: Groups, came_from: Mapping[str, str]) -> None:
        """Part the branches of the average, too; see `app.training.splits`."""
        assert self._average_model is not None
        averaged = self._average_model.module
        assert isinstance(averaged, MultiTaskModule)
        assert isinstance(averaged.network.sharing, Branching)
        averaged.network.sharing.split(stage, groups)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        if self.begun:
            self._swap_models(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average where it is, for thresholds that are set by its validation are its own."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with what is trained; it decides as the average does, so that averaging leaves thresholds alone."""
        if self.begun:
            assert self._average_model is not None
            self._swap_models(pl_module)
            for own, average in zip(_decisions(pl_module), _decisions(self._average_model), strict=True):
                own.load_state_dict(average.state_dict())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End with the average. A checkpoint that is evaluated after it is no longer taken apart."""
        if self.begun:
            super().on_train_end(trainer, pl_module)
        self._average_model = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the weights, and what is trained beside it."""
        if self.begun:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with what was trained, and keep the average until the network is on its device."""
        if trainer.training and AVERAGE in checkpoint:
            average = {f"module.{name}": value for name, value in checkpoint["state_dict"].items()}
            self._loaded = average | checkpoint[AVERAGE]
            pl_module.load_state_dict(checkpoint["current_model_state"])


class EMA(WeightAverage):
    """Exponential moving average of the weights, after every optimizer step: average ← decay·average + (1 − decay)·w.

    It begins as the weights after the first step.

    Args:
        decay: The average looks about 1 / (1 − decay) steps back, which should be a small part of the run.

    Raises:
        ValueError: The decay is not within [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigurationError("trainer.callbacks.EMA.decay", "must be in [0, 1)", decay)
        super().__init__(get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the network, and have it averaged after every step."""
        assert isinstance(pl_module, MultiTaskModule)
        super().on_train_start(trainer, pl_module)
        average = self._average_model
        assert average is not None
        pl_module.after_step.add("average", lambda: average.update_parameters(pl_module))


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs, before their validations.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018). There the rate is high
    and constant or cyclic while weights are averaged, which is for `model.lr_scheduler` to say; and there a pass over
    the data takes running statistics anew for the average, which here are averaged.

    Args:
        start_epoch: The first epoch whose weights count, counted from 0; null for when three quarters of
            the run's are over, as in the paper.

    Raises:
        ValueError: The epoch is negative.
    """

    def __init__(self, start_epoch: int | None = None) -> None:
        if start_epoch is not None and start_epoch < 0:
            raise ConfigurationError("trainer.callbacks.SWA.start_epoch", "must not be negative", start_epoch)
        super().__init__(get_swa_multi_avg_fn())  # type: ignore[no-untyped-call]
        self.start_epoch, self._start = start_epoch, 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Work out when to begin.

        Raises:
            ValueError: That is not within the run.
        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        epochs = total_epochs(trainer)
        if self.start_epoch is None and epochs is None:
            raise ConfigurationError("trainer.callbacks.SWA.start_epoch", "must be given for a run without end", "null")
        self._start = self.start_epoch if self.start_epoch is not None else 3 * (epochs or 0) // 4
        if epochs is not None and self._start >= epochs:
            raise ConfigurationError(
                "trainer.callbacks.SWA.start_epoch", f"must be less than the run's {epochs} epochs", self._start
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the weights in, if the epoch ends."""
        ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        if ends and trainer.current_epoch >= self._start:
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)


def _decisions(module: nn.Module) -> list[Decision]:
    return [each for each in module.modules() if isinstance(each, Decision)]


def _copying_whole_numbers(average: Average) -> Average:
    """An average of real numbers that takes whole ones as they are."""

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], number: Any) -> None:
        if averages[0].is_floating_point():
            average(averages, values, number)
        else:
            for each, value in zip(averages, values, strict=True):
                each.copy_(value)

    return update
