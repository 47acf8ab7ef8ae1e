"""Programs whose loops Python unrolled: the loops are found, and no bit changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.reverse import gradient
from adjit.ir.builder import Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.parse import parse
from adjit.ir.text import print_graph
from adjit.ir.types import F64, Array
from adjit.ir.verify import verify
from adjit.roll import describe_rolls, roll
from adjit_runtime.errors import IndexOutOfRange
from tests.both import run_both
from tests.roll.programs import PROGRAMS, data
from tests.trace.check import graph_of

LEAST = 40
"""Nodes that a loop spares in these tests, whose programs are short."""


def size(graph: Graph) -> int:
    """Nodes of a graph and of all that lie in it."""
    return len(graph.nodes) + sum(size(inner) for inner in graph.nested())


def rolled(graph: Graph, *args: Any) -> Graph:
    """What becomes of a graph, which holds and gives the same bits."""
    new = roll(graph, LEAST)
    verify(new)
    assert [node.type for node in new.outputs] == [node.type for node in graph.outputs]
    for found, wanted in zip(evaluate(new, *args), evaluate(graph, *args), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes()
    return new


@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_are_found_and_no_bit_changes(name: str) -> None:
    program = PROGRAMS[name]
    sizes = []
    for turns in (48, 96):
        args = program.arrays(turns)
        graph = graph_of(program.make(turns), *args)
        new = rolled(graph, *args)
        assert len(describe_rolls(new)) == program.loops
        sizes.append(size(new))
    assert sizes[0] == sizes[1], "the graph grows with the number of turns"


@pytest.mark.parametrize("name", PROGRAMS)
def test_loops_run_in_machine_code(name: str) -> None:
    program = PROGRAMS[name]
    args = program.arrays(20)
    new = roll(graph_of(program.make(20), *args), LEAST // 2)
    assert describe_rolls(new)
    run_both(new, *args, terms=1.0)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"weak", "gather"}))
def test_gradients_are_those_of_the_turns_in_a_row(name: str) -> None:
    program = PROGRAMS[name]
    args = program.arrays(20)

    def total(*args: Any) -> Any:
        results = program.make(20)(*args)
        return sum(np.sum(x * x) for x in (results if isinstance(results, tuple) else [results]))

    graph = graph_of(total, *args)
    new = roll(graph, LEAST // 2)
    wrt = range(len(args))
    for found, wanted in zip(*(evaluate(gradient(each, wrt), *args) for each in (new, graph)), strict=True):
        # The sums of what turns add are taken in another order.
        tolerance = 1e-4 if wanted.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * max(1.0, np.abs(wanted).max()))


def test_it_is_a_stage_of_what_users_call() -> None:
    program = PROGRAMS["rk4"]
    (p,) = program.arrays(40)
    compiled = adjit.value_and_grad(program.make(40))
    value, gradients = compiled(p)
    assert len(describe_rolls(compiled.ir("rolled"))) == 1
    plain = graph_of(program.make(40), p)
    assert equal(compiled.ir("trace"), plain)
    wanted = evaluate(gradient(plain, [0]), p)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-12)  # products and sums may be one instruction
    np.testing.assert_allclose(gradients, wanted[1], rtol=1e-10)  # and sums go in another order


def test_what_a_loop_looks_like() -> None:
    program = PROGRAMS["autoregression"]
    new = rolled(graph_of(program.make(60), *program.arrays(60)), *program.arrays(60))
    (found,) = describe_rolls(new)
    assert (found.turns, found.carried, found.carried_bytes, found.depth) == (58, 2, 16, 0)
    assert str(found).startswith("programs.py:")
    assert "a loop of 58 turns" in str(found)
    (scan,) = [node for node in new.nodes if node.op.kind == "scan"]
    assert scan.loc is not None
    assert {node.loc.line for node in scan.attrs["body"].nodes if node.loc is not None} == {scan.loc.line}
    assert equal(parse(print_graph(new)), new)


def test_loops_in_loops_are_described_with_their_depth() -> None:
    args = PROGRAMS["nested"].arrays(48)
    new = rolled(graph_of(PROGRAMS["nested"].make(48), *args), *args)
    assert [loop.depth for loop in describe_rolls(new)] == [0, 1]


def grows(x: Any) -> Any:
    for i in range(60):
        x = np.concatenate([x, x[:1] * 0.5 + i])
    return x


def no_step(x: Any) -> Any:
    total = 0.0
    for i in range(60):
        total = total * 0.5 + x[i * i]
    return total


def other_operations(x: Any) -> Any:
    functions = (np.sin, np.cos, np.exp, np.tanh, np.arctan)
    for i in np.random.default_rng(1).integers(0, 5, 70):
        x = functions[i](x) * 0.5
    return x


def other_arrays(*weights: Any) -> Any:
    x = np.ones(3)
    for w in weights:
        x = np.tanh(x @ w)
    return x


def overlapping(x: Any) -> Any:
    total = np.zeros(40)
    for i in range(60):
        total = np.tanh(total + x[i : i + 40])
    return total


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (grows, [data(3)]),
        (no_step, [data(60 * 60)]),
        (other_operations, [data(3)]),
        (other_arrays, [data(3, 3)] * 60),
        (overlapping, [data(100)]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_loop_stays(function: Callable[..., Any], args: list[Any]) -> None:
    graph = graph_of(function, *args)
    assert roll(graph, LEAST) is graph


def test_small_graphs_stay() -> None:
    program = PROGRAMS["rk4"]
    small, large = (graph_of(program.make(turns), *program.arrays(turns)) for turns in (2, 8))
    assert roll(small) is small
    assert describe_rolls(roll(large))


def test_a_loop_may_begin_and_end_otherwise() -> None:
    def f(x: Any) -> Any:
        h = np.exp(x[0])
        for i in range(60):
            if i == 0:
                h = h + 1.0
            h = np.tanh(h * 0.5 + x[i])
            if i == 59:
                h = h * h
        return h

    new = rolled(graph_of(f, data(60)), data(60))
    assert len(describe_rolls(new)) == 1
    assert size(new) < 40


def test_few_values_of_many_do_not_keep_them_all() -> None:
    def f(x: Any) -> Any:
        found = []
        for i in range(400):
            x = np.tanh(x) * 0.5 + 0.1
            if i % 100 == 7:
                found.append(x)
        return np.stack(found), x

    x = data(20_000)
    new = rolled(graph_of(f, x), x)
    stacked = [item.nbytes for node in new.nodes if node.op.kind == "scan" for item in node.type.items]
    assert max(stacked) <= 4 * x.nbytes
    assert size(new) < 60


def test_what_differs_beyond_any_pattern_is_joined_as_it_is() -> None:
    def f(x: Any) -> Any:
        h, found = x[0], []
        for i in range(60):
            h = np.tanh(h) + x[i]
            found.append(h)
        picked = [found[i] for i in (3, 7, 8, 20, 21, 22, 23, 24, 50)]
        return np.stack([x[1], *picked, x[0]]), np.stack([*found[10:50:4], x[5], *found[50:10:-4]])

    rolled(graph_of(f, data(60)), data(60))


def test_the_error_of_a_turn_is_that_of_the_user_s_line() -> None:
    program = PROGRAMS["gather"]
    x, at = program.arrays(60)
    at[40] = 6
    graph = graph_of(program.make(60), x, at)
    new = roll(graph, LEAST)
    assert new is not graph
    messages = []
    for each in (graph, new):
        with pytest.raises(IndexOutOfRange) as error:
            evaluate(each, x, at)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_loops_in_the_bodies_of_loops() -> None:
    b = Builder()
    c, x = b.input("c", Array(F64)), b.input("x", Array(F64, (5,)))
    inner = graph_of(PROGRAMS["garch"].make(60), data(3))
    turn = Builder()
    carried = turn.input("c", Array(F64))
    part = turn.input("x", Array(F64))
    (value,) = turn.inline(inner, [turn.emit("broadcast", part, shape=(3,), axes=())])
    body = turn.graph("turn", [turn.emit("add", carried, value)])
    scan = b.emit("scan", c, x, body=body, length=5, carried=1, sliced=1, reverse=False)
    graph = b.graph("f", [b.emit("item", scan, index=0)])
    new = rolled(graph, np.float64(0.5), np.abs(data(5)))
    assert [loop.depth for loop in describe_rolls(new)] == [0, 1]


def test_state_that_is_updated() -> None:
    b = Builder()
    w, x = b.input("w", Array(F64, (3,))), b.input("x", Array(F64, (60, 3)))
    value = b.value(w)
    for i in range(60):
        row = b.emit("slice", x, start=(i, 0), stop=(i + 1, 3), step=(1, 1))
        value = value * 0.5 + b.reshape(b.value(row), shape=(3,))
    graph = b.graph("f", [], [(w, value.node)])
    new = roll(graph, LEAST)
    verify(new)
    assert new.updates[0][0] is w
    assert len(describe_rolls(new)) == 1
    args = data(3), data(60, 3)
    assert equal(adjit.parse(print_graph(new)), new)
    found, wanted = (adjit.ir.evaluate.evaluate_all(each, *args).updates["w"] for each in (new, graph))
    assert found.tobytes() == wanted.tobytes()
