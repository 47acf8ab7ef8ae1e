"""verify_plan: what every plan must hold, proved from the plan alone.

1. Every arena buffer lies within the arena, at a multiple of 64 bytes, or where the one lies whose place it has; it is
   alive from the first to the last kernel that names it. Buffers in slots are not larger than these. There is machine
   code for the dtypes of all.
2. Buffers that are alive at the same time do not overlap, save a result in place of an operand that dies in the
   kernel which writes the result.
3. A kernel reads only what an input, a state, a constant or an earlier kernel (or itself) has written, and every
   output is written.
4. A write to state comes after the last read of the old value, and where a kernel does both it reads only the
   element that it writes, or is a loop that carries on what lies there.
5. A write to state comes after every check, but in a turn of a loop: nobody reads that state when the program is left.
6. No epilogue reads the operands' product from memory that is not finished: it never loads the buffer of C.
7. Every access stays within its buffer: the smallest and the largest index over the domain are inside, or over the part
   of it where the bounds of the access hold. Parameters are as many, and of the dtypes, as the work says, and lie side
   by side where it does.
8. The plan of a turn holds all this, and all turns stay within what is given to them. A straight line is alone in its
   plan, its graph holds (ir/verify), and its parameters are the slots, which it says the types of; so does that of a
   loop in registers, whose parameters say how they move.

How large the memory is in which a product is made by blocks depends on the target: codegen/races proves that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from adjit.ir.types import BOOL, COMPILED_DTYPES, I64
from adjit.ir.verify import verify
from adjit.schedule.across import Across, runs_across
from adjit.schedule.arena import read, written
from adjit.schedule.buffer import Buffer, storage
from adjit.schedule.instructions import Bounds, side_by_side
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.straight import checks_of, fits
from adjit.schedule.turns import Nested, Straight, StraightLoop
from adjit.schedule.work import CheckRange, Loop, Product, Work
from adjit_runtime.errors import InternalError
from adjit_runtime.program import ALIGN, Check

Range = tuple[int, int]
"""The smallest and the largest of some numbers."""


def verify_plan(plan: Plan, of_turn: bool = False) -> None:
    """Raise `InternalError`, naming the kernel or buffers, where one of the rules above is broken. `of_turn`: of a
    loop, whose state nobody reads when the program is left in its midst."""
    _parameters(plan)
    _places(plan)
    _order(plan, of_turn)
    _lifetimes(plan)
    for number, kernel in enumerate(plan.kernels):
        OF_KIND.get(type(kernel.work), _accesses)(plan, number, kernel)


def _fail(plan_name: str, message: str) -> InternalError:
    return InternalError(f"the plan of @{plan_name} is invalid: {message}")


def _parameters(plan: Plan) -> None:
    for number, kernel in enumerate(plan.kernels):
        if not kernel.work.takes(tuple(buffer.dtype for buffer, _ in kernel.params)):
            raise _fail(plan.name, f"kernel {number} is not given what its work takes")
        body, first = kernel.work.elements, kernel.work.operands
        if body and body.beside != side_by_side(body.code, body.domain, kernel.params[first:], first):
            raise _fail(plan.name, f"kernel {number} has other stores side by side than its work says")


def _places(plan: Plan) -> None:
    arena = sorted((b for b in plan.buffers if b.slot is None and b.size), key=lambda buffer: buffer.offset)
    if plan.arena_bytes % ALIGN:
        raise _fail(plan.name, f"the arena has {plan.arena_bytes} bytes, no multiple of {ALIGN}")
    for buffer in plan.buffers:
        home = storage(buffer)
        if buffer.dtype not in COMPILED_DTYPES:
            raise _fail(plan.name, f"%{buffer.name} is {buffer.dtype.name}, which machine code does not exist for")
        if buffer.slot is None and (home.slot is not None or home.offset != buffer.offset):
            raise _fail(plan.name, f"%{buffer.name} does not lie where %{home.name} lies, whose place it has")
        if buffer.slot is not None:
            slot = plan.slots[buffer.slot]
            if np.dtype(slot.dtype) != buffer.dtype or buffer.size > math.prod(slot.shape) or home is not buffer:
                raise _fail(plan.name, f"%{buffer.name} is not what slot {buffer.slot} has")
    for buffer in arena:
        if buffer.offset % ALIGN or buffer.offset + buffer.nbytes > plan.arena_bytes:
            raise _fail(plan.name, f"%{buffer.name} lies at {buffer.offset}, outside the arena or not aligned")
    for i, a in enumerate(arena):
        for b in itertools.islice(arena, i + 1, None):
            if b.offset >= a.offset + a.nbytes:
                break
            if a.first > b.last or b.first > a.last:
                continue
            first, second = sorted((a, b), key=lambda buffer: buffer.first)
            if storage(a) is not storage(b) or first.last != second.first:
                raise _fail(plan.name, f"%{a.name} and %{b.name} overlap while both are alive")


def _lifetimes(plan: Plan) -> None:
    used: dict[Buffer, list[int]] = {}
    for number, kernel in enumerate(plan.kernels):
        for buffer in {buffer for buffer, _ in kernel.params}:
            used.setdefault(buffer, []).append(number)
    unknown = used.keys() - {*plan.buffers}
    if unknown:
        raise _fail(plan.name, f"a kernel names %{next(iter(unknown)).name}, which is no buffer of the plan")
    for buffer in plan.buffers:
        first, *_, last = [*used.get(buffer, [-1])] * 2
        if buffer.slot is None and (buffer.first, buffer.last) != (first, last):
            raise _fail(
                plan.name, f"%{buffer.name} is alive at kernels {buffer.first} to {buffer.last}, not {first} to {last}"
            )


def _order(plan: Plan, of_turn: bool) -> None:
    def role(buffer: Buffer) -> str:
        return "arena" if buffer.slot is None else str(plan.slots[buffer.slot].role)

    known = {buffer for buffer in plan.buffers if role(buffer) in ("input", "state", "constant")}
    outputs = {buffer for buffer in plan.buffers if role(buffer) == "output"}
    renewed: dict[Buffer, int] = {}
    for number, kernel in enumerate(plan.kernels):
        new, old = written(kernel), read(kernel)
        missing = {buffer for buffer in old if buffer.size} - new - known
        if missing:
            raise _fail(plan.name, f"kernel {number} reads %{next(iter(missing)).name} before it is written")
        empty = {buffer for i in kernel.work.changes if (buffer := kernel.params[i][0]).size} - known
        if empty:
            raise _fail(plan.name, f"kernel {number} changes %{next(iter(empty)).name} before it is written")
        if kernel.work.may_fail and renewed and not of_turn:
            raise _fail(plan.name, f"check {number} comes after a write to state")
        for buffer in new:
            if role(buffer) in ("input", "constant"):
                raise _fail(plan.name, f"kernel {number} writes the {role(buffer)} %{buffer.name}")
            if role(buffer) != "state":
                continue
            if buffer in old and not kernel.work.overwrites_safely(kernel.params, buffer):
                raise _fail(plan.name, f"kernel {number} reads %{buffer.name} elsewhere than where it writes it")
            renewed.setdefault(buffer, number)
        known |= new
    unwritten = {buffer for buffer in outputs if buffer.size} - known
    if unwritten:
        raise _fail(plan.name, f"nothing writes the output %{next(iter(unwritten)).name}")


def _check_range(plan: Plan, number: int, kernel: Kernel) -> None:
    work = kernel.work
    assert isinstance(work, CheckRange)
    if work.number >= len(plan.checks):
        raise _fail(plan.name, f"kernel {number} has no check {work.number}")
    _accesses(plan, number, kernel)


def _product(plan: Plan, number: int, kernel: Kernel) -> None:
    work = kernel.work
    assert isinstance(work, Product)
    body, product = work.epilogue, kernel.params[Product.C][0]
    if body is not None:
        if body.domain != (math.prod(entry[0] for entry in work.batch), work.m, work.n):
            raise _fail(plan.name, f"the epilogue of kernel {number} is not over its product")
        if any(kernel.params[param][0] is product for param in body.reads):
            raise InternalError(f"the epilogue of kernel {number} reads %{product.name}, which is not finished")
    _accesses(plan, number, kernel)


def _accesses(plan: Plan, number: int, kernel: Kernel) -> None:
    for touch in kernel.work.touches():
        found = extremes(touch.extents, touch.strides, touch.bounds) if 0 not in touch.extents else None
        if found is None:
            continue
        buffer, offset = kernel.params[touch.param]
        if touch.dtype != buffer.dtype:
            raise _fail(plan.name, f"kernel {number} takes %{buffer.name} for {touch.dtype.name}")
        low, high = (offset + (touch.start + end) // touch.dtype.itemsize for end in found)
        if low < 0 or high >= buffer.size:
            raise InternalError(
                f"kernel {number} reaches elements {low} to {high} of %{buffer.name}, which has {buffer.size}"
            )


def extremes(extents: Sequence[int], terms: Sequence[int], bounds: Bounds) -> Range | None:
    """The range of `terms . index` over the indices below `extents` for which all bounds hold, or a wider one; None
    where there are none.

    Each bound narrows the range of each index; one on a sum of several that is a part of `terms`, too, is used for
    that part as it is."""
    if any(not any(factors) and not 0 <= constant < n for constant, factors, n in bounds):
        return None
    box = [(0, n - 1) for n in extents]
    for _ in extents:
        for constant, factors, n in bounds:
            _narrow(box, constant, factors, n)
    if any(low > high for low, high in box):
        return None
    low = high = 0
    rest = list(terms)
    for constant, factors, n in bounds:
        dims = [d for d, factor in enumerate(factors) if factor]
        ratios = {rest[d] // factors[d] if rest[d] % factors[d] == 0 else 0 for d in dims}
        if len(dims) < 2 or len(ratios) != 1 or ratios == {0}:
            continue
        (ratio,) = ratios
        ends = [ratio * (end - constant) for end in (0, n - 1)]
        low, high = low + min(ends), high + max(ends)
        for d in dims:
            rest[d] = 0
    for factor, (first, last) in zip(rest, box, strict=True):
        low, high = low + min(factor * first, factor * last), high + max(factor * first, factor * last)
    return low, high


def _narrow(box: list[Range], constant: int, factors: Sequence[int], n: int) -> None:
    """Leave out of each index what 0 <= constant + factors . index < n does not allow, whatever the others are."""
    ends = [sorted((f * low, f * high)) for f, (low, high) in zip(factors, box, strict=True)]
    least, most = sum(low for low, _ in ends), sum(high for _, high in ends)
    for d, factor in enumerate(factors):
        if factor:
            low, high = -constant - (most - ends[d][1]), n - 1 - constant - (least - ends[d][0])
            low, high = (-(-low // factor), high // factor) if factor > 0 else (-(-high // factor), low // factor)
            box[d] = max(box[d][0], low), min(box[d][1], high)


def _nested(plan: Plan, number: int, kernel: Kernel) -> None:
    work, inner = kernel.work, kernel.inner
    assert isinstance(work, Nested)
    if inner is None or len(work.extents) != len(inner.slots) + 1:
        raise _fail(plan.name, f"kernel {number} is not given what its work takes")
    verify_plan(inner, of_turn=True)
    if work.is_shared and (inner.checks or work.reverse):
        raise _fail(plan.name, f"threads share kernel {number}, whose turns come in order")
    _ways(plan, number, kernel, work)
    _checks(plan, number, work.first_check, inner.checks)
    slots = [*inner.slots, None]
    for (buffer, offset), (low, high), slot in zip(kernel.params, work.extents, slots, strict=not work.counted):
        if slot is not None and np.dtype(slot.dtype) != buffer.dtype:
            raise _fail(plan.name, f"kernel {number} takes %{buffer.name} for {np.dtype(slot.dtype).name}")
        begin = offset * buffer.dtype.itemsize
        if begin + low < 0 or begin + high > buffer.nbytes:
            raise _fail(plan.name, f"kernel {number} reaches {high - low} bytes of %{buffer.name}, beyond its end")
    for step, of in zip(work.steps, inner.kernels, strict=True):
        same = replace(step.work, prefetches=()) if isinstance(step.work, Loop) else step.work
        if same != of.work:
            raise _fail(plan.name, f"kernel {number} has another work than the plan of its turn")
        for place, (buffer, offset) in zip(step.params, of.params, strict=True):
            home = storage(buffer)
            start, nbytes = offset * buffer.dtype.itemsize, home.nbytes
            if home.slot is None:
                start, nbytes = start + home.offset, inner.arena_bytes
            own = len(inner.slots) if home.slot is None else home.slot
            last = place.turn * (work.count - 1)
            low, high = min(last, 0), max(last, 0) + place.group * (work.groups - 1) + nbytes
            reached_low, reached_high = work.extents[own]
            if (
                (place.param, place.start) != (own, start)
                or place.group < 0
                or low < reached_low
                or high > reached_high
            ):
                raise _fail(plan.name, f"kernel {number} has a turn that goes beyond what it is given")


def _ways(plan: Plan, number: int, kernel: Kernel, work: Nested | StraightLoop) -> None:
    """What says how many turns there are is there, and of its type."""
    if work.count < 1 or (isinstance(work, Nested) and work.is_shared and (work.stops or work.counted)):
        raise _fail(plan.name, f"kernel {number} has no turns in order")
    if work.stops and (not kernel.params or kernel.params[0][0].dtype != BOOL or work.turns[0] or work.reverse):
        raise _fail(plan.name, f"kernel {number} stops by what is no bool")
    if work.ranged and not work.counted:
        raise _fail(plan.name, f"kernel {number} has a range of turns and no operand that has it")
    if work.counted:
        buffer, offset = kernel.params[-1]
        if buffer.dtype != I64 or not 0 <= offset < buffer.size - work.ranged:
            raise _fail(plan.name, f"kernel {number} has no number of turns")


def _checks(plan: Plan, number: int, first: int | None, own: Sequence[Check]) -> None:
    """The checks of a loop are so many of the plan's, from the first on, but for the loop whose turn they tell."""
    mine = [replace(check, loop="") for check in own]
    here = [replace(check, loop="") for check in plan.checks[first or 0 :][: len(own)]]
    if (first is None) != (not own) or (first is not None and here != mine):
        raise _fail(plan.name, f"the checks of kernel {number} are not among those of the plan")


