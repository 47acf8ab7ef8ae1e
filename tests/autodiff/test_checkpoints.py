"""Loops that keep some of their states: how many steps that takes, and that derivatives are what they are without."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.autodiff.batch import batch
from adjit.autodiff.revolve import forward_steps, schedule, stretches
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph, copy_node
from adjit.ir.node import Node
from adjit.ir.text import parse
from adjit.ir.types import F64, Array
from adjit.ir.verify import verify
from adjit.ops import loops
from adjit.passes.pipeline import optimize
from adjit_runtime.errors import ShapeError
from tests.autodiff.loops import Loop, adjoint, points, scans
from tests.autodiff.test_scan import CASES, draw
from tests.both import run_both

# -- what is kept when --------------------------------------------------------------------------------------------


@functools.cache
def fewest(n: int, k: int) -> int:
    """The fewest steps forward, by trying all places for the next state."""
    if n <= 1 or k == 1:
        return n * (n - 1) // 2
    return min(split + fewest(n - split, k - 1) + fewest(split, k) for split in range(1, n))


@pytest.mark.parametrize("k", range(1, 12))
def test_steps_forward_are_the_fewest(k: int) -> None:
    for n in range(1, 48):
        assert forward_steps(n, k) == fewest(n, k)
        assert steps_taken(n, k) == fewest(n, k)


def steps_taken(n: int, k: int) -> int:
    """The steps of the loop forward, but for its last turn, and of the loop backward, which finds each state."""
    plan = stretches(n, k)
    rows: list[int | None] = [None] * (k + 1)
    for turn in range(n):
        kept = np.flatnonzero(plan.kept == turn)
        rows[int(kept[0]) if kept.size else min(k, n - 1)] = turn
    steps = n - 1
    for turn in reversed(range(n)):
        at = rows[plan.row[turn]]
        for stretch in range(*plan.stretches[turn]):
            begin, end = plan.steps[stretch]
            assert begin == at
            assert begin < end
            steps += int(end - begin)
            at = rows[plan.into[stretch]] = int(end)
        assert at == turn
    return steps


def test_published_numbers() -> None:
    """Griewank and Walther 2000: 10 steps with 3 states; what k states and r repetitions allow is (k + r)! / k! r!."""
    assert forward_steps(10, 3) == 15
    assert [forward_steps(n, 1) for n in (1, 2, 3, 4)] == [0, 1, 3, 6]
    assert forward_steps(1000, 1000) == forward_steps(1000, 999) == 999
    assert forward_steps(10**6, 10) == 10**6 * 13 - sum_of_places(11, 12)


def sum_of_places(k: int, r: int) -> int:
    value = 1
    for i in range(1, k + 1):
        value = value * (r + i) // i
    return value


@pytest.mark.parametrize(("n", "k"), [(1000, 31), (1001, 32), (5000, 3), (5000, 2), (3000, 2990), (2000, 700)])
def test_long_loops_take_the_fewest_steps(n: int, k: int) -> None:
    assert steps_taken(n, k) == forward_steps(n, k)


def test_a_million_turns() -> None:
    for k in (2, 30, 1000, 10**5, 10**6 - 2):
        plan = stretches(10**6, k)
        assert 10**6 - 1 + np.sum(plan.steps[:, 1] - plan.steps[:, 0]) == forward_steps(10**6, k)
        assert len(plan.kept) <= k
        assert np.max(plan.into, initial=0) <= k


def test_no_turn_and_one() -> None:
    assert [len(array) for array in schedule(0, 3)] == [0, 0, 0]
    assert [array.tolist() for array in schedule(1, 3)] == [[0], [0], [0]]
    assert forward_steps(0, 3) == forward_steps(1, 3) == 0


# -- derivatives ------------------------------------------------------------------------------------------------------


def with_checkpoints(graph: Graph, k: int) -> Graph:
    """The graph whose loops, those in bodies, too, keep so many states."""
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        new[node] = copy_node(node, [new[arg] for arg in node.args])
        if node.op.name == "scan":
            attrs = {**node.attrs, "checkpoints": k, "body": with_checkpoints(node.attrs["body"], k)}
            new[node] = Node(node.op, new[node].args, attrs, node.type, node.loc)
    outputs = tuple(new[node] for node in graph.outputs)
    return Graph(graph.name, graph.inputs, tuple(new[node] for node in graph.nodes), outputs)


def longer(case: Loop, length: int) -> Loop:
    parts = [np.resize(part, (length, *np.shape(part)[1:])) for part in case.parts]
    return dataclasses.replace(case, parts=parts, length=length)


def without_stacks(case: Loop) -> Loop:
    """The loop that gives what it carries alone."""
    (loop,) = scans(case.graph())
    graph = loop.attrs["body"]
    outputs = graph.outputs[: len(case.carried)]
    return dataclasses.replace(case, name=f"{case.name}, carried", body=dataclasses.replace(graph, outputs=outputs))


FITTING = [case for case in CASES if case.length > 1 and case.name != "gather by a counter"]
ALL = [*FITTING, *(without_stacks(case) for case in FITTING if case.carried)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_gradients_have_the_same_bits(case: Loop, reverse: bool) -> None:
    loop = dataclasses.replace(longer(case, 7), reverse=reverse)
    graph = loop.graph()
    expected = adjoint(graph)
    at = points(expected, loop.inputs)
    wanted = evaluate(expected, *at)
    for k in (1, 2, 3, 6, 9):
        made = adjoint(with_checkpoints(graph, k))
        assert str(parse(str(made))) == str(made)
        for found, value in zip(evaluate(made, *at), wanted, strict=True):
            np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_compiled_and_evaluated(case: Loop) -> None:
    loop = dataclasses.replace(longer(case, 6), reverse=case.name < "m")
    made = adjoint(with_checkpoints(loop.graph(), 2))
    run_both(made, *points(made, loop.inputs))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_second_derivatives(case: Loop) -> None:
    loop = longer(case, 5)
    expected = adjoint(adjoint(loop.graph()))
    at = points(expected, loop.inputs)
    wanted = evaluate(expected, *at)
    for k in (1, 2, 5):
        made = adjoint(adjoint(with_checkpoints(loop.graph(), k)))
        # Sums are taken in another order.
        for found, value in zip(evaluate(made, *at), wanted, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["rnn, carried", "rnn", "nested", "masked rnn", "integers beside"])
def test_second_derivatives_compiled(name: str) -> None:
    loop = longer(next(case for case in ALL if case.name == name), 5)
    made = adjoint(adjoint(with_checkpoints(loop.graph(), 2)))
    run_both(made, *points(made, loop.inputs))


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (9, 1), (30, 4), (40, 7), (12, 11), (12, 12)])
def test_so_many_turns_run(n: int, k: int, stacked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop forward, and the steps between states; a turn is known by the name of its body."""

    def body(h: Any, x: Any) -> Any:
        return (np.sin(h * x), h) if stacked else (np.sin(h * x),)

    loop = Loop("steps", body, [draw(3)], [draw(n, 3)], length=n)
    graph = loop.graph()
    (node,) = scans(graph)
    counts: dict[str, int] = {}

    def counted(graph: Graph, *inputs: Any) -> Any:
        counts[graph.name] = counts.get(graph.name, 0) + 1
        return evaluate(graph, *inputs)

    made = adjoint(with_checkpoints(graph, k))
    monkeypatch.setattr(loops, "evaluate", counted)
    evaluate(made, *points(made, loop.inputs))
    assert counts[node.attrs["body"].name] == forward_steps(n, k) + 1
    assert counts[f"{node.attrs['body'].name}_vjp"] == n


