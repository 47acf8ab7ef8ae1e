"""Kernels that threads share: a job is a function of (shared, part), which the pool runs for each part.

`shared` is memory with the pointers that the kernel was given and one number more, of parts as a rule. A long kernel
takes several turns, each a job: its domain is cut into turns x parts ranges, and between two turns, when no part of it
runs, the program polls for signals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.cuts import Cut
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal
from adjit.codegen.signals import emit_poll
from adjit.codegen.trial import short_threads


def open_job(module: Module, name: str, count: int, glue: bool = False) -> tuple[Function, list[Value], Value, Value]:
    """A function that threads share: it, the `count` pointers of the kernel that runs it, the number of the part that a
    call is for, and the number that `share` was given: of parts, as a rule."""
    job = module.function(name, VOID, [(PTR, "shared"), (I64, "part")], internal=True, glue=glue)
    shared, part = job.params
    pointers = [job.load(job.element(shared, PTR, number), PTR) for number in range(count)]
    return job, pointers, part, job.load(job.element(shared, I64, count), I64)


def run_job(function: Function, params: Sequence[Value], job: Function, parts: Value, ranges: int = 0) -> None:
    """Run each part of a job, with the parameters of a kernel; with `ranges` in turns, which make at least so many
    ranges (`range_of_turn`), and leave `function` where a handler of a signal raises between two of them."""
    if not ranges:
        function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), share(function, params, parts), parts])
        return
    turns = function.binary("udiv", function.add(parts, ranges - 1), parts)
    shared = share(function, params, parts, turns, int_literal(0))
    in_turns(function, shared, len(params), turns, lambda: _run_parts(function, job, shared, parts))


def _run_parts(function: Function, job: Function, shared: Value, parts: Value) -> None:
    function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), shared, parts])


def in_turns(function: Function, shared: Value, count: int, turns: Value | int, run: Callable[[], None]) -> None:
    """`run` once for each turn, whose number is in `shared` after `count` pointers and two numbers, and a poll after
    each."""

    def turn(number: Value, _: list[Value]) -> list[Value]:
        function.store(number, function.element(shared, I64, count + 2))
        run()
        emit_poll(function)
        return []

    function.loop(0, turns, 1, [], turn)


def turn_of(job: Function, count: int) -> tuple[Value, Value]:
    """Of a job that is run in turns: how many there are, and the number of this one."""
    turns, turn = (job.load(job.element(job.params[0], I64, count + i), I64) for i in (1, 2))
    return turns, turn


def range_of_turn(job: Function, count: int, part: Value, parts: Value) -> tuple[Value, Value]:
    """Of a job that is run in turns: the range that a part takes in this turn, and how many ranges there are."""
    turns, turn = turn_of(job, count)
    return job.add(job.mul(turn, parts), part), job.mul(turns, parts)


def share(function: Function, params: Sequence[Value], *numbers: Value) -> Value:
    """The memory that the parts of a job share: the parameters of a kernel, then `numbers`."""
    shared = function.alloca(PTR, len(params) + len(numbers))
    for i, value in enumerate((*params, *numbers)):
        function.store(value, function.element(shared, PTR, i))
    return shared


def range_of(f: Function, part: Value, parts: Value, cut: Cut) -> tuple[Value, Value]:
    """The range of one part, in whole units; returns from the function where it is empty."""
    blocks = -(-cut.extent // cut.unit)
    low, high = (
        f.minimum(f.mul(f.binary("sdiv", f.mul(at, blocks), parts), cut.unit), int_literal(cut.extent))
        for at in (part, f.add(part, 1))
    )
    f.return_if(f.compare("sge", low, high))
    return low, high


def parts_for(f: Function, cut: Cut) -> Value:
    """How many parts to make: some for each thread, so that one which comes late does not hold up the others."""
    threads = short_threads(f) if cut.short else f.call("adjit_threads", I64, [])
    wanted = f.select(f.compare("sgt", threads, int_literal(1)), f.mul(threads, cut.each), threads)
    return f.minimum(wanted, int_literal(cut.parts))
