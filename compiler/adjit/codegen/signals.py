"""Python's signals inside a long call: where a program looks for them, and the functions that do.

    i64  adjit_poll()                                           0, or INTERRUPTED where a handler raised
    void adjit_set_poll(ptr handle, i64 thread)                 what runs the handlers, and the thread that may; or null

are the library "signals", which knows nothing of Python: a program polls ahead of some kernels and in the midst of long
ones (`polls_of`), never after a write to state, and leaves where the result is not 0. Other threads than the one named
never look; that one looks at the clock, and calls `handle` where `POLL_NANOSECONDS` have gone by since the last time in
this process.

    i64  adjit_handle()                                         runs pending handlers: 0, or INTERRUPTED
    i64  adjit_enter(ptr entry, ptr table, ptr arena, ptr report)    calls an entry without the GIL
    i64  adjit_enter_run(ptr run, ptr desc)                     the same for the native loop

are the library "python", for CPython. `adjit_handle` may be called with the GIL or without, in any mode of arithmetic.
After INTERRUPTED the exception of the handler is set in the thread's state, so the caller's function is one that
keeps the GIL and looks for an exception (`ctypes.PYFUNCTYPE`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adjit.codegen.light import body_effort, product_effort
from adjit.codegen.llvm import I32, I64, PTR, VOID, Function, Module, Ty, Value, int_literal, literal
from adjit.codegen.subnormals import precisely
from adjit.codegen.trial import MONOTONIC
from adjit.schedule.arena import written
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.work import Single, Work
from adjit.tuned import POLL_EFFORT, POLL_NANOSECONDS
from adjit_runtime.errors import InternalError
from adjit_runtime.program import INTERRUPTED
from adjit_runtime.target import Target


@dataclass(frozen=True, slots=True)
class Polls:
    """Where a program polls: ahead of the kernels of some numbers; and in the midst of some kernels, by the ranges that
    each is cut into."""

    ahead: frozenset[int]
    ranges: Mapping[Work, int]


def polls_of(plan: Plan, target: Target, ranges_of: Callable[[Work], int]) -> Polls:
    """Where to poll: with `POLL_EFFORT` of work since the last time, and ahead of every write to state, as what is
    interrupted must leave the state as it was. `ranges_of` says into how many ranges a kernel can be cut."""
    commit = next((i for i, kernel in enumerate(plan.kernels) if writes_state(plan, kernel)), len(plan.kernels))
    # Equal kernels have one function.
    after = {kernel.work for kernel in plan.kernels[commit:]}
    ranges = {}
    efforts: dict[Work, float] = {}
    ahead = set()
    since = 0.0
    for number, kernel in enumerate(plan.kernels[: commit + 1]):
        if since >= POLL_EFFORT:
            ahead.add(number)
            since = 0.0
        if kernel.work not in efforts:
            efforts[kernel.work] = effort(kernel.work, target)
            count = ranges_of(kernel.work) if kernel.work not in after else 0
            if count:
                ranges[kernel.work] = count
        since = 0.0 if kernel.work in ranges else since + efforts[kernel.work]
    return Polls(frozenset(ahead), ranges)


def verify_polls(plan: Plan, polls: Polls) -> None:
    """Raise InternalError where a poll stands after a write to state: what leaves there tears it."""
    writer = None
    for number, kernel in enumerate(plan.kernels):
        if number in polls.ahead and writer is not None:
            raise InternalError(
                f"@{plan.name} polls ahead of kernel {number}, after kernel {writer}, which writes to state"
            )
        if writes_state(plan, kernel):
            writer = number if writer is None else writer
        if kernel.work in polls.ranges and writer is not None:
            raise InternalError(f"@{plan.name} polls in kernel {number}, but {writer} writes to state")


def writes_state(plan: Plan, kernel: Kernel) -> bool:
    """Whether a kernel writes a new value of a state."""
    return any(buffer.slot is not None and plan.slots[buffer.slot].role == "state" for buffer in written(kernel))


def effort(work: Work, target: Target) -> float:
    """Vector instructions of a kernel, about; those of one element count as much where a kernel goes element by
    element."""
    return work.instructions + sum(times * _effort(part, target) for part, _, times in work.singles())


def _effort(work: Single, target: Target) -> float:
    body = work.elements
    own = body_effort(body, target, lanes=1 if work.in_order else None) if body is not None else 0.0
    return own + product_effort(work, target)


def emit_poll(entry: Function) -> None:
    """Leave an entry where a handler of a signal raises."""
    status = entry.call("adjit_poll", I64, [])
    entry.return_if(entry.compare("ne", status, int_literal(0)), status)


def emit_signals_library(module: Module) -> None:
    """Write `adjit_poll` and `adjit_set_poll`."""
    names = {"handle": "ptr null", "thread": "i64 0", "due": "i64 0"}
    for name, value in names.items():
        module.globals[name] = f"@{name} = internal global {value}"
    handle, thread, due = (Value(PTR, f"@{name}") for name in names)

    f = module.function("adjit_set_poll", VOID, [(PTR, "new"), (I64, "its_thread")])
    f.store(f.params[1], thread)
    f.store(f.params[0], handle)
    f.ret()

    f = module.function("adjit_poll", I64, [])
    function = f.load(handle, PTR)
    f.return_if(f.compare("eq", function, literal(PTR, 0)), int_literal(0))
    here = f.call("pthread_self", I64, [])
    f.return_if(f.compare("ne", here, f.load(thread, I64)), int_literal(0))
    now = _nanoseconds(f)
    f.return_if(f.compare("slt", now, f.load(due, I64)), int_literal(0))
    status = f.call_pointer(function, I64, [])
    # From when the handlers are done, as they may take long.
    f.store(f.add(_nanoseconds(f), POLL_NANOSECONDS), due)
    f.ret(status)


def _nanoseconds(f: Function) -> Value:
    time = f.alloca(I64, 2)
    f.call("clock_gettime", I32, [literal(I32, MONOTONIC), time])
    return f.add(f.mul(f.load(time, I64), 1_000_000_000), f.load(f.element(time, I64, 1), I64))


def emit_python_library(module: Module) -> None:
    """Write `adjit_handle`, `adjit_enter` and `adjit_enter_run`."""
    f = module.function("adjit_handle", I64, [])
    f.ret(precisely(f, lambda: _handled(f)))
    _emit_enter(module, "adjit_enter", ["table", "arena", "report"])
    _emit_enter(module, "adjit_enter_run", ["desc"])


def _handled(f: Function) -> Value:
    state = f.call("PyGILState_Ensure", I32, [])
    raised = f.call("PyErr_CheckSignals", I32, [])
    f.call("PyGILState_Release", VOID, [state])
    return f.select(f.compare("ne", raised, literal(I32, 0)), int_literal(INTERRUPTED), int_literal(0))


def _emit_enter(module: Module, name: str, arguments: list[str]) -> None:
    params: list[tuple[Ty, str]] = [(PTR, "function"), *((PTR, argument) for argument in arguments)]
    f = module.function(name, I64, params)
    thread = f.call("PyEval_SaveThread", PTR, [])
    status = f.call_pointer(f.params[0], I64, f.params[1:])
    f.call("PyEval_RestoreThread", VOID, [thread])
    f.ret(status)
