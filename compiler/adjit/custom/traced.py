"""A call inside of a trace is one node, `call`: the function's graph, and those of its rules.

Arguments that are traced are operands; what else is known stays what it is. Values of enclosing traces that function or
rules read are operands after them. The pullback is traced inside of the trace of its rule: what it reads of that one
is what is kept. A rule that calls the function itself, with arguments of the same types, makes a call without rules,
which is given them when the rule is used (`ops.calls`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optree

from adjit.control.operands import new_input
from adjit.custom.given import Given
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.op import Attrs
from adjit.ir.types import Array, is_float
from adjit.ops.calls import without_calls
from adjit.trace import Traced, Tracer, current_trace, is_tracer, lower, trace_flat
from adjit.trace.promote import type_of
from adjit.trace.refuse import located, trace_error
from adjit.trace.tracer import array_of, is_python_number, plain_of, python_number
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guests import sameness, tree_flatten

_MOST_RULES = 8
"""How many rules may be traced inside of one another."""


class Ruled(Protocol):
    """A function with rules (`rule.CustomRule`)."""

    __name__: str
    __wrapped__: Callable[..., Any]
    jvp: Callable[..., Any] | None
    vjp: Callable[..., Any] | None
    pure: bool

    def parameter(self, number: int) -> str:
        """What an argument is called."""


@dataclass(frozen=True, eq=False, slots=True)
class _Call:
    """One call: all leaves of the arguments, and the numbers of those that are operands."""

    ruled: Ruled
    leaves: list[Any]
    tree: optree.PyTreeSpec
    moving: list[int]

    @property
    def name(self) -> str:
        """That of the graph."""
        name = self.ruled.__name__
        return name if name.isidentifier() else "lambda"

    @property
    def operands(self) -> list[Any]:
        """The leaves that are operands."""
        return [self.leaves[i] for i in self.moving]

    @property
    def types(self) -> list[Array]:
        """Their types."""
        return [type_of(leaf) for leaf in self.operands]

    @property
    def floats(self) -> list[int]:
        """The numbers of the leaves that have a derivative."""
        return [i for i in self.moving if is_float(type_of(self.leaves[i]).dtype)]

    @property
    def arrays(self) -> list[int]:
        """Which operands are arrays, though without dimensions."""
        return [i for i, leaf in enumerate(self.operands) if isinstance(leaf, np.ndarray)]

    @property
    def names(self) -> list[str]:
        """A name for each operand."""
        paths = [self.tree.paths()[i] for i in self.moving]
        return [".".join([self.ruled.parameter(path[0]), *map(str, path[1:])]) for path in paths]

    def key(self) -> tuple[Any, ...]:
        """What is the same where function and rules make the same graphs."""
        traced = tuple((i, type_of(self.leaves[i]), isinstance(self.leaves[i], np.ndarray)) for i in self.moving)
        known = tuple(
            id(leaf) if isinstance(leaf, np.ndarray) else sameness(leaf)
            for i, leaf in enumerate(self.leaves)
            if i not in self.moving
        )
        return (self.tree, traced, known)

    def args(self, tracers: Sequence[Tracer]) -> Any:
        """The arguments with these operands."""
        leaves = list(self.leaves)
        for i, tracer in zip(self.moving, tracers, strict=True):
            leaves[i] = tracer
        return optree.tree_unflatten(self.tree, leaves)

    def tangents(self, tracers: Sequence[Tracer]) -> Any:
        """Tangents of the arguments: those of floats that are operands, and zeros."""
        leaves = [_zero_of(leaf) for leaf in self.leaves]
        for i, tracer in zip(self.floats, tracers, strict=True):
            leaves[i] = array_of(tracer) if isinstance(self.leaves[i], np.ndarray) else tracer
        return optree.tree_unflatten(self.tree, leaves)


def _zero_of(leaf: Any) -> Any:
    if is_tracer(leaf) or isinstance(leaf, np.ndarray | np.generic):
        found = type_of(leaf)
        return np.zeros(found.shape, found.dtype)[()]
    return type(leaf)(0) if isinstance(leaf, bool | int | float) else None


@dataclass(eq=False, slots=True)
class _Owner:
    """A call whose rules are being traced. `captures` are the operands after the arguments, as far as they are known;
    `called` says whether a rule called the function itself."""

    call: _Call
    body: Traced
    numbers: list[bool]
    captures: list[Tracer] = field(default_factory=list)
    called: bool = False

    @property
    def types(self) -> list[Array]:
        """Those of the results."""
        return [node.array_type for node in self.body.graph.outputs]

    @property
    def changes(self) -> list[Array]:
        """Those of cotangents and tangents of the results."""
        return [type.strong for type in self.types if is_float(type.dtype)]

    def results(self, given: Sequence[Tracer]) -> Any:
        """The tree of the results; what the function gave as numbers of Python are such."""
        leaves = [python_number(x) if plain else x for x, plain in zip(given, self.numbers, strict=True)]
        return optree.tree_unflatten(self.body.out_tree, leaves)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The traces of the rules: of forward mode; of reverse mode, with the pullback's."""

    jvp: Traced | None
    fwd: Traced | None
    bwd: Traced | None

    @property
    def captures(self) -> list[Tracer]:
        """What they read from outside."""
        return [tracer for traced in (self.jvp, self.fwd) if traced is not None for tracer in traced.captures]


