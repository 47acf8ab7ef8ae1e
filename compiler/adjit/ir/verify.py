"""`verify` holds every invariant of a graph; whatever breaks one is a fault of the compiler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from adjit.ir.builder import CONSTANT, INPUT, ITEM
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Node
from adjit.ir.op import OPS
from adjit.ir.subscripts import Subscripts
from adjit.ir.text import node_names, node_text, print_graph
from adjit.ir.types import DTYPE_NAMES, Array, Tuple, Type
from adjit_runtime.errors import AdjitError, FormatError, InternalError

_DTYPES = frozenset(DTYPE_NAMES.values())


def verify(graph: Graph) -> None:
    """Raise InternalError, with the invariant, the node's text and the graph, unless all of these hold.

    - Inputs are nodes of op `input` without args, each with a name of its own.
    - Every other node is of a registered op, which is not `input`, and stands in the list once.
    - Args are inputs of this graph or stand earlier in the list: topological order, nothing from outside.
    - The number of args is the op's arity.
    - Attributes are those of `attr_kinds`, each of its kind; only a bool, a count or a rule may be missing.
    - The type is the one that the op's rule infers; dtypes are of the type system, extents are ints >= 0 that NumPy
      has arrays of, and only a scalar is weak; inputs are arrays.
    - A constant has either a value, a Python scalar that its dtype holds exactly, or data of its dtype and shape.
    - A tuple is read by `item` alone, within its length.
    - Outputs and new values of updates are in the graph.
    - An update's target is an input, updated once, by a value of exactly its type.
    - Nested graphs hold all of this by themselves, and lie at most `MOST_NESTED` deep in one another.
    """
    try:
        graph.check_nesting()
    except FormatError as error:
        raise InternalError(f"verify {error}") from None
    graphs, seen = [graph], {graph}
    while graphs:
        nested: list[Graph] = []
        _verify_one(graphs.pop(), nested)
        graphs += [inner for inner in dict.fromkeys(nested) if inner not in seen]
        seen.update(nested)


def _fail(graph: Graph, message: str, node: Node | None = None) -> NoReturn:
    place = "" if node is None or node.loc is None else f" at {node.loc}"
    try:
        names = node_names(graph)
        at = "" if node is None else f"\n    {names.get(node, '%?') if node.op is INPUT else node_text(node, names)}"
        text = print_graph(graph)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        # What is wrong may be what the printer needs.
        at, text = f"\n    {node!r}", "(the graph does not print)"
    raise InternalError(f"verify @{graph.name}: {message}{place}{at}\n\n{text}")


def _verify_one(graph: Graph, nested: list[Graph]) -> None:
    known: set[Node] = set()
    names: set[str] = set()
    for node in graph.inputs:
        if node.op is not INPUT or node.args:
            _fail(graph, "an input is no node of op input", node)
        if node in known:
            _fail(graph, "an input stands in the list twice", node)
        known.add(node)
        _verify_attributes(graph, node)
        _verify_type(graph, node)
        if not isinstance(node.type, Array):
            _fail(graph, "an input is a tuple", node)
        if node.attrs["name"] in names:
            _fail(graph, "two inputs have one name", node)
        names.add(node.attrs["name"])
    for node in graph.nodes:
        if OPS.get(node.op.name) is not node.op:
            _fail(graph, f"{node.op.name} is not in the registry", node)
        if node.op is INPUT:
            _fail(graph, "an input stands among the nodes", node)
        if node in known:
            _fail(graph, "a node stands in the list twice", node)
        if any(arg not in known for arg in node.args):
            _fail(graph, "an arg does not stand before its user", node)
        _verify_node(graph, node)
        known.add(node)
    nested += graph.nested()
    if any(root not in known for root in graph.roots):
        _fail(graph, "an output or update is not in the graph")
    _verify_updates(graph)


def _verify_node(graph: Graph, node: Node) -> None:
    if node.op.arity is not None and len(node.args) != node.op.arity:
        _fail(graph, f"{node.op.name} takes {node.op.arity} args, not {len(node.args)}", node)
    _verify_attributes(graph, node)
    _verify_type(graph, node)
    if node.op is CONSTANT:
        for problem in _constant_problems(node):
            _fail(graph, problem, node)
        return
    if node.op is not ITEM and any(isinstance(arg.type, Tuple) for arg in node.args):
        _fail(graph, "a tuple is read by another op than item", node)
    try:
        inferred: Type | str = node.op.infer(tuple(arg.type for arg in node.args), node.attrs)  # type: ignore[misc]
    except (AdjitError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
        inferred = str(error)
    if inferred != node.type:
        _fail(graph, f"the type rule gives {inferred}, the node has {node.type}", node)


def _verify_updates(graph: Graph) -> None:
    inputs, updated = frozenset(graph.inputs), set[Node]()
    for target, value in graph.updates:
        if target not in inputs:
            _fail(graph, "the target of an update is no input", target)
        if target in updated:
            _fail(graph, "an input is updated twice", target)
        updated.add(target)
        if target.type != value.type:
            _fail(graph, f"an update of {target.type} by {value.type}", target)


def _verify_type(graph: Graph, node: Node) -> None:
    for array in node.type.items if isinstance(node.type, Tuple) else (node.type,):
        if array.dtype not in _DTYPES:
            _fail(graph, f"{array.dtype} is no dtype of the type system", node)
        if any(type(n) is not int or n < 0 for n in array.shape):
            _fail(graph, f"{array.shape} is no shape", node)
        if array.problem:
            _fail(graph, array.problem, node)
        if array.weak and array.shape:
            _fail(graph, "a weak value is no scalar", node)


def _verify_attributes(graph: Graph, node: Node) -> None:
    kinds = node.op.attr_kinds
    for name, value in node.attrs.items():
        if name not in kinds:
            _fail(graph, f"{node.op.name} has no attribute {name!r}", node)
        if not _is_kind(value, kinds[name]):
            _fail(graph, f"attribute {name!r} is {value!r}, which is no {kinds[name]}", node)
    if node.op is CONSTANT:
        return
    for name, kind in kinds.items():
        if name not in node.attrs and kind not in ("bool", "count", "rule"):
            _fail(graph, f"the attribute {name!r} is missing", node)


def _is_kind(value: Any, kind: str) -> bool:
    match kind:
        case "int":
            return type(value) is int
        case "count":
            return type(value) is int and value >= 0
        case "ints":
            return type(value) is tuple and all(type(item) is int for item in value)
        case "bool":
            return type(value) is bool
        case "float":
            return type(value) is float
        case "str":
            return type(value) is str
        case "dtype":
            return isinstance(value, np.dtype) and value in _DTYPES
        case "scalar":
            return isinstance(value, bool | int | float)
        case "data":
            return isinstance(value, Data)
        case "graph" | "rule":
            return isinstance(value, Graph)
        case "subscripts":
            return isinstance(value, Subscripts)
    return False


def _constant_problems(node: Node) -> Iterator[str]:
    if not isinstance(node.type, Array) or len(node.attrs) != 1:
        yield "a constant is an array and has either a value or data"
    elif "value" in node.attrs:
        value, dtype = node.attrs["value"], node.dtype
        python = {"b": bool, "f": float}.get(dtype.kind, int)
        if type(value) is not python or not _holds(dtype, value):
            yield f"{dtype.name} does not hold {value!r}"
    else:
        array = node.attrs["data"].array
        if array is not None and Array(array.dtype, array.shape) != node.type:
            yield f"the data is {Array(array.dtype, array.shape)}"


def _holds(dtype: np.dtype, value: Any) -> bool:
    try:
        with np.errstate(all="ignore"):
            held = np.asarray(value, dtype).item()
    except OverflowError:
        return False
    return bool(held == value or (held != held and value != value))
