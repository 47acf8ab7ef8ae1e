"""Runs a graph with NumPy, node by node: the oracle of the tests and the user's stepping debugger.

`evaluate` gives the outputs; `evaluate_all` also what the updates make of the inputs. A value is dropped after its
last user, so that the memory needed is that of the values alive.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node
from adjit.ir.text import node_names, quoted
from adjit.ir.types import Array, Tuple, Type, dtype_name
from adjit_runtime import checks
from adjit_runtime.errors import (
    AdjitError,
    ArgumentError,
    DTypeError,
    IndexOutOfRange,
    InternalError,
    OutOfMemory,
    ShapeError,
    WeakOverflowError,
)
from adjit_runtime.public import public

Callback = Callable[[Node, Any], None]
Break = Callable[[Node, dict[str, Any]], None]


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """Results of a graph: `outputs` in order, and by the name of the input the new value of each one updated."""

    outputs: list[np.ndarray]
    updates: dict[str, np.ndarray]


@public()
def evaluate(
    graph: Graph,
    *inputs: Any,
    callback: Callback | None = None,
    breakpoint: str | int | None = None,
    on_break: Break | None = None,
) -> list[np.ndarray]:
    """The outputs of `graph` for `inputs`, always as a list of new arrays of exactly the graph's types.

    `callback(node, value)` is called after every node but the splat constants. With `breakpoint`, a line as
    `"model.py:12"` or `12`, `on_break(node, values)` is called before each node of that line, with the values that are
    alive by the names under which they print; without `on_break` Python's debugger starts there.

    Inputs are arrays, or Python numbers for scalars; a pytree is given leaf by leaf. Raises ArgumentError for a wrong
    number of inputs, what is no array, or a constant that is not bound, ShapeError and DTypeError for an input that
    does not fit, FormatError for graphs too deep in one another, and what the compiled program raises, with the user's
    line: IndexOutOfRange where NumPy would raise IndexError, WeakOverflowError for OverflowError, OutOfMemory.

    >>> import numpy as np, adjit
    >>> f = adjit.jit(lambda x: x + 1)
    >>> adjit.evaluate(f.ir("trace", np.zeros(2)), np.ones(2))
    [array([2., 2.])]
    """
    return evaluate_all(graph, *inputs, callback=callback, breakpoint=breakpoint, on_break=on_break).outputs


def evaluate_all(
    graph: Graph,
    *inputs: Any,
    callback: Callback | None = None,
    breakpoint: str | int | None = None,
    on_break: Break | None = None,
) -> Evaluated:
    """Like `evaluate`, with the updated inputs; the arrays that were given are not written to."""
    _check_options(graph, callback, breakpoint, on_break)
    graph.check_nesting()
    if len(inputs) != len(graph.inputs):
        wanted = ", ".join(str(node.attrs["name"]) for node in graph.inputs)
        raise ArgumentError(f"@{graph.name} takes {len(graph.inputs)} inputs ({wanted}), not {len(inputs)}")
    values: dict[Node, Any] = {node: _checked(node, value) for node, value in zip(graph.inputs, inputs, strict=True)}
    dead = _last_reads(graph)
    stop = (on_break or _debugger) if breakpoint is not None else None
    names = node_names(graph) if stop is not None else {}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if stop is not None and _is_at(node, breakpoint):
                stop(node, {name: values[value] for value, name in names.items() if value in values})
            values[node] = _value(node, values)
            if callback is not None and not node.is_splat:
                callback(node, values[node])
            for value in dead.get(node, ()):
                values.pop(value, None)
    outputs = [_owned(node, values) for node in graph.outputs]
    return Evaluated(outputs, {str(to.attrs["name"]): _owned(node, values) for to, node in graph.updates})


def _check_options(graph: Any, callback: Any, breakpoint: Any, on_break: Any) -> None:
    if not isinstance(graph, Graph):
        raise ArgumentError(
            f"evaluate: graph is a Graph, as f.ir(stage) and adjit.parse give it, not {checks.kind(graph)}"
        )
    for name, function in (("callback", callback), ("on_break", on_break)):
        if function is not None:
            checks.function(f"evaluate: {name}", function)
    if breakpoint is not None and (isinstance(breakpoint, bool) or not isinstance(breakpoint, str | int)):
        raise ArgumentError(
            f'evaluate: breakpoint is a line, 12 or "model.py:12", or None, not {checks.shown(breakpoint)}'
        )


def _last_reads(graph: Graph) -> dict[Node, list[Node]]:
    """For each node the values that nothing reads after it."""
    dead: dict[Node, list[Node]] = {}
    seen = set(graph.roots)
    for node in reversed(graph.nodes):
        dead[node] = [value for value in {*node.args, node} if value not in seen]
        seen.update(node.args)
        seen.add(node)
    return dead


def _owned(node: Node, values: dict[Node, Any]) -> np.ndarray:
    try:
        return np.array(values[node])
    except MemoryError as error:
        raise _located(node, error) from None


_FAMILY: dict[type[Exception], type[AdjitError]] = {
    IndexError: IndexOutOfRange, MemoryError: OutOfMemory, OverflowError: WeakOverflowError, TypeError: DTypeError,
    ValueError: ShapeError,
}  # fmt: skip
"""What an exception of NumPy is in the family."""


def _located(node: Node, error: Exception) -> AdjitError:
    """An error of a node as one of the family, with the user's line in its text as in that of a compiled program."""
    if isinstance(error, AdjitError) and "loc" in error.__dict__:
        return error
    kind = next((ours for raw, ours in _FAMILY.items() if isinstance(error, raw)), InternalError)
    text = str(error) if isinstance(error, AdjitError) else f"{node.op.name}: {error}"
    found = (type(error) if isinstance(error, AdjitError) else kind)(f"{node.loc}: {text}" if node.loc else text)
    found.__dict__["loc"] = node.loc
    return found


