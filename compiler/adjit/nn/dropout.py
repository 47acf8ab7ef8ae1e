"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled, so that nothing changes when it is off."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.operands import operand
from adjit.random import bernoulli
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public


@public({"p": "rate", "seed": "key", "rng": "key"})
def dropout(x: Any, rate: float, key: Any) -> Any:
    """`x` with each element set to 0 with probability `rate`, the others divided by 1 - rate.

    Shape and float dtype of `x`. `rate` is a number that is known while tracing. `key` decides the mask (see
    `adjit.random`): same key, same mask, on every machine; layers want keys of their own (`random.split`). With key
    None, or rate 0, it is `x` itself. Raises ArgumentError for a rate outside [0, 1) and DTypeError for what is no key.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> dropped = nn.dropout(np.ones(1000), 0.25, random.key(0))
    >>> round(float(dropped.max()), 4), bool(0.7 < np.mean(dropped > 0) < 0.8)
    (1.3333, True)
    """
    # A NumPy float64 for a rate would widen a float32.
    rate = checks.real("dropout: rate", rate)
    x = operand("dropout: x", x)
    if not 0 <= rate < 1:
        raise ArgumentError(f"dropout: rate is in [0, 1), not {rate}")
    if key is None or rate == 0:
        return x
    keep = bernoulli(key, 1.0 - rate, np.shape(x))
    return np.where(keep, x / (1.0 - rate), 0.0)[()]
