"""What becomes of loops: each graph gives what it gave, in the nodes that the table says."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.filetests.test_filetests import STEPS, cases
from tests.graphs import arrays
from tests.thresholds import TILED, force

from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.text import parse
from adjit.ir.verify import verify
from adjit.passes import leave_loops as leaving
from adjit.passes import pipeline
from adjit.passes.pipeline import OF_LOOPS, PIPELINE, optimize
from adjit.passes.widen import widen
from adjit_runtime.errors import DTypeError, IndexOutOfRange, InternalError

FILETESTS = Path(__file__).resolve().parent.parent / "filetests"


def loops(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op.kind == "scan"]


def carried_and_sliced(graph: Graph) -> list[tuple[int, int, int]]:
    """Of each loop: what is carried, sliced, whole."""
    found = []
    for node in loops(graph):
        carried, sliced = node.attrs["carried"], node.attrs["sliced"]
        found.append((carried, sliced, len(node.args) - carried - sliced))
    return found


def counts(graph: Graph) -> Counter[str]:
    return Counter(node.op.name for node in graph.nodes)


def same_values(before: Graph, after: Graph, inputs: list[np.ndarray], rtol: float = 0.0) -> None:
    verify(after)
    for found, wanted in zip(evaluate(after, *inputs), evaluate(before, *inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * float(np.abs(wanted).max(initial=0.0)))


def small(graph: Graph) -> bool:
    return sum(node.array_type.size for node in graph.inputs) < 1 << 20


@pytest.mark.parametrize("name", [step.__name__ for step in PIPELINE if step in OF_LOOPS])
def test_each_filetest_gives_what_it_gave(name: str) -> None:
    ran = 0
    for case in cases(FILETESTS / f"{name}.ir"):
        graph = parse(case.text)
        if not small(graph):
            continue
        inputs = [np.abs(a) % 7 if a.dtype.kind == "i" else a * a.dtype.type(0.1) for a in arrays(graph, case.line)]
        # Sums over turns are taken in another order, in f32 too.
        rtol = 1e-4 if name == "leave_loops" else 0.0
        same_values(graph, STEPS[name](graph), inputs, rtol)
        same_values(graph, optimize(graph), inputs, rtol)
        ran += 1
    assert ran >= 3


def layer(turn: str, results: str, rest: str, carried: int = 1) -> str:
    """A loop over the rows of %x and %y that carries %h, and %s where two are `carried`; `turn` is its body, `results`
    are the types of its results in the body and outside, `rest` that of the graph's result, and its last lines."""
    init = ("%h", "%s")[:carried]
    inputs = ("%h: f64[3]", "%s: f64[4,3]")[:carried]
    operands = ", ".join((*init, "%x", "%y", "%w", "%u"))
    names = ", ".join((*inputs, "%x: f64[4]", "%y: f64[3]", "%w: f64[4,3]", "%u: f64[3,3]"))
    body_types, types = results.split(" => ")
    return f"""\
graph @f(%h: f64[3], %s: f64[4,3], %x: f64[6,4], %y: f64[6,3], %w: f64[4,3], %u: f64[3,3]) {rest.split(" => ")[0]} {{
  %0 = scan {operands} length=6 carried={carried} sliced=2 body=graph @turn({names}) -> {body_types} {{
{turn}
  }} : {types}
{rest.split(" => ")[1]}
}}
"""


ITEM = "-> f64[3] => %1 = item %0 index=0 : f64[3]\n return %1"

