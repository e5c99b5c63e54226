"""How large the tasks' gradients are at what they are compared by."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from app.balancing.engine.gradients import gradients_of
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.step import Parameters, Step
from models.errors import ConfigurationError


class SharedNorms:
    """Adds up the tasks' gradients of `Parameters.compared` over a step's micro-batches."""

    def __init__(self) -> None:
        self._rows: Jacobian | None = None

    def take(self, losses: Mapping[int, Tensor], step: Step, parameters: Parameters) -> None:
        """Add a micro-batch's gradients.

        Raises:
            ConfigurationError: A task reaches none of the parameters.
        """
        layer = parameters.compared
        if not layer:
            self._rows = None
            return
        if self._rows is None or not self._rows.is_for(layer, len(step.present)):
            self._rows = Jacobian(layer, len(step.present))
        present = step.present.tolist()
        for task, loss in losses.items():
            gradients = gradients_of(loss, layer, keep=True)
            if all(gradient is None for gradient in gradients):
                raise ConfigurationError(
                    "model.balancer",
                    f"compares tasks at the last shared weight, {', '.join(str(tuple(p.shape)) for p in layer)}, which "
                    f"task number {task} (from 0) does not reach: its head reads a lower stage, so it needs another "
                    "balancer",
                )
            self._rows.take(present.index(task), gradients)

    def norms(self, scale: Tensor) -> Tensor | None:
        """[T'] norms of the gradients over the step and all of its ranks, if any were taken. Collective."""
        if self._rows is None:
            return None
        self._rows.sum_over_ranks()
        norms = self._rows.gramian().diagonal().sqrt().to(scale) / scale
        self._rows.clear()
        return norms
