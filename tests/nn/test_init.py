"""Initial values: bounds and variances for dense layers and convolutions, dtypes, reproducibility, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adjit import nn, random
from adjit.nn import init
from adjit_runtime.errors import DTypeError, ShapeError
from tests.trace.check import run

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}
# Shape, fan-in, fan-out.
SHAPES = [((300, 200), 300, 200), ((3, 5, 32, 64), 480, 960), ((2, 4, 100, 50), 800, 400)]
RULES = [f"{rule}_{kind}" for rule in VARIANCES for kind in ("uniform", "normal")]
every = pytest.mark.parametrize("name", RULES)


def test_all_stand_here() -> None:
    assert sorted(init.weights.__all__) == sorted(RULES)
    assert nn.init is init


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
def test_moments(name: str, dtype: Any, shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    rule, kind = name.split("_")
    variance = VARIANCES[rule](fan_in, fan_out)
    found = getattr(init, name)(shape, key=random.key(0), dtype=dtype)
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (dtype, shape)
    assert abs(np.mean(found, dtype=np.float64)) < 4 * math.sqrt(variance / found.size)
    # The deviation of a sample variance, in units of the variance: sqrt(2 / n) of normal numbers, less of uniform ones.
    assert abs(np.var(found, dtype=np.float64) / variance - 1) < 4 * math.sqrt(2 / found.size)
    limit = math.sqrt(3 * variance)
    largest = float(np.max(np.abs(found)))
    if kind == "uniform":
        assert 0.99 * limit < largest <= limit * (1 + np.finfo(dtype).eps)
    else:
        assert largest > 3 * math.sqrt(variance)


@every
def test_defaults_and_keys(name: str) -> None:
    function = getattr(init, name)
    first = function((8, 4), key=random.key(0))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, function([8, 4], key=0))
    assert np.all(first != function((8, 4), key=random.key(1)))
    assert function((0, 4), key=0).shape == (0, 4)


@every
def test_traced_keys_give_the_same(name: str) -> None:
    function = getattr(init, name)
    found = run(lambda key: function((8, 4), key=key), random.key(5))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, function((8, 4), key=random.key(5)))


@every
@pytest.mark.parametrize("shape", [(), (4,)])
def test_shapes_without_fans(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(\.\.\., inputs, outputs\)"):
        getattr(init, name)(shape, key=0)


@every
def test_refusals(name: str) -> None:
    function = getattr(init, name)
    with pytest.raises(DTypeError, match="float32 or float64, not int64"):
        function((2, 3), key=0, dtype=np.int64)
    with pytest.raises(DTypeError, match="a key is an int64 scalar"):
        function((2, 3), key=0.5)
    with pytest.raises(TypeError, match="key"):
        function((2, 3))
