"""Experts that all tasks share, and a gate for each task."""

from collections.abc import Sequence

from models.backbones import BackboneBuilder
from models.sharing.experts import ExpertBuilder, Gate
from models.sharing.mixture import MixtureOfExperts


class MMoE(MixtureOfExperts):
    """Multi-gate mixture of experts: task t reads Σ_i softmax(W_t x)_i f_i(x) of E experts f_i.

    Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts" (2018), eq. 4–6.
    x is what is below the experts: the flattened input, or the pooled feature of the stage below them. Every expert
    sees all rows of the batch once. With `one_gate` all tasks read one mixture, the paper's OMoE. A single expert is
    hard sharing.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        experts: int = 4,
        from_stage: int = 0,
        hidden: Sequence[int] | None = None,
        one_gate: bool = False,
    ) -> None:
        """Build the experts and the gates.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            experts: E.
            from_stage: an expert is a backbone's stages from this one on; those below are shared.
            hidden: experts are stacks of linear layers of these widths on a whole backbone instead.
            one_gate: one gate for all tasks, in place of one each.

        Raises:
            ValueError: there is no expert, or no such stage.
        """
        super().__init__(ExpertBuilder(backbone, from_stage, hidden), tasks, experts, Gate, one_gate)
