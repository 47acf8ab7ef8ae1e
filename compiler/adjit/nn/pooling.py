"""Pooling: the largest, or the mean, of windows of an image, and images of another size.

All take (N, C, *spatial), or (N, *spatial, C) with layout "NHWC", with one to three spatial axes; channels do not meet.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.nn.operands import floats
from adjit.nn.spatial import Spatial, check_windows, each_axis, padded, paddings, spatial
from adjit.trace import apply
from adjit_runtime import checks
from adjit_runtime.errors import ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "input": "x", "kernel_size": "size", "window_shape": "size", "strides": "stride", "data_format": "layout",
    "count_include_pad": "count_padding", "output_size": "size", "mode": "method",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def max_pool(
    x: Any,
    size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: Any = "valid",
    dilation: int | tuple[int, ...] = 1,
    layout: str = "NCHW",
) -> Any:
    """The largest element of each window, as `np.max` finds it: NaN where there is one.

    size      elements of a window, one number for all axes or one for each
    stride    elements from one window to the next; the size where it is None
    padding   as for `conv`; what is added is smaller than everything
    dilation  elements from one place of a window to the next

    The derivative goes to the largest element, in equal parts to those that are equally large. Shape
    (N, C, *windows), dtype of `x`. Raises ShapeError where a window does not fit, ArgumentError for what is no size.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.max_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    image = spatial("max_pool", x, layout)
    low = _lowest(np.dtype(image.x.dtype))
    seen, places, _ = _windows("max_pool", image, size, stride, padding, dilation, low)
    return image.given_back(np.max(seen, axis=places))


@public(_KNOWN)
def avg_pool(
    x: Any,
    size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: Any = "valid",
    count_padding: bool = False,
    layout: str = "NCHW",
) -> Any:
    """The mean of each window; of what is there, unless `count_padding`, with which the zeros around count, too.

    `size`, `stride`, `padding` and `layout` as for `max_pool`. Shape (N, C, *windows), float dtype of `x`; integers
    become float64. Raises ShapeError and ArgumentError as `max_pool` does.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.avg_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    image = spatial("avg_pool", x, layout)
    image = image._replace(x=floats(image.x))
    counts_all = checks.flag("avg_pool: count_padding", count_padding)
    seen, places, sides = _windows("avg_pool", image, size, stride, padding, 1, 0)
    total = np.sum(seen, axis=places)
    if counts_all or not any(map(any, sides)):
        return image.given_back(total / float(math.prod(seen.shape[axis] for axis in places)))
    ones = Spatial(np.ones((1, *image.extents, 1), image.x.dtype), image.rank, False)
    counted, _, _ = _windows("avg_pool", ones, size, stride, padding, 1, 0)
    return image.given_back(total / np.maximum(np.sum(counted, axis=places), 1))


@public(_KNOWN)
def global_avg_pool(x: Any, layout: str = "NCHW") -> Any:
    """The mean over all spatial axes, which go: shape (N, C). Float dtype of `x`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """
    image = spatial("global_avg_pool", x, layout)
    return np.mean(floats(image.x), axis=image.axes)


@public(_KNOWN)
def adaptive_avg_pool(x: Any, size: int | tuple[int, ...], layout: str = "NCHW") -> Any:
    """Means of windows that cover each axis evenly, so that `size` results come out.

    Window i of an axis of n elements goes from floor(i n / size) to ceil((i + 1) n / size). Shape (N, C, *size), float
    dtype of `x`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.adaptive_avg_pool(np.arange(5.0).reshape(1, 1, 5), 2)[0, 0]
    array([1., 3.])
    """
    image = spatial("adaptive_avg_pool", x, layout)
    sizes = each_axis("adaptive_avg_pool: size", size, image.rank)
    y = floats(image.x)
    for axis, (n, m) in enumerate(zip(image.extents, sizes, strict=True), 1):
        if n == 0:
            raise ShapeError(f"adaptive_avg_pool: x of shape {np.shape(x)} has no elements along an axis")
        places = np.arange(n)
        first, last = np.arange(m) * n // m, -(-(np.arange(m) + 1) * n // m)
        inside = (places >= first[:, None]) & (places < last[:, None])
        y = _along(y, axis, (inside / (last - first)[:, None]).astype(y.dtype))
    return image.given_back(y)


@public(_KNOWN)
def resize(x: Any, size: int | tuple[int, ...], method: str = "bilinear", layout: str = "NCHW") -> Any:
    """An image of another size, in which pixels are squares: their centres lie at (i + 1/2) n / size.

    `method` is "nearest", the pixel in which the centre lies, or "bilinear", between the neighbouring centres, the
    outermost ones repeated (torch's align_corners=False; no blur where it shrinks). Shape (N, C, *size), float dtype of
    `x`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.resize(np.array([[[0.0, 4.0]]]), 4)[0, 0]
    array([0., 1., 3., 4.])
    """
    image = spatial("resize", x, layout)
    sizes = each_axis("resize: size", size, image.rank)
    chosen = checks.choice("resize: method", method, ("bilinear", "nearest"))
    y = floats(image.x)
    for axis, (n, m) in enumerate(zip(image.extents, sizes, strict=True), 1):
        if n == 0:
            raise ShapeError(f"resize: x of shape {np.shape(x)} has no elements along an axis")
        if chosen == "nearest":
            y = np.take(y, np.minimum(np.arange(m) * n // m, n - 1), axis=axis)
            continue
        at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
        part = (at - low).astype(y.dtype).reshape([-1 if i == axis else 1 for i in range(y.ndim)])
        high = np.minimum(low + 1, n - 1)
        y = np.take(y, low, axis=axis) * (1 - part) + np.take(y, high, axis=axis) * part
    return image.given_back(y)


def _windows(
    name: str, image: Spatial, size: Any, stride: Any, padding: Any, dilation: Any, value: Any
) -> tuple[Any, tuple[int, ...], Any]:
    """The windows, the axes of the places in them, and what was added around."""
    sizes = each_axis(f"{name}: size", size, image.rank)
    strides = sizes if stride is None else each_axis(f"{name}: stride", stride, image.rank)
    apart = each_axis(f"{name}: dilation", dilation, image.rank)
    sides = paddings(f"{name}: padding", padding, image.extents, sizes, strides, apart, causal=True)
    whole = padded(image.x, sides, value)
    check_windows(name, whole.shape[1:-1], sizes, apart)
    seen = apply("windows", whole, axes=image.axes, size=sizes, step=strides, dilation=apart)
    return seen, tuple(range(image.rank + 2, 2 * image.rank + 2)), sides


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def _along(y: Any, axis: int, matrix: np.ndarray) -> Any:
    """A matrix times each column along an axis."""
    return np.moveaxis(np.moveaxis(y, axis, -1) @ matrix.T, -1, axis)
