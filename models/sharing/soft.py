"""A backbone for each task, and a penalty that keeps them alike."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from models.backbones import Backbone
from models.errors import ConfigurationError
from models.sharing.independent import IndependentNetworks


class SoftSharing(IndependentNetworks):
    """Independent networks, with a penalty of the distance between them.

    `l2`: λ Σ_{t<s} ‖θ_t − θ_s‖² over all parameters of the backbones, computed as λT Σ_t ‖θ_t − θ̄‖² (Duong et al.,
    "Low Resource Dependency Parsing", 2015). A step of SGD at the rate η shrinks the distance to the mean by the factor
    1 − 2ηλT; for ηλT > 1 the networks drift apart. `trace`: λ Σ_W ‖[W_1 … W_T]‖_*, the trace norm of each weight
    matrix or filter of all tasks, stacked as vectors (Yang & Hospedales, "Trace Norm Regularised Deep Multi-Task
    Learning", 2017, of the last axis). λ = 0 gives independent networks.
    """

    has_penalty = True

    def __init__(
        self, backbone: Callable[[], Backbone], tasks: list[str], strength: float, norm: Literal["l2", "trace"] = "l2"
    ) -> None:
        """Build the backbones.

        Args:
            backbone: builds a backbone.
            tasks: names of the tasks.
            strength: λ.
            norm: which distance.

        Raises:
            ValueError: λ is negative or not finite.
        """
        if not 0 <= strength < float("inf"):
            raise ConfigurationError("model.sharing.strength", "must be finite and not negative", strength)
        super().__init__(backbone, tasks)
        self.strength, self.norm = strength, norm
        if norm == "l2" and strength:
            self.largest_rate = 1 / (strength * len(tasks))

    def penalty(self) -> Tensor:
        """λ times the distance, a number."""
        stacks = map(torch.stack, zip(*(network.parameters() for network in self.networks.values()), strict=True))
        if self.norm == "l2":
            distances = [(weights - weights.mean(dim=0)).square().sum() for weights in stacks]
            return self.strength * len(self.networks) * torch.stack(distances).sum()
        matrices = [weights.flatten(1) for weights in stacks if weights.ndim > 2]
        return self.strength * torch.stack([torch.linalg.matrix_norm(each, "nuc") for each in matrices]).sum()
