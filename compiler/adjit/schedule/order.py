"""The order of kernels: any order that the dependencies allow, chosen for the smallest peak memory, then locality.

A greedy list schedule: of the groups that are ready the one that frees the most bytes, net of what it makes, goes
first; ties go to the order of the graph. So a dead activation's readers are brought forward.

What only counts (steps, powers of the optimiser's decay) then goes as late as it can: a program may be left, for a
signal, ahead of its first write to state.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence, Set

from adjit.ir.node import Node
from adjit.schedule.arena import read, written
from adjit.schedule.buffer import Buffer
from adjit.schedule.group import Group, Grouping
from adjit.schedule.plan import Kernel
from adjit.schedule.work import Loop
from adjit_runtime.errors import InternalError
from adjit_runtime.program import ALIGN

_Rank = tuple[int, int]


def order_groups(grouping: Grouping) -> list[Group]:
    """The groups of `grouping`, each after all that it depends on."""
    groups = grouping.groups
    foreign = {
        group: [node for node in grouping.reads(group) if grouping.group_of.get(node, group) is not group]
        for group in groups
    }
    readers: dict[Node, dict[Group, None]] = {}
    for group in groups:
        for node in foreign[group]:
            readers.setdefault(node, {})[group] = None
    made = {group: sum(node.array_type.nbytes for node in group.members if node in readers) for group in groups}
    missing = {group: len(group.before) for group in groups}
    # What gains by waiting is entered again: an entry with an earlier gain comes later, and then is done.
    ready = [(_loss(group, foreign, readers, made), group.number, group) for group in groups if not missing[group]]
    heapq.heapify(ready)
    order: dict[Group, None] = {}
    while ready:
        _, _, best = heapq.heappop(ready)
        if best in order:
            continue
        order[best] = None
        changed: dict[Group, None] = {}
        for node in foreign[best]:
            del readers[node][best]
            if len(readers[node]) == 1:
                changed.update(readers[node])
        for group in best.after:
            missing[group] -= 1
            changed[group] = None
        for group in changed:
            if not missing[group]:
                heapq.heappush(ready, (_loss(group, foreign, readers, made), group.number, group))
    if len(order) < len(groups):
        raise InternalError("the groups of a plan depend on each other in a cycle")
    return list(order)


def _loss(
    group: Group,
    foreign: Mapping[Group, Sequence[Node]],
    readers: Mapping[Node, Mapping[Group, None]],
    made: Mapping[Group, int],
) -> int:
    """Bytes that are in use once `group` has run and were not before."""
    return made[group] - sum(node.array_type.nbytes for node in foreign[group] if len(readers[node]) == 1)


def delay_small(kernels: Sequence[Kernel], state: Set[Buffer]) -> list[Kernel]:
    """The same kernels, those that write state, and have nothing but small buffers, right ahead of what depends on
    them; and so those small ones that do.

    Large ones stay where they are, and with them the peak of memory."""
    late: set[Kernel] = set()
    theirs: set[Buffer] = set()
    for kernel in kernels:
        small = isinstance(kernel.work, Loop) and all(buffer.nbytes <= ALIGN for buffer, _ in kernel.params)
        new = written(kernel)
        if small and (new & state or read(kernel) & theirs):
            late.add(kernel)
            theirs |= new
    ranks: dict[Kernel, _Rank] = {}
    # The first of the later kernels that reads or writes a buffer, and the first that writes it.
    touched: dict[Buffer, _Rank] = {}
    renewed: dict[Buffer, _Rank] = {}
    end = (len(kernels), 0)
    for number, kernel in reversed(list(enumerate(kernels))):
        new, old = written(kernel), read(kernel)
        rank = (number, 0)
        if kernel in late:
            users = [*(touched.get(buffer, end) for buffer in new), *(renewed.get(buffer, end) for buffer in old)]
            # Ahead of all that were put there before, as it came ahead of them.
            rank = (min(users, default=end)[0], number - len(kernels))
        ranks[kernel] = rank
        for buffer in new | old:
            touched[buffer] = min(rank, touched.get(buffer, end))
        for buffer in new:
            renewed[buffer] = min(rank, renewed.get(buffer, end))
    return sorted(kernels, key=ranks.__getitem__)
