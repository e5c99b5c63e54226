"""The network under Lightning: its training step, its optimizer, its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from app.balancing import Balancer, FixedWeights, GradientConfig, Parameters, Update
from app.balancing.engine.gradients import scale_of
from app.measuring.stage import StageMetrics
from app.network.network import BackboneFactory, Network, SharingFactory
from app.ranks.collectives import sum_over_ranks
from app.ranks.running_statistics import RunningStatistics
from app.runs import read_checkpoint, relabelled, stamp
from app.tasks import HeadFactory, TaskConfig
from app.training.after_step import AfterStep
from app.training.learned import with_own
from app.training.optimizer import options_of, restore_options, with_scheduler
from app.training.penalties import penalties_of
from app.training.regularizers import Regularization
from app.training.schedulers import SchedulerFactory, total_steps
from app.training.step import TrainingStep
from app.training.supported import check_level, check_optimizer, check_supported
from app.transfer import FineTuning, InitFrom, LayerConfig, layer_factors, parameter_groups, scaled_rates
from app.transfer.starting_point import StartingPoint
from datamodules.batch import Inputs, MultiTaskBatch
from datamodules.targets import Target
from models.backbones import without_pretrained_weights
from models.backbones.base import Shape
from models.by_name import ModulesByName
from models.regularizers import Regularizer
from models.sharing import HardSharing

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


class MultiTaskModule(LightningModule):
    """Trains a network: one update from the losses of its tasks.

    A task's loss is the mean over the labelled rows of the whole optimizer step: local sums are divided by the batch's
    `counts`, and gradients are summed over ranks and micro-batches (see `app.balancing`), so N ranks or k micro-batches
    give what one large batch gives.

    Callbacks read the attributes below, and act by `run_schedule`, `penalties.add` and `after_step.add` alone.

    Args:
        targets: Task → what its label is; comes from the data.
        input_shape: Shape of one row's input; comes from the data.
        backbone: Turns inputs into features, e.g. `TimmBackbone`, `LeNet` or `MLP`.
        sharing: What the tasks share: `HardSharing` (one trunk), `IndependentNetworks` (nothing), or a scheme between.
        head: Turns a task's features into its prediction: `LinearHead` or `MLPHead`; a label a pixel needs
            `UpsamplingHead` or `DeepLabHead`. Null for the first of each.
        tasks: Task → what is not to follow from its target: weight, loss, metrics, head.
        balancer: How the tasks' losses become one update: a loss weighting such as `DWA`, or a gradient method such
            as `PCGrad`; any aggregator of torchjd, too; null for their sum. Each loss is first multiplied by its
            task's weight.
        gradients: What a gradient method looks at.
        compile: Compile every backbone by `torch.compile`.
        layers: How the layers of the backbone differ in their training.
        init_from: A checkpoint from which a new training takes the weights that fit; or task → one, '*' → the rest's.
        reset_head: Leave the heads in that checkpoint, and begin with new ones.
        reset_layers: Begin with so many of the last layer groups of the backbone initialised anew, pretrained or not.
        optimizer: Any of torch.optim, AdamW if null. It has parameter groups for each layer group and head; vectors
            and scalars, such as biases, have no weight decay.
        lr_scheduler: Any of torch.optim.lr_scheduler, or `WarmupCosine`. A `total_steps` that is left out is worked out
            from the data and the trainer.
        lr_interval: Whether the scheduler counts optimizer steps ("step") or epochs ("epoch").
        regularizers: Name → a term of the objective on weights of several tasks, as `BlockSparse`.

    Raises:
        ValueError: A task is configured that the data does not have, or a task's configuration does not fit it.

    Attributes:
        network: What is trained.
        step: The optimizer step under way, or the last one.
        probabilities: Whether predictions have the probability of every class.
        balancing: Turns its losses into gradients.
        stages: Stage → its metrics.
        layer_factors: Layer → factor of its learning rate, whatever the phase of a schedule.
        fine_tuning: The schedule that is run, if there is one.
        start: Where a new training starts from.
        regularization: The regularizers.
        penalties: Terms of the objective that depend on parameters alone.
        after_step: What follows a step of the optimizer.
    """

    def __init__(
        self,
        targets: dict[str, Target],
        input_shape: Shape,
        backbone: BackboneFactory,
        sharing: SharingFactory = HardSharing,
        head: HeadFactory | None = None,
        tasks: dict[str, TaskConfig] = {},  # noqa: B006  # not None, under which --model.tasks.<task> does not parse
        balancer: Balancer | None = None,
        gradients: GradientConfig = GradientConfig(),  # noqa: B008  # not None, as above
        compile: bool = False,
        layers: LayerConfig = LayerConfig(),  # noqa: B008  # as above
        init_from: InitFrom = None,
        reset_head: bool = False,
        reset_layers: int = 0,
        optimizer: OptimizerFactory | None = None,  # not a class, whose options another class would inherit
        lr_scheduler: SchedulerFactory | None = None,
        lr_interval: Literal["step", "epoch"] = "step",
        regularizers: dict[str, Regularizer] = {},  # noqa: B006  # as above
    ) -> None:
        super().__init__()
        self.network = Network(targets, input_shape, backbone, sharing, head, tasks, layers.coarse)
        if compile:
            self.network.compile_backbones()
        check_level(gradients, self.network)
        features = self.network.shared_features
        self.balancing = Update(balancer or FixedWeights(), gradients, len(targets), features)
        tasks_by_name = self.network.tasks
        self.stages = ModulesByName[StageMetrics]({s: StageMetrics(s, tasks_by_name) for s in ("train", "val", "test")})
        fresh = without_pretrained_weights()(self.network.fresh_sharing)
        groups, other = self.network.groups, partial(relabelled, targets=targets)
        self.start = StartingPoint(init_from, reset_head, reset_layers, groups, fresh, read_checkpoint, other)
        self.layer_factors = layer_factors(list(self.network.layers), layers.decay, self.network.rates)
        self.step, self.probabilities = TrainingStep(self.network.weights), False
        self.regularization = Regularization(regularizers, self.network, self.layer_factors)
        self._forget_callbacks()
        self.optimizer, self.lr_scheduler = torch.optim.AdamW if optimizer is None else optimizer, lr_scheduler
        self.lr_interval = lr_interval
        check_optimizer(self._new_optimizer())

    def _forget_callbacks(self) -> None:
        """Begin without what the callbacks of another training have added."""
        self.penalties, self.after_step = penalties_of(self.network.sharing), AfterStep()
        self.regularization.join(self.penalties, self.after_step, lambda: self.trainer.optimizers[0])
        if self.balancing.scalarizer.looks_again:
            self.after_step.add("second_look", self._look_again)
        self.fine_tuning: FineTuning | None = None

    # The step

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Network.forward`."""
        outputs: dict[str, Tensor] = self.network(inputs, rows)
        return outputs

    def training_step(self, batch: MultiTaskBatch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses, each this batch's part of the mean over the step's labelled rows."""
        losses = self._losses(batch, self._measured(batch, "train"))
        return self.step.take(batch, losses, batch_idx % self.trainer.accumulate_grad_batches == 0, self.device)

    def backward(self, loss: Tensor) -> None:
        """Balance the tasks' losses, without Lightning's division by the number of micro-batches."""
        trainer, step, ends = self.trainer, self.step, self.step_ends()
        scale = scale_of(loss, step.total)
        if ends:
            step.end()
        rows = self.network.sharing.rows_in_trunk(step.batch.rows)
        size = len(step.batch.ids) if rows is step.batch.rows else sum(map(len, rows.values()))
        of = trainer.accumulate_grad_batches
        micro_batch = step.micro_batch(trainer.global_step, trainer.current_epoch, of, ends, rows, size)
        self.balancing.backward(step.release(), scale * of, micro_batch, self._trained())
        if ends and self.balancing.shows:
            self.stages["train"].balance.update(self.balancing.record)
        if ends:
            self._statistics.average()

    def _trained(self) -> Parameters:
        """The parameters that are trained."""
        own = [self.network.task_parameters(name) for name in self.network.tasks]
        compared = self.network.sharing.compared_weights()
        return Parameters(self.network.shared_parameters(), own, compared)

    def _losses(self, batch: MultiTaskBatch, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → this batch's part of the mean over the step's labelled rows, of its sum of losses."""
        return {name: total / batch.counts[name] for name, total in sums.items()}

    def _measured(self, batch: MultiTaskBatch, stage: str) -> dict[str, Tensor]:
        """Task → sum of its losses over the batch's rows; shows them and the predictions to the stage's metrics."""
        network = self.network
        outputs = network(batch.inputs, batch.rows) if batch.rows else {}
        sums = network.losses(batch, outputs)
        labels = batch.targets.items()
        predictions = {name: network.tasks[name].measured(outputs[name].detach(), each) for name, each in labels}
        counts = {name: network.tasks[name].counted(each) for name, each in labels}
        rows = torch.tensor([counts.get(name, 0) for name in network.tasks], device=self.device)
        self.stages[stage].update(self.step.vector(sums, self.device), rows, predictions)
        return sums

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add the penalties' gradients."""
        self.penalties.add_gradients(optimizer, getattr(self.trainer.precision_plugin, "scaler", None))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step at the layers' rates."""
        rates = self.fine_tuning.rates if self.fine_tuning else self.layer_factors
        with scaled_rates(self.trainer.optimizers[0], rates):
            super().optimizer_step(*args, **kwargs)

    @torch.no_grad()
    def _look_again(self) -> None:
        """Show the balancer the losses of the step's batch; no metric sees them and no running statistic moves."""
        batch = self.step.batch
        kept = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        call = partial(torch.func.functional_call, self.network, kept)
        with self.trainer.precision_plugin.forward_context():  # as the first time
            sums = self.network.losses(batch, call((batch.inputs, batch.rows)) if batch.rows else {})
        losses = self.step.vector(self._losses(batch, sums), self.device)
        sum_over_ranks(losses)
        self.balancing.look_again(self.step.weigh(losses))

    def step_ends(self) -> bool:
        """Whether the current micro-batch is the last of its optimizer step."""
        trainer = self.trainer
        return trainer.is_last_batch or (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0

    # Other stages

    def validation_step(self, batch: MultiTaskBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._measured(batch, "val")

    def test_step(self, batch: MultiTaskBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._measured(batch, "test")

    def predict_step(self, batch: MultiTaskBatch, batch_idx: int) -> dict[str, list[Any]]:
        """Every task's predictions of every row of the batch, in the user's own labels and units."""
        if not len(batch.ids):
            return {}
        everything = torch.arange(len(batch.ids), device=batch.ids.device)
        outputs = self.network(batch.inputs, dict.fromkeys(self.network.tasks, everything))
        return self.network.decoded(outputs, self.probabilities)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self.log_dict(self.stages["train"].compute())

    def on_validation_epoch_end(self) -> None:
        """Log the split's means, and show their total to a scheduler that waits for a plateau."""
        values = self.stages["val"].compute(decide=self.trainer.state.fn == "fit" and not self.trainer.sanity_checking)
        if self.trainer.sanity_checking:
            return
        self.log_dict(values)
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(values["loss/val/total"].item())

    def on_test_epoch_end(self) -> None:
        """Log the split's means."""
        self.log_dict(self.stages["test"].compute())

    # Start, schedule and optimizer

    def setup(self, stage: str) -> None:
        """Take the precision on, and refuse what cannot be trained with.

        Raises:
            ValueError: The trainer's settings are not supported.
        """
        if stage == "fit":
            self._forget_callbacks()
        self.balancing.seed = self.trainer.datamodule.seed  # type: ignore[attr-defined]  # set by a connector
        self.balancing.overflows = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        check_supported(self.trainer, self.network.sharing, self.stages.values(), self.balancing)
        # Lightning does so too, but after it has read a checkpoint's weights, which would be rounded to 32 bits.
        self.trainer.precision_plugin.convert_module(self)

    def on_fit_start(self) -> None:
        """Take the starting point, alike on every rank; before this, Lightning does not tell that a run is resumed."""
        if not self.trainer.ckpt_path:
            for line in self.start.apply(self.network, list(self.network.tasks), self.balancing.seed):
                rank_zero_info(line)

    def on_train_start(self) -> None:
        """Switch the gradient synchronisation of DistributedDataParallel off: `backward` does it."""
        self._statistics = RunningStatistics(self.network)
        self.regularization.begin(self.trainer.optimizers[0])
        wrapped: Any = self.trainer.strategy.model
        if wrapped is not self:
            wrapped.require_backward_grad_sync = False

    def on_train_end(self) -> None:
        """Leave the network without what only training needs."""
        self._statistics.close()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what the network takes and gives, and the number of the format."""
        stamp(checkpoint, self.trainer.datamodule.contract)  # type: ignore[attr-defined]  # set by a connector

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Evaluate under any balancer and regularizers, and train under others: what one has learned is its own."""
        checkpoint["state_dict"] = with_own(checkpoint["state_dict"], self.state_dict(), self.trainer.training)

    def run_schedule(self, fine_tuning: FineTuning) -> None:
        """Train the layers as a schedule says."""
        self.fine_tuning = fine_tuning

    def train(self, mode: bool = True) -> MultiTaskModule:
        """Set the mode of everything; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self.fine_tuning:
            self.fine_tuning.set_modes()
        return self

    def configure_optimizers(self) -> Any:
        """The parameter groups of each layer, and one of learned loss weights without decay; none is added later."""
        optimizer = self._new_optimizer()
        self.after_step.follow(optimizer)
        self._options = options_of(optimizer)
        return with_scheduler(optimizer, self.lr_scheduler, self.lr_interval, total_steps(self.trainer))

    def _new_optimizer(self) -> Optimizer:
        groups = parameter_groups(self.network.layers, self.network.mixing_layers)
        if learned := list(self.balancing.parameters()):
            groups.append({"params": learned, "name": "balancer", "layer": "balancer", "weight_decay": 0.0})
        return self.optimizer(groups)

    def configure_restored_optimizer(self) -> None:
        """Let the configuration win over the options of a checkpoint's optimizer; a scheduler keeps what is its own."""
        schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        restore_options(self.trainer.optimizers[0], self._options, schedulers, total_steps(self.trainer))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler, except one that waits for a plateau: validation does that, before a checkpoint is saved."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)
