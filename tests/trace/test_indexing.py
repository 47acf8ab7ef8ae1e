"""x[key] and x[key] = v are NumPy's for every kind of key; out of range is found where it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit.trace
from adjit_runtime.errors import DTypeError, IndexOutOfRange, ShapeError, TraceError
from tests.trace.check import floats, graph_of, integers, run, same

X = floats(4, 5, 6)
M = np.array([True, False, True, True])
M2 = floats(4, 5) > 0

BASIC: list[Any] = [
    0, -1, np.int64(2), slice(None), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(3, None, -2),
    slice(-2, None), slice(10), slice(3, 1), (0, 1), (0, 1, 2), (slice(1, 3), 2), (slice(None), slice(4, 0, -3), 5),
    None, (None, 0), (0, None, slice(1, 3)), (Ellipsis, 0), (0, Ellipsis), (0, Ellipsis, 1), (0, 1, 2, Ellipsis),
    (None, Ellipsis, None), (), Ellipsis, (slice(None), None, slice(1, 2)), (slice(0, 0), 1), np.array(2),
]  # fmt: skip

ADVANCED: list[Any] = [
    [0, 2], [3, 0, 0], np.array([1, 1, -1]), np.array([[0, 1], [2, 3]]), np.array([], dtype=np.int64), [],
    (slice(None), [0, 1]), (slice(None), slice(None), [5, 0, -2]), (slice(1, 3), [4, 0]), ([0, 1], [2, 3]),
    ([0, 1], slice(None), [2, 3]), (slice(None), [0, 1], [2, 3]), (0, slice(None), [1, 2]), (slice(None), 0, [1, 2]),
    ([[0], [1]], [2, 3]), ([0, 1], None, [2, 3]), (None, [0, 1], [2, 3]), ([0, 1], [2, 3], None),
    (slice(None, None, -1), [0, 1], slice(1, 5, 2)), ([0, 1], Ellipsis, 3), (Ellipsis, [0, 2]), M, (M, 0), M2,
    (slice(None), np.array([True, False, True, False, True])), (M, slice(None), [0, 1, 2]), ([0], [[1, 2]], [3]),
    np.array([3, 1], dtype=np.uint8), (slice(1, 3), slice(None), [2, 0]), (2, None, [1, 0]), ([0, 1], 1, None, [2, 2]),
    [0, 1, 2], [3, 2, 1], ([0, 2],), (slice(None), None, [0, 2, 4]), np.array([0, 1, 2, 3]),
    (slice(0, 0), [0, 1]), np.zeros((0, 2), np.int64), (np.arange(4), np.arange(4)), (np.arange(4), [0, 3, 2, 1]),
]  # fmt: skip


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=repr)
def test_read(key: Any) -> None:
    same(lambda x: x[key], X)


@pytest.mark.parametrize("key", BASIC + ADVANCED, ids=repr)
def test_write(key: Any) -> None:
    def number(x: Any) -> Any:
        y = x + 0
        y[key] = 7
        return y

    def array(x: Any, v: Any) -> Any:
        y = x + 0
        y[key] = v
        return y

    def added(x: Any, v: Any) -> Any:
        y = x + 0
        y[key] += v
        return y

    def piled(x: Any, v: Any) -> Any:
        y = x + 0
        np.add.at(y, key, v)
        return y

    same(number, X)
    v = floats(*X[key].shape, seed=1)
    same(array, X, v)
    same(added, X, v)
    same(piled, X, v, exact=False)


TRACED = [
    lambda x, i, j: x[i],
    lambda x, i, j: x[i, 1:3],
    lambda x, i, j: x[i, j],
    lambda x, i, j: x[i, :, j],
    lambda x, i, j: x[:, i, j],
    lambda x, i, j: x[:, i, 0],
    lambda x, i, j: x[i, 0],
    lambda x, i, j: x[0, i],
    lambda x, i, j: x[..., i],
    lambda x, i, j: x[None, i],
    lambda x, i, j: x[i, None, j],
    lambda x, i, j: x[i, [0, 1, 2]],
    lambda x, i, j: x[::-1, i],
    lambda x, i, j: x[i, i, i],
    lambda x, i, j: x[i][j],
    lambda x, i, j: x[1:][i],
]


@pytest.mark.parametrize("read", TRACED)
@pytest.mark.parametrize("scalar", [True, False])
def test_traced_index(read: Any, scalar: bool) -> None:
    i = np.int64(-1) if scalar else integers(3, low=-3, high=3)
    j = np.int64(2) if scalar else integers(3, low=-3, high=3, seed=1)
    same(read, X, i, j)


@pytest.mark.parametrize(
    "index", [integers(3, low=0, high=4, dtype=np.int32), integers(2, 2, low=0, high=4, dtype=np.uint8)]
)
def test_traced_index_of_other_dtypes(index: np.ndarray) -> None:
    same(lambda x, i: x[i], X, index)
    same(lambda x, i: x[np.arange(4), :, i[:1]], X, index.ravel())


def test_traced_scalar_write() -> None:
    def write(x: Any, i: Any, v: Any) -> Any:
        y = x + 0
        y[i] = v
        y[i, 1] += v[0]
        y[1:][i, 2] *= 2
        row = y[0]
        row[i] = 1
        return y

    same(write, X, np.int64(1), floats(5, 6))


def test_traced_array_write() -> None:
    def write(x: Any, i: Any, v: Any) -> Any:
        y = x + 0
        y[i] = v
        y[:, i] += 1
        y[i, i, i] = -1
        y[:, 0][i] -= 3
        return y

    same(write, X, np.array([3, 0, 3]), floats(5, 6))


def test_add_at_adds_repeatedly() -> None:
    def pile(x: Any, i: Any, v: Any) -> Any:
        y = x + 0
        np.add.at(y, i, v)
        np.add.at(y, (slice(None), i), 1)
        np.subtract.at(y, (i, i), 1)
        return y

    same(pile, floats(4, 4, dtype=np.float64), np.array([1, 1, 3]), floats(3, 4, dtype=np.float64), exact=False)


def test_masked_write_of_one_value() -> None:
    def relu(x: Any) -> Any:
        y = x + 0
        y[y < 0] = 0
        y[y > 2] = np.float64(2)
        return y

    same(relu, X)


def test_write_casts_as_numpy_does() -> None:
    def write(x: Any, v: Any) -> Any:
        y = x + 0
        y[1] = v
        y[0, :2] = True
        y[2, 3] = 2.9
        return y

    same(write, integers(4, 5), np.float64(3.7))
    same(write, integers(4, 5, dtype=np.uint8, low=0), np.float32(3.7))
    same(write, floats(4, 5), np.float64(3.7))


def test_values_with_leading_ones_are_written() -> None:
    def write(x: Any, v: Any) -> Any:
        y = x + 0
        y[0] = v
        y[:, 1] = [1, 2, 3]
        return y

    same(write, floats(3, 4), floats(1, 1, 4))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (4, "index 4 is out of bounds for axis 0 with size 4"),
        ((0, -6), "index -6 is out of bounds for axis 1 with size 5"),
        ([0, 9], "index 9 is out of bounds for axis 0 with size 4"),
        ((0, 0, 0, 0), "too many indices"),
        ((Ellipsis, Ellipsis), "single ellipsis"),
        (np.array([True, False]), "boolean index did not match"),
        (([0, 1], [0, 1, 2]), "could not be broadcast"),
        (1.5, "an index is an integer"),
        ("a", "an index is an integer"),
        (np.array([1.0]), "must be of integer"),
    ],
    ids=repr,
)
def test_static_errors_name_the_line(key: Any, text: str) -> None:
    with pytest.raises(IndexOutOfRange, match=text) as info:
        run(lambda x: x[key], X)
    assert "test_indexing.py:" in str(info.value)
    assert "x[key]" in str(info.value)


def test_traced_index_out_of_range_raises_when_run() -> None:
    with pytest.raises(IndexError, match="index 4 is out of bounds for axis 0 with size 4"):
        run(lambda x, i: x[i], X, np.int64(4))


@pytest.mark.parametrize("text", ["x[i]", "np.take(x, i, axis=0)"])
def test_an_axis_without_elements_has_no_index(text: str) -> None:
    call = eval(f"lambda x, i: {text}", {"np": np})
    with pytest.raises(IndexOutOfRange, match="every index is out of bounds for axis 0 with size 0"):
        run(call, np.zeros((0, 3)), np.array([0]))
    assert run(call, np.zeros((0, 3)), np.array([], np.int64)).shape == (0, 3)


def test_refused_keys() -> None:
    with pytest.raises(TraceError, match=r"np\.where"):
        run(lambda x: x[x > 0], X)
    with pytest.raises(TraceError, match=r"x\[None\]"):
        run(lambda x: x[True], X)
    with pytest.raises(DTypeError, match="astype"):
        run(lambda x: x[x], X)
    with pytest.raises(TraceError, match="a bound of a slice"):
        run(lambda x, n: x[:n], X, np.int64(2))
    with pytest.raises(ShapeError, match="cannot be zero"):
        run(lambda x: x[::0], X)
    with pytest.raises(TraceError, match=r"np\.where"):
        run(_write_by_mask, X, X)


def _write_by_mask(x: Any, v: Any) -> Any:
    y = x + 0
    y[y > 0] = v
    return y


def test_plain_array_by_traced_index() -> None:
    table = integers(7)
    same(lambda i: adjit.trace.asarray(table)[i], np.array([1, -1]))
    same(lambda i: adjit.trace.asarray(table)[i], np.int64(3))
    with pytest.raises(TraceError, match=r"adjit\.asarray\(array\)\[index\]"):
        run(lambda i: table[i], np.array([1, -1]))
    with pytest.raises(TraceError, match=r"adjit\.asarray\(array\)\[index\]"):
        run(lambda i: table[i], np.int64(1))


def test_evenly_spaced_positions_become_a_slice() -> None:
    names = {node.op.name for node in graph_of(lambda x: x[:, [3, 1]], X).nodes}
    assert names == {"slice", "flip"}


def test_iteration_and_unpacking() -> None:
    def rows(x: Any) -> Any:
        a, b, *rest = x
        return a, b, rest, [row[0] for row in x], len(x), list(reversed(x))

    same(rows, X)


def random_key(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A key of every kind of index, arrays of shapes that broadcast together."""
    block = tuple(int(n) for n in rng.choice([1, 2, 3], size=rng.integers(0, 3)))
    key: list[Any] = []
    axis = 0
    while axis < len(shape):
        n = shape[axis]
        kind = int(rng.integers(8))
        if kind == 0:
            key.append(int(rng.integers(-n, n)))
        elif kind == 1:
            key.append(slice(None))
        elif kind == 2:
            bounds = [None if rng.random() < 0.3 else int(i) for i in rng.integers(-n - 1, n + 2, 2)]
            key.append(slice(*bounds, int(rng.choice([1, 2, -1, -2]))))
        elif kind in (3, 4, 5):
            part = block[int(rng.integers(len(block) + 1)) :]
            part = tuple(1 if rng.random() < 0.2 else m for m in part)
            key.append(rng.integers(-n, n, part))
        elif kind == 6:
            key.append(None)
            continue
        elif axis + 1 < len(shape) and block == ():
            key.append(rng.random(shape[axis : axis + 2]) < 0.5)
            axis += 1
        else:
            key.append(slice(None))
        axis += 1
    if rng.random() < 0.4:
        at = int(rng.integers(len(key) + 1))
        key = [*key[:at], Ellipsis, *key[at + int(rng.integers(3)) :]]
    return tuple(key)


@pytest.mark.parametrize("seed", range(400))
def test_random_keys(seed: int) -> None:
    """Plain keys, and the same keys with their integers and arrays traced."""
    rng = np.random.default_rng(seed)
    x = floats(*(int(n) for n in rng.integers(1, 5, rng.integers(1, 5))), seed=seed)
    key = random_key(rng, x.shape)
    expected = x[key]
    places = [i for i, k in enumerate(key) if isinstance(k, int | np.ndarray) and np.asarray(k).dtype != bool]
    v = floats(*expected.shape, seed=seed + 1)

    def plain(x: Any, v: Any) -> Any:
        y = x + 0
        y[key] = v
        y[key] *= 2
        return x[key], y

    def traced(x: Any, v: Any, *positions: Any) -> Any:
        whole = list(key)
        for place, position in zip(places, positions, strict=True):
            whole[place] = position
        y = x + 0
        y[tuple(whole)] = v
        y[tuple(whole)] *= 2
        return x[tuple(whole)], y

    same(plain, x, v)
    same(traced, x, v, *(np.asarray(key[place])[()] for place in places))
