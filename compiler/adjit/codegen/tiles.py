"""Loops over tiles of rows, whose groups threads share."""

from __future__ import annotations

from collections.abc import Mapping

from adjit.codegen.gemm import gemm_workspace_bytes
from adjit.codegen.jobs import open_job, run_job, share
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal
from adjit.schedule.plan import Place, Product, Tiles, Work
from adjit.tuned import MEMORY_BYTES, ROWS_TOGETHER, SHARED_SCRATCH_BYTES, STREAM_AHEAD_LINES
from adjit_runtime.target import LINE, Target


def emit_tiles(
    module: Module, name: str, work: Tiles, functions: Mapping[tuple[Work, bool], Function], target: Target
) -> Function:
    """Write a loop over tiles, which calls the functions of its steps; the last parameter is memory for packing.

    The groups are a job for the threads of the pool. One thread alone takes one after another, where scratch memory is
    large in that of the first, which is near from the group before."""
    count = len(work.extents) + 1
    scratch = count - 2
    job, pointers, group, room = open_job(module, f"{name}_group", count, glue=True)
    turns = work.extents[scratch] // work.groups >= SHARED_SCRATCH_BYTES
    own = job.minimum(group, job.sub(room, 1)) if turns else group
    products = [step.work for step in work.steps if isinstance(step.work, Product)]
    packing = max((gemm_workspace_bytes(p.dtype, p.m, p.n, p.k, target) for p in products), default=0)
    workspace = job.offset(pointers[-1], job.mul(own, packing))

    lines = STREAM_AHEAD_LINES.get(target.registers, 0)

    def tile(i: Value, _: list[Value]) -> list[Value]:
        known: dict[Place, Value] = {}

        def address(place: Place) -> Value:
            at = job.offset(pointers[place.param], place.start)
            number = own if place.param == scratch else group
            at = job.offset(at, job.mul(number, place.group)) if place.group else at
            return job.offset(at, job.mul(i, place.tile)) if place.tile else at

        for number, step in enumerate(work.steps):
            for place in step.params:
                if place not in known:
                    known[place] = address(place)
            if number and lines:
                _bring_next_near(job, work, known, lines * (number - 1), lines * number)
            arguments = [known[place] for place in step.params]
            if isinstance(step.work, Product):
                arguments.append(workspace)
            job.call(functions[step.work, False].name, VOID, arguments)
        return []

    first, last = (
        job.binary("sdiv", job.mul(at, work.count), int_literal(work.groups)) for at in (group, job.add(group, 1))
    )
    job.loop(first, last, 1, [], tile)
    job.ret()
    function = module.function(name, VOID, [(PTR, f"p{i}") for i in range(count)], internal=True, glue=True)
    if not turns:
        run_job(function, function.params, job, int_literal(work.groups))
        function.ret()
        return function
    alone = function.compare("sle", function.call("adjit_threads", I64, []), int_literal(1))
    shared = share(function, function.params, function.select(alone, int_literal(1), int_literal(work.groups)))

    def in_turn() -> list[Value]:
        def one(i: Value, _: list[Value]) -> list[Value]:
            function.call(job.name, VOID, [shared, i])
            return []

        function.loop(0, work.groups, 1, [], one)
        return []

    def together() -> list[Value]:
        function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), shared, int_literal(work.groups)])
        return []

    function.branch(alone, in_turn, together)
    function.ret()
    return function


def _bring_next_near(job: Function, work: Tiles, known: Mapping[Place, Value], low: int, high: int) -> None:
    """Prefetch some lines of the next tile of what comes from memory, where `Nest` begins to read its rows."""
    for place in work.steps[0].params:
        if place.tile * work.count < MEMORY_BYTES or place.tile < ROWS_TOGETHER * LINE:
            continue
        for part in range(ROWS_TOGETHER):
            start = place.tile + part * (place.tile // ROWS_TOGETHER)
            for line in range(low, high):
                job.prefetch(job.offset(known[place], start + line * LINE), 2)
