"""Whether short kernels are worth a second thread, which a program finds out as it runs.

    i64  adjit_trial_begin(ptr trial)              a call of the program begins; 0, or when, where it is timed
    void adjit_trial_end(ptr trial, i64 begun)     it is over
    i64  adjit_short_threads(ptr trial)            how many threads a short kernel may use

A kernel of a few microseconds gains by a second core next door and loses by one that is far: on the same machine a line
of cache takes 55 ns to the one and 250 to the other, another program may have the core, and both change while a
program runs. Of every `TRIAL_PERIOD` calls the first `TRIAL_CALLS` share short kernels, as many keep them on the
caller's thread, and the others do what took least; the first call of either sort pays for moving data and is not
counted. The results are the same bits. A trial is memory of the program's own, zero at first; callers at the same time
spoil a measurement, no more."""

from __future__ import annotations

from adjit.codegen.llvm import GLUE, I64, PTR, VOID, Function, Module, Value
from adjit.tuned import TRIAL_CALLS, TRIAL_PERIOD

SYMBOLS = ("adjit_trial_begin", "adjit_trial_end", "adjit_short_threads")
CALLS, ALONE, LEAST = 0, 1, 2
"""The words of a trial: calls so far, whether short kernels stay with the caller, the least times shared and alone."""
MONOTONIC = 1
"""The number of Linux's clock."""


def short_threads(f: Function) -> Value:
    """How many threads a short kernel of the program may use."""
    return f.call("adjit_short_threads", I64, [_trial(f.module)])


def begin_trial(f: Function) -> Value:
    """Written where a program begins: what `end_trial` is given."""
    return f.call("adjit_trial_begin", I64, [_trial(f.module)])


def end_trial(f: Function, begun: Value) -> None:
    """Written where a program ends."""
    f.call("adjit_trial_end", VOID, [_trial(f.module), begun])


def _trial(module: Module) -> Value:
    module.globals["trial"] = "@trial = internal global [4 x i64] zeroinitializer, align 64"
    return Value(PTR, "@trial")


def trial_text() -> str:
    """The functions, a part of the pool's module."""

    def word(name: str, number: int) -> str:
        return f"%{name} = getelementptr i64, ptr %trial, i64 {number}"

    return f"""
declare i32 @clock_gettime(i32, ptr)

define internal i64 @nanoseconds() {GLUE} {{
  %time = alloca [2 x i64]
  %told = call i32 @clock_gettime(i32 {MONOTONIC}, ptr %time)
  %seconds = load i64, ptr %time
  %rest_at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest_at
  %billions = mul i64 %seconds, 1000000000
  %all = add i64 %billions, %rest
  ret i64 %all
}}

define i64 @adjit_short_threads(ptr %trial) {GLUE} {{
  {word("alone_at", ALONE)}
  %alone = load atomic i64, ptr %alone_at monotonic, align 8
  %is_alone = icmp ne i64 %alone, 0
  br i1 %is_alone, label %one, label %all
one:
  ret i64 1
all:
  %threads = call i64 @adjit_threads()
  ret i64 %threads
}}

define i64 @adjit_trial_begin(ptr %trial) {GLUE} {{
  {word("alone_at", ALONE)}
  %threads = call i64 @adjit_threads()
  %single = icmp ult i64 %threads, 2
  br i1 %single, label %untimed, label %count
count:
  {word("calls_at", CALLS)}
  %calls = load atomic i64, ptr %calls_at monotonic, align 8
  %more = add i64 %calls, 1
  store atomic i64 %more, ptr %calls_at monotonic, align 8
  %at = urem i64 %calls, {TRIAL_PERIOD}
  %tried = icmp ult i64 %at, {2 * TRIAL_CALLS}
  br i1 %tried, label %timed, label %untimed
timed:
  %second = icmp uge i64 %at, {TRIAL_CALLS}
  %alone = zext i1 %second to i64
  store atomic i64 %alone, ptr %alone_at monotonic, align 8
  %now = call i64 @nanoseconds()
  ret i64 %now
untimed:
  ret i64 0
}}

define void @adjit_trial_end(ptr %trial, i64 %begun) {GLUE} {{
  {word("alone_at", ALONE)}
  {word("least_shared_at", LEAST)}
  {word("least_alone_at", LEAST + 1)}
  %was_timed = icmp ne i64 %begun, 0
  br i1 %was_timed, label %timed, label %done
timed:
  {word("calls_at", CALLS)}
  %now = call i64 @nanoseconds()
  %spent = sub i64 %now, %begun
  %calls = load atomic i64, ptr %calls_at monotonic, align 8
  %this = sub i64 %calls, 1
  %at = urem i64 %this, {TRIAL_PERIOD}
  %of_sort = urem i64 %at, {TRIAL_CALLS}
  %second = icmp uge i64 %at, {TRIAL_CALLS}
  %least_at = select i1 %second, ptr %least_alone_at, ptr %least_shared_at
  %before = load atomic i64, ptr %least_at monotonic, align 8
  %less = call i64 @llvm.umin.i64(i64 %before, i64 %spent)
  %first = icmp eq i64 %of_sort, 0
  %least = select i1 %first, i64 -1, i64 %less
  store atomic i64 %least, ptr %least_at monotonic, align 8
  %last = icmp eq i64 %at, {2 * TRIAL_CALLS - 1}
  br i1 %last, label %choose, label %done
choose:
  %shared = load atomic i64, ptr %least_shared_at monotonic, align 8
  %is_better = icmp ult i64 %least, %shared
  %chosen = zext i1 %is_better to i64
  store atomic i64 %chosen, ptr %alone_at monotonic, align 8
  br label %done
done:
  ret void
}}
"""
