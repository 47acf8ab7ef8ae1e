"""What functions of images (signals, volumes) take: layouts, and a number for each spatial axis."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from adjit.nn.operands import operand
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError

Pairs = tuple[tuple[int, int], ...]

_LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
_SHORT = ("NCHW", "NHWC")


class Spatial(NamedTuple):
    """An operand with its channels last, how many spatial axes it has, and whether channels came first."""

    x: Any
    rank: int
    channels_first: bool

    @property
    def axes(self) -> tuple[int, ...]:
        """The spatial axes."""
        return tuple(range(1, 1 + self.rank))

    @property
    def extents(self) -> tuple[int, ...]:
        """The spatial extents."""
        return tuple(self.x.shape[1:-1])

    def given_back(self, y: Any) -> Any:
        """A result in the layout of the operand."""
        return np.moveaxis(y, -1, 1) if self.channels_first else y


def spatial(name: str, x: Any, layout: Any) -> Spatial:
    """`x` with channels last; "NCHW" and "NHWC" stand for channels first and last with any number of spatial axes."""
    x = operand(f"{name}: x", x)
    rank = np.ndim(x) - 2
    if rank not in _LAYOUTS:
        raise ShapeError(
            f"{name}: x has a batch, channels and 1 to 3 spatial axes, not the shape {np.shape(x)}; a single image is "
            "x[None]"
        )
    known = dict.fromkeys((*_SHORT, *_LAYOUTS[rank]))
    first = checks.choice(f"{name}: layout", layout, tuple(known))[1] == "C"
    return Spatial(np.moveaxis(x, 1, -1) if first else x, rank, first)


def each_axis(what: str, value: Any, rank: int, low: int = 1) -> tuple[int, ...]:
    """A number for each spatial axis: one for all, or as many as there are."""
    if isinstance(value, tuple | list):
        found = tuple(checks.integer(what, n, low) for n in value)
        if len(found) != rank:
            raise ArgumentError(f"{what} has a number for each of {rank} spatial axes, or is one for all, not {value}")
        return found
    return (checks.integer(what, value, low),) * rank


def reach(size: int, dilation: int) -> int:
    """Elements from the first to the last place in a window."""
    return (size - 1) * dilation + 1


def paddings(
    what: str,
    padding: Any,
    extents: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    causal: bool = False,
) -> Pairs:
    """Elements to add on both sides of each axis.

    "valid" adds none, "same" so many that there is a result for each `stride` elements, begun or not (an odd one at the
    end), "causal" all of them ahead, along one axis; else an integer, one for each axis, or a pair for each."""
    rank = len(extents)
    if isinstance(padding, str):
        named = ("valid", "same", "causal") if causal else ("valid", "same")
        return _named(checks.choice(what, padding, named), extents, size, stride, dilation)
    if isinstance(padding, tuple | list) and padding and all(isinstance(side, tuple | list) for side in padding):
        if len(padding) != rank or any(len(side) != 2 for side in padding):
            raise ArgumentError(f"{what} has a pair for each of {rank} spatial axes, not {padding}")
        return tuple((checks.integer(what, low, 0), checks.integer(what, high, 0)) for low, high in padding)
    return tuple((n, n) for n in each_axis(what, padding, rank, 0))


def _named(
    padding: str, extents: tuple[int, ...], size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Pairs:
    if padding == "valid":
        return ((0, 0),) * len(extents)
    if padding == "causal":
        if len(extents) != 1:
            raise ArgumentError(f'padding: "causal" is for one spatial axis, not for {len(extents)}')
        return ((reach(size[0], dilation[0]) - 1, 0),)
    found = []
    for n, k, s, d in zip(extents, size, stride, dilation, strict=True):
        total = max((math.ceil(n / s) - 1) * s + reach(k, d) - n, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def padded(x: Any, sides: Pairs, value: Any = 0) -> Any:
    """`x`, channels last, with `value` around its spatial axes."""
    if not any(map(any, sides)):
        return x
    return np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=value)


def check_windows(name: str, extents: tuple[int, ...], size: tuple[int, ...], dilation: tuple[int, ...]) -> None:
    """Raise ShapeError where a window does not fit."""
    for n, k, d in zip(extents, size, dilation, strict=True):
        if reach(k, d) > n:
            raise ShapeError(
                f"{name}: a window that reaches over {reach(k, d)} elements does not fit the {n} that there are, "
                "padding included"
            )
