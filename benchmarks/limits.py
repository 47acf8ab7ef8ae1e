"""What the machine can do: peak of fused multiply-adds, bandwidth of reading and of a triad, by kernels in LLVM IR.

Explicit vectors of the host's width, no optimisation pipeline. With several threads each runs on its own memory, called
through ctypes, which gives the GIL back. The best of several runs counts: a limit is what was reached once.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from adjit_runtime.load import address_of, aligned_bytes
from adjit_runtime.target import Target, host_target, target_machine
from benchmarks.results import Limits

CHAINS = 12
"""Independent accumulators of the peak: more than latency times rate, and with two operands within 16 registers."""

STREAMS = 8
"""Independent sums of the reading loop."""


def _peak(scalar: str, lanes: int) -> str:
    """x = x * c + d in CHAINS independent registers, n times; the sum goes to `out`."""
    v, name = f"<{lanes} x {scalar}>", f"llvm.fma.v{lanes}{'f32' if scalar == 'float' else 'f64'}"
    phis = "\n".join(f"  %x{i} = phi {v} [ %d, %entry ], [ %y{i}, %loop ]" for i in range(CHAINS))
    body = "\n".join(f"  %y{i} = call {v} @{name}({v} %x{i}, {v} %c, {v} %d)" for i in range(CHAINS))
    sums = "\n".join(f"  %s{i} = fadd {v} {'%y0' if i == 1 else f'%s{i - 1}'}, %y{i}" for i in range(1, CHAINS))
    return f"""
declare {v} @{name}({v}, {v}, {v})
define void @peak_{scalar}(i64 %n, ptr %in, ptr %out) {{
entry:
  %c = load {v}, ptr %in, align 64
  %at = getelementptr {v}, ptr %in, i64 1
  %d = load {v}, ptr %at, align 64
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
{sums}
  store {v} %s{CHAINS - 1}, ptr %out, align 64
  ret void
}}
"""


def _read(lanes: int) -> str:
    """The sum of n vectors, `times` times over; n is a multiple of STREAMS."""
    v = f"<{lanes} x float>"
    outer = "\n".join(f"  %o{i} = phi {v} [ zeroinitializer, %entry ], [ %y{i}, %again ]" for i in range(STREAMS))
    phis = "\n".join(f"  %x{i} = phi {v} [ %o{i}, %outer ], [ %y{i}, %loop ]" for i in range(STREAMS))
    body = "\n".join(
        f"""  %j{i} = add i64 %i, {i}
  %p{i} = getelementptr {v}, ptr %a, i64 %j{i}
  %v{i} = load {v}, ptr %p{i}, align 64
  %y{i} = fadd {v} %x{i}, %v{i}"""
        for i in range(STREAMS)
    )
    sums = "\n".join(f"  %s{i} = fadd {v} {'%y0' if i == 1 else f'%s{i - 1}'}, %y{i}" for i in range(1, STREAMS))
    return f"""
define void @read(i64 %n, i64 %times, ptr %a, ptr %b, ptr %out) {{
entry:
  br label %outer
outer:
  %t = phi i64 [ 0, %entry ], [ %t_next, %again ]
{outer}
  br label %loop
loop:
  %i = phi i64 [ 0, %outer ], [ %next, %loop ]
{phis}
{body}
  %next = add i64 %i, {STREAMS}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %again
again:
  %t_next = add i64 %t, 1
  %anew = icmp slt i64 %t_next, %times
  br i1 %anew, label %outer, label %done
done:
{sums}
  store {v} %s{STREAMS - 1}, ptr %out, align 64
  ret void
}}
"""


def _triad(lanes: int) -> str:
    """out = a + 3 b over n vectors, `times` times over; n is a multiple of 4."""
    v = f"<{lanes} x float>"
    three = f"<{', '.join(['float 3.0'] * lanes)}>"
    body = "\n".join(
        f"""  %j{i} = add i64 %i, {i}
  %pa{i} = getelementptr {v}, ptr %a, i64 %j{i}
  %pb{i} = getelementptr {v}, ptr %b, i64 %j{i}
  %po{i} = getelementptr {v}, ptr %out, i64 %j{i}
  %a{i} = load {v}, ptr %pa{i}, align 64
  %b{i} = load {v}, ptr %pb{i}, align 64
  %r{i} = call {v} @llvm.fma.v{lanes}f32({v} %b{i}, {v} {three}, {v} %a{i})
  store {v} %r{i}, ptr %po{i}, align 64"""
        for i in range(4)
    )
    return f"""
