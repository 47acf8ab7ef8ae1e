"""Errors of the vector mathematics in units in the last place (ULP), as a table.

    PYTHONPATH=compiler:runtime python -m benchmarks.vector_math [--stride 1] [--points 2000] [names ...]

float32: every `stride`-th of all 2^32 bit patterns, against NumPy (SciPy for erf) in float64. float64: random points
over the whole domain and near the hard places, against mpmath with 50 digits and more. An error is measured in the
spacing of the result's dtype at the exact result, which below the smallest normal number is the subnormal spacing.
`ADJIT_CPU=haswell` measures the code for AVX2.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np

from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I64, PTR, VOID, Module, Value, register_type
from adjit.codegen.program import compile_text
from adjit_runtime.target import Target, host_target

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_names = itertools.count()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _erf(x: np.ndarray) -> Any:
    from scipy import special

    return special.erf(x)


REFERENCE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "exp": (np.exp, mp.exp),
    "exp2": (np.exp2, lambda x: mp.mpf(2) ** x),
    "expm1": (np.expm1, mp.expm1),
    "log": (np.log, mp.log),
    "log2": (np.log2, lambda x: mp.log(x, 2)),
    "log10": (np.log10, mp.log10),
    "log1p": (np.log1p, mp.log1p),
    "sin": (np.sin, mp.sin),
    "cos": (np.cos, mp.cos),
    "tan": (np.tan, mp.tan),
    "arcsin": (np.arcsin, mp.asin),
    "arccos": (np.arccos, mp.acos),
    "arctan": (np.arctan, mp.atan),
    "sinh": (np.sinh, mp.sinh),
    "cosh": (np.cosh, mp.cosh),
    "tanh": (np.tanh, mp.tanh),
    "arcsinh": (np.arcsinh, mp.asinh),
    "arccosh": (np.arccosh, mp.acosh),
    "arctanh": (np.arctanh, mp.atanh),
    "sigmoid": (_sigmoid, lambda x: 1 / (1 + mp.exp(-x))),
    "erf": (_erf, mp.erf),
    "sqrt": (np.sqrt, mp.sqrt),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: 1 / mp.sqrt(x)),
    "cbrt": (np.cbrt, lambda x: mp.sign(x) * mp.cbrt(abs(x))),
    "pow": (np.power, mp.power),
    "arctan2": (np.arctan2, mp.atan2),
}
"""NumPy's meaning, and the exact one."""

TWO_ARGUMENTS = frozenset({"pow", "arctan2"})

DOMAIN: dict[str, tuple[float, float]] = {
    "exp": (-745, 709), "exp2": (-1074, 1023), "expm1": (-745, 709), "arcsin": (-1, 1), "arccos": (-1, 1),
    "sinh": (-710, 710), "cosh": (-710, 710), "tanh": (-25, 25), "arctanh": (-1, 1), "sigmoid": (-745, 745),
    "erf": (-7, 7),
}  # fmt: skip
"""Where a function neither overflows nor is constant; the others take any number of their sign."""

POSITIVE = frozenset({"log", "log2", "log10", "sqrt", "rsqrt", "arccosh"})