def test_the_size_of_the_code_does_not_depend_on_the_turns() -> None:
    def nodes(n: int) -> int:
        loop = Loop("rnn", lambda h, x, w: (np.tanh(x + h @ w),), [draw(2)], [draw(n, 2)], [draw(2, 2)], length=n)
        return len(list(adjoint(with_checkpoints(loop.graph(), 5)).all_nodes()))

    assert nodes(20) == nodes(5000)


@pytest.mark.parametrize("stacked", [False, True])
def test_no_array_of_all_states_is_made(stacked: bool) -> None:
    """But for what the user stacks."""

    def body(h: Any, x: Any, w: Any) -> Any:
        h = np.tanh(x + h @ w)
        return (h, np.sum(h)) if stacked else (h,)

    loop = Loop("rnn", body, [draw(50)], [np.zeros((60, 1))], [draw(50, 50)], length=60)
    made = optimize(adjoint(with_checkpoints(loop.graph(), 4)))
    large = [node.type for node in made.all_nodes() if isinstance(node.type, Array) and node.type.size >= 60 * 50]
    assert large == []
    rows = [item for node in scans(made) for item in node.type.items if item.shape[:1] == (5,)]  # type: ignore[union-attr]
    assert rows == [Array(F64, (5, 50))] * len(rows)
    assert rows


