"""Creates timm networks; what cannot be created is one clear error."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import huggingface_hub
import timm
import torch
from torch import Tensor, nn

from models.errors import ConfigurationError, near_it

_pretrained = ContextVar("pretrained", default=True)
_read: ContextVar[dict[Hashable, dict[str, Tensor]] | None] = ContextVar("read", default=None)


@contextmanager
def without_pretrained_weights() -> Iterator[None]:
    """Within it, networks are built as if they had been asked for no pretrained weights."""
    token = _pretrained.set(False)
    try:
        yield
    finally:
        _pretrained.reset(token)


def wants_pretrained_weights() -> bool:
    """Whether pretrained weights are to be loaded, where a network is asked for them."""
    return _pretrained.get()


@contextmanager
def reading_once() -> Iterator[None]:
    """Within it, the pretrained weights of networks that are asked for alike are read once, for all of them."""
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def read_before(asked: Hashable) -> dict[str, Tensor] | None:
    """The weights of a network that was asked for in this way, if one was and weights are read once."""
    return (_read.get() or {}).get(asked)


def keep_read(asked: Hashable, net: nn.Module) -> None:
    """Keep the weights of a network that was asked for in this way, where weights are read once."""
    read = _read.get()
    if read is not None:
        read[asked] = {name: x.clone() for name, x in net.state_dict().items()}


def create(input_shape: tuple[int, ...], name: str, pretrained: bool, options: dict[str, float]) -> Any:
    """Create a timm network without classifier for images of this shape.

    Args:
        input_shape: shape of one image, (channels, height, width).
        name: name of the network in timm, with or without a tag of its weights.
        pretrained: load timm's weights from the hub.
        options: of the network (drop_rate, drop_path_rate, output_stride), those that are given.

    Raises:
        ValueError: an unknown network, an option that it does not have, a shape that it cannot take, or weights that
            cannot be had.
    """
    _check_name(name)
    if len(input_shape) != 3:
        raise ConfigurationError("input_shape", f"{name} reads images (channels, height, width)", tuple(input_shape))
    if pretrained:
        _check_hub(name)
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": input_shape[0], **options}
    # timm's mark of the networks that are built for one size and take it as an argument.
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        arguments["img_size"] = tuple(input_shape[1:])
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except TypeError as error:
        raise ConfigurationError(
            "backbone.name", f"{name} does not take an argument that it is given ({error})"
        ) from error
    except OSError as error:
        raise ConfigurationError(_unreachable(name, error)) from error
    except (AssertionError, ArithmeticError, RuntimeError, ValueError) as error:
        raise _unsuitable(input_shape, name, error) from error


@torch.no_grad()
def embed(net: Any, sample: Tensor, name: str) -> Tensor:
    """What the network's own classifier would read, [1, C], for one sample [1, C, H, W].

    Raises:
        ValueError: the network cannot take the sample, or gives no embedding.
    """
    try:
        features = net.forward_features(sample)
        pooled = net.forward_head(features, pre_logits=True)
    except Exception as error:  # families fail in their own way on an image that is too small or indivisible
        raise _unsuitable(tuple(sample.shape[1:]), name, error) from error
    if not isinstance(features, Tensor) or not isinstance(pooled, Tensor) or pooled.ndim != 2:
        raise ConfigurationError(
            "backbone.name", f"a network with one embedding [B, C] is needed, {name} gives another output"
        )
    return pooled


def _check_name(name: str) -> None:
    names = [*timm.list_models(), *timm.list_models(include_tags=True)]
    if name not in names:
        raise ConfigurationError("backbone.name", "must be a network of timm", f"{name!r}{near_it(name, names)}")


def _check_hub(name: str) -> None:
    """Ask the hub once: timm would repeat its request for most of a minute where there is no network."""
    if not timm.models.is_model_pretrained(name):
        raise ConfigurationError(
            "backbone.pretrained", f"timm has no weights for {name}; give a local file as backbone.weights"
        )
    repository = timm.models.get_pretrained_cfg_value(name, "hf_hub_id")
    if not repository or isinstance(huggingface_hub.try_to_load_from_cache(repository, "model.safetensors"), str):
        return  # weights elsewhere than on the hub fail at once, those at hand need no hub
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception as error:  # the class depends on the HTTP client, which changes with huggingface_hub's version
        raise ConfigurationError(_unreachable(name, error)) from error


def _unreachable(name: str, error: Exception) -> str:
    return (
        f"backbone.pretrained: the weights of {name} cannot be fetched from the hub ({_line(error)}); "
        "give a local file as backbone.weights"
    )


def _unsuitable(input_shape: tuple[int, ...], name: str, error: Exception) -> ValueError:
    return ValueError(f"input_shape: {name} cannot take images of shape {tuple(input_shape)} ({_line(error)})")


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
