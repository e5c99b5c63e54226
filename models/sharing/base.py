"""What every sharing scheme answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.backbones.base import Inputs, Shape, last_trained_matrix, zeros
from models.errors import ConfigurationError
from models.learned import Gates, Learned
from models.sharing.copies import Copy, backbones, copy_at


class Sharing(nn.Module, ABC):
    """The network below the heads: from a batch of inputs to the features of every task's rows.

    The first two arguments of a subclass are `backbone`, which builds a fresh backbone at each call, and `tasks`, the
    names of the tasks. Both are supplied by the application, all other arguments by the config.

    A scheme whose shared part ends in features defines `shared_features` and `task_features`, and declares
    `passes_on_features`; any other defines `forward`.

    What mixes activations, as gates do, is drawn anew whatever the backbones start from: it is named by
    `mixing_weights`, and every name of it is a layer of its own, `sharing.<name>`, without weight decay.

    Attributes:
        channels: task → channels of its features, one a stage.
        mixing_rate: factor of the learning rate of mixing weights.
        has_penalty: whether the scheme has a term of the objective that depends on parameters alone, `penalty`.
        largest_rate: the learning rate of SGD above which a step along the penalty goes too far; None for any.
        walks_stages: whether the scheme applies the backbones stage by stage, by their `stage_calls`.
        passes_on_features: whether the shared parameters reach the tasks through `shared_features` alone, so that
            gradient methods may look at these in place of the parameters.
        structure: names of the buffers that say which parameters are in use; `model.init_from` leaves them alone.
    """

    channels: dict[str, list[int]]
    passes_on_features: bool = False
    mixing_rate: float = 1.0
    has_penalty: bool = False
    largest_rate: float | None = None
    walks_stages: bool = False
    structure: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        """Refuse a scheme that passes on features and whose own `forward` would not be called.

        Raises:
            TypeError: It is one.
        """
        super().__init_subclass__()
        if cls.passes_on_features and cls.forward is not Sharing.forward:
            raise TypeError(
                f"{cls.__name__} passes on features, so it must define shared_features and task_features in place of "
                "forward, or say passes_on_features = False"
            )

    def forward(self, inputs: Inputs, rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Features of each task's rows, one a stage.

        Args:
            inputs: the batch [B, ...], or one such tensor a modality.
            rows: task → its rows of the batch, [B_t], sorted and unique. A task without rows is not in it.

        Returns:
            Task of `rows` → features [B_t, ...].
        """
        return self.task_features(self.shared_features(inputs, rows), rows)

    def shared_features(self, inputs: Inputs, rows: dict[str, Tensor]) -> list[Tensor]:
        """All features by which the shared parameters reach the tasks; see `forward` for the arguments."""
        raise self._undefined("shared_features, or forward")

    def task_features(self, shared: list[Tensor], rows: dict[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """What `forward` returns, from `shared_features` or from copies of them."""
        raise self._undefined("task_features, or forward")

    def _undefined(self, method: str) -> ConfigurationError:
        return ConfigurationError("model.sharing", f"{type(self).__name__} must define {method}")

    def compared_weights(self) -> list[nn.Parameter]:
        """The trained weights by whose gradients GradNorm compares the tasks: the last shared layer's.

        Here the last weight matrix among the shared parameters.
        """
        return last_trained_matrix(self.shared_parameters())

    def rows_in_trunk(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Task → the rows of the shared activations that are its own, [B_t]; here they are laid out as the batch is.

        Nothing, where shared activations are laid out in several ways.
        """
        return rows

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """Names of the parameters by depth, from input to output: a partition of `named_parameters()`.

        Groups of the same name in several backbones are one; what lies outside of them, or is drawn anew in any case,
        is `sharing`, and what mixes activations is last.

        Args:
            coarse: see `Backbone.layer_groups`.

        Returns:
            `backbone.<group>` → names of its parameters.
        """
        groups: dict[str, list[str]] = {}
        for path, _, backbone in backbones(self):
            own = {} if backbone.drawn_anew else backbone.layer_groups(coarse)
            for group, names in own.items():
                groups.setdefault(f"backbone.{group}", []).extend(f"{path}{name}" for name in names)
        called = {id(parameter): name for name, parameter in self.named_parameters()}
        mixing = {mixing_layer(what): [called[id(p)] for p in each] for what, each in self.mixing_weights().items()}
        inside = {name for of in (groups, mixing) for names in of.values() for name in names}
        outside = [name for name in called.values() if name not in inside]
        return groups | ({"sharing": outside} if outside else {}) | mixing

    def mixing_weights(self) -> dict[str, list[nn.Parameter]]:
        """Name → the weights by which the scheme mixes activations."""
        return {}

    def shown_gates(self) -> dict[str, Gates]:
        """Name → gates, of whose weights the means over rows are shown."""
        return {}

    def learned(self) -> dict[str, Learned]:
        """Name → what else the scheme has learned, to be shown."""
        return {}

    def penalty(self) -> Tensor:
        """The term of the objective that depends on parameters alone, a number, of a scheme that has one."""
        raise self._undefined("penalty")

    def take_row_terms(self) -> dict[str, Tensor]:
        """Task → what the scheme adds to the sum of its losses over its rows, of the last forward pass in training.

        Such terms depend on rows, as the entropy of gates that see them does. They are given once.
        """
        return {}

    def compile_backbones(self) -> None:
        """Compile what is called of every backbone by `torch.compile`."""
        for _, _, backbone in backbones(self):
            if self.walks_stages:
                backbone.compile_stages()
            else:
                backbone.compile()

    def blank(self, input_shape: Shape, rows: int) -> Inputs:
        """A batch of `rows` rows of zeros, as the backbones read them."""
        first = next(iter(backbones(self)), None)
        return zeros(input_shape, rows) if first is None else first[2].blank(input_shape, rows)

    def seen(self, input_shape: Shape) -> Shape:
        """The shape of what the backbones see of an input of this one; here all of it."""
        return input_shape

    def copies(self) -> list[Copy]:
        """Where the scheme has the tensors of a backbone, to begin with those of a trained one.

        Here every backbone is a copy, but for what is drawn anew in any case; one that is filed under a task is the
        task's.
        """
        return [copy_at(path, task, each) for path, task, each in backbones(self) if not each.drawn_anew]

    def follow(self, copies: Sequence[Copy]) -> None:
        """Go on from these copies, whose tensors others have been written to; here they are the scheme's own."""

    @abstractmethod
    def shared_parameters(self) -> list[nn.Parameter]:
        """The parameters that the losses of several tasks reach."""

    @abstractmethod
    def task_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters that this task's loss alone reaches. With the shared ones, a partition of those in use."""

    def unused_parameters(self) -> list[nn.Parameter]:
        """The parameters that no loss reaches until the scheme's structure changes; here none."""
        return []


def mixing_layer(name: str) -> str:
    """The layer of the mixing weights of this name."""
    return f"sharing.{name}"
