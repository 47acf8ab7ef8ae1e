"""What samples, classes and labels weigh in losses, and the losses of distributions and vectors: NumPy's formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from tests.nn.derivatives import check_gradient
from tests.trace.check import floats, run

LOGITS, TARGETS = floats(4, 3, dtype=np.float64), floats(4, 3, dtype=np.float64, seed=2)
LABELS = np.array([0, 2, 1, 2])
CLASS_WEIGHTS = np.array([0.5, 1.0, 3.0])
SHARES = special.softmax(TARGETS, axis=-1)

# Each takes reduction and weights; the shape of what "none" gives.
LOSSES: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "mse": (lambda x, **o: nn.mse(x, TARGETS, **o), (4, 3)),
    "mae": (lambda x, **o: nn.mae(x, TARGETS, **o), (4, 3)),
    "huber": (lambda x, **o: nn.huber(x, TARGETS, 0.5, **o), (4, 3)),
    "hinge": (lambda x, **o: nn.hinge(x, np.sign(TARGETS), **o), (4, 3)),
    "kl": (lambda x, **o: nn.kl_divergence(x, SHARES, **o), (4,)),
    "cosine": (lambda x, **o: nn.cosine_loss(x, TARGETS, **o), (4,)),
    "triplet": (lambda x, **o: nn.triplet(x, TARGETS, TARGETS[::-1], **o), (4,)),
    "binary": (lambda x, **o: nn.binary_cross_entropy_with_logits(x, SHARES, **o), (4, 3)),
    "focal": (lambda x, **o: nn.focal(x, TARGETS > 0, **o), (4, 3)),
    "labels": (lambda x, **o: nn.cross_entropy(x, LABELS, **o), (4,)),
    "shares": (lambda x, **o: nn.cross_entropy(x, SHARES, **o), (4,)),
    "ctc": (lambda x, **o: nn.ctc(np.stack([x, x, x]), np.array([[1, 2]] * 4), **o), (4,)),
}
every = pytest.mark.parametrize("name", LOSSES)


@every
def test_weights_of_samples(name: str) -> None:
    loss, shape = LOSSES[name]
    each = loss(LOGITS, reduction="none")
    assert each.shape == shape
    full = np.abs(floats(*shape, dtype=np.float64, seed=8))
    for weights in (full, full[:1], np.float64(2.0), np.arange(shape[-1]), np.ones(shape, bool)):
        spread = np.broadcast_to(weights, shape).astype(float)
        expected = {
            "none": each * spread, "sum": np.sum(each * spread), "mean": np.sum(each * spread) / np.sum(spread),
        }  # fmt: skip
        for reduction, want in expected.items():
            np.testing.assert_allclose(loss(LOGITS, reduction=reduction, weights=weights), want, rtol=1e-12)
    found = run(lambda x, w: loss(x, weights=w), LOGITS, full)
    np.testing.assert_allclose(found, np.sum(each * full) / np.sum(full), rtol=1e-11)
    assert loss(LOGITS, weights=0 * full) == 0.0
    np.testing.assert_array_equal(adjit.grad(lambda x: loss(x, weights=0.0))(LOGITS), 0 * LOGITS)
    single = loss(LOGITS.astype(np.float32), reduction="none", weights=np.arange(shape[-1]))
    with pytest.raises(ShapeError, match=r"weights of shape .* does not broadcast to the losses"):
        loss(LOGITS, weights=np.ones((2, *shape)))
    assert single.shape == shape


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("ignore", [None, 1, -100])
def test_labels(smoothing: float, weighed: bool, ignore: int | None) -> None:
    labels = np.where(LABELS == 1, ignore, LABELS) if ignore is not None else LABELS
    by_class = CLASS_WEIGHTS if weighed else np.ones(3)
    spread = (1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3
    each = -np.sum(spread * by_class * special.log_softmax(LOGITS, axis=-1), axis=-1)
    shares = by_class[LABELS] * (1.0 if ignore is None else labels != ignore)
    each = each if ignore is None else np.where(labels == ignore, 0.0, each)
    options: dict[str, Any] = {
        "label_smoothing": smoothing, "class_weights": CLASS_WEIGHTS if weighed else None, "ignore": ignore,
    }  # fmt: skip
    for reduction, want in (("none", each), ("sum", np.sum(each)), ("mean", np.sum(each) / np.sum(shares))):
        found = run(lambda x, r=reduction: nn.cross_entropy(x, labels, reduction=r, **options), LOGITS)
        np.testing.assert_allclose(found, want, rtol=1e-11)
    samples = np.array([1.0, 2.0, 3.0, 0.0])
    found = nn.cross_entropy(LOGITS, labels, weights=samples, **options)
    np.testing.assert_allclose(found, np.sum(each * samples) / np.sum(shares * samples), rtol=1e-12)


def test_classes_along_another_axis() -> None:
    logits, labels = floats(2, 3, 5, dtype=np.float64), np.arange(10).reshape(2, 5) % 3
    options: dict[str, Any] = {"label_smoothing": 0.1, "class_weights": CLASS_WEIGHTS, "ignore": 2}
    last = nn.cross_entropy(np.moveaxis(logits, 1, -1), labels, **options)
    np.testing.assert_allclose(nn.cross_entropy(logits, labels, axis=1, **options), last, rtol=1e-13)
    shares = np.eye(3)[labels]
    options.pop("ignore")
    last = nn.cross_entropy(logits, np.moveaxis(shares, -1, 1), axis=1, **options)
    np.testing.assert_allclose(last, nn.cross_entropy(np.moveaxis(logits, 1, -1), shares, **options), rtol=1e-13)


def test_all_labels_ignored() -> None:
    labels = np.full(4, -1)
    value, slope = adjit.value_and_grad(lambda x: nn.cross_entropy(x, labels, ignore=-1))(LOGITS)
    assert value == 0.0
    np.testing.assert_array_equal(slope, 0 * LOGITS)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_ignored_row_may_hold_anything(wrong: float) -> None:
    logits = LOGITS.copy()
    logits[1] = wrong
    labels = np.array([0, -1, 1, 2])
    rest = [0, 2, 3]
    value, slope = adjit.value_and_grad(lambda x: nn.cross_entropy(x, labels, ignore=-1, label_smoothing=0.1))(logits)
    np.testing.assert_allclose(value, nn.cross_entropy(LOGITS[rest], labels[rest], label_smoothing=0.1), rtol=1e-12)
    np.testing.assert_array_equal(slope[1], np.zeros(3))
    assert np.all(np.isfinite(slope))


def test_second_derivatives() -> None:
    adjit.check_grads(
        lambda x, c: nn.cross_entropy(x, LABELS, label_smoothing=0.1, class_weights=c, ignore=1),
        (LOGITS, CLASS_WEIGHTS), modes="rev",
    )  # fmt: skip
    adjit.check_grads(lambda x: nn.focal(x, np.array([0, 1, 1])), (LOGITS[0],), modes="rev")
    adjit.check_grads(lambda q, p: nn.kl_divergence(q, p), (special.log_softmax(LOGITS, -1), SHARES), modes="rev")
    adjit.check_grads(lambda a, b: nn.cosine_loss(a, b), (LOGITS, TARGETS), modes="rev")
    adjit.check_grads(lambda a, b, c: nn.triplet(a, b, c, 9.0), (LOGITS, TARGETS, TARGETS[::-1]), modes="rev")


def test_positive_weight_and_smoothing() -> None:
    s, t = special.expit(LOGITS), 0.8 * SHARES + 0.1
    weight = np.array([0.5, 1.0, 3.0])
    expected = -(weight * t * np.log(s) + (1 - t) * np.log1p(-s))
    options: dict[str, Any] = {"reduction": "none", "label_smoothing": 0.2}
    found = run(
        lambda x, w: nn.binary_cross_entropy_with_logits(x, SHARES, positive_weight=w, **options), LOGITS, weight
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    far = np.array([1e4, -1e4, 40.0], np.float32)
    right = nn.binary_cross_entropy_with_logits(far, np.array([1, 0, 1]), "none", positive_weight=2.0)
    np.testing.assert_allclose(right, [0, 0, 2 * np.exp(-40.0)], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal(gamma: float, alpha: float | None) -> None:
    t = (TARGETS > 0).astype(float)
    p = special.expit(LOGITS)
    right = np.where(t == 1, p, 1 - p)
    share = 1.0 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    found = run(lambda x: nn.focal(x, TARGETS > 0, gamma, alpha, reduction="none"), LOGITS)
    np.testing.assert_allclose(found, -share * (1 - right) ** gamma * np.log(right), rtol=1e-10)
    far = np.array([1e4, -1e4, 1e4, -1e4], np.float32)
    value, slope = adjit.value_and_grad(lambda x: nn.focal(x, np.array([1, 0, 0, 1]), gamma, None, "sum"))(far)
    assert value == 2e4
    np.testing.assert_array_equal(slope, [0, 0, 1, -1])


def test_divergence_where_something_is_impossible() -> None:
    q, p = np.array([[0.0, -np.inf], [-np.inf, 0.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    found = run(lambda q, p: nn.kl_divergence(q, p, reduction="none"), q, p)
    np.testing.assert_array_equal(found, [0.0, np.inf])
    logs = run(lambda q, p: nn.kl_divergence(q, p, log_targets=True, reduction="none"), q, q[[0, 0]])
    np.testing.assert_array_equal(logs, [0.0, np.inf])
    slope = adjit.grad(lambda x: nn.kl_divergence(nn.log_softmax(x), p))(LOGITS[:2, :2])
    np.testing.assert_allclose(slope, (special.softmax(LOGITS[:2, :2], -1) - p) / 2, rtol=1e-12)
    moved = nn.kl_divergence(special.log_softmax(LOGITS, 0), special.softmax(TARGETS, 0), axis=0, reduction="none")
    expected = np.sum(special.rel_entr(special.softmax(TARGETS, 0), special.softmax(LOGITS, 0)), axis=0)
    np.testing.assert_allclose(moved, expected, rtol=1e-12)


def test_cosine() -> None:
    a, b = floats(2, 3, 4, dtype=np.float64), floats(3, 4, dtype=np.float64, seed=1)
    expected = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(run(nn.cosine_similarity, a, b), expected, rtol=1e-11)
    np.testing.assert_allclose(nn.cosine_similarity(a[0].T, b.T, axis=0), expected[0], rtol=1e-12)
    for scale in (1e-30, 1e30):
        large = np.array([[3.0, 4.0]], np.float32) * np.float32(scale)
        value, slope = adjit.value_and_grad(lambda x: np.sum(nn.cosine_similarity(x, np.array([1, 0]))))(large)
        np.testing.assert_allclose(value, 0.6, rtol=1e-6)
        np.testing.assert_allclose(slope * large, [[0.6 * 0.64, -0.6 * 0.64]], rtol=1e-5)
    zero = np.zeros((2, 3))
    np.testing.assert_array_equal(adjit.grad(lambda x: nn.cosine_loss(x, x * 0 + 1))(zero) * 0, zero)
    check_gradient(lambda a: nn.cosine_loss(a, b, np.array([1, -1, -1]), margin=-0.9, reduction="none"), a[0])


def test_triplet() -> None:
    a, p, n = LOGITS, TARGETS, floats(4, 3, dtype=np.float64, seed=6)
    apart = np.linalg.norm(a - n, axis=-1)
    expected = np.maximum(0, np.linalg.norm(a - p, axis=-1) - apart + 0.5)
    np.testing.assert_allclose(nn.triplet(a, p, n, 0.5, reduction="none"), expected, rtol=1e-12)
    nearer = np.minimum(apart, np.linalg.norm(p - n, axis=-1))
    swapped = run(lambda a: nn.triplet(a, p, n, 0.5, True, reduction="none"), a)
    np.testing.assert_allclose(swapped, np.maximum(0, np.linalg.norm(a - p, axis=-1) - nearer + 0.5), rtol=1e-11)
    squared = nn.triplet(a, p, n, distance=lambda a, b: np.sum((a - b) ** 2, axis=-1), reduction="none")
    between = np.sum((a - p) ** 2, -1) - np.sum((a - n) ** 2, -1)
    np.testing.assert_allclose(squared, np.maximum(0, between + 1), rtol=1e-12)
    np.testing.assert_array_equal(adjit.grad(lambda a: nn.triplet(a, a, a))(a), 0 * a)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.cross_entropy(LOGITS, LABELS, class_weights=np.ones(4)), ShapeError, "class_weights has the shape"),
    (lambda: nn.cross_entropy(LOGITS, SHARES, ignore=1), ArgumentError, "ignore=1 is a label"),
    (lambda: nn.cross_entropy(LOGITS, LABELS, label_smoothing=1.5), ArgumentError, "label_smoothing"),
    (lambda: nn.cross_entropy(LOGITS, LABELS, weights="x"), DTypeError, "weights is an array of numbers"),
    (lambda: nn.focal(LOGITS, TARGETS, gamma=-1), ArgumentError, "gamma is a number >= 0"),
    (lambda: nn.focal(LOGITS, TARGETS, alpha=2.0), ArgumentError, "alpha is a number from 0 to 1"),
    (lambda: nn.kl_divergence(LOGITS, TARGETS[:1]), ShapeError, "differ in shape"),
    (lambda: nn.cosine_similarity(LOGITS, LOGITS[:, :2]), ShapeError, "no vectors of one size along axis -1"),
    (lambda: nn.cosine_loss(LOGITS, TARGETS, np.ones(3)), ShapeError, "differ in shape"),
    (lambda: nn.triplet(LOGITS, TARGETS, TARGETS[:1]), ShapeError, "differ in shape"),
    (lambda: nn.triplet(1.0, 1.0, 1.0), ShapeError, "are vectors along the last axis, not numbers"),
    (lambda: nn.triplet(LOGITS, LOGITS, LOGITS, distance=lambda a, b: "x"), DTypeError, "what distance gives"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
