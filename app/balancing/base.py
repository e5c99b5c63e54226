"""The nouns of balancing: T losses become one update."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from app.balancing.engine.step import Step


class Scalarizer(nn.Module, ABC):
    """Losses → the scalar that is minimised. Shared and task-specific parameters follow it alike.

    The network's update needs only ∂scalar/∂losses, a weight a task, which is taken at the losses of the whole step.
    Its own parameters, if it has any, are trained by the network's optimizer; a task's are in parameters of their own,
    so that an absent task's are left alone. Random numbers come from torch's global generator, seeded by the step.

    Attributes:
        linear: Whether the weights are known before the step's losses are.
        constant: Whether they are always one.
        observes: Whether `observe` is to be shown the steps.
        wants_norms: Whether `observe` needs the norms of the tasks' gradients at the last shared layer.
        looks_again: Whether `look_again` needs the losses of the same batch after the update.
        needs_whole_batch: Whether a step's rows have to come in one micro-batch.
        unused_options: Fields of `GradientConfig` that say nothing to it.
        kind: What a refusal of these calls it.
    """

    linear: bool = False
    constant: bool = False
    observes: bool = False
    wants_norms: bool = False
    looks_again: bool = False
    needs_whole_batch: bool = False
    unused_options: frozenset[str] = frozenset({"level", "every", "scale_heads", "loss_transform"})
    kind: str = "a loss weighting"

    def __init_subclass__(cls) -> None:
        """Refuse a class that defines what, by its attributes, is never called.

        Raises:
            TypeError: It has its own `observe` or `look_again`, and does not say so.
        """
        super().__init_subclass__()
        for method, declared in (("observe", "observes"), ("look_again", "looks_again")):
            if getattr(cls, method) is not getattr(Scalarizer, method) and not getattr(cls, declared):
                raise TypeError(f"{cls.__name__}: has `{method}`, so that it must say `{declared} = True`")

    def start(self, tasks: int) -> None:
        """Create the state for this many tasks; called once, before anything else."""

    @abstractmethod
    def forward(self, losses: Tensor, step: Step) -> Tensor:
        """The scalar, differentiable in `losses` [T'], which are those of `step.present`. Changes no state."""

    def observe(self, losses: Tensor, step: Step, norms: Tensor | None) -> None:
        """See a step's losses [T'], and where `wants_norms` the gradients' norms [T'], before the optimizer steps."""

    def look_again(self, losses: Tensor, step: Step) -> None:
        """See the losses [T'] of the same batch after the optimizer has stepped."""


class Weighting(nn.Module, ABC):
    """Gramian of the tasks' gradients → weights of the sum that the shared parameters follow.

    Task-specific parameters follow their own task's gradient. Random numbers come from torch's global generator, which
    is seeded by the step.

    Attributes:
        unused_options: Fields of `GradientConfig` that say nothing to it.
        kind: What a refusal of these calls it.
    """

    unused_options: frozenset[str] = frozenset()
    kind: str = "a gradient method"

    def start(self, tasks: int) -> None:
        """Create the state for this many tasks; called once, before anything else."""

    @abstractmethod
    def forward(self, gramian: Tensor, step: Step) -> Tensor:
        """Weights [T'] of the tasks `step.present`.

        Args:
            gramian: [T', T'] J Jᵀ in float64 on the CPU, at the losses' true scale, finite, with a positive diagonal.
            step: The step.
        """


class JacobianRule(nn.Module, ABC):
    """Jacobian of the tasks' losses → the update of the shared parameters, for rules that have no weights.

    Task-specific parameters follow their own task's gradient. Random numbers as in `Weighting`.

    Attributes:
        unused_options: Fields of `GradientConfig` that say nothing to it.
        kind: What a refusal of these calls it.
    """

    unused_options: frozenset[str] = frozenset({"level", "every", "scale_heads"})
    kind: str = "a method without weights"

    def start(self, tasks: int) -> None:
        """Create the state for this many tasks; called once, before anything else."""

    @abstractmethod
    def forward(self, jacobian: Tensor, step: Step) -> Tensor:
        """The update [P] from the gradients [T', P] of the tasks `step.present`, none of them zero."""


def normalised(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian [T', T'] divided by the mean of its diagonal, and that mean.

    Solvers have absolute tolerances, so that the loss's scale would otherwise decide what they find.
    """
    mean = gramian.diagonal().mean()
    return gramian / mean, mean