def run(ruled: Ruled, args: tuple[Any, ...]) -> Any:
    """The result of a call in the trace under way."""
    try:
        leaves, tree = tree_flatten(args)
    except RecursionError:
        raise located(ArgumentError, f"{ruled.__name__}: an argument is nested too deep, or holds itself") from None
    moving = [i for i, leaf in enumerate(leaves) if is_tracer(leaf) and plain_of(leaf) is None]
    call = _Call(ruled, leaves, tree, moving)
    owner, up = _owner_of(call)
    if owner is not None:
        owner.called = True
        graph = _entered(owner.body.graph, owner.body.captures, owner.captures, len(moving), 0)
        attrs = {"given": len(moving), "up": up, "body": without_calls(graph)}
        return owner.results(lower.emit("call", *call.operands, *owner.captures, **attrs))
    # An array that is known may have been changed since.
    if ruled.pure and moving and not any(isinstance(x, np.ndarray) for i, x in enumerate(leaves) if i not in moving):
        return _made_once(call)
    owner = _body(call)
    if not moving and not owner.captures:
        # All is known, and stays so.
        return ruled.__wrapped__(*args)
    if not owner.types:
        return owner.results([])
    return owner.results(_emitted(owner, _attrs(owner, _rules(owner))))


def _made_once(call: _Call) -> Any:
    """The result of a call of what is pure: its graphs are those of the first call like it in this trace."""
    trace = current_trace()
    assert trace is not None
    made, key = trace.root.made, (call.ruled, call.key())
    if key not in made:
        owner = _body(call)
        made[key] = owner, _attrs(owner, _rules(owner))
    owner, attrs = made[key]
    return owner.results(lower.emit("call", *call.operands, **attrs))


def _owner_of(call: _Call) -> tuple[_Owner | None, int]:
    """The call of the same function, with arguments of the same types, in whose rule this one is; and how many rules
    that are."""
    at, up, key = current_trace(), 0, None
    while at is not None:
        if isinstance(at.rule, _Owner):
            up += 1
            if at.rule.call.ruled is call.ruled:
                key = call.key() if key is None else key
                if at.rule.call.key() == key:
                    return at.rule, up
        at = at.parent
    if up >= _MOST_RULES:
        raise trace_error(
            f"custom_rule: rules call {call.ruled.__name__} {_MOST_RULES} rules deep, with arguments of other types "
            "each time"
        )
    return None, 0


def _body(call: _Call) -> _Owner:
    """The function, traced."""
    given = Given(call.ruled.__name__, call.ruled.__wrapped__)
    numbers: list[bool] = []

    def function(tracers: list[Tracer]) -> Any:
        result = call.ruled.__wrapped__(*call.args(tracers))
        numbers[:] = map(is_python_number, given.leaves(result, "value")[0])
        return result

    traced = trace_flat(call.name, function, call.types, call.names, call.arrays)
    return _Owner(call, traced, numbers, list(traced.captures))


def _rules(owner: _Owner) -> _Rules:
    """The rules, traced; anew where what they read from outside is to be handed to a call of the function in them."""
    while True:
        owner.called = False
        found = _Rules(_forward(owner), *_reverse(owner))
        captures = _distinct([*owner.captures, *found.captures])
        if len(captures) == len(owner.captures) or not owner.called:
            owner.captures = captures
            return found
        owner.captures = captures


def _distinct(tracers: Sequence[Tracer]) -> list[Tracer]:
    return list({lower.lift(tracer): tracer for tracer in reversed(tracers)}.values())[::-1]


