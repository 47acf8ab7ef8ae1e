"""Losses: predictions or logits first, then targets. `reduction` is "mean", "sum" or "none" (a value for each row or
element). Results have the dtype of the predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.activations import _shift, relu, softplus
from adjit.trace import apply, is_tracer, lower
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError


def _reduced(values: Any, reduction: str) -> Any:
    if reduction == "mean":
        return np.mean(values)
    if reduction == "sum":
        return np.sum(values)
    if reduction == "none":
        return values
    raise ArgumentError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")


def _same_shape(name: str, prediction: Any, target: Any) -> None:
    """Broadcasting (n, 1) against (n,) would give n * n errors, and no message."""
    if np.shape(prediction) != np.shape(target):
        raise ShapeError(f"{name}: predictions of shape {np.shape(prediction)} and targets of {np.shape(target)}")


def mse(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """(prediction - target)^2. Both have one shape.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.mse(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    _same_shape("mse", prediction, target)
    error = prediction - target
    return _reduced(error * error, reduction)


def mae(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """|prediction - target|. Both have one shape; derivative 0 where they are equal."""
    _same_shape("mae", prediction, target)
    return _reduced(np.abs(prediction - target), reduction)


def huber(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Any:
    """Half the squared error up to `delta`, linear beyond (Huber 1964). Both have one shape."""
    _same_shape("huber", prediction, target)
    error = np.abs(prediction - target)
    # The square sees no large error, so that it never overflows.
    near = np.minimum(error, delta)
    return _reduced(np.where(error <= delta, 0.5 * near * near, delta * (error - 0.5 * delta)), reduction)


def cross_entropy(logits: Any, targets: Any, axis: int = -1, reduction: str = "mean") -> Any:
    """The cross-entropy of softmax(logits) along `axis`.

    `targets` are integer labels, of the shape of `logits` without `axis`, or floats: probabilities, of the shape of
    `logits`. Raises IndexOutOfRange for a label that is negative or not below the number of classes, found before
    anything of a state is written; ShapeError and DTypeError.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])))
    10000.0
    """
    axis = axis % np.ndim(logits)
    shifted = logits - _shift(logits, axis)
    total = np.log(np.sum(np.exp(shifted), axis=axis))
    dtype = targets.dtype if is_tracer(targets) else np.asarray(targets).dtype
    if dtype.kind == "f":
        _same_shape("cross_entropy", logits, targets)
        mass = np.sum(targets, axis=axis)
        return _reduced(mass * total - np.sum(targets * shifted, axis=axis), reduction)
    if dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy: targets are integer labels or float probabilities, not {dtype}")
    shape = np.shape(logits)
    if np.shape(targets) != shape[:axis] + shape[axis + 1 :]:
        raise ShapeError(f"cross_entropy: logits of shape {shape} and labels of {np.shape(targets)}")
    labels = _checked(targets, shape[axis], axis)
    # A comparison with every class, not an index: it fuses into the loop over the row.
    chosen = _positions(labels, shape, axis) == np.expand_dims(labels, axis)
    return _reduced(total - np.sum(np.where(chosen, shifted, 0.0), axis=axis), reduction)


def _checked(labels: Any, classes: int, axis: int) -> Any:
    """Labels as int64, each at least 0 and below `classes`. As unsigned numbers negative ones are too large."""
    unsigned = labels.astype(np.uint64) if is_tracer(labels) else np.asarray(labels).astype(np.uint64)
    return apply("check_index", unsigned, size=classes, axis=axis)


def _positions(labels: Any, shape: tuple[int, ...], axis: int) -> Any:
    """The number of the class along `axis`, in a shape that broadcasts against `shape`."""
    places = tuple(n if i == axis else 1 for i, n in enumerate(shape))
    if is_tracer(labels):
        return lower.iota(places, axis, np.int64)
    return np.arange(shape[axis]).reshape(places)


def binary_cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """The cross-entropy of sigmoid(logits) with targets between 0 and 1. Both have one shape."""
    _same_shape("binary_cross_entropy", logits, targets)
    return _reduced(softplus(logits) - logits * targets, reduction)


def hinge(scores: Any, targets: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - target score) for targets -1 and 1 (Cortes, Vapnik 1995). Both have one shape."""
    _same_shape("hinge", scores, targets)
    return _reduced(relu(1.0 - scores * targets), reduction)
