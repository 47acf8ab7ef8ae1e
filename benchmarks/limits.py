"""What the machine can do: peak of fused multiply-adds, bandwidth of reading and of a triad, by adjit's own peak loops.

With several threads each runs on its own memory, called through ctypes, which gives the GIL back. The best of several
runs counts: a limit is what was reached once.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

import adjit  # noqa: F401 - it makes the libraries that a session loads
from adjit.tuned import PEAK_CHAINS, READ_STREAMS
from adjit_runtime.load import address_of, aligned_bytes, session
from adjit_runtime.target import host_target
from benchmarks.results import Limits


@functools.cache
def _function(name: str, count: int) -> Callable[..., None]:
    """A loop of the library of peaks with so many arguments, all of 64 bits."""
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)
    return kind(session().library("peaks")[name])


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
    function = _function("adjit_peak_f64" if double else "adjit_peak_f32", 2)
    dtype = np.dtype(np.float64 if double else np.float32)
    vector_bytes = host_target().vector_bytes
    own = [aligned_bytes(2 * vector_bytes) for _ in range(threads)]
    for memory in own:
        # 1 * 0.5 + 0.5 stays 1: no subnormal, no infinity.
        memory.view(dtype)[:] = 0.5

    def calls(times: int) -> list[Callable[[], object]]:
        return [functools.partial(function, 1000 * times, address_of(memory)) for memory in own]

    return _best(calls, 1000.0 * PEAK_CHAINS * (vector_bytes // dtype.itemsize) * 2 * threads, seconds)


def bandwidth(kind: str, nbytes: float, threads: int, seconds: float = 0.1) -> float:
    """Bytes a second of "read" or "triad" over a working set of so many bytes, cut between the threads."""
    arrays = 1 if kind == "read" else 3
    function = _function(f"adjit_{kind}", 3 + (arrays + 1) // 2)
    vector_bytes = host_target().vector_bytes
    step = READ_STREAMS * vector_bytes
    # At least 4 KB, and vectors in whole steps of the loop.
    size = max(4096, int(nbytes) // (threads * arrays)) // step * step
    memory = [[aligned_bytes(size) for _ in range(arrays)] for _ in range(threads)]
    for array in itertools.chain(*memory):
        # Else all pages are the one page of zeros, which the cache holds.
        array.view(np.float32)[:] = 1
    totals = [aligned_bytes(vector_bytes) for _ in range(threads)]

    def calls(times: int) -> list[Callable[[], object]]:
        made: list[Callable[[], object]] = []
        for own, total in zip(memory, totals, strict=True):
            *sources, target = (own[0], total) if arrays == 1 else own
            addresses = [address_of(source) for source in sources]
            made.append(functools.partial(function, *addresses, size // vector_bytes, times, address_of(target)))
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