def test_what_the_derivative_does_not_need_is_not_kept() -> None:
    """The sum is linear: a derivative reads h alone."""
    loop = Loop("sums", lambda h, s, i, x: (np.sin(h * x), s + h, i + 1), [draw(3), draw(3), np.array(0)],
                [draw(9, 3)], length=9)  # fmt: skip
    made = adjoint(with_checkpoints(loop.graph(), 2))
    first, second = scans(made)
    assert [str(item) for item in first.type.items] == ["f64[3]", "f64[3]", "i64[]", "f64[3,3]"]  # type: ignore[union-attr]
    assert [node.attrs["name"] for node in second.attrs["body"].inputs if "kept" in node.attrs["name"]] == ["kept_x0"]


def test_a_loop_of_which_nothing_is_needed_keeps_nothing() -> None:
    loop = Loop("linear", lambda h, x: (0.5 * h + x,), [draw(3)], [draw(9, 3)], length=9)
    first, second = scans(adjoint(with_checkpoints(loop.graph(), 2)))
    assert len(first.type.items) == 1  # type: ignore[union-attr]
    assert not list(second.attrs["body"].nested())


def test_integers_that_are_carried_are_a_part_of_the_state() -> None:
    def body(h: Any, n: Any, w: Any) -> Any:
        return np.sin(h * w[n]), (n + 2) % 5

    loop = Loop("counter", body, [np.array(0.3), np.array(1)], [], [draw(5)], length=11)
    expected = adjoint(loop.graph())
    at = points(expected, loop.inputs)
    made = adjoint(with_checkpoints(loop.graph(), 3))
    for found, value in zip(evaluate(made, *at), evaluate(expected, *at), strict=True):
        np.testing.assert_array_equal(found, value)
    run_both(made, *at)


def test_guards_go_through_what_is_computed_again() -> None:
    """A turn discards what the turn before made by a root of 0: no NaN."""
    alive = np.array([[True, True], [False, True], [True, True], [True, False], [True, True]])
    loop = Loop("turns", lambda c, m: (np.where(m, np.sqrt(c), 1.0),), [np.array([0.0, 0.5])], [alive], length=5)
    expected = adjoint(loop.graph())
    at = points(expected, loop.inputs)
    for k in (1, 2, 5):
        made = adjoint(with_checkpoints(loop.graph(), k))
        for found, value in zip(evaluate(made, *at), evaluate(expected, *at), strict=True):
            np.testing.assert_array_equal(found, value)
        assert not np.isnan(evaluate(made, *at)[-1]).any()


