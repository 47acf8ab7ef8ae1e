"""Which new values of state a kernel may write where the old ones lie: known of its group, ahead of every kernel.

That is so where each element of the old value is read for the new one in its place alone, ahead of it
(`arena.overwrites_safely`). Mostly a look at what reads the old value shows it; where it is read through movement, or
goes into a reduction, the group's body is written for its addresses. Others are copied to the state at the end."""

from __future__ import annotations

import math

from adjit.ir.node import Node
from adjit.ops.declare import Elementwise
from adjit.schedule.arena import overwrites_safely
from adjit.schedule.body import BodyBuilder, Placement, collapse_greedily
from adjit.schedule.group import Group, Grouping
from adjit.schedule.maps import contiguous_strides
from adjit.schedule.plan import Buffer, Kernel, Loop


def may_overwrite(grouping: Grouping, target: Node, value: Node) -> bool:
    """Whether the kernel that makes `value` may write it where `target` lies."""
    group = grouping.group_of[value]
    if group.kind == "scatter":
        # What else it reads is read where it has written already; but one element is written when all is read.
        others = set().union(*(grouping.read_for(arg) for arg in value.args[1:]))
        return target not in others or math.prod(value.args[-1].shape) == 1
    readers = [node for node in group.members if any(target in grouping.read_for(arg) for arg in node.args)]
    if not readers:
        return True
    if any(node.op.kind == "contraction" for node in (value, *readers)):
        return False
    level = group.members[value]
    are_alike = all(group.members[node] == level and _reads_alike(grouping, node, target) for node in readers)
    if are_alike and 0 not in group.space and (group.reduced is None or level == "row"):
        return True
    return _overwrites(grouping, group, target, value)


def _reads_alike(grouping: Grouping, node: Node, target: Node) -> bool:
    """Whether a node reads each element of `target` for the one of its own in the same place."""
    waiting = [node]
    while waiting:
        reader = waiting.pop()
        if not isinstance(reader.op, Elementwise):
            return False
        waiting += [arg for arg in reader.args if arg is not target and target in grouping.read_for(arg)]
    return True


def _overwrites(grouping: Grouping, group: Group, target: Node, value: Node) -> bool:
    """What the group's body shows."""
    state, elsewhere = (Buffer("", node.dtype, math.prod(node.shape)) for node in (target, value))
    placements = {
        node: Placement(state if node is target else elsewhere, 0, contiguous_strides(node.shape))
        for node in grouping.reads(group)
    }
    builder = BodyBuilder(group, group.space, placements)
    builder.tile_of = next((node for node in group.members if node.op.kind == "contraction"), None)
    for node in sorted(group.members, key=grouping.position.__getitem__):
        builder.value(node, builder.map_of(node))
    map_ = builder.map_of(value)
    builder.store(builder.value(value, map_), Placement(state, 0, contiguous_strides(value.shape)), map_, value.dtype)
    if builder.lacking:
        return True  # not before that has memory
    body = collapse_greedily(builder.body(group.reduced or ()))
    return overwrites_safely(Kernel(Loop(body), tuple(builder.params)), state)
