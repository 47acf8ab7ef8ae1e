"""`cond` and `switch`: of several functions one runs.

Inside of a trace each is traced, and becomes a loop of one turn or none, which carries the results:

    %2 = cast %p dtype=i64
    %3 = scan 0.0, %x, %2 length=1 carried=1 counted body=if_true     # what if_true gives, or still zeros
    %4 = item %3 index=0
    %6 = sub 1, %2
    %7 = scan %4, %x, %6 length=1 carried=1 counted body=if_false     # what if_false gives, or still that

so nothing of a side that is not chosen runs, its checks not either. A result that a side makes of an operand by writing
into it begins as that operand, and not as zeros: it is written where it lies, and a side that gives it back has nothing
to do. Where the choice is known, that function is called as any other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from adjit.control import carry
from adjit.control.call import Tree, plain_or_tracer, tree, type_of_leaf
from adjit.control.flags import flag_of
from adjit.control.operands import Operands, hoisted, needed, new_input
from adjit.control.traced import as_given, emitted, name_of
from adjit.ir.builder import Value
from adjit.ir.changes import begun_from
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.types import I64, Array
from adjit.trace import Traced, Tracer, inline, is_tracer, lower, trace_flat
from adjit.trace.refuse import located
from adjit.trace.returned import return_lines, returned
from adjit.trace.tracer import fresh, node_of
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from adjit_runtime.public import public

E = TypeVar("E", bound=AdjitError)


@public({"predicate": "pred", "true_fun": "if_true", "false_fun": "if_false", "true_fn": "if_true",
         "false_fn": "if_false", "condition": "pred"})  # fmt: skip
def cond(pred: Any, if_true: Callable[..., Any], if_false: Callable[..., Any], *operands: Any) -> Any:
    """`if_true(*operands)` where `pred` holds, else `if_false(*operands)`; the other function does not run.

    `pred` is one bool. `operands` and what the functions give are pytrees of arrays and numbers; both give the same
    structure, shapes and dtypes, but for Python's numbers, which take the dtype of the other side. What the functions
    read from outside need not be an operand. They may write into operands, which are copies, not into other arrays.

    In a traced function both are traced, and errors of values (an index out of range) are those of the side that runs.
    Where `pred` is known, and outside of a trace, it is a call of one of them. Raises DTypeError where `pred` is no
    bool and ShapeError where it is several, ShapeError, DTypeError and ArgumentError where the results differ.

    >>> import numpy as np, adjit
    >>> @adjit.jit
    ... def halved(x):
    ...     return adjit.cond(x.sum() > 10, lambda x: x / 2, lambda x: x, x)
    >>> halved(np.array([8.0, 4.0])).tolist(), halved(np.array([1.0, 2.0])).tolist()
    ([4.0, 2.0], [1.0, 2.0])
    """
    checks.function("cond: if_true", if_true)
    checks.function("cond: if_false", if_false)
    given = tree("cond", "operands", operands)
    holds = flag_of("cond: pred is one bool", pred, located)
    sides = (Side("cond", "if_true", if_true, given), Side("cond", "if_false", if_false, given))
    if not isinstance(holds, Tracer):
        return sides[not holds].called()
    flag = lower.builder().value(node_of(holds))
    return _traced(sides, lambda k: ~flag if k else flag)


@public({"branch_index": "index", "functions": "branches", "branch_fns": "branches"})
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`; the other functions do not run.

    `index` is an integer from 0 on: negative ones do not count from the end, and none is clipped. All else is as in
    `cond`. Raises IndexOutOfRange where there is no branch of that number, ArgumentError where index is no integer.

    >>> import numpy as np, adjit
    >>> activations = [np.tanh, lambda x: np.maximum(x, 0.0), np.positive]
    >>> adjit.switch(1, activations, np.array([-2.0, 3.0])).tolist()
    [0.0, 3.0]
    """
    if not isinstance(branches, list | tuple) or not branches:
        raise located(ArgumentError, f"switch: branches is a list of functions, not {checks.shown(branches)}")
    for number, function in enumerate(branches):
        checks.function(f"switch: branches[{number}]", function)
    given = tree("switch", "operands", operands)
    sides = [Side("switch", f"branches[{k}]", function, given) for k, function in enumerate(branches)]
    chosen = plain_or_tracer(index)
    text = f"switch: index is not one of 0 to {len(sides) - 1}, the numbers of the branches"
    if not is_tracer(chosen):
        number = checks.integer("switch: index", chosen)
        if not 0 <= number < len(sides):
            raise located(IndexOutOfRange, f"{text}: {number}")
        return sides[number].called()
    if chosen.shape or chosen.dtype.kind not in "iu":
        raise located(ArgumentError, f"switch: index is an integer, not {chosen.type}")
    at = _checked(lower.cast(chosen, I64), len(sides), text)
    return _traced(sides, at.eq)


