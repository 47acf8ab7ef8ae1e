"""The emitters' table, one for each kind of work: it becomes a function of the module, or a part of one that runs it.

Kernels take one pointer for each parameter. A product takes its packing memory too; a check also takes the
report and returns 0, or its number + 1; one that is left for a signal returns 0 or INTERRUPTED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjit.codegen.across import AcrossEmitter
from adjit.codegen.analysis import analyse, lanes_of, lanes_together, vector_dimension
from adjit.codegen.cuts import Cut, cut_of
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.factors import FactoredEmitter
from adjit.codegen.jobs import open_job, parts_for, range_of, range_of_turn, run_job
from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal, memory_type
from adjit.codegen.nest import Nest
from adjit.codegen.products import ProductEmitter
from adjit.codegen.signals import effort
from adjit.codegen.sorts import SortedEmitter
from adjit.codegen.vectorized import Scope
from adjit.schedule.across import Across
from adjit.schedule.factors import Factored
from adjit.schedule.instructions import Body
from adjit.schedule.sorts import Sorted
from adjit.schedule.work import CheckRange, Loop, Product, Running, Scatter, Single
from adjit.tuned import REDUCTION_JAM, TURN_EFFORT
from adjit_runtime.target import Target


def emit_kernel(module: Module, name: str, work: Single, how: How) -> Function:
    """Write the function of one kernel: it has a status where it may be left."""
    has_status = work.may_fail or how.ranges > 0
    body = work.elements
    count = work.operands + (len(body.params) if body is not None else 0) + work.packs + work.reports
    params = [(PTR, f"p{i}") for i in range(count)]
    function = module.function(name, I64 if has_status else VOID, params, internal=True, glue=is_glue(work, how))
    write_kernel(function, function.params, name, work, how)
    function.ret(int_literal(0) if has_status else None)
    return function


def emitter_of(work: Single) -> Emitter[Any]:
    """The emitter of a kind of work."""
    return EMITTERS[type(work)]


def is_glue(work: Single, how: How) -> bool:
    """Whether a kernel's own code only calls others, or is light."""
    return emitter_of(work).is_glue(work, how)


def write_kernel(f: Function, params: Sequence[Value], name: str, work: Single, how: How) -> None:
    """Write a kernel into `f`, as `Emitter.write` says. Where a check fails, or between its ranges a handler of a
    signal raises, `f` returns."""
    if 0 not in work.extents:
        # It touches no memory else: the loads that stand before its loops would.
        emitter_of(work).write(f, params, name, work, how)


