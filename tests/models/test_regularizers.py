"""Regularizers by hand, by identities, and beside a solver."""

import cvxpy
import numpy as np
import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.regularizers import (
    BlockSparse,
    Clustered,
    Dirty,
    MeanRegularized,
    Orthogonality,
    Regularizer,
    TaskRelationship,
    TensorNormal,
    TraceNorm,
    UnknownClusters,
)
from models.regularizers.base import stacked, vectors
from models.regularizers.block_sparse import clip_rows, shrink_rows
from models.regularizers.relationship import related, relation_of
from models.regularizers.tensor_normal import INPUTS, OUTPUTS, TASKS, flip_flop

HAND = [torch.tensor(row, dtype=torch.float64) for row in ([[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 0.0]])]  # ā = (3, 2)


def started(regularizer: Regularizer, weights: list[Tensor]) -> Regularizer:
    regularizer.start([f"t{number}" for number in range(len(weights))], [weight.shape for weight in weights])
    return regularizer.double()


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


def test_penalties_by_hand() -> None:
    """Of columns (1, 2), (3, 4), (5, 0), whose mean is (3, 2); with groups {1, 2} and {3}, of means (2, 3), (5, 0)."""
    assert started(MeanRegularized(0.5), HAND).penalty(HAND).item() == pytest.approx(0.5 * (4 + 4 + 4 + 4))
    groups = [["t0", "t1"], ["t2"]]
    clustered = started(Clustered(groups, 2.0, mean=0.1, between=0.5, within=1.0), HAND)
    expected = 2 * (0.1 * 3 * 13 + 0.5 * (2 * 2 + 8) + (1 + 1 + 1 + 1))
    assert clustered.penalty(HAND).item() == pytest.approx(expected)
    # products (1·3 + 2·4)², (1·5)², (3·5)²
    assert started(Orthogonality(0.1), HAND).penalty(HAND).item() == pytest.approx(0.1 * (121 + 25 + 225))


def test_spectral_penalties_are_of_singular_values() -> None:
    weights = drawn((2, 5), (2, 5), (2, 5), (2, 5))
    values = torch.linalg.svdvals(vectors(weights))
    assert started(UnknownClusters(0.5, 2), weights).penalty(weights).item() == pytest.approx(
        0.5 * values[2:].square().sum().item()
    )
    joined = torch.linalg.svdvals(torch.cat(weights)).sum().item()
    assert started(TraceNorm(0.5), weights).penalty(weights).item() == pytest.approx(0.5 * joined)


def test_gradient_of_unknown_clusters_is_that_of_the_minimum() -> None:
    weights = [weight.requires_grad_() for weight in drawn(*[(1, 5)] * 4)]
    regularizer = started(UnknownClusters(0.5, 2), weights)
    assert torch.autograd.gradcheck(lambda *each: regularizer.penalty(each), weights)


def test_relationship_penalty_at_its_relation_is_the_trace_norm_squared() -> None:
    a = vectors(drawn(*[(2, 5)] * 4))
    relation = relation_of(a, 0.0)
    assert relation.trace().item() == pytest.approx(1)
    expected = torch.linalg.matrix_norm(a, "nuc").square().item()
    assert related(a, relation).item() == pytest.approx(expected, rel=1e-12)
    nudged = relation + 0.01 * torch.diag(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64))
    assert related(a, nudged).item() > expected


def test_tensor_normal_by_hand_with_kronecker_products() -> None:
    w = stacked(weights := drawn(*[(2, 4)] * 3))
    regularizer = started(TensorNormal(0.3, learn_inputs=True, learn_outputs=True), weights)
    for sigma, root in zip(regularizer.sigmas, drawn((4, 4), (2, 2), (3, 3), seed=1), strict=True):
        sigma.copy_(root @ root.T + torch.eye(len(root)))
    inner, outer, task = regularizer.sigmas
    whole = torch.kron(torch.kron(inner, outer), task)
    normal = torch.distributions.MultivariateNormal(torch.zeros(24, dtype=torch.float64), whole)
    flat = w.flatten()
    expected = -normal.log_prob(flat) - 12 * np.log(2 * np.pi)
    assert regularizer.penalty(weights).item() == pytest.approx(0.3 * expected.item(), rel=1e-10)
    for mode in (INPUTS, OUTPUTS, TASKS):
        others = {other: regularizer.sigmas[other] for other in (INPUTS, OUTPUTS, TASKS) if other != mode}
        kron = torch.kron(*others.values())
        unfolded = w.movedim(mode, 0).flatten(1)
        by_hand = w.shape[mode] / 24 * unfolded @ torch.linalg.inv(kron) @ unfolded.T
        torch.testing.assert_close(flip_flop(w, mode, others), by_hand)


def test_flip_flop_without_other_covariances_is_the_gramian_of_the_tasks() -> None:
    weights = drawn(*[(2, 5)] * 4)
    gram = vectors(weights).T @ vectors(weights)
    torch.testing.assert_close(flip_flop(stacked(weights), TASKS, {}), gram * 4 / 40)
    regularizer = started(TensorNormal(0.1, every=1, epsilon=1e-12), weights)
    regularizer.update(weights)
    torch.testing.assert_close(regularizer.sigma_2, gram * 4 / gram.trace())


@pytest.mark.parametrize("q", [2, "inf"])
def test_proximal_steps_agree_with_a_solver(q: int | str) -> None:
    (a,) = drawn((6, 5))
    a[5] *= 0.01
    radii = torch.tensor([0.1, 0.5, 1.0, 3.0, 50.0, 0.5], dtype=torch.float64)
    found = (shrink_rows if q == 2 else clip_rows)(a, radii)
    x = cvxpy.Variable(a.shape)
    penalty = cvxpy.sum(cvxpy.multiply(radii.numpy(), cvxpy.norm(x, q, axis=1)))
    tight = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13}
    cvxpy.Problem(cvxpy.Minimize(0.5 * cvxpy.sum_squares(x - a.numpy()) + penalty)).solve(cvxpy.CLARABEL, **tight)
    assert np.abs(found.numpy() - x.value).max() <= 1e-6
    assert not found[4:].any()
    assert found[:3].any(dim=1).all()


