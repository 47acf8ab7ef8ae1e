"""Runs a graph's machine code on arrays, with nothing of the runtime but the program's contract."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import llvmlite.binding as llvm
import numpy as np

from adjit.codegen.emit import Code, assemble, write
from adjit.codegen.libraries import library
from adjit.codegen.races import verify_jobs
from adjit.ir.graph import Graph
from adjit.schedule.plan import Plan
from adjit.schedule.verify import verify_plan
from adjit.stages import Options, plan_kernels, plan_line
from adjit_runtime.lapack import addresses
from adjit_runtime.program import Program
from adjit_runtime.target import Target, host_target
from tests.codegen.ordered_pool import ordered_pool

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
GUARD = 64
"""Bytes around every buffer that must come back untouched."""
_names = itertools.count()


def padded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of `array` with guard bytes on both sides: (all bytes, the copy)."""
    memory = np.full(array.nbytes + 2 * GUARD, 0xA5, dtype=np.uint8)
    view = memory[GUARD : GUARD + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return memory, view


class Lowered:
    """Plan, code and program of an optimised graph; as kernels, however small it is, where it is not `straight`."""

    def __init__(self, graph: Graph, target: Target, straight: bool = True) -> None:
        options = Options(target=target)
        planned = (plan_line(graph, options) if straight else None) or plan_kernels(graph, options)
        self.target = target
        self.plan: Plan = planned.plan
        self.code: Code = planned.code or write(planned.plan, target)
        self.llvm = self.code.llvm
        self.program: Program = assemble(self.code)


_LAST: list[tuple[Graph, Target, bool, Lowered]] = []


def _lowered(graph: Graph, target: Target, straight: bool) -> Lowered:
    """The program of a graph; that of the last one is kept."""
    if _LAST and _LAST[0][0] is graph and _LAST[0][1:3] == (target, straight):
        return _LAST[0][3]
    lowered = Lowered(graph, target, straight)
    _LAST[:] = [(graph, target, straight, lowered)]
    return lowered


class Ran:
    """What a call gave: `status`, `report`, `outputs`, `inputs` (state has its new value), and the lowering.

    With `threads` kernels are cut for so many, and the parts run in an `order` of `ordered_pool`."""

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[np.ndarray],
        target: Target | None = None,
        straight: bool = False,
        threads: int = 0,
        order: str = "forward",
    ) -> None:
        self.lowered: Lowered = _lowered(graph, target or host_target(), straight)
        verify_plan(self.lowered.plan)
        verify_jobs(self.lowered.plan, self.lowered.target)
        program = self.lowered.program
        jit = llvm.create_lljit_compiler()
        builder = llvm.JITLibraryBuilder().add_object_img(program.code).export_symbol(program.entry)
        needed = [(*library(name, self.lowered.target).needs, name) for name in program.libraries]
        for name in dict.fromkeys(name for names in needed for name in names):
            if name == "pool" and threads:
                builder = builder.add_object_img(ordered_pool(threads, order, self.lowered.target))
            elif name == "lapack":
                for symbol, address in addresses().items():
                    builder = builder.import_symbol(symbol, address)
            else:
                builder = builder.add_object_img(library(name, self.lowered.target).code)
        tracker = builder.add_current_process().link(jit, f"test{next(_names)}")
        entry = ENTRY(tracker[program.entry])
        memories, views = [], []
        given = iter(inputs)
        for number, slot in enumerate(program.slots):
            if slot.role == "constant":
                array = program.constants[number]
            elif slot.role == "output":
                array = np.zeros(slot.shape, dtype=slot.dtype)
            else:
                array = np.asarray(next(given), dtype=slot.dtype)
            memory, view = padded(array)
            memories.append(memory)
            views.append(view)
        table = (ctypes.c_void_p * len(views))(*(view.ctypes.data for view in views))
        arena, space = padded(np.zeros(program.arena_bytes + 64, dtype=np.uint8))
        space[...] = 0xFF  # NaNs, so that reading what was never written shows
        start = -(-space.ctypes.data // 64) * 64
        self.report = np.zeros(2, dtype=np.int64)
        self.status = entry(ctypes.addressof(table), start, self.report.ctypes.data)
        self.outputs = [views[i].copy() for i in program.outputs]
        self.inputs = [views[i].copy() for i in program.inputs]
        for memory in (*memories, arena):
            around = np.concatenate([memory[:GUARD], memory[-GUARD:]])
            assert (around == 0xA5).all(), "wrote outside a buffer"
        for number, slot in enumerate(program.slots):
            if slot.role == "constant":
                np.testing.assert_array_equal(views[number], program.constants[number])
