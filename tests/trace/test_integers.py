"""Integers from Python are as Python has them or an error that names the line; so are negative integer exponents."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim

LEAST, MOST = -(2**63), 2**63 - 1
VALUES = [0, 1, -1, 2, -2, 7, 62, 63, 64, 2**31, 2**32, -(2**32), 2**62, MOST, MOST - 1, LEAST, LEAST + 1, 3037000500]
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
    "<<": operator.lshift, ">>": operator.rshift, "power": lambda x, y: np.power(x, y),
}  # fmt: skip


def python(name: str, x: int, y: int) -> Any:
    """What Python gives, or the class of the error that is right."""
    try:
        if name == "power":
            if y < 0:
                return ValueError
            # Not computed where it is astronomically large.
            result = x**y if abs(x) <= 1 or y <= 64 else 2**70
        elif name == "<<":
            result = x << min(y, 200)
        else:
            result = BINARY[name](x, y)
    except (ZeroDivisionError, ValueError) as error:
        return type(error)
    return result if LEAST <= result <= MOST else OverflowError


def checked(function: Any, *args: int) -> Any:
    try:
        return int(function(*args))
    except adjit.AdjitError as error:
        return type(error).__mro__[2] if "test_integers.py:" in str(error) else error


@pytest.mark.parametrize("name", BINARY)
def test_integers_from_python_are_unbounded(name: str) -> None:
    function = adjit.jit(lambda x, y: BINARY[name](x, y))
    for x in VALUES:
        for y in VALUES:
            assert checked(function, x, y) == python(name, x, y), (x, y)


@pytest.mark.parametrize("name", ["neg", "abs"])
def test_the_smallest_has_no_opposite(name: str) -> None:
    f = getattr(operator, name)
    function = adjit.jit(lambda x: f(x))
    for x in VALUES:
        assert checked(function, x) == (f(x) if x != LEAST else OverflowError)


def test_shortcuts_of_powers() -> None:
    square, cube = adjit.jit(lambda n: n**2), adjit.jit(lambda n: n**3)
    assert checked(square, 3037000499) == 3037000499**2
    assert checked(square, 3037000500) is OverflowError
    assert checked(cube, 2097151) == 2097151**3
    assert checked(cube, -2097152) == LEAST
    assert checked(cube, 2097152) is OverflowError


@pytest.mark.parametrize("size", [2, 1000])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_negative_exponent_is_refused(dtype: str, size: int) -> None:
    f = adjit.jit(lambda a, b: a**b)
    a, b = np.full(size, 3, dtype), np.arange(size, dtype=dtype) % 5
    np.testing.assert_array_equal(f(a, b), a**b)
    b[-1] = -1
    with pytest.raises(adjit.DomainError, match=r"test_integers\.py:\d+: integers to negative") as caught:
        f(a, b)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(adjit.DomainError):
        adjit.jit(lambda a: a ** np.array([1, -1], dtype))(a[:2])
    with pytest.raises(adjit.DomainError):
        adjit.jit(lambda a, n: np.power(a, n))(a, -3)


def test_arrays_wrap_as_in_numpy() -> None:
    a = np.array([2**62, 0, MOST])
    for f in (lambda x: x * x, lambda x: x + x, lambda x: 7 // x, lambda x: x << 3, lambda x: -x):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(adjit.jit(f)(a), f(a))


def checks_of(function: Any, *args: Any) -> int:
    graph: Any = adjit.jit(function).ir("trace", *args)
    return sum(node.op.name == "check_holds" for node in graph.nodes)


def test_what_cannot_go_wrong_is_not_checked() -> None:
    x = np.ones(3)
    assert checks_of(lambda x, n: x * n + n / 2 + (n % 7) * 3 - (n % 7) // 2, x, 3) == 0
    assert checks_of(lambda x, n: x[n], x, 1) == 0
    assert checks_of(lambda a: a ** np.array([1, 2, 0]), np.arange(3)) == 0
    assert checks_of(lambda a, b: a**b, np.arange(3), np.arange(3, dtype=np.uint8)) == 0
    assert checks_of(lambda n: n + 1, 3) == 1


def test_the_step_count_is_not_checked() -> None:
    schedule = optim.Schedule("s", {"value": 0.1}, lambda n, t: n["value"] / (1 + (t + 1) * 2 // 10 + (t - 5) % 3))
    step = adjit.training_step(lambda p, x: np.sum((p * x) ** 2), optim.adam(schedule))
    state = step.init(np.ones(2))
    step(state, np.ones(2))
    assert "check_holds" not in str(step.ir("optimized"))


def test_a_state_is_not_written_where_a_check_fails() -> None:
    step = adjit.training_step(lambda p, x, n: np.sum(p * x) * (100 // n), optim.sgd(0.1))
    state = step.init(np.ones(2))
    step(state, np.ones(2), 50)
    before = np.array(state.params)
    with pytest.raises(ZeroDivisionError):
        step(state, np.ones(2), 0)
    np.testing.assert_array_equal(state.params, before)
    step(state, np.ones(2), 50)
    assert not np.array_equal(state.params, before)
