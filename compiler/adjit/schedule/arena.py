"""Liveness and places: when each buffer is alive, which may lie in a dead one's place, and where all lie in one arena.

Two rules: buffers that are alive at the same time never overlap, save where an elementwise kernel writes its result
over an operand that dies there, element by element; and a kernel that writes state in place reads the old state
only at the element that it writes, or is a loop that carries on what lies there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from adjit.ir.graph import Graph
from adjit.ir.node import Data
from adjit.schedule.buffer import Buffer, storage
from adjit.schedule.instructions import Body, Gather, Load, Reduce, Store, operands
from adjit.schedule.places import assign_places, padded
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.touches import visits_once
from adjit.tuned import INPLACE_REDUCTION_BYTES
from adjit_runtime.errors import InternalError
from adjit_runtime.program import Check, Slot


def finish(
    graph: Graph,
    kernels: tuple[Kernel, ...],
    buffers: Sequence[Buffer],
    slots: tuple[Slot, ...],
    constants: dict[int, Data],
    checks: tuple[Check, ...],
) -> Plan:
    """Give every arena buffer its place."""
    _check_state(kernels, buffers, slots)
    used = _liveness(kernels)
    arena = [buffer for buffer in buffers if buffer in used and buffer.slot is None]
    for number, kernel in enumerate(kernels):
        _share(kernel, number)
    roots = [buffer for buffer in arena if buffer.inside is None]
    spans = {root: (root.first, root.last) for root in roots}
    for buffer in arena:
        root = storage(buffer)
        if root is not buffer:
            first, last = spans[root]
            spans[root] = (min(first, buffer.first), max(last, buffer.last))
    total = assign_places(roots, spans, len(kernels))
    for buffer in arena:
        buffer.offset = storage(buffer).offset
    peak, peak_buffer = _peak(roots, spans, len(kernels))
    return Plan(
        name=graph.name,
        kernels=kernels,
        buffers=tuple(buffer for buffer in buffers if buffer in used),
        arena_bytes=total,
        bytes_without_reuse=sum(padded(buffer.nbytes) for buffer in arena),
        peak_bytes=peak,
        peak_loc=peak_buffer.loc if peak_buffer is not None else None,
        slots=slots,
        inputs=tuple(range(len(graph.inputs))),
        outputs=tuple(range(len(graph.inputs), len(graph.inputs) + len(graph.outputs))),
        checks=checks,
        constants=constants,
    )


def _check_state(kernels: Sequence[Kernel], buffers: Sequence[Buffer], slots: Sequence[Slot]) -> None:
    """No new value of state is written over what is still to be read. (Elsewhere a kernel reads and writes one buffer
    only in disjoint parts, a concatenation's.)"""
    state = {buffer for buffer in buffers if buffer.slot is not None and slots[buffer.slot].role == "state"}
    for kernel in kernels if state else ():
        for buffer in written(kernel) & state & read(kernel):
            if not kernel.work.overwrites_safely(kernel.params, buffer):
                raise InternalError(f"state {buffer.name} is written where its old value is still to be read")


def written(kernel: Kernel) -> set[Buffer]:
    """The buffers that a kernel writes."""
    return {kernel.params[number][0] for number in kernel.work.writes}


def read(kernel: Kernel) -> set[Buffer]:
    """The buffers that a kernel reads."""
    return {kernel.params[number][0] for number in kernel.work.reads}


def _liveness(kernels: tuple[Kernel, ...]) -> set[Buffer]:
    used: set[Buffer] = set()
    for number, kernel in enumerate(kernels):
        for buffer in {buffer for buffer, _ in kernel.params}:
            if buffer.first < 0:
                buffer.first = number
            buffer.last = number
            used.add(buffer)
    return used


def _share(kernel: Kernel, number: int) -> None:
    """Let a result lie in the place of an operand that dies in this kernel, where that is safe."""
    body = kernel.work.elements
    if body is None or kernel.work.in_order:
        return
    reduces = any(isinstance(instruction, Reduce) for instruction in body.code)
    taken: set[Buffer] = set()
    for store in body.code:
        if not isinstance(store, Store):
            continue
        result, offset = kernel.params[store.param]
        if result.slot is not None or result.inside is not None or result.first != number:
            continue
        if reduces and result.nbytes < INPLACE_REDUCTION_BYTES:
            continue
        for candidate in dict.fromkeys(buffer for buffer, _ in kernel.params):
            if candidate.slot is not None or candidate.last != number or candidate.first == number:
                continue
            root = storage(candidate)
            if root in taken or candidate.nbytes != result.nbytes or offset != 0:
                continue
            if candidate.dtype.itemsize != result.dtype.itemsize or root.last > number or root.nbytes != result.nbytes:
                continue
            if elements_in_place(kernel, candidate, result):
                result.inside, result.home = candidate, root
                taken.add(root)
                break


def elements_in_place(kernel: Kernel, old: Buffer, new: Buffer) -> bool:
    """Whether each element of `new` may be written where the one of `old` lay that is read for it, ahead of that."""
    body = kernel.work.elements
    if body is None or kernel.work.in_order or not _is_one_pass(body):
        return False
    if not {old, new}.isdisjoint(buffer for buffer, _ in kernel.params[: kernel.work.operands]):
        return False
    touched = [
        (kernel.params[i.param][1], i.coefficients, isinstance(i, Gather))
        for i in body.code
        if (isinstance(i, Load | Gather) and kernel.params[i.param][0] is old)
        or (isinstance(i, Store) and kernel.params[i.param][0] is new)
    ]
    if len(set(touched)) != 1:
        return False
    ((_, coefficients, gathers),) = set(touched)
    return not gathers and visits_once(replace(body, reduced=()), coefficients)


def _is_one_pass(body: Body) -> bool:
    """Whether nothing that depends on a reduction goes back to the elements that were reduced, so that each is read
    once, ahead of what is stored in its place."""
    if not body.reduced:
        return True
    after: set[int] = set()
    full: set[int] = set()
    for number, instruction in enumerate(body.code):
        args = operands(instruction)
        if isinstance(instruction, Reduce) or not after.isdisjoint(args):
            after.add(number)
        terms = [getattr(instruction, "coefficients", ()), *(t for _, t, _ in getattr(instruction, "bounds", ()))]
        if any(of[d] for of in terms if of for d in body.reduced) or (
            not isinstance(instruction, Reduce) and not full.isdisjoint(args)
        ):
            full.add(number)
    return after.isdisjoint(full)


def _peak(roots: list[Buffer], spans: dict[Buffer, tuple[int, int]], count: int) -> tuple[int, Buffer | None]:
    """The most bytes alive at one kernel, and the largest buffer that is alive there."""
    gained = [0] * (count + 1)
    for buffer in roots:
        first, last = spans[buffer]
        gained[first] += padded(buffer.nbytes)
        gained[last + 1] -= padded(buffer.nbytes)
    alive = list(itertools.accumulate(gained))
    best = max(alive)
    if not best:
        return 0, None
    number = alive.index(best)
    there = [buffer for buffer in roots if spans[buffer][0] <= number <= spans[buffer][1]]
    return best, max(there, key=lambda buffer: buffer.nbytes)
