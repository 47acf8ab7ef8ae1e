"""A value that is another one with parts changed may lie where that lay: elements written at indices, what a loop
carries, a part joined with the rest.

    %1 = scatter %0, %i, %v            %2 = concatenate (slice %0 to :4), %v, (slice %0 from 5:)

Only what changed is written then, however large the rest is. `Memory` says where nothing reads the old value later."""

from __future__ import annotations

from adjit.ir.axes import Along, is_linear, joins, leads_to, relation_of, without_ones
from adjit.ir.builder import ITEM
from adjit.ir.node import Node


def begun_from(node: Node) -> Node:
    """The value of which `node` is one that was changed, step after step; itself where there is none."""
    node = value_of(node)
    while (before := changed(node)) is not None:
        node = before
    return node


def changed(node: Node) -> Node | None:
    """The value that `node` is with parts changed, whatever its shape."""
    if node.op.kind == "scatter":
        return value_of(node.args[0])
    if node.op is ITEM:
        return _carried_in(node)
    return _joined_anew(node) if joins(node) else None


def is_left(node: Node, number: int) -> bool:
    """Whether operand `number` of a join is what stood in its place before."""
    return _stands_in_place(node, number) and _has_memory(value_of(node.args[number].args[0]))


def changed_in_place(node: Node, number: int) -> Node | None:
    """Of a join whose operand `number` is what stood in its place before, with elements changed: what changes them."""
    part = value_of(node.args[number])
    if part.op.kind != "scatter" or without_ones(part.shape) != without_ones(node.args[number].shape):
        return None
    return part if _stands_in_place(node, number, value_of(all_changes(part)[-1].args[0])) else None


def all_changes(part: Node) -> list[Node]:
    """The nodes that change elements one after another, from the last, `part`, to the first."""
    found = [part]
    while (before := value_of(found[-1].args[0])).op.kind == "scatter":
        found.append(before)
    return found


def what_is_left(node: Node, number: int) -> Node | None:
    """The slice that operand `number` of a join is, or is with elements changed, if it stood in its place."""
    changes = changed_in_place(node, number)
    if changes is not None:
        return value_of(all_changes(changes)[-1].args[0])
    return node.args[number] if is_left(node, number) else None


def place_before(part: Node) -> Node:
    """The value in whose place such a node changes elements."""
    return value_of(value_of(all_changes(part)[-1].args[0]).args[0])


def value_of(node: Node) -> Node:
    """What a node has the elements of, in another shape or its own."""
    while is_linear(node):
        node = node.args[0]
    return node


def _carried_in(item: Node) -> Node | None:
    """What a loop began with, unless it reads that elsewhere, too."""
    (loop,) = item.args
    index = item.attrs["index"]
    if loop.op.kind != "scan" or index >= loop.attrs.get("carried", 0):
        return None
    first = value_of(loop.args[index])
    return first if sum(leads_to(arg, first) for arg in loop.args) == 1 else None


def _joined_anew(node: Node) -> Node | None:
    """The value of which most is left in a join."""
    sizes: dict[Node, int] = {}
    for number, part in enumerate(node.args):
        changes = changed_in_place(node, number)
        if changes is not None:
            value = place_before(changes)
        elif is_left(node, number):
            value = value_of(part.args[0])
        else:
            continue
        sizes[value] = sizes.get(value, 0) + part.array_type.size
    return max(sizes, key=sizes.__getitem__) if sizes else None


def _stands_in_place(node: Node, number: int, source: Node | None = None) -> bool:
    """Whether operand `number` of a join, or its `source`, is a slice of a value of the join's shape from its place."""
    part = node.args[number] if source is None else source
    axis = node.attrs.get("axis", 0)
    relation = relation_of(part)
    if relation is None or len(part.args) != 1 or part.args[0].shape != node.shape:
        return False
    at = sum(arg.shape[axis] for arg in node.args[:number])
    return relation.operands == (tuple(Along(i, at if i == axis else 0) for i in range(len(node.shape))),)


def _has_memory(value: Node) -> bool:
    """Whether a value has memory in any plan."""
    return not value.is_splat and (value.op.kind in ("leaf", "scatter") or value.op is ITEM or joins(value))