def _straight_loop(plan: Plan, number: int, kernel: Kernel) -> None:
    work = kernel.work
    assert isinstance(work, StraightLoop)
    graph = work.graph
    verify(graph)
    nodes = (*graph.inputs, *graph.outputs)
    if not 0 <= work.carried <= min(len(graph.inputs), len(graph.outputs)) or len(work.turns) != len(nodes):
        raise _fail(plan.name, f"kernel {number} carries {work.carried} values of its line")
    if work.count < 1 or graph.updates or not fits(graph) or (work.stops and not work.carried):
        raise _fail(plan.name, f"kernel {number} is no loop over a straight line")
    _ways(plan, number, kernel, work)
    _checks(plan, number, work.first_check, checks_of(graph))
    first = len(graph.inputs)
    for i in range(work.carried):
        if graph.inputs[i].type != graph.outputs[i].type or work.turns[i] or work.turns[first + i]:
            raise _fail(plan.name, f"kernel {number} carries value {i} as something else")
    written_once = set(range(first, first + work.carried))
    for param, (node, (buffer, offset), step) in enumerate(zip(nodes, kernel.params, work.turns, strict=False)):
        type, last = node.array_type, step * (work.count - 1)
        if type.dtype != buffer.dtype:
            raise _fail(plan.name, f"kernel {number} takes %{buffer.name} for {type.dtype.name}")
        if offset + min(last, 0) < 0 or offset + max(last, 0) + type.size > buffer.size:
            raise _fail(plan.name, f"kernel {number} reaches beyond %{buffer.name}")
        if param >= first and param not in written_once and abs(step) < type.size and work.count > 1:
            raise _fail(plan.name, f"turns of kernel {number} write over each other in %{buffer.name}")