def test_no_strength_leaves_weights_as_they_are() -> None:
    (a,) = drawn((4, 3))
    for step in (shrink_rows, clip_rows):
        assert torch.equal(step(a, torch.zeros(4, dtype=torch.float64)), a)


def test_block_sparse_joins_tasks_of_different_widths_and_leaves_the_absent() -> None:
    weights = drawn((3, 4), (1, 4))
    a, before = torch.cat(weights).T.clone(), weights[1].clone()
    radii = a.norm(dim=1).median().expand(4) * torch.tensor([1.0, 0.5, 2.0, 1.0], dtype=torch.float64)
    started(BlockSparse(1.0), weights).shrink(weights, [True, False], radii)
    torch.testing.assert_close(weights[0].T, shrink_rows(a, radii)[:, :3])
    assert torch.equal(weights[1], before)


def test_dirty_finds_the_minimum_of_a_solver() -> None:
    """Of ‖XA − Y‖²/2n + λ_s ‖S‖₁ + λ_b Σ ‖B_d‖_∞, by gradient steps of A alone."""
    x, y = drawn((20, 6), (20, 3), seed=2)
    y = y + x[:, :1] * torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64)
    y[:, 0] += 2 * x[:, 3]
    weights = [torch.zeros(1, 6, dtype=torch.float64) for _ in range(3)]
    regularizer = started(Dirty(0.2, 0.3), weights)
    regularizer.begin(weights)
    for _ in range(3000):
        for t, weight in enumerate(weights):
            weight -= 0.2 * ((x @ weight[0] - y[:, t]) @ x / 20)
        regularizer.shrink(weights, [True] * 3, torch.full((6,), 0.2, dtype=torch.float64))
    s, b = cvxpy.Variable((6, 3)), cvxpy.Variable((6, 3))
    fit = cvxpy.sum_squares(x.numpy() @ (s + b) - y.numpy()) / 40
    objective = fit + 0.2 * cvxpy.sum(cvxpy.abs(s)) + 0.3 * cvxpy.sum(cvxpy.norm(b, "inf", axis=1))
    problem = cvxpy.Problem(cvxpy.Minimize(objective))
    problem.solve(cvxpy.CLARABEL)
    found_s, found_b = regularizer.sparse, regularizer.block
    residual = x @ torch.cat(weights).T - y
    value = residual.square().sum() / 40 + 0.2 * found_s.abs().sum() + 0.3 * found_b.abs().amax(dim=1).sum()
    assert value.item() == pytest.approx(problem.value, rel=1e-6)
    assert (found_s == 0).any()
    assert (found_b == 0).all(dim=1).any()
    assert torch.equal(found_s + found_b, torch.cat(weights).T)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15, torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_update_leaves_a_number_that_is_not_finite(scale: float, dtype: torch.dtype) -> None:
    """Of one weight for all tasks too, whose Gramian has rank 1."""
    for weights in (drawn(*[(1, 5)] * 4), [drawn((1, 5))[0]] * 4):
        scaled = [(weight * scale).to(dtype) for weight in weights]
        for each in (TaskRelationship(0.1, every=1), TensorNormal(0.1, learn_inputs=True, every=1, epsilon=1e-3)):
            regularizer = started(each, scaled).to(dtype)
            for _ in range(5):
                regularizer.update(scaled)
            assert all(buffer.isfinite().all() for buffer in regularizer.buffers())
            assert all(value.isfinite().all() for value in regularizer.learned(scaled).values())
            if np.isfinite(scale) and scale < 1e10:
                assert regularizer.penalty(scaled).isfinite()


def test_traces_are_the_sizes_and_no_eigenvalue_is_below_epsilon() -> None:
    weights = drawn(*[(1, 50)] * 8)
    regularizer = started(TensorNormal(0.1, learn_inputs=True, every=1), weights)
    regularizer.update(weights)
    for sigma in regularizer.sigmas:
        assert sigma.trace().item() == pytest.approx(len(sigma))
        assert torch.linalg.eigvalsh(sigma)[0] >= 0.01 / 1.01 - 1e-12


@pytest.mark.parametrize(
    ("make", "key", "found"),
    [
        (lambda: BlockSparse(-1.0), "BlockSparse.strength", "-1.0"),
        (lambda: MeanRegularized(float("inf")), "MeanRegularized.strength", "inf"),
        (lambda: Clustered([["t0", "t1"]], 1.0, between=2.0), "Clustered.within", "1.0, 2.0, 0.0"),
        (lambda: Clustered([["t0", "x"]], 1.0), "Clustered.groups", "x"),
        (lambda: UnknownClusters(1.0, 0), "UnknownClusters.clusters", "0"),
        (lambda: UnknownClusters(1.0, 3), "UnknownClusters.clusters", "3"),
        (lambda: TaskRelationship(1.0, every=0), "TaskRelationship.every", "0"),
        (lambda: TensorNormal(1.0, epsilon=0.0), "TensorNormal.epsilon", "0.0"),
        (lambda: Dirty(1.0, 5.0), "Dirty.block_strength", "5.0 with strength 1.0"),
    ],
)
def test_what_cannot_be_is_refused(make, key: str, found: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        started(make(), HAND)
    assert refused.value.key == f"model.regularizers.{key}"
    assert found in str(refused.value.found)
