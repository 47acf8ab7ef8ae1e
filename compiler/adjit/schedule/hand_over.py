"""hand_over: operations behind a product that only its readers need are left to them.

    kernel 0 product -> %1                          kernel 0 product -> %1
      epilogue  %2 = div %1, %s                     kernel 1 loop, sums of rows
                %3 = mul %2, %x            =>         %2 = div %1, %s
                store %1, %2, %3                      %3 = mul %2, %x
    kernel 1 loop, sums of rows                       %4 = sum %3 ...
      %4 = sum %3 ...

Operations on elements join the group of the product that they read (`Grouping`), or of the sum over windows, as what
they read is in registers there. Where loops that come later read several of their values, all of these go through
memory; the loops then compute them of the product, where that costs less (`tuned.MEMORY_BYTE_COST`): a loop computes
them once in each of its passes."""

from __future__ import annotations

from collections.abc import Iterable

from adjit.ir.node import Node
from adjit.ops.declare import Elementwise
from adjit.schedule.counts import operations_of_node
from adjit.schedule.group import SAME, Group, Grouping
from adjit.tuned import CACHE_BYTE_COST, KERNEL_MEMBERS, MEMORY_BYTE_COST, MEMORY_BYTES

Readers = dict[Node, list[Group]]


def hand_over(grouping: Grouping) -> None:
    """Move operations on elements to the groups that read their values, where that takes less time."""
    readers: Readers = {}
    for group in grouping.groups:
        for node in grouping.reads(group):
            readers.setdefault(node, []).append(group)
    for group in grouping.groups:
        if group.kind == "product" or any(map(grouping.sums_windows, group.members)):
            _hand_over(grouping, group, readers)


def _hand_over(grouping: Grouping, group: Group, readers: Readers) -> None:
    moved = _moved(grouping, group, readers)
    after = {each: dict(each.members) for each in dict.fromkeys((group, *moved.values()))}
    for node, target in moved.items():
        after[target][node] = after[group].pop(node)
    if not moved or any(len(members) > KERNEL_MEMBERS for members in after.values()):
        return
    elsewhere = {node for node, others in readers.items() if any(each not in after for each in others)}
    elsewhere |= grouping.stored
    before = _bytes(grouping, [each.members for each in after], elsewhere)
    spared = before - _bytes(grouping, after.values(), elsewhere)
    if spared <= 0:
        return
    byte_cost = MEMORY_BYTE_COST if before > MEMORY_BYTES else CACHE_BYTE_COST
    again = sum(operations_of_node(node) * (_passes(grouping, target) - 1) for node, target in moved.items())
    if spared * byte_cost > again:
        for node, target in reversed(moved.items()):
            grouping.move(node, target)
        for each in after:
            for node in grouping.reads(each):
                if each not in (others := readers.setdefault(node, [])):
                    others.append(each)


def _moved(grouping: Grouping, group: Group, readers: Readers) -> dict[Node, Group]:
    """The members that only other groups need, each with the one that is to compute it; users come first."""
    users: dict[Node, list[Node]] = {}
    for member in group.members:
        for read in {read for arg in member.args for read in grouping.read_for(arg)}:
            users.setdefault(read, []).append(member)
    found: dict[Node, Group] = {}
    for node in sorted(group.members, key=grouping.position.__getitem__, reverse=True):
        within = users.get(node, ())
        if not _may_move(grouping, node) or any(user not in found for user in within):
            continue
        wanted = {*readers.get(node, ()), *(found[user] for user in within)} - {group}
        target = _first(grouping, wanted)
        if target is not None and _may_compute(grouping, target, node):
            found[node] = target
            for other in sorted(wanted - {target}, key=lambda each: each.number):
                grouping.order_after(other, target)
    return found


def _may_move(grouping: Grouping, node: Node) -> bool:
    return isinstance(node.op, Elementwise) and node not in grouping.stored and not grouping.sums_windows(node)


def _first(grouping: Grouping, groups: set[Group]) -> Group | None:
    """The group that comes before all others or may do so."""
    free = [each for each in groups if not any(grouping.depends_on(each, other) for other in groups)]
    return min(free, key=lambda each: each.number, default=None)


def _may_compute(grouping: Grouping, group: Group, node: Node) -> bool:
    """Whether a loop goes over the elements of a value, and reads each where it would be computed."""
    if group.kind != "loop" or group.space != node.shape:
        return False
    return all(grouping.relations(member).get(node, {SAME}) == {SAME} for member in group.members)


def _passes(grouping: Grouping, group: Group) -> int:
    """How often a loop goes over its elements: once more where what it reduces them to is read for each of them."""
    at: dict[Node, int] = {}
    for node in sorted(group.members, key=grouping.position.__getitem__):
        inside = [leaf for leaf in grouping.relations(node) if leaf in at]
        full = group.members[node] == "full" or node.op.kind in ("reduction", "argreduction")
        at[node] = max((at[leaf] + (full and group.members[leaf] == "row") for leaf in inside), default=0)
    return max(at.values(), default=0) + 1


def _bytes(grouping: Grouping, groups: Iterable[dict[Node, str]], elsewhere: set[Node]) -> int:
    """What groups of these members read and write, where other groups read what is `elsewhere`."""
    reads = [
        {read for node in members for arg in node.args for read in grouping.read_for(arg)} - members.keys()
        for members in groups
    ]
    wanted = elsewhere.union(*reads)
    written = [node for members in groups for node in members if node in wanted]
    return sum(node.array_type.nbytes for node in (*written, *(read for each in reads for read in each)))