def _forward(owner: _Owner) -> Traced | None:
    """The rule of forward mode: of operands and tangents, the results and their tangents."""
    call, rule = owner.call, owner.call.ruled.jvp
    if rule is None:
        return None
    given = Given(f"the jvp rule of {call.ruled.__name__}", rule)
    count = len(call.moving)
    tangents = [type_of(call.leaves[i]).strong for i in call.floats]

    def function(tracers: list[Tracer]) -> Any:
        _enter(owner)
        result = rule(call.args(tracers[:count]), call.tangents(tracers[count:]))
        value, tangent = given.pair(result, "tangent")
        values = given.values(value, owner.types, owner.body.out_tree)
        return [*values, *given.changes(tangent, owner.types, owner.body.out_tree, "tangent", "the value")]

    names = [f"tangent_{name}" for name, type in zip(call.names, call.types, strict=True) if is_float(type.dtype)]
    return trace_flat(f"{call.name}_jvp", function, [*call.types, *tangents], [*call.names, *names], call.arrays)


def _reverse(owner: _Owner) -> tuple[Traced | None, Traced | None]:
    """The rule of reverse mode: of operands, the results and what the pullback reads; and the pullback."""
    call, rule = owner.call, owner.call.ruled.vjp
    if rule is None:
        return None, None
    given = Given(f"the vjp rule of {call.ruled.__name__}", rule)
    found: list[Traced] = []

    def function(tracers: list[Tracer]) -> Any:
        _enter(owner)
        value, pullback = given.pair(rule(*call.args(tracers)), "pullback")
        if not callable(pullback):
            raise given.error(ArgumentError, f"returns (value, pullback), and pullback is {_kind(pullback)}")
        values = given.values(value, owner.types, owner.body.out_tree)
        found[:] = [_pullback(owner, pullback)]
        return [*values, *found[0].captures]

    traced = trace_flat(f"{call.name}_fwd", function, call.types, call.names, call.arrays)
    return traced, found[0]


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _pullback(owner: _Owner, pullback: Callable[..., Any]) -> Traced:
    call = owner.call
    given = Given(f"the pullback of {call.ruled.__name__}", pullback)
    types: list[Array | None] = [None] * len(call.leaves)
    for i in call.moving:
        types[i] = type_of(call.leaves[i])
    count = len(call.tree.children())

    def function(tracers: list[Tracer]) -> Any:
        waiting = iter(tracers)
        leaves = [
            next(waiting) if is_float(type.dtype) else np.zeros(type.shape, type.dtype)[()] for type in owner.types
        ]
        found = pullback(optree.tree_unflatten(owner.body.out_tree, leaves))
        if not isinstance(found, tuple | list) or len(found) != count:
            shown = _kind(found) + (f" of {len(found)}" if isinstance(found, tuple | list | dict) else "")
            raise given.error(
                ArgumentError,
                f"returns {shown}, and not a tuple with a gradient, or None, for each argument"
                f"{': write (g,)' if count == 1 else f', of which there are {count}'}",
            )
        return given.changes(tuple(found), types, call.tree, "gradients", "the argument")

    names = [f"cotangent{i}" for i in range(len(owner.changes))]
    return trace_flat(f"{call.name}_bwd", function, owner.changes, names)


def _enter(owner: _Owner) -> None:
    trace = current_trace()
    assert trace is not None
    trace.rule = owner


# -- the node ----------------------------------------------------------------------------------------------------------


def _emitted(owner: _Owner, attrs: Attrs) -> Any:
    return lower.emit("call", *owner.call.operands, *owner.captures, **attrs)


def _attrs(owner: _Owner, rules: _Rules) -> Attrs:
    call, captures = owner.call, owner.captures
    count = len(call.moving)
    body = _entered(owner.body.graph, owner.body.captures, captures, count, 0)
    attrs: dict[str, Any] = {"given": count, "body": body}
    if rules.jvp is not None:
        attrs["jvp"] = _entered(rules.jvp.graph, rules.jvp.captures, captures, count, len(call.floats))
    if rules.fwd is not None and rules.bwd is not None:
        attrs["fwd"] = _entered(rules.fwd.graph, rules.fwd.captures, captures, count, 0)
        bwd, cotangents = rules.bwd.graph, len(owner.changes)
        attrs["bwd"] = closed(
            bwd.name, (*bwd.inputs[cotangents:], *bwd.inputs[:cotangents]), bwd.nodes, bwd.outputs
        )  # fmt: skip
    return attrs


def _entered(graph: Graph, own: Sequence[Tracer], captures: Sequence[Tracer], given: int, more: int) -> Graph:
    """A graph whose inputs are `given` arguments, `more` tangents and its `own` captures, as one with all captures
    between arguments and tangents."""
    inputs = dict(zip(map(lower.lift, own), graph.inputs[given + more :], strict=True))
    between: list[Node] = []
    for i, tracer in enumerate(captures):
        node = lower.lift(tracer)
        between.append(inputs.get(node) or new_input(graph, "outside", node.array_type, i))
    entered = (*graph.inputs[:given], *between, *graph.inputs[given : given + more])
    return closed(graph.name, entered, graph.nodes, graph.outputs)
