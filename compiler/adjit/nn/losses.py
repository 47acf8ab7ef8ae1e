"""Losses: predictions, logits or scores first, then targets.

`reduction` is "mean" or "sum" over everything, or "none" for a loss of each element (of each row for a cross-entropy);
another one raises ArgumentError, and operands that hold no numbers raise DTypeError. The result has the dtype of the
predictions; targets that are integers or bools are converted to it, and a float64 beside a float32 gives float64, as in
NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.activations import log1p_exp_minus_abs, relu, shifted
from adjit.nn.operands import axes, factor, floats, operand
from adjit.trace import apply, is_tracer, lower
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "input": "the first argument is what the model gives",
    "y_pred": "the first argument is what the model gives",
    "y_true": "the second argument is what is right",
    "dim": "axis",
    "reduce": "reduction",
}
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def mse(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """(prediction - target)^2.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.mse(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    error = _difference("mse", prediction, target)
    return _reduced("mse", error * error, reduction)


@public(_KNOWN)
def mae(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """|prediction - target|, with derivative 0 where they are equal.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.mae(np.array([1.0, 3.0]), np.array([1.0, 1.0]), reduction="sum"))
    2.0
    """
    return _reduced("mae", np.abs(_difference("mae", prediction, target)), reduction)


@public(_KNOWN)
def huber(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Any:
    """e^2 / 2 for errors e up to `delta`, delta (|e| - delta / 2) beyond.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ and ArgumentError
    for a number `delta` that is not positive. Source: Huber 1964.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.huber(np.array([0.5, -3.0]), np.zeros(2), reduction="none").tolist()
    [0.125, 2.5]
    """
    error = _difference("huber", prediction, target)
    delta = floats(factor("huber: delta", delta, error))
    if not is_tracer(delta) and not np.all(np.asarray(delta) > 0):
        raise ArgumentError(f"huber: delta is positive, not {delta!r}")
    # Both pieces in one formula: no square of a large error, and smooth at 0, where |e| is not.
    near = np.clip(error, -delta, delta)
    return _reduced("huber", near * (error - 0.5 * near), reduction)


@public(_KNOWN)
def cross_entropy(logits: Any, targets: Any, axis: int = -1, reduction: str = "mean") -> Any:
    """The cross-entropy of softmax(logits) along `axis`, with labels or with probabilities.

    `cross_entropy_with_labels` where `targets` are integers, `cross_entropy_with_probabilities` where they are floats;
    raises what these do, and DTypeError for other dtypes.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])))
    10000.0
    """
    targets = operand("cross_entropy: targets", targets)
    dtype = _dtype_of(targets)
    if dtype.kind not in "iuf":
        raise DTypeError(f"cross_entropy: targets that are labels are integers, not {dtype}; probabilities are floats")
    if dtype.kind == "f":
        return cross_entropy_with_probabilities(logits, targets, axis, reduction)
    return cross_entropy_with_labels(logits, targets, axis, reduction)


@public(_KNOWN)
def cross_entropy_with_labels(logits: Any, labels: Any, axis: int = -1, reduction: str = "mean") -> Any:
    """-log softmax(logits)[label] along `axis`.

    `labels` are integers of the shape of `logits` without `axis`, which is that of the result for "none". Raises
    DTypeError for labels that are no integers, ShapeError for another shape, and IndexOutOfRange (an IndexError) for a
    label that is negative or not below the number of classes, found before anything of a state is written. A class
    with the logit -inf has probability 0.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.cross_entropy_with_labels(np.zeros((2, 4)), np.array([0, 3]), reduction="none").round(4).tolist()
    [1.3863, 1.3863]
    """
    logits, labels = operand("cross_entropy: logits", logits), operand("cross_entropy: labels", labels)
    dtype = _dtype_of(labels)
    if dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: labels are integers, not {dtype} (float probabilities are the other kind)")
    shape = np.shape(logits)
    axis = _axis(logits, axis)
    if np.shape(labels) != shape[:axis] + shape[axis + 1 :]:
        raise ShapeError(f"cross_entropy: logits of shape {shape} and targets (labels) of {np.shape(labels)}")
    checked = _checked(labels, shape[axis], axis)
    # A comparison with every class, not an index: it fuses into the loop over the row.
    chosen = _positions(checked, shape, axis) == np.expand_dims(checked, axis)
    rows = shifted(logits, axis)
    each = _log_total(rows, axis) - np.sum(np.where(chosen, rows, 0.0), axis=axis)
    return _reduced("cross_entropy", each, reduction)


@public(_KNOWN)
def cross_entropy_with_probabilities(logits: Any, probabilities: Any, axis: int = -1, reduction: str = "mean") -> Any:
    """-sum(p log softmax(logits)) along `axis`, with p the probabilities of the classes.

    `probabilities` have the shape of `logits`; the result for "none" has it without `axis`. They need not sum to 1.
    Where a probability is 0, a logit of -inf adds 0. Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cross_entropy_with_probabilities(np.array([[1e4, 0.0]]), np.array([[0.5, 0.5]])))
    5000.0
    """
    logits, probabilities = _pair("cross_entropy", logits=logits, probabilities=probabilities)
    axis = _axis(logits, axis)
    p = _like(probabilities, logits)
    rows = shifted(logits, axis)
    # 0 times -inf is NaN. Only that product is replaced, so that the derivative with respect to p lives.
    finite = np.where((p == 0) & (rows == -np.inf), 0.0, rows)
    each = np.sum(p, axis=axis) * _log_total(rows, axis) - np.sum(p * finite, axis=axis)
    return _reduced("cross_entropy", each, reduction)


@public(_KNOWN)
def binary_cross_entropy_with_logits(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """-(t log s + (1 - t) log(1 - s)), with s = sigmoid(logits) and targets t between 0 and 1.

    Both have one shape, which is that of the result for "none". Logits are finite. Raises ShapeError where shapes
    differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.binary_cross_entropy_with_logits(np.array([1e4, 1e4]), np.array([1, 0]), reduction="none").tolist()
    [0.0, 10000.0]
    """
    name = "binary_cross_entropy_with_logits"
    logits, targets = _pair(name, logits=logits, targets=targets)
    # In this order: the difference is exact for targets 0 and 1, so that a small loss keeps its digits.
    margin = np.where(logits > 0, logits, 0.0) - logits * _like(targets, logits)
    return _reduced(name, margin + log1p_exp_minus_abs(logits), reduction)


@public(_KNOWN)
def hinge(scores: Any, targets: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - target score) for targets -1 and 1, with derivative 0 where the score is just 1.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ. Source: Cortes,
    Vapnik 1995.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.hinge(np.array([2.0, 0.5]), np.array([1, -1]), reduction="none").tolist()
    [0.0, 1.5]
    """
    scores, targets = _pair("hinge", scores=scores, targets=targets)
    return _reduced("hinge", relu(1.0 - scores * _like(targets, scores)), reduction)


def _reduced(name: str, values: Any, reduction: str) -> Any:
    if checks.choice(f"{name}: reduction", reduction, ("mean", "sum", "none")) == "none":
        return values
    return np.mean(values) if reduction == "mean" else np.sum(values)


def _pair(name: str, **operands: Any) -> list[Any]:
    """Operands of one shape: broadcasting (n, 1) against (n,) would give n * n errors, and no message."""
    found = {key: operand(f"{name}: {key}", x) for key, x in operands.items()}
    if len({np.shape(x) for x in found.values()}) > 1:
        shapes = ", ".join(f"{key} {np.shape(x)}" for key, x in found.items())
        raise ShapeError(f"{name}: predictions and targets differ in shape: {shapes}")
    return list(found.values())


def _difference(name: str, prediction: Any, target: Any) -> Any:
    prediction, target = _pair(name, prediction=prediction, target=target)
    return prediction - _like(target, prediction)


def _dtype_of(x: Any) -> np.dtype:
    dtype: np.dtype = x.dtype if is_tracer(x) else np.asarray(x).dtype
    return dtype


def _like(targets: Any, prediction: Any) -> Any:
    """Targets that are integers or bools in the dtype of the predictions: NumPy would make a float64 of both."""
    dtype = _dtype_of(prediction)
    if dtype.kind != "f" or _dtype_of(targets).kind not in "biu":
        return targets
    return targets.astype(dtype) if is_tracer(targets) else np.asarray(targets, dtype=dtype)


def _axis(logits: Any, axis: int) -> int:
    (found,) = axes("cross_entropy: axis", checks.integer("cross_entropy: axis", axis), logits, "logits")
    return found


def _log_total(rows: Any, axis: int) -> Any:
    return np.log(np.sum(np.exp(rows), axis=axis))


def _checked(labels: Any, classes: int, axis: int) -> Any:
    """Labels as int64, each at least 0 and below `classes`."""
    if is_tracer(labels):
        # As unsigned numbers negative ones are too large; counting from the end would hide a wrong label.
        return apply("check_index", labels.astype(np.uint64), size=classes, axis=axis)
    known = np.asarray(labels)
    bad = known[(known < 0) | (known >= classes)]
    if bad.size:
        raise IndexOutOfRange(f"cross_entropy: label {bad[0]} is out of bounds for axis {axis} with size {classes}")
    return known.astype(np.int64)


def _positions(labels: Any, shape: tuple[int, ...], axis: int) -> Any:
    """The number of the class along `axis`, in a shape that broadcasts against `shape`."""
    places = tuple(n if i == axis else 1 for i, n in enumerate(shape))
    if is_tracer(labels):
        return lower.iota(places, axis, np.int64)
    return np.arange(shape[axis]).reshape(places)
