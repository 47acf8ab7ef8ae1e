"""Activations: values against mpmath, derivatives against differences and by hand at 0, stability, dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from adjit import nn
from adjit.ir.types import F32, F64, Array
from tests.both import run_both
from tests.nn.derivatives import check_gradient, derivatives, weighted_gradient
from tests.trace.check import floats, graph_of, run, trace_of

ELEMENTWISE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (nn.relu, lambda x: max(x, mp.mpf(0))),
    "leaky_relu": (nn.leaky_relu, lambda x: x if x > 0 else mp.mpf(0.01) * x),
    "leaky_relu, slope": (lambda x: nn.leaky_relu(x, 0.25), lambda x: x if x > 0 else x / 4),
    "elu": (nn.elu, lambda x: x if x > 0 else mp.expm1(x)),
    "elu, alpha": (lambda x: nn.elu(x, alpha=0.5), lambda x: x if x > 0 else mp.expm1(x) / 2),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + mp.exp(-x))),
    "tanh": (nn.tanh, mp.tanh),
    "silu": (nn.silu, lambda x: x / (1 + mp.exp(-x))),
    "softplus": (nn.softplus, lambda x: mp.log1p(mp.exp(x))),
    "gelu": (nn.gelu, lambda x: x * mp.ncdf(x)),
    "gelu, tanh": (
        lambda x: nn.gelu(x, approximate=True),
        lambda x: x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf(0.044715) * x**3))),
    ),
}
ALONG: dict[str, Callable[..., Any]] = {
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
    "logsumexp": nn.logsumexp,
}
DTYPES = [np.float32, np.float64]
elementwise = pytest.mark.parametrize("name", ELEMENTWISE)
along = pytest.mark.parametrize("name", ALONG)


def exactly(name: str, x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax and its kin by mpmath, of float64."""

    def row(values: np.ndarray) -> np.ndarray:
        with mp.workdps(50):
            powers = [mp.exp(mp.mpf(float(v))) for v in values]
            total = mp.fsum(powers)
            if name == "logsumexp":
                return np.array(float(mp.log(total)))
            return np.array([float(p / total if name == "softmax" else mp.log(p / total)) for p in powers])

    return np.apply_along_axis(row, axis, x.astype(np.float64))


@elementwise
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(name: str, dtype: Any) -> None:
    function, exact = ELEMENTWISE[name]
    x = np.concatenate([floats(40, dtype=dtype) * 4, np.array([-0.0, 0.0, -15.0, 15.0], dtype)]).reshape(4, 11)
    found = function(x)
    with mp.workdps(30):
        expected = np.array([float(exact(mp.mpf(float(v)))) for v in x.ravel()]).reshape(x.shape)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    eps = np.finfo(dtype).eps
    # A few roundings; gelu far below 0 is a difference of near equals, times x: hence the absolute part.
    np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=16 * eps)
    (traced,) = run_both(graph_of(function, x), x)
    np.testing.assert_array_equal(traced, found)


@elementwise
def test_gradient(name: str) -> None:
    check_gradient(ELEMENTWISE[name][0], floats(3, 4, dtype=np.float64, seed=1) * 2)


