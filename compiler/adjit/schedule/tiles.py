"""A tile's plan as the work of one kernel of the plan around it."""

from __future__ import annotations

from collections.abc import Collection

from adjit.ir.node import Node
from adjit.schedule.arena import read, storage, written
from adjit.schedule.plan import CheckRange, Place, Plan, Step, Straight, Tiles
from adjit.schedule.verify import verify_plan
from adjit.tuned import TILE_GROUPS


def tiles_of(inner: Plan, count: int, cut: Collection[int], sums: range) -> Tiles:
    """The kernels of `inner` for each of `count` tiles.

    The parameters are the slots of `inner` in order, then its arena; those numbered in `cut` move on by the size of
    the slot with each tile, those in `sums` with each group, as the arena does; the others stay."""
    verify_plan(inner)
    assert not inner.constants
    arena = len(inner.slots)
    groups = min(TILE_GROUPS, count)
    sizes = {buffer.slot: buffer.nbytes for buffer in inner.buffers if buffer.slot is not None}
    sizes[arena] = inner.arena_bytes
    steps = []
    reads: set[int] = set()
    writes: set[int] = set()
    for kernel in inner.kernels:
        assert not isinstance(kernel.work, CheckRange | Tiles | Straight)
        params = []
        for buffer, offset in kernel.params:
            home = storage(buffer)
            number = arena if home.slot is None else home.slot
            start = offset * buffer.dtype.itemsize + (home.offset if home.slot is None else 0)
            by_tile = sizes[number] if number in cut else 0
            by_group = sizes[number] if number in sums or number == arena else 0
            params.append(Place(number, start, by_tile, by_group))
        steps.append(Step(kernel.work, tuple(params)))
        reads |= {arena if buffer.slot is None else buffer.slot for buffer in read(kernel)}
        writes |= {arena if buffer.slot is None else buffer.slot for buffer in written(kernel)}
    times = [
        count if number in cut else groups if number in sums or number == arena else 1 for number in range(arena + 1)
    ]
    extents = tuple(sizes.get(number, 0) * n for number, n in enumerate(times))
    # Scratch is the tile's own: it is not read from before.
    known = {number for number in reads if number != arena and (number < sums.stop)}
    return Tiles(count, groups, tuple(steps), tuple(sorted(known)), tuple(sorted(writes)), extents)


def inner_nodes(inner: Plan) -> tuple[Node, ...]:
    """The nodes that a tile computes."""
    return tuple(dict.fromkeys(node for kernel in inner.kernels for node in kernel.nodes))
