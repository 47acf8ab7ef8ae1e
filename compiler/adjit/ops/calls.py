"""Calls of functions that have rules of their own for their derivatives: `call`.

%2 = call %x, %n given=1 body=graph @f(%x: f64[3], %n: i64[]) -> f64[3] { ... }
    fwd=graph @f_fwd(%x: f64[3], %n: i64[]) -> (f64[3], f64[3]) { ... }
    bwd=graph @f_bwd(%kept: f64[3], %g: f64[3]) -> f64[3] { ... } : (f64[3])
%3 = item %2 index=0 : f64[3]

A graph of a rule may call the function itself: such a call says, by `up`, of how many rules around it the owner is the
function, and has no rules and no calls in its body. `closed_call` gives them to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import ITEM, Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.op import Attrs, register
from adjit.ir.types import Array, Tuple, Type, is_float
from adjit.ops.declare import Called
from adjit_runtime.errors import DTypeError, ShapeError

RULES = ("jvp", "fwd", "bwd")
"""The attributes that are graphs of rules."""


def floats_of(nodes: Sequence[Node]) -> list[int]:
    """The numbers of those that have a derivative."""
    return [i for i, node in enumerate(nodes) if is_float(node.dtype)]


def _call_type(types: tuple[Array, ...], attrs: Attrs) -> Type:
    body: Graph = attrs["body"]
    given, up = attrs["given"], attrs.get("up", 0)
    _fit("operands", list(types), _types(body.inputs))
    if not 0 <= given <= len(types) or body.updates:
        raise ShapeError(f"call: {given} arguments of {len(types)} operands")
    rules = {name for name in RULES if attrs.get(name) is not None}
    if up and rules:
        raise ShapeError("call: the rules of what is called stand around it, not at it")
    if not up and rules not in ({"jvp"}, {"fwd", "bwd"}, set(RULES)):
        raise ShapeError("call: the rules are jvp, or fwd and bwd, or all of them")
    results = _types(body.outputs)
    arguments = [body.inputs[i].array_type for i in floats_of(body.inputs[:given])]
    changes = [body.outputs[i].array_type for i in floats_of(body.outputs)]
    if "jvp" in rules:
        jvp: Graph = attrs["jvp"]
        _fit("inputs of the jvp rule", _types(jvp.inputs), [*_types(body.inputs), *arguments])
        _fit("outputs of the jvp rule", _types(jvp.outputs), [*results, *changes])
    if "fwd" in rules:
        fwd, bwd = attrs["fwd"], attrs["bwd"]
        kept = _types(fwd.outputs[len(results) :])
        _fit("inputs of the forward rule", _types(fwd.inputs), _types(body.inputs))
        _fit("outputs of the forward rule", _types(fwd.outputs), [*results, *kept])
        _fit("inputs of the backward rule", _types(bwd.inputs), [*kept, *changes])
        _fit("outputs of the backward rule", _types(bwd.outputs), arguments)
    return Tuple(tuple(results))


def _types(nodes: Sequence[Node]) -> list[Array]:
    return [node.array_type for node in nodes]


def _fit(what: str, found: Sequence[Array], wanted: Sequence[Array]) -> None:
    if len(found) != len(wanted):
        raise ShapeError(f"call: {len(found)} {what}, not {len(wanted)}")
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            error = ShapeError if a.shape != b.shape else DTypeError
            raise error(f"call: of the {what} that of number {i} is {a}, not {b}")


def _evaluate_call(*arrays: np.ndarray, body: Graph, **_: Any) -> tuple[np.ndarray, ...]:
    return tuple(evaluate(body, *arrays))


call = register(
    Called(
        name="call", kind="call", arity=None, infer=_call_type, evaluate=_evaluate_call,
        attr_kinds={"given": "int", "up": "count", "body": "graph", **dict.fromkeys(RULES, "rule")},
        exempt="it has the rules that it was given",
    )
)  # fmt: skip
"""`body` of the operands: the first `given` are arguments of a function, the others what it reads from outside.

`jvp` has the inputs of the body and a tangent for each float argument; it gives the results and a tangent for each
float one. `fwd` has the inputs of the body; it gives the results and what is kept. `bwd` has what is kept and a
cotangent for each float result; it gives a gradient for each float argument."""


def fitted(b: Builder, graph: Graph, args: Sequence[Node]) -> list[Node]:
    """The outputs of `graph`, copied, for args that differ from its inputs' types at most in being weak."""
    given = []
    for arg, node in zip(args, graph.inputs, strict=True):
        weak = node.array_type.weak
        if arg.array_type.weak != weak:
            arg = b.emit("cast", arg, dtype=arg.dtype, weak=weak)
        given.append(arg)
    return b.inline(graph, given)


def without_calls(graph: Graph) -> Graph:
    """The graph with what is called where it is called; itself where nothing is."""
    return _inlined(graph, {}) if any(node.op is call for node in graph.all_nodes()) else graph


def _inlined(graph: Graph, done: dict[Graph, Graph]) -> Graph:
    if graph in done:
        return done[graph]
    b = Builder()
    b.inputs.extend(graph.inputs)
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    results: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        b.loc = node.loc
        if node.op is ITEM and node.args[0] in results:
            new[node] = results[node.args[0]][node.attrs["index"]]
            continue
        args = [new[arg] for arg in node.args]
        if node.op is call:
            results[node] = fitted(b, _inlined(node.attrs["body"], done), args)
        else:
            new[node] = b.keep(copy_node(_with_bodies_inlined(node, done), args))
    outputs = tuple(new[node] for node in graph.outputs)
    updates = tuple((target, new[value]) for target, value in graph.updates)
    done[graph] = Graph(graph.name, graph.inputs, tuple(b.nodes), outputs, updates)
    return done[graph]


def _with_bodies_inlined(node: Node, done: dict[Graph, Graph]) -> Node:
    found = {name: _inlined(value, done) for name, value in node.attrs.items() if isinstance(value, Graph)}
    if all(node.attrs[name] is graph for name, graph in found.items()):
        return node
    return Node(node.op, node.args, {**node.attrs, **found}, node.type, node.loc)


def closed_call(node: Node, owners: Sequence[Node]) -> Node:
    """A node of a rule of the last of `owners`, which is in a rule of the one before, with the rules of these for what
    calls them: it can stand elsewhere."""
    for depth, owner in enumerate(reversed(owners), 1):
        node = _with_rules(node, owner, depth)
    return node


def closed_rule(owner: Node, rule: Graph) -> Graph:
    """A rule of a call, as a graph that can stand elsewhere."""
    return _graph_with_rules(rule, owner, 1)


def _graph_with_rules(graph: Graph, owner: Node, depth: int) -> Graph:
    new = {node: node for node in graph.inputs}
    for node in graph.nodes:
        found = _with_rules(node, owner, depth)
        new[node] = copy_node(found, [new[arg] for arg in node.args])
    if all(new[node] is node for node in graph.nodes):
        return graph
    return closed(graph.name, graph.inputs, (new[n] for n in graph.nodes), [new[n] for n in graph.outputs])


def _with_rules(node: Node, owner: Node, depth: int) -> Node:
    """`node`, in which what calls the owner of the rule `depth` levels up has that one's rules."""
    if node.op is call and node.attrs.get("up", 0) == depth:
        return Node(call, node.args, owner.attrs, node.type, node.loc)
    changed = {}
    for name, value in node.attrs.items():
        if isinstance(value, Graph):
            found = _graph_with_rules(value, owner, depth + (name in RULES))
            if found is not value:
                changed[name] = found
    return Node(node.op, node.args, {**node.attrs, **changed}, node.type, node.loc) if changed else node
