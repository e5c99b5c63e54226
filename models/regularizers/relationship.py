"""Tasks whose relation is learned."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.regularizers.base import SmoothRegularizer, correlation, vectors


class TaskRelationship(SmoothRegularizer):
    """λ tr(A Ω⁻¹ Aᵀ), where Ω [T, T] with trace 1 is learned: Ω ∝ (AᵀA)^{1/2}, the minimum in closed form.

    Zhang & Yeung, "A Convex Formulation for Learning Task Relationships in Multi-Task Learning" (2010), eq. 9 and 12.
    At its Ω the term is ‖A‖_*². Ω begins with I/T. ε times the mean of AᵀA's diagonal is added to it, which bounds the
    curvature λ/ω of the term.
    """

    relation: Tensor
    steps: Tensor

    def __init__(
        self,
        strength: float,
        every: int = 10,
        epsilon: float = 0.01,
        tasks: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        """Keep the options.

        Args:
            strength: λ.
            every: optimizer steps between updates of Ω.
            epsilon: ε.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: λ is negative or not finite, ε not positive, or there is no step between updates.
        """
        super().__init__(strength, tasks, layer)
        check_updates(self, every, epsilon)
        self.every, self.epsilon = every, epsilon

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """Begin with unrelated tasks."""
        super().start(tasks, shapes)
        self.register_buffer("relation", torch.eye(len(tasks)) / len(tasks))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        return self.strength * related(vectors(weights), self.relation)

    def update(self, weights: Sequence[Tensor]) -> None:
        """Set Ω, every so many steps."""
        self.steps += 1
        if self.steps % self.every == 0:
            found = relation_of(vectors(weights), self.epsilon)
            if found.isfinite().all():
                self.relation.copy_(found)

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The correlations of Ω."""
        return {"task_correlation": correlation(self.relation)}


def check_updates(of: SmoothRegularizer, every: int, epsilon: float) -> None:
    """Refuse updates that never come, or may divide by zero.

    Raises:
        ValueError: they would.
    """
    if every < 1:
        raise ConfigurationError(of.key("every"), "must be at least 1", every)
    if not 0 < epsilon <= 1:
        raise ConfigurationError(of.key("epsilon"), "must be greater than 0 and at most 1", epsilon)


def related(a: Tensor, relation: Tensor) -> Tensor:
    """tr(A Ω⁻¹ Aᵀ) of A [D, T] and Ω [T, T]."""
    solved: Tensor = torch.linalg.solve(relation.to(a.dtype), a.mT)
    return (a.mT * solved).sum()


def relation_of(a: Tensor, epsilon: float) -> Tensor:
    """Ω [T, T] ∝ (AᵀA + ε mean(diag AᵀA) I)^{1/2} with trace 1, in float64; not finite where A is, or zero."""
    gram = a.mT.double() @ a.double()
    gram = gram / gram.diagonal().mean()
    if not gram.isfinite().all():
        return gram
    values, directions = torch.linalg.eigh(gram)
    root: Tensor = (directions * (values.clamp(min=0) + epsilon).sqrt()) @ directions.mT
    return root / root.trace()
