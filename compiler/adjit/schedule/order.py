"""The order of kernels: any order that the dependencies allow, chosen for the smallest peak memory, then locality.

A greedy list schedule: of the groups that are ready the one that frees the most bytes, net of what it makes, goes
first; ties go to the order of the graph. So a dead activation's readers are brought forward.

What only counts (steps, powers of the optimiser's decay) then goes as late as it can: a program may be left, for a
signal, ahead of its first write to state.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from adjit.schedule.arena import ALIGN, read, written
from adjit.schedule.group import Group, Grouping
from adjit.schedule.plan import Buffer, Kernel, Loop

_Rank = tuple[int, int]


def order_groups(grouping: Grouping) -> list[Group]:
    """The groups of `grouping`, each after all that it depends on."""
    groups = grouping.groups
    reads = {group: {node for node in grouping.reads(group) if node in grouping.group_of} for group in groups}
    foreign = {group: {n for n in reads[group] if grouping.group_of[n] is not group} for group in groups}
    readers_left: dict[object, int] = {}
    for group in groups:
        for node in foreign[group]:
            readers_left[node] = readers_left.get(node, 0) + 1
    made = {
        group: sum(node.array_type.nbytes for node in group.members if readers_left.get(node, 0)) for group in groups
    }
    live_bits = 0
    for group in groups:
        live_bits |= 1 << group.number
    waiting = list(groups)
    done = 0
    order: list[Group] = []
    while waiting:
        ready = [group for group in waiting if group.ancestors & live_bits & ~done == 0]
        if not ready:
            raise RuntimeError("the groups of a plan depend on each other in a circle")
        best = max(ready, key=lambda g: (_freed(g, foreign, readers_left) - made[g], -g.number))
        for node in foreign[best]:
            readers_left[node] -= 1
        order.append(best)
        waiting.remove(best)
        done |= 1 << best.number
    return order


def _freed(group: Group, foreign: dict[Group, set], readers_left: dict[object, int]) -> int:  # type: ignore[type-arg]
    return sum(node.array_type.nbytes for node in foreign[group] if readers_left[node] == 1)


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
