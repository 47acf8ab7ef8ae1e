"""What is known of a construct from its source: told to what runs in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adjit.ir.node import Loc
from adjit.rewriting.flow import Live

RETURNED, VALUE = "_adjit_returned", "_adjit_value"
"""The variables that say whether the function has returned, and what."""


def shown(name: str) -> str:
    """A variable as users know it."""
    return "what is returned" if name == VALUE else name


def is_own(name: str) -> bool:
    """Whether a variable is one of ours, and no user's."""
    return name.startswith("_adjit_")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a branch: the names that it binds, with the line, and those that are read after it: where a flag is
    set, and, under the name "", where it falls through."""

    lines: Mapping[str, int]
    ends: Mapping[str, Live]
    line: int

    @property
    def needed(self) -> Live:
        """The names that are read after it, wherever it leads."""
        return frozenset().union(*self.ends.values())


@dataclass(frozen=True, slots=True)
class Branch:
    """An `if`: `kept` are the names that are read after any side, `changed` those that it may change in place."""

    loc: Loc
    sides: tuple[Side, Side]
    kept: Live
    changed: Live
    outer: Live
    word: str = "if"


@dataclass(frozen=True, slots=True)
class Loop:
    """A `while` or `for`: `lines` are the names that it binds, `needed` those that the test, another turn, or what is
    after it reads; `flags` the variables that end it; `outer` the names that it binds in other scopes."""

    word: str
    loc: Loc
    lines: Mapping[str, int]
    needed: Live
    flags: tuple[str, ...]
    changed: Live
    outer: Live


Fact = Branch | Loop
