"""Functions of SciPy that are compositions keep their last digits at the ends of their range."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import adjit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp10_is_exact_to_the_last_bits(dtype: str) -> None:
    most = {"float32": 38.0, "float64": 307.5}[dtype]
    x = np.concatenate([np.linspace(-most + 1, most, 997), np.arange(-most + 1, most)]).astype(dtype)
    found = adjit.jit(lambda x: special.exp10(x))(x)
    wanted = np.power(np.longdouble(10), x.astype(np.longdouble))
    units = np.abs(found - wanted) / np.spacing(np.abs(found))
    assert units.max() <= 2.0
    slope = adjit.grad(lambda x: np.sum(special.exp10(x)))(x)
    np.testing.assert_allclose(slope, found * np.asarray(np.log(10), dtype), rtol=1e-6 if dtype == "float32" else 1e-14)
    edges = adjit.jit(lambda x: special.exp10(x))(np.array([np.inf, -np.inf, np.nan, 400.0, -400.0], dtype))
    np.testing.assert_array_equal(edges, np.array([np.inf, 0, np.nan, np.inf, 0], dtype))


def _arguments(dtype: str) -> np.ndarray:
    """Positive ones, between the poles, beside the zeros at 1 and 2, at the seams of the pieces, and of any size."""
    rng = np.random.default_rng(0)
    most = {"float32": 30.0, "float64": 300.0}[dtype]
    near = 10.0 ** rng.uniform(-6, -1, 100) * rng.choice([-1, 1], 100)
    seams = np.array([0.5, 1.5, 2.5, 3.5, 7.5, 8.5])
    x = np.concatenate(
        [rng.uniform(0, 12, 300), 10 ** rng.uniform(-most, most, 100), 1 + near, 2 + near, -rng.uniform(0, 20, 200)]
    )
    x = np.concatenate([x, seams, np.nextafter(seams.astype(dtype), 0, dtype=dtype)]).astype(dtype)
    return x[x != np.rint(x)]


def _wanted(function: Any, x: np.ndarray) -> np.ndarray:
    with mpmath.workdps(40):
        return np.array([float(mpmath.re(function(mpmath.mpf(float(v))))) for v in x])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_of_gamma_and_its_derivative(dtype: str) -> None:
    x = _arguments(dtype)
    value, slope = _wanted(mpmath.loggamma, x), _wanted(mpmath.digamma, x)
    eps = float(np.finfo(dtype).eps)
    found = adjit.jit(lambda x: special.gammaln(x))(x)
    assert found.dtype == dtype
    # Between the poles is a zero of each, beside which digits cancel.
    errors = np.abs(found - value) / np.maximum(np.abs(value), (x < 0).astype(float))
    assert errors.max() < 6 * eps
    for slopes in (adjit.grad(lambda x: np.sum(special.gammaln(x)))(x), adjit.jit(lambda x: special.psi(x))(x)):
        assert (np.abs(slopes - slope) / np.maximum(np.abs(slope), 1.0)).max() < 8 * eps


def test_further_derivatives_of_gamma() -> None:
    x = np.linspace(0.1, 12.0, 60)
    gradient = adjit.grad(lambda x: np.sum(special.gammaln(x)))
    second = adjit.grad(lambda x: np.sum(gradient(x)))(x)
    np.testing.assert_allclose(second, special.polygamma(1, x), rtol=1e-13)
    np.testing.assert_allclose(adjit.grad(lambda x: np.sum(special.digamma(x)))(x), second, rtol=1e-13)
    third = adjit.grad(lambda x: np.sum(adjit.grad(lambda y: np.sum(special.digamma(y)))(x)))(x)
    np.testing.assert_allclose(third, special.polygamma(2, x), rtol=1e-12)


def test_ends_of_the_logarithm_of_gamma() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -2.0, -1e300, 1e-300, -1e-300, 1.0, 2.0])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(adjit.jit(lambda x: special.gammaln(x))(x), special.gammaln(x), rtol=1e-15)
        np.testing.assert_allclose(adjit.jit(lambda x: special.psi(x))(x), special.psi(x), rtol=1e-15)
    slopes = adjit.grad(lambda x: np.sum(special.gammaln(x)))(np.array([0.0, np.inf]))
    np.testing.assert_array_equal(slopes, [-np.inf, 0.0])
    for plain in (0.5, 3.0, -2.5, math.inf, -math.inf):
        found = adjit.jit(lambda x: math.lgamma(x))(plain)
        np.testing.assert_allclose(found, math.lgamma(plain), rtol=1e-14)
