"""A network, what is done to its images, and its data, by a configuration alone: no trainer is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pydoc import locate
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from app.configuration.fitting import Fitting
from app.network.network import BackboneFactory, Network, SharingFactory
from app.tasks import HeadFactory, TaskConfig
from datamodules.contract import Contract
from datamodules.reading.transforms import TimmTransforms, Transforms
from datamodules.sources import Source
from datamodules.sources.base import align_sources
from models.backbones import LateFusion, Projected, TimmBackbone, without_pretrained_weights
from models.errors import ConfigurationError
from models.sharing import HardSharing

PARTS = ("backbone", "sharing", "head", "tasks")


def network_of(configuration: Mapping[str, Any], contract: Contract) -> Network:
    """The network that a configuration describes, its weights drawn anew.

    Args:
        configuration: As a run keeps it.
        contract: What the network takes and gives.

    Raises:
        ValueError: It describes none.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=BackboneFactory)
    parser.add_argument("--sharing", type=SharingFactory, default=HardSharing)
    parser.add_argument("--head", type=HeadFactory | None, default=None)
    parser.add_argument("--tasks", type=dict[str, TaskConfig], default={})
    model = configuration["model"]
    parsed = _parsed(parser, {part: model[part] for part in PARTS if model.get(part) is not None})
    built = parser.instantiate_classes(parsed)
    coarse = bool((model.get("layers") or {}).get("coarse", False))
    shape: Any = contract.input_shape
    with without_pretrained_weights():
        return Network(contract.targets, shape, built.backbone, built.sharing, built.head, built.tasks, coarse)


def transforms_of(configuration: Mapping[str, Any], contract: Contract) -> tuple[Transforms | None, str | None]:
    """What is done to images before the network sees them, and timm's name of the network.

    Raises:
        ValueError: The configuration describes none.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--transform", type=Transforms | Literal["timm"] | None, default=None)
    parser.add_argument("--backbone", type=BackboneFactory)
    given = {"transform": configuration["data"].get("transform"), "backbone": configuration["model"]["backbone"]}
    parsed = _parsed(parser, given)
    chosen = parser.instantiate_classes(parsed).transform
    made = TimmTransforms() if chosen == "timm" else chosen
    return made and made.as_recorded(contract.transform), timm_name(parsed.backbone)


def sources_of(configuration: Mapping[str, Any]) -> dict[str, Source]:
    """Where the samples of a run come from.

    Raises:
        ValueError: The configuration describes none, or their files are not there.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=dict[str, Source])
    parsed = _parsed(parser, {"sources": configuration["data"]["sources"]})
    return align_sources(parser.instantiate_classes(parsed).sources)


def timm_name(backbone: Any) -> str | None:
    """The name in timm of the network that reads images, if it is one of timm's."""
    kind = locate(backbone.class_path) if isinstance(backbone, Namespace) else None
    if kind is LateFusion:
        return timm_name(backbone.init_args.get("backbones", {}).get("image"))
    if kind is Projected:
        return timm_name(backbone.init_args.get("backbone"))
    of_timm = isinstance(kind, type) and issubclass(kind, TimmBackbone)
    name: str | None = backbone.init_args.get("name") if of_timm else None
    return name


def _parsed(parser: ArgumentParser, given: dict[str, Any]) -> Namespace:
    """A part of a configuration, of which nothing has been called yet."""
    try:
        parsed: Namespace = parser.parse_object(given)
    except ArgumentError as error:
        found = " ".join(str(error).split())
        raise ConfigurationError("run", "must have a configuration that can be built", found) from error
    Fitting({action.dest: getattr(action, "_typehint", None) for action in parser._actions}).check(parsed)
    return parsed
