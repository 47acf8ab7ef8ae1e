"""Initial values of weights, from a key: NumPy arrays, the same on every machine but for the last bit of normal ones.

`shape` is (inputs, outputs), or (height, width, ..., inputs, outputs) for a convolution, whose fan-in is inputs times
the area. `dtype` is float32 or float64.

    >>> from adjit import nn, random
    >>> nn.init.he_normal((64, 32), key=random.key(0)).shape
    (64, 32)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.random import normal, uniform
from adjit_runtime.errors import ShapeError

__all__ = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]

Rule = Callable[[int, int], float]


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ShapeError(
            f"initial values of weights have a shape (..., inputs, outputs), not {tuple(shape)}; biases are zeros"
        )
    area = math.prod(shape[:-2])
    return area * shape[-2], area * shape[-1]


def _normal(shape: Sequence[int], key: Any, dtype: Any, variance: Rule) -> Any:
    deviation = math.sqrt(variance(*_fans(shape)))
    return normal(key, shape, dtype) * np.dtype(dtype).type(deviation)


def _uniform(shape: Sequence[int], key: Any, dtype: Any, variance: Rule) -> Any:
    limit = math.sqrt(3 * variance(*_fans(shape)))
    return uniform(key, shape, -limit, limit, dtype)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / max(fan_in + fan_out, 1)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / max(fan_in, 1)


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / max(fan_in, 1)


def glorot_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform with variance 2 / (fan-in + fan-out): for tanh and linear layers (Glorot, Bengio 2010)."""
    return _uniform(shape, key, dtype, _glorot)


def glorot_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with variance 2 / (fan-in + fan-out): for tanh and linear layers (Glorot, Bengio 2010)."""
    return _normal(shape, key, dtype, _glorot)


def he_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform with variance 2 / fan-in: for layers before a relu (He et al. 2015)."""
    return _uniform(shape, key, dtype, _he)


def he_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with variance 2 / fan-in: for layers before a relu (He et al. 2015)."""
    return _normal(shape, key, dtype, _he)


def lecun_uniform(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Uniform with variance 1 / fan-in: keeps the variance of a linear layer (LeCun et al. 1998)."""
    return _uniform(shape, key, dtype, _lecun)


def lecun_normal(shape: Sequence[int], *, key: Any, dtype: Any = np.float32) -> Any:
    """Normal with variance 1 / fan-in: keeps the variance of a linear layer (LeCun et al. 1998)."""
    return _normal(shape, key, dtype, _lecun)
