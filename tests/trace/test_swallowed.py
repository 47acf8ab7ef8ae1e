"""A refusal that the traced function catches is raised again when the trace ends; what NumPy raises as well is not."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import asarray as asarray_by_name

import adjit
from adjit_runtime.errors import AdjitError, DTypeError, TraceError

X = np.arange(3.0) + 1
M = np.eye(2) * 2
OUT = np.empty(3)

REFUSED: list[tuple[Callable[[Any], Any], Any, str]] = [
    (lambda x: np.linalg.eigvals(x), M, "np.linalg.eigvals is not supported"),
    (lambda x: 1 if x[0] > 0 else 2, X, "truth"),
    (lambda x: bool(x), np.ones(1), "truth"),
    (lambda x: int(x), 2.0, "a Python int"),
    (lambda x: np.int8(x), 2.0, "np.int8 has no machine code"),
    (lambda x: x.tolist(), X, "a Python list"),
    (lambda x: asarray_by_name(x), X, "taken out of NumPy by its name"),
    (lambda x: range(x), 3, "shapes are fixed"),
    (lambda x: X[:x], 3, "shapes are fixed"),
    (lambda x: {x: 1}, 2.0, "hashed"),
    (lambda x: pickle.dumps(x), X, "pickled"),
    (lambda x: f"{x:.2f}", 2.0, "formatted"),
    (lambda x: x.__setitem__(0, 1.0), X, "would be changed in place"),
    (lambda x: len(x[x > 0]), X, "boolean mask"),
    (lambda x: x.flags, X, "flags"),
    (lambda x: x.astype(np.complex128), X, "no.*code|not supported"),
    (lambda x: x.astype(np.float16), X, "no machine code"),
    (lambda x: x * 1j, X, "complex"),
    (lambda x: x == None, X, "is None"),  # noqa: E711
    (lambda x: np.add(x, 1, out=OUT), X, "plain array"),
    (lambda x: adjit.grad(lambda y: np.linalg.eigvals(y))(x), M, "np.linalg.eigvals is not supported"),
]


@pytest.mark.parametrize(("probe", "x", "text"), REFUSED)
def test_refusals_that_are_caught_are_raised_again(probe: Callable[[Any], Any], x: Any, text: str) -> None:
    def f(x: Any) -> Any:
        with contextlib.suppress(Exception):
            probe(x)
            return np.sum(x)
        return -np.sum(x)

    for compiled in (adjit.jit(f), adjit.jit(lambda x: f(x) * 2)):
        with pytest.raises((TraceError, DTypeError), match=text) as info:
            compiled(x)
        assert "caught this error" in info.value.__notes__[0]
        assert "test_swallowed.py" in str(info.value)


NUMPY_TOO: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda x: x + np.ones(7), X),
    (lambda x: x.reshape(7), X),
    (lambda x: x @ np.ones((7, 7)), X),
    (lambda x: x[9], X),
    (lambda x: x[0, 0], X),
    (lambda x: x["a"], X),
    (lambda x: x.sum(axis=4), X),
    (lambda x: bool(x), X),
    (lambda x: float(x), X),
    (lambda x: hash(x), X),
    (lambda x: f"{x:.2f}", X),
    (lambda x: len(x), 2.0),
    (lambda x: list(x), 2.0),
    (lambda x: range(x), 2.0),
    (lambda x: np.broadcast_to(x * 1, (2, 3)).__setitem__(0, 1), X),
    (lambda x: np.sum(x, 1, 2, 3, 4, 5, 6, 7, 8), X),
    (lambda x: x + None, X),
    (lambda x: x.nothing, X),
    (lambda x: np.stack([x, x[:2]]), X),
    (lambda x: x.astype(np.int32) + 2**40, X),
]


@pytest.mark.parametrize(("probe", "x"), NUMPY_TOO)
def test_what_numpy_raises_as_well_may_be_caught(probe: Callable[[Any], Any], x: Any) -> None:
    def f(x: Any) -> Any:
        with contextlib.suppress(Exception):
            probe(x)
            return np.sum(x)
        return -np.sum(x)

    assert f(x) < 0
    assert adjit.jit(f)(x) == f(x)


def test_what_is_raised_in_place_of_a_refusal_gives_way_to_it() -> None:
    def chained(x: Any) -> Any:
        try:
            return np.linalg.eigvals(x)
        except Exception:
            raise RuntimeError("singular") from None

    def later(x: Any) -> Any:
        with contextlib.suppress(Exception):
            np.linalg.eigvals(x)
        raise RuntimeError("singular")

    for f in (chained, later):
        with pytest.raises(TraceError, match=r"np\.linalg\.eigvals is not supported"):
            adjit.jit(f)(M)


def test_an_enclosing_function_cannot_catch_it_either() -> None:
    def inner(y: Any) -> Any:
        with contextlib.suppress(Exception):
            int(y)
        return y * y

    def outer(y: Any) -> Any:
        with contextlib.suppress(AdjitError):
            return adjit.grad(inner)(y)
        return y

    with pytest.raises(TraceError, match="a Python int"):
        adjit.jit(outer)(2.0)


def test_a_step_and_a_gradient_refuse_as_well() -> None:
    def loss(p: Any, x: Any) -> Any:
        try:
            return np.sum(np.linalg.eigvals(p) * x)
        except Exception:
            return np.sum(p * x)

    step = adjit.training_step(loss, adjit.optim.sgd(0.1))
    with pytest.raises(TraceError, match="eigvals"):
        step(step.init(M), M)
    with pytest.raises(TraceError, match="eigvals"):
        adjit.value_and_grad(loss)(M, M)


def test_traces_of_other_threads_are_none_the_wiser() -> None:
    inside, over = threading.Event(), threading.Event()
    results: list[Any] = []

    def slow(x: Any) -> Any:
        inside.set()
        over.wait(10)
        return x * 2

    thread = threading.Thread(target=lambda: results.append(adjit.jit(slow)(2.0)))
    thread.start()
    inside.wait(10)
    with pytest.raises(TraceError):
        adjit.jit(lambda x: int(x))(2.0)
    over.set()
    thread.join()
    assert results == [4.0]
    # Nor is the next trace of the function.
    f = adjit.jit(lambda x: np.sum(x) if x.ndim else int(x))
    with pytest.raises(TraceError):
        f(2.0)
    assert f(X) == 6.0