class LoopEmitter(Emitter[Loop]):
    """A loop nest, or a job of parts of one."""

    def is_glue(self, work: Loop, how: How) -> bool:
        """Whether it is light, or its parts are functions of their own."""
        return how.light or (how.parallel and cut_of(work, how.target) is not None)

    def ranges(self, work: Loop, target: Target) -> int:
        """As much work in each as between two polls; only what threads may share is cut."""
        cut = cut_of(work, target)
        if cut is None:
            return 0
        ranges = min(int(effort(work, target) // TURN_EFFORT), cut.extent // cut.unit)
        return ranges if ranges > 1 else 0

    def write(self, f: Function, params: Sequence[Value], name: str, work: Loop, how: How) -> None:
        """Write the nest."""
        body = work.body
        lanes = lanes_of(body, how.target.vector_bytes)
        vector = vector_dimension(body, lanes, range(len(body.domain)))
        lanes = lanes_together(body, lanes, vector, how.target)
        cut = cut_of(work, how.target) if how.parallel else None
        if cut is None:
            Nest(f, body, dict(enumerate(params)), lanes, vector, prefetches=work.prefetches).run()
            return
        job = _part_of_loop(f.module, f"{name}_part", body, cut, lanes, vector, how.ranges > 0)
        run_job(f, params, job, parts_for(f, cut), how.ranges)


def _part_of_loop(
    module: Module, name: str, body: Body, cut: Cut, lanes: int, vector: int | None, in_turns: bool
) -> Function:
    """The job of one thread: a range of one dimension, along which no element depends on another."""
    f, params, part, parts = open_job(module, name, len(body.params))
    at, ranges = range_of_turn(f, len(body.params), part, parts) if in_turns else (part, parts)
    low, high = range_of(f, at, ranges, cut)
    # Columns of a reduction go by whole units.
    columns = cut.dim == vector and bool(body.reduced)
    Nest(
        *(f, body, dict(enumerate(params)), lanes, vector),
        ranges={cut.dim: (low, high)},
        whole_only=columns and cut.extent % cut.unit == 0,
        most_copies=max(1, cut.unit // lanes) if columns else REDUCTION_JAM,
    ).run()
    f.ret()
    return f


class RunningEmitter(Emitter[Running]):
    """A loop nest whose innermost loop carries a result."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: Running, how: How) -> None:
        """Write the nest."""
        body = work.body
        lanes = lanes_of(body, how.target.vector_bytes)
        free = [d for d in range(len(body.domain)) if d not in body.reduced]
        vector = vector_dimension(body, lanes, free)
        Nest(f, body, dict(enumerate(params)), lanes, vector, running=True, reverse=work.reverse).run()


class ScatterEmitter(Emitter[Scatter]):
    """A loop nest that ends in stores at computed places."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: Scatter, how: How) -> None:
        """Write the nest."""
        body = work.body
        last = len(body.domain) - 1
        along = analyse(body).varies[work.at]
        wide = last >= 0 and work.coefficients[last] == 1 and last not in along and body.domain[last] > 1
        lanes = lanes_of(body, how.target.vector_bytes)
        dtype = body.code[work.value].dtype
        memory = memory_type(dtype)

        def sink(nest: Nest, scope: Scope) -> None:
            at = scope.values[work.at].value
            at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(work.size - 1, 0))))
            offset = f.mul(at, work.stride)
            for d, c in enumerate(work.coefficients):
                if c:
                    offset = f.add(offset, f.mul(scope.index[d], c))
            address = f.element(params[0], memory, offset)
            kit = Lanes(f, lanes if wide else 0)
            value = nest.work.widened(work.value, scope) if wide else scope.values[work.value]
            ty = memory.vector(lanes if wide else 0)
            if work.add:
                old = f.load(address, ty) if scope.mask is None else f.masked_load(address, ty, scope.mask)
                value = kit.wrap(old, dtype) + value
            raw = nest.access.to_memory(value.value, dtype)
            if wide:
                nest.access.store_lanes(raw, address, 1, scope.mask)
            else:
                f.store(raw, address)

        pointers = {i + 1: pointer for i, pointer in enumerate(params[1:])}
        Nest(f, body, pointers, lanes, last if wide else None, sink=sink).run()


class CheckEmitter(Emitter[CheckRange]):
    """A loop nest that ends in a comparison, and leaves the function where it fails."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: CheckRange, how: How) -> None:
        """Write the nest."""
        *places, report = params

        def sink(nest: Nest, scope: Scope) -> None:
            lane = scope.values[work.at]
            at = lane.value
            wide = at if at.ty == I64 else f.convert("sext" if lane.dtype.kind == "i" else "zext", at, I64)
            if lane.dtype.kind == "u":
                bad = f.compare("uge", wide, int_literal(work.high))
            else:
                low = f.compare("slt", wide, int_literal(work.low))
                bad = f.binary("or", low, f.compare("sge", wide, int_literal(work.high)))
            f.return_if(bad, int_literal(work.number + 1), lambda: f.store(wide, report))

        Nest(f, work.body, dict(enumerate(places)), 0, None, sink=sink).run()


EMITTERS: dict[type[Single], Emitter[Any]] = {
    Loop: LoopEmitter(),
    Product: ProductEmitter(),
    Running: RunningEmitter(),
    Scatter: ScatterEmitter(),
    CheckRange: CheckEmitter(),
    Sorted: SortedEmitter(),
    Factored: FactoredEmitter(),
    Across: AcrossEmitter(),
}
"""The emitter of each kind of work that has no other in it."""
