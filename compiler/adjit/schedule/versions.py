"""What is left of an array in a join is read of its latest version, so that one memory has all of them.

    %1 = concatenate %v, (slice %x from 1:)             %1 = concatenate %v, (slice %x from 1:)
    %2 = concatenate %v, (slice %x at 1), ...     =>    %2 = concatenate %v, (slice %1 at 1), ...

Passes read a part where it was made; what changed since then did not change it. Known of joins along one axis alone."""

from __future__ import annotations

from typing import NamedTuple

from adjit.ir.builder import Builder
from adjit.ir.changes import changed, value_of, what_is_left
from adjit.ir.node import Node


class _Change(NamedTuple):
    """What a join changed along its axis."""

    join: Node
    axis: int
    start: int
    stop: int


class Versions:
    """The joins of a graph in the making, each with all changes since the first version."""

    def __init__(self, builder: Builder) -> None:
        self._b = builder
        self._histories: dict[Node, tuple[_Change, ...]] = {}

    def renewed(self, join: Node) -> Node:
        """The join with all that is left in it of the latest version that it reads."""
        left = {number: part for number in range(len(join.args)) if (part := what_is_left(join, number)) is not None}
        if not left:
            return join
        values = [value_of(part.args[0]) for part in left.values()]
        latest = max(values, key=lambda value: len(self._history(value)))
        args = list(join.args)
        for (number, part), value in zip(left.items(), values, strict=True):
            if value is not latest and self._is_unchanged(join, number, value, latest):
                args[number] = self._reading(args[number], part, latest)
        if any(new is not old for new, old in zip(args, join.args, strict=True)):
            join = self._b.emit(join.op, *args, **join.attrs)
        self._note(join)
        return join

    def _history(self, value: Node) -> tuple[_Change, ...]:
        return self._histories.get(value, ())

    def _note(self, join: Node) -> None:
        before = changed(join)
        if before is None:
            return
        changes = []
        for number in range(len(join.args)):
            part = what_is_left(join, number)
            if part is not join.args[number] or value_of(part.args[0]) is not before:
                changes.append(_Change(join, join.attrs["axis"], *_range(join, number)))
        self._histories[join] = (*self._history(before), *changes)

    def _is_unchanged(self, join: Node, number: int, value: Node, latest: Node) -> bool:
        """Whether the place of an operand is in `latest` what it was in `value`."""
        before, after = self._history(value), self._history(latest)
        since = after[len(before) :]
        # The first change tells of which value the others are.
        if after[: len(before)] != before or not since or (changed(since[0].join) is not value):
            return False
        start, stop = _range(join, number)
        axis = join.attrs["axis"]
        return all(change.axis == axis and (change.stop <= start or stop <= change.start) for change in since)

    def _reading(self, operand: Node, part: Node, latest: Node) -> Node:
        """An operand that is made of a part, made of that part of `latest`."""
        b = self._b
        chain = [operand]
        while chain[-1] is not part:
            chain.append(chain[-1].args[0])
        whole = latest if latest.shape == part.args[0].shape else b.emit("reshape", latest, shape=part.args[0].shape)
        for node in reversed(chain):
            whole = b.emit(node.op, whole, *node.args[1:], **node.attrs)
        return whole


def _range(join: Node, number: int) -> tuple[int, int]:
    """Where an operand stands along the axis of a join."""
    axis = join.attrs["axis"]
    start = sum(arg.shape[axis] for arg in join.args[:number])
    return start, start + join.args[number].shape[axis]
