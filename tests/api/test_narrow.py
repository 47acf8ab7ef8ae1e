"""Data of dtypes that no machine code computes in: promoted as in NumPy, or refused where NumPy computes in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit_runtime.program import WIDE

NARROW = sorted(WIDE)
W32, W64, I32 = np.array([0.5, -1.5, 2.0], np.float32), np.array([0.5, -1.5, 2.0]), np.array([1, 2, 3], np.int32)


def sample(name: str) -> np.ndarray:
    """Values at the ends of a dtype, and one within."""
    dtype = np.dtype(name)
    bounds = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([bounds.min, 3, bounds.max], dtype)


WIDE_RESULTS: list[Callable[[Any], Any]] = [
    lambda x: x * W32, lambda x: x + W64, lambda x: W32 - x, lambda x: x[::-1] * W32, lambda x: x[1] * W64,
    lambda x: x.reshape(3, 1) @ W32.reshape(1, 3), lambda x: x.T.astype(np.float64) ** 2,
    lambda x: x.astype(np.float32), lambda x: x > 2, lambda x: np.where(x > 2, x, x[0]) * W64,
    lambda x: np.stack([x, x]) * W32, lambda x: x == x[1], lambda x: np.argmax(x), lambda x: np.max(x) * W64,
    lambda x: np.concatenate([x, x]).astype(np.float64).sum(), lambda x: np.broadcast_to(x, (2, 3)) + W32,
    lambda x: x[np.array([2, 0])] + W64[:2],
]  # fmt: skip
"""What NumPy computes in a dtype that there is code for."""
FUNCTIONS: list[Callable[[Any], Any]] = [
    *WIDE_RESULTS, lambda x: x.shape, lambda x: np.isnan(x), lambda x: x.astype(bool),
    lambda x: x.astype(np.int64) * 2, lambda x: (x * 0.5, x / 2), lambda x: x.dtype == x[0].dtype,
    lambda x: np.sum(x), lambda x: np.mean(x), lambda x: x @ W64, lambda x: np.dot(x, W32), lambda x: x * I32,
    lambda x: np.sqrt(x), lambda x: x + 1, lambda x: x * x, lambda x: -x, lambda x: abs(x), lambda x: np.cumsum(x),
    lambda x: x, lambda x: np.prod(x), lambda x: x @ x, lambda x: np.var(x), lambda x: np.sort(x),
    lambda x: np.clip(x, 0, 5), lambda x: np.maximum(x, 2), lambda x: x.sum(dtype=np.float32), lambda x: np.diff(x),
    lambda x: x // 2, lambda x: x % 3, lambda x: x << 1, lambda x: np.linalg.norm(x), lambda x: np.pad(x, 1) * W64[0],
    lambda x: np.outer(x, W32), lambda x: np.einsum("i,i", x, W64), lambda x: np.einsum("i,i", x, x),
    lambda x: np.sign(x),
]  # fmt: skip


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("f", FUNCTIONS, ids=range(len(FUNCTIONS)))
@pytest.mark.filterwarnings("ignore::adjit.WideningWarning", "ignore::RuntimeWarning")
def test_results_are_those_of_numpy_or_refused(f: Callable[[Any], Any], name: str) -> None:
    x = sample(name)
    try:
        wanted = f(x)
    except TypeError:
        pytest.skip("NumPy has it for integers alone")
    many = wanted if isinstance(wanted, tuple) else (wanted,)
    try:
        got = adjit.jit(f)(x)
    except (adjit.DTypeError, adjit.TraceError):
        assert f not in WIDE_RESULTS
        return
    for have, want in zip(got if isinstance(got, tuple) else (got,), many, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6, equal_nan=True)
        assert np.asarray(have).dtype == np.asarray(want).dtype


@pytest.mark.parametrize("name", NARROW)
def test_gradients_steps_and_runs(name: str) -> None:
    x = np.arange(12).reshape(6, 2).astype(name)

    def f(w: Any, x: Any) -> Any:
        return np.sum((x.astype(np.float64) @ w) ** 2)

    np.testing.assert_allclose(adjit.grad(f)(np.ones(2), x), adjit.grad(f)(np.ones(2), x.astype(np.float64)))
    step = adjit.training_step(f, adjit.optim.sgd(1e-4))
    one, other, third = (step.init(np.ones(2)) for _ in range(3))
    losses = step.run(one, (x,), batch_size=2, epochs=3, seed=1).losses
    np.testing.assert_array_equal(
        losses, step.run(other, (x.astype(np.float64),), batch_size=2, epochs=3, seed=1).losses
    )
    step.run(one, (x,), batch_size=2)
    for _ in range(5):
        step(third, x)
    inner = adjit.jit(lambda w, x: adjit.grad(f)(w, x) * 2)
    np.testing.assert_allclose(inner(np.ones(2), x), 2 * adjit.grad(f)(np.ones(2), x))


def test_what_is_refused_says_what_to_write() -> None:
    x = np.ones(3, np.int8)
    with pytest.raises(adjit.DTypeError, match=r"test_narrow\.py.*int8|i8.*write x\.astype\(np\.int32\)"):
        adjit.jit(lambda x: x * x)(x)
    with pytest.raises(adjit.DTypeError, match=r"a result is i8 .*write x\.astype\(np\.int32\)"):
        adjit.jit(lambda x: x[1:])(x)
    with pytest.raises(adjit.DTypeError, match=r"differentiated by x, .*f16.*write x\.astype\(np\.float32\)"):
        adjit.grad(lambda x: np.sum(x.astype(np.float32)))(x.astype(np.float16))
    with pytest.raises(adjit.DTypeError, match="float16"):
        adjit.training_step(lambda p: np.sum(p), adjit.optim.sgd(1.0)).init(x.astype(np.float16))


def test_calls_again_and_in_other_layouts() -> None:
    f = adjit.jit(lambda x, w: x @ w)
    x = np.arange(6, dtype=np.int16).reshape(2, 3)
    for _ in range(5):
        for given in (x, np.asfortranarray(x), x.astype(">i2")):
            assert f(given, W64).tolist() == (x @ W64).tolist()
    assert f.signatures() == ["x: i16[2,3], w: f64[3]"]
    assert f(x.astype(np.int32), W64).tolist() == (x @ W64).tolist()
    assert "i16" in str(f.ir("trace", x, W64))
    assert "i16" not in str(f.ir("optimized", x, W64))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.uint32])
def test_narrow_indices(dtype: Any) -> None:
    x = np.arange(300.0)
    i = np.array([120, 0, 100]).astype(dtype)
    last = i if np.dtype(dtype).kind == "u" else -i - 1
    for f in (
        lambda x, i: x[i],
        lambda x, i: x[i[0]],
        lambda x, i: np.take(x, i),
        lambda x, i: np.take_along_axis(x, i, 0),
        lambda x, i: x[[i[0], i[1]]],
        lambda x, i: np.zeros(i.shape) + x[i[1]],
    ):
        for positions in (i, last):
            np.testing.assert_array_equal(adjit.jit(f)(x, positions), f(x, positions))
