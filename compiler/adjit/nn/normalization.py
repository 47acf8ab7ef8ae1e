"""Normalisations of activations, and of weights.

`scale` and `bias` are one for each element along the axes that the layer has parameters for, and may be left out;
`nn.init.layer_norm` and its like make them as a dict, so that a layer is `layer_norm(x, **params)`. The result has the
shape of `x`, and the float dtype that it has with its parameters. Variances are means of squared distances from the
mean, of which no digit is lost where the mean is large; `eps` is added to them, so that what is constant has value and
derivative.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.nn.operands import axes, dtype_of, numbers, of_shape, one_axis, parameters
from adjit.trace import stop_gradient
from adjit_runtime import checks
from adjit_runtime.errors import ShapeError
from adjit_runtime.public import public

Axis = int | tuple[int, ...] | None

_KNOWN = {
    "input": "x", "weight": "scale", "gamma": "scale", "shift": "bias", "beta": "bias", "offset": "bias",
    "epsilon": "eps", "dim": "axis", "num_groups": "groups", "is_training": "training", "train": "training",
    "use_running_average": "training, which is the opposite",
    "normalized_shape": "axis says which axes are normalised", "reduction_axes": "axis",
    "running_mean": "running is a dict with 'mean' and 'var'", "running_var": "running is a dict with 'mean' and 'var'",
    "data_format": "axis is the one of the channels", "layout": "axis is the one of the channels",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""
_OF_WEIGHTS = {"dim": "axis", "weight": "w", "n_power_iterations": "steps", "n_steps": "steps"}


@public(_KNOWN)
def layer_norm(x: Any, scale: Any = None, bias: Any = None, axis: Axis = -1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) * scale + bias, with mean and variance along `axis`: an int, several, or None.

    `scale` and `bias` have the shape of `x` along `axis`. Raises ShapeError for other ones, and for an axis that is not
    there or empty. Source: Ba, Kiros, Hinton 2016.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.layer_norm(np.array([[1.0, 3.0]]), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    x = numbers("layer_norm: x", x)
    along = tuple(sorted(axes("layer_norm: axis", axis, x)))
    return _scaled("layer_norm", _standardized("layer_norm", x, along, eps), scale, bias, along)


@public(_KNOWN)
def rms_norm(x: Any, scale: Any = None, axis: Axis = -1, eps: float = 1e-6) -> Any:
    """x / sqrt(mean(x^2) + eps) * scale, with the mean along `axis`: an int, several, or None for all.

    `scale` has the shape of `x` along `axis`; errors as for `layer_norm`. Source: Zhang, Sennrich 2019.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.rms_norm(np.array([[3.0, 3.0, 3.0]]), eps=0.0).tolist()
    [[1.0, 1.0, 1.0]]
    """
    x = numbers("rms_norm: x", x)
    along = tuple(sorted(axes("rms_norm: axis", axis, x)))
    square = np.mean(x * x, axis=along, keepdims=True)
    return _scaled("rms_norm", x * _inverse_root("rms_norm", square, eps), scale, None, along)


@public(_KNOWN)
def group_norm(x: Any, groups: int, scale: Any = None, bias: Any = None, axis: int = 1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) * scale + bias, with mean and variance of each sample's groups of channels.

    `x` is (N, ...), its channels lie along `axis` (-1 where they are last), and as many as go into a group follow one
    another; `scale` and `bias` have one for each channel. Raises ShapeError for a number of channels that is no
    multiple of `groups`, for groups of no elements, and for parameters of other shapes. Source: Wu, He 2018.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), 2, eps=1e-12).round(3).tolist()
    [[-1.0, 1.0, 0.0, 0.0]]
    """
    return _grouped("group_norm", x, groups, scale, bias, axis, eps)


