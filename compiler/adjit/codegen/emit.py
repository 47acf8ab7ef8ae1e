"""A plan becomes LLVM text (`write`), and that a Program (`assemble`).

The module has the entry, which runs the kernels in order with addresses in the arena and in the program's slots: those
that are glue and stand once are written in it, the others are functions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from adjit.codegen.analysis import analyse, lanes_of
from adjit.codegen.emitter import How
from adjit.codegen.entry import Part, emit_entry
from adjit.codegen.gemm import (
    gemm_scratch_bytes,
    scratch_allowed,
)
from adjit.codegen.kernels import emit_kernel, emitter_of, is_glue, write_kernel
from adjit.codegen.light import light_kernels
from adjit.codegen.llvm import I64, PTR, VOID, Function, Module, int_literal
from adjit.codegen.nested import emit_nested, turns_between_polls
from adjit.codegen.objects import assembly, compile_text
from adjit.codegen.signals import (
    polls_of,
    verify_polls,
)
from adjit.codegen.straight import TooLong, code_effort, emit_straight, emit_straight_loop
from adjit.codegen.subnormals import flushing
from adjit.ir.evaluate import array_of
from adjit.ir.graph import Graph
from adjit.schedule.memory import CodeRules
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import Nested, Straight, StraightLoop
from adjit.schedule.work import Loop, Single, Work
from adjit.tuned import PRODUCT_PARTS, STRAIGHT_EFFORT
from adjit_runtime.program import ALIGN, Program
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
    """The libraries whose functions the kernels of a plan will call."""
    works = dict.fromkeys((work, alone) for kernel in plan.kernels for work, alone, _ in kernel.work.singles())
    return list(
        dict.fromkeys(name for work, alone in works for name in emitter_of(work).libraries(work, target, alone))
    )


def _symbol(name: str) -> str:
    return "adjit_main_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in name)


def write(plan: Plan, target: Target, flush: bool = False, timed: bool = False, most_lines: float = math.inf) -> Code:
    """The text of a plan, which takes subnormal numbers for zero with `flush`. A straight line of more than
    `most_lines` raises TooLong.

    A timed program takes a report of 2 + len(plan.kernels) words, and adds to each the ticks of one kernel; a straight
    line has no clock."""
    writing = _Writing(plan, target, flush, timed)
    first = plan.kernels[0].work if plan.kernels else None
    if isinstance(first, Straight):
        emit_straight(writing.entry, first.graph, writing.entry.params[0], most_lines)
    else:
        writing.write_kernels()
    code = writing.code()
    # What was asked of each body of this program is asked no more.
    analyse.cache_clear()
    lanes_of.cache_clear()
    return code


def memory_of(plan: Plan, target: Target) -> int:
    """Bytes that a call of the program needs: the plan's arena, and what kernels pack in."""
    packing = (
        emitter_of(part).packing_bytes(part, target, alone)
        for kernel in plan.kernels
        for part, alone, _ in kernel.work.singles()
    )
    return max(ALIGN, _workspace_at(plan) + max(packing, default=0))


