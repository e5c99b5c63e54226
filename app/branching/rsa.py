"""Which tasks represent rows alike: a tree of branches from single-task networks, under a budget.

Vandenhende et al., "Branched Multi-Task Networks: Deciding What Layers To Share" (2020), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
from scipy.stats import rankdata

from app.branching.grouping import Matrix, spectral_groups

ALL = 5  # tasks of which every grouping is tried; of more, spectral ones
Grouping = tuple[tuple[int, ...], ...]
Tree = tuple[Grouping, ...]  # a grouping a stage, from input to output


def dissimilarity(features: Matrix) -> Matrix:
    """[K, K] 1 − Pearson's correlation of the features [K, D] of K rows."""
    matrix: Matrix = np.subtract(1, np.corrcoef(features))
    return matrix


def affinity(matrices: Sequence[Matrix]) -> Matrix:
    """[T, T] Spearman's correlation of what is above the diagonals of the dissimilarities [K, K] of T tasks."""
    above = np.triu_indices(len(matrices[0]), k=1)
    found: Matrix = np.corrcoef([rankdata(matrix[above]) for matrix in matrices])
    return found


def cost(affinities: Sequence[Matrix], tree: Tree) -> float:
    """Σ over the stages of the mean over branches of the largest 1 − A_ij among a branch's tasks.

    Args:
        affinities: [T, T] of each stage.
        tree: the branches of each.
    """
    return sum(_stage_cost(*each) for each in zip(affinities, tree, strict=True))


def _stage_cost(affinity: Matrix, groups: Grouping) -> float:
    return float(np.mean([max((1 - affinity[i, j] for i, j in combinations(own, 2)), default=0.0) for own in groups]))


def size(sizes: Sequence[int], tree: Tree) -> int:
    """Parameters of the tree, of stages of such sizes."""
    return sum(own * len(groups) for own, groups in zip(sizes, tree, strict=True))


def best_tree(affinities: Sequence[Matrix], sizes: Sequence[int], budget: int) -> Tree:
    """The tree of the least cost whose parameters are within the budget; of equal ones, the smallest.

    Of at most `ALL` tasks it is exact; of more, the branches of a stage are parts of the spectral groups of some stage.
    Stage by stage all trees are kept of which no other, with the same branches there, is as small and costs as little
    (the paper keeps a beam).

    Args:
        affinities: [T, T] of each stage, from input to output.
        sizes: parameters of each stage.
        budget: at least their sum, a single trunk's.
    """
    groupings = _groupings(affinities)
    least = np.cumsum([0, *reversed(sizes)])[::-1]  # of the stages from each on
    whole: Grouping = (tuple(range(len(affinities[0]))),)
    kept: dict[Grouping, list[tuple[int, float, Tree]]] = {whole: [(0, 0.0, ())]}
    for stage, own in enumerate(sizes):
        grown: dict[Grouping, list[tuple[int, float, Tree]]] = {}
        for (below, trees), groups in product(kept.items(), groupings):
            if _is_within(groups, below):
                extra, more = own * len(groups), _stage_cost(affinities[stage], groups)
                grown.setdefault(groups, []).extend((n + extra, c + more, (*tree, groups)) for n, c, tree in trees)
        room = {groups: budget - int(least[stage + 1]) * len(groups) for groups in grown}
        kept = {groups: _undominated(trees, room[groups]) for groups, trees in grown.items()}
    return min((c, n, tree) for trees in kept.values() for n, c, tree in trees)[2]


def _undominated(trees: Sequence[tuple[int, float, Tree]], budget: int) -> list[tuple[int, float, Tree]]:
    kept: list[tuple[int, float, Tree]] = []
    for number, spent, tree in sorted(trees):
        if number <= budget and (not kept or spent < kept[-1][1] - 1e-12):
            kept.append((number, spent, tree))
    return kept


def _is_within(groups: Grouping, others: Grouping) -> bool:
    """Whether each of the groups is part of one of the others."""
    return all(any({*own} <= {*other} for other in others) for own in groups)


def _groupings(affinities: Sequence[Matrix]) -> list[Grouping]:
    tasks = len(affinities[0])
    if tasks <= ALL:
        return sorted(_partitions(tuple(range(tasks))))
    found = {
        tuple(map(tuple, spectral_groups((1 + own) / 2, number + 1))) for own in affinities for number in range(tasks)
    }
    return sorted(found | {tuple((task,) for task in range(tasks))})


def _partitions(tasks: tuple[int, ...]) -> Iterator[Grouping]:
    """All ways to group the tasks."""
    if len(tasks) == 0:
        yield ()
        return
    first, rest = tasks[0], tasks[1:]
    for number in range(len(rest) + 1):
        for others in combinations(rest, number):
            left = tuple(task for task in rest if task not in others)
            for groups in _partitions(left):
                yield ((first, *others), *groups)
