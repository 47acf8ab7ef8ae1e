"""Parts of concatenations that are values of many turns of a loop, in order.

concatenate %5, %9, %13, %17 axis=0      =>   %r, the values of four turns stacked, reshaped

Several values may take turns, %5, %6, %9, %10, ..., and what lies between those of a loop may be constant, or a slice
that moves from turn to turn: then each is stacked, and they are joined turn by turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.ranges import reshaped
from adjit.ir.types import Array
from adjit.roll.loops import Loop
from adjit.roll.moving import applied, motion, moves, parts
from adjit.roll.reading import Form, Ints, Place, Reading
from adjit.tuned import ROLL_TURNS

OUTSIDE = -1
"""The loop of what is of none."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of what takes turns: a node of a turn of a loop, in a form of its own, whose turn is its place; or of no
    loop, the number of an operand that comes from outside. The next one's place lies `by` further."""

    loop: int
    node: int
    form: int
    cuts: int
    place: Place
    by: Place


@dataclass(frozen=True, slots=True)
class Join:
    """Members side by side along an axis, then the same a turn later, and so on, `count` times."""

    members: tuple[Member, ...]
    axis: int
    count: int

    def turns(self) -> Iterator[tuple[Member, range]]:
        """The members that loops make, and of which turns."""
        for member in self.members:
            if member.loop != OUTSIDE:
                ((turn,),), ((by,),) = member.place, member.by
                yield member, range(turn, turn + self.count * by, by)


def joins(reading: Reading, loops: list[Loop], loop_of: np.ndarray, reader: int) -> list[Join | int]:
    """The operands of a concatenation: joins, and the numbers of those operands that are in none."""
    begin, end = int(reading.first[reader]), int(reading.first[reader + 1])
    axis = reading.nodes[reader].attrs["axis"]
    whats, places = _operands(reading, loops, loop_of, begin, end)
    again = [0] * len(whats)
    seen: dict[Ints, int] = {}
    for i in reversed(range(len(whats))):
        again[i] = seen.get(whats[i], i) - i
        seen[whats[i]] = i
    found: list[Join | int] = []
    i = 0
    while i < len(whats):
        size = again[i]
        count = _count(whats, places, i, size)
        members: tuple[Member, ...] = ()
        if count >= ROLL_TURNS:
            members = tuple(
                _member(whats[j], begin + j, places[j], moves(places[j], places[j + size])) for j in range(i, i + size)
            )
        if not members or not _stacks(reading, members):
            found.append(i)
            i += 1
            continue
        found.append(Join(members, axis, count))
        i += count * size
    return found


def _operands(
    reading: Reading, loops: list[Loop], loop_of: np.ndarray, begin: int, end: int
) -> tuple[list[Ints], list[Place]]:
    """What each operand is, and its place: the turn of what is of a loop, else where it is cut."""
    whats: list[Ints] = []
    places: list[Place] = []
    for operand in range(begin, end):
        base, form, place = reading.key(operand)
        at = int(loop_of[base]) if base >= 0 else OUTSIDE
        if at == OUTSIDE:
            whats.append((OUTSIDE, base, form))
            places.append(reading.places[place])
            continue
        turn, node = divmod(base - loops[at].start, loops[at].period)
        whats.append((at, node, form, place))
        places.append(((turn,),))
    return whats, places


def _member(what: Ints, operand: int, place: Place, by: Place) -> Member:
    if what[0] == OUTSIDE:
        return Member(OUTSIDE, operand, what[2], 0, place, by)
    loop, node, form, cuts = what
    return Member(loop, node, form, cuts, place, by)


def _count(whats: list[Ints], places: list[Place], i: int, size: int) -> int:
    """How often what begins at an operand, `size` of them, is repeated, each by an equal distance."""
    if not size:
        return 0
    j = i
    while j + size < len(whats) and whats[j + size] == whats[j]:
        if j >= i + size and moves(places[j], places[j + size]) != moves(places[j - size], places[j]):
            break
        j += 1
    return 1 + (j - i) // size


def _stacks(reading: Reading, members: tuple[Member, ...]) -> bool:
    """Whether there is an array of the values of all turns, for each, and a loop makes some of them."""
    made = [member for member in members if member.loop != OUTSIDE]
    if not made or not all(any(map(any, member.by)) for member in made):
        return False
    others = [member for member in members if member.loop == OUTSIDE and any(map(any, member.by))]
    return all(motion(reading.forms[member.form], member.by) is not None for member in others)


def joined(b: Builder, join: Join, stacked: list[Node]) -> Node:
    """A join, from the values of all its turns of each member."""
    axis = join.axis
    x = stacked[0] if len(stacked) == 1 else b.emit("concatenate", *stacked, axis=axis + 1)
    if axis:
        x = b.emit("transpose", x, axes=(*range(1, axis + 1), 0, *range(axis + 1, len(x.shape))))
    return reshaped(b, x, (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :]))


def of_loop(b: Builder, member: Member, count: int, whole: Node, form: Form, cuts: Place) -> Node:
    """The values of a member that a loop makes, from those of all its turns."""
    ((turn,),), ((by,),) = member.place, member.by
    part = turns_of(b, whole, min(turn, turn + (count - 1) * by), abs(by), count)
    part, _ = applied(b, part, form, cuts, count)
    return b.emit("flip", part, axes=(0,)) if by < 0 else part


def of_outside(b: Builder, member: Member, count: int, x: Node, form: Form) -> Node:
    """The values of a member from outside, which is a form of `x`."""
    if any(map(any, member.by)):
        how = motion(form, member.by)
        assert how is not None
        part = parts(b, x, form, how, member.place, member.by, count).parts(b)
        return applied(b, part, form[how.step + 1 :], member.place[how.cut + 1 :], count)[0]
    x, _ = applied(b, x, form, member.place)
    shape = (count, *x.shape)
    if x.is_splat:
        return b.splat(x.attrs["value"], Array(x.dtype, shape))
    return b.emit("broadcast", x, shape=shape, axes=tuple(range(1, len(shape))))


def turns_of(b: Builder, x: Node, first: int, by: int, count: int) -> Node:
    """Those of so many turns of stacked values."""
    if count == x.shape[0]:
        return x
    rest = x.shape[1:]
    start, stop = (first, *(0 for _ in rest)), (first + (count - 1) * by + 1, *rest)
    return b.emit("slice", x, start=start, stop=stop, step=(by, *(1 for _ in rest)))
