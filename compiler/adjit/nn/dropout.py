"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled, so that nothing changes when it is off."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.random import bernoulli
from adjit_runtime.errors import ArgumentError


def dropout(x: Any, rate: float, key: Any) -> Any:
    """`x` with each element set to 0 with probability `rate`, the others divided by 1 - rate.

    `key` decides the mask (see `adjit.random`): same key, same mask, on every machine. With key None, or rate 0, it is
    `x` itself. Raises ArgumentError for a rate outside [0, 1).

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> dropped = nn.dropout(np.ones(1000), 0.25, random.key(0))
    >>> float(dropped.max()), 0.7 < np.mean(dropped > 0) < 0.8
    (1.3333333333333333, np.True_)
    """
    if not 0 <= rate < 1:
        raise ArgumentError(f"dropout: rate is in [0, 1), not {rate}")
    if key is None or rate == 0:
        return x
    keep = bernoulli(key, 1.0 - rate, np.shape(x))
    return np.where(keep, x / (1.0 - rate), 0.0)
