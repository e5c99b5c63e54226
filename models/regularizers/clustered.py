"""Tasks that are near those of their group, where the groups are known."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.regularizers.base import SmoothRegularizer, cosines, vectors


class Clustered(SmoothRegularizer):
    """λ (ε_M T ‖ā‖² + ε_B Σ_c m_c ‖ā_c − ā‖² + ε_W Σ_c Σ_{t∈c} ‖a_t − ā_c‖²) with groups c of m_c tasks.

    Jacob, Bach & Vert, "Clustered Multi-Task Learning: A Convex Formulation" (2009), eq. 4–6.
    """

    def __init__(
        self,
        groups: list[list[str]],
        strength: float,
        mean: float = 0.0,
        between: float = 0.1,
        within: float = 1.0,
        tasks: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        """Keep the options.

        Args:
            groups: the names of the tasks of each group.
            strength: λ.
            mean: ε_M.
            between: ε_B.
            within: ε_W.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: a factor is negative or not finite, or groups are held together less than all tasks are.
        """
        super().__init__(strength, tasks, layer)
        self.check_strength("within", within)
        if not within >= between >= mean >= 0:
            rule = "must be at least between, which is at least mean, which is at least 0"
            raise ConfigurationError(self.key("within"), rule, f"{within}, {between}, {mean}")
        self.groups, self.mean, self.between, self.within = groups, mean, between, within

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """Number the groups.

        Raises:
            ValueError: a task is in no group, or in several, or is unknown.
        """
        super().start(tasks, shapes)
        if sorted(name for group in self.groups for name in group) != sorted(tasks):
            raise ConfigurationError(self.key("groups"), f"must have each of the tasks {tasks} once", self.groups)
        self.members = [[tasks.index(name) for name in group] for group in self.groups if group]

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        a = vectors(weights)
        mean = a.mean(dim=1, keepdim=True)
        term = self.mean * a.shape[1] * mean.square().sum()
        for members in self.members:
            own = a[:, members]
            centre = own.mean(dim=1, keepdim=True)
            term = term + self.between * len(members) * (centre - mean).square().sum()
            term = term + self.within * (own - centre).square().sum()
        return self.strength * term

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The cosines of the tasks' weights."""
        return {"cosine": cosines(vectors(weights))}
