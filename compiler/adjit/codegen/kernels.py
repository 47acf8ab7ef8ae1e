"""One emitter for each kind of kernel: a `Work` becomes a function of the module, or a part of the one that runs it.

Kernels take one pointer for each parameter. A product takes its packing memory too; a check also takes the
report and returns 0, or its number + 1; one that is left for a signal returns 0 or INTERRUPTED.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjit.codegen.analysis import analyse, lanes_of, lanes_together, vector_dimension
from adjit.codegen.cuts import Cut, cut_of
from adjit.codegen.jobs import open_job, parts_for, range_of, range_of_turn, run_job
from adjit.codegen.lanes import Lanes
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, literal, memory_type
from adjit.codegen.nest import Nest
from adjit.codegen.products import product_extents, product_parameters, product_ranges, write_product
from adjit.codegen.signals import effort
from adjit.codegen.vectorized import Scope
from adjit.schedule.plan import (
    Body,
    CheckRange,
    Loop,
    Product,
    Running,
    Scatter,
    Single,
)
from adjit.tuned import TURN_EFFORT
from adjit_runtime.target import Target


def emit_kernel(
    module: Module, name: str, work: Single, target: Target, parallel: bool = True, light: bool = False, ranges: int = 0
) -> Function:
    """Write the function of one kernel; with `parallel` a large one runs on the threads of the pool. With `ranges`
    (`kernel_ranges`) it may be left between them.

    The code of a `light` one, or of its epilogue, is generated without optimisation."""
    has_status = isinstance(work, CheckRange) or ranges > 0
    glue = is_glue(work, target, parallel, light)
    params = [(PTR, f"p{i}") for i in range(_parameters(work))]
    function = module.function(name, I64 if has_status else VOID, params, internal=True, glue=glue)
    write_kernel(function, function.params, name, work, target, parallel, light, ranges)
    function.ret(int_literal(0) if has_status else None)
    return function


def is_glue(work: Single, target: Target, parallel: bool, light: bool) -> bool:
    """Whether a kernel's own code only calls others, or is light."""
    if isinstance(work, Loop):
        return light or (parallel and cut_of(work, target) is not None)
    return light or isinstance(work, Product)


def kernel_ranges(work: Single, target: Target) -> int:
    """Into how many ranges a long kernel is cut, so that a program may leave it between two; 0 where it is not."""
    if isinstance(work, Product):
        return product_ranges(work, target)
    cut = cut_of(work, target)
    if cut is None:
        return 0
    ranges = min(int(effort(work, target) // TURN_EFFORT), cut.extent // cut.unit)
    return ranges if ranges > 1 else 0


def write_kernel(
    f: Function,
    params: Sequence[Value],
    name: str,
    work: Single,
    target: Target,
    parallel: bool,
    light: bool,
    ranges: int = 0,
) -> None:
    """Write a kernel into `f`, which is still open after it; functions of its own begin with `name`. Where a check
    fails, or between its `ranges` a handler of a signal raises, `f` returns."""
    if 0 in _extents(work):
        # It touches no memory: the loads that stand before its loops would.
        return
    if isinstance(work, Loop):
        _write_loop(f, params, name, work, target, parallel, ranges)
    elif isinstance(work, Product):
        write_product(f, params, name, work, target, parallel, light, ranges)
    elif isinstance(work, Running):
        _write_running(f, params, work, target)
    elif isinstance(work, Scatter):
        _write_scatter(f, params, work, target)
    else:
        _write_check(f, params, work)


def _parameters(work: Single) -> int:
    if isinstance(work, Product):
        return product_parameters(work)
    return len(work.body.params) + isinstance(work, Scatter | CheckRange)


def _extents(work: Single) -> tuple[int, ...]:
    if isinstance(work, Product):
        return product_extents(work)
    return work.body.domain


def _write_loop(
    f: Function, params: Sequence[Value], name: str, work: Loop, target: Target, parallel: bool, ranges: int
) -> None:
    body = work.body
    lanes = lanes_of(body, target.vector_bytes)
    vector = vector_dimension(body, lanes, range(len(body.domain)))
    lanes = lanes_together(body, lanes, vector, target)
    cut = cut_of(work, target) if parallel else None
    if cut is None:
        Nest(f, body, dict(enumerate(params)), lanes, vector, prefetches=work.prefetches).run()
        return
    job = _part_of_loop(f.module, f"{name}_part", body, cut, lanes, vector, ranges > 0)
    run_job(f, params, job, parts_for(f, cut), ranges)


def _part_of_loop(
    module: Module, name: str, body: Body, cut: Cut, lanes: int, vector: int | None, in_turns: bool
) -> Function:
    """The job of one thread: a range of one dimension, along which no element depends on another."""
    f, params, part, parts = open_job(module, name, len(body.params))
    at, ranges = range_of_turn(f, len(body.params), part, parts) if in_turns else (part, parts)
    low, high = range_of(f, at, ranges, cut)
    Nest(f, body, dict(enumerate(params)), lanes, vector, ranges={cut.dim: (low, high)}).run()
    f.ret()
    return f


def _write_running(f: Function, params: Sequence[Value], work: Running, target: Target) -> None:
    body = work.body
    lanes = lanes_of(body, target.vector_bytes)
    free = [d for d in range(len(body.domain)) if d not in body.reduced]
    vector = vector_dimension(body, lanes, free)
    Nest(f, body, dict(enumerate(params)), lanes, vector, running=True, reverse=work.reverse).run()


def _write_scatter(f: Function, params: Sequence[Value], work: Scatter, target: Target) -> None:
    body = work.body
    last = len(body.domain) - 1
    along = analyse(body).varies[work.at]
    wide = last >= 0 and work.coefficients[last] == 1 and last not in along and body.domain[last] > 1
    lanes = lanes_of(body, target.vector_bytes)
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


def _write_check(f: Function, params: Sequence[Value], work: CheckRange) -> None:
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
