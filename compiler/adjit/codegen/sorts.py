"""Kernels that sort: calls of the library row by row, or networks for many short rows; threads share rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjit.codegen.cuts import cut_of
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.jobs import open_job, parts_for, range_of, run_job
from adjit.codegen.llvm import VOID, Function, Value, int_literal, memory_type
from adjit.codegen.sorting import emit_rows, sorting_library, workspace_bytes
from adjit.schedule.sorts import Sorted
from adjit.tuned import TILE_GROUPS
from adjit_runtime.target import Target


class SortedEmitter(Emitter[Sorted]):
    """A loop over rows, or a job of parts of one."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: Sorted, how: How) -> None:
        """Write the loop."""
        cut = cut_of(work, how.target) if how.parallel else None
        if cut is None:
            _sort_rows(f, params, work, (int_literal(0), int_literal(work.rows)), how.target)
            return
        job, given, part, parts = open_job(f.module, f"{name}_part", len(params))
        low, high = range_of(job, part, parts, cut)
        given[-1] = job.offset(given[-1], job.mul(part, _row_bytes(work)))
        each = work.rows // cut.extent
        _sort_rows(job, given, work, (job.mul(low, each), job.mul(high, each)), how.target)
        job.ret()
        run_job(f, params, job, parts_for(f, cut))

    def is_glue(self, work: Sorted, how: How) -> bool:
        """Its code is networks, or a call for each row."""
        return False

    def packing_bytes(self, work: Sorted, target: Target, parallel: bool) -> int:
        """A workspace for each part that threads may take of the rows, or of the loop that it is in."""
        cut = cut_of(work, target)
        parts = TILE_GROUPS if not parallel else cut.parts if cut is not None else 1
        return _row_bytes(work) * parts

    def libraries(self, work: Sorted, target: Target, parallel: bool) -> list[str]:
        """The one that sorts a row, unless a network sorts all of them."""
        return [] if 0 in work.extents or not _calls(work) else [sorting_library(work.dtype, work.positions)]


def _calls(work: Sorted) -> bool:
    """Whether rows go to the library: floats that a network does not tell apart do so, too."""
    return not work.by_network or (work.dtype.kind == "f" and not work.positions)


def _row_bytes(work: Sorted) -> int:
    return workspace_bytes(work.dtype, work.positions, work.n) if _calls(work) else 0


def _sort_rows(f: Function, params: Sequence[Value], work: Sorted, rows: tuple[Value, Value], target: Target) -> None:
    """Sort a range of the rows, numbered through (outer, inner)."""
    x, out, workspace = params
    one = _row_call(f, work, workspace)
    if work.by_network:
        emit_rows(f, work, (x, out), rows, target, one)
        return

    def row(number: Value, _: list[Value]) -> list[Value]:
        outer = f.binary("udiv", number, int_literal(max(work.inner, 1)))
        start = f.add(number, f.mul(outer, (work.n - 1) * work.inner))
        one(f.element(x, memory_type(work.dtype), start), f.element(out, memory_type(work.result), start))
        return []

    f.loop(*rows, 1, [], row)


def _row_call(f: Function, work: Sorted, workspace: Value) -> Callable[[Value, Value], None]:
    step, n = int_literal(work.inner), int_literal(work.n)
    name = f"adjit_{sorting_library(work.dtype, work.positions)}"

    def call(x: Value, out: Value) -> None:
        f.call(name, VOID, [x, step, out, step, n, workspace])

    return call
