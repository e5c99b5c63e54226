"""Tasks that are near those of their group, where the groups are found."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.regularizers.base import SmoothRegularizer, vectors

ROUNDS = 100  # of k-means, which ends when nothing changes


class UnknownClusters(SmoothRegularizer):
    """λ Σ_{i>k} σ_i(A)²: what is left of A beyond k directions, the relaxed sum of squares within k clusters.

    Zha et al., "Spectral Relaxation for K-means Clustering" (2001); Zhou, Chen & Ye, "Clustered Multi-Task Learning via
    Alternating Structure Optimization" (2011), eq. 4. It is min over F ∈ R^{T×k}, FᵀF = I, of ‖A‖² − ‖AF‖², whose F are
    the top right singular vectors; they are taken anew in each step, so that nothing is to be saved. The groups are
    those of k-means on the rows of F.
    """

    def __init__(
        self, strength: float, clusters: int, tasks: Sequence[str] | None = None, layer: str | None = None
    ) -> None:
        """Keep the options.

        Args:
            strength: λ.
            clusters: k.
            tasks: whose weights; None for all.
            layer: a layer group that every task has of its own; None for the last matrix of the heads.

        Raises:
            ValueError: λ is negative or not finite, or there is no cluster.
        """
        super().__init__(strength, tasks, layer)
        if clusters < 1:
            raise ConfigurationError(self.key("clusters"), "must be at least 1", clusters)
        self.clusters = clusters

    def start(self, tasks: list[str], shapes: list[torch.Size]) -> None:
        """See how many tasks there are.

        Raises:
            ValueError: there are as many clusters as tasks.
        """
        super().start(tasks, shapes)
        if self.clusters >= len(tasks):
            rule = f"must be less than the {len(tasks)} tasks, else nothing is regularised"
            raise ConfigurationError(self.key("clusters"), rule, self.clusters)

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """The term, a number; F is fixed in its gradient, which is that of the minimum."""
        a = vectors(weights)
        return self.strength * (a.square().sum() - (a @ top_directions(a, self.clusters)).square().sum())

    def learned(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Which tasks are of one group, 0 or 1."""
        group = clusters_of(top_directions(vectors(weights), self.clusters), self.clusters)
        return {"same_group": (group == group[:, None]).to(weights[0].dtype)}


@torch.no_grad()
def top_directions(a: Tensor, k: int) -> Tensor:
    """F [T, k], the top right singular vectors of A [D, T]."""
    gram = (a.mT @ a).double()
    vectors_: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors_[:, -k:].to(a.dtype)


def clusters_of(points: Tensor, k: int) -> Tensor:
    """The numbers [T] of k clusters of points [T, n], by k-means from centres that are far apart, without chance."""
    chosen = [int(points.norm(dim=1).argmax())]
    for _ in range(1, k):
        chosen.append(int(torch.cdist(points, points[chosen]).amin(dim=1).argmax()))
    centres, group = points[chosen], None
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        if group is not None and torch.equal(nearest, group):
            break
        group = nearest
        centres = torch.stack([points[group == c].mean(dim=0) if (group == c).any() else centres[c] for c in range(k)])
    assert group is not None
    return group
