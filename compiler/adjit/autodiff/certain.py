"""is_everywhere: whether a condition that no value decides holds at some place along axes, wherever one looks.

A causal mask is made of numbers of rows and columns alone. Each row of it has a place that holds, and so has each
column: what a product sums along either is never dead as a whole, so that no guard need go on through it. The condition
is computed here, by NumPy, without the axes along which it is repeated."""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.graph import topological
from adjit.ir.node import Node
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from adjit.tuned import CERTAIN_ELEMENTS, CERTAIN_NODES


def is_everywhere(condition: Node, along: tuple[int, ...]) -> bool:
    """Whether `condition` is known, and holds at some place along these axes wherever one is along the others. False
    where that would take long to find out."""
    made_of = _made_of_nothing(condition)
    if made_of is None:
        return False
    values: dict[Node, np.ndarray] = {}
    for node in made_of:
        found = _evaluated(node, [values[arg] for arg in node.args])
        if math.prod(_once(found).shape) > CERTAIN_ELEMENTS:
            return False
        values[node] = found
    axes = [axis for axis in along if condition.shape[axis]]
    return len(axes) == len(along) and bool(_once(values[condition]).any(axis=along).all())


def _made_of_nothing(condition: Node) -> list[Node] | None:
    """The nodes that a condition is made of, each after its operands, if there are few and none is a value."""
    found: dict[Node, None] = {}
    waiting = [condition]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        plain = node.op.kind in ("creation", "movement") or isinstance(node.op, Elementwise)
        if not (node.is_splat or plain) or not isinstance(node.type, Array) or len(found) == CERTAIN_NODES:
            return None
        found[node] = None
        waiting += node.args
    return list(topological([condition]))


def _evaluated(node: Node, args: list[np.ndarray]) -> np.ndarray:
    """The value of a node, repeated where it is without more memory."""
    if node.is_splat:
        return np.broadcast_to(np.asarray(node.attrs["value"], node.dtype), node.shape)
    if not isinstance(node.op, Elementwise):
        return np.asarray(node.op.evaluate(*args, **node.attrs))
    with np.errstate(all="ignore"):
        found = node.op.evaluate(*map(_once, args), **node.attrs)
    return np.broadcast_to(np.asarray(found), node.shape)


def _once(value: np.ndarray) -> np.ndarray:
    """A value without what repeats it: one element along axes whose stride is 0."""
    return value[tuple(slice(None, 1) if stride == 0 else slice(None) for stride in value.strides)]
