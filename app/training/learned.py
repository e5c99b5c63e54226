"""What a training has learned beside the network, in a checkpoint that another training may read."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

LEARNED = ("balancing.", "regularization.")  # how the names of the state of balancers and regularizers begin


def with_own(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor], training: bool) -> dict[str, Tensor]:
    """A checkpoint's state; with one's own of what is learned, where that is not trained on or is of another kind.

    Args:
        theirs: Name → tensor, as the checkpoint has them.
        own: The same, as the module has them.
        training: Whether it is trained on.
    """
    state = dict(theirs)
    for beginning in LEARNED:
        ours = {name: x for name, x in own.items() if name.startswith(beginning)}
        found = {name for name in theirs if name.startswith(beginning)}
        if not training or found != ours.keys():
            state = {name: x for name, x in state.items() if name not in found} | ours
    return state
