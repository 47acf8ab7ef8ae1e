"""Parts by themselves, against NumPy in one process: matrix products by shape, functions of vector mathematics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]

ELEMENTS = 4096
"""Elements of a call: both arrays stay in the first cache in float32."""


def in_turn(ours: Callable[[int], Any], theirs: Callable[[int], Any], seconds: float) -> tuple[float, float]:
    """Median seconds of one repetition of each, in turn. Both take a number of repetitions."""
    times = 1
    while _timed(theirs, times) * times < 100e-6:
        times *= 2
    ours(times)
    pairs: list[tuple[float, float]] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(pairs) < 7:
        pairs.append((_timed(ours, times), _timed(theirs, times)))
    one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return one, other


def _timed(call: Callable[[int], Any], times: int) -> float:
    begun = time.perf_counter()
    call(times)
    return (time.perf_counter() - begun) / times


def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
    """A call as a function of the number of repetitions."""

    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run


def gemm(seconds: float, quick: bool) -> Rows:
    """GFLOP/s by shape, float32 and float64."""
    from benchmarks.gemm import compile_library, prepared
    from benchmarks.shapes import SHAPES

    engine, _ = compile_library(quiet=True)
    rows: Rows = []
    for name, dtype in (("float32", np.dtype(np.float32)), ("float64", np.dtype(np.float64))):
        for shape in SHAPES[:5] if quick else SHAPES:
            ours, theirs, flops = prepared(engine, shape, dtype)
            one, other = in_turn(ours, theirs, seconds)
            rows.append({"name": shape, "dtype": name, "ours": flops / one * 1e-9, "theirs": flops / other * 1e-9})
    return rows


def vector_math(seconds: float, quick: bool) -> Rows:
    """Nanoseconds of one element by function, float32 and float64, arrays in the first caches."""
    from benchmarks.vector_math import DOMAIN, POSITIVE, REFERENCE, TWO_ARGUMENTS, Compiled

    rng = np.random.default_rng(0)
    rows: Rows = []
    for name in list(REFERENCE)[:: 5 if quick else 1]:
        low, high = max(DOMAIN.get(name, (-4.0, 4.0))[0], -4.0), min(DOMAIN.get(name, (-4.0, 4.0))[1], 4.0)
        if name in POSITIVE or name == "pow":
            low = 1.0 if name == "arccosh" else 0.1
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            arrays = [rng.uniform(low, high, ELEMENTS).astype(dtype) for _ in range(2 if name in TWO_ARGUMENTS else 1)]
            ours = Compiled(name, dtype).bound(*arrays)
            one, other = in_turn(repeated(ours), repeated(_numpy(name, arrays)), seconds / 2)
            scale = 1e9 / ELEMENTS
            rows.append({"name": name, "dtype": dtype.name, "ours": one * scale, "theirs": other * scale})
    return rows


def _numpy(name: str, arrays: list[np.ndarray]) -> Callable[[], Any]:
    """The same by NumPy, or SciPy where NumPy has no such function, into an array that is there already."""
    from scipy import special

    out = np.empty_like(arrays[0])
    if name == "rsqrt":
        one = arrays[0].dtype.type(1)
        return lambda: np.divide(one, np.sqrt(arrays[0], out=out), out=out)
    named = {"sigmoid": special.expit, "erf": special.erf, "pow": np.power}
    function = named.get(name) or getattr(np, name)
    return lambda: function(*arrays, out=out)


TABLES: dict[str, Callable[[float, bool], Rows]] = {"gemm": gemm, "vector_math": vector_math}
