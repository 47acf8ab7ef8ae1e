"""Convolutions in one to three dimensions, plain and transposed, as contractions of windows.

Weights have the shape (*spatial, inputs / groups, outputs), as `nn.init` makes them, whatever the layout of the data.
As everywhere in learning, a convolution does not turn its kernel round: it is a correlation (`np.correlate`). Inside of
a compiled function no window is ever an array in memory; channels that lie last are read fastest."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.operands import floats, operand
from adjit.nn.spatial import Spatial, check_windows, each_axis, padded, paddings, reach, spatial
from adjit.trace import apply, asarray, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "input": "x", "weight": "w", "kernel": "w", "strides": "stride", "data_format": "layout",
    "dilation_rate": "dilation", "feature_group_count": "groups", "bias": "add it to the result: conv(x, w) + bias",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""

_PLACES = "ijk"
_SPACE = "xyz"


@public(_KNOWN)
def conv(
    x: Any,
    w: Any,
    stride: int | tuple[int, ...] = 1,
    padding: Any = "valid",
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    layout: str = "NCHW",
) -> Any:
    """The convolution of `x` with the kernel `w`.

    x         (N, C, *spatial), or (N, *spatial, C) with layout "NHWC"; one to three spatial axes
    w         (*kernel, C / groups, F)
    stride    elements from one window to the next
    padding   "valid": none; "same": as many results as elements, over the stride; "causal" (one axis): nothing that
              comes later has part; or an integer, one for each axis, or a pair for each
    dilation  elements from one place of a window to the next
    groups    channels in so many groups that do not meet: as many as C for a depthwise convolution
    layout    "NCHW" or "NHWC", for any number of spatial axes; "NCW", "NDHWC" ... say the same

    Returns (N, F, *spatial) or (N, *spatial, F) of the dtype that `x * w` has. Raises ShapeError where shapes do not
    fit, ArgumentError for what is no stride, padding, dilation, layout or number of groups.

    >>> import numpy as np
    >>> from adjit import nn
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> nn.conv(x, np.ones((3, 3, 1, 1)))[0, 0]
    array([[45., 54.],
           [81., 90.]])
    """
    image, w, groups = _operands("conv", x, w, groups, layout)
    size = w.shape[: image.rank]
    strides = each_axis("conv: stride", stride, image.rank)
    apart = each_axis("conv: dilation", dilation, image.rank)
    sides = paddings("conv: padding", padding, image.extents, size, strides, apart, causal=True)
    whole = padded(image.x, sides)
    check_windows("conv", whole.shape[1:-1], size, apart)
    if image.x.shape[-1] != w.shape[-2] * groups:
        raise ShapeError(
            f"conv: x has {image.x.shape[-1]} channels, and w of shape {w.shape} takes {w.shape[-2]} in each of "
            f"{groups} groups"
        )
    space, places = _SPACE[: image.rank], _PLACES[: image.rank]
    seen = apply("windows", whole, axes=image.axes, size=size, step=strides, dilation=apart)
    if groups == 1:
        y = _contracted(f"n{space}c{places},{places}cf->n{space}f", seen, w)
    else:
        y = _in_groups(f"n{space}gc{places},{places}cgf->n{space}gf", seen, w, groups, image.rank)
    return image.given_back(y)


@public({**_KNOWN, "output_padding": "extra"})
def conv_transpose(
    x: Any,
    w: Any,
    stride: int | tuple[int, ...] = 1,
    padding: Any = "valid",
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    layout: str = "NCHW",
    extra: int | tuple[int, ...] = 0,
) -> Any:
    """The transposed convolution: the adjoint of `conv` with the same stride, padding and dilation.

    x         (N, C, *spatial), or (N, *spatial, C) with layout "NHWC"
    w         (*kernel, F / groups, C): the kernel of the `conv` whose adjoint this is, which takes F channels to C
    padding   what that `conv` pads, and this leaves out: "valid", "same" (the result has stride times the elements), an
              integer, one for each axis, or a pair for each
    extra     elements more at the end of each axis, which the stride left open (torch's `output_padding`)

    Each element adds the kernel, times itself, to the result. Returns (N, F, *spatial) or (N, *spatial, F). Raises
    ShapeError and ArgumentError as `conv` does. Source: Dumoulin, Visin 2016.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.conv_transpose(np.array([[[1.0, 0.0, 2.0]]]), np.ones((3, 1, 1)), stride=2)[0, 0]
    array([1., 1., 1., 0., 2., 2., 2.])
    """
    image, w, groups = _operands("conv_transpose", x, w, groups, layout)
    size = w.shape[: image.rank]
    strides = each_axis("conv_transpose: stride", stride, image.rank)
    apart = each_axis("conv_transpose: dilation", dilation, image.rank)
    more = each_axis("conv_transpose: extra", extra, image.rank, 0)
    if image.x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            f"conv_transpose: x has {image.x.shape[-1]} channels, and w of shape {w.shape} gives {w.shape[-1]}"
        )
    wanted = tuple(n * s for n, s in zip(image.extents, strides, strict=True))
    sides = paddings("conv_transpose: padding", padding, wanted, size, strides, apart)
    space, places = _SPACE[: image.rank], _PLACES[: image.rank]
    if groups == 1:
        spread = _contracted(f"n{space}f,{places}cf->n{space}c{places}", image.x, w)
    else:
        apart_ = np.reshape(image.x, (*image.x.shape[:-1], groups, image.x.shape[-1] // groups))
        kernels = np.reshape(w, (*w.shape[:-1], groups, w.shape[-1] // groups))
        spread = _contracted(f"n{space}gf,{places}cgf->n{space}gc{places}", apart_, kernels)
        spread = np.reshape(spread, (*image.x.shape[:-1], groups * w.shape[-2], *size))
    full = tuple(
        (n - 1) * s + reach(k, d) if n else 0 for n, s, k, d in zip(image.extents, strides, size, apart, strict=True)
    )
    y = apply("add_windows", spread, axes=image.axes, extents=full, step=strides, dilation=apart)
    same = isinstance(padding, str) and padding == "same"
    y = _cropped(y, image, full, sides, more, wanted if same else None)
    return image.given_back(y)


def _operands(name: str, x: Any, w: Any, groups: Any, layout: Any) -> tuple[Spatial, Any, int]:
    x, w = operand(f"{name}: x", x), operand(f"{name}: w", w)
    # Images that a traced function closes over are constants of the program as they are, not as windows.
    image = spatial(name, asarray(x) if is_tracer(w) else x, layout)
    groups = checks.integer(f"{name}: groups", groups, 1)
    if np.ndim(w) != image.rank + 2:
        raise ShapeError(
            f"{name}: w has the shape (*kernel, inputs / groups, outputs) with {image.rank} axes of the kernel for x "
            f"of shape {np.shape(x)}, not {np.shape(w)}"
        )
    if 0 in np.shape(w)[: image.rank]:
        raise ShapeError(f"{name}: the kernel of shape {np.shape(w)} is empty")
    if np.shape(w)[-1] % groups:
        raise ArgumentError(f"{name}: groups={groups} does not divide the {np.shape(w)[-1]} outputs of w")
    dtype = np.result_type(floats(image.x).dtype, floats(w).dtype)
    return image._replace(x=_cast(image.x, dtype)), _cast(w, dtype), groups


def _cast(x: Any, dtype: np.dtype) -> Any:
    return x if getattr(x, "dtype", None) == dtype else (x * 1.0 if np.ndim(x) == 0 else x.astype(dtype))


def _contracted(spec: str, x: Any, w: Any) -> Any:
    return np.einsum(spec, x, w, optimize=True)


def _in_groups(spec: str, seen: Any, w: Any, groups: int, rank: int) -> Any:
    """Each group of channels with its own outputs."""
    n, channels = seen.shape[: 1 + rank], w.shape[-2]
    apart = np.reshape(seen, (*n, groups, channels, *w.shape[:rank]))
    kernels = np.reshape(w, (*w.shape[:-1], groups, w.shape[-1] // groups))
    y = _contracted(spec, apart, kernels)
    return np.reshape(y, (*n, w.shape[-1]))


def _cropped(
    y: Any, image: Spatial, full: tuple[int, ...], sides: Any, more: tuple[int, ...], wanted: tuple[int, ...] | None
) -> Any:
    """Without what the convolution would have padded, and with `more` at the end."""
    cut, grown = [slice(None)], []
    for axis, (n, (low, high), extra) in enumerate(zip(full, sides, more, strict=True)):
        stop = n - high if wanted is None else low + wanted[axis]
        stop += extra
        cut.append(slice(low, max(min(stop, n), low)))
        grown.append((0, max(stop - n, 0)))
    return padded(y[tuple(cut)], tuple(grown))
