"""verify_plan: what every plan must hold, proved from the plan alone.

1. Every arena buffer lies within the arena, at a multiple of 64 bytes.
2. Buffers that are alive at the same time do not overlap, save a result in place of an operand that dies in the
   kernel which writes the result.
3. A kernel reads only what an input, a state, a constant or an earlier kernel (or itself) has written, and every
   output is written.
4. A write to state comes after the last read of the old value, and where a kernel does both it reads only the
   element that it writes.
5. A write to state comes after every check of an index.
6. No epilogue reads the operands' product from memory that is not finished: it never loads the buffer of C.
7. Every access stays within its buffer: the smallest and the largest index over the domain are inside.
"""

from __future__ import annotations

import itertools

from adjit.schedule.arena import overwrites_safely, read, storage, written
from adjit.schedule.plan import Body, Buffer, CheckRange, Gather, Kernel, Load, Plan, Product, Store
from adjit_runtime.errors import InternalError
from adjit_runtime.program import ALIGN


def verify_plan(plan: Plan) -> None:
    """Raise `InternalError`, naming the kernel or buffers, where one of the rules above is broken."""
    _places(plan)
    _order(plan)
    for number, kernel in enumerate(plan.kernels):
        _accesses(number, kernel)


def _fail(plan_name: str, message: str) -> InternalError:
    return InternalError(f"the plan of @{plan_name} is invalid: {message}")


def _places(plan: Plan) -> None:
    arena = sorted((b for b in plan.buffers if b.slot is None and b.size), key=lambda buffer: buffer.offset)
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


def _order(plan: Plan) -> None:
    def role(buffer: Buffer) -> str:
        return "arena" if buffer.slot is None else str(plan.slots[buffer.slot].role)

    known = {buffer for buffer in plan.buffers if role(buffer) in ("input", "state", "constant")}
    outputs = {buffer for buffer in plan.buffers if role(buffer) == "output"}
    renewed: dict[Buffer, int] = {}
    for number, kernel in enumerate(plan.kernels):
        new, old = written(kernel), read(kernel)
        missing = old - new - known
        if missing:
            raise _fail(plan.name, f"kernel {number} reads %{next(iter(missing)).name} before it is written")
        if isinstance(kernel.work, CheckRange) and renewed:
            raise _fail(plan.name, f"check {number} comes after a write to state")
        for buffer in new:
            if role(buffer) in ("input", "constant"):
                raise _fail(plan.name, f"kernel {number} writes the {role(buffer)} %{buffer.name}")
            if role(buffer) != "state":
                continue
            if buffer in old and not overwrites_safely(kernel, buffer):
                raise _fail(plan.name, f"kernel {number} reads %{buffer.name} elsewhere than where it writes it")
            renewed.setdefault(buffer, number)
        known |= new
    unwritten = {buffer for buffer in outputs if buffer.size} - known
    if unwritten:
        raise _fail(plan.name, f"nothing writes the output %{next(iter(unwritten)).name}")


def _accesses(number: int, kernel: Kernel) -> None:
    body = kernel.work.elements
    if body is None or 0 in body.domain:
        return
    if isinstance(kernel.work, Product):
        product = kernel.params[Product.C][0]
        if any(isinstance(i, (Load, Gather)) and kernel.params[i.param][0] is product for i in body.code):
            raise InternalError(f"the epilogue of kernel {number} reads %{product.name}, which is not finished")
    for instruction in body.code:
        if not isinstance(instruction, (Load, Store, Gather)):
            continue
        if isinstance(instruction, (Load, Gather)) and instruction.bounds:
            continue
        buffer, offset = kernel.params[instruction.param]
        low, high = _extremes(body, instruction.coefficients, offset)
        if isinstance(instruction, Gather):
            high += instruction.stride * max(instruction.size - 1, 0)
        if low < 0 or high >= buffer.size:
            raise InternalError(
                f"kernel {number} reaches elements {low} to {high} of %{buffer.name}, which has {buffer.size}"
            )


def _extremes(body: Body, coefficients: tuple[int, ...], offset: int) -> tuple[int, int]:
    low = high = offset
    for c, n in zip(coefficients, body.domain, strict=True):
        low += min(0, c * (n - 1))
        high += max(0, c * (n - 1))
    return low, high
