"""Remainders and whole quotients of floats: exact to the bit whatever the operands, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from tests.both import run_both

FUNCTIONS: dict[str, Callable[..., Any]] = {"fmod": np.fmod, "remainder": np.remainder, "floor_divide": np.floor_divide}


def operands(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Random bit patterns, so that the quotient has any exponent; near multiples; the ends of the range."""
    rng = np.random.default_rng(5)
    limits = np.finfo(dtype)
    patterns = rng.integers(0, 256, (2, 4000 * limits.bits // 8), dtype=np.uint8).view(dtype)
    whole = rng.integers(-1000, 1000, 2000)
    steps = rng.uniform(-3, 3, 2000).astype(dtype)
    near = np.nextafter((whole * steps).astype(dtype), rng.choice([-np.inf, np.inf], 2000).astype(dtype))
    ends = np.array([limits.max, limits.tiny, limits.smallest_subnormal, 0.1, 1e30, 3.0, 0.0, np.inf, np.nan], dtype)
    ends = np.concatenate([ends, -ends])
    first, second = (part.ravel() for part in np.meshgrid(ends, ends))
    return np.concatenate([patterns[0], near, first]), np.concatenate([patterns[1], steps, second])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_bit_is_that_of_numpy(name: str, dtype: str) -> None:
    x, y = operands(dtype)
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name](x, y)
    found = adjit.jit(lambda x, y: FUNCTIONS[name](x, y))(x, y)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found)[~np.isnan(wanted)], np.signbit(wanted)[~np.isnan(wanted)])


SLOPES: list[tuple[str, float, float, float, float]] = [
    # The derivative by the dividend is 1, also where the value jumps; by the divisor the whole quotient, less 0.
    ("remainder", 0.0, 1.0, 1.0, 0.0),
    ("remainder", -0.0, 1.0, 1.0, 0.0),
    ("remainder", 3.0, 1.0, 1.0, -3.0),
    ("remainder", 4.0, 2.0, 1.0, -2.0),
    ("remainder", -4.0, 2.0, 1.0, 2.0),
    ("remainder", 4.0, -2.0, 1.0, 2.0),
    ("remainder", 1.0, 0.1, 1.0, -9.0),
    ("remainder", -1.0, 0.1, 1.0, 10.0),
    ("remainder", -1e-20, 1.0, 1.0, 1.0),
    ("remainder", 1e9, 0.1, 1.0, -9999999999.0),
    ("remainder", 2.0, np.inf, 1.0, 0.0),
    ("remainder", -2.0, np.inf, 1.0, 1.0),
    ("fmod", 1.0, 0.1, 1.0, -9.0),
    ("fmod", -1.0, 0.1, 1.0, 9.0),
    ("fmod", 0.0, 1.0, 1.0, 0.0),
    ("fmod", 4.0, 2.0, 1.0, -2.0),
    ("fmod", -7.5, 2.0, 1.0, 3.0),
    ("fmod", 1e9, 0.1, 1.0, -9999999999.0),
    ("fmod", 2.0, np.inf, 1.0, 0.0),
    ("floor_divide", 4.0, 2.0, 0.0, 0.0),
    ("floor_divide", 4.5, 2.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("name", "x", "y", "by_x", "by_y"), SLOPES)
def test_slopes(name: str, x: float, y: float, by_x: float, by_y: float) -> None:
    function: Any = adjit.grad(lambda x, y: np.sum(FUNCTIONS[name](x, y)), argnums=(0, 1))
    values = np.array([x]), np.array([y])
    for found in (function(*values), run_both(function.ir("adjoint", *values), *values)):
        np.testing.assert_array_equal(np.asarray(found).ravel()[-2:], [by_x, by_y])


@pytest.mark.parametrize("y", [0.1, 0.3, 1e-3, 7.0])
def test_the_slope_by_the_divisor_is_the_whole_quotient(y: float) -> None:
    """Within rounding of multiples, where x / y is one too many: against Python's exact fractions."""
    from fractions import Fraction

    x = np.concatenate([np.arange(1, 60) * y, np.nextafter(np.arange(1, 60) * y, 0.0), -np.arange(1, 60) * y])
    wanted = [float(-(Fraction(a) // Fraction(y))) for a in x.tolist()]
    found = adjit.grad(lambda d, x: np.sum(np.remainder(x, d)))(np.full(len(x), y), x)
    np.testing.assert_array_equal(found, wanted)
    toward = [float(-(abs(Fraction(a)) // Fraction(y)) * (1 if a > 0 else -1)) for a in x.tolist()]
    np.testing.assert_array_equal(adjit.grad(lambda d, x: np.sum(np.fmod(x, d)))(np.full(len(x), y), x), toward)


def test_an_angle_that_starts_at_a_multiple_moves() -> None:
    assert adjit.grad(lambda t: (t % 1.0 - 0.25) ** 2)(0.0) == -0.5
    assert adjit.grad(lambda t: divmod(t, 1.0)[1])(2.0) == 1.0
    assert adjit.grad(lambda t: np.modf(t)[0])(2.0) == 1.0
