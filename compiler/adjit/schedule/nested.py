"""A plan as the work of one kernel of the plan around it: tiles of rows, turns of a loop."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from adjit.schedule.arena import read, written
from adjit.schedule.buffer import storage
from adjit.schedule.instructions import Body, Load
from adjit.schedule.plan import Located, Plan
from adjit.schedule.turns import Nested, NestedStep, Place, Straight
from adjit.schedule.work import Loop, Prefetch
from adjit.tuned import MEMORY_BYTES, STREAM_AHEAD, STREAM_AHEAD_FIRST, STREAM_ROW_BYTES, TILE_GROUPS
from adjit_runtime.target import LINE, Target


def tiles_of(inner: Plan, count: int, cut: Collection[int], target: Target) -> Nested:
    """`inner` for each of `count` tiles, in as many groups as there are at most; loops prefetch what others will read.

    The slots numbered in `cut` move on by their size with each tile."""
    sizes = {number: math.prod(slot.shape) * np.dtype(slot.dtype).itemsize for number, slot in enumerate(inner.slots)}
    work = nested(inner, count, min(TILE_GROUPS, count), {number: sizes[number] for number in cut})
    steps = list(work.steps)
    _prefetch(steps, count, target)
    return replace(work, steps=tuple(steps))


def nested(
    inner: Plan,
    count: int,
    groups: int,
    turns: Mapping[int, int],
    first_check: int | None = None,
    *,
    reverse: bool = False,
    stops: bool = False,
    counted: bool = False,
    ranged: bool = False,
    stretches: bool = False,
) -> Nested:
    """The kernels of `inner` for each of `count` turns in `groups`.

    The parameters are the slots of `inner` in order, then its arena; those in `turns` move on by so many bytes with
    each turn, state and the arena by their size with each group; the others stay. Turns that are `counted` have one
    parameter more, the last."""
    arena = len(inner.slots)
    sizes = {buffer.slot: buffer.nbytes for buffer in inner.buffers if buffer.slot is not None}
    sizes[arena] = inner.arena_bytes
    grouped = [number for number, slot in enumerate(inner.slots) if slot.role == "state"]
    by_group = {number: sizes.get(number, 0) for number in (*grouped, arena)}
    steps = []
    reads: set[int] = set()
    writes: set[int] = set()
    for kernel in inner.kernels:
        assert not isinstance(kernel.work, Straight)
        params = []
        for buffer, offset in kernel.params:
            home = storage(buffer)
            number = arena if home.slot is None else home.slot
            start = offset * buffer.dtype.itemsize + (home.offset if home.slot is None else 0)
            params.append(Place(number, start, turns.get(number, 0), by_group.get(number, 0)))
        steps.append(NestedStep(kernel.work, tuple(params)))
        reads |= {arena if buffer.slot is None else buffer.slot for buffer in read(kernel)}
        writes |= {arena if buffer.slot is None else buffer.slot for buffer in written(kernel)}
    extents = []
    for number in range(arena + 1):
        last = turns.get(number, 0) * (count - 1)
        high = max(last, 0) + by_group.get(number, 0) * (groups - 1) + sizes.get(number, 0)
        extents.append((min(last, 0), high) if number in sizes else (0, 0))
    # Scratch memory and results are not read from before.
    known = {number for number in reads if number != arena and inner.slots[number].role != "output"}
    # What says how many turns there are, and what says whether there is another one.
    known |= ({arena + 1} if counted else set()) | ({0} if stops else set())
    checks = first_check if inner.checks else None
    moves = tuple(turns.get(number, 0) for number in range(arena + 1))
    return Nested(
        count, groups, tuple(steps), tuple(sorted(known)), tuple(sorted(writes)), moves, tuple(extents),
        reverse=reverse, stops=stops, counted=counted, ranged=ranged, stretches=stretches, first_check=checks,
    )  # fmt: skip


def _prefetch(steps: list[NestedStep], count: int, target: Target) -> None:
    """Let the loops over short rows from memory prefetch others, ahead of where they read and in their order: the
    first loop of a tile some of the lines and the others the rest, so that memory works while a tile is computed."""
    distance = int(STREAM_AHEAD * target.l1) // LINE * LINE
    for place, loops in _readers(steps, count, STREAM_ROW_BYTES.get(target.registers, 0)).items():
        # A tile that is longer than that is read before the others could bring anything of it.
        readers = loops if place.turn <= distance else loops[:1]
        start = distance
        for turn, (number, param, dim) in enumerate(readers):
            others = len(readers) - 1
            share = 1.0 if not others else STREAM_AHEAD_FIRST if turn == 0 else (1 - STREAM_AHEAD_FIRST) / others
            step = steps[number]
            assert isinstance(step.work, Loop)
            rows = step.work.body.domain[dim]
            lines = math.ceil(share * place.turn / rows / LINE)
            prefetch = Prefetch(param, dim, start, lines)
            start += rows * lines * LINE
            steps[number] = replace(step, work=replace(step.work, prefetches=(*step.work.prefetches, prefetch)))


def _readers(steps: Sequence[NestedStep], count: int, most: int) -> dict[Place, list[tuple[int, int, int]]]:
    """The rows of `most` bytes that come from memory, and the loops that read them: number of the step, parameter,
    dimension."""
    readers: dict[Place, list[tuple[int, int, int]]] = {}
    for number, step in enumerate(steps):
        for param, place in enumerate(step.params):
            if place.turn * count >= MEMORY_BYTES and isinstance(step.work, Loop):
                dim = _row_dimension(step.work.body, param, place.turn, most)
                if dim is not None:
                    readers.setdefault(place, []).append((number, param, dim))
    return readers


def _row_dimension(body: Body, param: int, nbytes: int, most: int) -> int | None:
    """The dimension whose indices are rows of a parameter, of a line to `most` bytes, and `nbytes` all together."""
    for instruction in body.code:
        if isinstance(instruction, Load) and instruction.param == param:
            for dim, (extent, stride) in enumerate(zip(body.domain, instruction.coefficients, strict=True)):
                row = stride * instruction.dtype.itemsize
                if extent * row == nbytes and LINE <= row <= most:
                    return dim
    return None


def inner_nodes(inner: Plan) -> tuple[Located, ...]:
    """The nodes that a turn computes."""
    return tuple(dict.fromkeys(node for kernel in inner.kernels for node in kernel.nodes))
