"""Which new values of state a kernel may write where the old ones lie: known of its group, ahead of every kernel.

That is so where each element of the old value is read for the new one in its place alone, ahead of it
(`Work.overwrites_safely`). Mostly a look at what reads the old value shows it; where it is read through movement, or
goes into a reduction, the group's body is written for its addresses. Others are copied to the state at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adjit.ir.node import Node
from adjit.ops.declare import Bodied, Elementwise
from adjit.schedule.body import BodyBuilder, Placement, collapse_greedily
from adjit.schedule.buffer import Buffer
from adjit.schedule.group import Group, Grouping
from adjit.schedule.maps import contiguous_strides
from adjit.schedule.plan import Kernel
from adjit.schedule.work import Loop


class Overwriting:
    """Asks the groups of `grouping`; `updates` are pairs of state and its new value."""

    def __init__(self, grouping: Grouping, updates: Sequence[tuple[Node, Node]]) -> None:
        self._grouping = grouping
        self._updates = updates
        self._state = {target: Buffer("", target.dtype, math.prod(target.shape)) for target, _ in updates}
        self._kernels: dict[Group, Kernel | None] = {}

    def is_safe(self, target: Node, value: Node) -> bool:
        """Whether the kernel that makes `value` may write it where `target` lies."""
        group, read_for = self._grouping.group_of[value], self._grouping.read_for
        if any(isinstance(node.op, Bodied) for node in group.members):
            # What a loop carries on is read nowhere else (`memory`).
            return True
        if group.kind == "scatter":
            # What else it reads is read where it has written already; but one element is written when all is read.
            is_read = any(target in read_for(arg) for arg in value.args[1:])
            return not is_read or math.prod(value.args[-1].shape) == 1
        readers = [node for node in group.members if any(target in read_for(arg) for arg in node.args)]
        if not readers:
            return True
        if any(node.op.kind == "contraction" for node in (value, *readers)):
            return False
        level = group.members[value]
        are_alike = all(group.members[node] == level and self._reads_alike(node, target) for node in readers)
        if are_alike and 0 not in group.space and (group.reduced is None or level == "row"):
            return True
        if group not in self._kernels:
            self._kernels[group] = self._kernel(group)
        kernel = self._kernels[group]
        return kernel is None or kernel.work.overwrites_safely(kernel.params, self._state[target])

    def _reads_alike(self, node: Node, target: Node) -> bool:
        """Whether a node reads each element of `target` for the one of its own in the same place."""
        waiting = [node]
        while waiting:
            reader = waiting.pop()
            if not isinstance(reader.op, Elementwise):
                return False
            waiting += [arg for arg in reader.args if arg is not target and target in self._grouping.read_for(arg)]
        return True

    def _kernel(self, group: Group) -> Kernel | None:
        """What a group computes, and writes of state, as a loop; None where it lacks memory: another round will ask."""
        elsewhere = Buffer("", next(iter(group.members)).dtype, 0)
        placements = {node: _dense(node, self._state.get(node, elsewhere)) for node in self._grouping.reads(group)}
        builder = BodyBuilder(group, group.space, placements)
        builder.tile_of = next((node for node in group.members if node.op.kind == "contraction"), None)
        # In their order, as the members of a long chain would be reached by a deep recursion.
        for node in sorted(group.members, key=self._grouping.position.__getitem__):
            builder.value(node, builder.map_of(node))
        for target, value in self._updates:
            if value in group.members:
                map_ = builder.map_of(value)
                builder.store(builder.value(value, map_), _dense(value, self._state[target]), map_, value.dtype)
        if builder.lacking:
            return None
        return Kernel(Loop(collapse_greedily(builder.body(group.reduced or ()))), tuple(builder.params))


def _dense(node: Node, buffer: Buffer) -> Placement:
    return Placement(buffer, 0, contiguous_strides(node.shape))
