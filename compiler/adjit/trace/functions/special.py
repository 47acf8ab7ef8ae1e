"""Ufuncs of SciPy that a traced program may call. SciPy is never imported here: a ufunc of it that meets a tracer has
been imported by the user, and is then found by its name in `scipy.special`.

SciPy's Python functions (logsumexp, softmax) do not dispatch; adjit.nn has them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.trace import table
from adjit.trace.functions import elementary, gamma
from adjit.trace.functions.calling import composed

RULES: dict[str, Callable[..., Any]] = {
    "expit": lambda b, x: b.sigmoid(x),
    "log_expit": elementary.log_expit,
    "logit": elementary.logit,
    "erf": lambda b, x: b.erf(x),
    "exp2": lambda b, x: b.exp2(x),
    # Not e^(x log 10): the rounding of that product is multiplied by its size.
    "exp10": lambda b, x: b.pow(10.0, x),
    "expm1": lambda b, x: b.expm1(x),
    "log1p": lambda b, x: b.log1p(x),
    "cbrt": lambda b, x: b.cbrt(x),
    "xlogy": elementary.xlogy,
    "xlog1py": elementary.xlog1py,
    "entr": elementary.entr,
    "rel_entr": elementary.rel_entr,
    "kl_div": elementary.kl_div,
    "huber": elementary.huber,
    "pseudo_huber": elementary.pseudo_huber,
    "gammaln": gamma.gammaln,
    "psi": gamma.digamma,
}
"""By name in `scipy.special`, on promoted Values of one shape."""


def find(target: np.ufunc) -> bool:
    """Enter a ufunc of `scipy.special` into the table at its first use; False where there is no rule for it."""
    module = sys.modules.get("scipy.special")
    name = target.__name__
    if module is None or name not in RULES or getattr(module, name, None) is not target:
        return False
    composed(target, RULES[name])
    return True


table.LATE.append(find)
