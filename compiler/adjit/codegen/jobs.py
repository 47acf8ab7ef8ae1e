"""Kernels that threads share: a job is a function of (shared, part), which the pool runs for each part.

`shared` is memory with the pointers that the kernel was given and one number more, of parts as a rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.cuts import Cut
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal
from adjit.codegen.trial import short_threads


def open_job(module: Module, name: str, count: int, glue: bool = False) -> tuple[Function, list[Value], Value, Value]:
    """A function that threads share: it, the `count` pointers of the kernel that runs it, the number of the part that a
    call is for, and the number that `share` was given: of parts, as a rule."""
    job = module.function(name, VOID, [(PTR, "shared"), (I64, "part")], internal=True, glue=glue)
    shared, part = job.params
    pointers = [job.load(job.element(shared, PTR, number), PTR) for number in range(count)]
    return job, pointers, part, job.load(job.element(shared, I64, count), I64)


def run_job(function: Function, params: Sequence[Value], job: Function, parts: Value) -> None:
    """Run each part of a job, with the parameters of a kernel."""
    function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), share(function, params, parts), parts])


def share(function: Function, params: Sequence[Value], number: Value) -> Value:
    """The memory that the parts of a job share: the parameters of a kernel, then `number`."""
    shared = function.alloca(PTR, len(params) + 1)
    for i, value in enumerate((*params, number)):
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
