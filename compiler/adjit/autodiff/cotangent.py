"""Contributions to cotangents, each with the condition where it is alive, and their sums."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from adjit.autodiff.carried_sums import summed_in_turn
from adjit.autodiff.placed import summed
from adjit.ir.builder import Builder, Value
from adjit.ir.node import Node


@dataclass(frozen=True, slots=True)
class Cotangent:
    """A cotangent and where it is alive; a guard of None means everywhere.

    `holds` says that the node's value is no NaN where the guard is false: so it is below a rectifier, which is dead
    where its operand compares as smaller, and what made that operand needs no shield."""

    value: Value
    guard: Value | None = None
    holds: bool = False


def alive(b: Builder, ct: Cotangent) -> Value:
    """The cotangent with zeros where it is dead."""
    return ct.value if ct.guard is None else b.select(ct.guard, ct.value, 0.0)


def total_of(b: Builder, parts: list[Cotangent], of_turn: bool = False) -> Cotangent:
    """The sum of several contributions to one node, which may be one `of_turn`, of the body of a loop."""
    first = parts[0]
    if len(parts) == 1:
        return first
    total = summed_in_turn if of_turn else summed
    # What is dead for all of them is dead for the one that knows.
    holds = any(part.holds for part in parts)
    if all(_same(part.guard, first.guard) for part in parts):
        return Cotangent(total(b, [part.value for part in parts]), first.guard, holds)
    guard = functools.reduce(lambda guard, part: _or(guard, part.guard), parts[1:], first.guard)
    return Cotangent(total(b, [alive(b, part) for part in parts]), guard, holds and guard is not None)


def _same(a: Value | None, b: Value | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and a.node is b.node)


def _or(a: Value | None, b: Value | None) -> Value | None:
    if a is None or b is None or _opposite(a.node, b.node) or _opposite(b.node, a.node):
        return None
    return a if a.node is b.node else a | b


def _opposite(a: Node, b: Node) -> bool:
    return a.op.name == "not" and a.args[0] is b


def both(a: Value | None, b: Value) -> Value:
    """The condition of two guards."""
    return b if a is None else a & b
