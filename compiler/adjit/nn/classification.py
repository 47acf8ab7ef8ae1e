"""Losses of classes: logits first, then labels or probabilities.

`reduction` is "mean" or "sum" over everything, or "none" for a loss of each row (of each element where there are two
classes). What classes, labels and samples weigh:

    label_smoothing  in [0, 1]: so much of each target is spread evenly over the classes (Szegedy et al. 2016)
    class_weights    one for each class, by which its part of a loss is multiplied
    ignore           a label that stands for none: loss 0, no derivative, and a mean does not count it
    weights          multiply the losses, to whose shape they broadcast

A mean counts each loss for its weight, and a label's for its class's as well, as PyTorch does; where these sum to 0 it
is 0. The result has the dtype of the logits; targets that are integers or bools are converted to it, and a float64
beside a float32 gives float64, as in NumPy. All raise ArgumentError for another reduction or smoothing, ShapeError for
weights that do not fit, and DTypeError for operands that hold no numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.activations import log1p_exp_minus_abs, shifted, sigmoid
from adjit.nn.operands import counted, dtype_of, factor, like, numbers, of_shape, one_axis, operand, positions
from adjit.nn.targets import KNOWN, pair, reduced
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.public import public


@public(KNOWN)
def cross_entropy(
    logits: Any,
    targets: Any,
    axis: int = -1,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    ignore: int | None = None,
    weights: Any = None,
) -> Any:
    """The cross-entropy of softmax(logits) along `axis`, with labels or with probabilities.

    `cross_entropy_with_labels` where `targets` are integers, `cross_entropy_with_probabilities` where they are floats;
    raises what these do, DTypeError for other dtypes, and ArgumentError for `ignore` beside probabilities.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])))
    10000.0
    """
    targets = operand("cross_entropy: targets", targets)
    dtype = dtype_of(targets)
    if dtype.kind not in "iuf":
        raise DTypeError(f"cross_entropy: targets that are labels are integers, not {dtype}; probabilities are floats")
    rest = (axis, reduction, label_smoothing, class_weights)
    if dtype.kind != "f":
        return cross_entropy_with_labels(logits, targets, *rest, ignore, weights)
    if ignore is not None:
        raise ArgumentError(f"cross_entropy: ignore={checks.shown(ignore)} is a label, and targets are probabilities")
    return cross_entropy_with_probabilities(logits, targets, *rest, weights)


@public(KNOWN)
def cross_entropy_with_labels(
    logits: Any,
    labels: Any,
    axis: int = -1,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    ignore: int | None = None,
    weights: Any = None,
) -> Any:
    """-log softmax(logits)[label] along `axis`.

    `labels` are integers of the shape of `logits` without `axis`, which is that of the result for "none". Raises
    DTypeError for labels that are no integers, ShapeError for another shape, and IndexOutOfRange (an IndexError) for a
    label other than `ignore` that is negative or not below the number of classes, found before anything of a state is
    written. A class with the logit -inf has probability 0. `label_smoothing`, `class_weights`, `ignore` and `weights`
    are those of this module: a class's weight multiplies its term, spread ones too, and a mean counts the label's.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.cross_entropy_with_labels(np.zeros((2, 4)), np.array([0, 3]), reduction="none").round(4).tolist()
    [1.3863, 1.3863]
    >>> logits, labels = np.array([[0.0, 0.0], [0.0, 9.0]]), np.array([1, -1])
    >>> round(float(nn.cross_entropy_with_labels(logits, labels, ignore=-1)), 4)
    0.6931
    """
    logits, labels = operand("cross_entropy: logits", logits), operand("cross_entropy: labels", labels)
    dtype = dtype_of(labels)
    if dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: labels are integers, not {dtype} (float probabilities are the other kind)")
    shape = np.shape(logits)
    axis = one_axis("cross_entropy: axis", axis, logits, "logits")
    if np.shape(labels) != shape[:axis] + shape[axis + 1 :]:
        raise ShapeError(f"cross_entropy: logits of shape {shape} and targets (labels) of {np.shape(labels)}")
    there = None
    if ignore is not None:
        there = labels != checks.integer("cross_entropy: ignore", ignore)
        labels = np.where(there, labels, np.zeros((), dtype))
    found = np.expand_dims(positions("cross_entropy: labels", labels, shape[axis], axis, "label"), axis)
    # A comparison with every class, not an index: it fuses into the loop over the row.
    chosen = counted(shape[axis], axis, len(shape), found) == found
    rows = shifted(logits, axis)
    if there is not None:
        # What nobody asks for may be infinite or NaN, and has no derivative.
        rows = np.where(np.expand_dims(there, axis), rows, 0.0)
    by_class = _class_weights(class_weights, logits, axis)
    smoothing = checks.real("cross_entropy: label_smoothing", label_smoothing, 0, 1)
    total = _log_total(rows, axis)
    each = total - np.sum(np.where(chosen, rows, 0.0), axis=axis)
    shares = None
    if by_class is not None:
        shares = np.sum(np.where(chosen, by_class, 0.0), axis=axis)
        each = shares * each
    if smoothing:
        each = (1.0 - smoothing) * each + smoothing * _spread(rows, total, by_class, axis)
    if there is not None:
        each = np.where(there, each, 0.0)
        shares = np.where(there, like(1, rows) if shares is None else shares, like(0, rows))
    return reduced("cross_entropy", each, reduction, weights, shares)


@public(KNOWN)
def cross_entropy_with_probabilities(
    logits: Any,
    probabilities: Any,
    axis: int = -1,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    weights: Any = None,
) -> Any:
    """-sum(p log softmax(logits)) along `axis`, with p the probabilities of the classes.

    `probabilities` have the shape of `logits`; the result for "none" has it without `axis`. They need not sum to 1.
    Where a probability is 0, a logit of -inf adds 0. Raises ShapeError where shapes differ. `label_smoothing`,
    `class_weights` and `weights` are those of this module.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cross_entropy_with_probabilities(np.array([[1e4, 0.0]]), np.array([[0.5, 0.5]])))
    5000.0
    """
    logits, probabilities = pair("cross_entropy", logits=logits, probabilities=probabilities)
    axis = one_axis("cross_entropy: axis", axis, logits, "logits")
    p = like(probabilities, logits)
    smoothing = checks.real("cross_entropy: label_smoothing", label_smoothing, 0, 1)
    if smoothing:
        p = (1.0 - smoothing) * p + smoothing / np.shape(logits)[axis]
    by_class = _class_weights(class_weights, logits, axis)
    if by_class is not None:
        p = p * by_class
    rows = shifted(logits, axis)
    # 0 times -inf is NaN. Only that product is replaced, so that the derivative with respect to p lives.
    finite = np.where((p == 0) & (rows == -np.inf), 0.0, rows)
    each = np.sum(p, axis=axis) * _log_total(rows, axis) - np.sum(p * finite, axis=axis)
    return reduced("cross_entropy", each, reduction, weights)


@public(KNOWN)
def binary_cross_entropy_with_logits(
    logits: Any,
    targets: Any,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    positive_weight: Any = None,
    weights: Any = None,
) -> Any:
    """-(t log s + (1 - t) log(1 - s)), with s = sigmoid(logits) and targets t between 0 and 1.

    Both have one shape, which is that of the result for "none". Logits are finite. `positive_weight` multiplies the
    term of t (a number, or what broadcasts to the shape, as one for each label of several); `label_smoothing` and
    `weights` are those of this module. Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.binary_cross_entropy_with_logits(np.array([1e4, 1e4]), np.array([1, 0]), reduction="none").tolist()
    [0.0, 10000.0]
    """
    name = "binary_cross_entropy_with_logits"
    logits, targets = pair(name, logits=logits, targets=targets)
    t = like(targets, logits)
    smoothing = checks.real(f"{name}: label_smoothing", label_smoothing, 0, 1)
    if smoothing:
        t = (1.0 - smoothing) * t + 0.5 * smoothing
    if positive_weight is None:
        return reduced(name, _binary(logits, t), reduction, weights)
    weight = like(factor(f"{name}: positive_weight", positive_weight, logits), logits)
    logits = numbers(name, logits)
    above, rest = np.where(logits > 0, logits, 0.0), log1p_exp_minus_abs(logits)
    # Each term by itself is exact where it is small: softplus(x) - x for softplus(-x) would not be.
    each = weight * t * ((above - logits) + rest) + (1.0 - t) * (above + rest)
    return reduced(name, each, reduction, weights)


@public({**KNOWN, "inputs": "logits"})
def focal(
    logits: Any,
    targets: Any,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    reduction: str = "mean",
    weights: Any = None,
) -> Any:
    """q^gamma times the binary cross-entropy, with q = |t - sigmoid(logits)| what is missing from the right answer.

    logits   of classes that are asked for one by one, any shape; `targets` t, 0 or 1, have the same
    gamma    how much less what is nearly right counts, a number from 0 (not at all)
    alpha    the weight of t = 1 in [0, 1], and 1 - alpha that of t = 0; None: both count alike
    Returns  (for "none") the shape of both, finite with its derivative at logits of any size

    `weights` are those of this module. Targets between 0 and 1 mix q of both. Raises ShapeError where shapes differ and
    ArgumentError for another `gamma` or `alpha`. Source: Lin, Goyal, Girshick, He, Dollár 2017.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.focal(np.array([0.0, 1e4]), np.array([1, 0]), alpha=None, reduction="none").round(4).tolist()
    [0.1733, 10000.0]
    """
    logits, targets = pair("focal", logits=logits, targets=targets)
    logits = numbers("focal: logits", logits)
    t = like(targets, logits)
    gamma = checks.real("focal: gamma", gamma, 0)
    each = _binary(logits, t)
    if gamma:
        missing = t * sigmoid(-logits) + (1.0 - t) * sigmoid(logits)
        # A power of 0 has no derivative; where nothing is missing nothing is learnt.
        some = missing > 0
        each = each * np.where(some, np.where(some, missing, 1.0) ** gamma, 0.0)
    if alpha is not None:
        share = checks.real("focal: alpha", alpha, 0, 1)
        each = each * (share * t + (1.0 - share) * (1.0 - t))
    return reduced("focal", each, reduction, weights)


def _binary(logits: Any, t: Any) -> Any:
    # In this order: the difference is exact for targets 0 and 1, so that a small loss keeps its digits.
    return np.where(logits > 0, logits, 0.0) - logits * t + log1p_exp_minus_abs(logits)


def _log_total(rows: Any, axis: int) -> Any:
    return np.log(np.sum(np.exp(rows), axis=axis))


def _spread(rows: Any, total: Any, by_class: Any, axis: int) -> Any:
    """The mean of -log softmax over the classes, each times its weight."""
    if by_class is None:
        return total - np.mean(rows, axis=axis)
    return np.mean(by_class * (np.expand_dims(total, axis) - rows), axis=axis)


def _class_weights(class_weights: Any, logits: Any, axis: int) -> Any:
    """One weight for each class, along `axis`; None where there are none."""
    if class_weights is None:
        return None
    shape = np.shape(logits)
    why = f"logits have the shape {shape}, and the classes lie along axis {axis}"
    found = like(of_shape("cross_entropy: class_weights", class_weights, (shape[axis],), why), logits)
    return np.reshape(found, tuple(n if i == axis else 1 for i, n in enumerate(shape)))
