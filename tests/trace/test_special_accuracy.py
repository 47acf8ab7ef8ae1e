"""Functions of SciPy that are compositions keep their last digits at the ends of their range."""

from __future__ import annotations

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