define void @triad(i64 %n, i64 %times, ptr %a, ptr %b, ptr %out) {{
entry:
  br label %outer
outer:
  %t = phi i64 [ 0, %entry ], [ %t_next, %again ]
  br label %loop
loop:
  %i = phi i64 [ 0, %outer ], [ %next, %loop ]
{body}
  %next = add i64 %i, 4
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %again
again:
  %t_next = add i64 %t, 1
  %anew = icmp slt i64 %t_next, %times
  br i1 %anew, label %outer, label %done
done:
  ret void
}}
"""


class Kernels:
    """The kernels in machine code; `run(name, *arguments)` calls one."""

    def __init__(self, target: Target) -> None:
        self.vector_bytes = target.vector_bytes
        lanes = target.vector_bytes // 4
        text = _peak("float", lanes) + _peak("double", lanes // 2) + _read(lanes) + _triad(lanes)
        machine = target_machine(target)
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = target.triple, str(machine.target_data)
        module.verify()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(target))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(machine.emit_object(module)))
        self._engine.finalize_object()

    @functools.cache  # noqa: B019 - one instance lives as long as the process
    def function(self, name: str, count: int) -> Callable[..., None]:
        """A kernel with so many arguments, all of 64 bits."""
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)
        return kind(self._engine.get_function_address(name))


@functools.cache
def _kernels() -> Kernels:
    return Kernels(host_target())


def together(calls: Sequence[Callable[[], object]]) -> float:
    """Seconds from the common start to the last end, each call in a thread of its own."""
    if len(calls) == 1:
        begun = time.perf_counter()
        calls[0]()
        return time.perf_counter() - begun
    barrier = threading.Barrier(len(calls) + 1)

    def work(call: Callable[[], object]) -> None:
        barrier.wait()
        call()
        ends.append(time.perf_counter())

    ends: list[float] = []
    workers = [threading.Thread(target=work, args=(call,)) for call in calls]
    for worker in workers:
        worker.start()
    barrier.wait()
    begun = time.perf_counter()
    for worker in workers:
        worker.join()
    return max(ends) - begun


def _best(calls: Callable[[int], Sequence[Callable[[], object]]], work: float, seconds: float) -> float:
    """Work a second, the best of several runs of 10 ms. `calls(times)` repeats its work so often."""
    times = 1
    while (spent := together(calls(times))) < 0.005:
        times *= 2
    times = max(1, round(times * 0.01 / spent))
    best, stop = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        best = max(best, times * work / together(calls(times)))
    return best


def peak_flops(double: bool, threads: int, seconds: float = 0.1) -> float:
    """Flops a second of fused multiply-adds in all threads together."""
    kernels = _kernels()
    function = kernels.function("peak_double" if double else "peak_float", 3)
    dtype = np.dtype(np.float64 if double else np.float32)
    lanes = kernels.vector_bytes // dtype.itemsize
    # x -> x / 2 + 1 stays near 2: no subnormal, no overflow.
    given = aligned_bytes(2 * kernels.vector_bytes).view(dtype)
    given[:lanes], given[lanes:] = 0.5, 1.0
    results = [aligned_bytes(kernels.vector_bytes) for _ in range(threads)]

    def calls(times: int) -> list[Callable[[], object]]:
        return [functools.partial(function, 1000 * times, address_of(given), address_of(out)) for out in results]

    return _best(calls, 1000.0 * CHAINS * lanes * 2 * threads, seconds)


def bandwidth(kind: str, nbytes: float, threads: int, seconds: float = 0.1) -> float:
    """Bytes a second of "read" or "triad" over a working set of so many bytes, cut between the threads."""
    kernels = _kernels()
    function = kernels.function(kind, 5)
    arrays = 1 if kind == "read" else 3
    step = STREAMS * kernels.vector_bytes
    # At least 4 KB, and vectors in whole steps of the loop.
    size = max(4096, int(nbytes) // (threads * arrays)) // step * step
    memory = [[aligned_bytes(size) for _ in range(arrays)] for _ in range(threads)]
    for array in itertools.chain(*memory):
        # Else all pages are the one page of zeros, which the cache holds.
        array.view(np.float32)[:] = 1
    rest = [aligned_bytes(kernels.vector_bytes) for _ in range(threads)]

    def calls(times: int) -> list[Callable[[], object]]:
        made: list[Callable[[], object]] = []
        for own, out in zip(memory, rest, strict=True):
            a = address_of(own[0])
            b, target = (a, address_of(out)) if arrays == 1 else (address_of(own[1]), address_of(own[2]))
            made.append(functools.partial(function, size // kernels.vector_bytes, times, a, b, target))
        return made

    return _best(calls, float(size * arrays * threads), seconds)


def measure(threads: int, working_set: float, seconds: float = 0.1) -> Limits:
    """All limits for a working set; 0 bytes stand for what fits the first cache."""
    return Limits(
        threads,
        peak_flops(False, threads, seconds),
        peak_flops(True, threads, seconds),
        working_set,
        bandwidth("read", working_set, threads, seconds),
        bandwidth("triad", working_set, threads, seconds),
    )