def _checked(index: Tracer, count: int, text: str) -> Value:
    """The index, or an error at run time."""
    b = lower.builder()
    at = b.value(node_of(index))
    holds = (at >= 0) & (at < count)
    return b.value(b.emit("check_holds", at.node, holds.node, error="IndexOutOfRange", text=text))


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """One of the functions, and what it is called with."""

    loop: str
    name: str
    function: Callable[..., Any]
    operands: Tree

    def called(self) -> Any:
        """What the function gives, as arrays of its own."""
        copies = [_copied(leaf) for leaf in self.operands.leaves]
        found = self.results(self.operands.of(copies))
        return found.of([_copied(leaf) for leaf in found.leaves])

    def results(self, operands: Any) -> Tree:
        """What the function gives."""
        return carry.results(self, self.function(*operands), "result")


def _copied(leaf: Any) -> Any:
    if is_tracer(leaf):
        return lower.copy(leaf)
    return np.array(leaf) if isinstance(leaf, np.ndarray) else leaf


@dataclass(frozen=True, eq=False, slots=True)
class TracedSide:
    """A side, its graph, and the tree of what it gives."""

    side: Side
    traced: Traced
    found: Tree

    @property
    def given(self) -> list[Node]:
        """What its graph is given: operands, and what it reads from outside."""
        return list(map(lower.lift, (*self.side.operands.leaves, *self.traced.captures)))

    @property
    def types(self) -> list[Array]:
        """The types of the leaves."""
        return [node.array_type for node in self.traced.graph.outputs]


def _traced(sides: Sequence[Side], chosen: Callable[[int], Value]) -> Any:
    """The results of the side that is `chosen` when the program runs, of the trace under way."""
    traced = [_traced_side(side) for side in sides]
    types = _agreed(traced)
    found = traced[0].found
    if not types:
        return found.of([])
    leaves = joined(traced, types, chosen)
    return found.of([as_given(leaf, first) for leaf, first in zip(leaves, found.leaves, strict=True)])


def joined(sides: Sequence[TracedSide], types: Sequence[Array], chosen: Callable[[int], Value]) -> list[Tracer]:
    """The outputs, as values of `types`, of the side that is `chosen`."""
    b = lower.builder()
    graphs = [_converted(each, types) for each in sides]
    first = _beginnings(sides, graphs, types)
    leaves = [
        fresh(b.splat(0, type) if operand is None else operand) for operand, type in zip(first, types, strict=True)
    ]
    for number, (each, graph) in enumerate(zip(sides, graphs, strict=True)):
        count = b.cast(chosen(number), dtype=I64).node
        leaves = _if_counted(each, graph, first, leaves, count)
    return leaves


def _beginnings(sides: Sequence[TracedSide], graphs: Sequence[Graph], types: Sequence[Array]) -> list[Node | None]:
    """For each output the operand that a side changes to it, or gives back; None where there is none."""
    found: list[Node | None] = [None] * len(types)
    for each, graph in zip(sides, graphs, strict=True):
        given = dict(zip(graph.inputs, each.given, strict=True))
        for i, output in enumerate(graph.outputs):
            operand = given.get(begun_from(output))
            if found[i] is None and operand is not None and operand.type == types[i] and operand not in found:
                found[i] = operand
    return found


