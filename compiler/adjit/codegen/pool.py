"""Worker threads, as machine code: a job is a function of (context, part), run for each part below a count.

    void adjit_parallel(ptr function, ptr context, i64 count)    run a job on all threads; returns when it is done
    i64  adjit_threads()                                         how many threads run jobs, the caller's included
    void adjit_wake()                                            workers that sleep begin to look for jobs
    void adjit_worker(ptr pool)                                  what a worker runs until it is told to stop
    void adjit_set_pool(ptr pool)                                the pool of the process; null: the caller alone
    void adjit_stop(ptr pool)                                    tell the workers to stop

A pool is an array of words; `adjit_runtime.threads` owns it and makes the workers. `open` has a bit for each part that
nobody has taken, `PARTS` at most: one atomic instruction clears it and says whether it was set. Threads are numbered,
the caller is 0, and each takes the parts of its own share first, then those of others from the end: so the same rows
of one kernel after the other are in the same core's cache, and a thread that comes late holds nobody up. Parts run in
the caller's mode of floating-point arithmetic. A second job at the same time, and one inside another, runs on the
thread that asked for it. A worker looks for a job for about 50 us, then sleeps on a futex until the next one; woken on
the caller's CPU, where it would wait for the caller, it moves to another."""

from __future__ import annotations

from adjit.codegen.llvm import GLUE
from adjit.codegen.subnormals import mode_text
from adjit.codegen.trial import SYMBOLS as TRIAL_SYMBOLS
from adjit.codegen.trial import trial_text
from adjit.tuned import CALLER_SPINS, WORKER_SPINS
from adjit_runtime.program import POOL_WORDS
from adjit_runtime.target import Target

SYMBOLS = (
    *("adjit_parallel", "adjit_threads", "adjit_wake", "adjit_worker", "adjit_set_pool", "adjit_stop"),
    *TRIAL_SYMBOLS,
)
PARTS = 64
"""Parts of a job at most."""
FUTEX = {"x86_64": 202, "aarch64": 98}
SET_AFFINITY, GET_AFFINITY = {"x86_64": 203, "aarch64": 122}, {"x86_64": 204, "aarch64": 123}
GET_CPU = {"x86_64": 309, "aarch64": 168}
CPU_WORDS = 16
"""Words of a set of CPUs: for 1,024 of them."""
_WAIT, _WAKE = 128, 129  # private to the process