@elementwise
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_away(name: str, dtype: Any) -> None:
    """Value and gradient at +-1e4 are finite and the limits, and nothing warns."""
    function, _ = ELEMENTWISE[name]
    x = np.array([-1e4, 1e4], dtype)
    below = {"leaky_relu": 0.01, "leaky_relu, slope": 0.25}.get(name, 0.0)
    limits = {"elu": (-1.0, 1e4), "elu, alpha": (-0.5, 1e4), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
    np.testing.assert_allclose(function(x), limits.get(name, (below * -1e4, 1e4)), rtol=1e-6)
    slopes = (0.0, 0.0) if name in ("sigmoid", "tanh") else (below, 1.0)
    found = weighted_gradient(function, x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, slopes, rtol=1e-6)


@elementwise
def test_nan_stays(name: str) -> None:
    assert np.isnan(ELEMENTWISE[name][0](np.array([np.nan], np.float32)))[0]


@elementwise
def test_numbers(name: str) -> None:
    """Python numbers, integers and NumPy's scalars; a Python number stays weak where it is traced."""
    function, _ = ELEMENTWISE[name]
    assert np.ndim(function(-1.5)) == 0
    assert function(np.float64(-1.5)) == function(-1.5)
    assert float(function(-1)) == float(function(-1.0))
    assert function(np.float32(1.5)).dtype == np.float32
    assert function(np.arange(-2, 3)).dtype == np.float64
    graph = trace_of(lambda x, number: x * function(number), Array(F32, (1,)), Array(F64, (), weak=True)).graph
    assert graph.outputs[0].dtype == np.float32


def test_infinities() -> None:
    x = np.array([-np.inf, np.inf])
    for function, limits in [(nn.relu, (0, np.inf)), (nn.elu, (-1, np.inf)), (nn.softplus, (0, np.inf)),
                             (nn.sigmoid, (0, 1))]:  # fmt: skip
        np.testing.assert_array_equal(function(x), limits)
    np.testing.assert_array_equal(weighted_gradient(nn.softplus, x), [0.0, 1.0])
    np.testing.assert_array_equal(weighted_gradient(nn.relu, x), [0.0, 1.0])


@pytest.mark.parametrize(
    ("function", "slope", "curvature"),
    [
        (nn.relu, 0.0, 0.0),
        (nn.leaky_relu, 0.01, 0.0),
        (nn.elu, 1.0, 1.0),
        (lambda x: nn.elu(x, 0.5), 0.5, 0.5),
        (nn.sigmoid, 0.25, 0.0),
        (nn.tanh, 1.0, 0.0),
        (nn.silu, 0.5, 0.5),
        (nn.softplus, 0.5, 0.25),
        (nn.gelu, 0.5, 2 / np.sqrt(2 * np.pi)),
        (lambda x: nn.gelu(x, True), 0.5, 2 / np.sqrt(2 * np.pi)),
    ],
)
def test_derivatives_at_zero(function: Callable[[Any], Any], slope: float, curvature: float) -> None:
    # Weights that start at 0 make logits that are 0 exactly.
    np.testing.assert_allclose(derivatives(function, 0.0), (slope, curvature), rtol=1e-15)


@along
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_values_along(name: str, dtype: Any, axis: int) -> None:
    x = floats(3, 5, dtype=dtype) * 4
    found = ALONG[name](x, axis=axis)
    assert found.dtype == dtype
    eps = np.finfo(dtype).eps
    # log_softmax of the likeliest class is the logarithm of a sum near 1: right to a few eps, not relative to itself.
    np.testing.assert_allclose(found, exactly(name, x, axis), rtol=16 * eps, atol=4 * eps)
    (traced,) = run_both(graph_of(lambda x: ALONG[name](x, axis=axis), x), x)
    np.testing.assert_allclose(traced, found, rtol=4 * eps, atol=4 * eps)  # sums in another order


@along
@pytest.mark.parametrize("axis", [0, -1, (0, 2), None])
def test_gradient_along(name: str, axis: Any) -> None:
    check_gradient(lambda x: ALONG[name](x, axis=axis), floats(2, 3, 2, dtype=np.float64))


@pytest.mark.parametrize("axis", [0, (0, -1), None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_shapes_of_logsumexp(axis: Any, keepdims: bool) -> None:
    x = floats(2, 3, 4)
    expected = np.sum(x, axis=axis, keepdims=keepdims)
    found = nn.logsumexp(x, axis, keepdims)
    assert (np.shape(found), found.dtype) == (np.shape(expected), np.float32)
    assert run(lambda x: nn.logsumexp(x, axis, keepdims), x).shape == np.shape(expected)


@along
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_away_along(name: str, dtype: Any) -> None:
    function = ALONG[name]
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4]], dtype)
    third = 1 / 3
    log3 = np.log(3.0)
    expected = {
        "softmax": [[1, 0, 0], [third] * 3, [third] * 3],
        "log_softmax": [[0, -2e4, -1e4], [-log3] * 3, [-log3] * 3],
        "logsumexp": [1e4, -1e4 + log3, 1e4 + log3],
    }[name]
    np.testing.assert_allclose(function(x, axis=-1), expected, rtol=4 * np.finfo(dtype).eps)
    weights = np.array([[1.0], [2.0], [3.0]], dtype) if name != "logsumexp" else np.array([1.0, 2.0, 3.0], dtype)
    found = weighted_gradient(lambda x: function(x, axis=-1), x, weights)
    slopes = {
        "softmax": np.zeros((3, 3)),
        "log_softmax": [[-2.0, 1.0, 1.0], [0, 0, 0], [0, 0, 0]],
        "logsumexp": [[1, 0, 0], [2 * third] * 3, [1, 1, 1]],
    }[name]
    np.testing.assert_allclose(found, slopes, rtol=1e-6, atol=1e-6)


def test_masked_classes() -> None:
    """-inf is no class: probability 0, derivative 0."""
    x = np.array([0.0, -np.inf, 0.0])
    np.testing.assert_array_equal(nn.softmax(x), [0.5, 0.0, 0.5])
    np.testing.assert_allclose(nn.log_softmax(x), [-np.log(2), -np.inf, -np.log(2)])
    weights = np.array([1.0, 5.0, 0.0])
    np.testing.assert_allclose(weighted_gradient(nn.softmax, x, weights), [0.25, 0.0, -0.25])
    assert float(nn.logsumexp(x)) == pytest.approx(np.log(2))
    np.testing.assert_array_equal(weighted_gradient(nn.logsumexp, x), [0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("x", "value", "slopes"),
    [
        ([-np.inf, -np.inf], -np.inf, [0.0, 0.0]),
        ([np.inf, 0.0], np.inf, [0.0, 0.0]),
        ([np.nan, 0.0], np.nan, [np.nan, np.nan]),
    ],
)
def test_logsumexp_at_infinity(x: list[float], value: float, slopes: list[float]) -> None:
    np.testing.assert_array_equal(nn.logsumexp(np.array(x)), value)
    np.testing.assert_array_equal(weighted_gradient(nn.logsumexp, np.array(x)), slopes)


@along
def test_axes_that_are_not_there(name: str) -> None:
    x = floats(2, 3)
    with pytest.raises(ValueError, match="axis"):
        ALONG[name](x, axis=2)
    with pytest.raises(ValueError, match="axis"):
        run(lambda x: ALONG[name](x, axis=2), x)
    with pytest.raises(ValueError, match="zero-size"):
        ALONG[name](floats(2, 0), axis=1)
    with pytest.raises(ValueError, match="zero-size"):
        run(lambda x: ALONG[name](x, axis=1), floats(2, 0))
