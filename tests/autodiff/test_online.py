"""Loops without a most number of turns: how many turns a gradient takes, and that derivatives are those of a tape."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.revolve import beta, forward_steps, online_rooms, online_steps
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.ir.verify import verify
from adjit.ops import loops
from adjit_runtime.load import POLLING

X = np.array([0.1, 0.2, 0.3])
TAPE = 120
TURNS = (0, 1, 2, 4, 5, 6, 23, 24, 25, 32, 33, 49, 100)
"""Among them: all that 32 states have room for on the way, one more, one more than 32, and where strides double."""


def step(carry: Any, x: Any, i: Any) -> Any:
    return np.sin(carry) * 1.1 + carry * x * 0.01 + i * 1e-3


def by_while(x: Any, n: Any, checkpoint: Any = None, max_steps: int | None = None) -> Any:
    def turn(carry: Any) -> Any:
        i, h = carry
        return i + 1, step(h, x, i)

    return adjit.while_loop(lambda c: c[0] < n, turn, (0, x), max_steps=max_steps, checkpoint=checkpoint)[1].sum()


def by_for(x: Any, n: Any, checkpoint: Any = None, max_steps: int | None = None) -> Any:
    def turn(i: Any, h: Any) -> Any:
        return step(h, x, i)

    return adjit.fori_loop(0, n, turn, x, max_steps=max_steps, checkpoint=checkpoint).sum()


LOOPS = pytest.mark.parametrize("loop", [by_while, by_for])


def tape(loop: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, n: loop(x, n, None, TAPE)


# -- how many turns -------------------------------------------------------------------------------------------------


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many turns that give nothing but the next state were evaluated."""
    count = [0]

    def counting(body: Graph, *arrays: Any) -> Any:
        count[0] += body.name == "turn"
        return evaluate(body, *arrays)

    monkeypatch.setattr(loops, "evaluate", counting)
    return count


@pytest.mark.parametrize(("k", "numbers"), [(1, (0, 1, 2, 7)), (8, (3, 4, 5, 20)), (12, (8, 9, 33)), (32, (24, 40))])
def test_turns_forward(k: int, numbers: tuple[int, ...], turns: list[int]) -> None:
    """A loop that is told how many there are takes the fewest, and the last one of the loop itself; one that stops
    takes what the formula says."""
    for loop in (by_while, by_for):
        graph = adjit.grad(lambda x, n: loop(x, n, k)).ir("adjoint", X, 3)  # noqa: B023
        verify(graph)
        assert str(parse(str(graph))) == str(graph)
        wanted = adjit.grad(tape(loop))
        for n in numbers:
            turns[0] = 0
            (found,) = evaluate(graph, X, np.int64(n))
            # The evaluator's sin is NumPy's.
            np.testing.assert_allclose(found, wanted(X, n), rtol=1e-12)
            fewest = forward_steps(n, k) + 1 if n else 0
            assert turns[0] == (fewest if loop is by_for else online_steps(n, k))
            assert turns[0] >= fewest


def test_a_while_loop_takes_few_more_turns_than_one_that_knows_where_it_ends() -> None:
    for k in (8, 16, 32, 64):
        assert online_rooms(k) % 2
        for n in range(online_rooms(k) + 1):
            assert online_steps(n, k) == n
    for k in range(1, 65):
        for n in (*range(2, 200), 10**3, 10**4, 10**5, 10**6, 10**7):
            assert online_steps(n, k) < 2 * (forward_steps(n, k) + 1)
    assert [online_rooms(k) for k in range(1, 13)] == [1, 1, 1, 1, 1, 1, 1, 3, 3, 5, 5, 7]
    # r turns each, where k states and r repetitions have room for them (`beta`).
    assert online_steps(10**6, 32) / 10**6 == pytest.approx(5.6, abs=0.05)
    assert beta(32, 5) < 10**6 < beta(32, 6)


@LOOPS
def test_a_million_turns(loop: Callable[..., Any]) -> None:
    def contracted(x: Any, n: Any) -> Any:
        if loop is by_while:
            return adjit.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] - 1e-6 * c[1] ** 2), (0, x))[1]
        return adjit.fori_loop(0, n, lambda i, h: h - 1e-6 * h**2, x)

    made = adjit.grad(contracted)
    n, h, slope = 10**6, 1.0, 1.0
    for _ in range(n):
        slope *= 1 - 2e-6 * h
        h -= 1e-6 * h * h
    assert made(1.0, n) == pytest.approx(slope, rel=1e-10)
    # Nothing grows with the turns.
    assert int(str(made.ir("plan", 1.0, n)).split("arena ")[1].split(" ")[0]) < 10_000


