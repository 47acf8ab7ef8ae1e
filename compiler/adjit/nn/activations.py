"""Activations: functions of each element, and softmax and its kin along an axis.

`x` is an array, a number or a traced value. The result has its shape (but for `logsumexp`) and its dtype where that is
float; integers become float64, as in NumPy. What holds no numbers is a DTypeError that names it. Formulas are chosen so
that value and derivative are finite at logits of any size, and so that derivatives of every order are those of the
function at 0, where it has them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.nn.operands import axes, factor, floats, operand
from adjit.trace import apply, stop_gradient
from adjit_runtime import checks
from adjit_runtime.public import public

Axis = int | tuple[int, ...] | None

_KNOWN = {"dim": "axis", "negative_slope": "slope", "input": "x", "keepdim": "keepdims"}
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0 (`np.maximum(x, 0)` has one half there). NaN stays NaN.

    Shape and float dtype of `x`. Source: Nair, Hinton 2010.

    >>> from adjit import nn
    >>> float(nn.relu(-2.0) + nn.relu(3.0))
    3.0
    """
    x = operand("relu: x", x)
    return np.where(x <= 0, 0.0, x)[()]


@public(_KNOWN)
def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, else slope x, with derivative `slope` at 0. NaN stays NaN.

    Shape and float dtype of `x`. Source: Maas, Hannun, Ng 2013.

    >>> from adjit import nn
    >>> float(nn.leaky_relu(-2.0, slope=0.5))
    -1.0
    """
    x = operand("leaky_relu: x", x)
    slope = factor("leaky_relu: slope", slope, x)
    return np.where(x <= 0, slope * x, x)[()]


@public(_KNOWN)
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (e^x - 1), with derivative `alpha` at 0. NaN stays NaN.

    Shape and float dtype of `x`. Source: Clevert, Unterthiner, Hochreiter 2016.

    >>> from adjit import nn
    >>> float(nn.elu(-1e4)), float(nn.elu(2.0))
    (-1.0, 2.0)
    """
    x = operand("elu: x", x)
    alpha = factor("elu: alpha", alpha, x)
    # The exponential sees no positive number, so it never overflows; np.minimum would halve the derivative at 0.
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0.0, x)))[()]


@public(_KNOWN)
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), the logistic function, without overflow.

    Shape of `x`, float32 or float64; raises DTypeError for other floats.

    >>> from adjit import nn
    >>> float(nn.sigmoid(0.0)), float(nn.sigmoid(-1e4))
    (0.5, 0.0)
    """
    return apply("sigmoid", operand("sigmoid: x", x))


@public(_KNOWN)
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, which is `np.tanh`. Shape and float dtype of `x`.

    >>> from adjit import nn
    >>> float(nn.tanh(1e4))
    1.0
    """
    return np.tanh(operand("tanh: x", x))


@public(_KNOWN)
def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish. NaN at -inf.

    Shape of `x`, float32 or float64; raises DTypeError for other floats. Source: Elfwing, Uchibe, Doya 2018.

    >>> from adjit import nn
    >>> float(nn.silu(0.0)), float(nn.silu(1e4))
    (0.0, 10000.0)
    """
    x = operand("silu: x", x)
    return x * sigmoid(x)


@public(_KNOWN)
def softplus(x: Any) -> Any:
    """log(1 + e^x), without overflow; its derivative is the sigmoid.

    Shape and float dtype of `x`. Source: Dugas et al. 2001.

    >>> from adjit import nn
    >>> float(nn.softplus(1e4)), float(nn.softplus(-1e4))
    (10000.0, 0.0)
    """
    x = operand("softplus: x", x)
    return np.where(x > 0, x, 0.0) + log1p_exp_minus_abs(x)


def log1p_exp_minus_abs(x: Any) -> Any:
    """log(1 + e^-|x|): what softplus has above max(x, 0).

    Both this and max(x, 0) take the side x <= 0 at 0, so that their sum has the derivatives of softplus there;
    `np.abs` would give 0 for the second one.
    """
    x = floats(x)
    return np.log1p(np.exp(np.where(x > 0, -x, x)))


@public(_KNOWN)
def gelu(x: Any, approximate: bool = False) -> Any:
    """x Phi(x), with the normal distribution function; `approximate` takes the tanh form of the paper. NaN at -inf.

    Shape of `x`, float32 or float64; raises DTypeError for other floats. Source: Hendrycks, Gimpel 2016.

    >>> from adjit import nn
    >>> round(float(nn.gelu(1.0)), 4), round(float(nn.gelu(1.0, approximate=True)), 4)
    (0.8413, 0.8412)
    """
    x = operand("gelu: x", x)
    if checks.flag("gelu: approximate", approximate):
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return x * (0.5 + 0.5 * apply("erf", x * math.sqrt(0.5)))


@public(_KNOWN)
def softmax(x: Any, axis: Axis = -1) -> Any:
    """e^x over its sum along `axis`: an int, several, or None for all axes.

    Shape and float dtype of `x`. An element -inf gets 0, with derivative 0; a row of -inf alone, or with inf, has no
    softmax and is NaN. Raises ShapeError for an empty axis or one that is not there. Source: Bridle 1990.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.softmax(np.array([1e4, 1e4, -np.inf])).tolist()
    [0.5, 0.5, 0.0]
    """
    x, axis = _checked("softmax", x, axis)
    e = np.exp(shifted(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


@public(_KNOWN)
def log_softmax(x: Any, axis: Axis = -1) -> Any:
    """The logarithm of `softmax`, which does not underflow; -inf stays -inf.

    Shape and float dtype of `x`; `axis` and errors as for `softmax`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.log_softmax(np.array([0.0, 1e4])).tolist()
    [-10000.0, 0.0]
    """
    x, axis = _checked("log_softmax", x, axis)
    logits = shifted(x, axis)
    return logits - np.log(np.sum(np.exp(logits), axis=axis, keepdims=True))


@public(_KNOWN)
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(e^x)) along `axis` (an int, several, or None for all axes), without overflow.

    The shape of `x` without `axis`, or with 1 there for `keepdims`; float dtype of `x`. -inf where all are -inf and inf
    where one is inf, with derivative 0 there. Raises ShapeError for an empty axis or one that is not there.

    >>> import numpy as np
    >>> from adjit import nn
    >>> float(nn.logsumexp(np.array([1e4, -np.inf])))
    10000.0
    """
    keepdims = checks.flag("logsumexp: keepdims", keepdims)
    x, axis = _checked("logsumexp", x, axis)
    top = _top(x, axis)
    total = np.sum(np.exp(x - np.where(np.isinf(top), 0.0, top)), axis=axis, keepdims=True)
    # Elsewhere it is at least 1. Asked of the sum itself, so that its NaN is known to be none of these.
    infinite = (total == 0) | (total == np.inf)
    result = np.log(np.where(infinite, 1.0, total)) + top
    return result if keepdims else np.squeeze(result, axis=axis)[()]


def _checked(name: str, x: Any, axis: Axis) -> tuple[Any, tuple[int, ...]]:
    x = operand(f"{name}: x", x)
    return x, axes(f"{name}: axis", axis, x)


def shifted(x: Any, axis: Axis) -> Any:
    """`x` minus its largest element along `axis`: the same softmax, whose exponentials are at most 1.

    No derivative flows through the largest element: it cancels. A largest element that is infinite is not subtracted.
    """
    top = _top(x, axis)
    return x - np.where(np.isinf(top), 0.0, top)


def _top(x: Any, axis: Axis) -> Any:
    return stop_gradient(np.max(x, axis=axis, keepdims=True))
