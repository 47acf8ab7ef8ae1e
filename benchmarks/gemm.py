"""GFLOP/s of adjit's matrix products against NumPy's, one thread, call by call in turn.

    PYTHONPATH=compiler:runtime python -m benchmarks.gemm [--dtype f32] [--seconds 0.3] [--shapes 512x512x512,9x8x5NT]

`ADJIT_CPU=haswell` measures the code for AVX2; OpenBLAS follows with `OPENBLAS_CORETYPE=Haswell` (`python -m
benchmarks --cpu haswell --workloads gemm` sets both). Both sides are called through ctypes or NumPy's matmul with
`out=`, on the same arrays, which start on 64 bytes as a program's buffers do (what is not packed runs up to 15% slower
on arrays that do not). Medians, and the median of the ratios.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import ctypes
import re
import statistics
import time
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np

from adjit.codegen.gemm import GEMM_LIBRARIES, emit_gemm_library, gemm_flags, gemm_workspace_bytes, product_symbols
from adjit.codegen.gemm.macro import PARAMETERS
from adjit.codegen.llvm import I64, PTR, VOID, Module, Value
from adjit_runtime.target import host_target, target_machine
from benchmarks.shapes import MORE, SHAPES


def compile_library(quiet: bool = False) -> tuple[object, float]:
    """The engine that holds the code, and the milliseconds of code generation."""
    target = host_target()
    module = Module("gemm")
    start = time.perf_counter()
    for name in GEMM_LIBRARIES:
        emit_gemm_library(module, target, name)
    _emit_repeat(module)
    machine = target_machine(target)
    parsed = llvm.parse_assembly(str(module))
    parsed.triple, parsed.data_layout = target.triple, str(machine.target_data)
    code = machine.emit_object(parsed)
    spent = (time.perf_counter() - start) * 1e3
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(target))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    if not quiet:
        print(f"{target.cpu}: library of {len(code)} bytes from text to object in {spent:.0f} ms")
    return engine, spent


def _emit_repeat(module: Module) -> None:
    """A function that calls a product so many times."""
    f = module.function("repeat", VOID, [(I64, "times"), (PTR, "product"), *PARAMETERS])
    times, product, *arguments = f.params

    def once(_: Value, __: list[Value]) -> list[Value]:
        f.call_pointer(product, VOID, arguments)
        return []

    f.loop(0, times, 1, [], once)
    f.ret()


def aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    raw = np.empty(shape[0] * shape[1] * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + shape[0] * shape[1] * dtype.itemsize].view(dtype).reshape(shape)


def prepared(engine: object, shape: str, dtype: np.dtype) -> tuple[Callable[[int], None], Callable[[int], None], float]:
    """Both sides as functions of a number of repetitions, and the flops of one."""
    m, k, n = (int(text) for text in re.findall(r"\d+", shape))
    layout = shape[-2:] if shape[-1] in "NT" else "NN"
    rng = np.random.default_rng(0)
    a = aligned((k, m) if layout[0] == "T" else (m, k), dtype)
    b = aligned((n, k) if layout[1] == "T" else (k, n), dtype)
    a[:], b[:] = rng.standard_normal(a.shape), rng.standard_normal(b.shape)
    a, b = (a.T if layout[0] == "T" else a), (b.T if layout[1] == "T" else b)
    ours, theirs = aligned((m, n), dtype), aligned((m, n), dtype)
    target = host_target()
    space = aligned((1, gemm_workspace_bytes(dtype, m, n, k, target)), np.dtype(np.uint8))
    steps = [(x.strides[0] // x.itemsize, x.strides[1] // x.itemsize) for x in (a, b)]
    flags = gemm_flags(dtype, m, n, k, steps[0], steps[1], target)
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 18)(engine.get_function_address("repeat"))
    symbol, edge = (
        engine.get_function_address(name) if name else 0 for name in product_symbols(dtype, m, n, flags, target)
    )
    rest = (
        *(symbol, m, n, k, a.ctypes.data, *steps[0], b.ctypes.data, *steps[1], ours.ctypes.data, n),
        *(space.ctypes.data, flags, edge, 0, 0),
    )

    def run_ours(times: int, _alive: tuple[np.ndarray, ...] = (a, b, ours, space)) -> None:
        function(times, *rest)

    def run_theirs(times: int) -> None:
        for _ in range(times):
            np.matmul(a, b, out=theirs)

    run_ours(1)
    run_theirs(1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * max(1.0, float(np.sqrt(k))))
    return run_ours, run_theirs, 2.0 * m * n * k


def timed(call: Callable[[int], None], times: int) -> float:
    start = time.perf_counter()
    call(times)
    return (time.perf_counter() - start) / times


def main() -> None:
    """Print one line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--more", action="store_true", help="thin and small shapes too")
    options = parser.parse_args()
    dtype = np.dtype(np.float32 if options.dtype == "f32" else np.float64)
    engine, _ = compile_library()
    ratios = []
    print(f"{'m x k x n':>18} {'adjit':>8} {'NumPy':>8} {'ratio':>6}   GFLOP/s, and us of a call")
    shapes = options.shapes.split(",") if options.shapes else (*SHAPES, *(MORE if options.more else ()))
    for shape in shapes:
        ours, theirs, flops = prepared(engine, shape, dtype)
        times = max(1, int(100e-6 / max(timed(theirs, 3), 1e-7)))
        pairs = []
        stop = time.perf_counter() + options.seconds
        while time.perf_counter() < stop or len(pairs) < 7:
            pairs.append((timed(ours, times), timed(theirs, times)))
        one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(y / x for x, y in pairs)
        ratios.append(ratio)
        print(
            f"{shape:>18} {flops / one * 1e-9:8.1f} {flops / other * 1e-9:8.1f} {ratio:6.2f}"
            f"   {one * 1e6:10.2f} {other * 1e6:10.2f}"
        )
    print(f"geometric mean {statistics.geometric_mean(ratios):.3f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
