"""Errors of the vector mathematics in units in the last place (ULP), as a table in Markdown.

    PYTHONPATH=compiler:runtime python -m benchmarks.vector_math [--quick] [--stride 1] [--points 1000000] [names ...]

float32: every `stride`-th of all 2^32 bit patterns, against NumPy (SciPy for erf) in float64; of two arguments, random
points. float64: random points over the whole domain and near the hard places, the arguments next to multiples of pi / 2
among them, against the C library's long double; the worst of them again against mpmath, whose figure is the one given.
An error is measured in the spacing of the result's dtype at the exact result, which below the smallest normal number is
the subnormal spacing. `ADJIT_CPU=haswell` measures the code for AVX2; `--quick` takes seconds.
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
from adjit.codegen.objects import compile_text
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
    """A function of the vector mathematics in machine code, applied to whole arrays; 0 lanes are scalars."""

    def __init__(self, name: str, dtype: np.dtype, target: Target | None = None, lanes: int | None = None) -> None:
        target = target or host_target()
        self.dtype = dtype
        self.lanes = target.vector_bytes // dtype.itemsize if lanes is None else lanes
        self.count = 2 if name in TWO_ARGUMENTS else 1
        module = Module(name, target)
        f = module.function("run", VOID, [(I64, "n"), *((PTR, f"x{i}") for i in range(self.count)), (PTR, "y")])
        n, *xs, y = f.params
        scalar = register_type(dtype)
        ty = scalar.vector(self.lanes)
        kit = Lanes(f, self.lanes)

        def body(i: Value, _: list[Value]) -> list[Value]:
            operands = [kit.wrap(f.load(f.element(x, scalar, i), ty), dtype) for x in xs]
            f.store(getattr(kit, name)(*operands).value, f.element(y, scalar, i))
            return []

        f.loop(0, n, max(self.lanes, 1), [], body)
        f.ret()
        builder = llvm.JITLibraryBuilder().add_object_img(compile_text(str(module), target)).export_symbol("run")
        self._jit = llvm.create_lljit_compiler()
        self._tracker = builder.link(self._jit, f"{name}{next(_names)}")
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (self.count + 1))(self._tracker["run"])

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        size = len(arrays[0])
        step = max(self.lanes, 1)
        whole = -(-size // step) * step
        inputs = [np.ascontiguousarray(np.resize(x, whole), self.dtype) for x in arrays]
        result = np.empty(whole, self.dtype)
        self._run(whole, *(x.ctypes.data for x in inputs), result.ctypes.data)
        return result[:size]

    def bound(self, *arrays: np.ndarray) -> Callable[[], None]:
        """The call alone, on arrays of its dtype whose length is a multiple of the vectors', again and again."""
        result = np.empty_like(arrays[0])
        addresses = [array.ctypes.data for array in (*arrays, result)]

        def call(_alive: tuple[np.ndarray, ...] = (*arrays, result)) -> None:
            self._run(len(result), *addresses)

        return call


def special_points(dtype: np.dtype) -> np.ndarray:
    """Zeros, infinities, NaN, ones, the smallest and the largest numbers."""
    info = np.finfo(dtype)
    tiny, least, most = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    values = [0.0, 1.0, 2.0, 0.5, tiny, least, 3 * least, most, np.inf, 1 + float(info.eps), 1 - float(info.eps)]
    return np.array([*values, *(-v for v in values), np.nan], dtype)


