"""Statistics of labels in few words."""

from __future__ import annotations

from collections.abc import Mapping

LISTED = 4  # classes that are all listed; of more, only the rarest and the most frequent


def with_unit(words: str, unit: str | None) -> str:
    """`words`, and the unit if there is one."""
    return f"{words} {unit}" if unit else words


def shares(of: Mapping[str, float]) -> str:
    """The share of each class, or of the rarest and the most frequent of many."""
    if len(of) <= LISTED:
        return ", ".join(f"{name} {share:.1%}" for name, share in of.items())
    low, high = min(of, key=of.__getitem__), max(of, key=of.__getitem__)
    return f"{len(of)} classes: fewest {low} ({of[low]:.1%}), most {high} ({of[high]:.1%})"