# -- derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loop", "checkpoint"),
    [(by_while, None), (by_while, 2), (by_while, 8), (by_for, None), (by_for, 1), (by_for, "200B")],
)
def test_gradients_have_the_bits_of_a_tape(loop: Callable[..., Any], checkpoint: Any) -> None:
    wanted = adjit.grad(tape(loop))
    found = adjit.value_and_grad(lambda x, n: loop(x, n, checkpoint))
    bounded = adjit.grad(lambda x, n: loop(x, n, checkpoint or "sqrt", TAPE))
    for n in TURNS:
        value, slope = found(X, n)
        np.testing.assert_allclose(value, loop(X, n), rtol=1e-12)
        np.testing.assert_array_equal(slope, wanted(X, n))
        np.testing.assert_array_equal(bounded(X, n), wanted(X, n))


@LOOPS
def test_gradients_are_those_of_differences(loop: Callable[..., Any]) -> None:
    made, h = adjit.grad(loop), 1e-6
    for n in (0, 3, 40):
        wanted = [(loop(X + h * e, n) - loop(X - h * e, n)) / (2 * h) for e in np.eye(3)]
        np.testing.assert_allclose(made(X, n), wanted, rtol=1e-7, atol=1e-9)


def test_bounds_of_which_both_are_computed() -> None:
    def loop(x: Any, low: Any, high: Any, max_steps: int | None = None) -> Any:
        return adjit.fori_loop(low, high, lambda i, h: step(h, x, i), x, max_steps=max_steps).sum()

    wanted, found = adjit.grad(lambda x, low, high: loop(x, low, high, TAPE)), adjit.grad(loop)
    for low, high in ((5, 60), (-7, 3), (4, 4), (9, 2), (-60, -20)):
        np.testing.assert_array_equal(found(X, low, high), wanted(X, low, high))


@pytest.mark.parametrize(("loop", "checkpoint"), [(by_while, None), (by_while, 1), (by_for, 5)])
def test_derivatives_of_higher_order(loop: Callable[..., Any], checkpoint: Any) -> None:
    def again(x: Any, n: Any) -> Any:
        return loop(x, n, checkpoint)

    def of_gradient(f: Any) -> Any:
        return adjit.grad(lambda x, n: np.sum(adjit.grad(f)(x, n) ** 2))

    pairs = [(of_gradient(again), of_gradient(tape(loop)))]
    pairs += [(adjit.jit(lambda x, n, f=f: adjit.hvp(lambda x: f(x, n))(x, x)) for f in (again, tape(loop)))]
    for found, wanted in pairs:
        for n in (0, 1, 7, 40):
            np.testing.assert_allclose(found(X, n), wanted(X, n), rtol=1e-11)


@pytest.mark.parametrize(("loop", "checkpoint"), [(by_while, 8), (by_for, None)])
def test_rows_of_a_batch_and_turns_of_other_loops(loop: Callable[..., Any], checkpoint: Any) -> None:
    xs, numbers = np.linspace(0.1, 1, 15).reshape(5, 3), np.array([0, 1, 50, 7, 33])

    def again(x: Any, n: Any) -> Any:
        return loop(x, n, checkpoint)

    slope = adjit.grad(tape(loop))
    wanted = np.stack([slope(x, n) for x, n in zip(xs, numbers, strict=True)])
    np.testing.assert_allclose(adjit.vmap(adjit.grad(again))(xs, numbers), wanted, rtol=1e-12)
    np.testing.assert_allclose(
        adjit.grad(lambda xs, n: adjit.vmap(again)(xs, n).sum())(xs, numbers), wanted, rtol=1e-12
    )

    def in_scan(f: Any) -> Any:
        def turn(h: Any, given: Any) -> Any:
            x, n = given
            return h + f(x * h, n), h

        return adjit.grad(lambda xs, n: adjit.scan(turn, np.ones(3), (xs, n))[0].sum())

    def in_while(f: Any) -> Any:
        def turn(carry: Any) -> Any:
            i, h = carry
            return i + 1, 0.9 * h + 0.01 * f(h * X, i)

        return adjit.grad(lambda x, n: adjit.while_loop(lambda c: c[0] < n, turn, (0, x), checkpoint=9)[1].sum())

    for outer, args in ((in_scan, (xs, numbers)), (in_while, (X, 40))):
        np.testing.assert_allclose(outer(again)(*args), outer(tape(loop))(*args), rtol=1e-11)