def _value(node: Node, values: dict[Node, Any]) -> Any:
    try:
        result = _constant(node) if node.op is CONSTANT else _applied(node, values)
    except InternalError:
        raise
    except Exception as error:
        raise _located(node, error) from error
    return result


def _applied(node: Node, values: dict[Node, Any]) -> Any:
    result = node.op.evaluate(*(values[arg] for arg in node.args), **node.attrs)
    if isinstance(node.type, Tuple):
        items = tuple(np.asarray(item) for item in result)
        found: Type = Tuple(tuple(Array(item.dtype, item.shape) for item in items))
        wanted: Type = Tuple(tuple(item.strong for item in node.type.items))
        result = items
    else:
        result = np.asarray(result)
        found, wanted = Array(result.dtype, result.shape), node.type.strong
    if found != wanted:
        raise InternalError(f"evaluate: {node.op.name} at {node.loc} gives {found}, where its type rule says {wanted}")
    return result


def _constant(node: Node) -> np.ndarray:
    if node.is_splat:
        return np.broadcast_to(np.asarray(node.attrs["value"], node.dtype), node.shape)
    return array_of(node.attrs["data"])


def array_of(data: Data) -> np.ndarray:
    """A constant's array; raises ArgumentError where a text left it unbound."""
    if data.array is None:
        raise ArgumentError(
            f"the constant {quoted('@', data.name)} is not bound; write parse(text, constants={{{data.name!r}: array}})"
        )
    return data.array


def _checked(node: Node, value: Any) -> np.ndarray:
    type = node.array_type
    name = node.attrs["name"]
    if isinstance(value, bool | int | float) and not type.shape:
        return _scalar(type, name, value)
    array = _array(name, value)
    if array.shape != type.shape:
        raise ShapeError(f"evaluate: input {name} has the shape {array.shape}, the graph wants {type}")
    if array.dtype.newbyteorder("=") != type.dtype:
        raise DTypeError(f"evaluate: input {name} is {dtype_name(array.dtype)}, the graph wants {type}")
    return array.astype(type.dtype, copy=False)


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except AdjitError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"evaluate: input {name} is no array: {error}") from None
    if array.dtype == object:
        raise ArgumentError(
            f"evaluate: input {name} is a {value.__class__.__name__}, not an array; the leaves of a pytree are given "
            "one by one"
        )
    return array


def _scalar(type: Array, name: str, value: bool | int | float) -> np.ndarray:
    """A Python scalar takes the dtype of a scalar input of its kind or of a wider one, as in NumPy."""
    kinds = "biuf" if isinstance(value, bool) else "iuf" if isinstance(value, int) else "f"
    if type.dtype.kind not in kinds:
        raise DTypeError(f"evaluate: input {name} is the {value.__class__.__name__} {value}, the graph wants {type}")
    try:
        with np.errstate(over="ignore"):
            scalar = np.asarray(value, type.dtype)
    except OverflowError:
        scalar = None
    if scalar is None or (np.isinf(scalar) and not math.isinf(value)):
        raise WeakOverflowError(f"evaluate: input {name}: {value} does not fit {dtype_name(type.dtype)}")
    return scalar


def _is_at(node: Node, line: str | int | None) -> bool:
    loc = node.loc
    if loc is None:
        return False
    if isinstance(line, int):
        return loc.line == line
    return str(line) in (str(loc), f"{loc.file}:{loc.line}")


def _debugger(node: Node, values: dict[str, Any]) -> None:
    """Look at `node` and `values`; `c` goes on to the next node of the line."""
    builtins.breakpoint()
