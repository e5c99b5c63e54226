"""Which of a layer's exact Gramians costs least: from its rows, or from a weight gradient a task."""

from __future__ import annotations

from app.balancing.engine.graph import Product

MULTIPLY_ADDS_PER_NUMBER = 20  # in the time in which one number is moved from or to memory


def rows_pay_pass_by_pass(layer: Product, tasks: int) -> bool:
    """Whether rows cost less where every task has a backward pass of its own."""
    sizes = layer.positions, layer.fan_in, len(layer.weight)
    return cost_by_rows(*sizes, tasks) < cost_by_weights(*sizes, tasks)


def cost_by_rows(positions: int, fan_in: int, out: int, tasks: int) -> int:
    """Multiply-adds: A Aᵀ, its products with every D_t, those with every D_s, and the one weight gradient."""
    products = positions**2 * (fan_in + tasks * out) + tasks**2 * positions * out + positions * fan_in * out
    moved = positions**2 + 4 * positions * fan_in + 5 * tasks * positions * out + fan_in * out
    return products + MULTIPLY_ADDS_PER_NUMBER * moved


def cost_by_weights(positions: int, fan_in: int, out: int, tasks: int) -> int:
    """Multiply-adds: a weight gradient a task, their inner products, and their weighted sum."""
    products = tasks * positions * fan_in * out + (tasks**2 + tasks) * fan_in * out
    moved = tasks * positions * (fan_in + out) + 5 * tasks * fan_in * out
    return products + MULTIPLY_ADDS_PER_NUMBER * moved


def rows_pay_in_one_pass(layer: Product, tasks: int) -> bool:
    """Whether rows cost less where one backward pass holds every task's gradients, each in its own rows."""
    positions, fan_in, out = layer.positions, layer.fan_in, len(layer.weight)
    by_rows = positions**2 * (fan_in + out) + positions * fan_in * out
    by_rows += MULTIPLY_ADDS_PER_NUMBER * (3 * positions**2 + 4 * positions * fan_in + fan_in * out)
    by_weights = positions * fan_in * out + (tasks**2 + tasks) * fan_in * out
    by_weights += MULTIPLY_ADDS_PER_NUMBER * (positions * (fan_in + out) + 4 * tasks * fan_in * out)
    return by_rows < by_weights
