"""`machine()`: the CPU that code is made for, and what it was measured to do."""

from __future__ import annotations

import ctypes
import html
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adjit.tuned import PEAK_CHAINS, READ_STREAMS
from adjit_runtime import cache, checks
from adjit_runtime.load import address_of, aligned_bytes, session
from adjit_runtime.public import public
from adjit_runtime.target import Target, host_target
from adjit_runtime.threads import get_threads

SIZES = tuple(1 << n for n in range(14, 28))
"""Bytes of memory that reading is measured over: 16 KB to 128 MB."""
RUNS = 5
SECONDS = 0.004
"""Of one measurement; the best of `RUNS` counts."""
MOST_PASSES = 6
AGREEMENT = 0.9
"""The share of the best measurement that another one reaches where nothing else ran."""


@dataclass(frozen=True)
class Machine:
    """One core. `gflops` by dtype name, `read` GB/s by the bytes that are read again and again.

    `disturbed`: something else ran whenever it was measured, so that the numbers are too low and were not kept."""

    target: Target
    threads: int
    gflops: dict[str, float]
    read: dict[int, float]
    disturbed: bool = False

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
        if self.disturbed:
            lines.append("measured while something else ran, and not kept: machine(remeasure=True) measures again")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return f"<pre>{html.escape(str(self))}</pre>"


def _bytes(size: int) -> str:
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} KB"


_MEASURED: dict[str, bytes] = {}
"""What this process measured undisturbed, by the cache's key: there may be no cache."""
_LATEST: dict[str, Machine] = {}
"""What it measured last."""


@public({"remeasured": "remeasure", "force": "remeasure", "refresh": "remeasure"})
def machine(remeasure: bool = False) -> Machine:
    """This machine: CPU, features, caches, and the peaks of one core, measured once and kept in the cache.

    `remeasure`: measure again, and keep that. Each number counts once two of several measurements agree in it; where
    they do not, something else ran, and nothing is kept: the result says so (`disturbed`), and the next call measures
    again. Raises ArgumentError where `remeasure` is no bool.

    >>> import adjit
    >>> adjit.machine().gflops["float32"] > 0
    True
    """
    target = host_target()
    key = cache.key_of(("machine", target.key))
    found = None if checks.flag("machine: remeasure", remeasure) else _MEASURED.get(key) or cache.load(key)
    if found is not None:
        values = json.loads(found)
        read = {int(size): rate for size, rate in values["read"].items()}
        return Machine(target, get_threads(), values["gflops"], read)
    gflops, read, disturbed = _agreed(target)
    if not disturbed:
        _MEASURED[key] = json.dumps({"gflops": gflops, "read": read}).encode()
        cache.store(key, _MEASURED[key])
    _LATEST[key] = Machine(target, get_threads(), gflops, read, disturbed)
    return _LATEST[key]


def latest() -> Machine:
    """`machine()`, or what this process measured last, disturbed as it may be: a table must not take seconds."""
    target = host_target()
    known = _LATEST.get(cache.key_of(("machine", target.key)))
    return machine() if known is None else replace(known, threads=get_threads())


def _agreed(target: Target) -> tuple[dict[str, float], dict[int, float], bool]:
    """The best of several measurements, and whether there is a number in which no two of them agree."""
    passes: list[tuple[dict[str, float], dict[int, float]]] = []
    while len(passes) < MOST_PASSES:
        passes.append((_measure_peaks(target), _measure_reading(target)))
        disturbed = not (_agree([peaks for peaks, _ in passes]) and _agree([rates for _, rates in passes]))
        if not disturbed:
            break
    gflops = {name: max(peaks[name] for peaks, _ in passes) for name in passes[0][0]}
    read = {size: max(rates[size] for _, rates in passes) for size in passes[0][1]}
    return gflops, read, disturbed


def _agree(measured: Sequence[Mapping[Any, float]]) -> bool:
    """Whether for each number the best two are about the same: what disturbs makes slower, and not twice by as much."""
    if len(measured) < 2:
        return False
    best = (sorted((found[key] for found in measured), reverse=True) for key in measured[0])
    return all(second >= AGREEMENT * first for first, second, *_ in best)


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
