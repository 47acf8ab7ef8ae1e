"""The vector mathematics: at most 2 ULP for normal numbers, 1 subnormal spacing below, exact at zero, inf and NaN."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from benchmarks.vector_math import (
    F32,
    F64,
    REFERENCE,
    TWO_ARGUMENTS,
    Compiled,
    errors32,
    errors64,
    points,
    special_points,
)

from adjit_runtime.target import Target, _target, host_target

ONE = [name for name in REFERENCE if name not in TWO_ARGUMENTS]


def targets() -> list[Target]:
    """The host, and AVX2 where the host is wider."""
    host = host_target()
    return [host] if host.vector_bytes <= 32 or not host.triple.startswith("x86") else [host, _target("haswell")]


@functools.cache
def compiled(name: str, dtype: np.dtype, cpu: str) -> Compiled:
    return Compiled(name, dtype, next(target for target in targets() if target.cpu == cpu))


CPUS = [target.cpu for target in targets()]


def check(name: str, dtype: np.dtype, arrays: tuple[np.ndarray, ...], found: np.ndarray, error: np.ndarray) -> None:
    tiny = np.finfo(dtype).tiny
    normal = np.abs(found) >= tiny
    for x in arrays:
        normal &= np.abs(x) >= tiny
    worst = int(np.argmax(np.where(normal, error, 0.0)))
    assert not np.any(error[normal] > 2.0), (name, [x[worst] for x in arrays], error[worst])
    # The bound for subnormal arguments or results; the spacing is the subnormal one there.
    small = ~normal & np.isfinite(error)
    bound = np.where(np.abs(found) < tiny, 1.0, 2.0)
    worst = int(np.argmax(np.where(small, error - bound, -np.inf)))
    assert not np.any(error[small] > bound[small]), (name, [x[worst] for x in arrays], error[worst])
    assert np.isfinite(error).all(), (name, [x[~np.isfinite(error)][:3] for x in arrays])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ONE)
def test_float32_patterns(name: str, cpu: str) -> None:
    # Every 65,537th of all bit patterns meets each exponent with many mantissas.
    patterns = np.arange(0, 1 << 32, 65537, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([patterns.view(np.float32), *points(name, F32, 500)])
    function = compiled(name, F32, cpu)
    check(name, F32, (x,), function(x), errors32(function, name, x))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ONE)
def test_float64_points(name: str, cpu: str) -> None:
    arrays = points(name, F64, 60, seed=1)
    function = compiled(name, F64, cpu)
    check(name, F64, arrays, function(*arrays), errors64(function, name, arrays))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", sorted(TWO_ARGUMENTS))
def test_two_arguments(name: str, dtype: np.dtype, cpu: str) -> None:
    arrays = points(name, dtype, 150, seed=2)
    function = compiled(name, dtype, cpu)
    check(name, dtype, arrays, function(*arrays), errors64(function, name, arrays))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", REFERENCE)
def test_special_values(name: str, dtype: np.dtype) -> None:
    """Zeros with their signs, infinities and NaN are NumPy's, to the bit."""
    special = special_points(dtype)
    exact = special[~np.isfinite(special) | (special == 0) | (np.abs(special) == 1)]
    arrays: tuple[np.ndarray, ...] = (exact,)
    if name in TWO_ARGUMENTS:
        first, second = np.meshgrid(special, special)
        keep = ~np.isfinite(first) | ~np.isfinite(second) | (first == 0) | (second == 0)
        arrays = (first[keep], second[keep])
    found = compiled(name, dtype, CPUS[0])(*arrays)
    with np.errstate(all="ignore"):
        wanted = REFERENCE[name][0](*arrays)
    nothing = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(found), nothing)
    edge = np.isinf(wanted) | (wanted == 0)
    np.testing.assert_array_equal(found[edge], wanted[edge])
    np.testing.assert_array_equal(np.signbit(found[edge]), np.signbit(wanted[edge]))


def test_both_targets_give_the_same_bits() -> None:
    """The code is the same but for its width, and every target has a fused multiply-add."""
    for name in ONE:
        for dtype in (F32, F64):
            (x,) = points(name, dtype, 200, seed=3)
            results = [compiled(name, dtype, cpu)(x) for cpu in CPUS]
            for other in results[1:]:
                np.testing.assert_array_equal(other, results[0])