TABLE: dict[str, tuple[str, Callable[[Graph], Any], Any]] = {
    "a product of a part leaves": (
        layer(
            "%0 = contract %x, %w [k,kj->j] : f64[3]\n%1 = contract %h, %u [k,kj->j] : f64[3]\n"
            "%2 = add %0, %1 : f64[3]\n%3 = tanh %2 : f64[3]\nreturn %3",
            "f64[3] => (f64[3])",
            ITEM,
        ),
        lambda g: (counts(g)["contract"], carried_and_sliced(g)),
        (1, [(1, 1, 1)]),
    ),
    "two layers of a part leave": (
        layer(
            "%0 = contract %x, %w [k,kj->j] : f64[3]\n%1 = tanh %0 : f64[3]\n%2 = contract %1, %u [k,kj->j] : f64[3]\n"
            "%3 = mul %h, %2 : f64[3]\nreturn %3",
            "f64[3] => (f64[3])",
            ITEM,
        ),
        lambda g: (counts(g)["contract"], counts(g)["tanh"], carried_and_sliced(g)),
        (2, 1, [(1, 1, 0)]),
    ),
    "a product of what is stacked is taken after it": (
        layer(
            "%0 = add %h, %y : f64[3]\n%1 = tanh %0 : f64[3]\n%2 = contract %1, %w [k,jk->j] : f64[4]\n"
            "%3 = exp %2 : f64[4]\nreturn %1, %3",
            "(f64[3], f64[4]) => (f64[3], f64[6,4])",
            "-> f64[6,4] => %1 = item %0 index=1 : f64[6,4]\n return %1",
        ),
        lambda g: (counts(g)["contract"], counts(g)["exp"], carried_and_sliced(g)),
        (1, 1, [(1, 1, 0)]),
    ),
    "a sum of products is one product": (
        layer(
            "%0 = add %h, %y : f64[3]\n%1 = tanh %0 : f64[3]\n%2 = contract %x, %1 [k,j->kj] : f64[4,3]\n"
            "%3 = contract %x, %y [k,j->kj] : f64[4,3]\n%4 = add %2, %s : f64[4,3]\n%5 = add %4, %3 : f64[4,3]\n"
            "return %1, %5",
            "(f64[3], f64[4,3]) => (f64[3], f64[4,3])",
            "-> f64[4,3] => %1 = item %0 index=1 : f64[4,3]\n return %1",
            carried=2,
        ),
        lambda g: (carried_and_sliced(g), counts(g)["contract"]),
        # One of the sum of what is stacked and of %y.
        ([(1, 1, 0)], 1),
    ),
    "what no turn makes is no loop": (
        layer(
            "%0 = contract %x, %y [k,j->kj] : f64[4,3]\n%1 = add %s, %0 : f64[4,3]\nreturn %h, %1",
            "(f64[3], f64[4,3]) => (f64[3], f64[4,3])",
            "-> f64[4,3] => %1 = item %0 index=1 : f64[4,3]\n return %1",
            carried=2,
        ),
        lambda g: counts(g),
        {"contract": 1, "add": 1},
    ),
    "a term that stays is added in the loop": (
        layer(
            "%0 = contract %x, %y [k,j->kj] : f64[4,3]\n%1 = add %s, %0 : f64[4,3]\n"
            "%2 = broadcast %h shape=(4,3) axes=(1) : f64[4,3]\n%3 = add %2, %1 : f64[4,3]\n"
            "%4 = sin %h : f64[3]\nreturn %4, %3",
            "(f64[3], f64[4,3]) => (f64[3], f64[4,3])",
            "-> f64[4,3] => %1 = item %0 index=1 : f64[4,3]\n return %1",
            carried=2,
        ),
        lambda g: (carried_and_sliced(g), [counts(node.attrs["body"])["contract"] for node in loops(g)]),
        ([(2, 0, 0)], [0]),
    ),
    "an invariant is computed once": (
        layer(
            "%0 = exp %u : f64[3,3]\n%1 = contract %h, %0 [k,kj->j] : f64[3]\n%2 = tanh %1 : f64[3]\nreturn %2",
            "f64[3] => (f64[3])",
            ITEM,
        ),
        lambda g: (counts(g)["exp"], carried_and_sliced(g)),
        (1, [(1, 0, 1)]),
    ),
    "constants are folded in the body": (
        layer(
            "%0 = mul 2.0:f64[3], 3.0 : f64[3]\n%1 = mul %h, %0 : f64[3]\n%2 = mul %1, 1.0 : f64[3]\nreturn %2",
            "f64[3] => (f64[3])",
            ITEM,
        ),
        lambda g: [len(node.attrs["body"].nodes) for node in loops(g)],
        # The number, and one product.
        [2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_loop_becomes_what_the_table_says(name: str) -> None:
    text, seen, wanted = TABLE[name]
    graph = parse(text)
    verify(graph)
    after = optimize(graph)
    assert seen(after) == wanted, after
    # Sums over turns and rows are taken in another order.
    same_values(graph, after, arrays(graph, 1), rtol=1e-13)
    reverse = parse(text.replace("sliced=2 ", "sliced=2 reverse=true "))
    assert seen(optimize(reverse)) == wanted
    same_values(reverse, optimize(reverse), arrays(graph, 2), rtol=1e-13)


def test_what_is_stacked_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a product of a part leaves", "a product of what is stacked is taken after it"):
        graph = parse(TABLE[name][0])
        with monkeypatch.context() as patched:
            patched.setattr(leaving, "STACKED_BYTES", 6 * 3 * 8)
            assert not any(counts(node.attrs["body"])["contract"] > 1 for node in loops(optimize(graph)))
            patched.setattr(leaving, "STACKED_BYTES", 6 * 3 * 8 - 1)
            (loop,) = loops(optimize(graph))
            assert (
                counts(loop.attrs["body"])["contract"]
                == counts(parse(TABLE[name][0]).nodes[0].attrs["body"])["contract"]
            )


WEAK = """\
graph @f(%a: f64[]~, %b: f64[], %x: f64[{n}]) -> (f64[], f64[]~, f64[{n}]) {{
  %0 = scan %a, %b, %x length={n} carried=2 sliced=1 body=graph @turn(
    %a: f64[], %b: f64[]~, %x: f64[]
  ) -> (f64[], f64[]~, f64[]) {{
    %0 = mul %a, %x : f64[]
    return %a, %b, %0
  }} : (f64[], f64[]~, f64[{n}])
  %1 = item %0 index=0 : f64[]
  %2 = item %0 index=1 : f64[]~
  %3 = item %0 index=2 : f64[{n}]
  return %1, %2, %3
}}
"""


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_weak_and_strong_stay_what_they_are(turns: int) -> None:
    graph = parse(WEAK.format(n=turns))
    verify(graph)
    after = optimize(graph)
    assert [node.type for node in after.outputs] == [node.type for node in graph.outputs]
    same_values(graph, after, [np.float64(2.0), np.float64(3.0), np.arange(float(turns))])


CHECKED = """\
graph @f(%c: f64[3], %t: f64[7,3], %i: i64[], %j: i64[5]) -> f64[3] {
  %0 = scan %c, %j, %t, %i length=5 carried=1 sliced=1 body=graph @turn(
    %c: f64[3], %j: i64[], %t: f64[7,3], %i: i64[]
  ) -> f64[3] {
    %0 = check_index %i size=7 axis=0 : i64[]
    %1 = take %t, %0 axis=0 : f64[3]
    %2 = check_index %j size=7 axis=0 : i64[]
    %3 = take %t, %2 axis=0 : f64[3]
    %4 = mul %1, %3 : f64[3]
    %5 = add %c, %4 : f64[3]
    return %5
  } : (f64[3])
  %1 = item %0 index=0 : f64[3]
  return %1
}
"""


def test_checks_of_parts_stay_and_all_still_raise() -> None:
    graph = parse(CHECKED)
    after = optimize(graph)
    assert counts(after)["check_index"] == 1
    assert [counts(node.attrs["body"])["check_index"] for node in loops(after)] == [1]
    c, t, j = np.zeros(3), np.arange(21.0).reshape(7, 3), np.arange(5)
    same_values(graph, after, [c, t, np.int64(-2), j])
    for bad in ([c, t, np.int64(7), j], [c, t, np.int64(0), j + 3]):
        with pytest.raises(IndexOutOfRange):
            evaluate(after, *bad)


TWICE = """\
graph @f(%c: f64[3], %d: f64[3]) -> (f64[3], f64[3]) {
  %0 = scan %c length=9 carried=1 body=graph @turn(%c: f64[3]) -> f64[3] {
    %0 = neg %c : f64[3]
    %1 = sub %c, %0 : f64[3]
    return %1
  } : (f64[3])
  %1 = item %0 index=0 : f64[3]
  %2 = scan %d length=9 carried=1 body=graph @other(%d: f64[3]) -> f64[3] {
    %0 = neg %d : f64[3]
    %1 = sub %d, %0 : f64[3]
    return %1
  } : (f64[3])
  %3 = item %2 index=0 : f64[3]
  return %1, %3
}
"""


def test_equal_bodies_are_optimised_once_and_are_one() -> None:
    graph = parse(TWICE)
    after = optimize(graph)
    one, other = loops(after)
    assert one.attrs["body"] is other.attrs["body"]
    assert counts(one.attrs["body"]) == {"add": 1}
    assert optimize(after) is after
    same_values(graph, after, arrays(graph, 0))


def test_rules_of_the_reals_hold_in_bodies_where_they_are_allowed() -> None:
    graph = parse(TWICE.replace("sub %c, %0", "sub %c, %c").replace("sub %d, %0", "sub %d, %d"))
    assert loops(optimize(graph))
    # x - x is 0 on the reals, and a carry of zeros needs no loop beyond the first turn.
    (body,) = {node.attrs["body"] for node in loops(optimize(graph, allow_inexact=True))}
    assert not any(node.op.name == "sub" for node in body.nodes)


def test_a_failure_in_a_body_names_the_pass_and_shows_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph) -> Graph:
        if graph.name == "turn":
            raise ValueError("nothing goes")
        return graph

    monkeypatch.setattr(pipeline, "PIPELINE", (broken,))
    with pytest.raises(InternalError, match=r"^the pass broken failed: nothing goes\n\nbefore it:\ngraph @turn"):
        optimize(parse(TWICE))


def test_bodies_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph) -> Graph:
        return dataclasses.replace(graph, nodes=graph.nodes[1:]) if graph.name == "turn" else graph

    monkeypatch.setenv("ADJIT_VERIFY", "1")
    monkeypatch.setattr(pipeline, "PIPELINE", (broken,))
    with pytest.raises(InternalError, match="the pass broken failed: verify @turn: an arg does not stand before"):
        optimize(parse(TWICE))


def test_arithmetic_of_narrow_dtypes_is_refused_in_bodies() -> None:
    text = TWICE.replace("f64", "f16")
    with pytest.raises(DTypeError, match=r"neg is f16 in NumPy.*x\.astype\(np\.float32\)"):
        widen(parse(text))


def test_a_narrow_result_of_a_loop_is_refused() -> None:
    text = TWICE.replace("f64", "i16").replace("neg %c", "maximum %c, %c").replace("neg %d", "maximum %d, %d")
    text = text.replace("sub", "minimum")
    with pytest.raises(DTypeError, match="a result is i16"):
        widen(parse(text))


def test_tiles_stand_beside_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, TILED)
    graph = parse("""\
graph @f(%x: f64[103,6], %y: f64[103], %w: f64[6], %c: f64[6]) -> (f64[6], f64[], f64[6]) {
  %0 = contract %x, %w [ik,k->i] : f64[103]
  %1 = sub %0, %y : f64[103]
  %2 = tanh %1 : f64[103]
  %3 = contract %2, %x [i,ik->k] : f64[6]
  %4 = scan %c, %x, %2 length=103 carried=1 sliced=2 body=graph @turn(%c: f64[6], %x: f64[6], %e: f64[]) -> f64[6] {
    %0 = broadcast %e shape=(6) axes=() : f64[6]
    %1 = mul %0, %x : f64[6]
    %2 = sub %1, %c : f64[6]
    %3 = tanh %2 : f64[6]
    return %3
  } : (f64[6])
  %5 = item %4 index=0 : f64[6]
  %6 = sum %2 axes=(0) : f64[]
  return %3, %6, %5
}
""")
    after = optimize(graph)
    assert [node.op.name for node in after.nodes if node.op.kind in ("scan", "tiled")] == ["tiled", "scan"]
    same_values(graph, after, arrays(graph, 0), rtol=1e-12)


def deep(levels: int) -> Iterator[str]:
    for i in range(levels):
        yield f"%0 = scan %c, %w length=2 carried=1 body=graph @turn{i}(%c: f64[3], %w: f64[3]) -> f64[3] {{"
    yield "%0 = exp %w : f64[3]\n%1 = sin %c : f64[3]\n%2 = mul %0, %1 : f64[3]\nreturn %2"
    for i in range(levels):
        yield f"}} : (f64[3])\n%1 = item %0 index=0 : f64[3]\n{'return %1' if i < levels - 1 else ''}"


def test_what_is_the_same_in_all_turns_leaves_all_loops() -> None:
    text = "\n".join(["graph @f(%c: f64[3], %w: f64[3]) -> f64[3] {", *deep(5), "return %1", "}"])
    graph = parse(text)
    after = optimize(graph)
    assert counts(after)["exp"] == 1
    body = after
    while loops(body):
        (loop,) = loops(body)
        body = loop.attrs["body"]
        assert counts(body)["exp"] == 0
    assert counts(body) == {"sin": 1, "mul": 1}
    same_values(graph, after, arrays(graph, 3))