def _across(plan: Plan, number: int, kernel: Kernel) -> None:
    work = kernel.work
    assert isinstance(work, Across)
    verify(work.graph)
    if len(work.turns) != len(work.nodes) or work.graph.updates or not runs_across(work.graph, work.count):
        raise _fail(plan.name, f"kernel {number} is nothing that runs across places")
    for param, (node, step) in enumerate(zip(work.nodes, work.turns, strict=True)):
        if step < 0 or (param in work.writes and step < node.array_type.size):
            raise _fail(plan.name, f"places of kernel {number} lie over each other in parameter {param}")
    _accesses(plan, number, kernel)


def _straight(plan: Plan, _: int, kernel: Kernel) -> None:
    work = kernel.work
    assert isinstance(work, Straight)
    if len(plan.kernels) != 1:
        raise _fail(plan.name, "a straight line is not alone")
    verify(work.graph)
    nodes = (*work.graph.inputs, *work.graph.outputs)
    if len(nodes) != len(plan.slots):
        raise _fail(plan.name, "the straight line has other inputs and outputs than the plan")
    for number, (node, (buffer, offset)) in enumerate(zip(nodes, kernel.params, strict=True)):
        type = node.array_type
        if (buffer.slot, offset) != (number, 0) or (type.dtype, type.size) != (buffer.dtype, buffer.size):
            raise _fail(plan.name, f"%{buffer.name} is not what the straight line takes")


OF_KIND: dict[type[Work], Callable[[Plan, int, Kernel], None]] = {
    Product: _product,
    CheckRange: _check_range,
    Nested: _nested,
    Straight: _straight,
    StraightLoop: _straight_loop,
    Across: _across,
}
"""What is proved of some kinds of work; of all others, that they stay within their buffers."""
