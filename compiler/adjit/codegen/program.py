"""build: a graph becomes a Program, by way of a plan and LLVM text.

The module has the entry, which runs the kernels in order with addresses in the arena and in the program's slots: those
that are glue and stand once are written in it, the others are functions."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from adjit.codegen.gemm import (
    GEMM_LIBRARIES,
    emit_gemm_library,
    gemm_needs,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    scratch_allowed,
)
from adjit.codegen.guards import emit_guard_library
from adjit.codegen.kernels import emit_kernel, is_glue, is_short, write_kernel
from adjit.codegen.light import light_kernels
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, Value, int_literal, memory_type
from adjit.codegen.native_call import emit_call_library
from adjit.codegen.objects import assembly, compile_text
from adjit.codegen.peaks import emit_peaks_library
from adjit.codegen.pool import SYMBOLS, pool_text
from adjit.codegen.products import product_libraries, product_parts
from adjit.codegen.run_loop import emit_run_library
from adjit.codegen.straight import emit_straight
from adjit.codegen.subnormals import flushing
from adjit.codegen.tiles import emit_tiles
from adjit.codegen.trial import begin_trial, end_trial, short_threads
from adjit.ir.graph import Graph
from adjit.schedule.arena import storage
from adjit.schedule.build import make_plan
from adjit.schedule.plan import Buffer, CheckRange, Plan, Product, Single, Straight, Tiles, Work, works_of
from adjit.schedule.slots import slots_of
from adjit.schedule.straight import fits, straight_plan
from adjit.tuned import PRODUCT_PARTS, TILE_GROUPS, WAKE_FLOPS
from adjit_runtime.errors import InternalError
from adjit_runtime.program import Library, Program
from adjit_runtime.target import Target

ALIGN = 64


@dataclass(eq=False, slots=True)
class Lowered:
    """Everything that lowering a graph gives; `program` is what runs."""

    plan: Plan
    llvm: str
    program: Program
    target: Target
    instructions: int
    kernels: int
    _asm: list[str] = field(default_factory=list)

    @property
    def asm(self) -> str:
        """The machine code as assembly text, made when it is asked for."""
        if not self._asm:
            self._asm.append(assembly(self.llvm, self.target))
        return self._asm[0]


def build(
    graph: Graph,
    target: Target,
    name: str,
    timed: bool = False,
    straight: bool = True,
    flushes: bool = False,
    begin: Callable[[str], None] = lambda name: None,
) -> Lowered:
    """Plan, text and program of an optimised graph; with `straight` a very small one becomes a straight line, and one
    that `flushes` takes subnormal numbers for zero. `begin` is called with the name of each library of products that
    the program will call, before its code is made.

    A timed program takes a report of 2 + len(plan.kernels) words, and adds to each the ticks of one kernel; a straight
    line has no clock."""

    def scratch(dtype: np.dtype, k: int) -> int:
        # A block for each part that a thread may take.
        return PRODUCT_PARTS * gemm_scratch_bytes(dtype, target) if scratch_allowed(dtype, k, target) else 0

    slots = slots_of(graph)
    plan = straight_plan(graph, slots) if straight and fits(graph) else make_plan(graph, target, slots, scratch)
    libraries = _product_libraries(plan, target)
    for needed in libraries:
        begin(needed)
    text, instructions, kernels, arena_bytes = emit_plan(plan, target, name, timed, flushes)
    program = Program(
        name=name,
        entry=_symbol(name),
        code=compile_text(text, target),
        slots=plan.slots,
        inputs=plan.inputs,
        outputs=plan.outputs,
        arena_bytes=arena_bytes,
        target=target.key,
        libraries=(*libraries, *(("pool",) if "@adjit_parallel(" in text else ())),
        flushes=flushes,
        checks=plan.checks,
        constants=plan.constants,
    )
    return Lowered(plan, text, program, target, instructions, kernels)


def _product_libraries(plan: Plan, target: Target) -> list[str]:
    works = {
        (work, not isinstance(kernel.work, Tiles)): None
        for kernel in plan.kernels
        for work in works_of(kernel.work)
        if isinstance(work, Product)
    }
    return list(dict.fromkeys(name for work, alone in works for name in product_libraries(work, target, alone)))


def _symbol(name: str) -> str:
    return "adjit_main_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in name)


def emit_plan(
    plan: Plan, target: Target, name: str, timed: bool = False, flushes: bool = False
) -> tuple[str, int, int, int]:
    """LLVM text, instructions written, distinct kernels, and bytes of arena with packing memory."""
    module = Module(name, target)
    functions: dict[tuple[Work, bool], Function] = {}
    workspace_at = -(-plan.arena_bytes // ALIGN) * ALIGN
    workspace_bytes = 0
    first = plan.kernels[0].work if plan.kernels else None
    params = [(PTR, "table"), (PTR, "arena"), (PTR, "report")]
    if flushes:
        entry = module.function("body", I64, params, internal=True, glue=not isinstance(first, Straight))
        outer = module.function(_symbol(name), I64, params)
        outer.ret(flushing(outer, lambda: outer.call(entry.name, I64, outer.params)))
    else:
        entry = module.function(_symbol(name), I64, params, glue=not isinstance(first, Straight))
    light = light_kernels(plan, target)
    times = Counter(kernel.work for kernel in plan.kernels)
    inline: dict[Work, Single] = {}
    for kernel in plan.kernels:
        work = kernel.work
        alone = not isinstance(work, Tiles)
        for part in works_of(work):
            options = (part, target, alone, (part, alone) in light)
            if alone and times[part] == 1 and is_glue(*options):
                inline[part] = part
            elif (part, alone) not in functions:
                functions[part, alone] = emit_kernel(module, f"shared{len(functions)}", *options)
            if isinstance(part, Product):
                nbytes = gemm_workspace_bytes(part.dtype, part.m, part.n, part.k, target)
                workspace_bytes = max(workspace_bytes, nbytes * max(1, product_parts(part) if alone else TILE_GROUPS))
        if isinstance(work, Tiles) and (work, True) not in functions:
            functions[work, True] = emit_tiles(module, f"shared{len(functions)}", work, functions, target)

    def run(number: int, arguments: list[Value]) -> None:
        work = plan.kernels[number].work
        if work in inline:
            # A function of its own would take longer to compile than what is in it.
            write_kernel(entry, arguments, f"kernel{number}", inline[work], target, True, (work, True) in light)
        elif isinstance(work, CheckRange):
            status = entry.call(functions[work, True].name, I64, arguments)
            entry.return_if(entry.compare("ne", status, int_literal(0)), status)
        else:
            entry.call(functions[work, True].name, VOID, arguments)

    if isinstance(first, Straight):
        emit_straight(entry, first.graph, entry.params[0])
    else:
        _emit_entry(entry, plan, target, run, workspace_at, timed)
    instructions = sum(function.instruction_count for function in module.functions)
    kernels = len(functions) + len(inline)
    return str(module), instructions, kernels, max(ALIGN, workspace_at + workspace_bytes)


def _emit_entry(
    entry: Function,
    plan: Plan,
    target: Target,
    run: Callable[[int, list[Value]], None],
    workspace_at: int,
    timed: bool,
) -> None:
    """Write the kernels in order: `run(number, arguments)` writes one."""
    table, arena, report = entry.params
    slots = {
        number: entry.load(entry.element(table, PTR, number), PTR)
        for number in sorted({buffer.slot for buffer in plan.buffers if buffer.slot is not None})
    }

    def address(buffer: Buffer, offset: int) -> Value:
        home = storage(buffer)
        nbytes = offset * memory_type(buffer.dtype).bits // 8
        if home.slot is not None:
            return entry.offset(slots[home.slot], nbytes)
        return entry.offset(arena, home.offset + nbytes)

    short = [kernel for kernel in plan.kernels if is_short(kernel.work, target)]
    begun = begin_trial(entry) if short else None
    flops, flops_of_short = (sum(_flops(kernel.work) for kernel in kernels) for kernels in (plan.kernels, short))

    def wake() -> list[Value]:
        # Workers that sleep are on their way when the first large kernel comes.
        entry.call("adjit_wake", VOID, [])
        return []

    if flops - flops_of_short >= WAKE_FLOPS:
        wake()
    elif flops >= WAKE_FLOPS:
        entry.branch(entry.compare("sgt", short_threads(entry), int_literal(1)), wake)

    def ticks() -> Value:
        return entry.call("llvm.readcyclecounter", I64, [])

    before = ticks() if timed else None
    for number, kernel in enumerate(plan.kernels):
        arguments = [address(buffer, offset) for buffer, offset in kernel.params]
        if isinstance(kernel.work, Product | Tiles):
            arguments.append(entry.offset(arena, workspace_at))
        elif isinstance(kernel.work, CheckRange):
            arguments.append(report)
        run(number, arguments)
        if before is not None:
            after = ticks()
            place = entry.element(report, I64, 2 + number)
            entry.store(entry.add(entry.load(place, I64), entry.sub(after, before)), place)
            before = after
    if begun is not None:
        end_trial(entry, begun)
    entry.ret(int_literal(0))


def _flops(work: Work) -> int:
    """Floating-point operations of the products that threads share."""
    return 2 * work.m * work.n * work.k if isinstance(work, Product) and product_parts(work) else 0


@functools.cache
def library(name: str, target: Target) -> Library:
    """The object code that programs share: made once a process for each target."""
    if name == "pool":
        return Library(name, compile_text(pool_text(target), target), SYMBOLS)
    module = Module(name, target)
    if name in GEMM_LIBRARIES:
        emit_gemm_library(module, target, name)
    elif name == "run":
        emit_run_library(module)
    elif name == "call":
        emit_call_library(module)
    elif name == "guard":
        emit_guard_library(module)
    elif name == "peaks":
        emit_peaks_library(module, target)
    else:
        raise InternalError(f"no library is called {name!r}")
    symbols = tuple(function.name for function in module.functions if function.is_public)
    needs = gemm_needs(name) if name in GEMM_LIBRARIES else ()
    return Library(name, compile_text(str(module), target, in_turn=name == "guard"), symbols, needs)
