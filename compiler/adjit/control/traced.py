"""A loop inside of a trace is one node, `scan`, whose body is the user's function, traced once.

Arrays that are carried are the body's own, and may be written; elements of `xs` are arguments, which may not. Tracers
of enclosing traces that the function closes over are operands, and so are the large arrays that it reads. Ahead of what
the user carries there may be one value more: whether there is another turn, or the counter of turns whose number is
not known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.control import carry
from adjit.control.call import Call, Tree, type_of_leaf
from adjit.control.operands import Operands, hoisted, needed
from adjit.control.parts import Progression, progression_of, read_in_parts
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import BOOL, COMPILED_DTYPES, I64, Array
from adjit.trace import Traced, Tracer, checks, is_tracer, lower, trace_flat
from adjit.trace.integers import bound
from adjit.trace.locate import locate
from adjit.trace.tracer import array_of, fresh, node_of, plain_of, python_number


@dataclass(frozen=True, eq=False, slots=True)
class _Body:
    """A traced body, the types of its carry, the structure of what it stacks, and whether its last output are checks
    that it has made (`trace.checks`)."""

    traced: Traced
    types: list[Array]
    ys: optree.PyTreeSpec
    checked: bool


def run(call: Call) -> tuple[Any, Any]:
    """(carry, ys) of the trace under way."""
    body = _traced(call)
    count = len(body.types)
    given = zip(call.init.leaves, body.types, strict=True)
    start = [lower.convert(leaf, type.dtype, type.shape, type.weak) for leaf, type in given]
    lead = _lead(call, start)
    carried, graph = [*lead, *map(lower.lift, start)], body.traced.graph
    if body.checked:
        graph = _handing_on_checks(graph, len(carried))
        carried.append(lower.builder().splat(0, Array(I64)))
    sliced, progressions = _sliced(call)
    captured = [lower.lift(tracer) for tracer in body.traced.captures]
    operands = Operands(graph, tuple(carried), tuple(sliced), tuple(captured), call.length)
    b = lower.builder()
    operands = needed(read_in_parts(b, hoisted(b, operands), progressions))
    leaves = _emitted(operands, call)[len(lead) :] if operands.body.outputs else []
    if body.checked:
        checks.keep(leaves.pop(count))
    last = [as_given(leaf, first) for leaf, first in zip(leaves[:count], call.init.leaves, strict=True)]
    stacked = [lower.c_ordered(leaf) for leaf in leaves[count:]]
    return call.init.of(last), optree.tree_unflatten(body.ys, stacked)


def empty(call: Call) -> tuple[list[Array], optree.PyTreeSpec, list[Array]]:
    """The types of the carry, and structure and types of what is stacked, of a loop that runs no turn."""
    body = _traced(call)
    outputs = body.traced.graph.outputs[len(body.types) :]
    outputs = outputs[:-1] if body.checked else outputs
    return body.types, body.ys, [node.array_type for node in outputs]


def _emitted(operands: Operands, call: Call) -> list[Tracer]:
    count = [call.count()] if call.count is not None else []
    kept = 0 if call.kept is None else call.kept.count(call.length, operands.bytes_carried)
    return emitted(operands, count, reverse=call.reverse, stops=call.goes_on is not None, checkpoints=kept)


def emitted(
    operands: Operands, count: Sequence[Node], *, reverse: bool = False, stops: bool = False, checkpoints: int = 0
) -> list[Tracer]:
    """The results of a loop, whose turns a `count` may count, and of which a gradient may keep so many carries."""
    lower.builder().loc = locate()
    attrs = {"carried": len(operands.carried), "sliced": len(operands.sliced), "reverse": reverse}
    # What is not said of a loop is not so, and most loops are told in few words.
    said = {"stops": stops, "counted": bool(count), "checkpoints": checkpoints}
    ways = {name: value for name, value in said.items() if value}
    nodes = map(fresh, (*operands.nodes, *count))
    found: list[Tracer] = lower.emit("scan", *nodes, body=operands.body, length=operands.length, **attrs, **ways)
    return found


_LEAD = {"goes_on": Array(BOOL), "i": Array(I64, (), True)}
"""What may be carried ahead of what the user carries."""


def _lead_name(call: Call) -> list[str]:
    return ["goes_on"] if call.goes_on is not None else ["i"] if call.first is not None else []


def _lead(call: Call, start: Sequence[Tracer]) -> list[Node]:
    """What is carried ahead into the first turn."""
    if call.first is not None:
        return [lower.lift(lower.convert(call.first, I64, (), weak=True))]
    return [] if call.goes_on is None else [lower.lift(_goes_on(call, call.goes_on, start))]


def _renewed(call: Call, before: Sequence[Tracer], carried: Sequence[Tracer]) -> list[Any]:
    """What is carried ahead into the next turn, where a turn found `before` and leaves `carried`."""
    if call.first is not None:
        b = lower.builder()
        node = node_of(before[0])
        # It wraps after a last turn at most, and nothing reads it then.
        return [fresh(b.emit("add", node, b.splat(1, node.array_type)))]
    return [] if call.goes_on is None else [_goes_on(call, call.goes_on, carried)]


def _goes_on(call: Call, condition: Callable[[Any], bool | Tracer], carried: Sequence[Tracer]) -> Tracer | np.bool_:
    """Whether there is another turn; what is carried is not to be written there."""
    given = [_to_read(leaf, first) for leaf, first in zip(carried, call.init.leaves, strict=True)]
    found = condition(call.init.of(given))
    return found if isinstance(found, Tracer) else np.bool_(found)


def _to_read(leaf: Tracer, first: Any) -> Tracer:
    readonly = "what cond is given"
    found = fresh(node_of(leaf), readonly=readonly)
    if found.type.weak:
        return python_number(found)
    return array_of(found, readonly) if isinstance(first, np.ndarray) else found


def as_given(leaf: Tracer, first: Any) -> Tracer:
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
    lead = _lead_name(call)
    elements = [Array(I64, (), True)] if call.counter is not None else list(map(_element, call.xs.leaves))
    names = [*lead, *call.init.names, *(["i"] if call.counter is not None else call.xs.names)]
    arrays = [i for i, leaf in enumerate(call.init.leaves, len(lead)) if isinstance(leaf, np.ndarray)]
    found: list[tuple[list[Array], optree.PyTreeSpec, bool]] = []

    def turn(leaves: list[Tracer]) -> Any:
        ahead, leaves = leaves[: len(lead)], leaves[len(lead) :]
        # Arrays of the body's own: what is carried may be changed in place.
        now = call.init.of([lower.copy(leaf) for leaf in leaves[:count]])
        new, y = call.turn(now, _x(call, ahead if call.first is not None else leaves[count:]))
        after, stacked = carry.results(call, new, "carry"), carry.results(call, y, "y")
        wanted = carry.settled(call, types, after)
        if wanted != types:
            checks.dropped()
            found.append((wanted, stacked.spec, False))
            return []
        carried = _fitted(after, types)
        leaves = [*_renewed(call, ahead, carried), *carried, *stacked.leaves]
        place = checks.taken()
        found.append((wanted, stacked.spec, place is not None))
        return leaves if place is None else [*leaves, place]

    given = [*(_LEAD[name] for name in lead), *types, *elements]
    traced = trace_flat(name_of(call.function), turn, given, names, arrays, part="loop")
    wanted, spec, checked = found[0]
    return _Body(traced, wanted, spec, checked)


def _handing_on_checks(graph: Graph, place: int) -> Graph:
    """A body whose last output are checks, which carries those of all turns at this place."""
    b = Builder.after(graph)
    before = b.input("checks", Array(I64))
    b.inputs.insert(place, b.inputs.pop())
    *outputs, made = graph.outputs
    outputs.insert(place, b.emit("maximum", before, made))
    return closed(graph.name, b.inputs, b.nodes, outputs)


def _x(call: Call, leaves: Sequence[Tracer]) -> Any:
    if call.limits is not None:
        bound(leaves[0], *call.limits)
    return call.xs.of(leaves) if call.counter is None and call.first is None else leaves[0]


def _fitted(after: Tree, types: Sequence[Array]) -> list[Tracer]:
    pairs = zip(after.leaves, types, strict=True)
    return [lower.convert(leaf, type.dtype, type.shape, type.weak) for leaf, type in pairs]


def _element(leaf: Any) -> Array:
    found = type_of_leaf(leaf)
    return Array(found.dtype, found.shape[1:])


def name_of(function: Callable[..., Any]) -> str:
    """The name of a body's graph: the function's, where it is one in a text."""
    name = str(getattr(function, "__name__", "body"))
    return name if name.isidentifier() else "body"