def pool_text(target: Target) -> str:
    """The module's text."""
    machine = target.triple.split("-")[0]
    pause = "call void @llvm.x86.sse2.pause()" if machine == "x86_64" else "fence seq_cst"
    declare = "declare void @llvm.x86.sse2.pause()" if machine == "x86_64" else ""
    futex, set_affinity, get_affinity, get_cpu = (
        numbers.get(machine, numbers["x86_64"]) for numbers in (FUTEX, SET_AFFINITY, GET_AFFINITY, GET_CPU)
    )
    mode_functions, read_mode, write_mode = mode_text(machine)

    def word(name: str, as_: str = "") -> str:
        return f"%{as_ or name} = getelementptr i64, ptr %pool, i64 {POOL_WORDS[name]}"

    return f"""; pool
@pool = internal global ptr null

declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctlz.i64(i64, i1)
{declare}
{mode_functions}

define void @adjit_set_pool(ptr %new) {GLUE} {{
  store atomic ptr %new, ptr @pool seq_cst, align 8
  ret void
}}

define i64 @adjit_threads() {GLUE} {{
  %pool = load atomic ptr, ptr @pool acquire, align 8
  %none = icmp eq ptr %pool, null
  br i1 %none, label %alone, label %some
alone:
  ret i64 1
some:
  {word("threads")}
  %count = load i64, ptr %threads
  ret i64 %count
}}

; Whoever is going to sleep has said so before it looked for the last time.
define internal void @wake(ptr %pool) {GLUE} {{
  %cpu = alloca i32
  {word("sleepers")}
  %asleep = load atomic i64, ptr %sleepers seq_cst, align 8
  %none = icmp eq i64 %asleep, 0
  br i1 %none, label %done, label %call
call:
  {word("cpu", as_="cpu_at")}
  %told = call i64 (i64, ...) @syscall(i64 {get_cpu}, ptr %cpu, ptr null, ptr null)
  %here = load i32, ptr %cpu
  store atomic i32 %here, ptr %cpu_at monotonic, align 8
  {word("generation")}
  %before = atomicrmw add ptr %generation, i32 1 seq_cst
  %woken = call i64 (i64, ...) @syscall(i64 {futex}, ptr %generation, i64 {_WAKE}, i64 2147483647, i64 0, i64 0, i64 0)
  br label %done
done:
  ret void
}}

define void @adjit_wake() {GLUE} {{
  %pool = load atomic ptr, ptr @pool acquire, align 8
  %none = icmp eq ptr %pool, null
  br i1 %none, label %done, label %look
look:
  call void @wake(ptr %pool)
  br label %done
done:
  ret void
}}

; A worker that was woken on its caller's CPU goes to another one, if it may use any; it stays free to use all.
define internal void @leave_caller(ptr %pool) {GLUE} {{
entry:
  %all = alloca [{CPU_WORDS} x i64]
  %cpu = alloca i32
  {word("cpu", as_="cpu_at")}
  %caller = load atomic i32, ptr %cpu_at monotonic, align 8
  %told = call i64 (i64, ...) @syscall(i64 {get_cpu}, ptr %cpu, ptr null, ptr null)
  %here = load i32, ptr %cpu
  %same = icmp eq i32 %caller, %here
  %known = icmp ult i32 %here, {64 * CPU_WORDS}
  %shared = and i1 %same, %known
  br i1 %shared, label %ask, label %done
ask:
  call void @llvm.memset.p0.i64(ptr %all, i8 0, i64 {8 * CPU_WORDS}, i1 false)
  %got = call i64 (i64, ...) @syscall(i64 {get_affinity}, i64 0, i64 {8 * CPU_WORDS}, ptr %all)
  %fine = icmp sgt i64 %got, 0
  br i1 %fine, label %count, label %done
count:
  %wide = zext i32 %here to i64
  %word = lshr i64 %wide, 6
  %shift = and i64 %wide, 63
  %bit = shl i64 1, %shift
  %mine = getelementptr i64, ptr %all, i64 %word
  %before = load i64, ptr %mine
  %without = xor i64 %bit, -1
  %rest = and i64 %before, %without
  store i64 %rest, ptr %mine
  br label %look
look:
  %i = phi i64 [ 0, %count ], [ %next, %look ]
  %found = phi i64 [ 0, %count ], [ %more, %look ]
  %at = getelementptr i64, ptr %all, i64 %i
  %there = load i64, ptr %at
  %more = or i64 %found, %there
  %next = add i64 %i, 1
  %go = icmp ult i64 %next, {CPU_WORDS}
  br i1 %go, label %look, label %decide
decide:
  %any = icmp ne i64 %more, 0
  br i1 %any, label %move, label %done
move:
  %away = call i64 (i64, ...) @syscall(i64 {set_affinity}, i64 0, i64 {8 * CPU_WORDS}, ptr %all)
  store i64 %before, ptr %mine
  %free = call i64 (i64, ...) @syscall(i64 {set_affinity}, i64 0, i64 {8 * CPU_WORDS}, ptr %all)
  br label %done
done:
  ret void
}}

define void @adjit_stop(ptr %pool) {GLUE} {{
  {word("stop")}
  store atomic i64 1, ptr %stop seq_cst, align 8
  call void @wake(ptr %pool)
  ret void
}}

; Take parts while there are any, as the thread of this number; the result says whether there was one.
define internal i1 @help(ptr %pool, i64 %me) {GLUE} {{
entry:
  {word("open")}
  {word("done")}
  {word("function", as_="function_at")}
  {word("context", as_="context_at")}
  {word("share", as_="share_at")}
  {word("mode", as_="wanted_at")}
  %mode_at = alloca i32
  %is_worker = icmp ne i64 %me, 0
  br label %look
look:
  %did = phi i1 [ false, %entry ], [ %did, %take ], [ true, %run ]
  %seen = load atomic i64, ptr %open acquire, align 8
  %none = icmp eq i64 %seen, 0
  br i1 %none, label %leave, label %take
take:
  ; Where another job has come meanwhile its share is as good: any bit that was set is a part to run.
  %share = load atomic i64, ptr %share_at monotonic, align 8
  %first = mul i64 %share, %me
  %inside = icmp ult i64 %first, {PARTS}
  %shift = select i1 %inside, i64 %first, i64 0
  %few = call i64 @llvm.umin.i64(i64 %share, i64 {PARTS - 1})
  %top = shl i64 1, %few
  %low = add i64 %top, -1
  %home = shl i64 %low, %shift
  %own = and i64 %seen, %home
  %other = icmp eq i64 %own, 0
  %no_home = xor i1 %inside, true
  %steal = or i1 %other, %no_home
  %lowest = call i64 @llvm.cttz.i64(i64 %own, i1 false)
  %zeros = call i64 @llvm.ctlz.i64(i64 %seen, i1 true)
  %highest = sub i64 {PARTS - 1}, %zeros
  %part = select i1 %steal, i64 %highest, i64 %lowest
  %bit = shl i64 1, %part
  %others = xor i64 %bit, -1
  %before = atomicrmw and ptr %open, i64 %others seq_cst
  %was = and i64 %before, %bit
  %late = icmp eq i64 %was, 0
  br i1 %late, label %look, label %ours
ours:
  br i1 %is_worker, label %as_caller, label %run
as_caller:
  %mode = load atomic i64, ptr %wanted_at monotonic, align 8
  {write_mode}
  br label %run
run:
  %function = load ptr, ptr %function_at
  %context = load ptr, ptr %context_at
  call void %function(ptr %context, i64 %part)
  %so_far = atomicrmw add ptr %done, i64 1 seq_cst
  br label %look
leave:
  ret i1 %did
}}

define void @adjit_parallel(ptr %function, ptr %context, i64 %count) {GLUE} {{
entry:
  %mode_at = alloca i32
  %pool = load atomic ptr, ptr @pool acquire, align 8
  %none = icmp eq ptr %pool, null
  %less = sub i64 %count, 2
  %serial_only = icmp ugt i64 %less, {PARTS - 2}
  %alone = or i1 %none, %serial_only
  br i1 %alone, label %serial, label %try
try:
  {word("lock")}
  %pair = cmpxchg ptr %lock, i64 0, i64 1 seq_cst seq_cst
  %free = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %free, label %publish, label %serial
publish:
  {word("function", as_="function_at")}
  {word("context", as_="context_at")}
  {word("open")}
  {word("done")}
  {word("share", as_="share_at")}
  {word("threads", as_="threads_at")}
  {word("mode", as_="wanted_at")}
  {read_mode}
  store atomic i64 %mode, ptr %wanted_at monotonic, align 8
  store ptr %function, ptr %function_at
  store ptr %context, ptr %context_at
  store atomic i64 0, ptr %done monotonic, align 8
  %threads = load i64, ptr %threads_at
  %up = add i64 %count, %threads
  %rounded = sub i64 %up, 1
  %share = udiv i64 %rounded, %threads
  store atomic i64 %share, ptr %share_at monotonic, align 8
  %closed = sub i64 {PARTS}, %count
  %all_parts = lshr i64 -1, %closed
  store atomic i64 %all_parts, ptr %open seq_cst, align 8
  call void @wake(ptr %pool)
  %helped = call i1 @help(ptr %pool, i64 0)
  br label %wait
wait:
  %looks = phi i64 [ 0, %publish ], [ %more, %again ], [ 0, %rest ]
  %ready = load atomic i64, ptr %done seq_cst, align 8
  %all = icmp eq i64 %ready, %count
  br i1 %all, label %finish, label %again_or_rest
again_or_rest:
  %long = icmp ugt i64 %looks, {CALLER_SPINS}
  br i1 %long, label %rest, label %again
again:
  {pause}
  %more = add i64 %looks, 1
  br label %wait
rest:
  %slept = call i32 @sched_yield()
  br label %wait
finish:
  store atomic i64 0, ptr %lock seq_cst, align 8
  ret void
serial:
  %empty = icmp slt i64 %count, 1
  br i1 %empty, label %end, label %one
one:
  %i = phi i64 [ 0, %serial ], [ %next, %one ]
  call void %function(ptr %context, i64 %i)
  %next = add i64 %i, 1
  %go = icmp slt i64 %next, %count
  br i1 %go, label %one, label %end
end:
  ret void
}}

define void @adjit_worker(ptr %pool) {GLUE} {{
entry:
  {word("stop")}
  {word("open")}
  {word("generation")}
  {word("sleepers")}
  {word("joined")}
  %before_me = atomicrmw add ptr %joined, i64 1 seq_cst
  %me = add i64 %before_me, 1
  br label %look
look:
  %looks = phi i64 [ 0, %entry ], [ %more, %idle ], [ 0, %busy ], [ 0, %sleep ], [ 0, %late ]
  %stopped = load atomic i64, ptr %stop acquire, align 8
  %quit = icmp ne i64 %stopped, 0
  br i1 %quit, label %end, label %work
work:
  %did = call i1 @help(ptr %pool, i64 %me)
  br i1 %did, label %busy, label %nothing
busy:
  br label %look
nothing:
  %long = icmp ugt i64 %looks, {WORKER_SPINS}
  br i1 %long, label %tired, label %idle
idle:
  {pause}
  %more = add i64 %looks, 1
  br label %look
tired:
  %now = load atomic i32, ptr %generation seq_cst, align 8
  %more_asleep = atomicrmw add ptr %sleepers, i64 1 seq_cst
  ; A job or a stop that came before this thread was counted wakes nobody: look once more.
  %seen = load atomic i64, ptr %open seq_cst, align 8
  %any = icmp ne i64 %seen, 0
  %last = load atomic i64, ptr %stop seq_cst, align 8
  %told = icmp ne i64 %last, 0
  %stay = or i1 %any, %told
  br i1 %stay, label %late, label %sleep
late:
  %less_late = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  br label %look
sleep:
  %wide = zext i32 %now to i64
  %woken = call i64 (i64, ...) @syscall(i64 {futex}, ptr %generation, i64 {_WAIT}, i64 %wide, i64 0, i64 0, i64 0)
  %less = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  call void @leave_caller(ptr %pool)
  br label %look
end:
  ret void
}}
{trial_text()}"""
