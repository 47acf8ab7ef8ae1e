"""From a Python function to a graph (`trace_flat`), and back into a trace (`inline`, `apply`).

The boundary of errors is here: what leaves a trace carries the user's file and line, and where NumPy put an error of
its own before ours, ours is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from adjit.trace import checks, constructors, exchange, lower, refuse
from adjit.trace.context import Trace, current_trace, tracing
from adjit.trace.frozen import exchanged
from adjit.trace.handle import c_strides, common_shape
from adjit.trace.promote import resolve, type_of
from adjit.trace.root import Root
from adjit.trace.tracer import Tracer, array_of, fresh, is_tracer, make, node_of, python_number
from adjit_runtime.errors import AdjitError, ArgumentError, ShapeError
from adjit_runtime.guests import tree_flatten, tree_map
from adjit_runtime.public import public


@dataclass(frozen=True, eq=False, slots=True)
class Traced:
    """A graph, the tree of its outputs, and the values of enclosing traces that became its trailing inputs. `tables`
    are the numbers of inputs that were marked as such."""

    graph: Graph
    out_tree: optree.PyTreeSpec
    captures: list[Tracer]
    tables: tuple[int, ...] = ()


def trace_flat(
    name: str,
    call: Callable[[list[Tracer]], Any],
    types: Sequence[Array],
    names: Sequence[str],
    arrays: Collection[int] = (),
    part: str = "",
) -> Traced:
    """Trace `call`, which takes a list of tracers of `types` and returns a pytree. The inputs that `arrays` numbers
    stand for arrays without dimensions; others that have none are scalars. `part` says that the graph is the body of a
    "loop" or "branch", so that known arrays of enclosing traces, which would be written once, are not to be written.

    Leaves of the result that are no tracers become constants. A live tracer of an enclosing trace that `call` closes
    over becomes an extra input after the others, and stands in `captures`.
    """

    def traced(trace: Trace) -> Traced:
        return _traced(trace, call, types, names, arrays)

    if current_trace() is not None:
        return tracing(name, traced, part)
    made: Traced = exchanged(tracing, name, traced, part)
    return made


def _traced(
    trace: Trace,
    call: Callable[[list[Tracer]], Any],
    types: Sequence[Array],
    names: Sequence[str],
    arrays: Collection[int],
) -> Traced:
    constructors.install()
    exchange.install()
    given = enumerate(zip(names, types, strict=True))
    inputs = [_input(trace, name, type, is_array=i in arrays) for i, (name, type) in given]
    try:
        leaves, tree = _flattened(call(inputs))
        outputs = checks.tied(trace, [lower.lift(leaf) for leaf in leaves])
    except AdjitError as error:
        raise refuse.relocated(error) from None
    except Exception as error:
        found = refuse.ours(error) or trace.refusal
        if found is None:
            raise
        raise found from None
    if trace.refusal is not None:
        raise refuse.swallowed(trace.refusal)
    graph = closed(trace.name, trace.builder.inputs, trace.builder.nodes, outputs)
    # A capture holds the value that was read: a later change in place of its array is none of the inner graph's.
    held = [make(Root(owner, outer), (), outer, None, scalar=True) for outer, (_, owner) in trace.captures.items()]
    tables = [i for i, node in enumerate(graph.inputs) if node in trace.tables and node not in _captured(trace)]
    if tables and trace.parent is not None:
        raise refuse.located(ArgumentError, _NO_TABLE)
    return Traced(graph, tree, held, tuple(tables))


_NO_TABLE = (
    "sparse=True is for a parameter of the loss of a training step: here the table is an argument of a loop, or of a "
    "function that is differentiated or batched within another one; leave it out there"
)


def _captured(trace: Trace) -> set[Node]:
    return {inner for inner, _ in trace.captures.values()}


def mark_table(table: Tracer) -> bool:
    """Note that a table is updated row by row where a training step is traced: an input of the trace, also where a part
    of the program sees it from inside. False for what is none."""
    node, trace = node_of(table), current_trace()
    while trace is not None and node in trace.builder.inputs:
        trace.tables.add(node)
        outside = {inner: (outer, owner) for outer, (inner, owner) in trace.captures.items()}
        if node not in outside:
            return True
        node, trace = outside[node]
    return False


def _input(trace: Trace, name: str, type: Array, *, is_array: bool) -> Tracer:
    readonly = f"the argument `{name}`"
    tracer = fresh(trace.builder.input(name, type), readonly=readonly)
    if is_array:
        return array_of(tracer, readonly)
    return python_number(tracer) if type.weak else tracer


def _flattened(result: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    try:
        return tree_flatten(result)
    except RecursionError:
        raise refuse.trace_error("the tree of results is nested too deep, or holds itself") from None


def inline(graph: Graph, args: Sequence[Any]) -> list[Tracer]:
    """Copy the nodes of a graph into the current trace, with `args` for its inputs."""
    if len(args) != len(graph.inputs):
        raise refuse.trace_error(f"@{graph.name} takes {len(graph.inputs)} arguments, not {len(args)}")
    nodes = [_fit(graph, node, x) for node, x in zip(graph.inputs, args, strict=True)]
    b = lower.builder()
    return [fresh(node) for node in b.inline(graph, nodes)]


def _fit(graph: Graph, target: Node, x: Any) -> Node:
    """`x` as a value of the type of an input."""
    wanted, found = target.array_type, type_of(x)
    if wanted.shape != found.shape:
        raise refuse.shape_error(f"@{graph.name}: the input %{target.attrs['name']} is {wanted}, not {found}")
    if wanted.dtype != found.dtype and not found.weak:
        raise refuse.dtype_error(f"@{graph.name}: the input %{target.attrs['name']} is {wanted}, not {found}")
    return lower.lift(lower.convert(x, wanted.dtype, wanted.shape, wanted.weak))


def apply(op_name: str, *operands: Any, **attrs: Any) -> Any:
    """An op on tracers, or on plain values by NumPy; elementwise operands are broadcast and promoted as in NumPy."""
    op = OPS[op_name]
    traced = any(map(is_tracer, operands))
    if not isinstance(op, Elementwise):
        return (
            lower.emit(op_name, *operands, **attrs)
            if traced
            else _scalar(op.evaluate(*map(np.asarray, operands), **attrs))
        )
    if op_name == "cast":
        return lower.cast(operands[0], attrs["dtype"]) if traced else _scalar(op.evaluate(*operands, **attrs))
    if op_name == "select":
        return lower.select(*operands) if traced else _scalar(np.where(*operands))
    rule = _rule(op)
    if traced:
        return lower.elementwise(op_name, *operands, ufunc=rule)
    dtypes = resolve(rule, [type_of(x) for x in operands])
    arrays = [np.asarray(x, dtype=dtype) for x, dtype in zip(operands, dtypes, strict=False)]
    shape = common_shape(*(array.shape for array in arrays))
    return _scalar(op.evaluate(*(np.broadcast_to(array, shape) for array in arrays), **attrs))


def _rule(op: Elementwise) -> np.ufunc:
    """The ufunc whose promotion an op follows."""
    if op.arity == 1:
        return np.exp if op.accepts == "f" else np.positive
    return np.arctan2 if op.accepts == "f" else np.add


def _scalar(value: Any) -> Any:
    """A 0-d result as NumPy's scalar."""
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


@public({"object": "x", "dtype": "write asarray(x).astype(dtype)"})
def asarray(x: Any) -> Any:
    """`x` as an array that traced values can index: inside a traced function a constant of the graph, else an ndarray.

    Lists of traced values are stacked. Raises ShapeError for lists of different lengths."""
    if is_tracer(x):
        return x
    if current_trace() is None:
        try:
            return np.asarray(x)
        except ValueError as error:
            raise ShapeError(f"asarray: x is no array: {error}") from None
    if isinstance(x, list | tuple):
        return lower.as_tracer(x)
    array = np.asarray(x)
    return fresh(lower.lift(array), c_strides(array.shape), readonly="a plain array")


@public()
def stop_gradient(x: Any) -> Any:
    """`x`, through which no derivative flows. Takes any pytree."""
    return tree_map(_stopped, x)


def _stopped(x: Any) -> Any:
    return lower.emit("stop_gradient", x) if is_tracer(x) else x
