"""Arrays of up to 64 dimensions work; what is larger than arrays can be, or than memory, is refused by an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn

MOVES: Mapping[str, Callable[[Any], Any]] = {
    "add": lambda x: x + 1, "transpose": lambda x: x.T * 2, "sum": lambda x: np.sum(x),
    "axis": lambda x: x.sum(axis=-1), "reshape": lambda x: np.exp(x.reshape(-1)), "index": lambda x: x[..., 0],
    "softmax": nn.softmax,
    "broadcast": lambda x: np.broadcast_to(x, (*x.shape[:-1], 4)), "constant": lambda x: x * np.full(x.shape, 3.0),
    "max": lambda x: np.maximum(x, np.arange(x.size).reshape(x.shape)), "where": lambda x: np.where(x > 0, x, -x),
}  # fmt: skip


@pytest.mark.parametrize("axes", [9, 32, 33, 64])
@pytest.mark.parametrize("name", MOVES)
def test_arrays_of_many_dimensions(name: str, axes: int) -> None:
    shape = (2, 1, 3) + (1,) * (axes - 4) + ((4,) if name == "broadcast" else (2,))
    x = np.arange(float(np.prod(shape))).reshape(shape) / 10
    found, expected = adjit.jit(MOVES[name])(x), MOVES[name](x)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-14)  # our exp
    slopes = adjit.grad(lambda x: np.sum(MOVES[name](x) ** 2))(x)
    assert slopes.shape == shape


def test_more_dimensions_than_numpy_has() -> None:
    x = np.ones((1,) * 64)
    for f in (lambda x: x[None], lambda x: x.reshape((1,) * 65), lambda x: np.multiply.outer(x, x)):
        with pytest.raises(adjit.ShapeError, match="dimensions, where an array has at most 64"):
            adjit.jit(f)(x)
    with pytest.raises(adjit.ShapeError, match="letter"):
        adjit.jit(lambda x: x @ x)(x)


TOO_BIG: Mapping[str, Callable[[Any], Any]] = {
    "result": lambda x: np.broadcast_to(x, (2**40, 2**40)), "inside": lambda x: np.broadcast_to(x, (2**62,))[:2],
    "empty": lambda x: np.broadcast_to(x, (0, 2**62, 4)), "extent": lambda x: np.broadcast_to(x, (2**70,)),
    "empty extent": lambda x: np.broadcast_to(x, (0, 2**70)), "pad": lambda x: np.pad(x[None], 2**62),
    "repeat": lambda x: np.repeat(x[None], 2**62), "full": lambda x: np.full((2**62,), 1.0, like=x)[0] + x,
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_BIG)
def test_sizes_that_do_not_fit_int64(name: str) -> None:
    with pytest.raises(adjit.ShapeError, match=r"test_sizes.py:\d+: .*too big"):
        adjit.jit(TOO_BIG[name])(np.float64(1))


def test_empty_arrays_with_huge_extents() -> None:
    x = np.zeros((0, 2**40), np.float32)
    assert adjit.jit(lambda x: x + 1)(x).shape == x.shape
    assert adjit.jit(lambda x: x.sum(axis=0)[:2])(x).tolist() == [0, 0]


def test_memory_that_is_not_there() -> None:
    with pytest.raises(adjit.OutOfMemory, match="bytes of memory are needed"):
        adjit.jit(lambda x: np.broadcast_to(x, (2**58,)))(np.float64(1))
    with pytest.raises(MemoryError, match="more than int64 counts"):
        adjit.jit(lambda x: np.cumsum(np.cumsum(np.broadcast_to(x, (2**59,)))[::-1])[3])(np.float64(1))
