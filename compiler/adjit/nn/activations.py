"""Activations: functions of each element, and softmax and its kin along an axis.

`x` is an array or number; the result has its shape, and its dtype where that is float (float64 for integers).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.trace import apply, stop_gradient

Axis = int | tuple[int, ...] | None


def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0 (`np.maximum(x, 0)` has one half there). NaN stays NaN.

    >>> from adjit import nn
    >>> nn.relu(-2.0) + nn.relu(3.0)
    np.float64(3.0)
    """
    return np.where(x <= 0, 0.0, x)[()]


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, else slope x (Maas, Hannun, Ng 2013); derivative `slope` at 0."""
    return np.where(x <= 0, slope * x, x)[()]


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner, Hochreiter 2016)."""
    # The exponential sees no positive number, so that it never overflows.
    return np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0.0)), x)[()]


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), without overflow."""
    return apply("sigmoid", x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return np.tanh(x)


def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish (Elfwing, Uchibe, Doya 2018)."""
    return x * sigmoid(x)


def softplus(x: Any) -> Any:
    """log(1 + e^x), without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def gelu(x: Any, approximate: bool = False) -> Any:
    """x Phi(x), with the normal distribution function (Hendrycks, Gimpel 2016); `approximate` uses their tanh form."""
    if approximate:
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return x * (0.5 + 0.5 * apply("erf", x * math.sqrt(0.5)))


def _shift(x: Any, axis: Axis) -> Any:
    """The largest element along `axis`, which no derivative flows through; 0 where it is infinite."""
    top = stop_gradient(np.max(x, axis=axis, keepdims=True))
    return np.where(np.isfinite(top), top, 0.0)


def softmax(x: Any, axis: Axis = -1) -> Any:
    """e^x over its sum along `axis`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.softmax(np.array([1e4, 1e4])).tolist()
    [0.5, 0.5]
    """
    e = np.exp(x - _shift(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Axis = -1) -> Any:
    """The logarithm of `softmax`, which does not underflow."""
    shifted = x - _shift(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(e^x)) along `axis` (all of them for None), without overflow."""
    top = _shift(x, axis)
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis=axis)[()]