def _traced_side(side: Side) -> TracedSide:
    leaves = side.operands.leaves
    found: list[Tree] = []

    def call(given: list[Tracer]) -> Any:
        # Arrays of the side's own: operands may be changed in place.
        found.append(side.results(side.operands.of([lower.copy(leaf) for leaf in given])))
        return found[0].leaves

    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray)]
    types = list(map(type_of_leaf, leaves))
    traced = trace_flat(name_of(side.function), call, types, side.operands.names, arrays, part="branch")
    return TracedSide(side, traced, found[0])


def _converted(each: TracedSide, types: Sequence[Array]) -> Graph:
    """The graph of a side, with outputs of `types`."""
    graph = each.traced.graph
    if each.types == types:
        return graph

    def call(given: list[Tracer]) -> Any:
        outputs = zip(inline(graph, given), types, strict=True)
        return [lower.convert(x, type.dtype, type.shape, type.weak) for x, type in outputs]

    inputs = [node.array_type for node in graph.inputs]
    return trace_flat(graph.name, call, inputs, [node.attrs["name"] for node in graph.inputs]).graph


def _if_counted(
    each: TracedSide, graph: Graph, first: Sequence[Node | None], before: Sequence[Tracer], count: Node
) -> list[Tracer]:
    """What a side gives where `count` is 1; where it is 0, what was there before: that is `first` where the side runs,
    as no other one did."""
    carried = [new_input(graph, "before", leaf.type, i) for i, leaf in enumerate(before)]
    begun = {operand: inner for operand, inner in zip(first, carried, strict=True) if operand is not None}
    new = {inner: begun.get(operand, inner) for inner, operand in zip(graph.inputs, each.given, strict=True)}
    nodes = []
    for node in graph.nodes:
        new[node] = copy_node(node, [new[arg] for arg in node.args])
        nodes.append(new[node])
    outputs = [new[node] for node in graph.outputs]
    if outputs == carried:
        return list(before)
    body = closed(graph.name, [*carried, *graph.inputs], nodes, outputs)
    operands = Operands(body, tuple(map(node_of, before)), (), tuple(each.given), length=1)
    return emitted(needed(hoisted(lower.builder(), operands)), [count])


# -- what both sides give ---------------------------------------------------------------------------------------------


def _agreed(traced: Sequence[TracedSide]) -> list[Array]:
    """The types that all sides give, where Python's numbers take those of the others."""
    first = traced[0]
    types = first.types
    for number, other in enumerate(traced[1:], 1):
        if other.found.spec != first.found.spec:
            hint = " (a return is missing?)" if "None" in (carry.shown(first.found), carry.shown(other.found)) else ""
            before, now = carry.shown(first.found), carry.shown(other.found)
            raise _difference(ArgumentError, first, other, "result", before, f"{now}{hint}", "structure")
        known = traced[:number]
        types = [_common(known, other, place, before) for place, before in enumerate(types)]
    return types


def _common(known: Sequence[TracedSide], other: TracedSide, place: int, before: Array) -> Array:
    """The type of a leaf that is of type `before` in the `known` sides."""
    now = other.types[place]
    common = carry.common(before, now) if before.shape == now.shape else None
    if common is not None:
        return common
    first = next(each for each in known if each.types[place] == before)
    kind, what = (DTypeError, "dtype") if before.shape == now.shape else (ShapeError, "shape")
    return_ = "" if what == "shape" else f": return {_cast(now, before)}"
    path = other.found.paths[place]
    raise _difference(kind, first, other, path, carry.named(before), carry.named(now), what + return_)


def _cast(type: Array, wanted: Array) -> str:
    name = f"np.{wanted.dtype.name}"
    return f"{name}(value)" if type.weak or not type.shape else f"x.astype({name})"


def _difference(kind: type[E], first: TracedSide, other: TracedSide, path: str, before: str, now: str, what: str) -> E:
    lines = return_lines(first.side.function)
    where = f" ({lines})" if lines else ""
    return returned(
        kind,
        other.side.function,
        f"{other.side.loop}: {path} is {before} from {first.side.name}{where} and {now} from {other.side.name}; "
        f"whichever side runs gives the same {what}",
    )
