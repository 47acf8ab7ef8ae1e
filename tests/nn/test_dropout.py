"""Dropout: mask, scale and derivative; same key, same mask, compiled and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit import nn, random
from adjit.ir.types import F32, F64, I64, Array
from adjit_runtime.errors import ArgumentError, DTypeError
from tests.both import run_both
from tests.nn.derivatives import weighted_gradient
from tests.trace.check import floats, graph_of, trace_of

KEY = random.key(3)
RATES = [0.1, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mask_and_scale(rate: float, dtype: Any) -> None:
    x = np.ones((200, 100), dtype)
    found = nn.dropout(x, rate, KEY)
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.unique(found), np.array([0, x[0, 0] / (1 - rate)], dtype))
    kept = np.mean(found > 0)
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept - (1 - rate)) < 4 * deviation  # true of 1 key in 16,000 at least, and of this one
    assert abs(np.mean(found) - 1) < 4 * deviation / (1 - rate)


def test_the_mask_is_that_of_the_key() -> None:
    x = floats(50, 40)
    kept = random.bernoulli(KEY, 0.75, x.shape)
    np.testing.assert_array_equal(nn.dropout(x, 0.25, KEY), np.where(kept, x / np.float32(0.75), np.float32(0)))
    np.testing.assert_array_equal(nn.dropout(x, 0.25, KEY), nn.dropout(x, 0.25, KEY))
    assert np.any(nn.dropout(x, 0.25, KEY) != nn.dropout(x, 0.25, random.key(4)))


def test_compiled_masks_are_the_same() -> None:
    x = floats(33, 7)
    graph = graph_of(lambda x, key: nn.dropout(x, 0.3, key), x, KEY)
    (found,) = run_both(graph, x, KEY)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, nn.dropout(x, 0.3, KEY))


def test_gradient_is_the_scaled_mask() -> None:
    x = floats(20, 30)
    expected = nn.dropout(np.ones_like(x), 0.25, KEY)
    np.testing.assert_array_equal(weighted_gradient(lambda x: nn.dropout(x, 0.25, KEY), x), expected)


def test_dropped_infinities_are_zero() -> None:
    """The mask is a select, no product: 0 times inf would be NaN."""
    x = np.full(100, np.inf)
    assert set(nn.dropout(x, 0.5, KEY)) == {0.0, np.inf}
    assert np.all(np.isfinite(weighted_gradient(lambda x: nn.dropout(x, 0.5, KEY), x)))


@pytest.mark.parametrize(("rate", "key"), [(0.5, None), (0, KEY), (0.0, KEY)])
def test_nothing_is_dropped(rate: float, key: Any) -> None:
    x = floats(5)
    assert nn.dropout(x, rate, key) is x
    traced = trace_of(lambda x: nn.dropout(x, rate, key), Array(F32, (5,)))
    assert traced.graph.nodes == ()


def test_scalars_and_rates_of_numpy() -> None:
    assert float(nn.dropout(3.0, 0.5, KEY)) in (0.0, 6.0)
    assert nn.dropout(floats(4), np.float64(0.5), KEY).dtype == np.float32
    assert trace_of(lambda x: nn.dropout(x, np.float64(0.5), KEY), Array(F32, (4,))).graph.outputs[0].dtype == F32
    assert trace_of(lambda x: nn.dropout(x, 0.5, KEY), Array(F64, (4,))).graph.outputs[0].dtype == F64


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, np.nan])
def test_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ArgumentError, match=r"rate is (in \[0, 1\)|a number, not nan)"):
        nn.dropout(floats(3), rate, KEY)
    with pytest.raises(ArgumentError, match=r"rate is (in \[0, 1\)|a number, not nan)"):
        nn.dropout(floats(3), rate, None)


def test_a_key_that_is_none() -> None:
    with pytest.raises(DTypeError, match="a key is an int64 scalar"):
        nn.dropout(floats(3), 0.5, np.zeros(2))
    with pytest.raises(DTypeError, match="a key is an int64 scalar"):
        trace_of(lambda x, key: nn.dropout(x, 0.5, key), Array(F32, (3,)), Array(I64, (2,)))
