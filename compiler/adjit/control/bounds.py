"""Bounds of `fori_loop` of which one is traced: how many turns there are, and what is known of it.

The turns are counted when the program runs. Where both bounds are known to lie between numbers, as the counter of an
enclosing loop does, there is a most number of turns, so that what is kept for a gradient has a size."""

from __future__ import annotations

from typing import Any

from adjit.control.call import plain_or_tracer, type_of_leaf
from adjit.ir.builder import Value
from adjit.ir.node import Node
from adjit.ir.types import I64
from adjit.ops.loops import MOST_TURNS
from adjit.trace import Tracer, is_tracer, lower
from adjit.trace.integers import LEAST, MOST, Bounds, bounds_of
from adjit.trace.tracer import node_of
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError

_COUNTABLE = 1 << 32
"""More turns than anything is kept of."""


def bound_of(what: str, given: Any) -> int | Tracer:
    """A bound: an int, or where it is traced, one of Python. Raises ArgumentError for what is no integer."""
    value = plain_or_tracer(given)
    if not is_tracer(value):
        return checks.integer(what, value)
    found = type_of_leaf(value)
    if found.shape or found.dtype.kind not in "iu":
        raise ArgumentError(f"{what} is an integer, not {found}")
    return value if found.weak else lower.weak_cast(value, I64)


def ends(x: int | Tracer) -> Bounds:
    """The smallest and the largest that a bound may be."""
    return bounds_of(node_of(x)) if isinstance(x, Tracer) else (x, x)


def counted_ends(bounds: tuple[int | Tracer, int | Tracer]) -> Bounds:
    """The smallest and the largest that the counter may be."""
    return ends(bounds[0])[0], max(ends(bounds[1])[1] - 1, LEAST)


def most_turns(bounds: tuple[int | Tracer, int | Tracer]) -> int:
    """How many turns there are at most; MOST_TURNS where that is not known."""
    most = max(0, ends(bounds[1])[1] - ends(bounds[0])[0])
    return most if most <= _COUNTABLE else MOST_TURNS


def count_of(bounds: tuple[int | Tracer, int | Tracer]) -> Node:
    """How many turns there are."""
    low, high = (lower.lift(lower.convert(x, I64, (), weak=False)) for x in bounds)
    b = lower.builder()
    first, last = b.value(low), b.value(high)
    turns: Value = b.select(last > first, last - first, 0)
    if ends(bounds[1])[1] - ends(bounds[0])[0] > MOST:
        # The difference wraps where it is 2**63 and more.
        turns = b.select(turns < 0, MOST_TURNS, turns)
    return turns.node
