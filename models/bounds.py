"""Bounds that sizes and probabilities of networks keep to."""

from collections.abc import Sequence

from models.errors import ConfigurationError


def check_sizes(key: str, sizes: Sequence[int]) -> None:
    """Refuse a size that is none.

    Raises:
        ValueError: one is less than 1.
    """
    if min(sizes, default=1) < 1:
        raise ConfigurationError(key, "must be at least 1", list(sizes))


def check_probability(key: str, chance: float) -> None:
    """Refuse a chance that is none.

    Raises:
        ValueError: it is not within [0, 1].
    """
    if not 0 <= chance <= 1:
        raise ConfigurationError(key, "must be in [0, 1]", chance)
