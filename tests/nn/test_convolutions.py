"""Convolutions, pooling and resizing: values and gradients as torch gives them, layouts, transformations, refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, ShapeError
from tests.nn.convolution_cases import CASES, RECORDED, arrays, cotangent

every_case = pytest.mark.parametrize("name", CASES)
TRANSFORMED = ["1-d, causal", "2-d, stride", "2-d, depthwise", "transposed 2-d, extra", "max 2-d, overlapping",
               "mean 2-d, padded", "adaptive 1-d", "bilinear"]  # fmt: skip


@functools.cache
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED) as file:
        return dict(file)


def function_of(name: str, **more: Any) -> Callable[..., Any]:
    case = CASES[name]
    return functools.partial(getattr(nn, case.function), **{**case.arguments, **more})


def operands_of(name: str, dtype: Any = np.float64) -> tuple[np.ndarray, ...]:
    return tuple(array.astype(dtype) for array in arrays(name) if array is not None)


@every_case
def test_values(name: str) -> None:
    function, operands, wanted = function_of(name), operands_of(name), recorded()[f"{name}/y"]
    np.testing.assert_allclose(function(*operands), wanted, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(adjit.jit(function)(*operands), wanted, rtol=1e-10, atol=1e-12)


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_gradients(name: str, dtype: Any, tolerance: float) -> None:
    function, operands = function_of(name), operands_of(name, dtype)
    weights = cotangent(recorded()[f"{name}/y"].shape).astype(dtype)
    numbers = tuple(range(len(operands)))
    found = adjit.grad(lambda *given: np.sum(function(*given) * weights), argnums=numbers)(*operands)
    for gradient, key in zip(found, ("dx", "dw"), strict=False):
        assert gradient.dtype == dtype
        wanted = recorded()[f"{name}/{key}"]
        np.testing.assert_allclose(gradient, wanted, rtol=100 * tolerance, atol=10 * tolerance)


@every_case
def test_channels_last(name: str) -> None:
    x, *w = operands_of(name)
    function = function_of(name, layout="NHWC")
    found = adjit.jit(function)(np.moveaxis(x, 1, -1), *w)
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), recorded()[f"{name}/y"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_derivatives_of_second_order(name: str) -> None:
    adjit.check_grads(function_of(name), operands_of(name), order=2)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_batches(name: str) -> None:
    function, (x, *w) = function_of(name), operands_of(name)
    xs = np.stack([x, 2 * x, -x])
    found = adjit.vmap(function, in_axes=(0, *(None for _ in w)))(xs, *w)
    np.testing.assert_allclose(found, np.stack([function(one, *w) for one in xs]), rtol=1e-10, atol=1e-12)
    if w:
        ws = np.stack([w[0], 3 * w[0]])
        found = adjit.vmap(function, in_axes=(None, 0))(x, ws)
        np.testing.assert_allclose(found, np.stack([function(x, one) for one in ws]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_same_with_strides(stride: int, channels: int) -> None:
    """A result for each stride, begun or not; what is added is even on both sides, but for one at the end."""
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, channels, 10)), rng.standard_normal((4, channels, 5))
    total = max((-(-10 // stride) - 1) * stride + 4 - 10, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (total // 2, total - total // 2)))
    found = adjit.jit(lambda x, w: nn.conv(x, w, stride, "same"))(x, w)
    assert found.shape == (2, 5, -(-10 // stride))
    np.testing.assert_allclose(found, nn.conv(padded, w, stride), rtol=1e-10)


def test_transposed_is_the_adjoint() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((3, 2, 2, 6))
    y = nn.conv(x, w, (2, 3), (1, 0), groups=2)
    z = rng.standard_normal(y.shape)
    back = nn.conv_transpose(z, w, (2, 3), (1, 0), groups=2, extra=(0, 0))
    padded = np.pad(back, ((0, 0), (0, 0), (0, 9 - back.shape[2]), (0, 8 - back.shape[3])))
    np.testing.assert_allclose(np.sum(x * padded), np.sum(y * z), rtol=1e-10)


def test_half_of_the_ties() -> None:
    x = np.array([[[1.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(adjit.grad(lambda x: np.sum(nn.max_pool(x, 3)))(x), [[[0.5, 0.5, 0.0]]])


def test_largest_of_integers_and_of_nan() -> None:
    assert nn.max_pool(np.array([[[1, 5, 2, 3]]]), 2, padding=1).tolist() == [[[1, 5, 3]]]
    assert np.isnan(adjit.jit(lambda x: nn.max_pool(x, 2))(np.array([[[np.nan, 1.0, 2.0, 3.0]]]))).tolist() == [
        [[True, False]]
    ]
    assert nn.avg_pool(np.array([[[1, 2]]]), 2).tolist() == [[[1.5]]]


X, W = np.ones((1, 4, 6, 6)), np.ones((3, 3, 4, 2))
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no image": (lambda: nn.conv(np.ones((3, 3)), W), ShapeError, r"x\[None\]"),
    "four axes": (lambda: nn.conv(np.ones((1,) * 6), W), ShapeError, "1 to 3 spatial axes"),
    "kernel": (lambda: nn.conv(X, np.ones((3, 4, 2))), ShapeError, "2 axes of the kernel"),
    "channels": (lambda: nn.conv(X, np.ones((3, 3, 3, 2))), ShapeError, "x has 4 channels"),
    "channels, transposed": (lambda: nn.conv_transpose(X, W), ShapeError, "x has 4 channels, and w .* gives 2"),
    "groups": (lambda: nn.conv(X, W, groups=3), ArgumentError, "groups=3 does not divide the 2 outputs"),
    "no groups": (lambda: nn.conv(X, W, groups=0), ArgumentError, "groups"),
    "empty kernel": (lambda: nn.conv(X, np.ones((0, 3, 4, 2))), ShapeError, "is empty"),
    "large window": (lambda: nn.conv(X, np.ones((7, 3, 4, 2))), ShapeError, "does not fit the 6"),
    "dilated window": (lambda: nn.max_pool(X, 3, dilation=3), ShapeError, "reaches over 7 elements"),
    "stride": (lambda: nn.conv(X, W, stride=0), ArgumentError, "stride"),
    "strides": (lambda: nn.conv(X, W, stride=(1, 1, 1)), ArgumentError, "2 spatial axes"),
    "padding": (lambda: nn.conv(X, W, padding="full"), ArgumentError, "padding"),
    "pairs": (lambda: nn.conv(X, W, padding=((1, 1),)), ArgumentError, "a pair for each of 2"),
    "negative": (lambda: nn.conv(X, W, padding=-1), ArgumentError, "padding"),
    "causal": (lambda: nn.conv(X, W, padding="causal"), ArgumentError, "one spatial axis"),
    "layout": (lambda: nn.conv(X, W, layout="CHWN"), ArgumentError, "layout"),
    "layout of one axis": (lambda: nn.conv(X, W, layout="NCW"), ArgumentError, "layout"),
    "method": (lambda: nn.resize(X, 3, "cubic"), ArgumentError, "method"),
    "nothing to resize": (lambda: nn.resize(np.ones((1, 1, 0)), 3), ShapeError, "no elements"),
    "nothing to pool": (lambda: nn.adaptive_avg_pool(np.ones((1, 1, 0)), 3), ShapeError, "no elements"),
    "another name": (lambda: nn.conv(X, W, strides=2), TypeError, "stride"),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    call, error, text = REFUSED[name]
    with pytest.raises(error, match=text):
        call()


def networks(seed: int) -> tuple[Callable[..., Any], dict[str, np.ndarray], np.ndarray]:
    """A small network of convolutions and what stands between them, drawn by chance; its weights and images."""
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([1, 2, 4, 8]))
    shape = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(5, 13, 2)), channels)
    layers: list[tuple[str, str, int, Any]] = []
    weights: dict[str, np.ndarray] = {}
    for i in range(3):
        kind = str(rng.choice(["conv", "conv", "transposed", "beside", "relu", "norm", "max", "mean"]))
        size = tuple(int(n) for n in rng.integers(1, 4, 2)) if kind != "beside" else (3, 3)
        outputs = channels if kind == "beside" else int(rng.choice([1, 3, 8]))
        if kind in ("conv", "beside"):
            weights[f"w{i}"] = 0.4 * rng.standard_normal((*size, channels, outputs))
        elif kind == "transposed":
            weights[f"w{i}"] = 0.4 * rng.standard_normal((*size, outputs, channels))
        channels = outputs if f"w{i}" in weights else channels
        layers.append((kind, f"w{i}", int(rng.choice([1, 2])), [0, 1, "same"][int(rng.integers(3))]))

    def network(w: dict[str, Any], x: Any) -> Any:
        h = x
        for kind, name, stride, padding in layers:
            if kind == "conv":
                h = nn.conv(h, w[name], stride, padding, layout="NHWC")
            elif kind == "transposed":
                h = nn.conv_transpose(h, w[name], stride, layout="NHWC")
            elif kind == "beside":
                h = nn.relu(nn.conv(h, w[name], 1, 1, layout="NHWC") + h)
            elif kind == "norm":
                h = (h - np.mean(h, axis=(0, 1, 2))) / np.sqrt(np.var(h, axis=(0, 1, 2)) + 1e-3)
            elif kind == "max":
                h = nn.max_pool(h, 2, stride, "same", layout="NHWC")
            elif kind == "mean":
                h = nn.avg_pool(h, 2, stride, "same", layout="NHWC")
            else:
                h = nn.relu(h)
        return np.sum(np.sin(h) * h)

    return network, weights, rng.standard_normal(shape)


@pytest.mark.parametrize("seed", range(10))
def test_gradients_of_networks(seed: int) -> None:
    """Machine code gives what the graph before all passes does."""
    network, weights, x = networks(seed)
    function = adjit.value_and_grad(network, argnums=(0, 1))
    value, (by_weights, by_x) = function(weights, x)
    wanted = adjit.evaluate(function.ir("adjoint"), *(weights[name] for name in sorted(weights)), x)
    np.testing.assert_allclose(value, network(weights, x), rtol=1e-9)
    for found, right in zip([value, *(by_weights[name] for name in sorted(weights)), by_x], wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-8, atol=1e-8)


def test_a_stride_below_a_rectifier() -> None:
    """The phases of the adjoint lie between one another in memory, and are no rows and columns of products."""
    rng = np.random.default_rng(4)
    x, w, v = rng.standard_normal((4, 16, 16, 8)), rng.standard_normal((3, 3, 8, 8)), rng.standard_normal((3, 3, 8, 8))

    def loss(w: Any, v: Any, x: Any) -> Any:
        h = nn.relu(nn.conv(x, w, padding=1, layout="NHWC"))
        return np.sum(nn.conv(h, v, 2, 1, layout="NHWC") ** 3)

    function = adjit.grad(loss, argnums=(0, 1, 2))
    found = function(w, v, x)
    for one, right in zip(found, adjit.evaluate(function.ir("adjoint"), w, v, x)[-3:], strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-8, atol=1e-6)


def test_images_that_are_closed_over_are_constants_as_they_are() -> None:
    x = np.random.default_rng(5).standard_normal((2, 3, 8, 8))
    function = adjit.jit(lambda w: nn.conv(x, w, padding=1))
    w = np.random.default_rng(6).standard_normal((3, 3, 3, 4))
    np.testing.assert_allclose(function(w), nn.conv(x, w, padding=1), rtol=1e-10)
    sizes = [node.array_type.size for node in function.ir("trace").nodes if node.op.name == "constant"]
    assert max(sizes) == x.size
