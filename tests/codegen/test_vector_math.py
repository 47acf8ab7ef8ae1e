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
    nearest_angles,
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
    # Errors of subnormal results are in the subnormal spacing.
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


@functools.cache
def angles() -> np.ndarray:
    """Where sin, cos and tan cancel most: next to multiples of pi / 2, of every size; and large round numbers."""
    multiples = np.arange(1, 101) * (np.pi / 2)
    beside = [np.nextafter(multiples, 0.0), multiples, np.nextafter(multiples, np.inf)]
    # Both sides of the change from one reduction to the other.
    change = 1048576.0 + np.arange(-4, 5) * 2.0**-31
    return np.concatenate([*beside, nearest_angles(range(-52, 971, 11)), change, 10.0 ** np.arange(0, 301, 10)])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_near_multiples_of_a_quarter_turn(name: str, cpu: str) -> None:
    x = angles()
    function = compiled(name, F64, cpu)
    found = function(x)
    assert np.abs(found).min() < 1e-17
    check(name, F64, (x,), found, errors64(function, name, (x,)))
    np.testing.assert_array_equal(function(-x), found if name == "cos" else -found)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", sorted(TWO_ARGUMENTS))
def test_two_arguments(name: str, dtype: np.dtype, cpu: str) -> None:
    arrays = points(name, dtype, 150, seed=2)
    function = compiled(name, dtype, cpu)
    check(name, dtype, arrays, function(*arrays), errors64(function, name, arrays))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_powers_of_negative_numbers(dtype: np.dtype, cpu: str) -> None:
    """Whole exponents, odd and even and too large to be odd, keep or lose the sign; broken ones give NaN."""
    most = 2.0 ** (np.finfo(dtype).nmant + 1)
    exponents = np.array([*range(-9, 10), 0.5, -1.5, 2.25, 101.0, most - 1, most, -most - 2], dtype)
    bases = -np.array([1, 1 + np.finfo(dtype).eps, 2, 0.75, 3.3], dtype)
    x, y = (part.ravel() for part in np.meshgrid(bases, exponents))
    function = compiled("pow", dtype, cpu)
    check("pow", dtype, (x, y), function(x, y), errors64(function, "pow", (x, y)))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", REFERENCE)
def test_special_values(name: str, dtype: np.dtype, cpu: str) -> None:
    """Zeros with their signs, ones, infinities and NaN are NumPy's, to the bit."""
    special = special_points(dtype)
    exact = special[~np.isfinite(special) | (special == 0) | (np.abs(special) == 1)]
    arrays: tuple[np.ndarray, ...] = (exact,)
    if name in TWO_ARGUMENTS:
        first, second = np.meshgrid(special, special)
        keep = ~np.isfinite(first) | ~np.isfinite(second) | (first == 0) | (second == 0)
        arrays = (first[keep], second[keep])
    found = compiled(name, dtype, cpu)(*arrays)
    with np.errstate(all="ignore"):
        wanted = REFERENCE[name][0](*arrays)
    nothing = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(found), nothing)
    edge = np.isinf(wanted) | (wanted == 0) | (np.abs(wanted) == 1)
    np.testing.assert_array_equal(found[edge], wanted[edge])
    np.testing.assert_array_equal(np.signbit(found[edge]), np.signbit(wanted[edge]))


LOOKUP = "a lookup of eight float64 numbers is one instruction of AVX-512 and three of AVX2"
TWO_WAYS = {("erf", F64): LOOKUP, ("tanh", F64): LOOKUP}
"""Functions that take another way on another target, with the reason."""


def test_both_targets_give_the_same_bits() -> None:
    """The code is the same but for its width, and every target has a fused multiply-add."""
    for name in ONE:
        for dtype in (F32, F64):
            if (name, dtype) in TWO_WAYS:
                continue
            (x,) = points(name, dtype, 200, seed=3)
            results = [compiled(name, dtype, cpu)(x) for cpu in CPUS]
            for other in results[1:]:
                np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["exp", "log", "log10", "tanh", "erf"])
def test_every_number_of_lanes_gives_the_same_bits(name: str, dtype: np.dtype) -> None:
    """Instructions of whole registers serve parts of one and several; scalars take tables and halves."""
    (x,) = points(name, dtype, 40, seed=4)
    x = np.concatenate([x, special_points(dtype)])
    for target in targets():
        wanted = compiled(name, dtype, target.cpu)(x)
        for lanes in (0, 1, 2, 4, 8, 16, 32):
            found = Compiled(name, dtype, target, lanes)(x)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{lanes} lanes")
