"""The tasks' gradients from one backward pass, where every task has rows of its own and rows do not mix.

Then the gradient of the losses' sum with respect to a layer's output holds each task's in its rows, and what a task
gives a parameter is found in them: one backward pass over activations instead of T over the network. Exact in one
process and one micro-batch, as in `app.balancing.engine.layer_gramians`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from typing_extensions import override

from app.balancing.engine.costs import rows_pay_in_one_pass
from app.balancing.engine.gradients import Gradients, gradients_of
from app.balancing.engine.gramian_source import GramianSource
from app.balancing.engine.graph import Graph, Product, Use, products

Kind = tuple[int, tuple[int, ...]]  # a graph's signature and its tasks: rows may mix in some tasks' company alone


class RowGramians(GramianSource):
    """What `Jacobian` is, for tasks with rows of their own, from one backward pass over the sum of their losses.

    Args:
        shared: The shared parameters.
        tasks: T'.

    Attributes:
        inputs: What the sum of the losses is to be differentiated by, once `begin` was called.
    """

    shared: Sequence[nn.Parameter]

    def __init__(self, shared: Sequence[nn.Parameter], tasks: int) -> None:
        super().__init__(shared, tasks)
        self.inputs: list[GradientEdge] = []
        self.layers: list[Product] = []
        self.others: list[Other] = []
        self.outputs: list[Tensor] = []
        self.by_weights: list[tuple[nn.Parameter, Tensor]] = []  # a parameter, and its gradients [T', n]
        self._proven: dict[Kind, set[int]] = {}  # those of its tasks that moved all that they reach, their rows alone
        self._mixing: set[Kind] = set()

    def begin(self, losses: Sequence[Tensor], rows: Sequence[Tensor], batch: int, tasks: tuple[int, ...]) -> bool:
        """Find the layers of a step in the graph of its tasks' losses, before any backward pass.

        Args:
            losses: [T'] losses.
            rows: The rows of each of these tasks in the shared activations, whose first dimension is the batch.
            batch: Number of rows of the batch.
            tasks: Which tasks these are.

        Returns:
            Whether one pass is enough: the tasks' rows are disjoint, each parameter is read by a layer that is known,
            and rows do not mix. The last is also tried, by a backward pass of each loss, until that has moved every
            layer that it reaches of this kind of graph of these tasks.
        """
        everyone = torch.cat(list(rows))
        if len(everyone) > batch or len(everyone) != len(torch.unique(everyone)):
            return False
        self.rows, self.batch, graph = rows, batch, Graph(losses)
        found = None if graph.mixes_rows else _readers(graph, self.shared)
        if found is None:
            return False
        self.layers, self.others = found
        self.inputs = [*(layer.edge for layer in self.layers), *(other.edge for other in self.others)]
        return self._rows_are_apart(losses, (graph.signature, tasks))

    def take(self, gradients: Gradients) -> None:
        """Keep the gradients of the sum of the losses, one for each of `inputs`; None where no loss reaches it."""
        count = len(self.layers)
        reached = [
            (x, gradient) for x, gradient in zip(self.layers, gradients[:count], strict=True) if gradient is not None
        ]
        self.layers, self.outputs = [layer for layer, _ in reached], [gradient for _, gradient in reached]
        for layer, gradient in reached:
            if not rows_pay_in_one_pass(layer, self.tasks):
                self.by_weights += zip(layer.parameters, self._gradients(layer, gradient), strict=True)
        for other, found in zip(self.others, gradients[count:], strict=True):
            for parameter, part in [] if found is None else other.gradients(found):
                self.by_weights.append((parameter, self._sums(part, parameter)))

    @override
    def gramian(self) -> Tensor:
        gramian = torch.zeros(self.tasks, self.tasks, dtype=torch.float64)
        for _, gradients in self.by_weights:
            gramian += (gradients @ gradients.T).to("cpu", torch.float64)
        for layer, gradient in self._by_rows():
            rows = layer.output_rows(gradient)
            pairs = layer.kernel().mul_(rows @ rows.T)
            chosen = self._indicator(len(rows), rows)
            gramian += (chosen @ pairs @ chosen.T).to("cpu", torch.float64)
        return gramian

    @override
    def combine(self, weights: Tensor) -> None:
        for parameter, gradients in self.by_weights:
            parameter.grad = (weights.to(gradients) @ gradients).view_as(parameter)
        for layer, gradient in self._by_rows():
            rows = layer.output_rows(gradient)
            layer.write(rows * (weights.to(rows) @ self._indicator(len(rows), rows))[:, None])

    def _by_rows(self) -> list[tuple[Product, Tensor]]:
        pairs = zip(self.layers, self.outputs, strict=True)
        return [(layer, gradient) for layer, gradient in pairs if rows_pay_in_one_pass(layer, self.tasks)]

    @override
    def clear(self) -> None:
        self.inputs, self.layers, self.others, self.outputs, self.by_weights = [], [], [], [], []

    def _rows_are_apart(self, losses: Sequence[Tensor], kind: Kind) -> bool:
        """Whether every task's loss moves the rows of its own alone."""
        proven = self._proven.setdefault(kind, set())
        missing = [task for task in range(self.tasks) if task not in proven]
        if kind in self._mixing or not missing:
            return kind not in self._mixing
        for task in missing:
            gradients = gradients_of(losses[task], self.inputs, keep=True)
            moved = [gradient for gradient in gradients if gradient is not None]
            if any(self._moves_others(task, number, x) for number, x in enumerate(gradients) if x is not None):
                self._mixing.add(kind)
                return False
            if all(bool(gradient.count_nonzero()) for gradient in moved):
                proven.add(task)
        return True

    def _moves_others(self, task: int, number: int, gradient: Tensor) -> bool:
        """Whether a task's gradient of one of `inputs` is in others' rows, or not laid out in rows."""
        if self._is_by_task(gradient):
            rows, own = gradient.flatten(1), torch.tensor([task], device=gradient.device)
        elif len(gradient) == self.batch or (number < len(self.layers) and len(gradient) % self.batch == 0):
            rows, own = gradient.reshape(self.batch, -1), self.rows[task]
        else:
            return True
        return bool(rows.index_fill(0, own, 0).count_nonzero())

    def _is_by_task(self, gradient: Tensor) -> bool:
        """Whether a gradient [T', ...] is of a parameter that was laid out a row a task, as by `HardSharing`."""
        return len(gradient) == self.tasks != self.batch

    def _indicator(self, count: int, like: Tensor) -> Tensor:
        """[T', count] one where a row × position is the task's."""
        chosen = like.new_zeros(self.tasks, self.batch)
        for task, rows in enumerate(self.rows):
            chosen[task, rows] = 1
        return chosen.repeat_interleave(count // self.batch, dim=1)

    def _gradients(self, layer: Product, gradient: Tensor) -> list[Tensor]:
        """Of each of the layer's parameters the tasks' gradients [T', n]."""
        by_task = []
        for rows in self.rows:
            inputs, outputs = (_rows_of(x, rows, self.batch) for x in (layer.inputs, gradient))
            by_task.append([part.flatten() for part in layer.gradients(inputs, outputs)])
        return [torch.stack(parts) for parts in zip(*by_task, strict=True)]

    def _sums(self, gradient: Tensor, parameter: nn.Parameter) -> Tensor:
        """[T', n] of the gradients that rows, or already tasks, give a parameter."""
        if not self._is_by_task(gradient):
            sums = self._indicator(self.batch, gradient) @ gradient.flatten(1)
            gradient = sums.view(self.tasks, *gradient.shape[1:])
        return torch.stack([part[None].sum_to_size(parameter.shape).flatten() for part in gradient])


def _rows_of(x: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Some rows of the batch in x, whose first dimension is the batch times positions."""
    by_row = x.view(batch, -1, *x.shape[1:])
    first, last = int(rows[0]), int(rows[-1]) + 1
    chosen = by_row[first:last] if last - first == len(rows) else by_row[rows]
    return chosen.flatten(0, 1)


@dataclass
class Other:
    """Reads one or two parameters otherwise than a product does: a norm, or a term added to every row.

    Attributes:
        edge: Where the gradient of its output is found.
        gradients: From that gradient each parameter's, row by row [B, ...].
    """

    edge: GradientEdge
    gradients: Callable[[Tensor], list[tuple[nn.Parameter, Tensor]]]


def _readers(graph: Graph, parameters: Sequence[nn.Parameter]) -> tuple[list[Product], list[Other]] | None:
    """The layers that read the parameters, if every parameter that is reached is read by one that is known."""
    layers = products(graph, parameters)
    covered = {id(parameter) for layer in layers for parameter in layer.parameters}
    by_node: dict[Any, dict[int, nn.Parameter]] = {}
    for parameter in parameters:
        if id(parameter) in covered or not graph.reads(parameter):
            continue
        reader = graph.only_reader(parameter)
        if reader is None or not _is_known(reader):
            return None
        by_node.setdefault(reader[0], {})[reader[1]] = parameter
    return layers, [Other(GradientEdge(node, 0), _gradients_of(node, read)) for node, read in by_node.items()]


def _is_known(reader: Use) -> bool:
    node, place, transposed = reader
    if transposed:
        return False
    match node.name():
        case "NativeGroupNormBackward0" | "NativeLayerNormBackward0" | "ExpandBackward0":
            return True
        case "NativeBatchNormBackward0":
            return not node._saved_training
        case "AddBackward0":
            return place == 0 or node._saved_alpha == 1
    return False


def _gradients_of(node: Any, read: dict[int, nn.Parameter]) -> Callable[[Tensor], list[tuple[nn.Parameter, Tensor]]]:
    """How a gradient [B, ...] of the operation's output gives those of the parameters that it reads, row by row."""
    name = node.name()
    if name in ("ExpandBackward0", "AddBackward0"):
        return lambda gradient: [(parameter, gradient) for parameter in read.values()]
    x = node._saved_input.detach()
    if name == "NativeLayerNormBackward0":
        mean, scale = node._saved_result1, node._saved_result2
    elif name == "NativeGroupNormBackward0":
        each = x.shape[1] // node._saved_group
        mean, scale = (value.repeat_interleave(each, dim=1) for value in (node._saved_result1, node._saved_result2))
    else:
        mean, scale = node._saved_running_mean, (node._saved_running_var + node._saved_eps).rsqrt()

    def gradients(gradient: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        products = gradient * x
        if name != "NativeLayerNormBackward0":  # by channel
            products, gradient = (value.reshape(*x.shape[:2], -1).sum(2) for value in (products, gradient))
        parts = {1: (products - mean * gradient) * scale, 2: gradient}
        return [(parameter, parts[place]) for place, parameter in read.items()]

    return gradients
