"""The tree that a run's single-task networks ask for."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from app.branching.grouping import Matrix
from app.branching.rsa import Tree, affinity, best_tree, dissimilarity
from app.runs import Run
from models.backbones.part import stage_parameters
from models.errors import ConfigurationError
from models.sharing import IndependentNetworks


def affinities_of(run: Run, rows: int) -> tuple[list[int], list[int], list[Matrix]]:
    """How alike the tasks' networks represent the first rows of the run's validation split.

    Args:
        run: Its networks are of one task each.
        rows: How many.

    Returns:
        The stages that have parameters, how many each has, and the affinity [T, T] of each.

    Raises:
        ConfigurationError: A network is shared, or the split has fewer than three rows.
    """
    sharing = run.network.sharing
    if not isinstance(sharing, IndependentNetworks):
        raise ConfigurationError("run", "must be of IndependentNetworks, each of one task", type(sharing).__name__)
    split = run.own_rows("val")
    if min(rows, len(split)) < 3:
        raise ConfigurationError("rows", f"must be at least 3, of the {len(split)} of validation", rows)
    inputs = run.read(split, torch.arange(min(rows, len(split))))
    inputs = (
        {name: x.to(run.device) for name, x in inputs.items()} if isinstance(inputs, dict) else inputs.to(run.device)
    )
    everything = torch.arange(min(rows, len(split)), device=run.device)
    features = sharing(inputs, dict.fromkeys(sharing.networks, everything))
    first = deepcopy(next(iter(sharing.networks.values()))).requires_grad_()  # what is frozen is in no graph
    shape = {n: tuple(x.shape[1:]) for n, x in inputs.items()} if isinstance(inputs, dict) else tuple(inputs.shape[1:])
    sizes = [sum(p.numel() for p in own) for own in stage_parameters(first, shape)]
    stages = [number for number, size in enumerate(sizes) if size]
    alike = [affinity([dissimilarity(_flat(of[stage])) for of in features.values()]) for stage in stages]
    return stages, [sizes[stage] for stage in stages], alike


def _flat(features: Tensor) -> Matrix:
    flat: Matrix = features.flatten(1).cpu().double().numpy()
    return flat


def tree_of_run(run: Run, budget: float, rows: int) -> dict[int, list[list[str]]]:
    """Stage → groups of tasks, as `Branching` takes them, of the best tree.

    Args:
        run: See `affinities_of`.
        budget: How many times the parameters of one backbone the tree may have.
        rows: On which the networks are compared.

    Raises:
        ConfigurationError: See there; or the budget is below 1.
    """
    if not budget >= 1:
        raise ConfigurationError("budget", "must be at least 1, the parameters of one backbone", budget)
    stages, sizes, alike = affinities_of(run, rows)
    tree: Tree = best_tree(alike, sizes, int(budget * sum(sizes)))
    tasks = list(run.network.tasks)
    return {stage: [[tasks[i] for i in own] for own in groups] for stage, groups in zip(stages, tree, strict=True)}
