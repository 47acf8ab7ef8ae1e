"""Cotangents that were added up at computed places of zeros, which is what reads at indices give an array back.

    %0 = scatter_add 0.0, %i, %g      %1 = add %a, %0      =>      %1 = scatter_add %a, %i, %g

So a read costs what it reads, not what the array has. What lies around the places may be a part of the array: then that
part of the sum is cut out, added to, and put back. The sign of a zero that nothing is added to is that of the sum."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.ir.axes import is_linear
from adjit.ir.builder import Builder, Value
from adjit.ir.node import Node
from adjit.ops.declare import Indexing

Ints = Sequence[int]


def places_of(node: Node) -> list[Node]:
    """The nodes by which a value was added up at computed places of zeros, from the last to the first; none where it
    was not."""
    links: list[Node] = []
    while is_linear(node) or _adds(node) or axis_of_part(node) is not None:
        links.append(node)
        node = node.args[0]
    return links if node.is_splat and node.attrs["value"] == 0 and any(map(_adds, links)) else []


def added_at_places(b: Builder, total: Value, links: Sequence[Node]) -> Value:
    """`total`, and what `links` add to zeros."""
    wholes = []
    for link in links:
        wholes.append(total)
        if "low" in link.attrs:
            total = cut(b, total, link.attrs["low"], link.args[0].shape)
        else:
            total = reshaped(b, total, link.args[0].shape)
    for link, whole in zip(reversed(links), reversed(wholes), strict=True):
        if _adds(link):
            total = b.value(b.emit(link.op, total.node, *link.args[1:], **link.attrs))
        elif "low" in link.attrs:
            total = _put(b, whole, total, link)
        else:
            total = reshaped(b, total, whole.shape)
    return total


def axis_of_part(node: Node) -> int | None:
    """The axis along which a node puts its operand between zeros, where it is one."""
    gaps = node.attrs.get("interior")
    if gaps is None or any(gaps) or node.attrs["value"] != 0:
        return None
    axes = [i for i, (m, n) in enumerate(zip(node.args[0].shape, node.shape, strict=True)) if m != n]
    return axes[0] if len(axes) == 1 else None


def cut(b: Builder, whole: Value, low: Ints, shape: Ints) -> Value:
    """A part of a value from `low` on."""
    stop = tuple(i + n for i, n in zip(low, shape, strict=True))
    found: Value = b.slice(whole, start=tuple(low), stop=stop, step=(1,) * len(stop))
    return found


def cut_along(b: Builder, whole: Value, axis: int, start: int, stop: int) -> Value:
    """What lies between two places along an axis."""
    low = tuple(start if i == axis else 0 for i in range(len(whole.shape)))
    return cut(b, whole, low, tuple(stop - start if i == axis else n for i, n in enumerate(whole.shape)))


def reshaped(b: Builder, value: Value, shape: Ints) -> Value:
    """A value in a shape."""
    return value if value.shape == tuple(shape) else b.value(b.emit("reshape", value.node, shape=tuple(shape)))


def _adds(node: Node) -> bool:
    return isinstance(node.op, Indexing) and node.op.adds


def _put(b: Builder, whole: Value, part: Value, link: Node) -> Value:
    """`whole` with `part` where `link` puts it."""
    axis = axis_of_part(link)
    assert axis is not None
    start = link.attrs["low"][axis]
    stop = start + part.shape[axis]
    parts = [part.node]
    if start:
        parts.insert(0, cut_along(b, whole, axis, 0, start).node)
    if stop < whole.shape[axis]:
        parts.append(cut_along(b, whole, axis, stop, whole.shape[axis]).node)
    return b.value(b.emit("concatenate", *parts, axis=axis))
