"""Losses of predictions, scores and vectors: what the model gives first, then targets.

`reduction` is "mean" or "sum" over everything, or "none" for a loss of each element (of each row where a loss is one of
vectors); another one raises ArgumentError, and operands that hold no numbers raise DTypeError. `weights` multiply the
losses, to whose shape they broadcast (ShapeError where they do not); a mean is then sum(weights * losses) /
sum(weights), and 0 where the weights sum to 0. The result has the dtype of the predictions; targets that are integers
or bools are converted to it, and a float64 beside a float32 gives float64, as in NumPy. `classification` has the losses
of classes, `ctc` that of sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.nn.activations import relu
from adjit.nn.operands import factor, floats, like, numbers, one_axis, operand
from adjit.nn.targets import KNOWN, difference, pair, reduced
from adjit.trace import is_tracer, lower, stop_gradient
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public


@public(KNOWN)
def mse(prediction: Any, target: Any, reduction: str = "mean", weights: Any = None) -> Any:
    """(prediction - target)^2.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.mse(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    error = difference("mse", prediction, target)
    return reduced("mse", error * error, reduction, weights)


@public(KNOWN)
def mae(prediction: Any, target: Any, reduction: str = "mean", weights: Any = None) -> Any:
    """|prediction - target|, with derivative 0 where they are equal.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.mae(np.array([1.0, 3.0]), np.array([1.0, 1.0]), reduction="sum"))
    2.0
    """
    return reduced("mae", np.abs(difference("mae", prediction, target)), reduction, weights)


@public(KNOWN)
def huber(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean", weights: Any = None) -> Any:
    """e^2 / 2 for errors e up to `delta`, delta (|e| - delta / 2) beyond.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ and ArgumentError
    for a number `delta` that is not positive. Source: Huber 1964.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.huber(np.array([0.5, -3.0]), np.zeros(2), reduction="none").tolist()
    [0.125, 2.5]
    """
    error = difference("huber", prediction, target)
    delta = floats(factor("huber: delta", delta, error))
    if not is_tracer(delta) and not np.all(np.asarray(delta) > 0):
        raise ArgumentError(f"huber: delta is positive, not {delta!r}")
    # Both pieces in one formula: no square of a large error, and smooth at 0, where |e| is not.
    near = np.clip(error, -delta, delta)
    return reduced("huber", near * (error - 0.5 * near), reduction, weights)


@public(KNOWN)
def hinge(scores: Any, targets: Any, reduction: str = "mean", weights: Any = None) -> Any:
    """max(0, 1 - target score) for targets -1 and 1, with derivative 0 where the score is just 1.

    Both have one shape, which is that of the result for "none". Raises ShapeError where shapes differ. Source: Cortes,
    Vapnik 1995.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.hinge(np.array([2.0, 0.5]), np.array([1, -1]), reduction="none").tolist()
    [0.0, 1.5]
    """
    scores, targets = pair("hinge", scores=scores, targets=targets)
    return reduced("hinge", relu(1.0 - scores * like(targets, scores)), reduction, weights)


@public(KNOWN)
def kl_divergence(
    log_predictions: Any,
    targets: Any,
    axis: int = -1,
    log_targets: bool = False,
    reduction: str = "mean",
    weights: Any = None,
) -> Any:
    """sum(p (log p - log q)) along `axis`: the divergence of the predicted distribution q from the right one, p.

    log_predictions  log q, as `log_softmax` gives it
    targets          p, of the same shape, or log p with `log_targets`
    Returns          (for "none") the shape without `axis`: a loss for each distribution, and the mean is one over these

    Where p is 0 nothing is added, whatever q is; where q alone is 0 it is inf. Raises ShapeError where shapes differ.
    Source: Kullback, Leibler 1951.

    >>> import numpy as np
    >>> from adjit import nn
    >>> q, p = nn.log_softmax(np.array([[0.0, 0.0]])), np.array([[1.0, 0.0]])
    >>> round(float(nn.kl_divergence(q, p)), 4)
    0.6931
    """
    log_q, targets = pair("kl_divergence", log_predictions=log_predictions, targets=targets)
    axis = one_axis("kl_divergence: axis", axis, log_q, "log_predictions")
    log_q, targets = floats(log_q), floats(like(targets, log_q))
    if checks.flag("kl_divergence: log_targets", log_targets):
        log_p = np.where(targets == -np.inf, 0.0, targets)
        p = np.exp(targets)
        there = targets != -np.inf
    else:
        p, there = targets, targets != 0
        log_p = np.log(np.where(there, p, 1.0))
    # 0 times -inf is NaN.
    terms = p * (log_p - np.where(there, log_q, 0.0))
    return reduced("kl_divergence", np.sum(terms, axis=axis), reduction, weights)


@public(KNOWN)
def cosine_similarity(a: Any, b: Any, axis: int = -1) -> Any:
    """The cosine of the angle between vectors along `axis`, in [-1, 1] but for rounding.

    `a` and `b` broadcast against each other, and have one size along `axis`; the result has their shape without it.
    Vectors of any length whose elements are finite have a similarity and a derivative, as each is scaled by its largest
    element first; one of zeros has 0 with every other. Raises ShapeError where shapes do not fit.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.cosine_similarity(np.array([[3e20, 4e20], [0.0, 0.0]]), np.array([1.0, 0.0])).round(3).tolist()
    [0.6, 0.0]
    """
    a, b = operand("cosine_similarity: a", a), operand("cosine_similarity: b", b)
    a, b = floats(like(a, b)), floats(like(b, a))
    try:
        shape = lower.broadcast_shapes("cosine_similarity", np.shape(a), np.shape(b))
    except ShapeError:
        shape = ()
    a_axis = one_axis("cosine_similarity: axis", axis, a, "a") - np.ndim(a)
    b_axis = one_axis("cosine_similarity: axis", axis, b, "b") - np.ndim(b)
    if len(shape) < max(np.ndim(a), np.ndim(b)) or a_axis != b_axis or np.shape(a)[a_axis] != np.shape(b)[b_axis]:
        raise ShapeError(
            f"cosine_similarity: a of shape {np.shape(a)} and b of {np.shape(b)} are no vectors of one size along axis "
            f"{axis}, whose other axes broadcast"
        )
    return np.sum(_direction(a, a_axis) * _direction(b, b_axis), axis=a_axis)


@public(KNOWN)
def cosine_loss(
    prediction: Any,
    target: Any,
    labels: Any = None,
    axis: int = -1,
    margin: float = 0.0,
    reduction: str = "mean",
    weights: Any = None,
) -> Any:
    """1 - cosine_similarity(prediction, target) for pairs that belong together, max(0, similarity - margin) for others.

    prediction  vectors along `axis`; `target` has the same shape
    labels      1 for pairs that belong together, -1 (or 0) for others; None: all do. The shape of the result
    Returns     (for "none") the shape without `axis`

    Raises ShapeError where shapes differ.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.cosine_loss(np.array([[2.0, 0.0]]), np.array([[0.0, 3.0]])))
    1.0
    """
    prediction, target = pair("cosine_loss", prediction=prediction, target=target)
    axis = one_axis("cosine_loss: axis", axis, prediction, "prediction")
    margin = checks.real("cosine_loss: margin", margin)
    similarity = cosine_similarity(prediction, target, axis)
    each = 1.0 - similarity
    if labels is not None:
        similarity, labels = pair("cosine_loss", similarity=similarity, labels=labels)
        each = np.where(labels > 0, each, relu(similarity - margin))
    return reduced("cosine_loss", each, reduction, weights)


@public(KNOWN)
def triplet(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    swap: bool = False,
    distance: Callable[[Any, Any], Any] | None = None,
    reduction: str = "mean",
    weights: Any = None,
) -> Any:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin).

    All three have one shape, vectors along the last axis; `distance` takes two of them and gives d, without that axis
    (None: the Euclidean one, with derivative 0 between equal vectors). With `swap` the negative is as near as it is to
    anchor or positive, whichever is less. Returns (for "none") the shape of the distances. Raises ShapeError where
    shapes differ. Source: Schroff, Kalenichenko, Philbin 2015; Balntas et al. 2016 for `swap`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> a, p, n = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 5.5]])
    >>> float(nn.triplet(a, p, n))
    0.5
    """
    anchor, *others = pair("triplet", anchor=anchor, positive=positive, negative=negative)
    positive, negative = (floats(like(x, anchor)) for x in others)
    anchor = floats(anchor)
    margin = checks.real("triplet: margin", margin)
    given = None if distance is None else checks.function("triplet: distance", distance)

    def far(a: Any, b: Any) -> Any:
        return _euclidean(a, b) if given is None else numbers("triplet: what distance gives", given(a, b))

    if np.ndim(anchor) == 0:
        raise ShapeError("triplet: anchor, positive and negative are vectors along the last axis, not numbers")
    apart = far(anchor, negative)
    if checks.flag("triplet: swap", swap):
        other = far(positive, negative)
        apart = np.where(other < apart, other, apart)
    return reduced("triplet", relu(far(anchor, positive) - apart + margin), reduction, weights)


def _direction(x: Any, axis: int) -> Any:
    """Vectors over their lengths, zeros where they are zero. The scale has no derivative: the result has none by it."""
    top = stop_gradient(np.max(np.abs(x), axis=axis, keepdims=True))
    scaled = x / np.where(top > 0, top, 1.0)
    total = np.sum(scaled * scaled, axis=axis, keepdims=True)
    return scaled / np.sqrt(np.where(total > 0, total, 1.0))


def _euclidean(a: Any, b: Any) -> Any:
    error = a - b
    total = np.sum(error * error, axis=-1)
    return np.where(total > 0, np.sqrt(np.where(total > 0, total, 1.0)), 0.0)
