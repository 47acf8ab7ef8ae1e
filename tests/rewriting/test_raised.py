"""`assert` and `raise` under traced conditions: errors of the program, with its class and text."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit_runtime import errors

X = np.array([1.0, 2.0, 3.0])


def line_of(function: Callable[..., Any], word: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if word in line)


def asserts(x):
    assert x.sum() > 0, "a sum"
    return x


def asserts_nothing_else(x):
    assert x[0] > 0
    return 1.0


def raises(x):
    if x.min() < -10:
        raise ArithmeticError("a minimum")
    if x.min() < 0:
        raise ValueError("a %s", "sign")
    if x.max() > 100:
        raise OverflowError
    return np.sqrt(x)


def otherwise(x):
    if x[0] > 0:
        y = x * x
        if x[1] < 0:
            raise TypeError("inside")
    else:
        raise KeyError("outside")
    return y.sum()


def gives(x):
    return x.sum() if x[0] > 0 else fails()


def fails():
    raise RuntimeError("in a function")


def binds_nothing(x):
    if x[0] > 0:
        assert x[1] > 0, "in a branch"
    return x.sum()


def in_for(x, n):
    total = 0.0
    for i in range(n):
        if x[i] < 0:
            raise ValueError("in a loop")
        total += x[i]
    return total


def in_for_alone(x, n):
    for i in range(n):
        assert x[i] > 0, "in a loop of its own"
    return x


def in_while(x):
    total = x[0]
    while total < 50:
        assert x[1] > 0, "in a while"
        total = total + x[1]
    return total


def ahead_of_endless(x):
    if x[1] <= 0:
        raise ValueError("no end")
    total = x[0]
    while total < 50:
        total = total + x[1]
    return total


def in_scan(x):
    def turn(total, y):
        assert y > 0, "in a scan"
        return total + y, None

    return adjit.scan(turn, 0.0, x)[0]


def in_cond(x):
    def side(x):
        assert x[1] > 0, "in a side"
        return 2 * x

    return adjit.cond(x[0] > 0, side, lambda x: x, x)


def of_integers(x, n):
    assert n > 0, "a number"
    return n, n > 3


UP, DOWN = np.array([1.0, 2.0, 3.0]), np.array([1.0, -2.0, 3.0])
CASES: list[tuple[Callable[..., Any], tuple[Any, ...], tuple[Any, ...], type[Exception], str, str]] = [
    (asserts, (UP,), (-UP,), AssertionError, "a sum", "assert x"),
    (asserts_nothing_else, (UP,), (-UP,), AssertionError, "what is asserted does not hold", "assert x"),
    (raises, (UP,), (-100 * UP,), ArithmeticError, "a minimum", "raise A"),
    (raises, (UP,), (-UP,), ValueError, "('a %s', 'sign')", "raise V"),
    (raises, (UP,), (100 * UP,), OverflowError, "OverflowError is raised", "raise O"),
    (otherwise, (UP,), (DOWN,), TypeError, "inside", "raise T"),
    (otherwise, (UP,), (-UP,), KeyError, "outside", "raise K"),
    (binds_nothing, (-DOWN,), (DOWN,), AssertionError, "in a branch", "assert x"),
    (in_for, (DOWN, 1), (DOWN, 3), ValueError, "in a loop", "raise V"),
    (in_for_alone, (DOWN, 1), (DOWN, 3), AssertionError, "in a loop of its own", "assert x"),
    (in_while, (DOWN + 50,), (DOWN,), AssertionError, "in a while", "assert x"),
    (ahead_of_endless, (UP,), (DOWN,), ValueError, "no end", "raise V"),
    (in_scan, (UP,), (DOWN,), AssertionError, "in a scan", "assert y"),
    (in_cond, (-DOWN,), (DOWN,), AssertionError, "in a side", "assert x"),
    (of_integers, (UP, 3), (UP, 0), AssertionError, "a number", "assert n"),
]


@pytest.mark.parametrize(("function", "good", "bad", "kind", "text", "word"), CASES, ids=[c[0].__name__ for c in CASES])
def test_the_error_of_the_function_comes_when_the_program_runs(
    function: Any, good: Any, bad: Any, kind: Any, text: str, word: str
) -> None:
    compiled = adjit.jit(function, control_flow=True)
    for found, wanted in zip(np.atleast_1d(compiled(*good)), np.atleast_1d(function(*good)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    with pytest.raises(kind) as plain:
        function(*bad)
    with pytest.raises(adjit.AdjitError) as caught:
        compiled(*bad)
    assert isinstance(caught.value, kind)
    assert type(caught.value).__name__ == type(plain.value).__name__
    shown = caught.value.args[0]
    assert shown.startswith(f"test_raised.py:{line_of(function, word)}: ")
    assert text in shown
    # It is none of a program's state: the next call is as the first one.
    compiled(*good)


def test_an_error_of_a_function_that_is_called() -> None:
    compiled = adjit.jit(gives, control_flow=True)
    assert compiled(X) == 6
    with pytest.raises(RuntimeError, match=f"test_raised.py:{line_of(fails, 'raise')}: in a function"):
        compiled(-X)


def test_derivatives_raise_and_are_those_without_checks() -> None:
    for function, good, bad, wanted in (
        (lambda x: raises(x).sum(), X, -X, 0.5 / np.sqrt(X)),
        (otherwise, X, DOWN, 2 * X),
        (lambda x: asserts(x).sum(), X, -X, np.ones(3)),
    ):
        compiled = adjit.jit(function, control_flow=True)
        for made, expected in (
            (adjit.grad(compiled), wanted),
            (adjit.jit(lambda x: adjit.jvp(compiled, (x,), (x,))[1]), wanted @ good),  # noqa: B023
        ):
            np.testing.assert_allclose(made(good), expected, rtol=1e-12)
            with pytest.raises((ValueError, TypeError, AssertionError)):
                made(bad)
    slope = adjit.grad(in_for, control_flow=True)
    np.testing.assert_array_equal(slope(UP, 2), [1, 1, 0])
    with pytest.raises(ValueError, match=r"in a loop \(in turn 1 of the loop at test_raised.py"):
        slope(DOWN, 3)


def test_rows_of_a_batch() -> None:
    rows = adjit.vmap(adjit.jit(otherwise, control_flow=True))
    np.testing.assert_allclose(rows(np.stack([X, 2 * X])), [14, 56])
    with pytest.raises(KeyError, match="outside"):
        rows(np.stack([X, -X]))


def test_a_training_step_leaves_its_state() -> None:
    def loss(params: Any, x: Any) -> Any:
        assert x.min() > 0, "a batch"
        return ((params["w"] * x) ** 2).sum()

    optimizer = optim.sgd(0.01)
    step = adjit.training_step(loss, optimizer, control_flow=True)
    state = step.init({"w": np.ones(3)})
    step(state, X)
    before = np.array(state.params["w"])
    with pytest.raises(AssertionError, match="a batch"):
        step(state, -X)
    np.testing.assert_array_equal(state.params["w"], before)


def test_many_checks_in_a_row_are_traced_once_each() -> None:
    """What stands behind `if ...: raise` is not traced once for the branch and once without it."""
    count = [0]

    def seen() -> None:
        count[0] += 1

    def function(x: Any) -> Any:
        if x[0] == 1:
            raise ValueError("1")
        if x[0] == 2:
            raise ValueError("2")
        if x[0] == 3:
            raise ValueError("3")
        if x[0] == 4:
            raise ValueError("4")
        seen()
        return x

    compiled = adjit.jit(function, control_flow=True)
    compiled(X / 2)
    assert count == [1]
    with pytest.raises(ValueError, match="3"):
        compiled(X + 2)


def test_the_classes_of_errors() -> None:
    for name in ("ValueError", "AssertionError", "ZeroDivisionError", "OSError"):
        kind = getattr(errors, name)
        assert kind is getattr(errors, name)
        assert issubclass(kind, adjit.AdjitError)
        again = pickle.loads(pickle.dumps(kind("text")))
        assert type(again) is kind
    for name in ("KeyboardInterrupt", "int", "nothing"):
        assert not hasattr(errors, name)
