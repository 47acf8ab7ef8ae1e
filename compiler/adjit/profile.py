"""Seeing what a program does: `profile` measures its kernels, `explain` says in words why they are as they are."""

from __future__ import annotations

import ctypes
import html
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.autodiff.fewer import Fewer, keep_fewer
from adjit.autodiff.revolve import forward_steps
from adjit.codegen.cuts import cut_of
from adjit.codegen.emit import assemble, write
from adjit.ir.node import Loc
from adjit.machine import Machine, latest
from adjit.passes.tile import reasons_against
from adjit.roll import LoopFound, describe_rolls
from adjit.schedule.arena import read, written
from adjit.schedule.buffer import Buffer
from adjit.schedule.notation import plural
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import Nested, Straight
from adjit.stages import Record
from adjit_runtime.load import Loaded, address_of
from adjit_runtime.target import Target

WARM = 3
"""Calls before those that count."""


@dataclass(frozen=True)
class Cost:
    """What a kernel has to do at least: floating-point operations, bytes, and of elements of what size."""

    flops: float
    nbytes: float
    itemsize: int


@dataclass(frozen=True)
class Row:
    """One kernel of a profile. `limit` is the share of the machine's limit that it reached, of all its threads."""

    number: int
    what: str
    locs: tuple[Loc, ...]
    seconds: float
    share: float
    work: Cost
    limit: float

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        rate = self.seconds or math.inf
        lines = ", ".join(dict.fromkeys(map(str, self.locs)))
        return [
            str(self.number), self.what, lines, f"{self.seconds * 1e6:.1f}", f"{self.share:.1%}", _si(self.work.nbytes),
            f"{self.work.nbytes / rate * 1e-9:.1f}", f"{self.work.flops / rate * 1e-9:.1f}", f"{self.limit:.0%}",
        ]  # fmt: skip


HEADS = ["kernel", "what", "lines", "us", "share", "bytes", "GB/s", "GFLOP/s", "of limit"]
RIGHT = {0, 3, 4, 5, 6, 7, 8}
"""Columns of numbers."""


