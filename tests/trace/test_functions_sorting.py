"""Sorting, searching and quantiles: each call against NumPy, ties, NaN and empty rows included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import adjit
from adjit_runtime.errors import AdjitError, DomainError, ShapeError, TraceError
from tests.trace.numpy_calls import check, from_text, sample, traced

DTYPES = [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_]
SHAPES = [(3, 5), (2, 3, 4), (1,), (3, 0)]


def all_of(texts: Sequence[str], names: str) -> Callable[..., Any]:
    """The results of all calls that NumPy takes for these arguments."""
    return from_text(f"({', '.join(texts)},)", names)


SORTS = [
    "np.sort(x)", "np.sort(x, axis=0)", "np.sort(x, axis=None)", "np.sort(x, kind='mergesort')",
    "np.sort(x, stable=True)", "np.argsort(x, kind='stable')", "np.argsort(x, axis=0, stable=True)",
    "np.argsort(x, axis=None, kind='stable')", "x.argsort(0, kind='stable')", "np.sort(np.sort(x)[::-1])",
    "np.lexsort(x)", "np.lexsort((x, x[::-1]), axis=0)", "np.flip(np.sort(x, axis=0), axis=0)",
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_sorts(dtype: Any) -> None:
    for shape in SHAPES:
        x = np.round(sample(shape, np.float64) * 2).astype(dtype)  # with ties
        check(all_of(SORTS, "x"), x, rtol=0, rtol32=0)


def test_partitions() -> None:
    texts = [
        "np.partition(x, 2)[..., 2]", "np.partition(x, (0, -1), axis=None)[::14]",
        "np.take_along_axis(x, np.argpartition(x, 1), -1)[:, 1]", "x.argpartition(0, axis=0)[0]",
    ]  # fmt: skip
    check(all_of(texts, "x"), sample((3, 5)))


AWKWARD = np.array([[0.0, -0.0, np.nan, 1.0, -np.inf, 2.0], [np.inf, np.nan, -np.nan, -1.0, -0.0, 0.0]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_zeros_and_nan_stay_in_order(dtype: Any) -> None:
    x = AWKWARD.astype(dtype)
    for axis in (0, 1, None):
        for found, wanted in (
            (traced(lambda x: np.sort(x, axis=axis), x), np.sort(x, axis=axis, kind="stable")),  # noqa: B023
            (traced(lambda x: np.argsort(x, axis=axis), x), np.argsort(x, axis=axis, kind="stable")),  # noqa: B023
        ):
            assert found.tobytes() == wanted.tobytes()


def test_arrays_are_sorted_in_place() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        view = y[1:]
        view.sort(axis=0)
        y[0].partition(2)
        return y

    check(f, np.sort(sample((4, 3)))[:, ::-1])


QUANTILES = [
    f"np.{name}(x, {q}{axis})"
    for name in ("quantile", "nanquantile")
    for q in ("0.3", "[0.0, 0.25, 1.0]", "np.array([[0.1], [0.5]])")
    for axis in ("", ", axis=0", ", axis=-1, keepdims=True")
] + [
    "np.median(x)", "np.median(x, axis=0)", "np.median(x, axis=-1, keepdims=True)", "np.median(x, axis=(0, -1))",
    "np.nanmedian(x)", "np.nanmedian(x, axis=0)", "np.nanmedian(x, axis=-1, keepdims=True)",
    "np.percentile(x, 30)", "np.percentile(x, [10, 99.5], axis=0)", "np.nanpercentile(x, 75, axis=-1)",
    "np.percentile(x, (25, 50, 75), axis=-1, keepdims=True)",
]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4)])
def test_quantiles(shape: tuple[int, ...]) -> None:
    for dtype in DTYPES[:3]:
        check(all_of(QUANTILES, "x"), sample(shape, dtype), rtol=1e-14)


def test_quantiles_with_nan() -> None:
    call = all_of(QUANTILES, "x")
    check(call, np.array([[1.0, np.nan, 3.0, -2.0], [4.0, 5.0, np.inf, 0.5], [-1.0, 2.0, 7.0, np.nan]]), rtol=1e-14)


METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
    "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest",
]  # fmt: skip


def by_every_method(name: str) -> list[str]:
    return [f"np.{name}(x, q, axis=-1, method={method!r})" for method in METHODS]


@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_methods(name: str) -> None:
    shares, x = np.array([0.0, 0.1, 0.25, 0.3, 0.5, 0.625, 0.9, 1.0]), sample((3, 8))
    if name == "nanquantile":
        x = np.where(x > 0.8, np.nan, x)
        x[1] = np.nan
    given = [text.replace("q,", "[0.0, 0.1, 0.25, 0.3, 0.5, 0.625, 0.9, 1.0],") for text in by_every_method(name)]
    check(all_of(given, "x"), x, rtol=1e-14)
    # What the program is given as an argument takes another way.
    check(all_of(by_every_method(name), "xq"), x[:, :7], shares, rtol=1e-14)
    check(all_of(by_every_method(name), "xq"), sample((9,), np.int64), np.array(0.4), rtol=1e-14)


SEARCHES = [
    "np.searchsorted(t, x)", "np.searchsorted(t, x, side='right')", "np.searchsorted(t[:0], x)",
    "np.searchsorted(t[::-1], x, sorter=np.arange(t.size)[::-1])", "np.digitize(x, t)",
    "np.digitize(x, t, right=True)", "np.digitize(x, t[::-1])", "np.digitize(x, t[::-1], right=True)",
    "np.searchsorted(t, x[0, 0])",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9])
def test_searches(size: int) -> None:
    call = all_of(SEARCHES, "tx")
    table = np.sort(np.round(sample((size,)), 1))
    x = np.concatenate([np.round(sample((3, 4)), 1), [[table[0], table[-1], np.inf, -np.inf]]])
    check(call, table, x)
    check(call, np.sort(table.astype(np.int64)), x)
    check(lambda x: call(table, x), x)
    check(lambda t: t.searchsorted(x, "right"), table)


def test_searches_with_nan() -> None:
    table = np.array([-1.0, 0.0, 0.0, 2.0, np.nan, np.nan])
    x = np.array([np.nan, 0.0, -0.0, 3.0, -2.0])
    for side in ("left", "right"):
        check(lambda t, x: np.searchsorted(t, x, side=side), table, x)  # noqa: B023


REFUSED: list[tuple[str, type[AdjitError], str]] = [
    ("np.sort(x, kind='bubble')", TraceError, "kind 'bubble'"),
    ("np.sort(x, kind='stable', stable=True)", TraceError, "cannot both"),
    ("np.sort(x, order='f')", adjit.DTypeError, "order"),
    ("np.sort(x, axis=2)", ShapeError, "axis 2"),
    ("np.partition(x, 9)", ShapeError, "kth"),
    ("np.partition(x, 1, kind='x')", TraceError, "introselect"),
    ("np.lexsort((x, x[0]))", ShapeError, "lexsort"),
    ("np.searchsorted(x, x)", ShapeError, "vector"),
    ("np.searchsorted(x[0], x, side='middle')", TraceError, "side 'middle'"),
    ("np.searchsorted(x[0], x, sorter=np.arange(2))", ShapeError, "sorter"),
    ("np.digitize(x, [1.0, 3.0, 2.0])", ShapeError, "monotonically"),
    ("np.digitize(x, x)", ShapeError, "vector"),
    ("np.quantile(x, 1.5)", TraceError, "range"),
    ("np.quantile(x, 0.5, method='best')", TraceError, "method 'best'"),
    ("np.quantile(x, 0.5, weights=x)", TraceError, "weights"),
    ("np.quantile(x[:0], 0.5)", ShapeError, "no elements"),
    ("np.percentile(x, 101)", TraceError, "range"),
    ("np.unique(x)", TraceError, "adjit.nn.unique"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "error", "match"), REFUSED)
def test_refusals(text: str, error: type[AdjitError], match: str) -> None:
    with pytest.raises(error, match=match):
        traced(from_text(text, "x"), sample((2, 3)))


def test_what_must_hold_when_it_runs() -> None:
    quantile = adjit.jit(lambda x, q: np.quantile(x, q))
    np.testing.assert_allclose(quantile(np.arange(5.0), 0.3), 1.2, rtol=1e-15)
    with pytest.raises(DomainError, match=r"quantile: q must be in the range \[0, 1\]"):
        quantile(np.arange(5.0), 1.5)
    bins = adjit.jit(lambda x, edges: np.digitize(x, edges))
    assert bins(np.array(2.5), np.array([3.0, 2.0, 1.0])) == 1
    with pytest.raises(ShapeError, match="monotonically"):
        bins(np.array(2.5), np.array([3.0, 1.0, 2.0]))
