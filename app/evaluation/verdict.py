"""What differences between runs decide."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

from app.evaluation.intervals import LEVEL, Interval, holm

Verdict = Literal["better", "worse", "as good", "undecided"]
Key = TypeVar("Key", bound=Hashable)


def verdicts(differences: Mapping[Key, Interval], margins: Mapping[Key, float]) -> dict[Key, Verdict]:
    """What each difference of a table decides, so that in 5 % of tables without effect some is better or worse.

    It is better or worse where its probability, corrected by Holm for all of the table, is at most 5 %; as good where
    it is neither and its own interval is within ± its margin; and undecided otherwise, as with a single run.

    Args:
        differences: Of a table, all that are decided on.
        margins: How large a difference does not matter, in the difference's unit.
    """
    known = {key: each.p for key, each in differences.items() if each.p is not None}
    together = dict(zip(known, holm(list(known.values())), strict=True))
    return {key: _decided(each, together.get(key, 1.0), margins[key]) for key, each in differences.items()}


def _decided(difference: Interval, probability: float, margin: float) -> Verdict:
    if difference.low is None or difference.high is None:
        return "undecided"
    if probability <= 1 - LEVEL:
        return "better" if difference.estimate > 0 else "worse"
    return "as good" if -margin <= difference.low and difference.high <= margin else "undecided"