def test_branches_and_values_that_are_discarded() -> None:
    """A NaN in what `where` discards is not seen in a gradient, through any number of turns."""

    def loop(x: Any, n: Any, max_steps: int | None = None) -> Any:
        def turn(carry: Any) -> Any:
            i, h = carry
            h = adjit.cond(i % 3 == 1, lambda h: h * h + 0.1, lambda h: h * x, h)
            return i + 1, np.where(h > 0, np.sqrt(h), 0.5 * h)

        return adjit.while_loop(lambda c: c[0] < n, turn, (0, x), max_steps=max_steps)[1].sum()

    x = np.array([0.0, -0.3, 0.8])
    for n in (1, 2, 40):
        found = adjit.grad(loop)(x, n)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found, adjit.grad(lambda x, n: loop(x, n, 50))(x, n))


def test_what_needs_nothing_of_its_turns_keeps_nothing() -> None:
    """A linear recursion whose factors are the same in all turns."""
    graph = adjit.grad(lambda x: adjit.while_loop(lambda c: c < 100, lambda c: 2 * c, x)).ir("adjoint", 1.0)
    assert not [node for node in graph.all_nodes() if node.op.name == "scatter"]


def test_pythons_own_loops() -> None:
    def root(a: Any) -> Any:
        x = a
        while abs(x * x - a) > 1e-12:
            x = 0.5 * (x + a / x)
        return x

    def search(a: Any, n: Any) -> Any:
        x = a
        for _ in range(n):
            if x > 50:
                break
            x = 1.1 * x + a
        return x

    assert adjit.grad(root, control_flow=True)(4.0) == pytest.approx(0.25)
    slope = adjit.grad(search, control_flow=True)
    assert slope(1.0, 3) == pytest.approx(4.641)
    assert slope(1.0, 100) == pytest.approx(search(1.0, 100))


# -- what users read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [None, 1, 5])
def test_errors_tell_the_turn(checkpoint: Any) -> None:
    def known(x: Any, s: Any) -> Any:
        return adjit.fori_loop(0, 100, lambda i, h: np.sin(h) + x[i * s], 0.0, checkpoint=checkpoint)

    def told(x: Any, s: Any) -> Any:
        return adjit.fori_loop(0, s + 96, lambda i, h: np.sin(h) + x[i * s], 0.0, checkpoint=checkpoint)

    def stops(x: Any, s: Any) -> Any:
        def turn(carry: Any) -> Any:
            i, h = carry
            return i + 1, np.sin(h) + x[i * s]

        return adjit.while_loop(lambda c: c[0] < 100, turn, (0, 0.0), checkpoint=checkpoint)[1]

    for loop in (known, told, stops):
        for made in (adjit.grad(loop), adjit.value_and_grad(loop)):
            with pytest.raises(IndexError, match=r"index 300 is out of bounds .*\(in turn 75 of the loop at test_onl"):
                made(np.ones(300), 4)


def test_explain_says_what_is_kept() -> None:
    def text(checkpoint: Any) -> str:
        return str(adjit.grad(lambda x, n: by_while(x, n, checkpoint)).explain(X, 3))

    line = by_while.__code__.co_firstlineno + 5
    assert f"Of the turns of @turn (test_online.py:{line}), as many as run, 32 states of 33 B are kept." in text(None)
    assert ", as many as run, 5 states of 33 B are kept." in text(5)
    assert "computed again" not in str(adjit.jit(by_while).explain(X, 3))


@pytest.mark.skipif(not POLLING, reason="this Python has no C functions that a program could call")
def test_signals_end_long_loops() -> None:
    """Wherever it is by then: forward, backward, or on the way to a state."""
    made = adjit.grad(lambda x, n: by_while(x, n, 3))
    made(X, 3)

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for seconds in (0.01, 0.2):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with pytest.raises(KeyboardInterrupt):
                made(X, 10**6)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
