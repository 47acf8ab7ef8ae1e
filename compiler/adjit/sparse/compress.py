"""The entries of a sparse derivative, as one graph: products with the sums of columns, and of rows, of one colour, and
from these the entries in the order of the pattern.

    %x -> %y            seeds (colours, n)   =>   jvp, batched over colours: (colours, m)   =>   take places: (entries)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adjit.autodiff.batch import placed
from adjit.autodiff.chunks import batch_in_chunks
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.linear import stopped
from adjit.autodiff.reverse import vjp
from adjit.ir.axes import joins, relation_of
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.types import F64, I64, Array
from adjit.sparse.colours import Colouring
from adjit.sparse.known import Known
from adjit.tuned import PRODUCT_ELEMENTS, SEEDS_APART


def compressed(graph: Graph, wrt: Sequence[int], values: int, colours: Colouring) -> Graph:
    """The graph of the entries of the Jacobian of the first `values` outputs by the inputs `wrt`, and of the other
    outputs."""
    b = Builder()
    inputs = [b.input(str(node.attrs["name"]), node.type) for node in graph.inputs]
    if graph.outputs:
        b.loc = graph.outputs[0].loc
    dtype = np.result_type(*(node.dtype for node in graph.outputs[:values])) if values else F64
    stop, flat, beside = stopped(graph, values), list[Value](), list[Node]()
    if colours.forward:
        made = _pushed(stop, wrt, values)
        beside, found = _products(b, made, inputs, len(graph.outputs) - values, colours.columns, colours.forward)
        flat.append(found)
    if colours.reverse:
        made = _pulled(stop, wrt, values)
        beside, found = _products(b, made, inputs, len(graph.outputs) - values, colours.rows, colours.reverse)
        flat.append(found)
    if not flat:
        beside = b.inline(graph, inputs)[values:]
    entries = _at_places(b, [b.cast(x, dtype=dtype) for x in flat], colours.places, Array(dtype, (0,)))
    return _with_seeds_moved(closed(f"{graph.name}_entries", b.inputs, b.nodes, [entries.node, *beside]))


def _pushed(graph: Graph, wrt: Sequence[int], values: int) -> Graph:
    """The outputs beside the values, then the values' tangents; the last inputs are those of `wrt`."""
    made, count = jvp(graph, wrt), len(graph.outputs)
    return closed(made.name, made.inputs, made.nodes, made.outputs[values : count + values])


def _pulled(graph: Graph, wrt: Sequence[int], values: int) -> Graph:
    """The same in reverse, from cotangents of the values."""
    made = vjp(graph, wrt)
    return closed(made.name, made.inputs[: len(graph.inputs) + values], made.nodes, made.outputs[values:])


def _products(
    b: Builder, made: Graph, inputs: Sequence[Node], beside: int, colours: np.ndarray, count: int
) -> tuple[list[Node], Value]:
    """What is beside the values, and the products for all colours, flat."""
    sizes = [x.array_type.size for x in made.outputs[beside:]]
    seeded = [node.array_type for node in made.inputs[len(inputs) :]]
    if count == 1 or (count <= SEEDS_APART and all(node.op.kind in _FUSED for node in made.nodes)):
        found, flat = [], list[Value]()
        for colour in range(count):
            found = b.inline(made, [*inputs, *_seeds(b, seeded, colours, colour)])
            flat += [b.reshape(b.value(x), shape=(n,)) for x, n in zip(found[beside:], sizes, strict=True)]
        return found[:beside], _joined(b, flat, 0)
    axes = [None] * len(inputs) + [0] * len(seeded)
    rows = [None] * beside + [0] * len(sizes)
    most = max(PRODUCT_ELEMENTS // max(sum(sizes), 1), 1)
    graph = placed(batch_in_chunks(made, axes, count, most), rows, count)
    found = b.inline(graph, [*inputs, *_seeds(b, seeded, colours, np.arange(count))])
    products = [b.reshape(b.value(x), shape=(count, n)) for x, n in zip(found[beside:], sizes, strict=True)]
    return found[:beside], b.reshape(_joined(b, products, 1), shape=(count * sum(sizes),))


_FUSED = frozenset({"elementwise", "movement", "leaf", "creation"})
"""Kinds of ops that become one loop with others."""


def _joined(b: Builder, parts: Sequence[Value], axis: int) -> Value:
    joined: Value = parts[0] if len(parts) == 1 else b.concatenate(*parts, axis=axis)
    return joined


def _seeds(b: Builder, types: Sequence[Array], colours: np.ndarray, wanted: int | np.ndarray) -> list[Node]:
    """For each colour that is wanted the sum of its unit vectors."""
    found, start = [], 0
    for type in types:
        own = colours[start : start + type.size].reshape(type.shape)
        start += type.size
        found.append(_marks(b, np.equal.outer(wanted, own), type.dtype))
    return found


def _marks(b: Builder, x: np.ndarray, dtype: np.dtype) -> Node:
    """A constant of zeros and ones: it is read from bytes."""
    return b.emit("cast", b.array(x.astype(np.uint8)), dtype=dtype)


def _with_seeds_moved(graph: Graph) -> Graph:
    """The graph, where what is made of seeds by movement that writes memory is a constant."""
    known, b = Known(graph, {}), Builder()
    b.inputs.extend(graph.inputs)
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes:
        b.loc = node.loc
        value = known.of(node) if node.args and _writes(node) else None
        if value is not None and np.isin(value, (0, 1)).all():
            new[node] = _marks(b, value, node.dtype)
        else:
            new[node] = b.keep(copy_node(node, [new[arg] for arg in node.args]))
    return closed(graph.name, b.inputs, b.nodes, [new[node] for node in graph.outputs])


def _writes(node: Node) -> bool:
    """Whether a node is movement that no index map does."""
    relation = relation_of(node)
    return joins(node) or (node.op.kind == "movement" and relation is not None and relation.filled)


def _at_places(b: Builder, flat: Sequence[Value], places: np.ndarray, none: Array) -> Value:
    if not flat or not len(places):
        return b.full(0.0, none)
    total = _joined(b, flat, 0)
    if np.array_equal(places, np.arange(total.shape[0])):
        return total
    # Half the bytes, where they do.
    narrow = places.astype(np.int32) if total.shape[0] <= np.iinfo(np.int32).max else places
    taken: Value = b.take(total, b.cast(b.value(b.array(narrow)), dtype=I64), axis=0)
    return taken