def test_batches_of_loops_with_checkpoints() -> None:
    loop = Loop("rnn", lambda h, x, w: (np.tanh(x + h @ w), np.sum(h)), [draw(2)], [draw(6, 2)], [draw(2, 2)], length=6)
    marked = with_checkpoints(loop.graph(), 2)
    axes = (0, None, None)
    inputs = [draw(3, 2), *loop.inputs[1:]]
    first, second = (adjoint(batch(graph, axes, 3).graph) for graph in (marked, loop.graph()))
    at = points(first, inputs)
    for found, value in zip(evaluate(first, *at), evaluate(second, *at), strict=True):
        np.testing.assert_array_equal(found, value)
    run_both(first, *at)
    gradient = adjoint(marked)
    outer = [0, *[None] * (len(gradient.inputs) - 1)]
    batched = batch(gradient, outer, 3)
    assert all(batched.outputs)
    rest = points(gradient, loop.inputs)[1:]
    for i, row in enumerate(zip(*evaluate(batched.graph, inputs[0], *rest), strict=True)):
        for found, value in zip(row, evaluate(gradient, inputs[0][i], *rest), strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-13)  # products of a batch sum in another order


@pytest.mark.parametrize("attrs", [{"stops": True}, {"counted": True}], ids=str)
def test_some_states_of_turns_without_number_have_no_parts(attrs: dict[str, bool]) -> None:
    b = Builder()
    flag, n = b.input("go", Array(np.dtype(bool))), b.input("n", Array(np.dtype(np.int64)))
    operands = (flag, n) if "counted" in attrs else (flag,)
    for outputs in ((flag,), (flag, flag)):
        body = Graph("turn", (flag,), (), outputs)
        b.emit("scan", *operands, length=9, carried=1, sliced=0, checkpoints=8, body=body, **attrs)
        if len(outputs) == 1:
            b.emit("scan", *operands, length=9, carried=1, sliced=0, checkpoints=7, body=body, **attrs)
            continue
        with pytest.raises(ShapeError, match="with fewer checkpoints than turns, has neither parts nor"):
            b.emit("scan", *operands, length=9, carried=1, sliced=0, checkpoints=7, body=body, **attrs)


# -- ranges of turns --------------------------------------------------------------------------------------------------


RANGED = """
graph @ranged(%c: f64[], %x: f64[6], %y: f64[6,WIDE], %some: i64[2]) -> (f64[], f64[WIDE]) {
  %0 = scan %c, ZERO, %x, %y, %some length=6 carried=2 sliced=2 REVERSEcounted=true ranged=true body=graph @turn(%c: f64[], %s: f64[WIDE], %x: f64[], %y: f64[WIDE]) -> (f64[], f64[WIDE]) {
    %0 = mul %c, %x : f64[]
    %1 = add %0, 1.0:f64[] : f64[]
    %2 = broadcast %1 shape=(WIDE) axes=() : f64[WIDE]
    %3 = mul %2, %y : f64[WIDE]
    %4 = add %3, %s : f64[WIDE]
    return %1, %4
  } : (f64[], f64[WIDE])
  %1 = item %0 index=0 : f64[]
  %2 = item %0 index=1 : f64[WIDE]
  return %1, %2
}
"""  # noqa: E501


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("wide", [2, 300], ids=["in registers", "in kernels"])
def test_a_range_of_turns(wide: int, reverse: bool) -> None:
    text = RANGED.replace("WIDE", str(wide)).replace("ZERO", f"0.0:f64[{wide}]")
    graph = parse(text.replace("REVERSE", "reverse=true " if reverse else ""))
    verify(graph)
    assert str(parse(str(graph))) == str(graph)
    made = adjoint(graph)
    x, y = draw(6), draw(6, wide)
    for first, end in itertools.product((-2, 0, 2, 5, 6, 9), (-1, 0, 3, 6, 8)):
        some = np.array([first, end])
        found, total = run_both(graph, 0.5, x, y, some)
        order = range(max(first, 0), min(end, 6))
        c, s = 0.5, np.zeros(wide)
        for i in reversed(order) if reverse else order:
            c = c * x[i] + 1
            s += c * y[i]
        # Sums are taken in the order of turns here as there.
        np.testing.assert_allclose(found, c, rtol=1e-15)
        np.testing.assert_allclose(total, s, rtol=1e-14)
        _, _, _, dx, dy = run_both(made, 0.5, x, y, some, 1.0, np.ones(wide))
        left = [i for i in range(6) if i not in order]
        assert not dx[left].any()
        assert not dy[left].any()
        assert dx[list(order)].all()


