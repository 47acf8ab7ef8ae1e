"""The truth of a value: a bool where it is known, else a traced one; and Python's operators on truths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.control import cond
from adjit.control.call import plain_or_tracer
from adjit.ir.types import BOOL
from adjit.trace import is_tracer, lower, refuse
from adjit.trace.known import is_known
from adjit.trace.tracer import node_of


def truth(value: Any) -> Any:
    """`bool(value)`. Of a traced number it is whether that is not 0; several elements have none, as in NumPy."""
    found = plain_or_tracer(value)
    if not is_tracer(found):
        return bool(found)
    if found.size != 1:
        raise refuse.truth(node_of(found))
    if found.shape:
        found = lower.reshape(found, ())
    if found.dtype != BOOL:
        found = np.not_equal(found, 0)
    return lower.strong(found)


def negated(flag: Any) -> Any:
    """`not flag`."""
    return ~flag if is_tracer(flag) else not flag


def either(flags: list[Any]) -> Any:
    """Whether any of some flags is set; those that are not bound are not."""
    found: Any = False
    for flag in flags:
        each = truth(flag)
        if not is_tracer(each):
            if each:
                return True
        else:
            found = found | each if is_tracer(found) else each
    return found


def both(first: Any, second: Callable[[], Any]) -> Any:
    """`first and second()`; the second is not evaluated where the first does not hold."""
    holds = truth(first)
    if not is_tracer(holds):
        return second() if holds else first
    return cond(holds, lambda: truth(second()), lambda: False)


def one_of(first: Any, second: Callable[[], Any]) -> Any:
    """`first or second()`; the second is not evaluated where the first holds."""
    holds = truth(first)
    if not is_tracer(holds):
        return first if holds else second()
    return cond(holds, lambda: True, lambda: truth(second()))


def contains(item: Any, container: Any) -> Any:
    """`item in container`; of a traced number and a tuple, list, set or range of numbers, or of anything and an array,
    it is traced."""
    if is_tracer(container) and (is_tracer(item) or not is_known(container)):
        return np.equal(container, item).any()
    if not is_tracer(item) or is_known(item) or type(container) not in (tuple, list, set, frozenset, range):
        return item in container
    found: Any = False
    for each in container:
        found = np.logical_or(found, np.equal(item, each))
    return found
