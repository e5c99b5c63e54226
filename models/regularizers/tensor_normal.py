"""Tasks whose weights are drawn from one distribution, which is learned."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from models.regularizers.base import SmoothRegularizer, correlation, stacked
from models.regularizers.relationship import check_updates

INPUTS, OUTPUTS, TASKS = range(3)  # modes of the stacked weights


class TensorNormal(SmoothRegularizer):
    """λ (½ ⟨W, W ×₁Σ_in⁻¹ ×₂Σ_out⁻¹ ×₃Σ_task⁻¹⟩ + ½ Σ_k (D/D_k) log|Σ_k|), W [D_1, D_2, D_3] of inputs, outputs, tasks.

    Long et al., "Learning Multiple Tasks with Multilinear Relationship Networks" (2017), eq. 6, D = ΠD_k. Every so many
    steps flip-flop: Σ_k ← (D_k/D) W_(k) (⊗_{j≠k} Σ_j)⁻¹ W_(k)ᵀ for one mode after the other; it is then scaled to the
    trace D_k, ε I is added, and it is scaled again, so that no eigenvalue is below ε/(1 + ε). An update that is not
    finite is left out. Σ_out = I unless the tasks share their classes. Σ_in = I unless it is to be learned: its rank is
    at most outputs · T, so that with a small ε the term is so steep that SGD diverges, and a large one flattens Σ_task.
    The authors' code squares the inverses, leaves D_k/D out and scales to trace 1.
    """

    sigma_0: Tensor
    sigma_1: Tensor
    sigma_2: Tensor
    steps: Tensor

    def __init__(
        self,
        strength: float,
        learn_inputs: bool = False,
        learn_outputs: bool = False,
        every: int = 10,
        epsilon: float = 0.01,
        tasks: Sequence[str] | None = None,
        layer: str | None = None,
    ) -> None:
        """Keep the options.

        Args:
            strength: λ.
            learn_inputs: learn Σ_in.
            learn_outputs: learn Σ_out, for tasks that share their classes.
            every: optimizer steps between updates.
            epsilon: ε, of traces D_k.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: λ is negative or not finite, ε not positive, or there is no step between updates.
        """
        super().__init__(strength, tasks, layer)
        check_updates(self, every, epsilon)
        self.every, self.epsilon = every, epsilon
        self.modes = [TASKS, *([OUTPUTS] if learn_outputs else []), *([INPUTS] if learn_inputs else [])]

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """Begin with unrelated tasks."""
        super().start(tasks, shapes)
        for mode, size in enumerate((shapes[0][1:].numel(), shapes[0][0], len(tasks))):
            self.register_buffer(f"sigma_{mode}", torch.eye(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def sigmas(self) -> list[Tensor]:
        """Σ_in [D_1, D_1], Σ_out [D_2, D_2] and Σ_task [D_3, D_3]."""
        return [self.sigma_0, self.sigma_1, self.sigma_2]

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number."""
        w = stacked(weights)
        learned = {mode: self.sigmas[mode].to(w.dtype) for mode in self.modes}
        logs = [w.numel() / len(sigma) * torch.logdet(sigma) for sigma in learned.values()]
        return self.strength / 2 * ((w * whitened(w, learned)).sum() + torch.stack(logs).sum())

    def update(self, weights: Sequence[Tensor]) -> None:
        """Flip-flop, every so many steps."""
        self.steps += 1
        if self.steps % self.every == 0:
            w = stacked(weights).double()
            for mode in self.modes:
                others = {other: self.sigmas[other].double() for other in self.modes if other != mode}
                found = scaled(flip_flop(w, mode, others), self.epsilon)
                if found.isfinite().all():
                    self.sigmas[mode].copy_(found)

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """The correlations of Σ_task."""
        return {"task_correlation": correlation(self.sigma_2)}


def whitened(w: Tensor, sigmas: dict[int, Tensor]) -> Tensor:
    """W ×_k Σ_k⁻¹ over the modes of `sigmas`; all others have I."""
    for mode, sigma in sigmas.items():
        first = w.movedim(mode, 0)
        w = torch.linalg.solve(sigma, first.flatten(1)).reshape(first.shape).movedim(0, mode)
    return w


def flip_flop(w: Tensor, mode: int, others: dict[int, Tensor]) -> Tensor:
    """(D_k/D) W_(k) (⊗_{j≠k} Σ_j)⁻¹ W_(k)ᵀ, [D_k, D_k], of W [D_1, D_2, D_3] and the Σ_j that are not I."""
    plain, white = (x.movedim(mode, 0).flatten(1) for x in (w, whitened(w, others)))
    return w.shape[mode] / prod(w.shape) * plain @ white.mT


def scaled(sigma: Tensor, epsilon: float) -> Tensor:
    """Σ [n, n] scaled to the trace n, with εI added, and scaled again."""
    sigma = (sigma + sigma.mT) / 2
    size = len(sigma)
    return (sigma * (size / sigma.trace()) + epsilon * torch.eye(size).to(sigma)) / (1 + epsilon)
