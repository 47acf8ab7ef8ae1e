"""A tile's plan as the work of one kernel of the plan around it."""

from __future__ import annotations

from collections.abc import Collection

from adjit.ir.node import Node
from adjit.schedule.arena import read, storage, written
from adjit.schedule.plan import CheckRange, Plan, Step, Straight, Tiles
from adjit.schedule.verify import verify_plan


def tiles_of(inner: Plan, count: int, cut: Collection[int], sums: int) -> Tiles:
    """The kernels of `inner` for each of `count` tiles.

    The parameters are the slots of `inner` in order, then its arena; those numbered in `cut` move on by the size of
    the slot with each tile, the others stay. Slots from `sums` on are written."""
    verify_plan(inner)
    arena = len(inner.slots)
    assert not inner.constants
    steps = []
    reads: set[int] = set()
    writes: set[int] = set()
    sizes = {buffer.slot: buffer.nbytes for buffer in inner.buffers if buffer.slot is not None}
    for kernel in inner.kernels:
        assert not isinstance(kernel.work, CheckRange | Tiles | Straight)
        params = []
        for buffer, offset in kernel.params:
            home = storage(buffer)
            start = offset * buffer.dtype.itemsize
            if home.slot is None:
                params.append((arena, home.offset + start, 0))
            else:
                params.append((home.slot, start, sizes[home.slot] if home.slot in cut else 0))
        steps.append(Step(kernel.work, tuple(params)))
        reads |= {arena if buffer.slot is None else buffer.slot for buffer in read(kernel)}
        writes |= {arena if buffer.slot is None else buffer.slot for buffer in written(kernel)}
    extents = [
        sizes.get(number, 0) * (count if number in cut else 1) if number < arena else inner.arena_bytes
        for number in range(arena + 1)
    ]
    # A sum is added to from its start at zero, and scratch is the tile's own: neither is read from before.
    known = {number for number in reads if number < sums}
    return Tiles(count, tuple(steps), tuple(sorted(known)), tuple(sorted(writes)), tuple(extents))


def inner_nodes(inner: Plan) -> tuple[Node, ...]:
    """The nodes that a tile computes."""
    return tuple(dict.fromkeys(node for kernel in inner.kernels for node in kernel.nodes))
