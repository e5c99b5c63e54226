"""A head that reads other tasks' predictions beside its features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.by_name import ModulesByName
from models.heads.base import Head
from models.lazy import LazyFeatures


class ReadingHead(Head):
    """Reads [features; Σ_c p(c) ℓ_c] of each earlier task: its predictions p and learned embeddings ℓ_c of its labels.

    Hashimoto et al., "A Joint Many-Task Model: Growing a Neural Network for Multiple NLP Tasks" (2017), eq. 3. Of a
    number there is one ℓ, which it multiplies. Beside maps and tokens the embeddings stand at every place.
    """

    def __init__(self, head: Head, reads: Mapping[str, int], width: int) -> None:
        """Build the embeddings.

        Args:
            head: reads features that are wider by `width` for each task that is read.
            reads: task → width of its predictions.
            width: of an embedding.
        """
        super().__init__()
        self.labels = ModulesByName[nn.Linear](
            {task: nn.Linear(size, width, bias=False) for task, size in reads.items()}
        )
        self.head = head

    def forward(self, features: Sequence[Tensor], predictions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Prediction from the features of the backbone's stages and other tasks' predictions [B, outputs].

        Without these, from zeros in their place.
        """
        if predictions is None:
            x = features[-1]
            predictions = {task: x.new_zeros(x.shape[0], each.in_features) for task, each in self.labels.items()}
        layers = {task: self.labels[task] for task in predictions}
        embedded = [layer(predictions[task].to(layer.weight.dtype)) for task, layer in layers.items()]
        prediction: Tensor = self.head(Beside(features, torch.cat(embedded, dim=1)))
        return prediction


class Beside(LazyFeatures):
    """Features with further channels [B, width], joined only where a feature is read."""

    def __init__(self, features: Sequence[Tensor], more: Tensor) -> None:
        self.features, self.more = features, more

    def __len__(self) -> int:
        """Number of stages."""
        return len(self.features)

    def at(self, stage: int) -> Tensor:
        """A stage's feature, wider."""
        x = self.features[stage]
        if x.ndim == 4:
            return torch.cat([x, self.more[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        more = self.more[:, None].expand(-1, x.shape[1], -1) if x.ndim == 3 else self.more
        return torch.cat([x, more], dim=-1)
