"""What the methods that divide by a loss or take its logarithm do near zero."""

from torch import Tensor

from models.errors import ConfigurationError

ZERO = 1e-20  # a loss up to here counts as zero; its inverse is finite in float32


def floored(losses: Tensor) -> Tensor:
    """The losses [T'], at least 1e-20. One that is raised to it has no gradient: nothing is left to learn from it.

    Raises:
        ValueError: A loss is negative.
    """
    if (losses < 0).any():
        raise ConfigurationError("model.balancer", "losses must be at least 0 for this method", losses.tolist())
    return losses.clamp(min=ZERO)


def raised(losses: Tensor) -> Tensor:
    """As `floored`, but with the losses' own gradient, so that a factor of them is their weight at zero too."""
    return losses + (floored(losses) - losses).detach()
