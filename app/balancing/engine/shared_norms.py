"""How large the tasks' gradients are at what they are compared by."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from app.balancing.engine.gradients import gradients_of
from app.balancing.engine.gramian_source import kept_or_new
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.step import Parameters, Step
from models.errors import ConfigurationError


class SharedNorms:
    """Adds up the tasks' gradients of `Parameters.compared` over a step's micro-batches."""

    def __init__(self) -> None:
        self._jacobian: Jacobian | None = None

    def take(self, losses: Mapping[int, Tensor], step: Step, parameters: Parameters) -> None:
        """Add a micro-batch's gradients.

        Raises:
            ConfigurationError: A task reaches none of the parameters.
        """
        layer = parameters.compared
        if not layer:
            self._jacobian = None
            return
        jacobian = self._jacobian = kept_or_new(self._jacobian, Jacobian, layer, len(step.present))
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
            jacobian.take(present.index(task), gradients)

    def norms(self, scale: Tensor) -> Tensor | None:
        """[T'] norms of the gradients over the step and all of its ranks, if any were taken. Collective."""
        if self._jacobian is None:
            return None
        self._jacobian.sum_over_ranks()
        norms = self._jacobian.gramian().diagonal().sqrt().to(scale) / scale
        self._jacobian.clear()
        return norms
