"""Which kernels are light: so small a part of a program's work that the quality of their code makes no difference.

Their functions are glue (`llvm.GLUE`), which compiles in a fifth of the time: a step of a network has a dozen kernels
of a few rows, scalars and small sums beside the products that take its time. The same operations in the same order, so
the same bits. What has vectors of bytes is never light: see `GLUE`.
"""

from __future__ import annotations

import math
from collections import Counter

from adjit.codegen.analysis import analyse, cost_of, lanes_of
from adjit.schedule.instructions import Body, Gather, Load, Reduce, Store, operands
from adjit.schedule.plan import Plan
from adjit.schedule.work import Scatter, Single, Work
from adjit.tuned import GLUE_SHARE
from adjit_runtime.target import Target

Emitted = tuple[Single, bool]
"""A kernel's work, and whether threads may share it."""


def light_kernels(plan: Plan, target: Target) -> set[Emitted]:
    """The lightest kernels, which together are at most `GLUE_SHARE` of the work; of a product it is its epilogue."""
    times: Counter[Emitted] = Counter()
    for kernel in plan.kernels:
        for work, alone, count in kernel.work.singles():
            times[work, alone] += count
    efforts: dict[Emitted, float] = {}
    whole = 0.0
    for (work, alone), count in times.items():
        body = work.elements
        efforts[work, alone] = count * body_effort(body, target) if body is not None else 0.0
        whole += efforts[work, alone] + count * product_effort(work, target)
    light: set[Emitted] = set()
    left = GLUE_SHARE * whole
    for function, effort in sorted(efforts.items(), key=lambda item: item[1]):
        if _has_bytes(function[0]):
            continue
        left -= effort
        if left < 0:
            break
        light.add(function)
    return light


def _has_bytes(work: Single) -> bool:
    """Whether a body has lanes of one byte: numbers, and bools in memory or in a reduction. A bool that only chooses
    has as many bits as what it was compared of."""
    body = work.elements
    if body is None:
        return False
    kept = {arg for instruction in body.code if isinstance(instruction, Reduce) for arg in operands(instruction)}
    if isinstance(work, Scatter):
        kept.add(work.value)
    return any(
        instruction.dtype.itemsize < 4
        and (instruction.dtype.kind != "b" or number in kept or isinstance(instruction, Load | Gather | Store))
        for number, instruction in enumerate(body.code)
    )


def body_effort(body: Body, target: Target, lanes: int | None = None) -> float:
    """Vector instructions, about: each instruction is computed as often as what it depends on varies. `lanes` are those
    of the body's vectors, unless said otherwise."""
    varies = analyse(body).varies
    effort = 0
    for number, instruction in enumerate(body.code):
        dims = varies[number]
        if isinstance(instruction, Reduce):
            dims = dims.union(*(varies[arg] for arg in operands(instruction)))
        effort += cost_of(instruction) * math.prod(body.domain[d] for d in dims)
    return effort / (lanes or lanes_of(body, target.vector_bytes))


def product_effort(work: Work, target: Target) -> float:
    """Vector instructions of the matrix products of a work, about."""
    return work.product_flops // 2 * work.itemsize / target.vector_bytes
