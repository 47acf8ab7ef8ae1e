"""The verifier catches every invariant of its docstring, and names the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphMaker

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import CONSTANT, INPUT, ITEM
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc, Node
from adjit.ir.op import OPS, Op
from adjit.ir.text import parse
from adjit.ir.types import BOOL, F32, F64, I64, U8, Array, Tuple
from adjit.ir.verify import verify
from adjit_runtime.errors import InternalError

V = Array(F32, (2,))
X = Node(INPUT, (), {"name": "x"}, V)
Y = Node(INPUT, (), {"name": "y"}, V)
T = Node(OPS["tanh"], (X,), {}, V, Loc("model.py", 3))
E = Node(OPS["exp"], (T,), {}, V)
FOREIGN = Node(OPS["exp"], (X,), {}, V)
PAIR = Op(name="pair", kind="control", arity=1, infer=lambda t, a: Tuple((t[0], t[0])), evaluate=lambda x: (x, x))
GOOD = Graph("f", (X, Y), (T, E), (E,), ((X, E),))


def with_node(op: str, args: tuple[Node, ...], attrs: dict[str, Any], type: Any) -> Graph:
    node = Node(OPS[op], args, attrs, type)
    return Graph("f", (X, Y), (T, node), (node,))


def constant(attrs: dict[str, Any], type: Array) -> Graph:
    node = Node(CONSTANT, (), attrs, type)
    return Graph("f", (X,), (node,), (node,))


NESTED = Op(name="test_call", kind="control", arity=1, infer=lambda t, a: t[0], evaluate=lambda x, *, body: x,
            attr_kinds={"body": "graph"})  # fmt: skip


def nested() -> Graph:
    node = Node(NESTED, (X,), {"body": Graph("inner", (X,), (), (T,))}, V)
    return Graph("f", (X,), (node,), (node,))


def pair_read_by(op: str, attrs: dict[str, Any]) -> Graph:
    pair = Node(PAIR, (X,), {}, Tuple((V, V)))
    node = Node(OPS[op], (pair,), attrs, V)
    return Graph("f", (X,), (pair, node), (node,))


BROKEN: dict[str, tuple[Callable[[], Graph], str]] = {
    "an input of another op": (lambda: Graph("f", (T,), (), ()), "no node of op input"),
    "an input twice": (lambda: replace(GOOD, inputs=(X, X)), "input stands in the list twice"),
    "one name for two inputs": (lambda: replace(GOOD, inputs=(X, Y, Node(INPUT, (), {"name": "x"}, V))), "one name"),
    "an input without a name": (lambda: Graph("f", (Node(INPUT, (), {}, V),), (), ()), "'name' is missing"),
    "an input among nodes": (lambda: replace(GOOD, nodes=(T, E, Node(INPUT, (), {"name": "z"}, V))), "among the nodes"),
    "an op that is not registered": (lambda: pair_read_by("tanh", {}), "pair is not in the registry"),
    "a node twice": (lambda: replace(GOOD, nodes=(T, E, T)), "a node stands in the list twice"),
    "the wrong order": (lambda: replace(GOOD, nodes=(E, T)), "an arg does not stand before its user"),
    "an arg from outside": (lambda: with_node("neg", (FOREIGN,), {}, V), "an arg does not stand before its user"),
    "the wrong arity": (lambda: with_node("add", (X,), {}, V), "add takes 2 args, not 1"),
    "an unknown attribute": (lambda: with_node("neg", (X,), {"axis": 1}, V), "neg has no attribute 'axis'"),
    "a missing attribute": (lambda: with_node("sum", (X,), {}, Array(F32)), "attribute 'axes' is missing"),
    "ints that are a list": (lambda: with_node("sum", (X,), {"axes": [0]}, Array(F32)), "is no ints"),
    "a NumPy int in ints": (lambda: with_node("sum", (X,), {"axes": (np.int64(0),)}, Array(F32)), "is no ints"),
    "a bool for an int": (lambda: with_node("argmax", (X,), {"axis": True}, Array(I64)), "is no int"),
    "an int for a bool": (lambda: with_node("cumsum", (X,), {"axis": 0, "reverse": 1}, V), "is no bool"),
    "a dtype by its name": (lambda: with_node("cast", (X,), {"dtype": "f4"}, V), "is no dtype"),
    "subscripts that are none": (lambda: with_node("contract", (X, X), {"spec": 1}, Array(F32)), "is no subscripts"),
    "a type that is not inferred": (lambda: with_node("neg", (X,), {}, Array(F64, (2,))), r"rule gives f32\[2\]"),
    "a type rule that raises": (lambda: with_node("sum", (X,), {"axes": (3,)}, V), "rule gives sum: axes"),
    "a weak type of a strong value": (
        lambda: with_node("sum", (X,), {"axes": (0,)}, Array(F32, (), True)),
        "type rule",
    ),
    "a weak array": (lambda: constant({"value": 1.0}, Array(F32, (2,), True)), "weak value is no scalar"),
    "a shape of floats": (lambda: constant({"value": 1.0}, Array(F32, (2.0,))), "is no shape"),  # type: ignore[arg-type]
    "a negative extent": (lambda: constant({"value": 1.0}, Array(F32, (-1,))), "is no shape"),
    "a dtype from outside": (lambda: constant({"value": 1.0}, Array(np.dtype("c8"))), "no dtype of the type system"),
    "a constant of nothing": (lambda: constant({}, V), "a value or data"),
    "a constant of two": (lambda: constant({"value": 1.0, "data": Data.of(np.ones(2, "f"), "c")}, V), "value or data"),
    "an int in a float": (lambda: constant({"value": 1}, V), "float32 does not hold 1"),
    "a float that is not rounded": (lambda: constant({"value": 0.1}, V), "float32 does not hold 0.1"),
    "an int out of range": (lambda: constant({"value": 256}, Array(U8)), "uint8 does not hold 256"),
    "a bool in an int": (lambda: constant({"value": True}, Array(I64)), "int64 does not hold True"),
    "an int in a bool": (lambda: constant({"value": 1}, Array(BOOL)), "bool does not hold 1"),
    "data of another shape": (lambda: constant({"data": Data.of(np.ones(3, "f"), "c")}, V), r"the data is f32\[3\]"),
    "an output from outside": (lambda: replace(GOOD, outputs=(FOREIGN,)), "output or update is not in the graph"),
    "an update from outside": (lambda: replace(GOOD, updates=((X, FOREIGN),)), "not in the graph"),
    "an update of a node": (lambda: replace(GOOD, updates=((T, E),)), "target of an update is no input"),
    "two updates of one input": (lambda: replace(GOOD, updates=((X, E), (X, T))), "updated twice"),
    "an update of another type": (
        lambda: Graph("f", (X,), (node := Node(OPS["sum"], (X,), {"axes": (0,)}, Array(F32)),), (), ((X, node),)),
        r"an update of f32\[2\] by f32\[\]",
    ),
    "a nested graph": (nested, "verify @inner: an output or update is not in the graph"),
    "a tuple read by another op": (lambda: pair_read_by("tanh", {}), "tuple is read by another op than item"),
    "an item beyond the tuple": (lambda: pair_read_by("item", {"index": 2}), "the type rule gives"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_verifier_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, message = BROKEN[name]
    monkeypatch.setitem(OPS, "test_call", NESTED)
    if "registered" not in name:
        monkeypatch.setitem(OPS, "pair", PAIR)
    with pytest.raises(InternalError, match=message):
        verify(make())


def test_a_complaint_shows_node_place_and_graph() -> None:
    with pytest.raises(InternalError) as caught:
        verify(replace(GOOD, nodes=(T, E, T)))
    text = str(caught.value)
    assert "tanh %x : f32[2]" in text
    assert " at model.py:3" in text
    assert "graph @f(%x: f32[2], %y: f32[2])" in text


def test_good_graphs_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "pair", PAIR)
    verify(GOOD)
    verify(pair_read_by("item", {"index": 1}))
    assert ITEM is OPS["item"]
    for seed in range(20):
        verify(GraphMaker(seed).graph(20))
    verify(parse("graph @f(%t: i64[]~) -> () {\n  %0 = add %t, 1 : i64[]~\n  return\n  update %t = %0\n}"))
