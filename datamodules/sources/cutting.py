"""The splits that a dataset comes without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.sources.split import SPLITS, SplitName
from datamodules.splits.splitting import Members, split_rows


def cut(
    given: Sequence[SplitName],
    fractions: Sequence[float],
    strata: Tensor,
    seed: int,
    members: Sequence[Members] | None = None,
) -> dict[SplitName, Tensor]:
    """Cut the training rows into a smaller training split and the splits that are not `given`.

    Args:
        given: The splits that the dataset has, "train" among them.
        fractions: Shares of training, validation and test, of which the proportions of those that are cut count.
        strata: [N] class of each training row, -1 without one; each split gets its share of every class.
        seed: Of the draw.
        members: The classes, by task, that are to have a row for training; those of `strata` if it is None.

    Returns:
        Split → its rows of the training rows, ascending; empty if all three splits are given.

    Raises:
        ValueError: The fractions are no shares, or leave a split without a row.
    """
    shares = {
        name: share for name, share in zip(SPLITS, fractions, strict=True) if name == "train" or name not in given
    }
    if len(shares) == 1:
        return {}
    scale = sum(fractions) / (sum(shares.values()) or 1)  # so that a wrong sum of all three stays wrong
    if members is None:
        (known,) = (strata >= 0).nonzero(as_tuple=True)
        members = [(known.numpy(), strata[known].numpy())]
    scaled = [share * scale for share in shares.values()]
    parts = torch.from_numpy(split_rows(scaled, strata.numpy(), seed=seed, members=members))
    return {name: (parts == number).nonzero().squeeze(1) for number, name in enumerate(shares)}
