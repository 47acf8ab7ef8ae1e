"""A plan becomes LLVM text (`write`), and that a Program (`assemble`); `library` makes what programs share.

The module has the entry, which runs the kernels in order with addresses in the arena and in the program's slots: those
that are glue and stand once are written in it, the others are functions."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from adjit.codegen.analysis import analyse, lanes_of
from adjit.codegen.constructors import emit_constructors_library
from adjit.codegen.cuts import cut_of
from adjit.codegen.entry import Part, emit_entry
from adjit.codegen.gemm import (
    GEMM_LIBRARIES,
    emit_gemm_library,
    gemm_needs,
    gemm_scratch_bytes,
    gemm_workspace_bytes,
    scratch_allowed,
)
from adjit.codegen.guards import emit_guard_library
from adjit.codegen.kernels import emit_kernel, is_glue, kernel_ranges, write_kernel
from adjit.codegen.light import light_kernels
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, int_literal
from adjit.codegen.native_call import emit_call_library
from adjit.codegen.nested import emit_nested, turns_between_polls
from adjit.codegen.objects import assembly, compile_text
from adjit.codegen.peaks import emit_peaks_library
from adjit.codegen.pool import SYMBOLS, pool_text
from adjit.codegen.products import product_libraries
from adjit.codegen.run_loop import emit_run_library
from adjit.codegen.signals import (
    emit_python_library,
    emit_signals_library,
    polls_of,
    verify_polls,
)
from adjit.codegen.straight import TooLong, code_effort, emit_straight, emit_straight_loop
from adjit.codegen.subnormals import flushing
from adjit.ir.evaluate import array_of
from adjit.ir.graph import Graph
from adjit.schedule.memory import CodeRules
from adjit.schedule.plan import Loop, Nested, Plan, Product, Single, Straight, StraightLoop, Work, singles
from adjit.tuned import PRODUCT_PARTS, STRAIGHT_EFFORT, TILE_GROUPS
from adjit_runtime.errors import InternalError
from adjit_runtime.program import ALIGN, Library, Program
from adjit_runtime.target import Target

REGISTER_ARGUMENTS = 6
"""Pointers that a function is given in registers on x86-64; further ones lie on the stack."""
_CALLED = {"pool": "adjit_parallel", "signals": "adjit_poll"}
"""Libraries, and the function that a program which needs one calls."""


@dataclass(frozen=True, eq=False, slots=True)
class Code:
    """The LLVM text of a plan.

    instructions   how many it has
    kernels        how many distinct ones there are
    arena_bytes    memory of a call: the plan's arena, and what products pack in"""

    plan: Plan
    target: Target
    flush: bool
    llvm: str
    instructions: int
    kernels: int
    arena_bytes: int

    @property
    def asm(self) -> str:
        """The machine code as assembly text."""
        return assembly(self.llvm, self.target)


def assemble(code: Code) -> Program:
    """Have LLVM make the program of a text."""
    plan, target = code.plan, code.target
    called = (library for library, symbol in _CALLED.items() if f"@{symbol}(" in code.llvm)
    return Program(
        name=plan.name,
        entry=_symbol(plan.name),
        code=compile_text(code.llvm, target),
        slots=plan.slots,
        inputs=plan.inputs,
        outputs=plan.outputs,
        arena_bytes=code.arena_bytes,
        target=target.key,
        libraries=(*libraries_of(plan, target), *called),
        flushes=code.flush,
        checks=plan.checks,
        constants={number: array_of(data) for number, data in plan.constants.items()},
    )


def code_rules(target: Target) -> CodeRules:
    """What a plan asks of code generation."""

    def scratch(dtype: np.dtype, k: int) -> int:
        # A block for each part that a thread may take.
        return PRODUCT_PARTS * gemm_scratch_bytes(dtype, target) if scratch_allowed(dtype, k, target) else 0

    def line(graph: Graph) -> bool:
        module = Module(graph.name, target)
        turns = (0,) * (len(graph.inputs) + len(graph.outputs))
        emit_straight_loop(module, "line", StraightLoop(graph, 1, 0, turns))
        return code_effort(str(module), target) <= STRAIGHT_EFFORT

    def memory(plan: Plan) -> int:
        return memory_of(plan, target)

    return CodeRules(scratch, line, memory)


def straight_code(plan: Plan, target: Target, flush: bool = False) -> Code | None:
    """The text of a straight line: None where LLVM would take long for it."""
    try:
        code = write(plan, target, flush, most_lines=STRAIGHT_EFFORT)
    except TooLong:
        return None
    return code if code_effort(code.llvm, target) <= STRAIGHT_EFFORT else None


def libraries_of(plan: Plan, target: Target) -> list[str]:
    """The libraries of products that the code of a plan will call."""
    works = {
        (work, alone): None
        for kernel in plan.kernels
        for work, alone, _ in singles(kernel.work)
        if isinstance(work, Product)
    }
    return list(dict.fromkeys(name for work, alone in works for name in product_libraries(work, target, alone)))


def _symbol(name: str) -> str:
    return "adjit_main_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in name)


