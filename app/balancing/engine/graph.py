"""The layers of an autograd graph: which operation reads a parameter, and what it has saved.

They are found in the graph of the losses and not among the modules, so that a weight which is tied, parametrised, cast
or read twice is never taken for a plain layer's, and in-place activations do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

Use = tuple[Any, int, bool]  # an operation, which of its arguments is read, and whether it is transposed first


class Graph:
    """What lies below some losses. To be built before a backward pass frees what the graph has saved.

    Attributes:
        signature: Equal for graphs of the same operations; batch normalisation with and without the batch's statistics
            are two.
        mixes_rows: Whether a batch normalisation uses the batch's statistics, other than those of a task's rows alone,
            as `HardSharing` lays them out.
    """

    def __init__(self, losses: Iterable[Tensor]) -> None:
        self._readers: dict[Any, list[tuple[Any, int]]] = {}
        self._leaves: dict[int, Any] = {}
        self.mixes_rows = False
        names: list[object] = []
        waiting = [loss.grad_fn for loss in losses]
        seen = set(waiting)
        while waiting:
            node = cast(Any, waiting.pop())
            names.append((node.name(), getattr(node, "_saved_training", None)))
            if "BatchNorm" in node.name() and node._saved_training:
                scale = node.next_functions[1][0]
                self.mixes_rows |= scale is None or scale.name() != "UnbindBackward0"
            if hasattr(node, "variable"):
                self._leaves[id(node.variable)] = node
            for place, (child, _) in enumerate(node.next_functions):
                if child is not None:
                    self._readers.setdefault(child, []).append((node, place))
                    if child not in seen:
                        seen.add(child)
                        waiting.append(child)
        self.signature = hash(tuple(names))

    def reads(self, parameter: nn.Parameter) -> bool:
        """Whether any loss reaches the parameter."""
        return id(parameter) in self._leaves

    def only_reader(self, parameter: nn.Parameter) -> Use | None:
        """The one operation that reads the parameter, if there is just one."""
        found = self._one(self._leaves.get(id(parameter)))
        if found is None or found[0].name() != "TBackward0":
            return found and (*found, False)
        found = self._one(found[0])
        return found and (*found, True)

    def _one(self, node: Any) -> tuple[Any, int] | None:
        readers = self._readers.get(node, [])
        return readers[0] if len(readers) == 1 else None


@dataclass
class Product:
    """A convolution or linear layer: outputs [R, out] = inputs [R, fan-in] · weightᵀ + bias, R rows × positions.

    Attributes:
        weight: Its weight, which nothing else reads.
        bias: Its bias, if it has one that is trained.
        edge: Where the gradient of its output is found.
        inputs: What it reads, [B, C, H, W] or [R, fan-in].
        window: stride, padding and dilation of a convolution; empty for a linear layer.
        live: Along each side of a convolution's kernel, the part that ever meets more than padding: of 3×3 on 1×1, one.
        positions: R.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    edge: GradientEdge
    inputs: Tensor
    window: dict[str, tuple[int, ...]]
    live: tuple[slice, ...]
    positions: int

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weight, and the bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def fan_in(self) -> int:
        """What `input_rows` has a row."""
        live: int = prod(side.stop - side.start for side in self.live)
        return self.weight.shape[1] * live

    def input_rows(self) -> Tensor:
        """[R, fan-in], made anew at each call: of a convolution it is larger than what is kept."""
        if not self.window:
            return self.inputs
        stride, padding, dilation = self.window.values()
        padding = tuple(p - side.start * d for p, side, d in zip(padding, self.live, dilation, strict=True))
        kernel = tuple(side.stop - side.start for side in self.live)
        patches = F.unfold(self.inputs, kernel, dilation, padding, stride)
        return patches.transpose(1, 2).flatten(0, 1)

    def output_rows(self, gradient: Tensor) -> Tensor:
        """[R, out] of a gradient of the output."""
        return gradient.flatten(2).transpose(1, 2).flatten(0, 1) if self.window else gradient

    def kernel(self) -> Tensor:
        """[R, R] A Aᵀ of the input's rows, to which a bias adds a column of ones."""
        rows = self.input_rows()
        kernel = rows @ rows.T
        return kernel if self.bias is None else kernel.add_(1)

    def write(self, gradient: Tensor) -> None:
        """Write the `.grad` that rows [R, out] of a gradient of the output give."""
        found = gradient.T @ self.input_rows()
        part = (slice(None), slice(None), *self.live)
        if found.numel() == self.weight.numel():
            self.weight.grad = found.view_as(self.weight)
        else:
            self.weight.grad = torch.zeros_like(self.weight)
            self.weight.grad[part] = found.view_as(self.weight[part])
        if self.bias is not None:
            self.bias.grad = gradient.sum(0)

    def gradients(self, inputs: Tensor, gradient: Tensor) -> list[Tensor]:
        """Those of `parameters`, from some rows of the batch alone, laid out as `inputs` and the output are."""
        if not self.window:
            parts = [gradient.T @ inputs, gradient.sum(0)]
        else:
            window = self.window["stride"], self.window["padding"], self.window["dilation"]
            sizes, mask = [len(self.weight)], [False, True, self.bias is not None]
            parts = torch.ops.aten.convolution_backward(
                gradient, inputs, self.weight, sizes, *window, False, [0, 0], 1, mask
            )[1:]
        return parts[: len(self.parameters)]


