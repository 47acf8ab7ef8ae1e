"""What an emitter asks of a body: which dimensions each instruction varies along, in which pass it is computed,
which dimension becomes the vector, how many lanes.

A loop kernel with reduced dimensions runs its inner loops in **passes**: pass 0 computes what needs no reduction,
pass p + 1 what needs a reduction that pass p finished."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from adjit.ir.op import OPS
from adjit.ops.declare import Elementwise
from adjit.schedule.instructions import (
    Apply,
    Body,
    Gather,
    Index,
    Inside,
    Instruction,
    Load,
    ProductElement,
    Reduce,
    Store,
    operands,
)
from adjit.tuned import GATHER_WEIGHT, LONG_BODY, LONG_LOOP, VECTOR_APPLY_WEIGHT, VECTOR_FOLD_WEIGHT
from adjit_runtime.target import Target


@dataclass(frozen=True, slots=True)
class Analysis:
    """`varies[i]`: dimensions along which instruction i varies; `passes[i]`: the pass that computes it.

    For an instruction that varies along no reduced dimension, `passes[i]` is the pass after which it is known, -1
    where that is before the first. `count` is the number of passes."""

    varies: tuple[frozenset[int], ...]
    passes: tuple[int, ...]
    count: int


@functools.lru_cache(maxsize=1024)
def analyse(body: Body, running: bool = False) -> Analysis:
    """Dependence and passes of `body`; a running reduction varies along its dimension and needs no pass of its own."""
    reduced = frozenset(body.reduced)
    everything = frozenset(range(len(body.domain)))
    varies: list[frozenset[int]] = []
    passes: list[int] = []
    for instruction in body.code:
        dims: set[int] = set()
        if isinstance(instruction, (Load, Gather, Index, Store)):
            dims.update(d for d, c in enumerate(instruction.coefficients) if c)
        if isinstance(instruction, (Load, Gather, Inside)):
            for _, terms, _ in instruction.bounds:
                dims.update(d for d, c in enumerate(terms) if c)
        if isinstance(instruction, ProductElement):
            dims = set(everything)
        for arg in operands(instruction):
            dims |= varies[arg]
        if isinstance(instruction, Reduce):
            dims = dims | reduced if running else dims - reduced
        varies.append(frozenset(dims))
        passes.append(_pass(instruction, varies, passes, reduced, running))
    count = 1 + max((p for p, d in zip(passes, varies, strict=True) if d & reduced), default=-1)
    for instruction, p in zip(body.code, passes, strict=True):
        if isinstance(instruction, Reduce) and not running:
            count = max(count, p + 1)
    return Analysis(tuple(varies), tuple(passes), count)


def _pass(
    instruction: Instruction,
    varies: list[frozenset[int]],
    passes: list[int],
    reduced: frozenset[int],
    running: bool,
) -> int:
    own = varies[-1]
    args = operands(instruction)
    full = [passes[a] for a in args if varies[a] & reduced]
    rows = [passes[a] for a in args if not varies[a] & reduced]
    if isinstance(instruction, Reduce) and not running:
        # A value that does not vary along the reduced dimensions is summed in the pass after it is known.
        return max([*full, *(p + 1 for p in rows), 0])
    if own & reduced:
        return max([*full, *(p + 1 for p in rows), 0])
    return max(rows, default=-1)


@functools.lru_cache(maxsize=1024)
def lanes_of(body: Body, vector_bytes: int) -> int:
    """Lanes of a vector: by the element size that most of the work has."""
    weight: dict[int, int] = {}
    for instruction in body.code:
        if (
            isinstance(instruction, (Apply, Load, Gather, Store, Reduce, ProductElement))
            and instruction.dtype.kind != "b"
        ):
            cost = cost_of(instruction)
            size = max(instruction.dtype.itemsize, 4)
            weight[size] = weight.get(size, 0) + cost
    size = max(weight, key=lambda s: (weight[s], -s)) if weight else 4
    return vector_bytes // size


def lanes_together(body: Body, lanes: int, vector: int | None, target: Target) -> int:
    """Lanes that a loop along `vector` takes at once: those of one vector, or of several where the body is long."""
    if vector is None or body.domain[vector] < LONG_LOOP * lanes:
        return lanes
    return lanes * vectors_together(body, target)


def vectors_together(body: Body, target: Target) -> int:
    """How many vectors a body takes together, so that the machine does not wait for its own results."""
    cost = total_cost(body.code)
    return next((vectors for least, vectors in LONG_BODY[target.registers] if cost >= least), 1)


def cost_of(instruction: Instruction) -> int:
    """Rough machine instructions per element."""
    if isinstance(instruction, Apply):
        op = OPS[instruction.op]
        return op.cost if isinstance(op, Elementwise) else 1
    return GATHER_WEIGHT if isinstance(instruction, Gather) else 1


def total_cost(code: Iterable[Instruction]) -> int:
    """Rough machine instructions of all together, per element."""
    return sum(cost_of(instruction) for instruction in code)


def vector_dimension(body: Body, lanes: int, candidates: Sequence[int]) -> int | None:
    """The dimension whose elements fill a vector best: many of them, and adjacent in memory."""
    best: tuple[float, int] | None = None
    for d in candidates:
        n = body.domain[d]
        if n < 2:
            continue
        fill = n / (-(-n // lanes) * lanes)
        cost = 0.0
        for instruction in body.code:
            if isinstance(instruction, (Load, Store)):
                stride = instruction.coefficients[d]
                cost += 1.0 if stride in (0, 1) else GATHER_WEIGHT
            elif isinstance(instruction, Gather):
                cost += GATHER_WEIGHT
            elif isinstance(instruction, Apply):
                cost += cost_of(instruction) * VECTOR_APPLY_WEIGHT
            elif isinstance(instruction, Reduce) and d in body.reduced:
                # A horizontal combination for each row.
                cost += VECTOR_FOLD_WEIGHT / max(1.0, n / lanes)
        score = fill / (cost + 1.0)
        if best is None or score > best[0] * 1.001 or (score >= best[0] * 0.999 and d > best[1]):
            best = (score, d)
    return best[1] if best is not None else None


def reduction_identity(op: str, dtype: np.dtype) -> float | int | bool:
    """The value that a reduction starts from."""
    if op in ("argmax", "argmin"):
        op = op[3:]
    if op in ("cumsum", "cumprod"):
        op = {"cumsum": "sum", "cumprod": "prod"}[op]
    identity = getattr(OPS[op], "identity", None)
    assert identity is not None
    value = identity(dtype)
    return float(value) if dtype.kind == "f" else int(value) if dtype.kind != "b" else bool(value)
