"""Slices that move by a constant step, turn by turn, as parts of one array.

%3 = slice %x start=(0) stop=(1) step=(1)          %r = slice %x start=(0) stop=(19) step=(2) : f64[10]
%9 = slice %x start=(2) stop=(3) step=(1)     =>   and turn i reads %r[i], which it reshapes
...

A window of one element along the axis in which it moves becomes a slice with that step; a window that the next one
does not overlap a block of rows; one that it does overlap as many slices as it has elements, which the turn joins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.ranges import reshaped
from adjit.roll.reading import Cut, Form, Ints, Place, Shaped
from adjit.tuned import ROLL_JOINED


@dataclass(frozen=True, slots=True)
class Motion:
    """How what an operand reads moves: in which of the cuts of its form, along which axes (first and last), and which
    step of the form that is. The axes in between have one element each, and count as one."""

    cut: int
    step: int
    axes: tuple[int, int]


def moves(a: Place, b: Place) -> Place:
    """By how much each cut of a form moves."""
    return tuple(tuple(j - i for i, j in zip(x, y, strict=True)) for x, y in zip(a, b, strict=True))


def motion(form: Form, by: Place) -> Motion | None:
    """The motion of a form that moves so from each turn to the next; None where no part of an array does."""
    moving = [i for i, offsets in enumerate(by) if any(offsets)]
    if len(moving) != 1:
        return None
    (cut,) = moving
    step = [i for i, each in enumerate(form) if isinstance(each, Cut)][cut]
    box = form[step]
    assert isinstance(box, Cut)
    axes = [i for i, offset in enumerate(by[cut]) if offset]
    first, last = axes[0], axes[-1]
    if first < last and any(n != 1 for n in box.extent[first : last + 1]):
        return None
    if 0 in box.extent:
        return None
    extent, stride = box.extent[first], box.step[first]
    if first == last and extent > abs(by[cut][first]) and -(-extent // stride) > ROLL_JOINED:
        return None
    return Motion(cut, step, (first, last))


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """What a moving slice becomes: arrays with a part for each turn along their first axis, and in a turn the shape of
    what is joined along an axis, or reshaped, to what the slice gave."""

    arrays: list[Node]
    axis: int
    shape: Ints
    joined: Ints

    def part(self, b: Builder, turn: list[Node]) -> Node:
        """The slice of one turn, from the parts of the arrays."""
        if len(turn) == 1:
            return reshaped(b, turn[0], self.shape)
        pieces = [reshaped(b, each, self.joined) for each in turn]
        return reshaped(b, b.emit("concatenate", *pieces, axis=self.axis), self.shape)

    def parts(self, b: Builder) -> Node:
        """The slices of all turns, along a first axis."""
        turns = self.arrays[0].shape[0]
        pieces = self.arrays
        if len(pieces) > 1:
            pieces = [reshaped(b, each, (turns, *self.joined)) for each in pieces]
            pieces = [b.emit("concatenate", *pieces, axis=self.axis + 1)]
        return reshaped(b, pieces[0], (turns, *self.shape))


def parts(b: Builder, x: Node, form: Form, how: Motion, place: Place, by: Place, turns: int) -> Parts:
    """The parts of `x`, which the form reads at `place` in the first turn."""
    x, _ = applied(b, x, form[: how.step], place)
    box = form[how.step]
    assert isinstance(box, Cut)
    start, offsets = place[how.cut], by[how.cut]
    first, last = how.axes
    shape = tuple(-(-n // s) for n, s in zip(box.extent, box.step, strict=True))
    if first < last:
        x, start, offsets, box = _merged(b, x, start, offsets, box, first, last)
    at, by_turn = start[first], offsets[first]
    low = min(at, at + (turns - 1) * by_turn)
    x = _only(b, x, start, box, first)
    extent, stride = box.extent[first], box.step[first]
    count = -(-extent // stride)
    inner = (*x.shape[:first], count, *x.shape[first + 1 :])
    joined = (*x.shape[:first], 1, *x.shape[first + 1 :])
    if count == 1 or extent > abs(by_turn):
        found = [_strided(b, x, first, low + i * stride, abs(by_turn), turns) for i in range(count)]
    else:
        found = [_blocks(b, x, first, low, box, abs(by_turn), turns)]
    if by_turn < 0:
        found = [b.emit("flip", each, axes=(0,)) for each in found]
    assert math.prod(inner) == math.prod(shape)
    return Parts(found, first, shape, joined)


def _merged(
    b: Builder, x: Node, start: Ints, offsets: Ints, box: Cut, first: int, last: int
) -> tuple[Node, Ints, Ints, Cut]:
    """The axes from first to last as one."""
    at = by = 0
    for axis in range(first, last + 1):
        at = at * x.shape[axis] + start[axis]
        by = by * x.shape[axis] + offsets[axis]
    merged = math.prod(x.shape[first : last + 1])

    def put(values: Ints, value: int) -> Ints:
        return (*values[:first], value, *values[last + 1 :])

    box = Cut(put(box.extent, 1), put(box.step, 1))
    return reshaped(b, x, put(x.shape, merged)), put(start, at), put(offsets, by), box


def _only(b: Builder, x: Node, start: Ints, box: Cut, axis: int) -> Node:
    """What is read of all axes but one, of which it is the whole."""
    start = tuple(0 if i == axis else at for i, at in enumerate(start))
    extent = tuple(x.shape[i] if i == axis else n for i, n in enumerate(box.extent))
    if extent == x.shape:
        return x
    stop = tuple(at + n for at, n in zip(start, extent, strict=True))
    step = tuple(1 if i == axis else n for i, n in enumerate(box.step))
    return b.emit("slice", x, start=start, stop=stop, step=step)


def _range(b: Builder, x: Node, axis: int, start: int, stop: int, step: int = 1) -> Node:
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    starts = tuple(start if i == axis else 0 for i in range(len(x.shape)))
    stops = tuple(stop if i == axis else n for i, n in enumerate(x.shape))
    steps = tuple(step if i == axis else 1 for i in range(len(x.shape)))
    return b.emit("slice", x, start=starts, stop=stops, step=steps)


def _in_front(b: Builder, x: Node, axis: int) -> Node:
    if axis == 0:
        return x
    return b.emit("transpose", x, axes=(axis, *(i for i in range(len(x.shape)) if i != axis)))


def _strided(b: Builder, x: Node, axis: int, low: int, by: int, turns: int) -> Node:
    """The elements low, low + by, ... along an axis, which becomes the first one."""
    return _in_front(b, _range(b, x, axis, low, low + (turns - 1) * by + 1, by), axis)


def _blocks(b: Builder, x: Node, axis: int, low: int, box: Cut, by: int, turns: int) -> Node:
    """Windows that do not overlap, one for each turn along a new first axis."""
    stop = low + turns * by
    missing = stop - x.shape[axis]
    if missing > 0:
        # The last window ends before its block does.
        high = tuple(missing if i == axis else 0 for i in range(len(x.shape)))
        zeros = (0,) * len(high)
        x = b.emit("pad", x, low=zeros, high=high, interior=zeros, value=x.dtype.type(0).item())
    x = _range(b, x, axis, low, stop)
    x = reshaped(b, x, (*x.shape[:axis], turns, by, *x.shape[axis + 1 :]))
    return _in_front(b, _range(b, x, axis + 1, 0, box.extent[axis], box.step[axis]), axis)


def applied(b: Builder, x: Node, form: Form, place: Place, turns: int | None = None) -> tuple[Node, int]:
    """A form of `x`, and how many of its cuts that were; with `turns`, of each of so many along a first axis."""
    ahead: Ints = () if turns is None else (turns,)
    cuts = 0
    for step in form:
        if isinstance(step, Shaped):
            x = reshaped(b, x, (*ahead, *step.shape))
            continue
        start = (*(0 for _ in ahead), *place[cuts])
        stop = (*ahead, *(i + n for i, n in zip(place[cuts], step.extent, strict=True)))
        x = b.emit("slice", x, start=start, stop=stop, step=(*(1 for _ in ahead), *step.step))
        cuts += 1
    return x, cuts
