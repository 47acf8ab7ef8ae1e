"""verify_jobs: the proof that parts of a kernel never meet, and that no kernel destroys what another one will read.

A race detector on the plan's own index maps: each touch of a part is taken apart into intervals of bytes, and what one
part writes must be disjoint from all that another one reads or writes. It takes the cuts, and which loops of an
epilogue keep to their block, from `cuts`, as the emitters do.

1. Units of a cut kernel write disjoint bytes, and none reads what another one writes: so for any number of parts.
2. So do the groups of a loop over tiles.
3. Memory for the blocks of a product has room for all parts that it is cut into; nothing else of the kernel touches it.
4. An epilogue whose loops do not keep to the columns of its block is given blocks of all columns alone, and one that
   reduces, blocks of all rows.
5. Between kernels: what a kernel reads was written, and has not been overwritten since. A result in the place of an
   operand of the same kernel is written element for element where that operand is read, after it is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adjit.codegen.cuts import BATCH, ROWS, Cut, cut_of, follows_columns, has_wide_blocks, is_divided
from adjit.codegen.gemm import GEMM_DTYPES, gemm_scratch_bytes, scratch_allowed
from adjit.schedule.arena import elements_in_place, read, written
from adjit.schedule.buffer import Buffer, storage
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.products import may_reduce
from adjit.schedule.touches import Touch, touches_of_body
from adjit.schedule.turns import Nested
from adjit.schedule.work import Product
from adjit_runtime.errors import InternalError
from adjit_runtime.target import Target

MOST_INTERVALS = 1 << 22
"""Intervals that an touch is taken apart into; beyond, it counts as all bytes that it spans. So many units, too: of
more, neighbours are taken together."""


def verify_jobs(plan: Plan, target: Target) -> None:
    """Raise InternalError, naming the kernel and the memory, where one of the rules above is broken."""
    for number, kernel in enumerate(plan.kernels):
        found = _fault_of(kernel, target)
        if found:
            raise InternalError(f"kernel {number} of @{plan.name} is not safe on threads: {found}")
        if kernel.inner is not None and not kernel.work.is_shared:
            # Turns that come one after the other: threads may share each step.
            verify_jobs(kernel.inner, target)
        elif kernel.inner is not None:
            _values_last(kernel.inner)
    _values_last(plan)


# -- touches as intervals of bytes -----------------------------------------------------------------------------------


class Owned(NamedTuple):
    """Intervals [low, high) of bytes, each with the number of its owner."""

    lows: np.ndarray
    highs: np.ndarray
    owners: np.ndarray

    @staticmethod
    def together(parts: Iterable[Owned]) -> Owned:
        """All of them, those of one owner merged where they touch, sorted by owner and place."""
        every = list(parts)
        lows, highs, owners = (
            np.concatenate([getattr(part, name) for part in every]) if every else np.empty(0, np.int64)
            for name in ("lows", "highs", "owners")
        )
        order = np.lexsort((lows, owners))
        lows, highs, owners = lows[order], highs[order], owners[order]
        if not len(lows):
            return Owned(lows, highs, owners)
        # By rank, so that the numbers of owners can be put in front.
        ends, ranks = np.unique(highs, return_inverse=True)
        reached = ends[np.maximum.accumulate(ranks + owners * len(ends)) - owners * len(ends)]
        begins = np.ones(len(lows), bool)
        begins[1:] = (lows[1:] > reached[:-1]) | (owners[1:] != owners[:-1])
        last = np.append(np.flatnonzero(begins)[1:], len(lows)) - 1
        return Owned(lows[begins], reached[last], owners[begins])


def _intervals(touch: Touch, extents: Sequence[int]) -> tuple[np.ndarray, int]:
    """Where the contiguous runs of an touch begin, and their length."""
    if 0 in extents:
        return np.empty(0, np.int64), 0
    run = touch.dtype.itemsize
    rest: list[tuple[int, int]] = []
    for stride, extent in sorted((abs(s), n) for s, n in zip(touch.strides, extents, strict=True) if s and n > 1):
        if stride <= run and not rest:
            run += stride * (extent - 1)
        else:
            rest.append((stride, extent))
    start = touch.start + sum(s * (n - 1) for s, n in zip(touch.strides, extents, strict=True) if s < 0)
    if math.prod(n for _, n in rest) > MOST_INTERVALS:
        run, rest = run + sum(s * (n - 1) for s, n in rest), []
    lows = np.array([start], np.int64)
    for stride, extent in rest:
        lows = (lows[:, None] + stride * np.arange(extent)).ravel()
    return lows, run


def by_unit(touch: Touch, dim: int | None, unit: int) -> Owned:
    """An touch whose owners are the units of a dimension; None: each unit does all of it."""
    if dim is None:
        # Two owners stand for all.
        lows, run = _intervals(touch, touch.extents)
        twice = np.concatenate([lows, lows])
        return Owned(twice, twice + run, np.repeat([0, 1], len(lows)))
    extent, stride = touch.extents[dim], touch.strides[dim]
    unit *= -(-extent // (unit * MOST_INTERVALS)) or 1
    whole, rest = divmod(extent, unit)
    parts = []
    for first, count, length in ((0, whole, unit), (whole, 1, rest)):
        if count and length:
            lows, run = _intervals(touch, (*touch.extents[:dim], length, *touch.extents[dim + 1 :]))
            owners = first + np.arange(count)
            if len(lows) * count > MOST_INTERVALS and len(lows):
                run, lows = int(lows.max() - lows.min()) + run, lows.min(keepdims=True)
            places = (stride * unit * owners[:, None] + lows).ravel()
            parts.append(Owned(places, places + run, np.repeat(owners, len(lows))))
    return Owned.together(parts)


def meeting(writes: Owned, reads: Owned) -> bool:
    """Whether an owner writes what another one reads or writes."""
    order = np.argsort(writes.lows, kind="stable")
    lows, highs, owners = writes.lows[order], writes.highs[order], writes.owners[order]
    # Those of one owner are apart, so neighbours that overlap have two.
    if np.any(highs[:-1] > lows[1:]):
        return True
    first, last = np.searchsorted(highs, reads.lows, "right"), np.searchsorted(lows, reads.highs, "left")
    some = last > first
    changes = np.concatenate([[0, 0], np.cumsum(owners[1:] != owners[:-1])]) if len(owners) else np.zeros(1)
    first, last, of = first[some], last[some], reads.owners[some]
    return bool(np.any((owners[first] != of) | (changes[last] != changes[first + 1])))


# -- kernels ----------------------------------------------------------------------------------------------------------


def _fault_of(kernel: Kernel, target: Target) -> str:
    """How parts of a kernel meet, or ""."""
    if kernel.work.is_shared:
        return _fault_of_groups(kernel, target)
    cut = cut_of(kernel.work, target)
    if isinstance(kernel.work, Product):
        return _fault_of_product(kernel, kernel.work, cut, target)
    if cut is None:
        return ""
    return _fault_of_units(kernel, [(touch, cut.dim, cut.unit) for touch in kernel.work.touches()])


def _fault_of_product(kernel: Kernel, work: Product, cut: Cut | None, target: Target) -> str:
    follows = follows_columns(work, cut, target)
    body = work.epilogue
    if body is not None and is_divided(cut) and not follows and not has_wide_blocks(work, target):
        return "the loops of the epilogue do not keep to the columns of a block, which has not all of them"
    found = _fault_of_blocks(kernel, work, 1 if cut is None else cut.parts, target)
    if found or cut is None:
        return found
    of_product = 0 if cut.dim == BATCH else len(work.batch) + (0 if cut.dim == ROWS else 1)
    along: list[tuple[Touch, int | None, int]] = [(touch, of_product, cut.unit) for touch in work.touches_of_product()]
    if body is not None:
        of_body = cut.dim if cut.dim in (BATCH, ROWS) or follows else None
        # The epilogue's loop over the batch is one, over all products of an index of the outermost loop.
        unit = cut.unit * math.prod(entry[0] for entry in work.batch[1:]) if cut.dim == BATCH else cut.unit
        along += [(touch, of_body, unit) for touch in touches_of_body(body)]
    return _fault_of_units(kernel, along)


def _fault_of_blocks(kernel: Kernel, work: Product, parts: int, target: Target) -> str:
    """What is wrong with the blocks that `parts` threads make a product by, and that its epilogue is given."""
    if (
        work.epilogue is not None
        and work.epilogue.reduced
        and not (work.dtype.kind == "f" and may_reduce(work, target))
    ):
        return "the epilogue reduces, and blocks have not all rows"
    if not work.scratch:
        return ""
    buffer, offset = kernel.params[Product.C]
    if work.dtype not in GEMM_DTYPES or not (work.runs or scratch_allowed(work.dtype, work.k, target)):
        return "its blocks are not finished one by one, as those in scratch memory are"
    if any(step for *_, step in work.batch):
        return "the blocks of a batch move with its matrices, beyond the scratch memory"
    block = parts * gemm_scratch_bytes(work.dtype, target)
    if offset < 0 or offset * work.dtype.itemsize + block > buffer.nbytes:
        return f"the blocks of {parts} parts take {block} bytes, %{buffer.name} has less"
    if storage(buffer) in {storage(other) for number, (other, _) in enumerate(kernel.params) if number != Product.C}:
        return f"%{buffer.name}, where blocks are made, is an operand, too"
    return ""


def _fault_of_units(kernel: Kernel, along: Sequence[tuple[Touch, int | None, int]]) -> str:
    """How units meet, in memory that the kernel writes: of each touch the dimension and how much of it is a unit."""
    kept = {storage(kernel.params[touch.param][0]) for touch, _, _ in along if touch.writes}
    meant = [entry for entry in along if storage(kernel.params[entry[0].param][0]) in kept]
    return _fault_of_parts(kernel, [(by_unit(touch, dim, unit), touch) for touch, dim, unit in meant])


def _fault_of_parts(kernel: Kernel, found: Sequence[tuple[Owned, Touch]]) -> str:
    regions: dict[Buffer, tuple[list[Owned], list[Owned]]] = {}
    for owned, touch in found:
        buffer, offset = kernel.params[touch.param]
        base = offset * buffer.dtype.itemsize
        moved = Owned(owned.lows + base, owned.highs + base, owned.owners)
        regions.setdefault(storage(buffer), ([], []))[0 if touch.writes else 1].append(moved)
    for home, (writes, reads) in regions.items():
        if meeting(Owned.together(writes), Owned.together(reads)):
            return f"one part touches what another one writes in %{home.name}"
    return ""


def _fault_of_groups(kernel: Kernel, target: Target) -> str:
    """The same for groups of tiles: their number is the owner."""
    work = kernel.work
    assert isinstance(work, Nested)
    for inner in _kernels_in(kernel):
        fault = _fault_of_blocks(inner, inner.work, 1, target) if isinstance(inner.work, Product) else ""
        if fault:
            return fault
    found: list[tuple[Owned, Touch]] = []
    for step in work.steps:
        for touch in step.work.touches():
            place = step.params[touch.param]
            for group in range(work.groups):
                low, high = (at * work.count // work.groups for at in (group, group + 1))
                start = place.start + group * place.group + low * place.turn
                moved = touch.shifted(place.param, start).repeated(high - low, place.turn)
                lows, run = _intervals(moved, moved.extents)
                found.append((Owned(lows, lows + run, np.full(len(lows), group)), moved))
    kept = {storage(kernel.params[touch.param][0]) for _, touch in found if touch.writes}
    return _fault_of_parts(kernel, [(o, a) for o, a in found if storage(kernel.params[a.param][0]) in kept])


def _kernels_in(kernel: Kernel) -> Iterator[Kernel]:
    """The kernels of the plan in a kernel, and of those in these."""
    for inner in kernel.inner.kernels if kernel.inner is not None else ():
        yield inner
        yield from _kernels_in(inner)


# -- between kernels --------------------------------------------------------------------------------------------------


def _values_last(plan: Plan) -> None:
    """Rule 5: buffers hold their values from who writes them to who reads them."""
    alive: set[Buffer] = set()
    for number, kernel in enumerate(plan.kernels):
        new, old = written(kernel), read(kernel)
        for buffer in old - new:
            if buffer.slot is None and buffer not in alive:
                raise InternalError(
                    f"kernel {number} of @{plan.name} reads %{buffer.name}, which is not written, or was overwritten"
                )
        for buffer in new:
            for other in [other for other in alive if other is not buffer and _overlap(other, buffer)]:
                if other in old and not elements_in_place(kernel, other, buffer):
                    raise InternalError(
                        f"kernel {number} of @{plan.name} writes %{buffer.name} over %{other.name}, which it reads "
                        "elsewhere"
                    )
                alive.remove(other)
        alive |= {buffer for buffer in new if buffer.slot is None}


def _overlap(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers of the arena share bytes."""
    return b.slot is None and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