# -- as users write it ------------------------------------------------------------------------------------------------


def loss(w: Any, h: Any, xs: Any, checkpoint: Any, reverse: bool = False) -> Any:
    def turn(h: Any, x: Any) -> Any:
        h = np.tanh(h @ w + x)
        return h, h.sum()

    last, ys = adjit.scan(turn, h, xs, checkpoint=checkpoint, reverse=reverse)
    return np.sum(last**2) + np.sum(ys**2)


def args() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return draw(4, 4) - 0.5, draw(4), draw(30, 4)


@pytest.mark.parametrize("checkpoint", ["all", "sqrt", 1, 5, 30, "1KB"])
def test_gradients_through_scan(checkpoint: Any) -> None:
    w, h, xs = args()
    for reverse in (False, True):
        wanted = adjit.grad(lambda *at: loss(*at, None, reverse), argnums=(0, 1, 2))(w, h, xs)  # noqa: B023
        found = adjit.grad(lambda *at: loss(*at, checkpoint, reverse), argnums=(0, 1, 2))(w, h, xs)  # noqa: B023
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11)


@pytest.mark.parametrize("checkpoint", ["sqrt", 2])
def test_transformations_of_loops_with_checkpoints(checkpoint: Any) -> None:
    w, h, xs = args()

    def kept(w: Any) -> Any:
        return loss(w, h, xs, None)

    def again(w: Any) -> Any:
        return loss(w, h, xs, checkpoint)

    ws = np.stack([w, w / 2, -w])
    pairs = [
        (adjit.hvp(kept)(w, w), adjit.hvp(again)(w, w)),
        (adjit.jacfwd(kept)(w), adjit.jacfwd(again)(w)),
        (adjit.linearize(kept, w)[1](w), adjit.linearize(again, w)[1](w)),
        (adjit.vmap(adjit.grad(kept))(ws), adjit.vmap(adjit.grad(again))(ws)),
        (adjit.grad(lambda ws: adjit.vmap(kept)(ws).sum())(ws), adjit.grad(lambda ws: adjit.vmap(again)(ws).sum())(ws)),
        (adjit.grad(lambda w: np.sum(adjit.grad(kept)(w) ** 2))(w),
         adjit.grad(lambda w: np.sum(adjit.grad(again)(w) ** 2))(w)),
    ]  # fmt: skip
    for wanted, found in pairs:
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def arena(f: Any, *given: Any) -> int:
    line = str(f.ir("plan", *given)).splitlines()[0]
    return int(line.split("arena ")[1].split(" ")[0])


def test_fewer_states_take_less_memory() -> None:
    w, h, xs = draw(64, 64) - 0.5, draw(64), draw(400, 64)

    def last(w: Any, h: Any, xs: Any, checkpoint: Any) -> Any:
        def turn(h: Any, x: Any) -> Any:
            return np.tanh(h @ w + x), None

        return np.sum(adjit.scan(turn, h, xs, checkpoint=checkpoint)[0])

    sizes = [arena(adjit.grad(lambda w: last(w, h, xs, k)), w) for k in (None, 100, 20, 4, 1)]  # noqa: B023
    assert sizes == sorted(sizes, reverse=True)
    rest = sizes[-1] - 2 * h.nbytes
    for k, size in zip((100, 20, 4), sizes[1:], strict=False):
        # The rows, and what is there for any number of them.
        assert abs(size - rest - (k + 1) * h.nbytes) <= 4096
    assert sizes[0] > 400 * h.nbytes


def test_a_budget_holds_what_is_kept() -> None:
    h, budget = draw(64), 10 * 64 * 8

    def last(h: Any) -> Any:
        return np.sum(adjit.fori_loop(0, 300, lambda i, h: np.sin(h * 1.1 + i), h, checkpoint=f"{budget}B"))

    made = adjit.grad(last)
    (loop, *_) = scans(made.ir("rolled", h))
    assert loop.attrs["checkpoints"] == 9
    assert arena(made, h) <= budget + 4096