@public(_KNOWN)
def instance_norm(x: Any, scale: Any = None, bias: Any = None, axis: int = 1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) * scale + bias, with mean and variance of each channel of each sample.

    `x` is (N, ...), its channels lie along `axis` (-1 where they are last), the other axes are normalised. `scale` and
    `bias` have one for each channel. Raises ShapeError for parameters of other shapes, and where a channel has no
    elements. Source: Ulyanov, Vedaldi, Lempitsky 2016.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.instance_norm(np.array([[[1.0, 3.0], [0.0, 8.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    return _grouped("instance_norm", x, None, scale, bias, axis, eps)


@public(_KNOWN)
def batch_norm(
    x: Any,
    running: Any = None,
    scale: Any = None,
    bias: Any = None,
    *,
    training: bool,
    momentum: float = 0.1,
    axis: int = 1,
    eps: float = 1e-5,
) -> tuple[Any, Any]:
    """(x - mean) / sqrt(variance + eps) * scale + bias for each channel, and the running statistics: (y, running).

    x         (N, C), (N, C, ...), or with the channels along another `axis`
    running   {"mean": (C,), "var": (C,)}: ordinary values, which `nn.init.batch_norm` starts
    scale     (C,), or None; `bias` likewise
    training  True: mean and variance are those of the batch, and `running` comes back moved towards them; no
              derivative flows through it. False: mean and variance are `running`, which comes back as it is
    momentum  the part of the batch in the new running statistics, as in PyTorch (others call 1 - momentum so)

    The running variance is that of a sample (n - 1). While training, `running` may be None, and None comes back.
    Raises ShapeError for parameters of other shapes, and for a batch of fewer than two elements a channel while
    training; ArgumentError without `running` while not. Source: Ioffe, Szegedy 2015.

    >>> import numpy as np
    >>> from adjit import nn
    >>> params, running = nn.init.batch_norm(1)
    >>> y, running = nn.batch_norm(np.array([[1.0], [3.0]]), running, **params, training=True, eps=0.0)
    >>> y.tolist()
    [[-1.0], [1.0]]
    >>> running
    {'mean': array([0.2], dtype=float32), 'var': array([1.1], dtype=float32)}
    """
    x = numbers("batch_norm: x", x)
    channels = one_axis("batch_norm: axis", axis, x)
    others = tuple(i for i in range(np.ndim(x)) if i != channels)
    size = np.shape(x)[channels]
    share = checks.real("batch_norm: momentum", momentum, 0, 1)
    if not checks.flag("batch_norm: training", training):
        mean, var = (_along(value, channels, np.ndim(x)) for value in _running(running, size))
        y = (x - mean) * _inverse_root("batch_norm", var, eps)
        return _scaled("batch_norm", y, scale, bias, (channels,)), running
    old = None if running is None else _running(running, size)
    count = math.prod(np.shape(x)[i] for i in others)
    if count < 2:
        raise ShapeError(
            f"batch_norm: x of shape {np.shape(x)} has {count} elements a channel (axis {axis}), and the statistics of "
            "a batch need two: give more, or training=False"
        )
    mean = np.mean(x, axis=others, keepdims=True)
    centred = x - mean
    var = np.mean(centred * centred, axis=others, keepdims=True)
    y = _scaled("batch_norm", centred * _inverse_root("batch_norm", var, eps), scale, bias, (channels,))
    if old is None:
        return y, None
    mean, var = (stop_gradient(np.reshape(value, size)) for value in (mean, var))
    # What the batch has is a sample of what will be asked: n - 1, in place of n, makes its variance right in the mean.
    return y, {"mean": _moved(old[0], mean, share), "var": _moved(old[1], var * (count / (count - 1)), share)}


@public(_OF_WEIGHTS)
def weight_norm(v: Any, g: Any, axis: int | None = -1) -> Any:
    """g v / |v|: a weight of the direction `v` and the length `g`.

    The length is that of what belongs to one element along `axis`, which is the last one of our weights, that of the
    outputs: `g` has one for each. With None there is one length, and `g` has no axes. Shape and float dtype of `v`. A
    direction of zeros stays 0, with a derivative. `nn.init.weight_norm` makes both of a weight. Raises ShapeError for
    another shape of `g`. Source: Salimans, Kingma 2016.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.weight_norm(np.array([[3.0], [4.0]]), np.array([10.0])).tolist()
    [[6.0], [8.0]]
    """
    v = numbers("weight_norm: v", v)
    kept = () if axis is None else (one_axis("weight_norm: axis", axis, v, "v"),)
    shape = tuple(np.shape(v)[i] for i in kept)
    g = of_shape(
        "weight_norm: g", g, shape, f"v has the shape {np.shape(v)}, and there is one length along axis {axis}"
    )
    total = np.sum(v * v, axis=tuple(i for i in range(np.ndim(v)) if i not in kept), keepdims=True)
    length = np.sqrt(np.where(total == 0, 1.0, total))
    return v * (_along(g, kept[0], np.ndim(v)) / length if kept else g / length)


@public(_OF_WEIGHTS)
def spectral_norm(w: Any, u: Any, steps: int = 1, axis: int = -1, eps: float = 1e-12) -> tuple[Any, Any]:
    """w / sigma with the largest singular value sigma, by power iteration from `u`: (the weight, the next u).

    `w` is a matrix of one column for each element along `axis`, that of the outputs, the last one of our weights; `u`
    has one element for each. It is state, as running statistics are: `nn.init.spectral_norm` starts it, and each step
    of training takes `steps` of the iteration, 0 for a weight that rests. No derivative flows through the vectors.
    Shape and float dtype of `w`; a weight of zeros stays 0. Raises ShapeError for another shape of `u`, and
    ArgumentError for negative `steps`. Source: Miyato et al. 2018.

    >>> import numpy as np
    >>> from adjit import nn
    >>> w, u = nn.spectral_norm(np.diag([4.0, 2.0]), np.array([1.0, 0.0]))
    >>> w.tolist(), u.tolist()
    ([[1.0, 0.0], [0.0, 0.5]], [1.0, 0.0])
    """
    w = numbers("spectral_norm: w", w)
    last = one_axis("spectral_norm: axis", axis, w, "w")
    outputs = np.shape(w)[last]
    u = of_shape("spectral_norm: u", u, (outputs,), f"w has the shape {np.shape(w)}, and u one for each along {axis}")
    steps = checks.integer("spectral_norm: steps", steps, 0)
    eps = checks.real("spectral_norm: eps", eps, 0)
    matrix = np.moveaxis(w, last, -1).reshape(-1 if outputs else 0, outputs)
    fixed, u = stop_gradient(matrix), stop_gradient(u)
    v = _unit(fixed @ u, eps)
    for i in range(steps):
        u = _unit(v @ fixed, eps)
        v = _unit(fixed @ u, eps) if i + 1 < steps else v
    sigma = np.sum((v @ matrix) * u)
    return w / np.where(sigma == 0, 1.0, sigma), u


def _standardized(name: str, x: Any, along: tuple[int, ...], eps: float) -> Any:
    centred = x - np.mean(x, axis=along, keepdims=True)
    return centred * _inverse_root(name, np.mean(centred * centred, axis=along, keepdims=True), eps)


def _inverse_root(name: str, variance: Any, eps: float) -> Any:
    """One division a row: what it is multiplied by has many elements."""
    return 1.0 / np.sqrt(variance + checks.real(f"{name}: eps", eps, 0))


def _scaled(name: str, y: Any, scale: Any, bias: Any, along: tuple[int, ...]) -> Any:
    """`y` times a scale, plus a bias, which lie along some of its axes."""
    rank = np.ndim(y)
    size = tuple(np.shape(y)[i] for i in along)
    shape = tuple(n if i in along else 1 for i, n in enumerate(np.shape(y)))
    for what, value in (("scale", scale), ("bias", bias)):
        if value is None:
            continue
        found = of_shape(
            f"{name}: {what}", value, size, f"x has the shape {np.shape(y)}, and it lies along axis {along}"
        )
        found = found if along == tuple(range(rank - len(along), rank)) else np.reshape(found, shape)
        y = y * found if what == "scale" else y + found
    return y


def _along(values: Any, axis: int, rank: int) -> Any:
    """What lies along one axis, so that it broadcasts against arrays of `rank`."""
    return np.reshape(values, tuple(-1 if i == axis else 1 for i in range(rank)))


def _grouped(name: str, x: Any, groups: int | None, scale: Any, bias: Any, axis: int, eps: float) -> Any:
    """Each sample's channels in groups; None: each is a group, whose other axes are one at least."""
    x = numbers(f"{name}: x", x)
    channels = one_axis(f"{name}: axis", axis, x)
    shape = np.shape(x)
    if channels == 0:
        raise ShapeError(f"{name}: axis {axis} of x, of shape {shape}, is that of the samples, not of the channels")
    size = shape[channels]
    if groups is None:
        rest = tuple(i for i in range(1, len(shape)) if i != channels)
        if not rest:
            raise ShapeError(f"{name}: x of shape {shape} has no axes beside samples and channels (axis {axis})")
        return _scaled(name, _standardized(name, x, axes(f"{name}: axis", rest, x), eps), scale, bias, (channels,))
    count = checks.integer(f"{name}: groups", groups, 1)
    if size % count or len(shape) > 63:
        raise ShapeError(f"{name}: x of shape {shape} has {size} channels (axis {axis}), which make no {count} groups")
    if shape[0] and not math.prod(shape[1:]):
        raise ShapeError(f"{name}: x of shape {shape} has groups of no elements")
    parts = np.reshape(x, (*shape[:channels], count, size // count, *shape[channels + 1 :]))
    rest = tuple(i for i in range(1, len(shape) + 1) if i != channels)
    y = _standardized(name, parts, rest, eps)
    return _scaled(name, np.reshape(y, shape), scale, bias, (channels,))


def _running(running: Any, size: int) -> tuple[Any, Any]:
    found = parameters("batch_norm: running", running, ("mean", "var"))
    mean, var = (
        of_shape(f"batch_norm: running[{key!r}]", found[key], (size,), f"x has {size} channels") for key in found
    )
    return mean, var


def _moved(old: Any, new: Any, share: float) -> Any:
    """Statistics moved towards those of the batch, in the dtype that they have."""
    dtype = dtype_of(old)
    if dtype.kind == "f" and dtype_of(new) != dtype:
        new = new.astype(dtype)
    return (1.0 - share) * old + share * new


def _unit(vector: Any, eps: float) -> Any:
    length = np.sqrt(np.sum(vector * vector))
    return vector / np.where(length > eps, length, eps or 1.0)
