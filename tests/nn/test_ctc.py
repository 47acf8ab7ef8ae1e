"""CTC against a sum over all alignments; lengths, blanks, what is impossible, refusals.

Values and gradients for several lengths are in `test_against_torch`, too."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import special

import adjit
from adjit import nn
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from tests.nn.derivatives import check_gradient
from tests.trace.check import floats, run


def by_alignments(logits: np.ndarray, labels: Sequence[int], blank: int) -> float:
    """-log of the sum over every way to name the frames (time, classes) that reads as these labels."""
    p = special.softmax(logits, axis=-1)
    total = 0.0
    for names in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        read = [name for name, _ in itertools.groupby(names) if name != blank]
        if read == list(labels):
            total += float(np.prod([p[t, name] for t, name in enumerate(names)]))
    return -np.log(total) if total else np.inf


LABELS = np.array([[1, 2, 1], [2, 2, 0], [1, 0, 0]])
SIZES, FRAMES = np.array([3, 2, 0]), np.array([5, 4, 2])
LOGITS = floats(5, 3, 3, dtype=np.float64)


def test_sums_over_alignments() -> None:
    expected = [by_alignments(LOGITS[: FRAMES[i], i], LABELS[i, : SIZES[i]], 0) for i in range(3)]
    found = run(lambda x, *rest: nn.ctc(x, *rest, reduction="none"), LOGITS, LABELS, FRAMES, SIZES)
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    first = nn.ctc(np.swapaxes(LOGITS, 0, 1), LABELS, FRAMES, SIZES, batch_first=True, reduction="none")
    np.testing.assert_allclose(first, expected, rtol=1e-11)
    for reduction, total in (("sum", np.sum(expected)), ("mean", np.mean(expected))):
        np.testing.assert_allclose(nn.ctc(LOGITS, LABELS, FRAMES, SIZES, reduction=reduction), total, rtol=1e-11)
    weights = np.array([2.0, 0.0, 1.0])
    weighed = nn.ctc(LOGITS, LABELS, FRAMES, SIZES, weights=weights)
    np.testing.assert_allclose(weighed, expected @ weights / 3, rtol=1e-11)


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize("time", [1, 4])
def test_each_blank_and_length(blank: int, length: int, time: int) -> None:
    others = [c for c in range(3) if c != blank]
    labels = np.array([(others * 2)[:length], ([others[1]] * length)]).reshape(2, length).astype(np.int32)
    logits = floats(time, 2, 3, dtype=np.float64, seed=blank)
    expected = [by_alignments(logits[:, i], labels[i], blank) for i in range(2)]
    found = nn.ctc(logits, labels, blank=blank, reduction="none")
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    single = run(lambda x: nn.ctc(x, labels, blank=blank, reduction="none"), logits.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5)


def test_a_sequence_too_short_for_its_labels() -> None:
    logits, labels = floats(2, 2, 3, dtype=np.float64), np.array([[1, 1], [1, 2]])
    found = run(lambda x: nn.ctc(x, labels, reduction="none"), logits)
    assert found[0] == np.inf
    assert np.isfinite(found[1])
    np.testing.assert_array_equal(nn.ctc(logits, labels, zero_infinity=True, reduction="none"), [0.0, found[1]])
    for zero in (False, True):
        slope = adjit.grad(lambda x, z=zero: nn.ctc(x, labels, zero_infinity=z, reduction="sum"))(logits)
        np.testing.assert_array_equal(slope[:, 0], np.zeros((2, 3)))
        assert np.all(slope[:, 1] != 0)


def test_sizes_of_zero() -> None:
    none = np.zeros((2, 0), np.int64)
    assert nn.ctc(np.zeros((0, 2, 3)), none, reduction="none").tolist() == [0.0, 0.0]
    assert nn.ctc(np.zeros((0, 2, 3)), np.ones((2, 1), np.int64), reduction="none").tolist() == [np.inf, np.inf]
    assert run(lambda x: nn.ctc(x, np.zeros((0, 2), np.int64), reduction="none"), np.zeros((3, 0, 3))).shape == (0,)


def test_logits_of_any_size() -> None:
    logits = np.full((3, 1, 3), -1e4, np.float32)
    logits[[0, 1, 2], 0, [1, 0, 2]] = 1e4
    for labels, wrong in (([[1, 2]], 0.0), ([[2, 1]], 4e4)):
        found, slope = adjit.value_and_grad(nn.ctc)(logits, np.array(labels))
        np.testing.assert_allclose(found, wrong, rtol=1e-6)
        assert np.all(np.isfinite(slope))


def test_derivatives() -> None:
    check_gradient(lambda x: nn.ctc(x, LABELS, FRAMES, SIZES, reduction="none"), LOGITS)
    adjit.check_grads(lambda x: nn.ctc(x, LABELS[:1, :2]), (floats(3, 1, 3, dtype=np.float64),), modes="rev")


@pytest.mark.parametrize("wrong", [0, -1, 3])
def test_labels_that_are_no_classes(wrong: int) -> None:
    labels = np.array([[1, wrong], [2, 1], [1, 1]])
    text = "labels are classes from 0 to 2 other than 0, which is the blank"
    with pytest.raises(IndexOutOfRange, match=f"{text}, not {wrong}"):
        nn.ctc(LOGITS, labels)
    with pytest.raises(IndexOutOfRange, match=text):
        adjit.jit(nn.ctc)(LOGITS, labels)
    # After its end a row may hold anything.
    assert np.isfinite(adjit.jit(nn.ctc)(LOGITS, labels, None, np.array([1, 2, 2])))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.ctc(LOGITS[0], LABELS), ShapeError, r"logits are \(time, batch, classes\), not of shape"),
    (lambda: nn.ctc(LOGITS, LABELS[:2]), ShapeError, "labels are .batch, length. with a batch of 3"),
    (lambda: nn.ctc(LOGITS, LABELS[0]), ShapeError, "labels are .batch, length."),
    (lambda: nn.ctc(LOGITS, LABELS * 1.0), DTypeError, "labels are integers"),
    (lambda: nn.ctc(LOGITS, LABELS, blank=3), ArgumentError, "blank is an integer from 0 to 2"),
    (lambda: nn.ctc(LOGITS, LABELS, [6, 1, 1], SIZES), IndexOutOfRange, "logit_lengths: a length 6"),
    (lambda: nn.ctc(LOGITS, LABELS, [5, 5], SIZES), ShapeError, "logit_lengths .* not one for each of 3"),
    (lambda: nn.ctc(LOGITS, LABELS, None, [4, 1, 1]), IndexOutOfRange, "label_lengths: a length 4"),
    (lambda: nn.ctc(LOGITS, LABELS, None, [1.0, 1.0, 1.0]), DTypeError, "label_lengths are integers"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
