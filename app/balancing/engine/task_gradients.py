"""The tasks' gradients of the shared parameters, each step in the cheapest exact way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from app.balancing.engine.gradients import all_tasks, each_task
from app.balancing.engine.gramian_source import GramianSource, kept_or_new
from app.balancing.engine.jacobian import Jacobian
from app.balancing.engine.layer_gramians import LayerGramians
from app.balancing.engine.row_gramians import RowGramians
from app.balancing.engine.step import MicroBatch, Parameters
from app.ranks.collectives import several


class TaskGradients:
    """Takes gradients over the micro-batches of a step, and gives their Gramian and their weighted sum.

    The Jacobian always does. One process with one micro-batch needs one pass over activations where the tasks' rows are
    apart, and Gramians layer by layer elsewhere: those of a sum over ranks or micro-batches would need every pair.
    """

    def __init__(self) -> None:
        self._jacobian: Jacobian | None = None
        self._layers: LayerGramians | None = None
        self._one_pass: dict[int, RowGramians] = {}  # number of tasks → what keeps whether their rows mix
        self._taken: GramianSource | None = None

    def take(
        self, losses: Mapping[int, Tensor], micro_batch: MicroBatch, parameters: Parameters, as_jacobian: bool = False
    ) -> None:
        """Add the gradients of a micro-batch's losses; the tasks' own are added to their `.grad`.

        Args:
            losses: Task → loss.
            micro_batch: Where it stands.
            parameters: The shared ones, and each task's own.
            as_jacobian: Whether `jacobian` will be asked for.
        """
        layered = micro_batch.of == 1 and not several() and not as_jacobian
        if layered and self._take_all(losses, micro_batch, parameters):
            return
        present, shared = micro_batch.step.present.tolist(), parameters.shared
        found = self._layers_of(losses, shared, len(present)) if layered else self._jacobian_of(shared, len(present))
        for task, gradients in each_task(losses, found.inputs, parameters.own):
            found.take(present.index(task), gradients)
        self._taken = found

    def _take_all(self, losses: Mapping[int, Tensor], micro_batch: MicroBatch, parameters: Parameters) -> bool:
        """Take all tasks' gradients in one pass; whether that is possible."""
        tasks = len(micro_batch.step.present)
        if not len(losses) == len(micro_batch.rows) == tasks:
            return False
        found = kept_or_new(self._one_pass.get(tasks), RowGramians, parameters.shared, tasks)
        self._one_pass[tasks] = found
        rows = [micro_batch.rows[task] for task in losses]
        possible = found.begin(list(losses.values()), rows, micro_batch.size, tuple(losses))
        if possible:
            found.take(all_tasks(losses, found.inputs, parameters.all_own()))
            self._taken = found
        else:
            found.clear()
        return possible

    def _layers_of(self, losses: Mapping[int, Tensor], shared: Sequence[nn.Parameter], tasks: int) -> LayerGramians:
        """The layers of this step's graph."""
        self._layers = kept_or_new(self._layers, LayerGramians, shared, tasks)
        self._layers.begin(list(losses.values()))
        return self._layers

    def _jacobian_of(self, shared: Sequence[nn.Parameter], tasks: int) -> Jacobian:
        """The Jacobian, whose memory is kept from step to step."""
        self._jacobian = kept_or_new(self._jacobian, Jacobian, shared, tasks)
        return self._jacobian

    def gramian(self) -> Tensor:
        """J Jᵀ [T', T'] over all ranks, in float64 on the CPU. Collective."""
        assert self._taken is not None
        if several():
            self.jacobian.sum_over_ranks()
        return self._taken.gramian()

    @property
    def jacobian(self) -> Jacobian:
        """The Jacobian itself."""
        assert isinstance(self._taken, Jacobian)
        return self._taken

    def combine(self, weights: Tensor) -> None:
        """Write Jᵀ weights [T'] into the shared parameters' `.grad`; what no task has reached keeps None."""
        assert self._taken is not None
        self._taken.combine(weights)

    def clear(self) -> None:
        """Let go of the step."""
        assert self._taken is not None
        self._taken.clear()
