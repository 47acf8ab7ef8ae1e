"""The entry of a program: its kernels in order, each with its addresses in the arena and in the program's slots.

What goes beyond `ENTRY_LINES` goes on in functions that the entry calls one after the other, as LLVM takes time with
the square of the length of such a function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from adjit.codegen.cuts import cut_of
from adjit.codegen.llvm import I64, PTR, VOID, Function, Value, int_literal, memory_type
from adjit.codegen.signals import Polls, emit_poll
from adjit.codegen.trial import begin_trial, end_trial, short_threads
from adjit.schedule.buffer import Buffer, storage
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.work import Work
from adjit.tuned import ENTRY_LINES, WAKE_FLOPS
from adjit_runtime.target import Target

Run = Callable[["Part", int], None]
"""`run(part, number)` writes a kernel into the part's function, which returns another number than 0 where the program
is left."""


def emit_entry(
    entry: Function, plan: Plan, target: Target, run: Run, workspace_at: int, timed: bool, polls: Polls
) -> None:
    """Write the entry of `plan`, whose packing memory begins at `workspace_at` in the arena."""
    times: Counter[Work] = Counter()
    for kernel in plan.kernels:
        for work, alone, count in kernel.work.singles():
            if alone:
                times[work] += count
    cuts = {work: cut for work in times if (cut := cut_of(work, target)) is not None}
    short = [work for work, cut in cuts.items() if cut.short]
    begun = begin_trial(entry) if short else None
    flops, flops_of_short = (sum(times[work] * work.product_flops for work in works) for works in (cuts, short))
    _wake(entry, flops, flops_of_short)
    part = Part(entry, workspace_at, timed)
    for number in range(len(plan.kernels)):
        if part.function.lines > ENTRY_LINES:
            part.close(entry)
            name = f"part{number}"
            params = [(value.ty, value.ref[1:]) for value in entry.params]
            function = entry.module.function(name, I64, params, internal=True, glue=True)
            part = Part(function, workspace_at, timed)
        if number in polls.ahead:
            emit_poll(part.function)
        run(part, number)
        part.count_ticks(number)
    part.close(entry)
    if begun is not None:
        end_trial(entry, begun)
    entry.ret(int_literal(0))


class Part:
    """One function of kernels that are run in order: the entry itself, or one with the entry's parameters that it
    calls. Packing memory begins at `workspace_at` in the arena."""

    def __init__(self, function: Function, workspace_at: int, timed: bool = False) -> None:
        self.function = function
        self.workspace_at = workspace_at
        self.table, self.arena, self.report = function.params
        self._slots: dict[int, Value] = {}
        self._before = self._ticks() if timed else None

    def arguments(self, kernel: Kernel) -> list[Value]:
        """What a kernel is given: an address for each parameter, and what its kind of work takes beside."""
        addresses = [self.address(buffer, offset) for buffer, offset in kernel.params]
        if kernel.work.packs:
            addresses.append(self.function.offset(self.arena, self.workspace_at))
        if kernel.work.reports:
            addresses.append(self.report)
        return addresses

    def address(self, buffer: Buffer, offset: int) -> Value:
        """Where element `offset` of a buffer is."""
        f = self.function
        home = storage(buffer)
        nbytes = offset * memory_type(buffer.dtype).bits // 8
        if home.slot is None:
            return f.offset(self.arena, home.offset + nbytes)
        if home.slot not in self._slots:
            self._slots[home.slot] = f.load(f.element(self.table, PTR, home.slot), PTR)
        return f.offset(self._slots[home.slot], nbytes)

    def count_ticks(self, number: int) -> None:
        """Add what a kernel took to its word of the report, where that is asked for."""
        if self._before is None:
            return
        f = self.function
        after = self._ticks()
        place = f.element(self.report, I64, 2 + number)
        f.store(f.add(f.load(place, I64), f.sub(after, self._before)), place)
        self._before = after

    def close(self, entry: Function) -> None:
        """End the function; the entry calls it, and returns what is not 0."""
        if self.function is entry:
            return
        self.function.ret(int_literal(0))
        status = entry.call(self.function.name, I64, entry.params)
        entry.return_if(entry.compare("ne", status, int_literal(0)), status)

    def _ticks(self) -> Value:
        return self.function.call("llvm.readcyclecounter", I64, [])


def _wake(entry: Function, flops: int, flops_of_short: int) -> None:
    """Workers that sleep are on their way when the first large kernel comes."""

    def wake() -> list[Value]:
        entry.call("adjit_wake", VOID, [])
        return []

    if flops - flops_of_short >= WAKE_FLOPS:
        wake()
    elif flops >= WAKE_FLOPS:
        entry.branch(entry.compare("sgt", short_threads(entry), int_literal(1)), wake)
