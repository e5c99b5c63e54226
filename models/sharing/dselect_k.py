"""Experts that all tasks share, few of which each task reads."""

from collections.abc import Sequence
from functools import partial
from math import ceil, log2

import torch
from torch import Tensor, nn

from models.backbones import BackboneBuilder
from models.errors import ConfigurationError
from models.sharing.experts import ExpertBuilder
from models.sharing.mixture import MixtureOfExperts
from models.sharing.own import Numbers

SMALL = 1e-6  # keeps logarithms and quotients finite


class DSelectK(MixtureOfExperts):
    """A mixture of experts whose gates select at most k of the E experts once they have made up their minds.

    Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task
    Learning" (2021), eq. 3–6. A gate has k selectors. Selector i has a binary code z_i of ⌈log₂ E⌉ numbers, and
    chooses expert j by r_ij = Π_b S(z_ib) or 1 − S(z_ib), as the bits of j are, with the smooth step S. The weights are
    w_j = Σ_i softmax(α)_i r_ij. They sum to 1 where E is a power of two. Where not, codes without an expert have a
    share of the weights, which the term 1 / Σ_j r_ij of each selector drives out. The entropy of the selectors has a
    term, too. Terms are means over a task's rows, where the paper's code sums over rows. With `by_row` α and z are
    linear functions of a row, and the terms are part of the task's loss; without, they are the task's own numbers, and
    the terms a penalty. Every expert is computed, also one that nobody selects.
    """

    def __init__(
        self,
        backbone: BackboneBuilder,
        tasks: list[str],
        experts: int = 4,
        selected: int = 2,
        by_row: bool = True,
        smoothness: float = 1.0,
        entropy: float = 0.01,
        from_stage: int = 0,
        hidden: Sequence[int] | None = None,
    ) -> None:
        """Build the experts and the gates.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            experts: E.
            selected: k.
            by_row: whether a gate sees the row that it selects experts for.
            smoothness: γ, the width of the smooth step.
            entropy: weight of the term that has selectors choose, and of the one that keeps them to experts.
            from_stage: an expert is a backbone's stages from this one on; those below are shared.
            hidden: experts are stacks of linear layers of these widths on a whole backbone instead.

        Raises:
            ValueError: there are fewer than two experts, k is not from 1 to E, γ or a weight is out of bounds, or there
                is no such stage.
        """
        if experts < 2:
            raise ConfigurationError("model.sharing.experts", "must be at least 2", experts)
        if not 1 <= selected <= experts:
            raise ConfigurationError("model.sharing.selected", f"must be from 1 to {experts}, the experts", selected)
        if not 0 < smoothness < float("inf"):
            raise ConfigurationError("model.sharing.smoothness", "must be finite and greater than 0", smoothness)
        if not 0 <= entropy < float("inf"):
            raise ConfigurationError("model.sharing.entropy", "must be finite and not negative", entropy)
        gate = partial(SelectingGate, selected=selected, by_row=by_row, smoothness=smoothness)
        super().__init__(ExpertBuilder(backbone, from_stage, hidden), tasks, experts, gate)
        self.by_row, self.entropy = by_row, entropy
        self.has_penalty = not by_row and entropy > 0

    def take_row_terms(self) -> dict[str, Tensor]:
        """Task → its gate's terms, summed over its rows."""
        terms = {task: gate.take_indecision() for task, gate in self._selecting().items()}
        return {task: self.entropy * term for task, term in terms.items() if term is not None and self.entropy}

    def penalty(self) -> Tensor:
        """The terms of gates that see no row."""
        terms = [indecision(gate.decide(torch.zeros(1, 0))[1]).sum() for gate in self._selecting().values()]
        return self.entropy * torch.stack(terms).sum()

    def _selecting(self) -> dict[str, "SelectingGate"]:
        return {task: gate for task, gate in self.gates.items() if isinstance(gate, SelectingGate)}


class SelectingGate(nn.Module):
    """Weights of experts by selectors with binary codes.

    Args:
        width: numbers of a row that it reads.
        experts: E.
        selected: k.
        by_row: whether it reads rows.
        smoothness: γ.
    """

    bits: Tensor

    def __init__(self, width: int, experts: int, selected: int, by_row: bool, smoothness: float) -> None:
        super().__init__()
        digits = ceil(log2(experts))
        self.shape, self.smoothness = (selected, 1 + digits), smoothness
        self.linear = nn.Linear(width, selected * (1 + digits)) if by_row else None
        self.fixed = None if by_row else Numbers(torch.empty(selected * (1 + digits)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -smoothness / 100, smoothness / 100)
        bits = torch.arange(experts).unsqueeze(1) >> torch.arange(digits) & 1
        self.register_buffer("bits", bits.bool(), persistent=False)
        self._indecision: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Weights [B, E] of rows [B, width]."""
        shares, selectors = self.decide(x)
        if self.training and self.linear is not None:
            self._indecision = indecision(selectors).sum()
        return (shares.unsqueeze(-1) * selectors).sum(dim=1)

    def take_indecision(self) -> Tensor | None:
        """The terms of the rows of the last pass in training, summed, of a gate that reads rows; given once."""
        taken, self._indecision = self._indecision, None
        return taken

    def decide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The selectors' shares softmax(α), [B, k], and what each of them selects, r, [B, k, E], of rows [B, width]."""
        if self.linear is not None:
            numbers = self.linear(x)
        else:
            assert self.fixed is not None
            numbers = self.fixed.values.expand(x.shape[0], -1)
        numbers = numbers.unflatten(1, self.shape)
        steps = smooth_step(numbers[..., 1:], self.smoothness).unsqueeze(-2)
        return numbers[..., 0].softmax(dim=1), torch.where(self.bits, steps, 1 - steps).prod(dim=-1)


def indecision(selectors: Tensor) -> Tensor:
    """The terms of selectors [B, k, E] of a row, [B]: entropy, and 1 / Σ_j r_ij where codes have no expert."""
    entropy = -(selectors * (selectors + SMALL).log()).sum(dim=-1)
    experts = selectors.shape[-1]
    outside = 0.0 if experts & (experts - 1) == 0 else 1 / (selectors.sum(dim=-1) + SMALL)
    return (entropy + outside).sum(dim=-1)


def smooth_step(x: Tensor, width: float) -> Tensor:
    """0 below -γ/2, 1 above γ/2, and between them -2 (x/γ)³ + 3/2 x/γ + 1/2, whose ends are flat."""
    x = (x / width).clamp(-0.5, 0.5)
    return -2 * x**3 + 1.5 * x + 0.5
