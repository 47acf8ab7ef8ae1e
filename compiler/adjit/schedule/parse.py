"""`parse_plan` reads the text that `schedule.text` prints; what does not parse raises FormatError with line and caret.

What a plan has twice is read from one place: a body's dtypes are those of the buffers that it names, the dtype of a
product is that of A, and what is nested is made anew from the plan of a turn. Whether a plan holds is asked
of `verify_plan`: what is read here may reach memory that is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from adjit.ir.graph import MOST_NESTED
from adjit.ir.node import Data, Loc
from adjit.ir.parse import Reader
from adjit.ir.quote import printable
from adjit.ir.tokens import Token, loc_of
from adjit.ir.types import I64, Array
from adjit.schedule.across import Across
from adjit.schedule.buffer import Buffer, Param
from adjit.schedule.nested import nested
from adjit.schedule.parse_body import BodyReader
from adjit.schedule.parse_work import Head
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import NestedStep, Straight, StraightLoop
from adjit.schedule.work import Loop, Prefetch, Single, Work
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.program import Check, Slot

ROLES = ("input", "state", "output", "constant")

_BETWEEN = re.compile(r"(?<=[0-9]), ")


@dataclass(frozen=True, slots=True)
class _Line:
    """What the text has of the nodes of a kernel: a line that they come from."""

    loc: Loc | None


def parse_plan(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Plan:
    """The plan that `text` prints. `constants` binds arrays that the text has by their digests alone, by the names of
    their buffers or, of a straight line, in its graph; one that is not bound keeps its name, and cannot be run.

    Raises FormatError, with line and caret, for everything that is no plan, and ArgumentError for arguments that are no
    text and no mapping.

    >>> from adjit.schedule.text import print_plan
    >>> text = "plan @f  arena 0 bytes (0 without reuse), peak 0 bytes\\nunused %x : f32[2] input slot 0\\n"
    >>> print_plan(parse_plan(text)) == text
    True
    """
    if not isinstance(text, str):
        raise ArgumentError(f"parse_plan: text is a str, not {checks.kind(text)}")
    if constants is not None and not isinstance(constants, Mapping):
        raise ArgumentError(f"parse_plan: constants is a mapping from names to arrays, not {checks.kind(constants)}")
    reader = Reader(text, constants or {})
    plan = _Plan(reader).read()
    reader.expect("end", "")
    return plan


class _Plan:
    """One plan of the text; that of a turn stands in the plan around it, at a larger `depth`."""

    def __init__(self, reader: Reader, depth: int = 0) -> None:
        self.reader = reader
        self.depth = depth
        self.named: dict[str, Buffer] = {}
        self.inside: list[tuple[Buffer, Token]] = []
        self.slots: dict[int, Slot] = {}
        self.constants: dict[int, Data] = {}
        self.checks: list[Check] = []
        self.kernels: list[Kernel] = []
        self.works: dict[Work, Work] = {}

    def read(self) -> Plan:
        reader = self.reader
        start = reader.expect("word", "plan")
        name = reader.unquoted(reader.expect("name"))
        reader.expect("word", "arena")
        arena = self._bytes()
        reader.expect("sign", "(")
        without_reuse = reader.natural()
        reader.expect("word", "without")
        reader.expect("word", "reuse")
        reader.expect("sign", ")")
        reader.expect("sign", ",")
        reader.expect("word", "peak")
        peak = self._bytes()
        peak_loc = reader.loc()
        while reader.token.text in ("buffer", "unused"):
            self._memory()
        self._find_homes()
        while reader.accept("word", "check"):
            self._check()
        while reader.accept("word", "kernel"):
            self._kernel()
        self._note_uses()
        missing = next((number for number in range(len(self.slots)) if number not in self.slots), None)
        if missing is not None:
            reader.fail(f"nothing has slot {missing}", start)
        slots = tuple(self.slots[number] for number in range(len(self.slots)))
        inputs = tuple(number for number, slot in enumerate(slots) if slot.role in ("input", "state"))
        outputs = tuple(number for number, slot in enumerate(slots) if slot.role == "output")
        return Plan(
            name, tuple(self.kernels), tuple(self.named.values()), arena, without_reuse, peak, peak_loc, slots, inputs,
            outputs, tuple(self.checks), self.constants,
        )  # fmt: skip

    def _bytes(self) -> int:
        found = self.reader.natural()
        self.reader.expect("word", "bytes")
        return found

    # -- memory -------------------------------------------------------------------------------------------------------

    def _memory(self) -> None:
        """A line that begins with `buffer` or `unused`."""
        reader = self.reader
        is_used = reader.take().text == "buffer"
        token = reader.expect("node")
        name = reader.unquoted(token)
        reader.expect("sign", ":")
        at = reader.token
        type = reader.array_type()
        if is_used and name in self.named:
            reader.fail(f"{token.text} is there twice", token)
        if is_used and reader.accept("word", "arena"):
            self.named[name] = self._in_arena(name, type, at)
            return
        number, slot = self._slot(token, type)
        if is_used:
            self.named[name] = Buffer(printable(slot.name), type.dtype, type.size, slot=number)

    def _slot(self, name: Token, type: Array) -> tuple[int, Slot]:
        reader = self.reader
        role = reader.expect("word")
        if role.text not in ROLES:
            reader.fail(f"expected one of {', '.join(ROLES)}, found {role.text!r}", role)
        reader.expect("word", "slot")
        at = reader.token
        number = reader.natural()
        if number in self.slots:
            reader.fail(f"slot {number} is there twice", at)
        own = reader.accept("string")
        slot = Slot(reader.unquoted(own or name), role.text, type.dtype.str, type.shape, type.weak)
        self.slots[number] = slot
        if role.text == "constant":
            bracket = reader.accept("sign", "[")
            if bracket is not None:
                array = reader.array(reader.sequence("]", reader.literal_token), type, bracket)
                self.constants[number] = Data.of(array, slot.name)
            else:
                self.constants[number] = reader.bound(name, reader.expect("digest"), type)
        return number, slot

    def _in_arena(self, name: str, type: Array, at: Token) -> Buffer:
        reader = self.reader
        if type.ndim != 1:
            reader.fail("what lies in the arena has one dimension", at)
        reader.expect("sign", "+")
        buffer = Buffer(name, type.dtype, type.size, offset=reader.natural())
        if reader.accept("word", "in"):
            reader.expect("word", "place")
            reader.expect("word", "of")
            self.inside.append((buffer, reader.expect("node")))
        reader.expect("word", "kernels")
        token = reader.expect("range")
        buffer.first, buffer.last = (
            int(reader.scalar(Token("number", part, token.start), I64)) for part in token.text.split("..")
        )
        buffer.loc = reader.loc()
        return buffer

    def _find_homes(self) -> None:
        """What buffers lie in place of, which may stand on a later line, and the first of each chain."""
        for buffer, token in self.inside:
            buffer.inside = self._buffer(token)
            if buffer.inside.slot is not None:
                self.reader.fail(f"{token.text} does not lie in the arena", token)
        for buffer, token in self.inside:
            chain: dict[Buffer, None] = {}
            at = buffer
            while at.inside is not None and at.home is None:
                if at in chain:
                    self.reader.fail(f"%{buffer.name} lies in place of itself", token)
                chain[at] = None
                at = at.inside
            for each in chain:
                each.home = at.home or at

    def _note_uses(self) -> None:
        """The first and the last kernel of what lies in slots, which the text does not tell."""
        for number, kernel in enumerate(self.kernels):
            for buffer, _ in kernel.params:
                if buffer.slot is not None:
                    buffer.first = number if buffer.first < 0 else buffer.first
                    buffer.last = number

    def _buffer(self, token: Token) -> Buffer:
        found = self.named.get(self.reader.unquoted(token))
        if found is None:
            self.reader.fail(f"{token.text} is no buffer", token)
        return found

    def place(self) -> Param:
        """`%x`, or `%x+8`."""
        reader = self.reader
        buffer = self._buffer(reader.expect("node"))
        if reader.accept("sign", "+"):
            return buffer, reader.natural()
        is_before = reader.token.kind == "number" and reader.token.text.startswith("-")
        return buffer, reader.integer() if is_before else 0

    def _places(self) -> list[Param]:
        found = []
        while self.reader.token.kind == "node":
            found.append(self.place())
        return found

    def _check(self) -> None:
        reader = self.reader
        reader.expect("number", str(len(self.checks)))
        reader.expect("word", "raises")
        error, before = (reader.unquoted(reader.expect("string")) for _ in range(2))
        after = reader.unquoted(reader.expect("string")) if reader.accept("word", "value") else None
        loop = reader.unquoted(reader.expect("string")) if reader.accept("word", "loop") else ""
        self.checks.append(Check(error, before, after, loop))

    # -- kernels ------------------------------------------------------------------------------------------------------

    def _kernel(self) -> None:
        reader = self.reader
        reader.expect("number", str(len(self.kernels)))
        token = reader.token
        if token.kind == "number":
            self.kernels.append(self._nested())
        elif reader.accept("word", "straight"):
            reader.expect("word", "line")
            self.kernels.append(self._straight_loop() if reader.token.kind == "number" else self._straight(token))
        elif reader.accept("word", "across"):
            self.kernels.append(self._across())
        else:
            self.kernels.append(self._single())

    def _lines(self) -> tuple[_Line, ...]:
        """The lines of source after the token that was read last."""
        found = map(loc_of, _BETWEEN.split(self.reader.comment()))
        return tuple(_Line(loc) for loc in found if loc is not None)

    def _single(self) -> Kernel:
        reader = self.reader
        head = Head(reader, self.place, len(self.checks)).read()
        commits = reader.accept("word", "commit") is not None
        listed = self._listed(head) if reader.accept("word", "on") else None
        lines = self._lines()
        if listed is None and reader.accept("word", "as"):
            work, params = self._same(head)
        else:
            work, params = head.finish(listed)
        return Kernel(self.works.setdefault(work, work), tuple(params), lines, commits)

    def _listed(self, head: Head) -> list[Param]:
        start = self.reader.token
        params = self._places()
        if params[: len(head.params)] != head.params:
            self.reader.fail("the first places are not those that the kernel names ahead", start)
        return params

    def _same(self, head: Head) -> tuple[Single, list[Param]]:
        """`as kernel 3, on %x %y`: the work of an earlier kernel."""
        reader = self.reader
        reader.expect("word", "kernel")
        at = reader.token
        number = reader.natural()
        reader.expect("sign", ",")
        reader.expect("word", "on")
        params = self._listed(head)
        other = self.kernels[number] if number < len(self.kernels) else None
        body = other.work.elements if other is not None else None
        if other is None or body is None or head.made(body) != other.work:
            reader.fail(f"kernel {number} is not before, or is another work than this line says", at)
        if tuple(buffer.dtype for buffer, _ in params[len(head.params) :]) != body.params:
            reader.fail(f"the places are not of the dtypes of those of kernel {number}", at)
        return head.made(body), params

    def _straight(self, at: Token) -> Kernel:
        reader = self.reader
        if self.depth:
            reader.fail("a straight line is a whole plan; in a loop it has turns", at)
        reader.expect("word", "on")
        params = tuple(self._places())
        lines = self._lines()
        return Kernel(Straight(reader.graph()), params, lines)

    def _straight_loop(self) -> Kernel:
        """`100 turns carried 2 checks 0 on %c %x by 1 %y by 1`, then a graph."""
        reader = self.reader
        count = reader.natural()
        reader.expect("word", "turns")
        ways = self._ways()
        reader.expect("word", "carried")
        carried = reader.natural()
        first_check = self._first_check()
        reader.expect("word", "on")
        params, turns = self._moving()
        lines = self._lines()
        turns = turns[: len(turns) - ways["counted"]]
        work = StraightLoop(reader.graph(), count, carried, tuple(turns), **ways, first_check=first_check)
        return Kernel(self.works.setdefault(work, work), tuple(params), lines)

    def _across(self) -> Kernel:
        """`1000 on %x by 16 %y by 4`, then a graph."""
        count = self.reader.natural()
        self.reader.expect("word", "on")
        params, turns = self._moving()
        lines = self._lines()
        work = Across(self.reader.graph(), count, tuple(turns))
        return Kernel(self.works.setdefault(work, work), tuple(params), lines)

    def _ways(self) -> dict[str, bool]:
        """How a loop goes through its turns."""
        return {
            name: self.reader.accept("word", name) is not None for name in ("reverse", "stops", "counted", "ranged")
        }

    def _first_check(self) -> int | None:
        return self.reader.natural() if self.reader.accept("word", "checks") else None

    def _moving(self) -> tuple[list[Param], list[int]]:
        """Places, and by how many elements each moves with a turn."""
        places, turns = [], []
        while self.reader.token.kind == "node":
            places.append(self.place())
            turns.append(self.reader.integer() if self.reader.accept("word", "by") else 0)
        return places, turns

    def _nested(self) -> Kernel:
        reader = self.reader
        start = reader.token
        if self.depth > MOST_NESTED:
            reader.fail(f"plans lie more than {MOST_NESTED} deep in one another", start)
        count, groups = reader.natural(), 1
        reader.expect("word", "turns")
        if reader.accept("word", "in"):
            groups = reader.natural()
            reader.expect("word", "groups")
        if not 1 <= groups <= count:
            reader.fail(f"{count} turns are not in {groups} groups", start)
        ways = self._ways()
        stretches = reader.accept("word", "stretches") is not None
        first_check = self._first_check()
        reader.expect("word", "on")
        params, turns = self._moving()
        reader.expect("sign", "{")
        lines = self._lines()
        turn = _Plan(reader, self.depth + 1)
        inner = turn.read()
        if len(params) != len(inner.slots) + 1 + ways["counted"]:
            reader.fail(f"{len(params)} places for {len(inner.slots)} slots and scratch memory of a turn", start)
        moves = {n: step * params[n][0].dtype.itemsize for n, step in enumerate(turns[: len(inner.slots)]) if step}
        if (first_check is None) != (not inner.checks):
            reader.fail("the number of the first check is there where a turn has checks", start)
        work = nested(inner, count, groups, moves, first_check, **ways, stretches=stretches)
        work = replace(work, steps=turn.prefetching(work.steps))
        reader.expect("sign", "}")
        return Kernel(self.works.setdefault(work, work), tuple(params), lines, inner=inner)

    def prefetching(self, steps: tuple[NestedStep, ...]) -> tuple[NestedStep, ...]:
        """The steps of this tile, with what the lines `prefetch in kernel 0: ...` say."""
        found: dict[int, list[Prefetch]] = {}
        bodies: dict[int, BodyReader] = {}
        while self.reader.accept("word", "prefetch"):
            number, prefetch = self._prefetch(bodies)
            found.setdefault(number, []).append(prefetch)
        result = list(steps)
        for number, prefetches in found.items():
            work = result[number].work
            assert isinstance(work, Loop)
            result[number] = replace(result[number], work=replace(work, prefetches=tuple(prefetches)))
        return tuple(result)

    def _prefetch(self, bodies: dict[int, BodyReader]) -> tuple[int, Prefetch]:
        """`in kernel 0: 4 lines of %x0 for each d0, 19648 bytes on`: the number of the kernel, a loop."""
        reader = self.reader
        reader.expect("word", "in")
        reader.expect("word", "kernel")
        at = reader.token
        number = reader.natural()
        if number not in bodies:
            kernel = self.kernels[number] if number < len(self.kernels) else None
            if kernel is None or not isinstance(kernel.work, Loop):
                reader.fail(f"kernel {number} of the tile is no loop", at)
            rank = len(kernel.work.body.domain)
            bodies[number] = BodyReader(reader, self.place, rank, 0, kernel.params, (), None)
        reader.expect("sign", ":")
        lines = reader.natural()
        reader.expect("word", "lines")
        reader.expect("word", "of")
        param, _ = bodies[number].param()
        reader.expect("word", "for")
        reader.expect("word", "each")
        dim = bodies[number].dim()
        reader.expect("sign", ",")
        start = reader.natural()
        reader.expect("word", "bytes")
        reader.expect("word", "on")
        return number, Prefetch(param, dim, start, lines)
