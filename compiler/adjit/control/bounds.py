"""Bounds of `fori_loop` of which one is traced: how many turns there are, and what is known of it.

The turns are counted when the program runs. Where both bounds are known to lie between numbers, as the counter of an
enclosing loop does, there is a most number of turns, so that what is kept for a gradient has a size."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Between:
    """The integers from `lower` up to, and without, `upper`, of which one is traced; `most` by the user's word."""

    lower: int | Tracer
    upper: int | Tracer
    most: int | None = None

    @property
    def turns(self) -> int:
        """How many there are at most; MOST_TURNS where that is not known."""
        found = max(0, _ends(self.upper)[1] - _ends(self.lower)[0])
        if found > _COUNTABLE:
            found = MOST_TURNS
        return found if self.most is None else min(found, self.most)

    @property
    def ends(self) -> Bounds:
        """The smallest and the largest that one of them may be."""
        return _ends(self.lower)[0], max(_ends(self.upper)[1] - 1, LEAST)

    def count(self) -> Node:
        """How many there are, in the trace under way."""
        low, high = (lower.lift(lower.convert(x, I64, (), weak=False)) for x in (self.lower, self.upper))
        b = lower.builder()
        first, last = b.value(low), b.value(high)
        turns: Value = b.select(last > first, last - first, 0)
        widest = _ends(self.upper)[1] - _ends(self.lower)[0]
        if widest > MOST:
            # The difference wraps where it is 2**63 and more.
            turns = b.select(turns < 0, MOST_TURNS, turns)
        if self.most is None or widest <= self.most:
            return turns.node
        holds = turns <= self.most
        text = f"fori_loop: more turns from lower to upper than max_steps, {self.most}"
        return b.emit("check_holds", turns.node, holds.node, error="ArgumentError", text=text)


def _ends(x: int | Tracer) -> Bounds:
    """The smallest and the largest that a bound may be."""
    return bounds_of(node_of(x)) if isinstance(x, Tracer) else (x, x)
