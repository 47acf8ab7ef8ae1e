"""Graphs as text that parses back to the same text: `print_graph` here, `parse` in `ir.parse`.

graph @loss(%w: f32[2,8], %x: f32[4,2]) -> f32[] {
  %0 = contract %x, %w [ik,kj->ij] : f32[4,8]  # model.py:12
  %1 = maximum %0, 0.0 : f32[4,8]              # model.py:12
  %2 = sum %1 axes=(0,1) : f32[]
  return %2
  update %w = %7
}

Inputs keep their names, quoted where they are no plain word (`%"params['w1']"`); other nodes are numbered. A splat
constant stands at its uses, as `0.0:f32[4,8]`, or without its type where that is the node's; at a node that gives
bool it is that of the node's first named operand; in `return` and `update` that of the result or of the input. An
array of up to 16 elements is written out in C order, a larger one is `constant @c0 sha256=...`. Attributes print in
the order of the op's `attr_kinds`; a bool that is false and a count that is 0 are left out; subscripts stand in
brackets, without a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from adjit.ir.builder import SMALL_CONSTANT
from adjit.ir.graph import MOST_NESTED, Graph, set_printer, too_deep
from adjit.ir.node import Data, Node
from adjit.ir.parse import parse
from adjit.ir.quote import quote
from adjit.ir.types import BOOL, Array, Type, dtype_name

__all__ = [
    "array_text", "attribute_text", "bare_type", "literal", "node_names", "node_text", "parse", "print_graph", "quoted",
]  # fmt: skip

PLAIN = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
"""A name that needs no quotes; it begins with no digit, so that it is never the number of a node."""

HEADER_WIDTH = 110
"""A longer header has each input on a line of its own."""

COMMENT_COLUMN = 72
"""The column beyond which a long line does not push the comments of its neighbours."""


def print_graph(graph: Graph, *, locs: bool = True) -> str:
    """The text of `graph`, ending in a newline; without its lines of source where `locs` is false.

    ASCII but for the files of its lines. Raises FormatError where graphs lie too deep in one another."""
    return "\n".join(_graph_lines(graph, locs, {})) + "\n"


def node_text(node: Node, names: Mapping[Node, str]) -> str:
    """One node's line, without indentation; an argument that `names` does not have prints as `%?`."""
    return _node(node, names, False, {})


def node_names(graph: Graph) -> dict[Node, str]:
    """The name that each input and node has in the text of `graph`; splats have none."""
    names = {node: quoted("%", str(node.attrs["name"])) for node in graph.inputs}
    number = 0
    for node in graph.nodes:
        if not node.is_splat:
            names[node] = f"%{number}"
            number += 1
    return names


def quoted(sign: str, name: str) -> str:
    """`%name`, or `%"name"` where it is no plain word."""
    return sign + (name if PLAIN.fullmatch(name) else quote(name))


