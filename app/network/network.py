"""The network as a plain module: what is shared, the tasks' heads, and whose parameters are whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from app.network.cascade import Predictions, check_reads, evaluating, read_with_gradient
from app.network.checks import check_channels, check_sharing
from app.network.heads import build_heads
from app.network.layers import head_layer, layers_of
from app.tasks import HeadFactory, Task, TaskConfig, check_columns, task_of
from datamodules.batch import Inputs, MultiTaskBatch
from datamodules.targets import Target
from models.backbones import Backbone, BackboneBuilder, reading_once
from models.backbones.base import Shape
from models.by_name import ModulesByName
from models.errors import ConfigurationError
from models.sharing import HardSharing, Sharing
from models.sharing.base import mixing_layer

RECOMPILATIONS = 64  # all stages count as one function, and each is compiled for training, evaluation and other batches
BackboneFactory = Callable[[Shape], Backbone]
SharingFactory = Callable[[Callable[[], Backbone], list[str]], Sharing]


class Network(nn.Module):
    """Shared features, and a head and a loss a task.

    Args:
        targets: Task → what its label is.
        input_shape: Shape of one row's input, or by modality.
        backbone: Builds the network that turns inputs into features.
        sharing: Builds what the tasks share.
        head: Turns a task's features into its prediction; None for the one of its kind of target.
        tasks: Task → what is not to follow from its target.
        coarse: A layer group for each stage of a backbone, instead of for each block.

    Raises:
        ValueError: A task is configured that there is no target for, a task's configuration does not fit it, or the
            sharing scheme does not keep its contract.

    Attributes:
        layers: Layer → its parameters, from input to output, then `heads.<task>`.
        groups: Layer → names of its parameters in `sharing`.
        mixing_layers: Those of the layers that mix activations.
        rates: Layer → factor of its learning rate, of heads and of layers that mix activations.
        weights: Task → factor of its loss.
        read: Tasks whose predictions other tasks read with their gradient: what is theirs is shared.
        passes_on_features: Whether shared parameters reach the tasks through `shared_features` alone.
        fresh_sharing: Builds another scheme of the same kind, initialised anew.
        hard_shared: Builds another network of the same parts, with hard sharing.
        input_shape: Shape of one row's input, or by modality.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        input_shape: Shape,
        backbone: BackboneFactory,
        sharing: SharingFactory = HardSharing,
        head: HeadFactory | None = None,
        tasks: Mapping[str, TaskConfig] | None = None,
        coarse: bool = False,
    ) -> None:
        super().__init__()
        configured = tasks or {}
        if unknown := set(configured) - set(targets):
            raise ConfigurationError("model.tasks", f"must be among the data's tasks {list(targets)}", sorted(unknown))
        self.tasks = ModulesByName[Task](
            {name: task_of(name, target, configured.get(name, TaskConfig())) for name, target in targets.items()}
        )
        check_columns(self.tasks.values())
        self.input_shape = input_shape
        check_reads(dict(self.tasks.items()))
        self.fresh_sharing = partial(sharing, BackboneBuilder(backbone, input_shape), list(targets))
        with reading_once():
            self.sharing = self.fresh_sharing()
        seen = self.sharing.seen(input_shape)
        self.hard_shared = partial(Network, targets, seen, backbone, head=head, tasks=tasks)
        check_channels(self.sharing, list(targets))
        self.heads = build_heads(self.tasks, self.sharing, input_shape, head)
        self.shared_features = nn.Identity()  # what all tasks read, if the scheme passes on features
        self.groups = self.sharing.layer_groups(coarse)
        heads = {name: [*head.parameters(), *self.tasks[name].parameters()] for name, head in self.heads.items()}
        self.layers = layers_of(self.sharing, self.groups, heads)
        self.mixing_layers = [mixing_layer(name) for name in self.sharing.mixing_weights()]
        self.rates = {head_layer(name): task.config.rate for name, task in self.tasks.items()}
        self.rates |= dict.fromkeys(self.mixing_layers, self.sharing.mixing_rate)
        self.read = read_with_gradient(dict(self.tasks.items()))
        self.passes_on_features = self.sharing.passes_on_features and not self.read
        self.weights = {name: task.config.weight for name, task in self.tasks.items()}
        check_sharing(self.sharing, self.heads, input_shape)

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → outputs [B_t, outputs] of the rows [B_t] that are asked of it.

        One pass through what is shared; where that does not end in features, another for each task that reads others.
        """
        features_of, laid_out = partial(self.sharing, inputs), rows
        if self.sharing.passes_on_features:
            shared = self.shared_features(self.sharing.shared_features(inputs, rows))
            features_of, laid_out = partial(self.sharing.task_features, shared), self.sharing.rows_in_trunk(rows)
        asked = partial(evaluating, self) if self.training else None
        predictions = Predictions(self.tasks, self.heads, rows, laid_out, features_of, asked)
        return {name: predictions.of(name, name) for name in rows}

    def losses(self, batch: MultiTaskBatch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Task → sum of its losses over the batch's rows, of its outputs [B_t, ...], which come from the last pass."""
        targets, terms = batch.targets.items(), self.sharing.take_row_terms()
        sums = {name: self.tasks[name].losses(outputs[name], labels).sum() for name, labels in targets}
        return {name: total + terms[name] if name in terms else total for name, total in sums.items()}

    def decoded(self, outputs: Mapping[str, Tensor], probabilities: bool = False) -> dict[str, list[Any]]:
        """Columns of a table, in the user's own labels and units, of the tasks' outputs [B, ...].

        Args:
            outputs: Task → outputs.
            probabilities: Give the probability of every class, too.
        """
        columns: dict[str, list[Any]] = {}
        for name, each in outputs.items():
            task = self.tasks[name]
            columns |= task.decode(each) | (task.class_probabilities(each) if probabilities else {})
        return columns

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trained parameters that the losses of several tasks reach."""
        read = [parameter for name in self.tasks if name in self.read for parameter in self._predicting(name)]
        return [parameter for parameter in [*self.sharing.shared_parameters(), *read] if parameter.requires_grad]

    def task_parameters(self, name: str) -> list[nn.Parameter]:
        """The trained parameters that a task's loss alone reaches: of the sharing scheme, its head and its loss."""
        own = [*([] if name in self.read else self._predicting(name)), *self.tasks[name].parameters()]
        return [parameter for parameter in own if parameter.requires_grad]

    def _predicting(self, name: str) -> list[nn.Parameter]:
        """What of a task its predictions depend on: its own of the sharing scheme, and its head."""
        return [*self.sharing.task_parameters(name), *self.heads[name].parameters()]

    def compile_backbones(self) -> None:
        """Compile every backbone by `torch.compile`."""
        torch._functorch.config.donated_buffer = False  # the tasks' backward passes share one graph
        torch._dynamo.config.recompile_limit = RECOMPILATIONS
        self.sharing.compile_backbones()
