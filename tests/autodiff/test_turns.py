"""Derivatives of loops that are told how many turns there are, and of loops that stop by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.types import BOOL, F64, I64, Array
from adjit.ops.loops import MOST_TURNS
from adjit.passes.pipeline import optimize
from tests.autodiff.loops import Loop, adjoint, differences, floats_of, points, scans
from tests.codegen.running import Ran

MOST = 5


def draw(*shape: int) -> Any:
    return np.random.default_rng(shape).uniform(0.2, 0.9, shape)


def recursion(h: Any, n: Any, x: Any, w: Any) -> Any:
    return np.tanh(h * w + x), n + 1, h * x * w


def stopping(go: Any, h: Any, n: Any, x: Any, more: Any, w: Any) -> Any:
    return (more, *recursion(h, n, x, w))


def agree(loop: Loop, plain: Loop) -> None:
    """Values and derivatives to second order are those of a loop over the turns that ran, compiled, too. Gradients of
    what is sliced, which are the ones of its shape, are 0 where no turn read it."""
    graph, row = loop.graph(), plain.graph()
    for _ in range(2):
        by = floats_of(graph)
        graph, row = adjoint(graph), adjoint(row)
        at = points(graph, loop.inputs)
        there = [cut(x, n.shape) for x, n in zip([*plain.inputs, *at[len(loop.inputs) :]], row.inputs, strict=True)]
        expected = evaluate(row, *there)
        for made in (evaluate(graph, *at), Ran(optimize(graph), at).outputs):
            # A flag, where the loop has one, is the first of its results.
            for found, wanted in zip(made[loop.stops :], expected, strict=True):
                # Sums are taken in another order.
                np.testing.assert_allclose(cut(found, wanted.shape), wanted, rtol=1e-11, atol=1e-12)
            by_x = made[len(made) - len(by) + 1]
            assert by_x.shape == (MOST, 2)
            assert not by_x[plain.length :].any()


def cut(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return x if x.shape == shape else x[: shape[0]]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("turns", [-1, 0, 1, 3, MOST, MOST + 2])
def test_as_many_turns_are_taken_back_as_a_loop_was_told(turns: int, reverse: bool) -> None:
    ran = min(max(turns, 0), MOST)
    x, carried, whole = draw(MOST, 2), [draw(2), np.array(0)], [draw(2)]
    agree(
        Loop("told", recursion, carried, [x], whole, MOST, reverse, turns=turns),
        Loop("plain", recursion, carried, [x[:ran]], whole, ran, reverse),
    )


@pytest.mark.parametrize("turns", [None, 2, MOST])
@pytest.mark.parametrize("ran", [0, 1, 3, MOST])
def test_as_many_turns_are_taken_back_as_a_loop_counted(ran: int, turns: int | None) -> None:
    x, carried, whole = draw(MOST, 2), [draw(2), np.array(0)], [draw(2)]
    more = np.arange(1, MOST + 1) < ran
    agree(
        Loop("stops", stopping, [np.array(ran > 0), *carried], [x, more], whole, MOST, stops=True, turns=turns),
        Loop("plain", recursion, carried, [x[: min(ran, turns or MOST)]], whole, min(ran, turns or MOST)),
    )


@pytest.mark.parametrize("stops", [False, True])
def test_loops_in_bodies_have_turns_of_their_own(stops: bool) -> None:
    """Each turn has a number of inner ones: it is told, or these go on while a sum is small."""
    inner = Loop("told", lambda c, w: (np.sin(c * w) + c,), [np.array(0.5)], [], [draw()], 4, turns=1)
    if stops:
        inner = Loop("stops", lambda go, c, w: (c < 0.9, np.sin(c * w) + c), [np.array(True), np.array(0.5)], [],
                     [draw()], 4, stops=True)  # fmt: skip
    b = Builder()
    c, n, w = b.input("c", Array(F64)), b.input("n", Array(I64)), b.input("w", Array(F64))
    start = [b.splat(True, Array(BOOL))] if stops else []
    *_, last = inner.enter(b, [*start, c, w] + ([] if stops else [n]))
    half = b.value(last) * 0.5
    body = b.graph("outer", [half.node, b.exp(half).node])
    outer = Loop("outer", body, [np.array(0.3)], [np.array([2, 0, 4, 9])], [np.array(0.7)])
    graph = outer.graph()
    for _ in range(2):
        before, graph = graph, adjoint(graph)
        at = points(graph, outer.inputs)
        made = evaluate(graph, *at)
        for found, machine in zip(made, Ran(optimize(graph), at).outputs, strict=True):
            np.testing.assert_allclose(found, machine, rtol=1e-12)
        given, weights = at[: len(before.inputs)], at[len(before.inputs) :]
        for i, found in zip(floats_of(before), made[len(before.outputs) :], strict=True):
            # Of steps of 1e-6, as in test_scan.
            np.testing.assert_allclose(found, differences(before, given, weights, i), rtol=1e-5, atol=1e-7)


def test_a_cotangent_stays_where_a_turn_would_have_reset_the_value() -> None:
    """With no turn, what is carried is what came in."""
    loop = Loop("reset", lambda h, x: (x * x,), [draw(2)], [draw(MOST, 2)], turns=0, length=MOST)
    made = adjoint(loop.graph())
    at = points(made, loop.inputs)
    _, by_h, by_x = evaluate(made, *at)
    np.testing.assert_array_equal(by_h, at[-1])
    np.testing.assert_array_equal(by_x, np.zeros((MOST, 2)))


def test_nothing_is_computed_ahead_of_turns_that_may_not_run() -> None:
    """So that no check fails that no turn would make."""

    def body(h: Any, w: Any, i: Any) -> Any:
        return (h * np.exp(w[i]),)

    loop = Loop("check", body, [draw()], [], [draw(3), np.int64(7)], MOST, turns=0)
    made = adjoint(loop.graph())
    at = points(made, loop.inputs)
    np.testing.assert_array_equal(evaluate(made, *at)[1], at[-1])
    assert not {"exp", "check_index"} & {node.op.name for node in made.nodes}


def test_a_loop_that_stops_by_itself_keeps_some_states() -> None:
    start = np.array([1.01, 1.2])
    made = [
        adjoint(Loop("stops", lambda go, h: (np.sum(h) < 1e9, h * h), [np.array(True), start], length=length,
                     stops=True).graph())
        for length in (MOST_TURNS, 50)
    ]  # fmt: skip
    (known,) = {node.attrs["length"] for node in scans(made[1])}
    assert known == 50
    assert {node.attrs["length"] for node in scans(made[0])} == {MOST_TURNS}
    for (_, *found), (_, *wanted) in [
        [evaluate(graph, np.array(True), start, np.ones(2)) for graph in made],
        [Ran(optimize(graph), [np.array(True), start, np.ones(2)]).outputs for graph in made],
    ]:
        assert np.sum(wanted[0]) > 1e9
        np.testing.assert_array_equal(found, wanted)


def test_one_that_keeps_nothing_needs_no_bound() -> None:
    """Its derivative counts the turns."""
    loop = Loop("stops", lambda go, h: (np.sum(h) < 9.0, 2.0 * h), [np.array(True), np.array([0.5, 1.0])],
                length=MOST_TURNS, stops=True)  # fmt: skip
    made = adjoint(loop.graph())
    assert [node.attrs["length"] for node in scans(made)] == [MOST_TURNS] * 2
    for _, last, by_h in (
        evaluate(made, *loop.inputs, np.ones(2)),
        Ran(optimize(made), [*loop.inputs, np.ones(2)]).outputs,
    ):
        np.testing.assert_array_equal(last, [8.0, 16.0])
        np.testing.assert_array_equal(by_h, [16.0, 16.0])