def literal(value: Any, dtype: np.dtype) -> str:
    """A scalar of `dtype`, exactly; the payload of a NaN is not kept."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind != "f":
        return str(int(value))
    value = float(value)
    if not math.isfinite(value):
        return str(value).removeprefix("-" if value != value else "")
    text = str(dtype.type(value))
    # The shortest text of a short float is read by way of float64, which may round once too often.
    return text if float(dtype.type(float(text))) == value else repr(value)


def bare_type(types: Iterable[Type | None], result: Type) -> Type:
    """The type that a literal without one has among operands of `types` (None for a literal) of a node of `result`."""
    if isinstance(result, Array) and result.dtype == BOOL:
        return next((type for type in types if type is not None), result)
    return result


def _signature(graph: Graph) -> list[str]:
    names = [f"{quoted('%', str(node.attrs['name']))}: {node.type}" for node in graph.inputs]
    results = [str(node.type) for node in graph.outputs]
    result = results[0] if len(results) == 1 else f"({', '.join(results)})"
    head = f"graph {quoted('@', graph.name)}({', '.join(names)}) -> {result} {{"
    if len(head) <= HEADER_WIDTH:
        return [head]
    inputs = [f"  {name}," for name in names[:-1]] + [f"  {name}" for name in names[-1:]]
    return [f"graph {quoted('@', graph.name)}(", *inputs, f") -> {result} {{"]


def _graph_lines(graph: Graph, locs: bool, data: dict[str, str], depth: int = 0) -> list[str]:
    if depth > MOST_NESTED:
        raise too_deep(graph.name)
    names = node_names(graph)
    lines = [(f"  {_node(node, names, locs, data, depth)}", node.loc) for node in graph.nodes if not node.is_splat]
    column = max((len(line) for line, _ in lines if len(line) <= COMMENT_COLUMN and "\n" not in line), default=0)
    text = _signature(graph)
    for line, loc in lines:
        commented = f"{line.ljust(column) if chr(10) not in line else line}  # {loc}"
        text += (commented if locs and loc is not None else line).split("\n")
    results = ", ".join(_operand(node, node.type, names) for node in graph.outputs)
    text.append(f"  return {results}".rstrip())
    text += [f"  update {names.get(to, '%?')} = {_operand(value, to.type, names)}" for to, value in graph.updates]
    text.append("}")
    return text


def _operand(node: Node, bare: Type, names: Mapping[Node, str]) -> str:
    if not node.is_splat:
        return names.get(node, "%?")
    text = literal(node.attrs["value"], node.dtype)
    return text if node.type == bare else f"{text}:{node.type}"


def _node(node: Node, names: Mapping[Node, str], locs: bool, data: dict[str, str], depth: int = 0) -> str:
    parts = [f"{names.get(node, '%?')} = {node.op.name}"]
    if node.args:
        bare = bare_type([None if arg.is_splat else arg.type for arg in node.args], node.type)
        parts.append(", ".join(_operand(arg, bare, names) for arg in node.args))
    for name, kind in node.op.attr_kinds.items():
        if name in node.attrs and not (kind in ("bool", "count") and not node.attrs[name]):
            parts.append(_attribute(name, kind, node, locs, data, depth))
    return f"{' '.join(parts)} : {node.type}"


def _attribute(name: str, kind: str, node: Node, locs: bool, data: dict[str, str], depth: int) -> str:
    value = node.attrs[name]
    if kind == "data":
        return _data(value, node.array_type, data)
    if kind in ("graph", "rule"):
        return f"{name}=" + "\n  ".join(_graph_lines(value, locs, data, depth + 1))
    if kind == "subscripts":
        return f"[{value}]"
    return f"{name}={attribute_text(kind, value)}"


def attribute_text(kind: str, value: Any) -> str:
    """The value of an attribute of a kind of `Op.attr_kinds` that is no data, graph or subscripts."""
    if kind == "ints":
        return f"({','.join(map(str, value))})"
    if kind == "dtype":
        return dtype_name(value)
    if kind == "str":
        return quote(value)
    return literal(value, np.asarray(np.asarray(value).item()).dtype)


def _data(data: Data, type: Array, printed: dict[str, str]) -> str:
    text = array_text(data, type)
    if text is not None:
        return text
    name = data.name
    # Graphs that were inlined into one another may each bring a constant of this name.
    count = 0
    while printed.setdefault(name, data.digest) != data.digest:
        count += 1
        name = f"{data.name}_{count}"
    return f"{quoted('@', name)} sha256={data.digest}"


def array_text(data: Data, type: Array) -> str | None:
    """The elements of a small array, in C order; None where it goes by its digest."""
    if data.array is None or type.size > SMALL_CONSTANT or not _is_plain(data.array):
        return None
    return f"[{', '.join(literal(value, type.dtype) for value in data.array.ravel())}]"


def _is_plain(array: np.ndarray) -> bool:
    """Whether the elements' literals give the same bytes; false for a NaN with a payload."""
    if array.dtype.kind != "f":
        return True
    nan = np.asarray(np.nan, array.dtype).tobytes()
    return all(x.tobytes() == nan for x in array.ravel() if x != x)


set_printer(print_graph)
