"""Pretrained weights from a local file."""

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from warnings import warn
from zipfile import is_zipfile

import timm
from torch import Tensor

from models.errors import ConfigurationError
from models.whole_file import fault_of

BY_ORDER = "; by their order all fit: if it is this network under other names, `match: order` takes them so"
SHORTEST = 8  # digits of a sum, as in the names of torch's own files
Match = Literal["name", "order"]


def load(net: Any, path: str, match: Match, in_chans: int, sha256: str | None = None) -> None:
    """Load the weights of a file into a timm network that has no classifier; the file's own classifier is dropped.

    As with timm's own weights, the first convolution is adapted to the number of channels, and position embeddings
    to the size of the image.

    Args:
        net: a timm network.
        path: a .safetensors, .pth, .pt or .bin file with a state dict.
        match: "name": by name in the state dict. "order": by position in it, for a file of the same network whose
            names are others.
        in_chans: channels of the image.
        sha256: the file's SHA-256 in hexadecimal digits, or the first eight of them or more.

    Raises:
        ValueError: there is no such file, it is another than `sha256` says or is unreadable, it needs code to be read,
            it does not fit, or has a number that is not finite.
    """
    state = read(path, sha256)
    if match == "order":
        state = _by_order(state, net, path)
    found, ordered = _without_classifier(state, net), match == "name" and _fits_by_order(state, net)
    cfg = net.pretrained_cfg | {"state_dict": state, "num_classes": 0, "label_offset": 0}
    try:
        timm.models.load_pretrained(net, cfg, num_classes=0, in_chans=in_chans, filter_fn=_translate)
    except (RuntimeError, KeyError) as error:
        raise ConfigurationError(_difference(found, net, path) + (BY_ORDER if ordered else "")) from error
    if odd := [name for name, x in net.state_dict().items() if not x.isfinite().all()]:
        raise ConfigurationError("backbone.weights", "numbers must be finite", f"others in {_first(odd)} of {path!r}")


def read(path: str, sha256: str | None = None) -> dict[str, Tensor]:
    """The state dict in a file, out of its usual wrappers (`state_dict`, `model`, `module.`); no code is run."""
    if not Path(path).is_file():
        raise ConfigurationError("backbone.weights", "an existing file is needed", repr(path))
    if sha256 is not None:
        _check_sum(Path(path), sha256)
    if is_zipfile(path) and (fault := fault_of(Path(path))):  # other formats have no sum of their own
        raise ConfigurationError("backbone.weights", "a whole file is needed", f"{path!r}, but {fault}")
    try:
        state = timm.models.load_state_dict(path)
    except Exception as error:  # of a broken file, unpickling raises whatever its bytes lead to
        raise ConfigurationError(_unreadable(path, error.__cause__ or error)) from error
    tensors = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ConfigurationError(
            "backbone.weights", f"a file with a state dict is needed, {path!r} holds no named tensors"
        )
    return tensors


def _check_sum(path: Path, wanted: str) -> None:
    if not re.fullmatch(f"[0-9a-fA-F]{{{SHORTEST},64}}", wanted):
        rule = f"the first {SHORTEST} to all 64 hexadecimal digits of a SHA-256 are needed"
        raise ConfigurationError("backbone.weights_sha256", rule, repr(wanted))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted.lower()):
        raise ConfigurationError("backbone.weights_sha256", f"{path} must have the sum {wanted}", found)


def _unreadable(path: str, error: BaseException) -> str:
    if "GLOBAL" in str(error):  # torch's word for a name that unpickling would import
        return f"backbone.weights: {path!r} holds pickled code, which is never run: save tensors only, as .safetensors"
    return f"backbone.weights: a file with a state dict is needed, {path!r} is none ({type(error).__name__})"


def _translate(state: dict[str, Tensor], net: Any) -> dict[str, Tensor]:
    # A family's translation of foreign names, and its resampling of position embeddings, is in its module.
    family = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    return _without_classifier(family(state, net) if family else state, net)


def _without_classifier(state: dict[str, Tensor], net: Any) -> dict[str, Tensor]:
    dropped = set(_classifier(net)) - set(net.state_dict())
    return {name: value for name, value in state.items() if name not in dropped}


def _classifier(net: Any) -> list[str]:
    return [f"{module}.{kind}" for module in _named(net, "classifier") for kind in ("weight", "bias")]


def _named(net: Any, part: str) -> list[str]:
    """The modules that timm says are this part of a network: none, one or several."""
    modules = net.pretrained_cfg.get(part) or ()
    return [modules] if isinstance(modules, str) else list(modules)


def _by_order(state: dict[str, Tensor], net: Any, path: str) -> dict[str, Tensor]:
    """The file's tensors under timm's names. If there are more than the network has, the last are the classifier's."""
    wanted, classifier, found = [*_counted(net.state_dict())], _classifier(net), _counted(state)
    if len(found) not in (len(wanted), len(wanted) + len(classifier)):
        raise ConfigurationError(
            "backbone.weights",
            f"match 'order' needs the {len(wanted)} tensors of "
            f"{net.pretrained_cfg['architecture']}, or {len(classifier)} more for its classifier, "
            f"{path!r} holds {len(found)}",
        )
    if others := [(foreign, own) for foreign, own in zip(found, wanted, strict=False) if foreign != own]:
        foreign, own = others[0]
        warn(
            f"backbone.weights: {len(others)} tensors of {path!r} are taken by their order, since `match` is order, "
            f"under other names than {net.pretrained_cfg['architecture']} has, such as {foreign} for {own}",
            stacklevel=2,
        )
    return dict(zip([*wanted, *classifier], found.values(), strict=False))


def _fits_by_order(state: dict[str, Tensor], net: Any) -> bool:
    """Whether the file's tensors have the network's shapes, one after the other; their names are not looked at."""
    wanted, found = _counted(net.state_dict()), _counted(state)
    first = [f"{module}.weight" for module in _named(net, "first_conv")]  # which are adapted to the image's channels

    def same(name: str, x: Tensor) -> bool:
        own = wanted[name].shape
        return x.shape == own or (name in first and (x.shape[0], *x.shape[2:]) == (own[0], *own[2:]))

    if len(found) not in (len(wanted), len(wanted) + len(_classifier(net))):
        return False
    return all(same(name, x) for name, x in zip(wanted, found.values(), strict=False))


def _counted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without BatchNorm's counters, which older files lack."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _difference(state: dict[str, Tensor], net: Any, path: str) -> str:
    own, state = _counted(net.state_dict()), _counted(state)
    missing = [f"{name} {list(own[name].shape)}" for name in own if name not in state]
    unexpected = [f"{name} {list(state[name].shape)}" for name in state if name not in own]
    reshaped = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    parts = [f"{len(names)} {kind}: {_first(names)}" for kind, names in kinds.items() if names]
    return f"backbone.weights: {path!r} does not fit {net.pretrained_cfg['architecture']}: {'; '.join(parts)}"


def _first(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