def _workspace_at(plan: Plan) -> int:
    return -(-plan.arena_bytes // ALIGN) * ALIGN


class _Writing:
    """The module of a plan, while it is written."""

    def __init__(self, plan: Plan, target: Target, flush: bool, timed: bool) -> None:
        self.plan, self.target, self.flush, self.timed = plan, target, flush, timed
        self.module = Module(plan.name, target)
        self.functions: dict[tuple[Work, bool], Function] = {}
        self.inline: dict[Work, Single] = {}
        self.workspace_at = _workspace_at(plan)
        self.light = light_kernels(plan, target)
        self.polls = polls_of(plan, target, lambda work: ranges_of(work, target))
        verify_polls(plan, self.polls)
        self.entry = self._entry()

    def _entry(self) -> Function:
        """The entry, or what it calls in the mode in which steps run."""
        is_line = bool(self.plan.kernels) and isinstance(self.plan.kernels[0].work, Straight)
        params = [(PTR, "table"), (PTR, "arena"), (PTR, "report")]
        symbol = _symbol(self.plan.name)
        if not self.flush:
            return self.module.function(symbol, I64, params, glue=not is_line)
        entry = self.module.function("body", I64, params, internal=True, glue=not is_line)
        outer = self.module.function(symbol, I64, params)
        outer.ret(flushing(outer, lambda: outer.call(entry.name, I64, outer.params)))
        return entry

    def write_kernels(self) -> None:
        """Write the function of each work that has one, then the entry."""
        times = Counter(kernel.work for kernel in self.plan.kernels)
        for work, count in times.items():
            if count == 1 and isinstance(work, Single) and self._is_inline(work):
                self.inline[work] = work
            else:
                self._emit(work)
        emit_entry(self.entry, self.plan, self.target, self._run, self.workspace_at, self.timed, self.polls)

    def code(self) -> Code:
        """What was written."""
        instructions = sum(function.instruction_count for function in self.module.functions)
        kernels = len(self.functions) + len(self.inline)
        nbytes = memory_of(self.plan, self.target)
        return Code(self.plan, self.target, self.flush, str(self.module), instructions, kernels, nbytes)

    def _how(self, work: Single, alone: bool = True) -> How:
        ranges = self.polls.ranges.get(work, 0) if alone else 0
        return How(self.target, alone, (work, alone) in self.light, ranges)

    def _is_inline(self, work: Single) -> bool:
        """Whether a kernel that stands once is written where it runs, or where it computes its operands' addresses."""
        return is_glue(work, self._how(work)) or _has_own_addresses(work)

    def _emit(self, work: Work, alone: bool = True) -> None:
        """Write the function of a work, those that it calls first."""
        if (work, alone) in self.functions:
            return
        if isinstance(work, Nested):
            for step in work.steps:
                self._emit(step.work, alone and not work.is_shared)
        name, ranges = f"shared{len(self.functions)}", self.polls.ranges.get(work, 0) if alone else 0
        self.functions[work, alone] = self._function(name, work, alone, ranges)

    def _function(self, name: str, work: Work, alone: bool, ranges: int) -> Function:
        if isinstance(work, Nested):
            return emit_nested(self.module, name, work, self.functions, self.target, alone, ranges)
        if isinstance(work, StraightLoop):
            return emit_straight_loop(self.module, name, work, ranges)
        assert isinstance(work, Single)
        return emit_kernel(self.module, name, work, self._how(work, alone))

    def _run(self, caller: Part, number: int) -> None:
        """Write kernel `number` into the function that runs it, or a call."""
        kernel, f = self.plan.kernels[number], caller.function
        if kernel.work in self.inline:
            self._write_inline(caller, kernel, f"kernel{number}")
            return
        called, arguments = self.functions[kernel.work, True].name, caller.arguments(kernel)
        if not (kernel.work.may_fail or kernel.work in self.polls.ranges):
            f.call(called, VOID, arguments)
            return
        status = f.call(called, I64, arguments)
        f.return_if(f.compare("ne", status, int_literal(0)), status)

    def _write_inline(self, caller: Part, kernel: Kernel, name: str) -> None:
        work, f = self.inline[kernel.work], caller.function
        how = self._how(work)
        if is_glue(work, how):
            # A function of its own would take longer to compile than what is in it.
            write_kernel(f, caller.arguments(kernel), name, work, how)
            return
        params = [(value.ty, value.ref[1:]) for value in self.entry.params]
        own = self.module.function(name, VOID, params, internal=True)
        write_kernel(own, Part(own, self.workspace_at).arguments(kernel), name, work, how)
        own.ret()
        f.call(own.name, VOID, f.params)


def _has_own_addresses(work: Single) -> bool:
    """Whether a kernel that stands once computes the addresses of its operands itself: where a caller would put them
    on the stack."""
    return isinstance(work, Loop) and len(work.body.params) > REGISTER_ARGUMENTS


def ranges_of(work: Work, target: Target) -> int:
    """Into how many ranges a long kernel may be cut, with a poll between two; 0 where it is not."""
    if isinstance(work, Nested | StraightLoop):
        return turns_between_polls(work, target)
    return emitter_of(work).ranges(work, target) if isinstance(work, Single) else 0
