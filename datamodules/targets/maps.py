"""Labels that lie on an image, a value a pixel, and move with it in torchvision's transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from datamodules.errors import DataError


class Map(tv_tensors.TVTensor):  # type: ignore[misc]  # torchvision has no types
    """A label [..., H, W] of a value a pixel: a tensor that torchvision's transforms move with its image.

    It can be flipped, cropped within the image and resized, where each new pixel takes the value of the nearest old
    one: no value is mixed with another. What would leave pixels without a value, such as a rotation, is refused.
    """

    def zoomed(self, scale: float) -> Self:
        """The values as they are when the camera comes `scale` times nearer.

        Raises:
            TypeError: They change in a way that is not known.
        """
        raise TypeError(f"it is not known how the values of a {type(self).__name__} change with the scale")


class ClassMap(Map):
    """Class indices [H, W]."""

    def zoomed(self, scale: float) -> Self:
        """The same classes."""
        return self


class ValueMap(Map):
    """Numbers [H, W] of which no more is known."""


class DepthMap(ValueMap):
    """Distances [H, W]."""

    def zoomed(self, scale: float) -> Self:
        """Divided by the scale."""
        near: Self = _like(self, self.as_subclass(Tensor) / scale)
        return near


class InverseDepthMap(ValueMap):
    """Inverse distances [H, W], or disparities."""

    def zoomed(self, scale: float) -> Self:
        """Multiplied by the scale."""
        near: Self = _like(self, self.as_subclass(Tensor) * scale)
        return near


class VectorMap(Map):
    """Vectors [D, H, W] in the frame of the camera: the first component to the right or left, the second up or down."""

    def zoomed(self, scale: float) -> Self:
        """The same directions."""
        return self


def _like(label: Map, values: Tensor) -> Any:
    return tv_tensors.wrap(values.as_subclass(Tensor), like=label)


def _kernel(name: str, kind: type[Map] = Map) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Make a function of plain tensors what torchvision's function `name` does to labels of a kind."""

    def decorator(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def kernel(label: Map, *args: Any, **kwargs: Any) -> Any:
            return _like(label, fn(label.as_subclass(Tensor), *args, **kwargs))

        functional.register_kernel(name, kind)(kernel)
        return fn

    return decorator


@_kernel("horizontal_flip")
def _flip_horizontally(label: Tensor) -> Tensor:
    return label.flip(-1)


@_kernel("horizontal_flip", VectorMap)
def _mirror_horizontally(label: Tensor) -> Tensor:
    return _negated(label.flip(-1), 0)


@_kernel("vertical_flip")
def _flip_vertically(label: Tensor) -> Tensor:
    return label.flip(-2)


@_kernel("vertical_flip", VectorMap)
def _mirror_vertically(label: Tensor) -> Tensor:
    return _negated(label.flip(-2), 1)


@_kernel("crop")
def _crop(label: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    if min(top, left) < 0 or top + height > label.shape[-2] or left + width > label.shape[-1]:
        raise DataError("a crop must lie within the image, where the labels are")
    return label[..., top : top + height, left : left + width]


@_kernel("center_crop")
def _center_crop(label: Tensor, output_size: list[int]) -> Tensor:
    part: Tensor = functional.center_crop_mask(label, output_size)
    if part.shape[-2] > label.shape[-2] or part.shape[-1] > label.shape[-1]:
        raise DataError("a crop must lie within the image, where the labels are")
    return part


@_kernel("resize")
def _resize(label: Tensor, size: list[int] | None, *args: Any, max_size: int | None = None, **kwargs: Any) -> Tensor:
    nearest = v2.InterpolationMode.NEAREST_EXACT  # which, unlike NEAREST, does not shift by half a pixel
    resized: Tensor = functional.resize_image(label[None], size, nearest, max_size)[0]
    return resized


@_kernel("resized_crop", ClassMap)
def _resized_crop(label: Tensor, top: int, left: int, height: int, width: int, size: list[int], **_: Any) -> Tensor:
    return _resize(_crop(label, top, left, height, width), size)


def _negated(vectors: Tensor, component: int) -> Tensor:
    vectors[component].neg_()
    return vectors


def _refused(name: str) -> None:
    @_kernel(name)
    def refuse(label: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise TypeError(
            f"{name!r} would leave labels of a value a pixel wrong or without a value; flips, crops within the image, "
            "Resize and RandomScaledCrop move them rightly"
        )


for _name in ("affine", "elastic", "five_crop", "pad", "perspective", "resized_crop", "rotate", "ten_crop"):
    _refused(_name)