def write(plan: Plan, target: Target, flush: bool = False, timed: bool = False, most_lines: float = math.inf) -> Code:
    """The text of a plan, which takes subnormal numbers for zero with `flush`. A straight line of more than
    `most_lines` raises TooLong.

    A timed program takes a report of 2 + len(plan.kernels) words, and adds to each the ticks of one kernel; a straight
    line has no clock."""
    module = Module(plan.name, target)
    functions: dict[tuple[Work, bool], Function] = {}
    workspace_at = _workspace_at(plan)
    first = plan.kernels[0].work if plan.kernels else None
    params = [(PTR, "table"), (PTR, "arena"), (PTR, "report")]
    if flush:
        entry = module.function("body", I64, params, internal=True, glue=not isinstance(first, Straight))
        outer = module.function(_symbol(plan.name), I64, params)
        outer.ret(flushing(outer, lambda: outer.call(entry.name, I64, outer.params)))
    else:
        entry = module.function(_symbol(plan.name), I64, params, glue=not isinstance(first, Straight))
    light = light_kernels(plan, target)
    polls = polls_of(plan, target, lambda work: _ranges_of(work, target))
    verify_polls(plan, polls)
    times = Counter(kernel.work for kernel in plan.kernels)
    inline: dict[Work, Single] = {}

    def options_of(work: Single, alone: bool) -> tuple[Single, Target, bool, bool, int]:
        return work, target, alone, (work, alone) in light, polls.ranges.get(work, 0) if alone else 0

    def emit(work: Work, alone: bool = True) -> None:
        """Write the function of a work, those that it calls first."""
        if (work, alone) in functions or isinstance(work, Straight):
            return
        name, ranges = "shared{}", polls.ranges.get(work, 0)
        if isinstance(work, Nested):
            for step in work.steps:
                emit(step.work, alone and not work.is_shared)
            name = name.format(len(functions))
            functions[work, alone] = emit_nested(module, name, work, functions, target, alone, ranges if alone else 0)
        elif isinstance(work, StraightLoop):
            functions[work, alone] = emit_straight_loop(
                module, name.format(len(functions)), work, ranges if alone else 0
            )
        else:
            functions[work, alone] = emit_kernel(module, name.format(len(functions)), *options_of(work, alone))

    for work in times:
        single = None if isinstance(work, Nested | Straight | StraightLoop) or times[work] > 1 else work
        if single is not None and (is_glue(*options_of(single, True)[:4]) or _has_own_addresses(single)):
            inline[work] = single
        else:
            emit(work)

    def run(caller: Part, number: int) -> None:
        f, kernel = caller.function, plan.kernels[number]
        work, name = kernel.work, f"kernel{number}"
        if work in inline:
            options = options_of(inline[work], True)
            if is_glue(*options[:4]):
                # A function of its own would take longer to compile than what is in it.
                write_kernel(f, caller.arguments(kernel), name, *options)
                return
            own = module.function(name, VOID, [(value.ty, value.ref[1:]) for value in entry.params], internal=True)
            write_kernel(own, Part(own, workspace_at).arguments(kernel), name, *options)
            own.ret()
            f.call(own.name, VOID, f.params)
            return
        arguments = caller.arguments(kernel)
        if work.may_fail or work in polls.ranges:
            status = f.call(functions[work, True].name, I64, arguments)
            f.return_if(f.compare("ne", status, int_literal(0)), status)
        else:
            f.call(functions[work, True].name, VOID, arguments)

    if isinstance(first, Straight):
        emit_straight(entry, first.graph, entry.params[0], most_lines)
    else:
        emit_entry(entry, plan, target, run, workspace_at, timed, polls)
    instructions = sum(function.instruction_count for function in module.functions)
    kernels = len(functions) + len(inline)
    # What was asked of each body of this program is asked no more.
    analyse.cache_clear()
    lanes_of.cache_clear()
    return Code(plan, target, flush, str(module), instructions, kernels, memory_of(plan, target))


def memory_of(plan: Plan, target: Target) -> int:
    """Bytes that a call of the program needs: the plan's arena, and what products pack in."""
    packing = 0
    for kernel in plan.kernels:
        for part, alone, _ in singles(kernel.work):
            if isinstance(part, Product):
                packing = max(packing, _packing_bytes(part, alone, target))
    return max(ALIGN, _workspace_at(plan) + packing)


def _workspace_at(plan: Plan) -> int:
    return -(-plan.arena_bytes // ALIGN) * ALIGN


def _packing_bytes(work: Product, alone: bool, target: Target) -> int:
    """Memory for packing: for each part that threads may take of a product, or of the loop that it is in."""
    cut = cut_of(work, target)
    parts = TILE_GROUPS if not alone else cut.parts if cut is not None else 1
    return gemm_workspace_bytes(work.dtype, work.m, work.n, work.k, target) * parts


def _has_own_addresses(work: Single) -> bool:
    """Whether a kernel that stands once computes the addresses of its operands itself: where a caller would put them
    on the stack."""
    return isinstance(work, Loop) and len(work.body.params) > REGISTER_ARGUMENTS


def _ranges_of(work: Work, target: Target) -> int:
    """Into how many ranges a long kernel may be cut, with a poll between two; 0 where it is not."""
    if isinstance(work, Nested | StraightLoop):
        return turns_between_polls(work, target)
    return 0 if isinstance(work, Straight) else kernel_ranges(work, target)


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
    elif name == "constructors":
        emit_constructors_library(module)
    elif name == "signals":
        emit_signals_library(module)
    elif name == "python":
        emit_python_library(module)
    elif name == "peaks":
        emit_peaks_library(module, target)
    else:
        raise InternalError(f"no library is called {name!r}")
    symbols = tuple(function.name for function in module.functions if function.is_public)
    needs = gemm_needs(name) if name in GEMM_LIBRARIES else ()
    return Library(name, compile_text(str(module), target, in_turn=name == "guard"), symbols, needs)
