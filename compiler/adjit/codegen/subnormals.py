"""Subnormal numbers as zero: two bits of the register that controls a thread's floating-point arithmetic.

A moment that decays, or the gradient of what a network has learnt, ends among the subnormal numbers and stays there, as
0.9 of the smallest one rounds to itself; and many processors are slow with them.
"""

from __future__ import annotations

from collections.abc import Callable

from adjit.codegen.llvm import I32, I64, VOID, Function, Value, literal

FLUSH = {"x86_64": 0x8040, "aarch64": 1 << 24}
"""MXCSR's FTZ and DAZ (results, operands), FPCR's FZ."""


def flushing(f: Function, run: Callable[[], Value]) -> Value:
    """The result of `run`, which calls a function, with subnormal numbers as zero; the mode is put back after it."""
    machine = _machine(f)
    if machine not in FLUSH:
        return run()
    before = _mode(f, machine)
    wanted = f.binary("or", before, literal(before.ty, FLUSH[machine]))
    other = f.compare("ne", before, wanted)
    f.branch(other, lambda: _set_mode(f, machine, wanted))
    result = run()
    f.branch(other, lambda: _set_mode(f, machine, before))
    return result


def precisely(f: Function, run: Callable[[], Value]) -> Value:
    """The result of `run`, which calls a function, with subnormal numbers as they are, like Python's own code; the mode
    is put back after it."""
    machine = _machine(f)
    if machine not in FLUSH:
        return run()
    before = _mode(f, machine)
    _set_mode(f, machine, f.binary("and", before, literal(before.ty, ~FLUSH[machine])))
    result = run()
    _set_mode(f, machine, before)
    return result


def _machine(f: Function) -> str:
    target = f.module.target
    return target.triple.split("-")[0] if target is not None else ""


def _mode(f: Function, machine: str) -> Value:
    if machine == "aarch64":
        return f.call("llvm.aarch64.get.fpcr", I64, [])
    place = f.alloca(I32, 1)
    f.call("llvm.x86.sse.stmxcsr", VOID, [place])
    return f.load(place, I32)


def _set_mode(f: Function, machine: str, mode: Value) -> list[Value]:
    if machine == "aarch64":
        f.call("llvm.aarch64.set.fpcr", VOID, [mode])
        return []
    place = f.alloca(I32, 1)
    f.store(mode, place)
    f.call("llvm.x86.sse.ldmxcsr", VOID, [place])
    return []


def mode_text(machine: str) -> tuple[str, str, str]:
    """LLVM text: declarations; the mode of this thread as `i64 %mode`; `i64 %mode` made the mode of this thread. The
    latter two use stack memory `ptr %mode_at`."""
    if machine == "aarch64":
        declare = "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)"
        return declare, "%mode = call i64 @llvm.aarch64.get.fpcr()", "call void @llvm.aarch64.set.fpcr(i64 %mode)"
    if machine == "x86_64":
        declare = "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)"
        read = """call void @llvm.x86.sse.stmxcsr(ptr %mode_at)
  %mode_word = load i32, ptr %mode_at
  %mode = zext i32 %mode_word to i64"""
        write = """%mode_word = trunc i64 %mode to i32
  store i32 %mode_word, ptr %mode_at
  call void @llvm.x86.sse.ldmxcsr(ptr %mode_at)"""
        return declare, read, write
    return "", "%mode = add i64 0, 0", ""
