"""Losses: values by hand in float64, gradients against differences, stability, dtypes, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from adjit import nn
from adjit.autodiff.reverse import gradient
from adjit.driver import jit
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from tests.both import run_both
from tests.nn.derivatives import check_gradient, derivatives, weighted_gradient
from tests.trace.check import floats, graph_of, integers, run

Loss = Callable[..., Any]
DTYPES = [np.float32, np.float64]


def distributions(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return special.softmax(floats(*shape, dtype=np.float64, seed=5), axis=-1).astype(dtype)


def by_label(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(special.log_softmax(logits, axis=-1), labels[..., None], -1)[..., 0]


def binary(logits: np.ndarray, t: np.ndarray) -> np.ndarray:
    return -special.xlogy(t, special.expit(logits)) - special.xlogy(1 - t, special.expit(-logits))


# Loss, targets (of float64) for predictions of shape (4, 3), the formula.
CASES: dict[str, tuple[Loss, np.ndarray, Loss]] = {
    "mse": (nn.mse, floats(4, 3, dtype=np.float64, seed=2), lambda p, t: (p - t) ** 2),
    "mae": (nn.mae, floats(4, 3, dtype=np.float64, seed=2), lambda p, t: np.abs(p - t)),
    "huber": (nn.huber, floats(4, 3, dtype=np.float64, seed=2), lambda p, t: special.huber(1.0, p - t)),
    "huber, delta": (
        lambda p, t, reduction="mean": nn.huber(p, t, 0.3, reduction),
        floats(4, 3, dtype=np.float64, seed=2),
        lambda p, t: special.huber(0.3, p - t),
    ),
    "labels": (nn.cross_entropy_with_labels, np.array([0, 2, 1, 2]), by_label),
    "probabilities": (
        nn.cross_entropy_with_probabilities,
        distributions(4, 3),
        lambda p, t: -np.sum(t * special.log_softmax(p, axis=-1), axis=-1),
    ),
    "binary": (nn.binary_cross_entropy_with_logits, distributions(4, 3), binary),
    "hinge": (nn.hinge, np.sign(floats(4, 3, dtype=np.float64, seed=2)), lambda p, t: np.maximum(0, 1 - p * t)),
}
every_loss = pytest.mark.parametrize("name", CASES)


def cast(targets: np.ndarray, dtype: Any) -> np.ndarray:
    return targets.astype(dtype) if targets.dtype.kind == "f" else targets


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values(name: str, dtype: Any, reduction: str) -> None:
    loss, targets, formula = CASES[name]
    targets, x = cast(targets, dtype), floats(4, 3, dtype=dtype)
    each = formula(x.astype(np.float64), targets)
    expected = {"mean": np.mean(each), "sum": np.sum(each), "none": each}[reduction]
    found = loss(x, targets, reduction=reduction)
    assert (found.dtype, np.shape(found)) == (dtype, np.shape(expected))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=8 * eps, atol=8 * eps)
    (traced,) = run_both(graph_of(lambda x, t: loss(x, t, reduction=reduction), x, targets), x, targets)
    assert traced.dtype == dtype
    np.testing.assert_allclose(traced, found, rtol=8 * eps, atol=8 * eps)  # sums in another order


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient(name: str, reduction: str) -> None:
    loss, targets, _ = CASES[name]
    check_gradient(lambda x: loss(x, targets, reduction=reduction), floats(4, 3, dtype=np.float64))


@pytest.mark.parametrize("name", ["probabilities", "binary", "mse"])
def test_gradient_of_targets(name: str) -> None:
    loss, targets, _ = CASES[name]
    x = floats(4, 3, dtype=np.float64)
    check_gradient(lambda t: loss(x, t, reduction="none"), targets)


@every_loss
def test_traced_targets_and_known_ones_agree(name: str) -> None:
    loss, targets, _ = CASES[name]
    x = floats(4, 3, dtype=np.float64)
    np.testing.assert_array_equal(run(lambda x: loss(x, targets), x), run(loss, x, targets))
    np.testing.assert_allclose(run(lambda t: loss(x, t), targets), run(loss, x, targets), rtol=1e-15)


@every_loss
def test_an_unknown_reduction(name: str) -> None:
    loss, targets, _ = CASES[name]
    with pytest.raises(ArgumentError, match="'mean', 'sum' or 'none', not 'average'"):
        loss(floats(4, 3), targets, reduction="average")


@every_loss
def test_shapes_that_differ(name: str) -> None:
    loss, targets, _ = CASES[name]
    with pytest.raises(ShapeError, match=r"\(5, 3\)"):
        loss(floats(5, 3), targets)
    with pytest.raises(ShapeError, match=r"test_losses.py:\d+: .*\(5, 3\)"):
        run(lambda x, t: loss(x, t), floats(5, 3), targets)


@pytest.mark.parametrize("loss", [nn.mse, nn.mae, nn.huber, nn.hinge, nn.binary_cross_entropy_with_logits])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_integer_targets_keep_float32(loss: Loss, dtype: Any) -> None:
    x, targets = floats(6), np.array([0, 1, 1, 0, 1, 0], dtype)
    found = loss(x, targets)
    assert found.dtype == np.float32
    assert found == loss(x, targets.astype(np.float32))
    traced = run(loss, x, targets)
    assert traced.dtype == np.float32
    assert loss(x, targets.tolist()).dtype == np.float32
    assert isinstance(loss(0.5, 1), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_away(dtype: Any) -> None:
    """Logits of +-1e4: exact losses, gradients that are the limits, no warning."""
    x = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    for loss, targets, expected, slopes in [
        (nn.cross_entropy, np.array([0, 1]), [0.0, 2e4], [[0, 0], [1, -1]]),
        (nn.cross_entropy, np.array([[1, 0], [0.5, 0.5]], dtype), [0.0, 1e4], [[0, 0], [0.5, -0.5]]),
        (nn.binary_cross_entropy_with_logits, np.array([[1, 0], [0, 1]], dtype), [[0, 0], [1e4, 1e4]],
         [[0, 0], [1, -1]]),
        (nn.hinge, np.array([[1, -1], [-1, 1]], dtype), [[0, 0], [10001, 10001]], [[0, 0], [1, -1]]),
        (nn.huber, np.zeros((2, 2), dtype), np.full((2, 2), 9999.5), [[1, -1], [1, -1]]),
        (nn.mae, np.zeros((2, 2), dtype), np.full((2, 2), 1e4), [[1, -1], [1, -1]]),
    ]:  # fmt: skip
        np.testing.assert_array_equal(loss(x, targets, reduction="none"), np.asarray(expected, dtype))
        found = weighted_gradient(lambda x, loss=loss, t=targets: loss(x, t, reduction="none"), x)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.asarray(slopes, dtype))


def test_derivatives_at_kinks() -> None:
    assert derivatives(lambda x: nn.binary_cross_entropy_with_logits(x, 0.25), 0.0) == (0.25, 0.25)
    assert derivatives(lambda x: nn.huber(x, 0.0), 0.0) == (0.0, 1.0)
    assert derivatives(lambda x: nn.mae(x, 0.0), 0.0) == (0.0, 0.0)
    assert derivatives(lambda x: nn.hinge(x, 1.0), 1.0) == (0.0, 0.0)


def test_a_small_binary_loss_keeps_its_digits() -> None:
    x = np.array([30.0, -30.0], np.float32)
    expected = np.log1p(np.exp([-30.0, -30.0]))
    np.testing.assert_allclose(nn.binary_cross_entropy_with_logits(x, [1, 0], reduction="none"), expected, rtol=1e-6)


def test_masked_classes() -> None:
    x = np.array([[0.0, -np.inf, 0.0]])
    half = np.array([[0.5, 0.0, 0.5]])
    for targets in (np.array([2]), half):
        assert float(nn.cross_entropy(x, targets)) == pytest.approx(np.log(2))
    found = weighted_gradient(lambda x: nn.cross_entropy(x, half), x)
    np.testing.assert_allclose(found, np.zeros((1, 3)), atol=1e-15)
    found = weighted_gradient(lambda x: nn.cross_entropy(x, np.array([2])), x)
    np.testing.assert_allclose(found, [[0.5, 0.0, -0.5]])
    assert float(nn.cross_entropy(x, np.array([1]))) == np.inf


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_cross_entropy_along_axes(axis: int) -> None:
    x = floats(3, 4, 5, dtype=np.float64)
    moved = np.moveaxis(x, axis, -1)
    labels = integers(*moved.shape[:-1], low=0, high=moved.shape[-1], seed=1)
    found = nn.cross_entropy(x, labels, axis=axis, reduction="none")
    np.testing.assert_allclose(found, by_label(moved, labels), rtol=1e-13)
    check_gradient(lambda x: nn.cross_entropy(x, labels, axis=axis, reduction="none"), x)
    p = np.moveaxis(special.softmax(moved, axis=-1), -1, axis)
    found = nn.cross_entropy(x, p, axis=axis, reduction="none")
    np.testing.assert_allclose(found, -np.sum(p * special.log_softmax(x, axis=axis), axis=axis), rtol=1e-13)


def test_one_row() -> None:
    x = floats(4, dtype=np.float64)
    np.testing.assert_allclose(nn.cross_entropy(x, 2), by_label(x[None], np.array([2]))[0], rtol=1e-14)
    np.testing.assert_allclose(run(nn.cross_entropy, x, np.int64(2)), nn.cross_entropy(x, 2), rtol=1e-15)


OUT_OF_RANGE = [
    (np.int64, 3), (np.int64, -1), (np.int64, -4), (np.int64, 2**63 - 1), (np.int64, -(2**63)), (np.int32, 3),
    (np.int32, -1), (np.int32, 2**31 - 1), (np.uint8, 3), (np.uint8, 255),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "label"), OUT_OF_RANGE)
def test_a_label_out_of_range(dtype: Any, label: int) -> None:
    x, labels = floats(2, 3), np.array([0, label], dtype)
    text = f"{label} is out of bounds for axis 1 with size 3"
    with pytest.raises(IndexError, match=text):
        nn.cross_entropy(x, labels)
    with pytest.raises(IndexError, match=rf"test_losses.py:\d+: .*{text}"):
        run(lambda x: nn.cross_entropy(x, labels), x)
    with pytest.raises(IndexOutOfRange):
        run(nn.cross_entropy, x, labels)
    with pytest.raises(IndexOutOfRange, match=text):
        jit(nn.cross_entropy)(x, labels)


def test_targets_of_other_kinds() -> None:
    x = floats(2, 3)
    with pytest.raises(DTypeError, match="labels are integers, not bool"):
        nn.cross_entropy(x, np.array([True, False]))
    with pytest.raises(DTypeError, match="labels are integers, not float64"):
        nn.cross_entropy_with_labels(x, np.array([0.0, 1.0]))
    with pytest.raises(ShapeError, match="no axis 2"):
        nn.cross_entropy(x, np.array([0, 1]), axis=2)
    with pytest.raises(ShapeError, match="no axis -1"):
        nn.cross_entropy(1.0, 0)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.nan])
def test_a_delta_that_is_not_positive(delta: float) -> None:
    with pytest.raises(ArgumentError, match=r"delta is (positive|a number, not nan)"):
        nn.huber(floats(3), floats(3), delta)


def test_traced_delta() -> None:
    p, t = floats(5, dtype=np.float64) * 3, np.zeros(5)
    found = run(lambda p, delta: nn.huber(p, t, delta), p, np.float64(0.7))
    np.testing.assert_allclose(found, nn.huber(p, t, 0.7), rtol=1e-15)


def test_gradient_in_float32_is_softmax_minus_one_hot() -> None:
    x, labels = floats(64, 10) * 5, integers(64, low=0, high=10)
    _, found = run_both(gradient(graph_of(nn.cross_entropy, x, labels), [0]), x, labels)
    expected = (special.softmax(x.astype(np.float64), axis=-1) - np.eye(10)[labels]) / 64
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-9)  # one rounding of numbers up to 1/64
