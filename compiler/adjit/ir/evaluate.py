"""Runs a graph with NumPy, node by node: the oracle of the tests and the user's stepping debugger.

`evaluate` gives the outputs; `evaluate_all` also what the updates make of the inputs. A value is dropped after its
last user, so that the memory needed is that of the values alive.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.builder import CONSTANT
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node
from adjit.ir.text import node_names, quoted
from adjit.ir.types import Array, Tuple, Type, dtype_name
from adjit_runtime.errors import ArgumentError, DTypeError, InternalError, ShapeError

Callback = Callable[[Node, Any], None]
Break = Callable[[Node, dict[str, Any]], None]


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """Results of a graph: `outputs` in order, and by the name of the input the new value of each one updated."""

    outputs: list[np.ndarray]
    updates: dict[str, np.ndarray]


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

    Raises ArgumentError for a wrong number of inputs or a constant that is not bound, ShapeError and DTypeError for an
    input that does not fit, IndexOutOfRange where NumPy would raise IndexError.
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
    outputs = [np.array(values[node]) for node in graph.outputs]
    return Evaluated(outputs, {str(to.attrs["name"]): np.array(values[node]) for to, node in graph.updates})


def _last_reads(graph: Graph) -> dict[Node, list[Node]]:
    """For each node the values that nothing reads after it."""
    dead: dict[Node, list[Node]] = {}
    seen = set(graph.roots)
    for node in reversed(graph.nodes):
        dead[node] = [value for value in {*node.args, node} if value not in seen]
        seen.update(node.args)
        seen.add(node)
    return dead


def _value(node: Node, values: dict[Node, Any]) -> Any:
    if node.op is CONSTANT:
        return _constant(node)
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
    data: Data = node.attrs["data"]
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
    array = np.asarray(value)
    if array.shape != type.shape:
        raise ShapeError(f"evaluate: input {name} has the shape {array.shape}, the graph wants {type}")
    if array.dtype != type.dtype:
        raise DTypeError(f"evaluate: input {name} is {dtype_name(array.dtype)}, the graph wants {type}")
    return array.astype(type.dtype, copy=False)


def _scalar(type: Array, name: str, value: bool | int | float) -> np.ndarray:
    """A Python scalar takes the dtype of a scalar input of its kind or of a wider one, as in NumPy."""
    kinds = "biuf" if isinstance(value, bool) else "iuf" if isinstance(value, int) else "f"
    if type.dtype.kind not in kinds:
        raise DTypeError(f"evaluate: input {name} is the {value.__class__.__name__} {value}, the graph wants {type}")
    return np.asarray(value, type.dtype)


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