class Profile:
    """A table, one row for each kernel: text in terminals, a table of rich, HTML in notebooks.

    `rows` are `Row`s in the order in which kernels run; `seconds` is a whole call, as the median of `calls`."""

    def __init__(self, name: str, rows: Sequence[Row], seconds: float, calls: int, where: Machine) -> None:
        self.name, self.rows, self.seconds, self.calls, self.machine = name, list(rows), seconds, calls, where

    @property
    def title(self) -> str:
        """One line above the table."""
        threads = self.machine.threads
        note = ", whose limits were measured while something else ran" if self.machine.disturbed else ""
        return (
            f"{self.name}: {self.seconds * 1e6:.1f} us a call, median of {self.calls}; "
            f"{threads} thread{plural(threads)} of {self.machine.target.cpu}{note}"
        )

    def __str__(self) -> str:
        table = [HEADS, *(row.cells for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(HEADS))]

        def text(line: list[str]) -> str:
            cells = (
                c.rjust(w) if i in RIGHT else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        return "\n".join([self.title, *map(text, table)])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table(title=self.title)
        for i, head in enumerate(HEADS):
            table.add_column(head, justify="right" if i in RIGHT else "left")
        for row in self.rows:
            table.add_row(*row.cells)
        return table

    def to_html(self) -> str:
        """The table for a notebook."""

        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        rows = "".join(line(row.cells, "td") for row in self.rows)
        return f"<table><caption>{html.escape(self.title)}</caption>{line(HEADS, 'th')}{rows}</table>"

    _repr_html_ = to_html


class Explanation:
    """A paragraph for each kernel; prints as text. `paragraphs` pairs a heading with its sentences."""

    def __init__(self, name: str, paragraphs: Sequence[tuple[str, list[str]]]) -> None:
        self.name, self.paragraphs = name, list(paragraphs)

    def __str__(self) -> str:
        parts = [f"{head}\n" + "\n".join(f"    {line}" for line in lines) for head, lines in self.paragraphs]
        return "\n".join(parts)

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.table import Table

        table = Table("kernel", "why", title=self.name, show_lines=True)
        for head, lines in self.paragraphs:
            table.add_row(head, "\n".join(lines))
        return table

    def to_html(self) -> str:
        """The paragraphs for a notebook."""
        rows = "".join(
            f"<dt>{html.escape(head)}</dt><dd>{'<br>'.join(map(html.escape, lines))}</dd>"
            for head, lines in self.paragraphs
        )
        return f"<dl>{rows}</dl>"

    _repr_html_ = to_html


# -- measuring ------------------------------------------------------------------------------------------------------


def profile(record: Record, name: str, inputs: Sequence[np.ndarray], calls: int) -> Profile:
    """Run the program of a record `calls` times on copies of `inputs`, with a clock between its kernels.

    Times are medians: the few calls that something else came into do not move them."""
    options = record.options
    plan: Plan = record.made("plan").plan
    program = assemble(write(plan, options.target, options.flush, timed=True))
    loaded = Loaded(program, options.target)
    slots = program.slots
    arrays = {number: np.array(value) for number, value in zip(program.inputs, inputs, strict=True)}
    for number in program.outputs:
        arrays[number] = np.empty(slots[number].shape, slots[number].dtype)
    table = (ctypes.c_void_p * len(slots))()
    for number in range(len(slots)):
        table[number] = address_of(arrays[number]) if number in arrays else loaded.constant_addresses[number]
    kernels = plan.kernels
    report = np.zeros(2 + len(kernels), np.int64)
    arena = loaded.borrow_arena()

    pointers = (ctypes.addressof(table), address_of(arena), address_of(report))

    def run() -> float:
        begun = time.perf_counter()
        status = loaded.entry(*pointers)
        spent = time.perf_counter() - begun
        if status:
            raise loaded.failure(status, report)
        return spent

    for _ in range(WARM):
        run()
    spent, passed = np.empty(calls), np.empty((calls, len(kernels)))
    for i in range(calls):
        report[:] = 0
        spent[i] = run()
        passed[i] = report[2:]
    seconds, ticks = float(np.median(spent)), np.median(passed, axis=0)
    # A straight line has one kernel and no clock.
    shares = ticks / ticks.sum() if ticks.sum() else np.full(len(kernels), 1.0 / max(len(kernels), 1))
    where = latest()
    rows = [
        _row(number, kernel, float(share), seconds, where, options.target)
        for number, (kernel, share) in enumerate(zip(kernels, shares, strict=True))
    ]
    return Profile(name, rows, seconds, calls, where)


def _row(number: int, kernel: Kernel, share: float, seconds: float, where: Machine, target: Target) -> Row:
    work = work_of(kernel)
    spent = share * seconds
    threads = where.threads if is_shared(kernel, target) else 1
    limit = where.limit(work.flops, work.nbytes, work.itemsize) / threads
    return Row(number, kernel.work.describe(), tuple(kernel.locs), spent, share, work, limit / spent if spent else 0.0)


def work_of(kernel: Kernel) -> Cost:
    """What a kernel computes and moves: each element once, however often it is read."""
    work = kernel.work
    return Cost(work.flops, work.nbytes(kernel.params), work.itemsize)


def is_shared(kernel: Kernel, target: Target) -> bool:
    """Whether several threads work on a kernel."""
    work = kernel.work
    return work.is_shared or any(alone and cut_of(part, target) is not None for part, alone, _ in work.singles())


def _si(nbytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} GB"


# -- explaining -----------------------------------------------------------------------------------------------------


def explain(record: Record, name: str) -> Explanation:
    """Why each kernel of a program's plan is a kernel of its own, in tiles or not, on several threads or not."""
    made = record.until("plan")
    plan: Plan = made["plan"].plan
    readers: dict[Buffer, list[int]] = {}
    for number, kernel in enumerate(plan.kernels):
        for buffer in read(kernel):
            readers.setdefault(buffer, []).append(number)
    paragraphs = [
        (
            f"kernel {number}: {kernel.work.describe()}{_where(kernel)}",
            _sentences(plan, number, kernel, readers, record.options.target),
        )
        for number, kernel in enumerate(plan.kernels)
    ]
    if not any(kernel.inner is not None or isinstance(kernel.work, Straight) for kernel in plan.kernels):
        paragraphs.append(("not in tiles of rows", reasons_against(made["passes"])))
    loops = [
        ("rolled up", _rolled(made)),
        ("computed again for the gradient", _again(made, Fewer() if record.forward else record.options.loops.fewer)),
    ]
    note = made["plan"].note
    loops.append(("limit of memory", [f"{note}."] if note else []))
    return Explanation(name, [*paragraphs, *(paragraph for paragraph in loops if paragraph[1])])


def _again(made: Mapping[str, Any], fewer: Fewer) -> list[str]:
    """The loops of which a gradient keeps some states, and the steps forward that it takes to have them all."""
    if "roll" not in made or "adjoint" not in made:
        return []
    # A loop without a most number of turns may have states though nobody asked for them.
    kept = {(node.attrs["body"].name, node.loc): node.attrs["checkpoints"]
            for node in made["adjoint"].all_nodes() if node.attrs.get("stretches", False)}  # fmt: skip
    found = []
    for node in keep_fewer(made["roll"], fewer).all_nodes():
        if node.op.kind != "scan":
            continue
        length, body, carried = node.attrs["length"], node.attrs["body"], node.attrs["carried"]
        counts = node.attrs.get("counted", False) or node.attrs.get("stops", False)
        asked = node.attrs.get("checkpoints", 0)
        count = kept.get((f"{body.name}_again", node.loc), asked) if counts else asked
        where = f" ({node.loc})" if node.loc is not None else ""
        if not count:
            continue
        if length == 1:
            found.append(f"Nothing is kept of what @{body.name} computes{where}.")
            continue
        pairs = zip(body.inputs[:carried], body.outputs, strict=False)
        nbytes = sum(before.array_type.nbytes for before, after in pairs if before is not after)
        if counts:
            found.append(
                f"Of the turns of @{body.name}{where}, as many as run, {count} states of {_si(nbytes)} are kept."
            )
            continue
        found.append(
            f"Of the {length} turns of @{body.name}{where}, {min(count, length)} states of {_si(nbytes)} are kept: "
            f"{forward_steps(length, count)} steps forward in all."
        )
    return list(dict.fromkeys(found))


def _rolled(made: Mapping[str, Any]) -> list[str]:
    """The loops that Python unrolled and the compiler rolled up: those that the trace did not have."""
    if "roll" not in made or "trace" not in made:
        return []
    written = Counter(describe_rolls(made["trace"]))
    return [f"{found}." for found in describe_rolls(made["roll"]) if not _taken(written, found)]


def _taken(left: Counter[LoopFound], found: LoopFound) -> bool:
    left[found] -= 1
    return left[found] >= 0


def _where(kernel: Kernel) -> str:
    lines = ", ".join(dict.fromkeys(map(str, kernel.locs)))
    return f"  ({lines})" if lines else ""


def _sentences(plan: Plan, number: int, kernel: Kernel, readers: dict[Buffer, list[int]], target: Target) -> list[str]:
    lines = [kernel.work.explain()]
    if isinstance(kernel.work, Straight):
        return lines
    for buffer in sorted(written(kernel), key=lambda b: b.name):
        after = [n for n in readers.get(buffer, []) if n > number]
        if buffer.slot is not None or not after:
            continue
        others = ", ".join(f"kernel {n} {_why_apart(kernel, plan.kernels[n], buffer)}" for n in after[:3])
        more = f" and {len(after) - 3} more" if len(after) > 3 else ""
        lines.append(f"Writes %{buffer.name} ({_si(buffer.nbytes)}) to memory, because {others}{more}.")
    lines.append(_threads(kernel, target))
    return lines


def _why_apart(writer: Kernel, reader: Kernel, buffer: Buffer) -> str:
    mine = {number for number, (other, _) in enumerate(reader.params) if other is buffer}
    return reader.work.why_apart(writer.work, mine)


def _threads(kernel: Kernel, target: Target) -> str:
    work = kernel.work
    if work.has_turns and not is_shared(kernel, target):
        return "On one thread: each turn needs the one before."
    if work.has_turns:
        return "The threads of the pool take parts of the large kernels of each turn."
    if isinstance(work, Nested):
        return f"Its {work.groups} groups of tiles run on the threads of the pool, each with sums of its own."
    cut = cut_of(work, target)
    if cut is not None and cut.short:
        return (
            "Large enough for the threads of the pool, which take parts of it while the program finds this faster than "
            "one thread."
        )
    if cut is not None:
        return "Large enough for the threads of the pool, which take parts of it."
    if work.in_order:
        return "On one thread: its elements come one after the other."
    body = work.elements
    if not work.operands and body is not None and body.reduced and work.flops > 1e6:
        return "On one thread: one long reduction, whose order must not depend on the number of threads."
    return "On one thread: too little work to share."