class Compiled:
    """A function of the vector mathematics in machine code, applied to whole arrays."""

    def __init__(self, name: str, dtype: np.dtype, target: Target | None = None) -> None:
        target = target or host_target()
        self.dtype = dtype
        self.lanes = target.vector_bytes // dtype.itemsize
        self.count = 2 if name in TWO_ARGUMENTS else 1
        module = Module(name)
        f = module.function("run", VOID, [(I64, "n"), *((PTR, f"x{i}") for i in range(self.count)), (PTR, "y")])
        n, *xs, y = f.params
        scalar = register_type(dtype)
        ty = scalar.vector(self.lanes)
        kit = Lanes(f, self.lanes)

        def body(i: Value, _: list[Value]) -> list[Value]:
            operands = [kit.wrap(f.load(f.element(x, scalar, i), ty), dtype) for x in xs]
            f.store(getattr(kit, name)(*operands).value, f.element(y, scalar, i))
            return []

        f.loop(0, n, self.lanes, [], body)
        f.ret()
        builder = llvm.JITLibraryBuilder().add_object_img(compile_text(str(module), target)).export_symbol("run")
        self._jit = llvm.create_lljit_compiler()
        self._tracker = builder.link(self._jit, f"{name}{next(_names)}")
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (self.count + 1))(self._tracker["run"])

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        size = len(arrays[0])
        whole = -(-size // self.lanes) * self.lanes
        inputs = [np.ascontiguousarray(np.resize(x, whole), self.dtype) for x in arrays]
        result = np.empty(whole, self.dtype)
        self._run(whole, *(x.ctypes.data for x in inputs), result.ctypes.data)
        return result[:size]


def special_points(dtype: np.dtype) -> np.ndarray:
    """Zeros, infinities, NaN, ones, the smallest and the largest numbers."""
    info = np.finfo(dtype)
    tiny, least, most = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    values = [0.0, 1.0, 2.0, 0.5, tiny, least, 3 * least, most, np.inf, 1 + float(info.eps), 1 - float(info.eps)]
    return np.array([*values, *(-v for v in values), np.nan], dtype)


def points(name: str, dtype: np.dtype, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Random arguments over the domain of a function, evenly and by magnitude, and near the hard places."""
    rng = np.random.default_rng(seed)
    if name in TWO_ARGUMENTS:
        x = np.exp2(rng.uniform(-30, 30, count)) * (rng.choice([-1, 1], count) if name == "arctan2" else 1)
        y = np.exp2(rng.uniform(-4, 4, count)) * rng.choice([-1, 1], count)
        near = 1 + rng.normal(size=count) * 1e-4
        far = rng.uniform(-3e5, 3e5, count)
        return (
            np.concatenate([x, near]).astype(dtype),
            np.concatenate([y, far if dtype == F64 else far / 100]).astype(dtype),
        )
    info = np.finfo(dtype)
    low, high = DOMAIN.get(name, (-float(info.max), float(info.max)))
    exponents = rng.uniform(np.log2(float(info.smallest_subnormal)), np.log2(float(info.max)), count)
    magnitudes = np.exp2(exponents)
    signs = np.ones(count) if name in POSITIVE else rng.choice([-1.0, 1.0], count)
    parts = [magnitudes * signs, 1 + rng.uniform(-0.5, 1, count), np.exp2(rng.uniform(-12, 12, count)) * signs]
    if name in DOMAIN:
        parts.append(rng.uniform(low, high, count))
    if name in ("sin", "cos", "tan"):
        # Where the result is small: the nearest numbers to multiples of pi / 2, near and far.
        multiples = np.floor(np.exp2(rng.uniform(0, 60, count)))
        parts.append(np.array([float(mp.mpf(int(n)) * mp.pi / 2) for n in multiples]))
        if dtype == F64:
            parts.append(np.array([6381956970095103.0 * 2.0**797, 6381956970095103.0 * 2.0**-4]))
    x = np.concatenate(parts)
    return (x[(x >= low) & (x <= high)].astype(dtype),)


def spacing(exact: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance of neighbouring numbers of `dtype` at |exact|."""
    info = np.finfo(dtype)
    exponent = np.frexp(np.abs(exact))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)


def errors32(function: Compiled, name: str, x: np.ndarray) -> np.ndarray:
    """Errors in ULP of a float32 function; 0 where both are infinite or NaN, inf where it is wrong."""
    with np.errstate(all="ignore"):
        exact = REFERENCE[name][0](x.astype(np.float64))
        found = function(x)
        rounded = exact.astype(np.float32)
        error = np.abs(found.astype(np.float64) - exact) / spacing(exact, F32)
    finite = np.isfinite(rounded)
    same = (np.isnan(rounded) & np.isnan(found)) | (rounded == found)
    # A result that rounds to infinity may be the largest number.
    edge = np.isinf(rounded) & (np.abs(found) == np.finfo(np.float32).max)
    return np.where(finite, np.where(np.isfinite(found), error, np.inf), np.where(same | edge, 0.0, np.inf))


def errors64(function: Compiled, name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Errors in ULP against mpmath, for finite arguments; a result beyond the largest number counts as right if inf."""
    found = function(*arrays)
    result = np.zeros(len(found))
    for i, (y, *xs) in enumerate(zip(found, *arrays, strict=True)):
        # Sines of numbers of 2^1023 need as many bits.
        with mp.workprec(1300 if name in ("sin", "cos", "tan") else 300):
            exact = REFERENCE[name][1](*(mp.mpf(float(x)) for x in xs))
            if isinstance(exact, mp.mpc):
                result[i] = 0.0 if np.isnan(y) else np.inf
                continue
            if not abs(exact) < mp.mpf(2) ** (1024 if function.dtype == F64 else 128):
                result[i] = 0.0 if np.isinf(y) or abs(y) == np.finfo(function.dtype).max else np.inf
                continue
            info = np.finfo(function.dtype)
            power = max(int(mp.frexp(abs(exact))[1]) - 1, int(info.minexp)) if exact else int(info.minexp)
            unit = mp.mpf(2) ** (power - int(info.nmant))
            result[i] = float(abs(mp.mpf(float(y)) - exact) / unit) if np.isfinite(y) else np.inf
    return result


def worst32(name: str, stride: int) -> tuple[float, float]:
    """The largest error over every `stride`-th bit pattern, and where."""
    function = Compiled(name, F32)
    worst, at = 0.0, 0.0
    chunk = 1 << 22
    for start in range(0, 1 << 32, chunk * stride):
        patterns = np.arange(start, min(start + chunk * stride, 1 << 32), stride, dtype=np.uint64).astype(np.uint32)
        x = patterns.view(np.float32)
        error = errors32(function, name, x)
        i = int(np.argmax(error))
        if error[i] > worst:
            worst, at = float(error[i]), float(x[i])
    return worst, at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print("| function | float32: worst ULP | at | float64: worst ULP | at | points |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.names or REFERENCE:
        arrays = points(name, F64, options.points)
        error = errors64(Compiled(name, F64), name, arrays)
        i = int(np.argmax(error))
        place = ", ".join(f"{float(x[i]):.6g}" for x in arrays)
        if name in TWO_ARGUMENTS:
            narrow = points(name, F32, options.points)
            single = errors64(Compiled(name, F32), name, narrow)
            j = int(np.argmax(single))
            first, at = float(single[j]), ", ".join(f"{float(x[j]):.6g}" for x in narrow)
        else:
            first, where = worst32(name, options.stride)
            at = f"{where:.6g}"
        print(f"| {name} | {first:.3f} | {at} | {float(error[i]):.3f} | {place} | {len(error)} |", flush=True)


if __name__ == "__main__":
    main()
