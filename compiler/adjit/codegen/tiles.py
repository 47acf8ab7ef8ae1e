"""Loops over tiles of rows, whose groups threads share."""

from __future__ import annotations

from collections.abc import Mapping

from adjit.codegen.gemm import gemm_workspace_bytes
from adjit.codegen.jobs import in_turns, open_job, run_job, share, turn_of
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal
from adjit.codegen.signals import effort
from adjit.schedule.plan import Place, Product, Tiles, Work
from adjit.tuned import BLOCKED_ROWS, MEMORY_BYTES, SHARED_SCRATCH_BYTES, STREAM_AHEAD_LINES, TURN_EFFORT
from adjit_runtime.target import LINE, Target


def emit_tiles(
    module: Module,
    name: str,
    work: Tiles,
    functions: Mapping[tuple[Work, bool], Function],
    target: Target,
    ranges: int = 0,
) -> Function:
    """Write a loop over tiles, which calls the functions of its steps; the last parameter is memory for packing.

    The groups are a job for the threads of the pool. One thread alone takes one after another, where scratch memory is
    large in that of the first, which is near from the group before. With `ranges` (`tile_ranges`) the tiles of each
    group are cut into so many, a job for each, and the function, which has a status then, may be left between two."""
    count = len(work.extents) + 1
    scratch = count - 2
    job, pointers, group, room = open_job(module, f"{name}_group", count, glue=True)
    large = work.extents[scratch] // work.groups >= SHARED_SCRATCH_BYTES
    own = job.minimum(group, job.sub(room, 1)) if large else group
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

    at = group
    if ranges:
        turns, turn = turn_of(job, count)
        at = job.add(job.mul(group, turns), turn)
    first, last = (
        job.binary("sdiv", job.mul(end, work.count), int_literal(work.groups * max(1, ranges)))
        for end in (at, job.add(at, 1))
    )
    job.loop(first, last, 1, [], tile)
    job.ret()
    result, status = (I64, int_literal(0)) if ranges else (VOID, None)
    function = module.function(name, result, [(PTR, f"p{i}") for i in range(count)], internal=True, glue=True)
    groups = int_literal(work.groups)
    if not (large or ranges):
        run_job(function, function.params, job, groups)
        function.ret()
        return function
    # Whether each group goes to the scratch memory of the first.
    alone = function.compare("sle", function.call("adjit_threads", I64, []), int_literal(1)) if large else None
    room = function.select(alone, int_literal(1), groups) if alone is not None else groups
    shared = share(function, function.params, room, *((int_literal(ranges), int_literal(0)) if ranges else ()))

    def one_after_another() -> list[Value]:
        def one(i: Value, _: list[Value]) -> list[Value]:
            function.call(job.name, VOID, [shared, i])
            return []

        function.loop(0, work.groups, 1, [], one)
        return []

    def together() -> list[Value]:
        function.call("adjit_parallel", VOID, [Value(PTR, f"@{job.name}"), shared, groups])
        return []

    def all_groups() -> None:
        if alone is not None:
            function.branch(alone, one_after_another, together)
        else:
            together()

    if ranges:
        in_turns(function, shared, count, ranges, all_groups)
    else:
        all_groups()
    function.ret(status)
    return function


def tile_ranges(work: Tiles, target: Target) -> int:
    """Into how many ranges the tiles of each group are cut, so that a program may leave the loop between two; 0 where
    they are not."""
    ranges = min(int(effort(work, target) // TURN_EFFORT), work.count // work.groups)
    return ranges if ranges > 1 else 0


def _bring_next_near(job: Function, work: Tiles, known: Mapping[Place, Value], low: int, high: int) -> None:
    """Prefetch some lines of the next tile of what comes from memory, where `Nest` begins to read its rows."""
    for place in work.steps[0].params:
        if place.tile * work.count < MEMORY_BYTES or place.tile < BLOCKED_ROWS * LINE:
            continue
        for part in range(BLOCKED_ROWS):
            start = place.tile + part * (place.tile // BLOCKED_ROWS)
            for line in range(low, high):
                job.prefetch(job.offset(known[place], start + line * LINE), 2)
