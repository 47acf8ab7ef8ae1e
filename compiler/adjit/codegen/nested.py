"""Plans in plans: loops over tiles of rows, whose groups threads share, and turns that come one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from adjit.codegen.jobs import in_turns, open_job, run_job, share, turn_of
from adjit.codegen.kernels import emitter_of
from adjit.codegen.llvm import I8, I64, PTR, VOID, Function, Module, Value, int_literal, literal
from adjit.codegen.signals import effort, emit_poll
from adjit.schedule.turns import Nested, NestedStep, Place, StraightLoop
from adjit.schedule.work import Work
from adjit.tuned import (
    BLOCKED_ROWS,
    MEMORY_BYTES,
    SHARED_SCRATCH_BYTES,
    STREAM_AHEAD_LINES,
    TILE_GROUPS,
    TURN_EFFORT,
)
from adjit_runtime.target import LINE, Target

Functions = Mapping[tuple[Work, bool], Function]
"""The function of each work, and of whether threads may share it."""


def emit_nested(
    module: Module, name: str, work: Nested, functions: Functions, target: Target, alone: bool, ranges: int = 0
) -> Function:
    """Write a loop over the turns of a plan, which calls the functions of its steps.

    Its parameters are those of the work, memory for packing and, where a step may fail, the report. It has a status
    then, and with `ranges` (`turns_between_polls`), where it may be left in the midst."""
    if work.is_shared and alone:
        return _emit_shared(module, name, work, functions, target, ranges)
    return _emit_in_order(module, name, work, functions, alone and not work.is_shared, ranges)


def _emit_in_order(module: Module, name: str, work: Nested, functions: Functions, alone: bool, every: int) -> Function:
    """One turn after the other; groups too, where a loop is a part of what threads share already."""
    slots = len(work.extents)
    has_status = work.may_fail or every > 0
    params = [(PTR, f"p{i}") for i in range(slots + work.counted + 1 + work.may_fail)]
    function = module.function(name, I64 if has_status else VOID, params, internal=True, glue=True)
    own = function.params
    rest = Rest(own[slots + work.counted], own[-1] if work.may_fail else None)

    def turn_of(group: Value | None) -> Callable[[Value], None]:
        def turn(i: Value) -> None:
            known: dict[Place, Value] = {}
            for step in work.steps:
                for place in step.params:
                    if place not in known:
                        known[place] = _address(function, own, place, i, group)
                _call_step(function, work, step, functions[step.work, alone], known, rest, i)

        return turn

    def group_of(number: Value, _: list[Value]) -> list[Value]:
        first, last = (
            function.binary("sdiv", function.mul(at, work.count), int_literal(work.groups))
            for at in (number, function.add(number, 1))
        )
        function.loop(first, last, 1, [], lambda i, _: turn_of(number)(i) or [])
        return []

    if work.is_shared:
        function.loop(0, work.groups, 1, [], group_of)
    else:
        flag = (lambda: function.compare("ne", function.load(own[0], I8), literal(I8, 0))) if work.stops else None
        emit_turns(function, work, own[slots] if work.counted else None, every, turn_of(None), flag)
    function.ret(int_literal(0) if has_status else None)
    return function


class Rest(NamedTuple):
    """What the functions of steps are given beside their parameters: memory for packing, the report."""

    packing: Value
    report: Value | None


def _address(f: Function, own: list[Value], place: Place, turn: Value, group: Value | None) -> Value:
    at = f.offset(own[place.param], place.start)
    at = f.offset(at, f.mul(turn, place.turn)) if place.turn else at
    return f.offset(at, f.mul(group, place.group)) if place.group and group is not None else at


def emit_turns(
    f: Function,
    work: Nested | StraightLoop,
    counter: Value | None,
    every: int,
    turn: Callable[[Value], None],
    flag: Callable[[], Value] | None,
) -> None:
    """Write the turns of a loop whose values lie in memory."""

    def carrying(i: Value, _: list[Value]) -> list[Value]:
        turn(i)
        return []

    emit_carrying(f, work, counter, every, [], carrying, None if flag is None else lambda _: flag())


def emit_carrying(
    f: Function,
    work: Nested | StraightLoop,
    counter: Value | None,
    every: int,
    start: list[Value],
    turn: Callable[[Value, list[Value]], list[Value]],
    goes_on: Callable[[list[Value]], Value] | None,
) -> list[Value]:
    """Write the turns of a loop that carries values: `turn(number, values)` gives the next ones, `goes_on(values)` says
    whether there is another turn, `counter` is where the number of turns is, or their range. Every so many turns the
    program polls for signals, and may leave the function; with 0 it does not."""
    first, count = int_literal(0), int_literal(work.count)
    if counter is not None:
        if work.ranged:
            first = _at_least(f, f.load(counter, I64), int_literal(0))
        end = f.load(f.element(counter, I64, int(work.ranged)), I64)
        count = _at_least(f, f.minimum(end, count), first)
    last = f.add(first, f.sub(count, 1)) if work.reverse else None

    def numbered(i: Value, values: list[Value]) -> list[Value]:
        return turn(f.sub(last, i) if last is not None else i, values)

    def some(low: Value, high: Value, values: list[Value]) -> tuple[Value, list[Value]]:
        """The turns of a range, and which is the next."""
        if goes_on is None:
            return high, f.loop(low, high, 1, values, numbered)
        at, *values = f.while_loop(
            [low, *values],
            lambda now: f.binary("and", f.compare("slt", now[0], high), goes_on(now[1:])),
            lambda now: [f.add(now[0], 1), *numbered(now[0], now[1:])],
        )
        return at, values

    if not every:
        return some(first, count, start)[1]

    def left(now: list[Value]) -> Value:
        is_left = f.compare("slt", now[0], count)
        return is_left if goes_on is None else f.binary("and", is_left, goes_on(now[1:]))

    def stretch(now: list[Value]) -> list[Value]:
        at, values = some(now[0], f.minimum(f.add(now[0], every), count), now[1:])
        emit_poll(f)
        return [at, *values]

    return f.while_loop([first, *start], left, stretch)[1:]


def _at_least(f: Function, value: Value, low: Value) -> Value:
    return f.select(f.compare("sgt", value, low), value, low)


def _call_step(
    f: Function, work: Nested, step: NestedStep, called: Function, known: Mapping[Place, Value], rest: Rest, turn: Value
) -> None:
    """Call the function of a step; where it fails, `f` returns, with the number that the check has around the loop, and
    with the turn in the report: of loops in loops the outermost writes last."""
    arguments = [known[place] for place in step.params]
    if step.work.packs:
        arguments.append(rest.packing)
    if not step.work.may_fail:
        f.call(called.name, VOID, arguments)
        return
    if step.work.reports:
        assert rest.report is not None
        arguments.append(rest.report)
    status = f.call(called.name, I64, arguments)
    report = rest.report if work.tells_turn_of(step) else None

    def tell() -> None:
        if report is not None:
            f.store(turn, f.element(report, I64, 1))

    f.return_if(f.compare("ne", status, int_literal(0)), f.add(status, work.first_check or 0), tell)


def _emit_shared(
    module: Module, name: str, work: Nested, functions: Functions, target: Target, ranges: int
) -> Function:
    """Groups that are a job for the threads of the pool. One thread alone takes one after another, where scratch memory
    is large in that of the first, which is in the cache from the group before. With `ranges` there is a job for each,
    of a range of the turns of each group."""
    count = len(work.extents) + 1
    scratch = count - 2
    job, pointers, group, room = open_job(module, f"{name}_group", count, glue=True)
    large = work.extents[scratch][1] // work.groups >= SHARED_SCRATCH_BYTES
    own = job.minimum(group, job.sub(room, 1)) if large else group
    packing = (emitter_of(part).packing_bytes(part, target, parallel=False) for part, _, _ in work.singles())
    workspace = job.offset(pointers[-1], job.mul(own, max(packing, default=0) // TILE_GROUPS))

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
                _prefetch_next(job, work, known, lines * (number - 1), lines * number)
            arguments = [known[place] for place in step.params]
            if step.work.packs:
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


def turns_between_polls(work: Nested | StraightLoop, target: Target) -> int:
    """How many turns of a long loop there are between two polls for signals, or, where threads share its groups, into
    how many ranges the turns of each are cut; 0 for a short loop, which has no polls."""
    whole = effort(work, target)
    if whole < 2 * TURN_EFFORT:
        return 0
    if isinstance(work, Nested) and work.is_shared:
        ranges = min(int(whole // TURN_EFFORT), work.count // work.groups)
        return ranges if ranges > 1 else 0
    return max(1, int(TURN_EFFORT * work.count // whole))


def _prefetch_next(job: Function, work: Nested, known: Mapping[Place, Value], low: int, high: int) -> None:
    """Prefetch some lines of the next tile of what comes from memory, where `Nest` begins to read its rows."""
    for place in work.steps[0].params:
        if place.turn * work.count < MEMORY_BYTES or place.turn < BLOCKED_ROWS * LINE:
            continue
        for part in range(BLOCKED_ROWS):
            start = place.turn + part * (place.turn // BLOCKED_ROWS)
            for line in range(low, high):
                job.prefetch(job.offset(known[place], start + line * LINE), 2)
