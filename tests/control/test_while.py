"""while_loop: what it gives, its bound, what its condition may be, and its gradient."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ops.loops import MOST_TURNS
from tests.control.check import run, same, scan_of, trace_of

X = np.array([1.0, 2.0, 3.0])


def small(x: Any) -> Any:
    return x.sum() < 100


def test_turns() -> None:
    def f(x: Any) -> Any:
        return adjit.while_loop(small, lambda x: x * 2, x)

    np.testing.assert_array_equal(same(f, X), X * 32)
    np.testing.assert_array_equal(same(f, X * 1000), X * 1000)
    node = scan_of(f, X)
    assert (node.attrs["length"], node.attrs["stops"], node.attrs["carried"]) == (MOST_TURNS, True, 2)


@pytest.mark.parametrize("most", [0, 1, 4, 5, 6, 1000])
def test_the_turns_end_with_max_steps(most: int) -> None:
    def f(x: Any) -> Any:
        return adjit.while_loop(small, lambda x: x * 2, x, max_steps=most)

    np.testing.assert_array_equal(same(f, X), X * 2 ** min(most, 5))
    assert scan_of(f, X).attrs["length"] == most


def test_trees_and_numbers_of_python() -> None:
    def f(x: Any, n: Any) -> Any:
        def body(now: Any) -> Any:
            return {"i": now["i"] + 1, "found": (now["found"][0] * np.float32(0.5), now["i"] > 2)}

        return adjit.while_loop(lambda now: now["i"] < n, body, {"i": 0, "found": (1.0, False)})

    found = same(f, X, np.int64(5))
    assert found["i"] == 5
    assert found["found"] == (np.float32(2.0**-5), True)
    assert found["found"][0].dtype == np.float32


def test_arrays_without_dimensions_and_flags_that_are_carried() -> None:
    def f(x: Any) -> Any:
        def body(now: Any) -> Any:
            _, total = now
            total[...] = total + x[0]
            return total < 5, total

        return adjit.while_loop(lambda now: now[0], body, (True, np.zeros(())))

    go_on, total = same(f, X)
    assert (bool(go_on), float(total)) == (False, 5.0)


def test_writes_into_what_is_carried() -> None:
    def f(x: Any) -> Any:
        def body(now: Any) -> Any:
            i, y = now
            y[i] = y[i - 1] + x[0]
            return i + 1, y

        return adjit.while_loop(lambda now: now[0] < 10, body, (1, np.zeros(10)))[1]

    np.testing.assert_array_equal(same(f, X), np.arange(10.0))


def test_a_condition_that_is_known() -> None:
    same(lambda x: adjit.while_loop(lambda c: True, lambda c: c + x, x, max_steps=3), X)
    same(lambda x: adjit.while_loop(lambda c: np.bool_(False), lambda c: c + x, x), X)
    same(lambda x: adjit.while_loop(lambda c: np.array(c.shape == (3,)), lambda c: c + x, x, max_steps=2), X)


def test_collatz_in_a_scan_and_a_search_in_a_search() -> None:
    def steps(n: Any) -> Any:
        def body(now: Any) -> Any:
            n, count = now
            return np.where(n % 2 == 0, n // 2, 3 * n + 1), count + 1

        return adjit.while_loop(lambda now: now[0] != 1, body, (n, 0))[1]

    def f(numbers: Any) -> Any:
        return adjit.map(steps, numbers)

    assert same(f, np.array([1, 2, 3, 27])).tolist() == [0, 1, 7, 111]

    def g(n: Any) -> Any:
        """The first number that takes so many steps."""
        return adjit.while_loop(lambda k: steps(k) < n, lambda k: k + 1, np.int64(1))

    assert same(g, np.int64(100)) == 27


def test_closures_are_read_by_both_functions() -> None:
    def f(x: Any, w: Any, limit: Any) -> Any:
        return adjit.while_loop(lambda h: (h * w).sum() < limit, lambda h: h + w * x, np.zeros(3))

    same(f, X, X[::-1].copy(), 200.0)


def test_errors_of_a_turn_that_does_not_run_are_none() -> None:
    def f(x: Any, n: Any) -> Any:
        return adjit.while_loop(lambda now: now[0] < n, lambda now: (now[0] + 1, now[1] + x[now[0]]), (0, 0.0))[1]

    assert same(f, X, np.int64(3)) == 6.0
    with pytest.raises(adjit.IndexOutOfRange, match="index 3 is out of bounds for axis 0 with size 3"):
        run(f, X, np.int64(4))
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        f(X, np.int64(4))


def test_a_body_may_use_pythons_own_control_flow_in_plain_python() -> None:
    seen: list[float] = []

    def body(x: Any) -> Any:
        seen.append(float(x))
        return x / 2 if x % 2 == 0 else 3 * x + 1

    assert adjit.while_loop(lambda x: x > 1, body, 3.0) == 1.0
    assert seen == [3.0, 10.0, 5.0, 16.0, 8.0, 4.0, 2.0]


def test_gradients_where_the_turns_are_bounded() -> None:
    def f(x: Any) -> Any:
        return adjit.while_loop(small, lambda c: c * x, x, max_steps=20).sum()

    found = adjit.grad(f)(X)
    # Four turns run: the sum of x**5.
    np.testing.assert_allclose(found, 5 * X**4, rtol=1e-12)
    np.testing.assert_allclose(adjit.grad(lambda x: adjit.grad(f)(x).sum())(X), 20 * X**3, rtol=1e-12)
    unbounded = adjit.grad(lambda x: adjit.while_loop(small, lambda c: c * x, x).sum())
    np.testing.assert_array_equal(unbounded(X), found)


def test_newtons_method_has_the_gradient_of_the_root() -> None:
    def root(a: Any) -> Any:
        def better(now: Any) -> Any:
            x, _ = now
            new = 0.5 * (x + a / x)
            return new, np.abs(new - x)

        return adjit.while_loop(lambda now: now[1] > 1e-12, better, (a, 1.0), max_steps=100)[0]

    same(root, 7.0)
    # The last turns of Newton's method converge with their derivative.
    np.testing.assert_allclose(adjit.grad(root)(7.0), 0.5 / np.sqrt(7.0), rtol=1e-9)


def number(x: Any) -> Any:
    return x.sum()


def several(x: Any) -> Any:
    return x > 0


def nothing(x: Any) -> None:
    return None


def text(x: Any) -> Any:
    return "yes"


CONDITIONS: dict[str, tuple[type, Callable[[Any], Any], str]] = {
    "a number": (
        adjit.DTypeError, number, "while_loop: cond gives one bool, not f64[]: write x != 0 for the truth of a number",
    ),
    "several": (
        adjit.ShapeError, several,
        "while_loop: cond gives one bool, not bool[3]: write x.all(), x.any() or one element",
    ),
    "nothing": (
        adjit.ArgumentError, nothing, "while_loop: cond gives one bool, not None (a return is missing?)",
    ),
    "a text": (adjit.ArgumentError, text, "while_loop: cond gives one bool, not 'yes'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("traced", [False, True])
def test_what_a_condition_may_not_give(name: str, traced: bool) -> None:
    kind, condition, message = CONDITIONS[name]

    def f(x: Any) -> Any:
        return adjit.while_loop(condition, lambda x: x * 2, x)

    with pytest.raises(kind) as caught:
        trace_of(f, X) if traced else f(X)
    line = condition.__code__.co_firstlineno + 1
    assert str(caught.value).startswith(f"test_while.py:{line}: {message}\n    return ")


@pytest.mark.parametrize("traced", [False, True])
def test_other_errors(traced: bool) -> None:
    def failing(kind: type, message: str, *args: Any, **kwargs: Any) -> None:
        def f(x: Any) -> Any:
            return adjit.while_loop(*args, init=x, **kwargs)

        with pytest.raises(kind, match=re.escape(message)):
            trace_of(f, X) if traced else f(X)

    failing(
        adjit.ShapeError, "while_loop: carry is f64[3] before a turn of the loop and f64[1]", small, lambda x: x[:1]
    )
    failing(adjit.ArgumentError, "while_loop: max_steps is an integer >= 0, not -1", small, np.sin, max_steps=-1)
    failing(adjit.ArgumentError, "while_loop: cond is a function, not True", True, np.sin)
    failing(adjit.ArgumentError, "it is 'max_steps' here", small, np.sin, maximum_iterations=3)


def test_a_condition_does_not_write() -> None:
    def f(x: Any) -> Any:
        def condition(now: Any) -> Any:
            now[0] = 1
            return now.sum() < 3

        return adjit.while_loop(condition, np.sin, x)

    with pytest.raises(adjit.TraceError, match="what cond is given would be changed in place"):
        trace_of(f, X)
    with pytest.raises(ValueError, match="read-only"):
        f(X)


def test_forward_mode_needs_no_bound() -> None:
    def f(x: Any) -> Any:
        return adjit.while_loop(small, lambda c: c * x, x)

    np.testing.assert_allclose(adjit.jacfwd(f)(X), np.diag(5 * X**4), rtol=1e-12)
    value, tangent = adjit.jvp(f, (X,), (np.ones(3),))
    np.testing.assert_allclose(value, X**5, rtol=1e-12)
    np.testing.assert_allclose(tangent, 5 * X**4, rtol=1e-12)


def test_each_row_of_a_batch_runs_to_its_own_end() -> None:
    def f(x: Any) -> Any:
        return adjit.while_loop(lambda c: c[0] < 50, lambda c: (c[0] * 2 + x, c[1] + 1), (x, 0))

    def slope(x: Any) -> Any:
        return adjit.while_loop(lambda c: c < 50, lambda c: c * 2 + x, x, max_steps=10)

    x = np.array([1.0, 30.0, 7.0, 60.0])
    last, turns = adjit.jit(adjit.vmap(f))(x)
    expected = [f(each) for each in x]
    np.testing.assert_array_equal(last, [each for each, _ in expected])
    np.testing.assert_array_equal(turns, [each for _, each in expected])
    np.testing.assert_allclose(adjit.vmap(adjit.grad(slope))(x), [adjit.grad(slope)(each) for each in x], rtol=1e-12)
