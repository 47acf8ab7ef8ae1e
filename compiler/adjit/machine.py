"""`machine()`: the CPU that code is made for, and what it was measured to do."""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adjit.tuned import PEAK_CHAINS, READ_STREAMS
from adjit_runtime import cache
from adjit_runtime.load import address_of, aligned_bytes, session
from adjit_runtime.target import Target, host_target
from adjit_runtime.threads import get_threads

SIZES = tuple(1 << n for n in range(14, 28))
"""Bytes of memory that reading is measured over: 16 KB to 128 MB."""
RUNS = 5
SECONDS = 0.004
"""Of one measurement; the best of `RUNS` counts."""


@dataclass(frozen=True)
class Machine:
    """One core. `gflops` by dtype name, `read` GB/s by the bytes that are read again and again."""

    target: Target
    threads: int
    gflops: dict[str, float]
    read: dict[int, float]

    def bandwidth(self, nbytes: float) -> float:
        """GB/s of reading from a working set of so many bytes."""
        size = next((size for size in sorted(self.read) if size >= nbytes), max(self.read))
        return self.read[size]

    def limit(self, flops: float, nbytes: float, itemsize: int) -> float:
        """Seconds that one core needs at least (roofline: Williams, Waterman, Patterson 2009)."""
        peak = self.gflops["float32" if itemsize <= 4 else "float64"]
        return max(flops / peak, nbytes / self.bandwidth(nbytes)) * 1e-9

    def __str__(self) -> str:
        t = self.target
        features = [
            name for name in ("avx2", "fma", "avx512f", "avx512vl", "amx-tile", "neon") if f"+{name}," in t.features
        ]
        lines = [
            f"{t.cpu} ({t.triple}), {self.threads} thread{'s' if self.threads > 1 else ''}",
            f"vectors of {t.vector_bytes} bytes, {t.registers} registers; {' '.join(features)}",
            f"caches: L1 {t.l1 >> 10} KB, L2 {t.l2 >> 10} KB, L3 {t.l3 >> 10} KB",
            *(f"{name}: {gflops:.0f} GFLOP/s on one core" for name, gflops in self.gflops.items()),
            *(f"reading {_bytes(size)}: {rate:.0f} GB/s" for size, rate in self.read.items()),
        ]
        return "\n".join(lines)


def _bytes(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} KB"


def machine() -> Machine:
    """This machine: CPU, features, caches, and the peaks of one core, measured once and kept in the cache.

    >>> import adjit
    >>> adjit.machine().gflops["float32"] > 0
    True
    """
    target = host_target()
    key = cache.key_of(("machine", target.key))
    found = cache.load(key)
    if found is None:
        measured = {"gflops": _measure_peaks(target), "read": _measure_reading(target)}
        found = json.dumps(measured).encode()
        cache.store(key, found)
    values = json.loads(found)
    read = {int(size): rate for size, rate in values["read"].items()}
    return Machine(target, get_threads(), values["gflops"], read)


def _best(call: Callable[[int], None], start: int) -> float:
    """Seconds a round, the best of some runs."""
    rounds = start
    while True:
        begun = time.perf_counter()
        call(rounds)
        spent = time.perf_counter() - begun
        if spent > SECONDS / 4:
            break
        rounds *= 2
    rounds = max(1, math.ceil(rounds * SECONDS / spent))
    best = math.inf
    for _ in range(RUNS):
        begun = time.perf_counter()
        call(rounds)
        best = min(best, (time.perf_counter() - begun) / rounds)
    return best


def _measure_peaks(target: Target) -> dict[str, float]:
    functions = session().library("peaks")
    found = {}
    for dtype, name in ((np.dtype(np.float32), "adjit_peak_f32"), (np.dtype(np.float64), "adjit_peak_f64")):
        run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(functions[name])
        memory = aligned_bytes(2 * target.vector_bytes)
        # 1 * 0.5 + 0.5 stays 1: no subnormal, no infinity.
        memory.view(dtype)[:] = 0.5
        lanes = target.vector_bytes // dtype.itemsize

        def call(rounds: int, run: Callable[..., None] = run, memory: np.ndarray = memory) -> None:
            run(rounds, address_of(memory))

        found[dtype.name] = 2 * lanes * PEAK_CHAINS / _best(call, 1000) * 1e-9
    return found


def _measure_reading(target: Target) -> dict[int, float]:
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(
        session().library("peaks")["adjit_read"]
    )
    memory, out = aligned_bytes(SIZES[-1]), aligned_bytes(target.vector_bytes)
    memory.view(np.float32)[:] = 1.0
    found = {}
    for size in SIZES:
        vectors = size // target.vector_bytes // READ_STREAMS * READ_STREAMS

        def call(rounds: int, vectors: int = vectors) -> None:
            run(address_of(memory), vectors, rounds, address_of(out))

        found[size] = vectors * target.vector_bytes / _best(call, 1) * 1e-9
    # A smaller set is read as fast as a larger one at least; where it was not, something else ran meanwhile.
    return {size: max(rate for other, rate in found.items() if other >= size) for size in SIZES}