def products(graph: Graph, parameters: Sequence[nn.Parameter]) -> list[Product]:
    """Those of the parameters that are weights of a two-dimensional ungrouped convolution or of a linear layer."""
    readers = {id(p): reader for p in parameters if (reader := graph.only_reader(p)) is not None}
    by_reader = {reader: p for p in parameters if (reader := readers.get(id(p))) is not None}
    found = [_product(weight, readers[id(weight)], by_reader) for weight in parameters if id(weight) in readers]
    return [product for product in found if product is not None]


def _product(weight: nn.Parameter, reader: Use, by_reader: dict[Use, nn.Parameter]) -> Product | None:
    node, place, transposed = reader
    edge = GradientEdge(node, 0)
    if node.name() == "ConvolutionBackward0":
        if place != 1 or transposed or weight.ndim != 4 or node._saved_groups != 1 or node._saved_transposed:
            return None
        inputs = node._saved_input.detach()
        window = {name: tuple(getattr(node, f"_saved_{name}")) for name in ("stride", "padding", "dilation")}
        sides = list(zip(inputs.shape[2:], weight.shape[2:], *window.values(), strict=True))
        height, width = (_outputs(*side) for side in sides)
        live = tuple(_live(*side) for side in sides)
        positions = len(inputs) * height * width
        return Product(weight, by_reader.get((node, 2, False)), edge, inputs, window, live, positions)
    if not transposed or (node.name(), place) not in (("AddmmBackward0", 2), ("MmBackward0", 1)):
        return None
    if place == 1:
        inputs = node._saved_self.detach()
        return Product(weight, None, edge, inputs, {}, (), len(inputs))
    inputs, bias = node._saved_mat1.detach(), by_reader.get((node, 0, False))
    if node._saved_alpha != 1 or node._saved_beta != 1 or (bias is not None and bias.shape != (len(weight),)):
        return None
    return Product(weight, bias, edge, inputs, {}, (), len(inputs))


def _outputs(inputs: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Outputs of a convolution along one side."""
    return (inputs + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _live(inputs: int, kernel: int, stride: int, padding: int, dilation: int) -> slice:
    """The part of one side of a kernel that ever meets more than padding; all of it if that is no window of its own."""
    outputs = _outputs(inputs, kernel, stride, padding, dilation)
    starts = [stride * output - padding for output in range(outputs)]
    taps = [tap for tap in range(kernel) if any(0 <= start + tap * dilation < inputs for start in starts)]
    if taps:
        first, count = taps[0], taps[-1] + 1 - taps[0]
        padding -= first * dilation
        if padding >= 0 and _outputs(inputs, count, stride, padding, dilation) == outputs:
            return slice(first, first + count)
    return slice(0, kernel)
