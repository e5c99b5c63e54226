"""The Gramian of the tasks' gradients layer by layer, where that costs less than the gradients themselves.

A layer with inputs A [R, n] and gradients D_t [R, m] of its outputs has the weight gradients G_t = D_tᵀ A, and
⟨G_s, G_t⟩ = ⟨D_s, (A Aᵀ) D_t⟩. Where R, rows × positions, is small, that is cheaper than T gradients of n·m numbers: a
task's pass then leaves the weight out, and Σ_t w_t G_t is one product. Exact in one process and one micro-batch, since
a sum's Gramian is not the sum of Gramians.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from typing_extensions import override

from app.balancing.engine.costs import rows_pay_pass_by_pass
from app.balancing.engine.gramian_source import GramianSource, kept_or_new
from app.balancing.engine.graph import Graph, Product, products
from app.balancing.engine.jacobian import Jacobian


class LayerGramians(GramianSource):
    """What `Jacobian` is, for one process and one micro-batch, from fewer numbers.

    Args:
        shared: The shared parameters.
        tasks: T'.

    Attributes:
        inputs: What each task's loss is to be differentiated by, once `begin` was called.
    """

    shared: Sequence[nn.Parameter]

    def __init__(self, shared: Sequence[nn.Parameter], tasks: int) -> None:
        super().__init__(shared, tasks)
        self.layers: list[Product] = []
        self.rest = Jacobian([], tasks)
        self.inputs: list[Tensor | GradientEdge] = []

    def begin(self, losses: Sequence[Tensor]) -> None:
        """Find the layers of a step in the graph of its tasks' losses, before any backward pass."""
        self.layers = [x for x in products(Graph(losses), self.shared) if rows_pay_pass_by_pass(x, self.tasks)]
        covered = {id(parameter) for layer in self.layers for parameter in layer.parameters}
        rest = [parameter for parameter in self.shared if id(parameter) not in covered]
        self.rest = kept_or_new(self.rest, Jacobian, rest, self.tasks)
        self.inputs = [*rest, *(layer.edge for layer in self.layers)]
        self.outputs: list[dict[int, Tensor]] = [{} for _ in self.layers]

    def take(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Keep a task's gradients, one for each of `inputs`; None where its loss does not reach it."""
        count = len(self.rest.inputs)
        self.rest.take(task, gradients[:count])
        for layer, outputs, gradient in zip(self.layers, self.outputs, gradients[count:], strict=True):
            if gradient is not None:
                outputs[task] = layer.output_rows(gradient)

    @override
    def gramian(self) -> Tensor:
        gramian = self.rest.gramian()
        for layer, outputs in zip(self.layers, self.outputs, strict=True):
            if outputs:
                reached = torch.tensor(list(outputs))
                rows = torch.stack(list(outputs.values()))  # [reached, R, m]
                part = (layer.kernel() @ rows).flatten(1) @ rows.flatten(1).T
                gramian[reached[:, None], reached] += part.to("cpu", torch.float64)
        return gramian

    @override
    def combine(self, weights: Tensor) -> None:
        self.rest.combine(weights)
        factors = weights.tolist()
        for layer, outputs in zip(self.layers, self.outputs, strict=True):
            if outputs:
                layer.write(sum((factors[task] * rows for task, rows in outputs.items()), start=torch.zeros(())))

    @override
    def clear(self) -> None:
        self.rest.clear()
        self.layers, self.outputs, self.inputs = [], [], []
