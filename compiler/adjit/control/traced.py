"""A loop inside of a trace is one node, `scan`, whose body is the user's function, traced once.

Arrays that are carried are the body's own, and may be written; elements of `xs` are arguments, which may not. Tracers
of enclosing traces that the function closes over are operands, and so are the large arrays that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.control import carry
from adjit.control.call import Call, Tree, type_of_leaf
from adjit.control.operands import Operands, hoisted, needed
from adjit.control.parts import Progression, progression_of, read_in_parts
from adjit.ir.node import Node
from adjit.ir.types import COMPILED_DTYPES, I64, Array
from adjit.trace import Traced, Tracer, is_tracer, lower, trace_flat
from adjit.trace.integers import bound
from adjit.trace.locate import locate
from adjit.trace.tracer import array_of, fresh, plain_of, python_number


@dataclass(frozen=True, eq=False, slots=True)
class _Body:
    """A traced body, the types of its carry, and the structure of what it stacks."""

    traced: Traced
    types: list[Array]
    ys: optree.PyTreeSpec


def run(call: Call) -> tuple[Any, Any]:
    """(carry, ys) of the trace under way."""
    body = _traced(call)
    count = len(body.types)
    given = zip(call.init.leaves, body.types, strict=True)
    carried = [lower.lift(lower.convert(leaf, type.dtype, type.shape, type.weak)) for leaf, type in given]
    sliced, progressions = _sliced(call)
    captured = [lower.lift(tracer) for tracer in body.traced.captures]
    operands = Operands(body.traced.graph, tuple(carried), tuple(sliced), tuple(captured), call.length)
    b = lower.builder()
    operands = needed(read_in_parts(b, hoisted(b, operands), progressions))
    leaves = _emitted(operands, call) if operands.body.outputs else []
    last = [_as_given(leaf, first) for leaf, first in zip(leaves[:count], call.init.leaves, strict=True)]
    stacked = [lower.c_ordered(leaf) for leaf in leaves[count:]]
    return call.init.of(last), optree.tree_unflatten(body.ys, stacked)


def empty(call: Call) -> tuple[list[Array], optree.PyTreeSpec, list[Array]]:
    """The types of the carry, and structure and types of what is stacked, of a loop that runs no turn."""
    body = _traced(call)
    outputs = body.traced.graph.outputs[len(body.types) :]
    return body.types, body.ys, [node.array_type for node in outputs]


def _emitted(operands: Operands, call: Call) -> list[Tracer]:
    b = lower.builder()
    b.loc = locate()
    counts = {"carried": len(operands.carried), "sliced": len(operands.sliced)}
    found: list[Tracer] = lower.emit(
        "scan", *map(fresh, operands.nodes), body=operands.body, length=call.length, reverse=call.reverse, **counts
    )
    return found


def _as_given(leaf: Tracer, first: Any) -> Tracer:
    """What is carried out, as what was carried in: an array, a scalar, or a number of Python."""
    if leaf.type.weak:
        return python_number(leaf)
    return lower.c_ordered(array_of(leaf) if isinstance(first, np.ndarray) else leaf)


def _sliced(call: Call) -> tuple[list[Node], dict[int, Progression]]:
    """The nodes of which a turn has a part each, and those among them that hold evenly spaced integers."""
    if call.counter is not None:
        found: list[Any] = [Progression(call.counter.start, call.counter.step, I64)]
    else:
        found = [_progression(leaf) or leaf for leaf in call.xs.leaves]
    nodes = [_spread(x, call.length) if isinstance(x, Progression) else lower.lift(x) for x in found]
    return nodes, {i: x for i, x in enumerate(found) if isinstance(x, Progression)}


def _spread(x: Progression, length: int) -> Node:
    """The integers as an array, which the program counts and does not hold."""
    b = lower.builder()
    node = b.emit("iota", shape=(length,), axis=0, dtype=x.dtype)
    for op, value, neutral in (("mul", x.step, 1), ("add", x.start, 0)):
        if value != neutral:
            node = b.emit(op, node, b.splat(value, node.array_type))
    return node


def _progression(leaf: Any) -> Progression | None:
    plain = plain_of(leaf) if is_tracer(leaf) else leaf
    if not isinstance(plain, np.ndarray) or plain.dtype not in COMPILED_DTYPES:
        return None
    found = progression_of(plain)
    return found if found is not None and found.step else None


def _traced(call: Call) -> _Body:
    """The body, with the types that the carry has before and after a turn."""
    types = [type_of_leaf(leaf) for leaf in call.init.leaves]
    while True:
        body = _of_types(call, types)
        if body.types == types:
            return body
        types = body.types


def _of_types(call: Call, types: list[Array]) -> _Body:
    """The body for a carry of `types`, and the types that it should have."""
    count = len(types)
    elements = [Array(I64, (), True)] if call.counter is not None else list(map(_element, call.xs.leaves))
    names = [*call.init.names, *(["i"] if call.counter is not None else call.xs.names)]
    arrays = [i for i, leaf in enumerate(call.init.leaves) if isinstance(leaf, np.ndarray)]
    found: list[tuple[list[Array], optree.PyTreeSpec]] = []

    def turn(leaves: list[Tracer]) -> Any:
        # Arrays of the body's own: what is carried may be changed in place.
        now = call.init.of([lower.copy(leaf) for leaf in leaves[:count]])
        new, y = call.turn(now, _x(call, leaves[count:]))
        after, stacked = carry.results(call, new, "carry"), carry.results(call, y, "y")
        wanted = carry.settled(call, types, after)
        found.append((wanted, stacked.spec))
        return [] if wanted != types else [*_fitted(after, types), *stacked.leaves]

    traced = trace_flat(_name(call), turn, [*types, *elements], names, arrays, repeats=True)
    wanted, spec = found[0]
    return _Body(traced, wanted, spec)


def _x(call: Call, leaves: Sequence[Tracer]) -> Any:
    if call.counter is None:
        return call.xs.of(leaves)
    if call.counter:
        bound(leaves[0], call.counter[0], call.counter[-1])
    return leaves[0]


def _fitted(after: Tree, types: Sequence[Array]) -> list[Tracer]:
    pairs = zip(after.leaves, types, strict=True)
    return [lower.convert(leaf, type.dtype, type.shape, type.weak) for leaf, type in pairs]


def _element(leaf: Any) -> Array:
    found = type_of_leaf(leaf)
    return Array(found.dtype, found.shape[1:])


def _name(call: Call) -> str:
    """The name of the body's graph: the function's, where it is one in a text."""
    name = str(getattr(call.function, "__name__", "body"))
    return name if name.isidentifier() else "body"
