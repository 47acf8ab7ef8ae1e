"""Convolutions and pooling whose values and gradients torch has given: `record_convolutions` wrote them down."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RECORDED = Path(__file__).with_name("convolutions.npz")
"""For each case `name/y`, `name/dx`, and `name/dw` where there is a kernel, in float64."""


class Case(NamedTuple):
    """`x` is (N, C, *spatial); `w` is (*kernel, C / groups, F) for "conv" and (*kernel, F / groups, C) for
    "conv_transpose", None for pooling."""

    function: str
    x: tuple[int, ...]
    w: tuple[int, ...] | None
    arguments: dict[str, Any]


CASES = {
    "1-d": Case("conv", (2, 3, 9), (3, 3, 5), {}),
    "1-d, one channel to one": Case("conv", (1, 1, 7), (4, 1, 1), {"stride": 2, "padding": 3}),
    "1-d, causal": Case("conv", (2, 2, 8), (3, 2, 3), {"padding": "causal", "dilation": 2}),
    "1-d, as long as the kernel": Case("conv", (3, 2, 5), (5, 2, 4), {}),
    "2-d": Case("conv", (2, 3, 6, 7), (3, 3, 3, 5), {}),
    "2-d, kernel of one": Case("conv", (2, 5, 4, 3), (1, 1, 5, 3), {}),
    "2-d, same": Case("conv", (1, 3, 6, 5), (3, 3, 3, 7), {"padding": "same"}),
    "2-d, same, even kernel": Case("conv", (2, 1, 5, 5), (2, 4, 1, 3), {"padding": "same"}),
    "2-d, same, dilated": Case("conv", (1, 2, 7, 6), (3, 2, 2, 3), {"padding": "same", "dilation": (2, 3)}),
    "2-d, stride": Case("conv", (2, 3, 7, 8), (3, 2, 3, 4), {"stride": 2, "padding": 1}),
    "2-d, stride past the kernel": Case("conv", (1, 2, 9, 8), (2, 2, 2, 3), {"stride": 3}),
    "2-d, two strides, two dilations": Case(
        "conv", (2, 2, 9, 10), (3, 3, 2, 3), {"stride": (1, 3), "dilation": (2, 1), "padding": (2, 0)}
    ),
    "2-d, pairs": Case("conv", (1, 3, 5, 6), (3, 4, 3, 2), {"padding": ((0, 2), (3, 1))}),
    "2-d, groups": Case("conv", (2, 6, 5, 5), (3, 3, 2, 9), {"groups": 3, "padding": 1}),
    "2-d, depthwise": Case("conv", (2, 5, 6, 6), (3, 3, 1, 5), {"groups": 5, "padding": 1, "stride": 2}),
    "2-d, depthwise, two for each": Case("conv", (1, 3, 5, 6), (3, 3, 1, 6), {"groups": 3, "dilation": 2}),
    "2-d, no image": Case("conv", (0, 3, 5, 5), (3, 3, 3, 2), {"padding": 1}),
    "3-d": Case("conv", (1, 2, 4, 5, 4), (2, 3, 2, 2, 3), {}),
    "3-d, stride": Case("conv", (2, 1, 5, 4, 5), (3, 2, 3, 1, 2), {"stride": (2, 1, 2), "padding": 1}),
    "transposed 1-d": Case("conv_transpose", (2, 3, 5), (4, 2, 3), {"stride": 3}),
    "transposed 2-d": Case("conv_transpose", (2, 3, 4, 3), (3, 3, 5, 3), {}),
    "transposed 2-d, stride": Case("conv_transpose", (1, 3, 4, 5), (3, 2, 4, 3), {"stride": 2, "padding": 1}),
    "transposed 2-d, extra": Case(
        "conv_transpose", (2, 2, 3, 4), (3, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0), "extra": (1, 2)}
    ),
    "transposed 2-d, groups, dilated": Case(
        "conv_transpose", (1, 6, 3, 3), (3, 2, 2, 6), {"groups": 3, "dilation": 2, "stride": 2}
    ),
    "transposed 3-d": Case("conv_transpose", (1, 2, 2, 3, 2), (2, 2, 3, 3, 2), {"stride": 2, "padding": 1}),
    "max 1-d": Case("max_pool", (2, 3, 9), None, {"size": 3}),
    "max 2-d": Case("max_pool", (2, 3, 6, 7), None, {"size": 2}),
    "max 2-d, overlapping": Case("max_pool", (1, 3, 7, 7), None, {"size": 3, "stride": 2}),
    "max 2-d, padded, dilated": Case(
        "max_pool", (2, 2, 8, 7), None, {"size": (3, 2), "stride": 1, "padding": 1, "dilation": 2}
    ),
    "max 3-d": Case("max_pool", (1, 2, 4, 5, 6), None, {"size": 2, "stride": (2, 1, 3)}),
    "mean 1-d": Case("avg_pool", (2, 3, 8), None, {"size": 3, "stride": 2}),
    "mean 2-d": Case("avg_pool", (2, 3, 6, 6), None, {"size": 2}),
    "mean 2-d, padded": Case("avg_pool", (1, 2, 5, 7), None, {"size": 3, "stride": 2, "padding": 1}),
    "mean 2-d, padding counts": Case(
        "avg_pool", (1, 2, 5, 7), None, {"size": 3, "stride": 2, "padding": 1, "count_padding": True}
    ),
    "mean 3-d": Case("avg_pool", (1, 2, 4, 4, 5), None, {"size": (2, 2, 3)}),
    "adaptive 1-d": Case("adaptive_avg_pool", (2, 3, 7), None, {"size": 3}),
    "adaptive 2-d": Case("adaptive_avg_pool", (2, 3, 5, 7), None, {"size": (2, 9)}),
    "nearest": Case("resize", (1, 2, 3, 5), None, {"size": (7, 2), "method": "nearest"}),
    "bilinear": Case("resize", (2, 1, 3, 5), None, {"size": (7, 3)}),
    "linear 1-d": Case("resize", (1, 2, 4), None, {"size": 9}),
}


def arrays(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """`x` and `w` of a case, by its place in the table."""
    rng = np.random.default_rng(list(CASES).index(name))
    case = CASES[name]
    return rng.standard_normal(case.x), None if case.w is None else rng.standard_normal(case.w)


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """By what the result is multiplied before it is summed."""
    return np.random.default_rng(1).standard_normal(shape)
