"""What decides which way a program goes: one bool, and nothing that is merely true or false in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.control.call import plain_or_tracer, type_of_leaf
from adjit.ir.types import BOOL
from adjit.trace import Tracer, is_tracer, lower
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, DTypeError, ShapeError

ErrorOf = Callable[[type[AdjitError], str], AdjitError]
"""Makes an error of a kind, at the place that it is about."""


def flag_of(what: str, given: Any, error: ErrorOf, hint: str = "") -> bool | Tracer:
    """A bool, known or traced. `what` begins the text of an error, "cond: pred is one bool", and `hint` ends that about
    None. Raises DTypeError for numbers, ShapeError for several bools, ArgumentError for what is no array."""
    value = plain_or_tracer(given)
    if not is_tracer(value) and not isinstance(value, bool | int | float | complex | np.generic | np.ndarray):
        raise error(ArgumentError, f"{what}, not {checks.shown(value)}{hint if value is None else ''}")
    found = type_of_leaf(value)
    if found.dtype != BOOL:
        shown = checks.shown(value) if found.weak and not is_tracer(value) else str(found)
        raise error(DTypeError, f"{what}, not {shown}: write x != 0 for the truth of a number")
    if found.shape:
        raise error(ShapeError, f"{what}, not {found}: write x.all(), x.any() or one element")
    return lower.strong(value) if is_tracer(value) else bool(value)
