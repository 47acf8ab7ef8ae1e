"""Functions of NumPy that give views, or may: a write on either side means what it means in NumPy, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adjit_runtime.errors import TraceError
from tests.trace.check import floats, run
from tests.trace.numpy_calls import lacking

CALLS: list[Any] = [
    lambda y: np.transpose(y),
    lambda y: np.swapaxes(y, 0, 1),
    lambda y: np.moveaxis(y, 0, -1),
    lambda y: np.rollaxis(y, 1),
    lambda y: np.permute_dims(y, (1, 0)),
    lambda y: np.matrix_transpose(y),
    lambda y: np.squeeze(y[None]),
    lambda y: np.squeeze(y[:, None], axis=1),
    lambda y: np.expand_dims(y, (0, 2)),
    lambda y: np.atleast_1d(y),
    lambda y: np.atleast_2d(y[0]),
    lambda y: np.atleast_3d(y),
    lambda y: np.flip(y),
    lambda y: np.flip(y, axis=1),
    lambda y: np.fliplr(y),
    lambda y: np.flipud(y),
    lambda y: np.rot90(y),
    lambda y: np.rot90(y, 2),
    lambda y: np.rot90(y, 4),
    lambda y: np.split(y, 2)[1],
    lambda y: np.array_split(y, 3, axis=1)[0],
    lambda y: np.hsplit(y, 3)[0],
    lambda y: np.vsplit(y, 2)[0],
    pytest.param(
        lambda y: np.unstack(y)[0], marks=pytest.mark.skipif(bool(lacking("np.unstack")), reason="NumPy is too old")
    ),
    lambda y: np.real(y),
    lambda y: y.real,
    lambda y: y.conj(),
    lambda y: np.conj(y),
    lambda y: np.conjugate(y),
    lambda y: np.positive(y),
    lambda y: np.astype(y, np.float64, copy=False),
    lambda y: np.astype(y, np.float64),
    lambda y: y.astype(np.float64, copy=False),
    lambda y: y.astype(np.float64),
    lambda y: y.copy(),
    lambda y: np.copy(y),
    lambda y: np.nan_to_num(y, copy=False),
    lambda y: np.nan_to_num(y),
    lambda y: np.asarray(y, like=y),
    lambda y: np.asanyarray(y, like=y),
    lambda y: np.array(y, like=y),
    lambda y: np.concatenate([y]),
    lambda y: np.stack([y])[0],
    lambda y: np.vstack([y]),
    lambda y: np.block([y]),
    lambda y: np.where(True, y, y),
    lambda y: np.take(y, [0, 1], axis=0),
    lambda y: np.take(y, 1, axis=0),
    lambda y: np.repeat(y, 1, axis=0),
    lambda y: np.tile(y, 1),
    lambda y: np.tile(y, (1, 1)),
    lambda y: np.roll(y, 0),
    lambda y: np.pad(y, 0),
    lambda y: np.clip(y, None, 100.0),
    lambda y: np.maximum(y, -np.inf),
    lambda y: np.tril(y, 5),
    lambda y: np.cumsum(y[:, :1], axis=1),
    lambda y: np.sum(y, axis=()),
    lambda y: np.max(y[:, :1], axis=1),
    lambda y: np.mean(y[:, :1], axis=1),
    lambda y: np.diff(y, n=0),
    lambda y: np.round(y, 20),
    lambda y: np.delete(y, [], axis=0),
    lambda y: np.append(y, np.zeros((0, 3)), axis=0),
    lambda y: np.insert(y, [], 0, axis=0),
    lambda y: np.resize(y, (4, 3)),
    lambda y: np.linalg.matrix_power(y[:3], 1),
    lambda y: np.linalg.matrix_transpose(y),
    lambda y: np.select([np.ones((4, 3), bool)], [y]),
    lambda y: np.add(y, 0),
    lambda y: np.abs(y),
    lambda y: np.full_like(y, y[0, 0]),
    lambda y: np.take_along_axis(y, np.zeros((4, 1), np.int64), axis=1),
    lambda y: np.stack([y, y], axis=1)[:, 0],
    lambda y: y[[0, 1]],
    lambda y: y[:, 1],
    lambda y: y[...],
    lambda y: y.view(),
    lambda y: y.T.T,
    lambda y: y.flatten(),
    lambda y: y.squeeze(),
]

MAYBE: list[Any] = [
    lambda y: np.diagonal(y),
    lambda y: np.diag(y),
    lambda y: y.diagonal(1),
    lambda y: np.einsum("ij->ji", y),
    lambda y: np.einsum("ij->ij", y),
    lambda y: np.einsum("ii->i", y[:3]),
    lambda y: np.lib.stride_tricks.sliding_window_view(y, 2, axis=0),
    lambda y: np.linalg.diagonal(y),
]
"""Views or copies: what NumPy makes of them is not known."""
BY_ORDER: list[Any] = [
    lambda y: np.reshape(y, (3, 4)),
    lambda y: np.reshape(y, -1),
    lambda y: np.reshape(y, (6, 2), order="F"),
    lambda y: np.ravel(y),
    lambda y: np.ravel(y, order="F"),
    lambda y: np.ascontiguousarray(y),
]
"""Views or copies by the memory order of the operand."""
READ_ONLY: list[Any] = [
    lambda y: np.broadcast_to(y, (2, 4, 3)),
    lambda y: np.broadcast_arrays(y, np.ones((2, 4, 3)))[0],
]
"""Views that NumPy does not let write through."""

SOURCES: list[Callable[[Any], Any]] = [
    lambda x: x.copy(),
    lambda x: x + 1,
    lambda x: (x.T * 2).T,
    lambda x: np.stack([x, x])[1],
]


def reads_after_write(call: Callable[[Any], Any], source: Callable[[Any], Any], x: Any) -> Any:
    y = source(x)
    v = call(y)
    y[1] += 1
    y *= 2
    return v + 0, y


def writes_through(call: Callable[[Any], Any], source: Callable[[Any], Any], x: Any) -> Any:
    y = source(x)
    v = call(y)
    v[...] = -7
    return v + 0, y


@pytest.mark.parametrize("call", [*CALLS, *MAYBE, *BY_ORDER, *READ_ONLY])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("program", [reads_after_write, writes_through])
def test_aliases(call: Callable[[Any], Any], source: Callable[[Any], Any], program: Callable[..., Any]) -> None:
    x = floats(4, 3, dtype=np.float64)
    # A plain copy alone has the order that it is known to have.
    if call in MAYBE or (call in BY_ORDER and source is not SOURCES[0]):
        with pytest.raises(TraceError, match="a view or a copy"):
            run(lambda x: program(call, source, x), x)
        return
    if call in READ_ONLY and program is writes_through:
        with pytest.raises(TraceError, match="read-only"):
            run(lambda x: program(call, source, x), x)
        return
    found = run(lambda x: program(call, source, x), x)
    for order in ("C", "F"):
        expected = program(call, source, np.array(x, order=order))
        for have, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-15)