def nearest_angles(exponents: Sequence[int]) -> np.ndarray:
    """For each exponent e, the m 2^e (2^52 <= m < 2^53) that is closest to a multiple of pi / 2, or nearly so.

    They are denominators of the continued fraction of 2^e 2 / pi (Muller, Elementary Functions, chapter 11)."""
    result = []
    with mp.workprec(2400):
        turn = 2 / mp.pi
        for exponent in exponents:
            alpha = mp.ldexp(turn, exponent)
            rest, before, denominator, best = alpha - mp.floor(alpha), 0, 1, 1
            while denominator < 2**53:
                best = denominator
                rest = 1 / rest
                whole = int(mp.floor(rest))
                rest -= whole
                before, denominator = denominator, whole * denominator + before
            result.append(float(mp.ldexp(best * -(-(2**52) // best), exponent)))
    return np.array(result)


def by_magnitude(rng: np.random.Generator, count: int, low: float, high: float, signed: bool) -> np.ndarray:
    """Random numbers between 2^low and 2^high, evenly over the exponents."""
    x = np.exp2(rng.uniform(low, high, count))
    return x * rng.choice([-1.0, 1.0], count) if signed else x


def pairs(name: str, dtype: np.dtype, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Random arguments of pow and arctan2, over all magnitudes."""
    info = np.finfo(dtype)
    low, high = np.log2(float(info.smallest_subnormal)), np.log2(float(info.max))
    if name == "pow":
        near = by_magnitude(rng, count, -24, 0, True)
        x = np.concatenate([by_magnitude(rng, count, low, high, False), 1 + near / 2, rng.uniform(0.5, 2, count)])
        # The exponent follows from the result, so that few overflow.
        result = rng.uniform(low, high, len(x))
        y = result / np.log2(np.where(x == 1, 2.0, x))
    else:
        x = by_magnitude(rng, 3 * count, low, high, True)
        y = by_magnitude(rng, 3 * count, low, high, True)
        y[: 2 * count] = x[: 2 * count] * by_magnitude(rng, 2 * count, -4, 4, True)
    with np.errstate(all="ignore"):
        x, y = x.astype(dtype), y.astype(dtype)
    finite = np.isfinite(x) & np.isfinite(y)
    return x[finite], y[finite]


def points(name: str, dtype: np.dtype, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Random arguments over the domain of a function, evenly and by magnitude, and near the hard places."""
    rng = np.random.default_rng(seed)
    if name in TWO_ARGUMENTS:
        with np.errstate(all="ignore"):
            return pairs(name, dtype, count, rng)
    info = np.finfo(dtype)
    low, high = DOMAIN.get(name, (-float(info.max), float(info.max)))
    signed = name not in POSITIVE
    parts = [
        by_magnitude(rng, count, np.log2(float(info.smallest_subnormal)), np.log2(float(info.max)), signed),
        by_magnitude(rng, count, -12, 12, signed),
        by_magnitude(rng, count, -4, 1, signed),
        1 + rng.uniform(-0.5, 1, count),
        1 + by_magnitude(rng, count, -info.nmant, 0, True),
    ]
    if name in DOMAIN:
        parts.append(rng.uniform(low, high, count))
    if name in ("sin", "cos", "tan"):
        # Where the result is small: the nearest numbers to multiples of pi / 2, near and far.
        multiples = np.floor(np.exp2(rng.uniform(0, 60, count)))
        parts.append(np.round(multiples) * (np.pi / 2))
        if dtype == F64:
            exponents = rng.choice(np.arange(-50, 971), min(count, 1000), replace=False)
            parts.append(nearest_angles([int(e) for e in exponents]))
            # The closest of all.
            parts.append(np.array([6381956970095103.0 * 2.0**797]))
    x = np.concatenate(parts)
    if name in POSITIVE:
        x = np.abs(x)
    return (x[(x >= low) & (x <= high)].astype(dtype),)


def spacing(exact: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance of neighbouring numbers of `dtype` at |exact|."""
    info = np.finfo(dtype)
    if exact.dtype == F64 and dtype == F32:
        # The exponent's bits alone are the power of two below.
        below = (exact.view(np.int64) & 0x7FF0000000000000).view(F64)
        return np.maximum(below, float(info.tiny)) * float(info.eps)
    exponent = np.frexp(np.abs(exact))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)


def errors_against(
    function: Compiled, reference: Callable[..., Any], wide: np.dtype, arrays: Sequence[np.ndarray]
) -> np.ndarray:
    """Errors in ULP of a function against one of a wider dtype; inf where a result is wrong or no finite number."""
    with np.errstate(all="ignore"):
        exact = reference(*(x.astype(wide) for x in arrays))
        found = function(*arrays)
        rounded = exact.astype(function.dtype)
        error = (np.abs(found.astype(wide) - exact) / spacing(exact, function.dtype)).astype(F64)
    finite = np.isfinite(rounded)
    same = (np.isnan(rounded) & np.isnan(found)) | (rounded == found)
    # A result that rounds to infinity may be the largest number.
    edge = np.isinf(rounded) & (np.abs(found) == np.finfo(function.dtype).max)
    return np.where(finite, np.where(np.isfinite(found), error, np.inf), np.where(same | edge, 0.0, np.inf))


def errors32(function: Compiled, name: str, *arrays: np.ndarray) -> np.ndarray:
    """Errors in ULP of a float32 function against NumPy in float64."""
    return errors_against(function, REFERENCE[name][0], F64, arrays)


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


Worst = tuple[float, str, int]
"""The largest error, where it was found, and among how many points."""


def place(arrays: Sequence[np.ndarray], i: int) -> str:
    """The arguments of point i, with enough digits to find them again."""
    return ", ".join(str(x[i]) for x in arrays)


def worst32(name: str, stride: int, count: int) -> Worst:
    """Over every `stride`-th bit pattern, or `count` random points a part where there are two arguments."""
    function = Compiled(name, F32)
    if name in TWO_ARGUMENTS:
        arrays = points(name, F32, count)
        error = errors32(function, name, *arrays)
        i = int(np.argmax(error))
        return float(error[i]), place(arrays, i), len(error)
    worst, at, seen = 0.0, "", 0
    # Small enough for everything to stay in the cache.
    chunk = 1 << 14
    for start in range(0, 1 << 32, chunk * stride):
        patterns = np.arange(start, min(start + chunk * stride, 1 << 32), stride, dtype=np.uint64).astype(np.uint32)
        x = patterns.view(np.float32)
        error = errors32(function, name, x)
        i = int(np.argmax(error))
        seen += len(x)
        if error[i] > worst:
            worst, at = float(error[i]), place([x], i)
    return worst, at, seen


def worst64(name: str, count: int) -> Worst:
    """Over `count` random points a part; erf, which NumPy lacks in long double, over fewer with mpmath alone."""
    function = Compiled(name, F64)
    if name == "erf":
        arrays = points(name, F64, max(count // 50, 50))
        error = errors64(function, name, arrays)
        i = int(np.argmax(error))
        return float(error[i]), place(arrays, i), len(error)
    arrays = points(name, F64, count)
    error = errors_against(function, REFERENCE[name][0], np.dtype(np.longdouble), arrays)
    candidates = [x[np.argsort(error)[-5:]] for x in arrays]
    confirmed = errors64(function, name, candidates)
    i = int(np.argmax(confirmed))
    return float(confirmed[i]), place(candidates, i), len(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every 4,099th bit pattern and 20,000 points a part")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--points", type=int, default=1000000)
    parser.add_argument("names", nargs="*", metavar="names")
    options = parser.parse_args()
    unknown = set(options.names) - set(REFERENCE)
    if unknown:
        parser.error(f"no such function: {', '.join(sorted(unknown))}; there are {', '.join(REFERENCE)}")
    if np.finfo(np.longdouble).nmant < 63:
        raise SystemExit("float64 is measured against long double, which is no wider than float64 here")
    stride, count = (4099, 20000) if options.quick else (options.stride, options.points)
    print("| function | float32: worst ULP | at | of points | float64: worst ULP | at | of points |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.names or REFERENCE:
        cells = [
            f"{ulp:.3f} | {at} | {seen:,}" for ulp, at, seen in (worst32(name, stride, count), worst64(name, count))
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
