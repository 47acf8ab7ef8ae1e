"""What a core can do, as machine code: multiply-adds in registers, and reading of memory.

void adjit_peak_f32(i64 rounds, ptr out)         PEAK_CHAINS fused multiply-adds of vectors a round; f64 likewise
void adjit_read(ptr from, i64 vectors, i64 times, ptr out)   sum of all vectors of f32, over and over"""

from __future__ import annotations

import numpy as np

from adjit.codegen.llvm import I64, PTR, VOID, Module, Value, literal, register_type
from adjit.tuned import PEAK_CHAINS, READ_STREAMS
from adjit_runtime.target import Target


def emit_peaks_library(module: Module, target: Target) -> None:
    """Write the three functions."""
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        _emit_peak(module, dtype, target)
    _emit_read(module, target)


def _emit_peak(module: Module, dtype: np.dtype, target: Target) -> None:
    scalar = register_type(dtype)
    ty = scalar.vector(target.vector_bytes // dtype.itemsize)
    f = module.function(f"adjit_peak_{scalar.kind}{scalar.bits}", VOID, [(I64, "rounds"), (PTR, "out")])
    rounds, out = f.params
    # Not constants, or the additions would be done when the code is made.
    factor, term = f.load(out, ty), f.load(f.offset(out, target.vector_bytes), ty)

    def once(_: Value, sums: list[Value]) -> list[Value]:
        return [f.fma(x, factor, term) for x in sums]

    sums = f.loop(0, rounds, 1, [literal(ty, 1.0)] * PEAK_CHAINS, once)
    total = sums[0]
    for x in sums[1:]:
        total = f.binary("fadd", total, x)
    f.store(total, out)
    f.ret()


def _emit_read(module: Module, target: Target) -> None:
    ty = register_type(np.dtype(np.float32)).vector(target.vector_bytes // 4)
    f = module.function("adjit_read", VOID, [(PTR, "from"), (I64, "vectors"), (I64, "times"), (PTR, "out")])
    source, vectors, times, out = f.params

    def once(i: Value, sums: list[Value]) -> list[Value]:
        at = f.offset(source, f.mul(i, target.vector_bytes))
        return [
            f.binary("fadd", x, f.load(f.offset(at, u * target.vector_bytes), ty, align=64)) for u, x in enumerate(sums)
        ]

    def again(_: Value, sums: list[Value]) -> list[Value]:
        return f.loop(0, vectors, READ_STREAMS, sums, once)

    sums = f.loop(0, times, 1, [literal(ty, 0.0)] * READ_STREAMS, again)
    total = sums[0]
    for x in sums[1:]:
        total = f.binary("fadd", total, x)
    f.store(total, out)
    f.ret()
