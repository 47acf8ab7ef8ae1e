"""Plans in plans: loops over tiles of rows, whose groups threads share, and turns that come one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from adjit.codegen.gemm import gemm_workspace_bytes
from adjit.codegen.jobs import in_turns, open_job, run_job, share, turn_of
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal
from adjit.codegen.signals import effort, emit_poll
from adjit.schedule.plan import CheckRange, Nested, Place, Product, Step, Work
from adjit.tuned import BLOCKED_ROWS, MEMORY_BYTES, SHARED_SCRATCH_BYTES, STREAM_AHEAD_LINES, TURN_EFFORT
from adjit_runtime.target import LINE, Target

Functions = Mapping[tuple[Work, bool], Function]
"""The function of each work, and of whether threads may share it."""


def emit_nested(
    module: Module, name: str, work: Nested, functions: Functions, target: Target, alone: bool, ranges: int = 0
) -> Function:
    """Write a loop over the turns of a plan, which calls the functions of its steps.

    Its parameters are those of the work, memory for packing and, where a step may fail, the report. It has a status
    then, and with `ranges` (`ranges_of_turns`): the turns are cut into so many, and it may be left between two."""
    if work.is_shared and alone:
        return _emit_shared(module, name, work, functions, target, ranges)
    return _emit_in_order(module, name, work, functions, alone and not work.is_shared, ranges)


def _emit_in_order(module: Module, name: str, work: Nested, functions: Functions, alone: bool, ranges: int) -> Function:
    """One turn after the other; groups too, where a loop is a part of what threads share already."""
    count = len(work.extents) + 1
    has_status = work.may_fail or ranges > 0
    params = [(PTR, f"p{i}") for i in range(count + work.may_fail)]
    function = module.function(name, I64 if has_status else VOID, params, internal=True, glue=True)
    own = function.params

    def turns(group: Value | int, first: Value, last: Value) -> None:
        known: dict[Place, Value] = {}

        def turn(i: Value, _: list[Value]) -> list[Value]:
            known.clear()
            for step in work.steps:
                for place in step.params:
                    if place not in known:
                        at = function.offset(own[place.param], place.start)
                        at = function.offset(at, function.mul(i, place.turn)) if place.turn else at
                        known[place] = (
                            function.offset(at, function.mul(group, place.group))
                            if place.group and isinstance(group, Value)
                            else at
                        )
                _call_step(function, work, step, functions[step.work, alone], known, own)
            return []

        function.loop(first, last, 1, [], turn)

    def part(number: Value, parts: int) -> tuple[Value, Value]:
        first, last = (
            function.binary("sdiv", function.mul(at, work.count), int_literal(parts))
            for at in (number, function.add(number, 1))
        )
        return first, last

    def group(number: Value, _: list[Value]) -> list[Value]:
        turns(number, *part(number, work.groups))
        return []

    def range_of(number: Value, _: list[Value]) -> list[Value]:
        turns(0, *part(number, ranges))
        emit_poll(function)
        return []

    if ranges:
        function.loop(0, ranges, 1, [], range_of)
    elif work.is_shared:
        function.loop(0, work.groups, 1, [], group)
    else:
        turns(0, int_literal(0), int_literal(work.count))
    function.ret(int_literal(0) if has_status else None)
    return function


def _call_step(
    f: Function, work: Nested, step: Step, called: Function, known: Mapping[Place, Value], own: list[Value]
) -> None:
    """Call the function of a step; where it fails, `f` returns, with the number that the check has around the loop."""
    arguments = [known[place] for place in step.params]
    if isinstance(step.work, Product | Nested):
        arguments.append(own[len(work.extents)])
    if not step.work.may_fail:
        f.call(called.name, VOID, arguments)
        return
    if isinstance(step.work, CheckRange | Nested):
        arguments.append(own[-1])
    status = f.call(called.name, I64, arguments)
    f.return_if(f.compare("ne", status, int_literal(0)), f.add(status, work.first_check or 0))


def _emit_shared(
    module: Module, name: str, work: Nested, functions: Functions, target: Target, ranges: int
) -> Function:
    """Groups that are a job for the threads of the pool. One thread alone takes one after another, where scratch memory
    is large in that of the first, which is near from the group before. With `ranges` there is a job for each, of a
    range of the turns of each group."""
    count = len(work.extents) + 1
    scratch = count - 2
    job, pointers, group, room = open_job(module, f"{name}_group", count, glue=True)
    large = work.extents[scratch][1] // work.groups >= SHARED_SCRATCH_BYTES
    own = job.minimum(group, job.sub(room, 1)) if large else group
    products = [part for part in work.parts if isinstance(part, Product)]
    packing = max((gemm_workspace_bytes(p.dtype, p.m, p.n, p.k, target) for p in products), default=0)
    workspace = job.offset(pointers[-1], job.mul(own, packing))

    lines = STREAM_AHEAD_LINES.get(target.registers, 0)

    def tile(i: Value, _: list[Value]) -> list[Value]:
        known: dict[Place, Value] = {}

        def address(place: Place) -> Value:
            at = job.offset(pointers[place.param], place.start)
            number = own if place.param == scratch else group
            at = job.offset(at, job.mul(number, place.group)) if place.group else at
            return job.offset(at, job.mul(i, place.turn)) if place.turn else at

        for number, step in enumerate(work.steps):
            for place in step.params:
                if place not in known:
                    known[place] = address(place)
            if number and lines:
                _bring_next_near(job, work, known, lines * (number - 1), lines * number)
            arguments = [known[place] for place in step.params]
            if isinstance(step.work, Product | Nested):
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


def ranges_of_turns(work: Nested, target: Target) -> int:
    """Into how many ranges the turns, or those of each group, are cut, so that a program may leave the loop between
    two; 0 where they are not."""
    ranges = min(int(effort(work, target) // TURN_EFFORT), work.count // work.groups)
    return ranges if ranges > 1 else 0


def _bring_next_near(job: Function, work: Nested, known: Mapping[Place, Value], low: int, high: int) -> None:
    """Prefetch some lines of the next tile of what comes from memory, where `Nest` begins to read its rows."""
    for place in work.steps[0].params:
        if place.turn * work.count < MEMORY_BYTES or place.turn < BLOCKED_ROWS * LINE:
            continue
        for part in range(BLOCKED_ROWS):
            start = place.turn + part * (place.turn // BLOCKED_ROWS)
            for line in range(low, high):
                job.prefetch(job.offset(known[place], start + line * LINE), 2)
