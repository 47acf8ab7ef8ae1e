"""Reductions, positions, running sums, statistics: each call against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit_runtime.errors import ShapeError, TraceError
from tests.trace.numpy_calls import check, from_text, quietly, sample, traced

SHAPES = [(3, 5), (1, 4), (2, 3, 4), (7,), ()]
DTYPES = [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_]

OF_ANY = [
    "np.sum(x)", "np.sum(x, axis=0)", "np.sum(x, -1)", "np.sum(x, axis=(), keepdims=True)", "x.sum(keepdims=True)",
    "np.sum(x, dtype=np.float64)", "np.sum(x, axis=-1, dtype=np.int32)", "np.sum(x, initial=3)",
    "np.sum(x, where=x > 0)", "np.sum(x, axis=0, where=x > 0, initial=1, keepdims=True)", "np.prod(x)",
    "np.prod(x, axis=0)", "x.prod(axis=-1, keepdims=True)", "np.prod(x, initial=2, where=x > 0)", "np.max(x)",
    "np.max(x, axis=0)", "x.max(axis=-1, keepdims=True)", "np.amax(x)", "np.max(x, initial=1)",
    "np.max(x, axis=-1, where=x > 0, initial=0)", "np.min(x)", "np.min(x, axis=0)", "np.amin(x, keepdims=True)",
    "x.min(axis=-1)", "np.min(x, where=x > 0, initial=0)", "np.any(x)", "np.any(x, axis=0)", "np.all(x)",
    "x.all(axis=-1, keepdims=True)", "x.any(where=x > 0)", "np.all(x, axis=0, where=x > 0)", "np.count_nonzero(x)",
    "np.count_nonzero(x, axis=0)", "np.count_nonzero(x, axis=-1, keepdims=True)", "np.argmax(x)",
    "np.argmax(x, axis=0)", "x.argmax(axis=-1)", "np.argmax(x, axis=-1, keepdims=True)", "np.argmin(x)",
    "np.argmin(x, axis=0)", "x.argmin(-1)", "np.argmin(x, keepdims=True)", "np.cumsum(x)", "np.cumsum(x, axis=-1)",
    "x.cumsum(axis=0)", "np.cumsum(x, dtype=np.float64)", "np.cumprod(x)", "np.cumprod(x, axis=-1)", "x.cumprod(0)",
    "np.mean(x)", "np.mean(x, axis=0)", "x.mean(axis=-1, keepdims=True)", "np.mean(x, dtype=np.float64)",
    "np.mean(x, where=x > 0)", "np.mean(x, axis=0, where=x > 0)", "np.var(x)", "np.var(x, axis=0)",
    "x.var(axis=-1, keepdims=True)", "np.var(x, ddof=1)", "np.var(x, correction=1)", "np.var(x, where=x > 0)",
    "np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True))", "np.std(x)", "np.std(x, axis=-1)", "x.std(ddof=1)",
    "np.std(x, axis=0, keepdims=True)", "np.average(x)", "np.average(x, axis=0)",
    "np.average(x, axis=-1, keepdims=True)", "np.average(x, returned=True)", "np.nansum(x)", "np.nansum(x, axis=0)",
    "np.nanprod(x)", "np.nanmean(x)", "np.nanmax(x)", "np.nanmin(x, axis=0)", "np.nancumsum(x)",
    "np.nancumprod(x, axis=-1)", "np.nanvar(x)", "np.nanstd(x, axis=0)", "np.add.reduce(x)",
    "np.add.reduce(x, axis=None)", "np.multiply.reduce(x, axis=-1, keepdims=True)", "np.maximum.reduce(x)",
    "np.minimum.reduce(x, axis=None)", "np.logical_and.reduce(x)", "np.logical_or.reduce(x, axis=-1)",
    "np.add.accumulate(x)", "np.multiply.accumulate(x, axis=-1)", "np.maximum.accumulate(x)",
    "np.minimum.accumulate(x, axis=-1)", "np.logical_or.accumulate(x)",
]  # fmt: skip


@pytest.mark.parametrize("text", OF_ANY)
def test_reduction(text: str) -> None:
    for dtype in DTYPES:
        for shape in SHAPES:
            x = sample(shape, dtype)
            call = from_text(text, "x")
            try:
                quietly(call, np.array(x))
            except (TypeError, ValueError):
                # An axis of a 0-d array, bools that have no such ufunc: refused here, too.
                with pytest.raises((TypeError, ValueError)):
                    traced(call, x)
                continue
            check(call, x, atol=1e-6 if dtype == np.float32 else 1e-14)  # sums near zero


EMPTY = [
    "np.sum(x)", "np.sum(x, axis=0)", "np.sum(x, axis=1)", "np.prod(x, axis=0)", "np.max(x, axis=0)",
    "np.max(x, initial=2.0)", "np.any(x)", "np.all(x, axis=1)", "np.cumsum(x, axis=1)", "np.argmax(x, axis=0)",
    "np.mean(x)", "np.mean(x, axis=0)", "np.var(x)", "np.var(x, axis=0)", "np.logaddexp.reduce(x, axis=1)",
    "np.logaddexp.reduce(x, axis=0)", "np.maximum.accumulate(x)", "np.linalg.norm(x)", "np.linalg.norm(x, axis=0)",
]  # fmt: skip


@pytest.mark.parametrize("text", EMPTY)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_empty(text: str, dtype: Any) -> None:
    check(from_text(text, "x"), sample((3, 0), dtype))


@pytest.mark.parametrize("text", ["np.max(x)", "np.min(x, axis=1)", "np.argmax(x)", "np.argmin(x, 1)", "np.ptp(x)"])
def test_nothing_has_no_extremum(text: str) -> None:
    with pytest.raises(ShapeError, match="empty"):
        traced(from_text(text, "x"), sample((3, 0)))


FLOATS = [
    "np.ptp(x)", "np.ptp(x, axis=0, keepdims=True)", "np.logaddexp.reduce(x)", "np.logaddexp.reduce(x, axis=None)",
    "np.logaddexp.reduce(x, axis=-1, keepdims=True)", "np.logaddexp2.reduce(x)",
    "np.logaddexp.reduce(x, axis=-1, initial=0.5)", "np.logaddexp.accumulate(x, axis=-1)",
    "np.average(x, axis=-1, weights=np.arange(1.0, x.shape[-1] + 1))", "np.average(x, weights=np.abs(x) + 1)",
    "np.cov(x)", "np.cov(x, rowvar=False)", "np.cov(x, bias=True)", "np.cov(x, x + 1)", "np.corrcoef(x)",
    "np.cumulative_sum(x, axis=0)", "np.cumulative_sum(x, axis=-1, include_initial=True)",
    "np.cumulative_prod(x, axis=0, include_initial=True)",
]  # fmt: skip


@pytest.mark.parametrize("text", FLOATS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats(text: str, dtype: Any) -> None:
    check(from_text(text, "x"), sample((3, 5), dtype), rtol=1e-12, atol=1e-6 if dtype == np.float32 else 1e-14)


NANS = [
    "np.nansum(x, axis=0)", "np.nanprod(x)", "np.nanmean(x, axis=0)", "np.nanmax(x, axis=0)",
    "np.nanmin(x, axis=-1)", "np.nancumsum(x, axis=0)", "np.nanvar(x, axis=0, ddof=1)", "np.nanstd(x)",
    "np.nanmean(x, keepdims=True)", "np.max(x, axis=0)", "np.min(x)", "np.argmax(x, axis=1)", "np.argmin(x, axis=0)",
    "np.sum(x, axis=0)", "np.maximum.accumulate(x)", "np.logaddexp.reduce(x, axis=1)", "np.any(x)",
    "np.nanvar(x, axis=0, ddof=2)",
]  # fmt: skip


@pytest.mark.parametrize("text", NANS)
def test_nan_and_infinity(text: str) -> None:
    x = np.array([[1.0, np.nan, -np.inf, 2.0], [np.nan, np.nan, 3.0, 4.0], [np.inf, np.nan, 0.5, -1.0]])
    check(from_text(text, "x"), x)


def test_infinite_rows_of_logaddexp() -> None:
    x = np.array([[-np.inf, -np.inf], [np.inf, 1.0], [-np.inf, 2.0], [1000.0, 1000.0], [-np.inf, np.inf]])
    check(lambda x: np.logaddexp.reduce(x, axis=1), x)
    check(lambda x: np.logaddexp.accumulate(x, axis=1), x)


@pytest.mark.parametrize(
    ("text", "argument"),
    [("np.nanargmax(x)", "np.nanargmax"), ("np.add.reduceat(x, [0, 1])", "reduceat")],
)
def test_refusals(text: str, argument: str) -> None:
    with pytest.raises(TraceError, match=argument):
        traced(from_text(text, "x"), sample((4,)))


def test_where_needs_initial() -> None:
    with pytest.raises(ShapeError, match="initial"):
        traced(lambda x: np.max(x, where=x > 0), sample((4,)))
