"""Products of factors: the weights of several tasks, stacked, as what they share and a vector of each task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import ceil

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError

MODES = ("out", "in", "kernel", "tasks")  # of a stack [out, in, *kernel, T]
Ranks = Mapping[str, int | float | None]
KEY = "model.sharing.ranks"


class Product(nn.Module, ABC):
    """Factors A [*D, R] of all tasks' weights of one layer: task t's is A s_t for its vector s_t [R]."""

    @abstractmethod
    def forward(self, vector: Tensor) -> Tensor:
        """A task's weight [*D], of its vector [R]."""


class LAF(Product):
    """A is a matrix L [ΠD, R], with D unfolded: W = L S, S = [s_1 … s_T]."""

    def __init__(self, stack: Tensor, choice: "RankChoice") -> None:
        super().__init__()
        self.matrix = own(stack)

    def forward(self, vector: Tensor) -> Tensor:
        """A task's weight [*D], of its vector [R]."""
        weight: Tensor = torch.tensordot(self.matrix, vector, dims=1)
        return weight


class Tucker(Product):
    """A = C ×_1 U_1 … ×_N U_N, of a core C [R_1, …, R_N, R] and a matrix U_n [D_n, R_n] a mode, by HOSVD.

    Args:
        stack: A [*D, R], which is met exactly at full ranks.
        choice: R_n of each mode.
    """

    def __init__(self, stack: Tensor, choice: "RankChoice") -> None:
        super().__init__()
        factors, core = [], stack
        for number in range(stack.ndim - 1):
            factor, _ = split(stack.movedim(number, 0).flatten(1), choice, mode(number))
            core = torch.tensordot(factor, core, dims=([0], [number])).movedim(0, number)
            factors.append(own(factor))
        self.core, self.factors = own(core), nn.ParameterList(factors)

    def forward(self, vector: Tensor) -> Tensor:
        """A task's weight [*D], of its vector [R]."""
        x: Tensor = torch.tensordot(self.core, vector, dims=1)
        for factor in self.factors:
            x = torch.tensordot(x, factor, dims=([0], [1]))  # the first mode goes, and comes back as the last
        return x


class TensorTrain(Product):
    """A[d_1, …, d_N, :] = G_1[d_1, :] G_2[:, d_2, :] … G_N[:, d_N, :], of G_n [R_{n−1}, D_n, R_n], by TT-SVD.

    R_n follows mode n, and R_N = R.

    Args:
        stack: A [*D, R], which is met exactly at full ranks.
        choice: R_n, by the mode n; that of the last one is already chosen.
    """

    def __init__(self, stack: Tensor, choice: "RankChoice") -> None:
        super().__init__()
        *shape, right = stack.shape
        cores, rest = [], stack
        for number in reversed(range(1, len(shape))):
            matrix = rest.reshape(-1, shape[number] * right)
            core, rest = split(matrix.T, choice, mode(number - 1))
            cores.append(core.T.reshape(-1, shape[number], right))
            rest, right = rest.T, core.shape[1]
        self.cores = nn.ParameterList(map(own, (rest, *reversed(cores))))

    def forward(self, vector: Tensor) -> Tensor:
        """A task's weight [*D], of its vector [R]."""
        x = vector
        for core in reversed(list(self.cores)):
            x = torch.tensordot(core, x, dims=1)
        return x


class RankChoice:
    """The ranks of a layer's factors.

    Args:
        ranks: mode → a number, a share of the dimension, or None for all of it.
        weight: name of the layer's weight.
    """

    def __init__(self, ranks: Ranks, weight: str) -> None:
        self.ranks, self.weight = ranks, weight

    def __call__(self, name: str, dimension: int) -> int:
        """The rank along a mode of this dimension.

        Raises:
            ConfigurationError: it is above the dimension.
        """
        rank = self.ranks.get(name)
        if rank is None:
            return dimension
        if isinstance(rank, float):
            return ceil(rank * dimension)
        if rank > dimension:
            raise ConfigurationError(f"{KEY}.{name}", f"must be at most {dimension}, as {self.weight} has it", rank)
        return rank


def check_ranks(ranks: Ranks) -> None:
    """Refuse ranks that are none, or of no mode.

    Raises:
        ConfigurationError: there are such.
    """
    if unknown := ranks.keys() - set(MODES):
        raise ConfigurationError(KEY, f"must be of {', '.join(MODES)}", ", ".join(sorted(unknown)))
    for name, rank in ranks.items():
        if rank is not None and not (0 < rank <= 1 if isinstance(rank, float) else rank >= 1):
            raise ConfigurationError(f"{KEY}.{name}", "must be at least 1, or a share of the dimension up to 1.0", rank)


def own(x: Tensor) -> nn.Parameter:
    """A parameter that begins as these numbers, which may lie in a larger tensor."""
    return nn.Parameter(x.clone(memory_format=torch.contiguous_format))


def mode(number: int) -> str:
    """The name of a weight's dimension."""
    return MODES[min(number, 2)]


def split(matrix: Tensor, choice: RankChoice, name: str) -> tuple[Tensor, Tensor]:
    """The best product for a matrix [M, N], of the rank R along a mode: orthonormal columns [M, R], and [R, N]."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = choice(name, len(values))
    return left[:, :rank], values[:rank, None] * right[:rank]


def along_tasks(stack: Tensor, choice: RankChoice) -> tuple[Tensor, Tensor]:
    """A [*D, R] and all s_t [T, R] of stacked weights [*D, T], by SVD.

    Weights that are alike have a lower rank. Then numbers of s_t are left over, whose part of A is zero: these are
    drawn, so that tasks can go apart.
    """
    vectors, rest = split(stack.flatten(end_dim=-2).T, choice, "tasks")
    sizes = rest.norm(dim=1)
    spare = sizes <= sizes.max() * max(rest.shape) * torch.finfo(rest.dtype).eps
    drawn = torch.randn_like(vectors) / len(vectors) ** 0.5
    shared = torch.where(spare[:, None], 0.0, rest).T.reshape(*stack.shape[:-1], -1)
    return shared, torch.where(spare, drawn, vectors)
