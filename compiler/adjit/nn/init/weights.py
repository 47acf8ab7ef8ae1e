"""Initial values of weights, from a key: NumPy arrays, the same on every machine but for the last bit of normal ones.

`shape` is (inputs, outputs) for a dense layer, and (height, width, inputs, outputs), with any number of spatial axes in
front, for a kernel of a convolution. Fan-in is inputs, fan-out outputs, each times the product of the spatial axes.
Normal values are not truncated. All raise ShapeError for fewer than two axes and DTypeError for a `dtype` other than
float32 and float64, or for what is no key (`adjit.random.key` makes one). Weights of different layers want different
keys (`random.split`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.random import normal, uniform
from adjit_runtime import checks
from adjit_runtime.errors import ShapeError
from adjit_runtime.public import public

__all__ = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]

Rule = Callable[[int, int], float]


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    shape = checks.extents("shape", shape)
    if len(shape) < 2:
        raise ShapeError(
            f"initial values of weights have a shape (..., inputs, outputs), not {shape}; biases are zeros"
        )
    area = math.prod(shape[:-2])
    return area * shape[-2], area * shape[-1]


def _normal(shape: Sequence[int], key: Any, dtype: Any, variance: Rule) -> Any:
    deviation = math.sqrt(variance(*_fans(shape)))
    values = normal(key, shape, dtype)
    return values * values.dtype.type(deviation)


def _uniform(shape: Sequence[int], key: Any, dtype: Any, variance: Rule) -> Any:
    limit = math.sqrt(3 * variance(*_fans(shape)))
    return uniform(key, shape, -limit, limit, dtype)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / max(fan_in + fan_out, 1)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / max(fan_in, 1)


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / max(fan_in, 1)


@public()
def glorot_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform on [-a, a) with a = sqrt(6 / (fan-in + fan-out)): for tanh and linear layers.

    Array of `dtype` and `shape`. Source: Glorot, Bengio 2010.

    >>> from adjit import nn, random
    >>> nn.init.glorot_uniform((64, 32), key=random.key(0)).shape
    (64, 32)
    """
    return _uniform(shape, key, dtype, _glorot)


@public()
def glorot_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with mean 0 and variance 2 / (fan-in + fan-out): for tanh and linear layers.

    Array of `dtype` and `shape`. Source: Glorot, Bengio 2010.

    >>> from adjit import nn, random
    >>> nn.init.glorot_normal((64, 32), key=random.key(0)).shape
    (64, 32)
    """
    return _normal(shape, key, dtype, _glorot)


@public()
def he_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform on [-a, a) with a = sqrt(6 / fan-in): for layers before a relu.

    Array of `dtype` and `shape`. Source: He, Zhang, Ren, Sun 2015.

    >>> from adjit import nn, random
    >>> nn.init.he_uniform((3, 3, 8, 16), key=random.key(0)).shape
    (3, 3, 8, 16)
    """
    return _uniform(shape, key, dtype, _he)


@public()
def he_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with mean 0 and variance 2 / fan-in: for layers before a relu.

    Array of `dtype` and `shape`. Source: He, Zhang, Ren, Sun 2015.

    >>> from adjit import nn, random
    >>> nn.init.he_normal((3, 3, 8, 16), key=random.key(0)).shape
    (3, 3, 8, 16)
    """
    return _normal(shape, key, dtype, _he)


@public()
def lecun_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform on [-a, a) with a = sqrt(3 / fan-in): keeps the variance of a linear layer.

    Array of `dtype` and `shape`. Source: LeCun, Bottou, Orr, Müller 1998.

    >>> from adjit import nn, random
    >>> nn.init.lecun_uniform((64, 32), key=random.key(0)).shape
    (64, 32)
    """
    return _uniform(shape, key, dtype, _lecun)


@public()
def lecun_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with mean 0 and variance 1 / fan-in: keeps the variance of a linear layer.

    Array of `dtype` and `shape`. Source: LeCun, Bottou, Orr, Müller 1998.

    >>> from adjit import nn, random
    >>> nn.init.lecun_normal((64, 32), key=random.key(0)).shape
    (64, 32)
    """
    return _normal(shape, key, dtype, _lecun)
