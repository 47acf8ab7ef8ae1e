"""Counts and writes at computed positions: bincount, histogram, put_along_axis, np.maximum.at: each against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit_runtime.errors import AdjitError, DomainError, DTypeError, IndexOutOfRange, ShapeError, TraceError
from tests.trace.numpy_calls import check, from_text, sample, traced
from tests.trace.test_functions_sorting import all_of

COUNTS = [
    "np.bincount(i, minlength=9)", "np.bincount(i, w, minlength=9)", "np.bincount(i, weights=i, minlength=9)",
    "np.bincount(i[:0], minlength=3)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_counts(dtype: Any) -> None:
    numbers = np.array([3, 0, 8, 3, 3, 1]).astype(dtype)
    check(all_of(COUNTS, "iw"), numbers, sample((6,), np.float32))


HISTOGRAMS = [
    "np.histogram(x)", "np.histogram(x, 4)", "np.histogram(x, 5, (-1.0, 2.0))", "np.histogram(x, bins=7, density=True)",
    "np.histogram(x, [-1.0, 0.0, 0.25, 3.0])", "np.histogram(x, 3, weights=np.abs(x))",
    "np.histogram(x, e)", "np.histogram(x, e, density=True, weights=x * 2)", "np.histogram(x * 0, 3)",
    "np.histogram_bin_edges(x, 6)", "np.histogram_bin_edges(x, 6, (0, 3))", "np.histogram(x, range=(0, 0))",
    "np.histogram(x[:0], 3)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_histograms(dtype: Any) -> None:
    x = np.concatenate([np.round(sample((40,)) * 4, 1), [-3.0, 3.0, 3.0]]).astype(dtype)
    check(all_of(HISTOGRAMS, "xe"), x.reshape(-1), np.array([-2.0, -1.0, 0.5, 0.5, 3.0]))
    check(lambda x: np.histogram(x, [0.0, 1.0, 2.0]), np.array([np.nan, np.inf, 0.0, 1.0, 2.0, -np.inf]))
    check(lambda x: np.histogram(x, 3)[0], x.reshape(1, -1).astype(np.float32))


def puts(x: Any, i: Any, v: Any) -> Any:
    y, z, flat = x.copy(), x.copy(), x.copy()
    np.put_along_axis(y, i, v, 1)
    np.put_along_axis(z, i[:1], v[:1, :2], 0)
    np.put_along_axis(flat, i[:, 0], 5.0, None)
    return y, z, flat


def test_put_along_axis() -> None:
    check(puts, sample((3, 2)), np.array([[1, 0], [-1, -2], [0, 1]]), sample((3, 2), seed=4))


def extrema(x: Any, i: Any, v: Any) -> Any:
    a, b, c, d = x.copy(), x.copy(), x.copy(), x.copy()
    np.maximum.at(a, i, v)
    np.minimum.at(b, (i, 1), v[:, 0])
    np.maximum.at(c[1:], (slice(None), 0), 2)
    np.minimum.at(d, (i, slice(1, None)), v[:, 1:])
    return a, b, c, d


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_extrema_at_positions(dtype: Any) -> None:
    x, v = (np.round(sample(shape) * 9 + 20).astype(dtype) for shape in ((4, 3), (7, 3)))
    if np.dtype(dtype).kind == "f":
        v[2, 1] = x[3, 2] = np.nan
    check(extrema, x, np.array([3, 0, 0, 3, 1, 0, -1]), v)


def test_derivatives() -> None:
    x, i = sample((5,)), np.array([1, 0, 1, 1, 2])

    def highest(x: Any) -> Any:
        y = np.zeros(3) + x[:3] * 0 - 9
        np.maximum.at(y, i, x**3)
        return y

    adjit.check_grads(highest, (x,), order=2)
    adjit.check_grads(lambda w: np.bincount(i, w**2, minlength=4), (x,), order=2)
    adjit.check_grads(lambda w: np.histogram(i, 3, weights=w**2)[0], (x,), order=2)
    adjit.check_grads(lambda x, f: np.interp(x, np.arange(9.0), f), (x + 3, sample((9,))), order=2)


REFUSED: list[tuple[str, type[AdjitError], str]] = [
    ("np.bincount(i)", TraceError, "give minlength"),
    ("np.bincount(x, minlength=3)", DTypeError, "integers"),
    ("np.bincount(i[None], minlength=3)", ShapeError, "vector"),
    ("np.bincount(i, x[:2], minlength=3)", ShapeError, "weights"),
    ("np.histogram(x, 'auto')", TraceError, "bins='auto'"),
    ("np.histogram(x, 0)", TraceError, "positive"),
    ("np.histogram(x, [1.0])", ShapeError, "edges"),
    ("np.histogram(x, [1.0, 0.0])", ShapeError, "monotonically"),
    ("np.histogram(x, 3, (1, 0))", ShapeError, "max is smaller"),
    ("np.histogram(x, 3, weights=x[:2])", ShapeError, "weights"),
    ("np.put_along_axis(x.copy(), x, x, 0)", DTypeError, "integers"),
    ("np.put_along_axis(x.copy(), i[None], x, 0)", ShapeError, "differ in dimensions"),
    ("np.multiply.at(x.copy(), i, 2.0)", TraceError, "np.maximum.at"),
]


@pytest.mark.parametrize(("text", "error", "match"), REFUSED)
def test_refusals(text: str, error: type[AdjitError], match: str) -> None:
    with pytest.raises(error, match=match):
        traced(from_text(text, "xi"), sample((3,)), np.array([0, 2, 1]))


def test_what_must_hold_when_it_runs() -> None:
    with pytest.raises(IndexOutOfRange, match="3"):
        adjit.jit(lambda i: np.bincount(i, minlength=3))(np.array([0, 3]))
    with pytest.raises(IndexOutOfRange):
        adjit.jit(lambda i: np.bincount(i, minlength=3))(np.array([0, -1]))
    with pytest.raises(DomainError, match="not finite"):
        adjit.jit(lambda x: np.histogram(x, 3))(np.array([0.0, np.nan]))
    with pytest.raises(ShapeError, match="monotonically"):
        adjit.jit(lambda x, e: np.histogram(x, e))(np.zeros(2), np.array([1.0, 0.0]))
