"""top_k, unique, one_hot and the sums of segments: against NumPy one by one, plain and compiled, with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError

RNG = np.random.default_rng(3)


def both(f: Callable[..., Any], *args: Any) -> Any:
    """What a function gives, which is the same plain and compiled."""
    plain, compiled = f(*args), adjit.jit(f)(*args)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (plain, compiled)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
    return plain


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_top_k(dtype: Any) -> None:
    x = np.round(RNG.normal(size=(3, 7)) * 3 + 5).astype(dtype)
    for axis in (0, 1, -1):
        n = x.shape[axis]
        for k in (0, 1, n):
            values, at = both(lambda x: nn.top_k(x, k, axis), x)  # noqa: B023
            wanted = np.flip(np.sort(x, axis), axis).take(range(k), axis)
            np.testing.assert_array_equal(values, wanted)
            np.testing.assert_array_equal(np.take_along_axis(x, at, axis), wanted)
            smallest, _ = both(lambda x: nn.top_k(x, k, axis, largest=False), x)  # noqa: B023
            np.testing.assert_array_equal(smallest, np.sort(x, axis).take(range(k), axis))


def test_top_k_of_equal_elements_and_nan() -> None:
    x = np.array([2.0, np.nan, 3.0, 3.0, np.nan, 2.0])
    values, at = both(lambda x: nn.top_k(x, 5), x)
    assert at.tolist() == [1, 4, 2, 3, 0]
    np.testing.assert_array_equal(values, x[at])
    assert both(lambda x: nn.top_k(x, 3, largest=False), x)[1].tolist() == [0, 5, 2]


def test_derivatives_go_to_what_is_given() -> None:
    x = np.array([[3.0, 1.0, 2.0], [0.5, 2.5, -1.0]])
    g = adjit.grad(lambda x: np.sum(nn.top_k(np.exp(x), 2)[0] * np.array([1.0, 10.0])))(x)
    np.testing.assert_allclose(g, np.exp(x) * [[1.0, 0.0, 10.0], [10.0, 1.0, 0.0]], rtol=1e-15)
    adjit.check_grads(lambda x: nn.top_k(x**3, 2, axis=0)[0], (x,), order=2)
    adjit.check_grads(lambda x: np.sort(x**2, axis=0) * np.sort(x, axis=None)[::2], (x,), order=2)
    adjit.check_grads(lambda x: np.quantile(x**2, [0.2, 0.7], axis=1), (x,), order=2)
    adjit.check_grads(lambda x, q: np.quantile(x**3, q), (x, np.array(0.37)), order=2)


@pytest.mark.parametrize("x", [np.array([3, 1, 3, 3, -2]), np.round(RNG.normal(size=(4, 5))),
                               np.array([np.nan, 1.0, np.nan, -0.0, 0.0]), np.array([[7]])])  # fmt: skip
def test_unique(x: np.ndarray) -> None:
    values, at, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    for size in (len(values), len(values) + 3):
        found = both(
            lambda x: nn.unique(x, size, return_index=True, return_inverse=True, return_counts=True),  # noqa: B023
            x,
        )
        rest = size - len(values)
        np.testing.assert_array_equal(found[0], [*values, *[values[0]] * rest])
        np.testing.assert_array_equal(found[1], [*at, *[0] * rest])
        np.testing.assert_array_equal(found[2], inverse.reshape(x.shape))
        np.testing.assert_array_equal(found[3], [*counts, *[0] * rest])
    np.testing.assert_array_equal(both(lambda x: nn.unique(x, len(values) + 1, fill_value=9), x), [*values, 9])


def test_of_more_distinct_elements_the_smallest_are_given() -> None:
    values, inverse = both(lambda x: nn.unique(x, 2, return_inverse=True), np.array([5, 3, 4, 3]))
    assert (values.tolist(), inverse.tolist()) == ([3, 4], [2, 0, 1, 0])


def test_the_derivative_of_distinct_elements() -> None:
    g = adjit.grad(lambda x: np.sum(nn.unique(x, 3) * np.array([1.0, 10.0, 100.0])))(np.array([2.0, 1.0, 2.0]))
    assert g.tolist() == [10.0, 101.0, 0.0]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_one_hot(shape: tuple[int, ...]) -> None:
    ids = RNG.integers(0, 5, shape)
    for axis in range(-len(shape) - 1, len(shape) + 1):
        for dtype in (np.float64, np.float32, np.int32, np.bool_):
            found = both(lambda ids: nn.one_hot(ids, 5, axis, dtype), ids)  # noqa: B023
            np.testing.assert_array_equal(found, np.moveaxis(np.eye(5, dtype=dtype)[ids], -1, axis))
            assert found.dtype == dtype


SEGMENTS: dict[str, tuple[Callable[..., Any], Callable[[np.ndarray], Any], Any]] = {
    "segment_sum": (nn.segment_sum, lambda rows: rows.sum(0), 0),
    "segment_mean": (nn.segment_mean, lambda rows: rows.mean(0), 0),
    "segment_max": (nn.segment_max, lambda rows: rows.max(0), -np.inf),
    "segment_min": (nn.segment_min, lambda rows: rows.min(0), np.inf),
}


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_segments(name: str, dtype: Any) -> None:
    function, meaning, empty = SEGMENTS[name]
    if dtype is np.int64 and empty != 0:
        empty = np.iinfo(dtype).min if empty < 0 else np.iinfo(dtype).max
    for shape in ((9,), (9, 3), (9, 2, 2), (1, 2), (0, 2)):
        x, ids = np.round(RNG.normal(size=shape) * 4).astype(dtype), RNG.integers(0, 4, shape[0])
        found = both(lambda x, ids: function(x, ids, 6), x, ids)
        blank = np.full(shape[1:], empty)
        wanted = [meaning(x[ids == i]) if (ids == i).any() else blank for i in range(6)]
        np.testing.assert_allclose(found, np.array(wanted), rtol=1e-6 if dtype is np.float32 else 1e-14)
        assert found.dtype == (np.float64 if name == "segment_mean" and dtype is np.int64 else dtype)


def test_nan_in_segments() -> None:
    x, ids = np.array([1.0, np.nan, 2.0, 3.0]), np.array([0, 0, 1, 1])
    for function, of_second in ((nn.segment_max, 3.0), (nn.segment_min, 2.0)):
        np.testing.assert_array_equal(both(lambda x: function(x, ids, 2), x), [np.nan, of_second])  # noqa: B023


@pytest.mark.parametrize("name", SEGMENTS)
def test_derivatives_of_segments(name: str) -> None:
    function, ids = SEGMENTS[name][0], np.array([1, 0, 1, 1, 0])
    x = RNG.normal(size=(5, 2))
    adjit.check_grads(lambda x: function(x**3, ids, 2), (x,), order=2)
    batched = adjit.vmap(lambda x: function(x, ids, 2))(np.stack([x, 2 * x]))
    np.testing.assert_allclose(batched, [function(x, ids, 2), function(2 * x, ids, 2)], rtol=1e-14)


X = np.arange(6.0).reshape(2, 3)
REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: nn.top_k(X, 4), ShapeError, "3 elements along axis 1, not 4"),
    (lambda: nn.top_k(X, -1), ArgumentError, "top_k: k"),
    (lambda: nn.top_k(1.0, 1), ShapeError, "a number"),
    (lambda: nn.top_k(X, 1, axis=2), ShapeError, "no axis 2"),
    (lambda: nn.top_k(X, 1, largest=3), ArgumentError, "largest"),  # type: ignore[arg-type]
    (lambda: nn.unique(X, 0), ArgumentError, "unique: size"),
    (lambda: nn.unique(X[:0], 2), ShapeError, "empty"),
    (lambda: nn.unique(X, 2, fill_value=X), ArgumentError, "fill_value"),
    (lambda: nn.one_hot([3], 3), IndexOutOfRange, "id 3"),
    (lambda: nn.one_hot([0.5], 3), DTypeError, "integers"),
    (lambda: nn.one_hot([0], 3, axis=2), ShapeError, "no axis 2"),
    (lambda: nn.one_hot([0], 3, dtype="hot"), ArgumentError, "dtype"),
    (lambda: nn.segment_sum(X, [0, 2], 2), IndexOutOfRange, "id 2"),
    (lambda: nn.segment_sum(X, [0, 1, 0], 2), ShapeError, "one for each row"),
    (lambda: nn.segment_max(X > 1, [0, 1], 2), ArgumentError, "bools"),
    (lambda: adjit.jit(lambda i: nn.segment_sum(X, i, 2))(np.array([0, 2])), IndexOutOfRange, "2"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refusals(number: int) -> None:
    call, error, match = REFUSED[number]
    with pytest.raises(error, match=match):
        call()
