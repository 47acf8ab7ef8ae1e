"""What a plan is, as a value that compares; and the whole way from a plan to its text and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from adjit.codegen.emit import code_rules, write
from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc
from adjit.ir.text import print_graph
from adjit.schedule.buffer import Buffer
from adjit.schedule.instructions import Const
from adjit.schedule.parse import parse_plan
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.straight import fits, straight_plan
from adjit.schedule.text import print_plan
from adjit.schedule.turns import Straight
from adjit.schedule.verify import verify_plan
from adjit_runtime.target import Target

WIDE = Target("x86_64-unknown-linux-gnu", "x86-64-v4", "", 64, 32, True, 48 << 10, 1 << 20, 32 << 20)
HASWELL = Target("x86_64-unknown-linux-gnu", "haswell", "", 32, 16, False, 32 << 10, 256 << 10, 8 << 20)
"""Machines that are the same everywhere; their code is read, not run."""


def plan_for(graph: Graph, target: Target) -> Plan:
    """The plan that `build` makes: a straight line where the graph fits one."""
    slots = slots_of(graph)
    if fits(graph):
        return straight_plan(graph, slots)

    return make_plan(graph, target, slots, code_rules(target))


def described(value: Any, buffers: dict[Buffer, int] | None = None) -> Any:
    """A plan, or a part of one, as tuples: buffers by their numbers, constants by their bits, arrays by digest, lines
    as they print. Names of buffers are left out where two have one."""
    numbers = buffers or {}
    if isinstance(value, Plan):
        return _plan(value)
    if isinstance(value, Buffer):
        return ("buffer", numbers[value])
    if isinstance(value, Kernel):
        lines = [str(loc) for loc in value.locs]
        inner = None if value.inner is None else _plan(value.inner)
        return described((value.work, value.params, lines, value.commits), numbers), inner
    if isinstance(value, Const):
        return ("const", repr(value.value), value.bits, value.dtype.str)
    if isinstance(value, Graph):
        return print_graph(value)
    if isinstance(value, Data):
        return value.digest
    if isinstance(value, Loc):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in fields(value) if field.name != "_hash"]
        return (type(value).__name__, *(described(part, numbers) for part in parts))
    if isinstance(value, tuple | list):
        return tuple(described(part, numbers) for part in value)
    if isinstance(value, dict):
        return tuple((key, described(part, numbers)) for key, part in sorted(value.items()))
    return value


def _plan(plan: Plan) -> Any:
    numbers = {buffer: number for number, buffer in enumerate(plan.buffers)}
    names = [buffer.name for buffer in plan.buffers]
    buffers = [
        (
            buffer.name if names.count(buffer.name) == 1 else "", buffer.dtype.str, buffer.size, buffer.slot,
            buffer.offset, buffer.first, buffer.last, str(buffer.loc), buffer.inside and numbers[buffer.inside],
            buffer.home and numbers[buffer.home],
        )
        for buffer in plan.buffers
    ]  # fmt: skip
    rest = [getattr(plan, field.name) for field in fields(plan) if field.name not in ("buffers", "peak_loc")]
    return (tuple(buffers), str(plan.peak_loc), *(described(part, numbers) for part in rest))


def arrays_of(plan: Plan) -> dict[str, np.ndarray]:
    """What binds the constants that a plan's text has by their digests alone."""
    names = {buffer.slot: buffer.name for buffer in plan.buffers}
    held = [(names.get(number, data.name), data) for number, data in plan.constants.items()]
    for kernel in plan.kernels:
        if isinstance(kernel.work, Straight):
            found = [node.attrs["data"] for node in kernel.work.graph.nodes if "data" in node.attrs]
            held += [(data.name, data) for data in found]
    return {name: data.array for name, data in held if data.array is not None}


def assert_comes_back(plan: Plan, target: Target) -> Plan:
    """Print, parse, and see that nothing is lost: the plan, its text, its LLVM text. Gives the plan that was parsed."""
    text = print_plan(plan)
    again = parse_plan(text, arrays_of(plan))
    verify_plan(again)
    assert print_plan(again) == text
    assert described(again) == described(plan)
    one, other = write(again, target), write(plan, target)
    assert (one.llvm, one.arena_bytes) == (other.llvm, other.arena_bytes)
    return again
