"""Kernels that factor matrices: small ones in vectors, larger ones by LAPACK; parts of many for threads."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.cuts import cut_of
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.factoring.lapack import LIBRARY, emit_calls, workspace_bytes
from adjit.codegen.factoring.small import emit_small
from adjit.codegen.jobs import open_job, parts_for, range_of, run_job
from adjit.codegen.llvm import Function, Value, int_literal
from adjit.schedule.factors import Factored
from adjit.tuned import TILE_GROUPS
from adjit_runtime.program import ALIGN
from adjit_runtime.target import Target


class FactoredEmitter(Emitter[Factored]):
    """A loop over matrices, or a job of parts of one."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: Factored, how: How) -> None:
        """Write the loop."""
        cut = cut_of(work, how.target) if how.parallel else None
        if cut is None:
            _emit(f, params, work, int_literal(0), int_literal(work.count), how.target)
            return
        job, given, part, parts = open_job(f.module, f"{name}_part", len(params))
        low, high = range_of(job, part, parts, cut)
        given[-1] = job.offset(given[-1], job.mul(part, _each_bytes(work)))
        _emit(job, given, work, low, high, how.target)
        job.ret()
        run_job(f, params, job, parts_for(f, cut))

    def is_glue(self, work: Factored, how: How) -> bool:
        """Its code calls others where matrices are not small."""
        return not work.is_small

    def packing_bytes(self, work: Factored, target: Target, parallel: bool) -> int:
        """A workspace for each part that threads may take, or of the loop that it is in."""
        cut = cut_of(work, target)
        parts = TILE_GROUPS if not parallel else cut.parts if cut is not None else 1
        return _each_bytes(work) * parts

    def libraries(self, work: Factored, target: Target, parallel: bool) -> list[str]:
        """LAPACK's, where it is called."""
        return [] if work.is_small or 0 in work.extents else [LIBRARY]


def _each_bytes(work: Factored) -> int:
    return 0 if work.is_small else -(-workspace_bytes(work) // ALIGN) * ALIGN


def _emit(f: Function, params: Sequence[Value], work: Factored, low: Value, high: Value, target: Target) -> None:
    *places, workspace = params
    if work.is_small:
        lanes = min(target.vector_bytes // work.itemsize, 1 << (work.count - 1).bit_length())
        emit_small(f, work, places, low, high, max(lanes, 2))
    else:
        emit_calls(f, work, places, workspace, low, high)
