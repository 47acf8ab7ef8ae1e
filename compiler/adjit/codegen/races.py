"""verify_jobs: the proof that parts of a kernel never meet, and that no kernel destroys what another one will read.

A race detector on the plan's own index maps: each access of a part is taken apart into intervals of bytes, and what one
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

from adjit.codegen.cuts import BATCH, ROWS, Cut, cut_of, follows_columns, is_divided
from adjit.codegen.gemm import GEMM_DTYPES, blocks_are_wide, gemm_scratch_bytes, scratch_allowed
from adjit.schedule.arena import elements_in_place, read, storage, written
from adjit.schedule.plan import (
    Body,
    Buffer,
    Gather,
    Kernel,
    Load,
    Nested,
    Plan,
    Product,
    Scatter,
    Store,
    Straight,
    StraightLoop,
    Work,
)
from adjit.schedule.products import may_reduce
from adjit_runtime.errors import InternalError
from adjit_runtime.target import Target

MOST_INTERVALS = 1 << 22
"""Intervals that an access is taken apart into; beyond, it counts as all bytes that it spans. So many units, too: of
more, neighbours are taken together."""


def verify_jobs(plan: Plan, target: Target) -> None:
    """Raise InternalError, naming the kernel and the memory, where one of the rules above is broken."""
    for number, kernel in enumerate(plan.kernels):
        found = _fault_of(kernel, target)
        if found:
            raise InternalError(f"kernel {number} of @{plan.name} is not safe on threads: {found}")
        if kernel.inner is not None and not (isinstance(kernel.work, Nested) and kernel.work.is_shared):
            # Turns that come one after the other: threads may share each step.
            verify_jobs(kernel.inner, target)
        elif kernel.inner is not None:
            _values_last(kernel.inner)
    _values_last(plan)


# -- accesses as intervals of bytes -----------------------------------------------------------------------------------


class Access(NamedTuple):
    """Elements of `size` bytes at start + strides . index bytes of a parameter, for all indices below `extents`."""

    param: int
    start: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    writes: bool

    def shifted(self, param: int, nbytes: int) -> Access:
        """The same elsewhere."""
        return self._replace(param=param, start=self.start + nbytes)

    def repeated(self, count: int, stride: int) -> Access:
        """For one more index, the first."""
        return self._replace(extents=(count, *self.extents), strides=(stride, *self.strides))


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


def _intervals(access: Access, extents: Sequence[int]) -> tuple[np.ndarray, int]:
    """Where the contiguous runs of an access begin, and their length."""
    if 0 in extents:
        return np.empty(0, np.int64), 0
    run = access.size
    rest: list[tuple[int, int]] = []
    for stride, extent in sorted((abs(s), n) for s, n in zip(access.strides, extents, strict=True) if s and n > 1):
        if stride <= run and not rest:
            run += stride * (extent - 1)
        else:
            rest.append((stride, extent))
    start = access.start + sum(s * (n - 1) for s, n in zip(access.strides, extents, strict=True) if s < 0)
    if math.prod(n for _, n in rest) > MOST_INTERVALS:
        run, rest = run + sum(s * (n - 1) for s, n in rest), []
    lows = np.array([start], np.int64)
    for stride, extent in rest:
        lows = (lows[:, None] + stride * np.arange(extent)).ravel()
    return lows, run


def by_unit(access: Access, dim: int | None, unit: int) -> Owned:
    """An access whose owners are the units of a dimension; None: each unit does all of it."""
    if dim is None:
        # Two owners stand for all.
        lows, run = _intervals(access, access.extents)
        twice = np.concatenate([lows, lows])
        return Owned(twice, twice + run, np.repeat([0, 1], len(lows)))
    extent, stride = access.extents[dim], access.strides[dim]
    unit *= -(-extent // (unit * MOST_INTERVALS)) or 1
    whole, rest = divmod(extent, unit)
    parts = []
    for first, count, length in ((0, whole, unit), (whole, 1, rest)):
        if count and length:
            lows, run = _intervals(access, (*access.extents[:dim], length, *access.extents[dim + 1 :]))
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


# -- what kernels touch -----------------------------------------------------------------------------------------------


def accesses_of_body(body: Body) -> Iterator[Access]:
    """The loads and stores of a body, over its domain."""
    for instruction in body.code:
        if not isinstance(instruction, Load | Gather | Store):
            continue
        size = instruction.dtype.itemsize
        extents = body.domain
        strides = tuple(c * size for c in instruction.coefficients)
        if isinstance(instruction, Gather):
            # Any position: one index more.
            extents, strides = (*extents, max(instruction.size, 1)), (*strides, instruction.stride * size)
        yield Access(instruction.param, 0, extents, strides, size, isinstance(instruction, Store))


def accesses_of_product(work: Product) -> Iterator[Access]:
    """What the product itself touches, over (batch ..., m, n, k); not its block where that is scratch."""
    size = work.dtype.itemsize
    counts = tuple(entry[0] for entry in work.batch)
    extents = (*counts, work.m, work.n, work.k)
    places = (
        (0, 1, (work.a_strides[0], 0, work.a_strides[1])),
        (1, 2, (0, work.b_strides[1], work.b_strides[0])),
        (2, 3, (work.c_row, 1, 0)),
    )
    for param, which, strides in places:
        if param == 2 and work.scratch:
            continue
        steps = (*(entry[which] for entry in work.batch), *strides)
        yield Access(param, 0, extents, tuple(s * size for s in steps), size, param == 2)


def _accesses(work: Work) -> Iterator[Access]:
    """All that a kernel touches."""
    if isinstance(work, Nested):
        for step in work.steps:
            for access in _accesses(step.work):
                place = step.params[access.param]
                moved = access.shifted(place.param, place.start).repeated(work.count, place.turn)
                yield moved.repeated(work.groups, place.group)
        return
    if isinstance(work, Straight | StraightLoop):
        yield from _accesses_of_line(work)
        return
    if isinstance(work, Product):
        yield from accesses_of_product(work)
        if work.epilogue is not None:
            yield from accesses_of_body(work.epilogue)
        return
    yield from accesses_of_body(work.body)
    if isinstance(work, Scatter):
        size = work.body.code[work.value].dtype.itemsize
        strides = (*(c * size for c in work.coefficients), work.stride * size)
        yield Access(0, 0, (*work.body.domain, work.size), strides, size, True)


def _accesses_of_line(work: Straight | StraightLoop) -> Iterator[Access]:
    nodes = (*work.graph.inputs, *work.graph.outputs)
    turns = work.turns if isinstance(work, StraightLoop) else (0,) * len(nodes)
    count = work.count if isinstance(work, StraightLoop) else 1
    for param, (node, step) in enumerate(zip(nodes, turns, strict=True)):
        size = node.dtype.itemsize
        extents, strides = (count, node.array_type.size), (step * size, size)
        yield Access(param, 0, extents, strides, size, param >= len(work.graph.inputs))


# -- kernels ----------------------------------------------------------------------------------------------------------


def _fault_of(kernel: Kernel, target: Target) -> str:
    """How parts of a kernel meet, or ""."""
    if isinstance(kernel.work, Nested):
        return _fault_of_groups(kernel, kernel.work, target) if kernel.work.is_shared else ""
    cut = cut_of(kernel.work, target)
    if isinstance(kernel.work, Product):
        return _fault_of_product(kernel, kernel.work, cut, target)
    body = kernel.work.elements
    if cut is None or body is None:
        return ""
    return _fault_of_units(kernel, [(access, cut.dim) for access in accesses_of_body(body)], cut.unit)


def _fault_of_product(kernel: Kernel, work: Product, cut: Cut | None, target: Target) -> str:
    follows = follows_columns(work, cut, target)
    body = work.epilogue
    if body is not None and is_divided(cut) and not follows and not blocks_are_wide(work.dtype, work.n, target):
        return "the loops of the epilogue do not keep to the columns of a block, which has not all of them"
    found = _fault_of_blocks(kernel, work, 1 if cut is None else cut.parts, target)
    if found or cut is None:
        return found
    if cut.dim == BATCH:
        return _fault_of_batch(kernel, work)
    of_product = len(work.batch) + (0 if cut.dim == ROWS else 1)
    along: list[tuple[Access, int | None]] = [(access, of_product) for access in accesses_of_product(work)]
    if body is not None:
        of_body = cut.dim if cut.dim == ROWS or follows else None
        along += [(access, of_body) for access in accesses_of_body(body)]
    return _fault_of_units(kernel, along, cut.unit)


def _fault_of_batch(kernel: Kernel, work: Product) -> str:
    """How matrices meet that lie apart along the first axis of a batch: one unit of the product's accesses each. An
    epilogue counts the matrices along all axes of the batch as one."""
    touched = [(access, by_unit(access, 0, 1)) for access in accesses_of_product(work)]
    if work.epilogue is not None:
        inner = math.prod(entry[0] for entry in work.batch[1:])
        touched += [(access, by_unit(access, 0, inner)) for access in accesses_of_body(work.epilogue)]
    kept = {storage(kernel.params[access.param][0]) for access, _ in touched if access.writes}
    meant = [(owned, access) for access, owned in touched if storage(kernel.params[access.param][0]) in kept]
    return _fault_of_parts(kernel, meant)


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
    if work.dtype not in GEMM_DTYPES or not scratch_allowed(work.dtype, work.k, target):
        return "its blocks are not finished one by one, as those in scratch memory are"
    block = parts * gemm_scratch_bytes(work.dtype, target)
    if offset < 0 or offset * work.dtype.itemsize + block > buffer.nbytes:
        return f"the blocks of {parts} parts take {block} bytes, %{buffer.name} has less"
    if storage(buffer) in {storage(other) for number, (other, _) in enumerate(kernel.params) if number != Product.C}:
        return f"%{buffer.name}, where blocks are made, is an operand, too"
    return ""


def _fault_of_units(kernel: Kernel, along: Sequence[tuple[Access, int | None]], unit: int) -> str:
    """How units meet, of a dimension that each access has by a number of its own, in memory that the kernel writes."""
    kept = {storage(kernel.params[access.param][0]) for access, _ in along if access.writes}
    meant = [(access, dim) for access, dim in along if storage(kernel.params[access.param][0]) in kept]
    return _fault_of_parts(kernel, [(by_unit(access, dim, unit), access) for access, dim in meant])


def _fault_of_parts(kernel: Kernel, found: Sequence[tuple[Owned, Access]]) -> str:
    regions: dict[Buffer, tuple[list[Owned], list[Owned]]] = {}
    for owned, access in found:
        buffer, offset = kernel.params[access.param]
        base = offset * buffer.dtype.itemsize
        moved = Owned(owned.lows + base, owned.highs + base, owned.owners)
        regions.setdefault(storage(buffer), ([], []))[0 if access.writes else 1].append(moved)
    for home, (writes, reads) in regions.items():
        if meeting(Owned.together(writes), Owned.together(reads)):
            return f"one part touches what another one writes in %{home.name}"
    return ""


def _fault_of_groups(kernel: Kernel, work: Nested, target: Target) -> str:
    """The same for groups of tiles: their number is the owner."""
    for inner in _kernels_in(kernel):
        fault = _fault_of_blocks(inner, inner.work, 1, target) if isinstance(inner.work, Product) else ""
        if fault:
            return fault
    found: list[tuple[Owned, Access]] = []
    for step in work.steps:
        for access in _accesses(step.work):
            place = step.params[access.param]
            for group in range(work.groups):
                low, high = (at * work.count // work.groups for at in (group, group + 1))
                start = place.start + group * place.group + low * place.turn
                moved = access.shifted(place.param, start).repeated(high - low, place.turn)
                lows, run = _intervals(moved, moved.extents)
                found.append((Owned(lows, lows + run, np.full(len(lows), group)), moved))
    kept = {storage(kernel.params[access.param][0]) for _, access in found if access.writes}
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
