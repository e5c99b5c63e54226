"""The network, its tasks and its training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from app.balancing import Balancer, FixedWeights, GradientConfig, MicroBatch, Parameters, Step, Update
from app.measuring.stage import StageMetrics
from app.network.heads import Shape, build_heads
from app.ranks.running_statistics import RunningStatistics
from app.tasks import HeadFactory, Task, TaskConfig, check_columns, task_of
from app.training.optimizer import options_of, restore_options, with_scheduler
from app.training.schedulers import SchedulerFactory, total_steps
from app.training.supported import check_supported
from app.transfer import FineTuning, LayerConfig, layer_factors, layers_of, parameter_groups, scaled_rates
from app.transfer.starting_point import StartingPoint
from datamodules.batch import Inputs, MultiTaskBatch
from datamodules.targets import Target
from models.backbones import Backbone, without_pretrained_weights
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing import HardSharing, Sharing

BackboneFactory = Callable[[Shape], Backbone]
BALANCING = "balancing."  # how the names of a balancer's state begin
SharingFactory = Callable[[Callable[[], Backbone], list[str]], Sharing]
OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


class MultiTaskModule(LightningModule):
    """Shared features, a head a task, and one update from the tasks' losses.

    A task's loss is the mean over the labelled rows of the whole optimizer step: local sums are divided by the batch's
    `counts`, and gradients are summed over ranks and micro-batches (see `app.balancing`), so N ranks or k micro-batches
    give what one large batch gives.

    Args:
        targets: Task → what its label is; comes from the data.
        input_shape: Shape of one row's input; comes from the data.
        backbone: The network that turns inputs into features, e.g. `TimmBackbone`, `LeNet` or `MLP`.
        sharing: What the tasks share: `HardSharing` (one trunk) or `IndependentNetworks` (nothing: the single-task
            baseline).
        head: Turns a task's features into its prediction: `LinearHead` or `MLPHead`; a label a pixel needs
            `UpsamplingHead` or `DeepLabHead`. Null for the first of each.
        tasks: Task → what is not to follow from its target: weight, loss, metrics, head.
        balancer: How the tasks' losses, each times its task's weight, become one update: a loss weighting such as
            `DWA`, or a gradient method such as `PCGrad` (any aggregator of torchjd, too); null for their sum.
        gradients: What a gradient method looks at.
        compile: Compile every backbone by `torch.compile`.
        layers: How the layers of the backbone differ in their training.
        init_from: A checkpoint of this program, of any tasks, from which a new training takes the weights that fit.
        reset_head: Leave the heads in that checkpoint, and begin with new ones.
        reset_layers: Begin with so many of the last layer groups of the backbone initialised anew, pretrained or not.
        optimizer: Any of torch.optim; null for AdamW. It has parameter groups for each layer group and head; vectors
            and scalars, such as biases, have no weight decay.
        lr_scheduler: Any of torch.optim.lr_scheduler, or `WarmupCosine`. A `total_steps` that is left out is worked out
            from the data and the trainer.
        lr_interval: Whether the scheduler counts optimizer steps ("step") or epochs ("epoch").

    Raises:
        ValueError: A task is configured that the data does not have, or a task's configuration does not fit it.
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
        init_from: str | None = None,
        reset_head: bool = False,
        reset_layers: int = 0,
        optimizer: OptimizerFactory | None = None,  # not a class, whose options another class would inherit
        lr_scheduler: SchedulerFactory | None = None,
        lr_interval: Literal["step", "epoch"] = "step",
    ) -> None:
        super().__init__()
        if unknown := set(tasks) - set(targets):
            raise ConfigurationError("model.tasks", f"must be among the data's tasks {list(targets)}", sorted(unknown))
        self.tasks = ModulesByName[Task](
            {name: task_of(name, target, tasks.get(name, TaskConfig())) for name, target in targets.items()}
        )
        check_columns(self.tasks.values())
        fresh = partial(sharing, partial(backbone, input_shape), list(targets))
        self.sharing = fresh()
        self.heads = build_heads(self.tasks, self.sharing, input_shape, head)
        if compile:
            torch._functorch.config.donated_buffer = False  # the tasks' backward passes share one graph
            for network in [module for module in self.sharing.modules() if isinstance(module, Backbone)]:
                network.compile()
        self.balancing = Update(balancer or FixedWeights(), gradients, len(targets), self.sharing.shared_features)
        self.stages = ModulesByName[StageMetrics]({s: StageMetrics(s, self.tasks) for s in ("train", "val", "test")})
        heads = {name: [*head.parameters(), *self.tasks[name].parameters()] for name, head in self.heads.items()}
        groups = self.sharing.layer_groups(layers.coarse)
        self.layers = layers_of(self.sharing, groups, heads)
        self.start = StartingPoint(init_from, reset_head, reset_layers, groups, without_pretrained_weights()(fresh))
        rates = {name: task.config.rate for name, task in self.tasks.items()}
        self.layer_factors = layer_factors(list(self.layers), layers.decay, rates)
        self.fine_tuning: FineTuning | None = None  # set by a schedule
        self.optimizer, self.lr_scheduler = optimizer or torch.optim.AdamW, lr_scheduler
        self.lr_interval = lr_interval
        self.step_losses: Tensor
        self.register_buffer("step_losses", torch.zeros(len(targets)), persistent=False)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → outputs [B_t, outputs] of the rows [B_t] that are asked of it; one pass through what is shared."""
        features = self.sharing(inputs, rows)
        return {name: self.heads[name](features[name]) for name in rows}

    def training_step(self, batch: MultiTaskBatch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses, each this batch's part of the mean over the step's labelled rows."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.step_losses.zero_()
        losses = self._losses(batch, self._step(batch, "train"))
        self.step_losses += self._vector(losses)
        weighted = [self.tasks[name].config.weight * loss for name, loss in losses.items()]
        # Where no row could be read, or all that is read is frozen, other ranks and micro-batches go on.
        total = torch.stack([torch.zeros((), device=self.device, requires_grad=True), *weighted]).sum()
        self._batch, self._graph = batch, (dict(zip(losses, weighted, strict=True)), total)
        return total

    def validation_step(self, batch: MultiTaskBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "val")

    def test_step(self, batch: MultiTaskBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "test")

    def predict_step(self, batch: MultiTaskBatch, batch_idx: int) -> dict[str, list[Any]]:
        """Every task's predictions of every row of the batch, in the user's own labels and units."""
        if not len(batch.ids):
            return {}
        everything = torch.arange(len(batch.ids), device=batch.ids.device)
        outputs = self(batch.inputs, dict.fromkeys(self.tasks, everything))
        columns: dict[str, list[Any]] = {}
        for name, task in self.tasks.items():
            columns |= task.decode(outputs[name])
        return columns

    def _losses(self, batch: MultiTaskBatch, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → this batch's part of the mean over the step's labelled rows, of its sum of losses."""
        return {name: total / batch.counts[name] for name, total in sums.items()}

    def _step(self, batch: MultiTaskBatch, stage: str) -> dict[str, Tensor]:
        """Task → sum of its losses over the batch's rows; shows them and the predictions to the stage's metrics."""
        outputs = self(batch.inputs, batch.rows) if batch.rows else {}
        sums, predictions = self._sums(batch, outputs), {}
        for name, labels in batch.targets.items():
            predictions[name] = self.tasks[name].measured(outputs[name].detach(), labels)
        counts = {name: self.tasks[name].counted(labels) for name, labels in batch.targets.items()}
        rows = torch.tensor([counts.get(name, 0) for name in self.tasks], device=self.device)
        self.stages[stage].update(self._vector(sums), rows, predictions)
        return sums

    def _sums(self, batch: MultiTaskBatch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → sum of its losses over the batch's rows."""
        return {name: self.tasks[name].losses(outputs[name], labels).sum() for name, labels in batch.targets.items()}

    def backward(self, loss: Tensor) -> None:
        """Balance the tasks' losses, without Lightning's division by the number of micro-batches."""
        batch, (losses, total) = self._batch, self._graph
        del self._graph
        (scale,) = torch.autograd.grad(loss, total)
        last, several = self.step_ends(), self.trainer.world_size > 1
        if last and several:
            dist.all_reduce(self.step_losses)
        present = torch.tensor([i for i, name in enumerate(self.tasks) if batch.counts[name]])
        step = Step(self.trainer.global_step, self.trainer.current_epoch, present)
        of_step = (self._task_weights() * self.step_losses)[present] if last else None
        self.balancing.backward(
            {i: losses[name] for i, name in enumerate(self.tasks) if name in losses},
            scale * self.trainer.accumulate_grad_batches,
            self._micro_batch(batch, step, of_step),
            self._trained(),
        )
        if last and self.balancing.shows:
            self.stages["train"].balance.update(self.balancing.balance)
        if last and several:
            self._statistics.average()

    def _micro_batch(self, batch: MultiTaskBatch, step: Step, losses: Tensor | None) -> MicroBatch:
        """Where a batch stands in a step, and which rows of the shared activations are each task's."""
        rows = self.sharing.rows_in_trunk(batch.rows)
        size = len(batch.ids) if rows is batch.rows else sum(map(len, rows.values()))
        by_number = {i: rows[name] for i, name in enumerate(self.tasks) if name in rows}
        return MicroBatch(step, self.trainer.accumulate_grad_batches, losses, by_number, size)

    def _task_weights(self) -> Tensor:
        """The configured factors of the tasks' losses, [T]."""
        return torch.tensor([task.config.weight for task in self.tasks.values()]).to(self.step_losses)

    def _trained(self) -> Parameters:
        """The parameters that are trained."""
        own = [[p for p in self._own(name) if p.requires_grad] for name in self.tasks]
        return Parameters([p for p in self.sharing.shared_parameters() if p.requires_grad], own)

    def _own(self, name: str) -> list[nn.Parameter]:
        """The parameters that a task's loss alone reaches."""
        return [*self.sharing.task_parameters(name), *self.heads[name].parameters(), *self.tasks[name].parameters()]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step at the layers' rates; then show the batch's losses once more to a balancer that asks for them."""
        rates = self.fine_tuning.rates if self.fine_tuning else self.layer_factors
        with scaled_rates(self.trainer.optimizers[0], rates):
            super().optimizer_step(*args, **kwargs)
        if self.balancing.scalarizer.looks_again:
            self._look_again()

    @torch.no_grad()
    def _look_again(self) -> None:
        """Take the losses of the step's batch once more; no metric sees them and no running statistic moves."""
        batch = self._batch
        kept = {name: buffer.clone() for name, buffer in self.named_buffers()}
        call = partial(torch.func.functional_call, self, kept)
        with self.trainer.precision_plugin.forward_context():  # as the first time
            sums = self._sums(batch, call((batch.inputs, batch.rows)) if batch.rows else {})
        losses = self._vector(self._losses(batch, sums))
        if self.trainer.world_size > 1:
            dist.all_reduce(losses)
        self.balancing.look_again(losses * self._task_weights())

    def setup(self, stage: str) -> None:
        """Take the precision on, and refuse what cannot be trained with.

        Raises:
            ValueError: The trainer's settings are not supported.
        """
        self.balancing.seed = self.trainer.datamodule.seed  # type: ignore[attr-defined]  # set by a connector
        self.balancing.overflows = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        check_supported(self.trainer, self.stages.values(), self.balancing)
        # Lightning does so too, but after it has read a checkpoint's weights, which would be rounded to 32 bits.
        self.trainer.precision_plugin.convert_module(self)

    def train(self, mode: bool = True) -> MultiTaskModule:
        """Set the mode of everything; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self.fine_tuning:
            self.fine_tuning.set_modes()
        return self

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Evaluate under any balancer: what it has learned serves training alone."""
        if not self.trainer.training:
            others = {name: x for name, x in checkpoint["state_dict"].items() if not name.startswith(BALANCING)}
            own = {name: x for name, x in self.state_dict().items() if name.startswith(BALANCING)}
            checkpoint["state_dict"] = others | own

    def on_fit_start(self) -> None:
        """Take the starting point, alike on every rank; before this, Lightning does not tell that a run is resumed."""
        for line in [] if self.trainer.ckpt_path else self.start.apply(self, list(self.tasks), self.balancing.seed):
            rank_zero_info(line)

    def on_train_start(self) -> None:
        """Switch the gradient synchronisation of DistributedDataParallel off: `backward` does it."""
        if self.trainer.world_size > 1:
            wrapped: Any = self.trainer.strategy.model
            wrapped.require_backward_grad_sync = False
            self._statistics = RunningStatistics(self)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self.log_dict(self.stages["train"].compute())

    def on_validation_epoch_end(self) -> None:
        """Log the split's means, and show their total to a scheduler that waits for a plateau."""
        values = self.stages["val"].compute()
        if self.trainer.sanity_checking:
            return
        self.log_dict(values)
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(values["loss/val/total"].item())

    def on_test_epoch_end(self) -> None:
        """Log the split's means."""
        self.log_dict(self.stages["test"].compute())

    def configure_optimizers(self) -> Any:
        """The parameter groups of each layer, and one for learned loss weights; none is added later."""
        groups = parameter_groups(self.layers)
        if learned := list(self.balancing.parameters()):
            name = {"name": "balancer", "layer": "balancer", "weight_decay": 0.0}  # decay would balance too
            groups.append({"params": learned} | name)
        optimizer = self.optimizer(groups)
        self._options = options_of(optimizer)
        return with_scheduler(optimizer, self.lr_scheduler, self.lr_interval, total_steps(self.trainer))

    def configure_restored_optimizer(self) -> None:
        """Let the configuration win over the options of a checkpoint's optimizer; a scheduler keeps what is its own."""
        schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        restore_options(self.trainer.optimizers[0], self._options, schedulers, total_steps(self.trainer))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a scheduler, except one that waits for a plateau: validation does that, before a checkpoint is saved."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def step_ends(self) -> bool:
        """Whether the current micro-batch is the last of its optimizer step."""
        trainer = self.trainer
        return trainer.is_last_batch or (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0

    def _vector(self, values: dict[str, Tensor]) -> Tensor:
        """One detached number a task, [T], zero for those that `values` lacks."""
        zero = torch.zeros((), device=self.device)
        return torch.stack([values[name].detach() if name in values else zero for name in self.tasks])
