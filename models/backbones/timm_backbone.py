"""Any network of timm, pretrained or not."""

from collections import defaultdict
from itertools import accumulate, chain
from math import prod
from typing import Literal

import timm
import torch
from torch import nn

from models.backbones import weights as weight_files
from models.backbones.base import Backbone
from models.backbones.creation import create, embed, keep_read, read_before, wants_pretrained_weights
from models.backbones.cutting import find_cut
from models.errors import ConfigurationError


class TimmBackbone(Backbone):
    """A timm network without its classifier, cut where timm marks its features.

    The last stage is what lies between the last marked feature and the classifier: pooling, and whatever the family
    has around it (ConvNeXt's norm, MobileNetV3's last convolution). A vision transformer is cut into embedding, four
    groups of blocks, and final norm with pooling; a network that can be cut in neither way into features and pooling.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        name: str,
        pretrained: bool = False,
        weights: str | None = None,
        weights_sha256: str | None = None,
        match: Literal["name", "order"] = "name",
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        output_stride: Literal[8, 16, 32] | None = None,
    ) -> None:
        """Build the network for images of this shape, load its weights, and cut it.

        Args:
            input_shape: shape of one image, (channels, height, width).
            name: name of the network in timm, with or without a tag of its weights (resnet18.a1_in1k).
            pretrained: start from the weights that timm has on the hub.
            weights: start from this local file (.safetensors, .pth, .pt or .bin).
            weights_sha256: that file's SHA-256, or the first eight or more of its hexadecimal digits: another file is
                refused. Zips, as torch writes them, have sums of their own; other formats would be believed.
            match: how `weights` fits the network: by the names in the file, or by their order, for a file of the same
                network under other names.
            drop_path_rate: stochastic depth, the chance to skip the deepest residual branch.
            drop_rate: dropout on the embedding.
            output_stride: size of the image over that of the last map; the network's own by default. A smaller one, for
                heads of a prediction a pixel, dilates later convolutions in place of their strides; ResNets and
                ConvNeXts can.

        Raises:
            ValueError: an unknown network, a shape or option that it cannot take, or weights that do not fit or cannot
                be had.
        """
        super().__init__()
        if weights_sha256 is not None and weights is None:
            raise ConfigurationError("backbone.weights_sha256", "needs backbone.weights", repr(weights_sha256))
        if pretrained and weights is not None:
            raise ConfigurationError("backbone.weights", "give either pretrained or weights", f"both ({weights!r})")
        options = {"drop_path_rate": drop_path_rate, "drop_rate": drop_rate, "output_stride": output_stride}
        given: dict[str, float] = {key: value for key, value in options.items() if value}
        loads = wants_pretrained_weights() and (pretrained or weights is not None)
        asked = (tuple(input_shape), name, weights, weights_sha256, match, *given.items())
        known = read_before(asked) if loads else None
        self.net = create(input_shape, name, pretrained and loads and known is None, given)
        if known is not None:
            self.net.load_state_dict(known)
        elif weights is not None and loads:
            weight_files.load(self.net, weights, match, in_chans=input_shape[0], sha256=weights_sha256)
        if loads and known is None:
            keep_read(asked, self.net)
        # A fixed pattern and not noise: the random state is the initialisation's alone.
        sample = torch.arange(prod(input_shape)).sin().view(1, *input_shape)
        self.net.eval()
        self._cut, features = find_cut(self.net, sample, embed(self.net, sample, name))
        self.net.train()
        self.channels = [x.shape[1] if x.ndim == 4 else x.shape[-1] for x in features]

    @property
    def stages(self) -> list[nn.Module]:
        """Views of the network's modules, made anew at each call: the network alone owns them."""
        return self._cut(self.net)

    def layer_groups(self, coarse: bool = False) -> dict[str, list[str]]:
        """Names of the parameters by depth, as timm's own `group_matcher` tells it: a group a block.

        A group is called after the modules it consists of, the shortest names that cover it and nothing else, joined
        by a plus: `conv1+bn1`, `layer4.1`, `blocks.11+norm`.

        Args:
            coarse: a group a stage of the network, instead of a block.

        Returns:
            Group name → names of its parameters.
        """
        # The few families without a matcher are grouped by child.
        children = {name: rf"{name}\." for name, _ in self.net.named_children()}
        matcher = self.net.group_matcher(coarse=coarse) if hasattr(self.net, "group_matcher") else children
        groups = timm.models.group_parameters(self.net, matcher)
        ordered = [groups[depth] for depth in sorted(groups)]
        return {title: [f"net.{n}" for n in names] for title, names in zip(_titles(ordered), ordered, strict=True)}


def _titles(groups: list[list[str]]) -> list[str]:
    """For each group of parameters, the shortest module names that cover it and nothing else."""
    owners = defaultdict(set)
    for i, names in enumerate(groups):
        for prefix in chain.from_iterable(map(_prefixes, names)):
            owners[prefix].add(i)
    covers = ([next(p for p in _prefixes(name) if len(owners[p]) == 1) for name in names] for names in groups)
    return ["+".join(dict.fromkeys(cover)) for cover in covers]


def _prefixes(name: str) -> list[str]:
    """The modules on the way to a parameter, and the parameter: a.b.c → a, a.b, a.b.c."""
    return list(accumulate(name.split("."), "{}.{}".format))
