"""The plan as text: buffers with places and lifetimes, kernels with domains, bodies and the user's lines.

plan @step  arena 13568 bytes (29056 without reuse), peak 12800 bytes at model.py:12
buffer %t8 : f32[1024] arena+4096  kernels 2..6  model.py:12
kernel 2 product m=32 n=32 k=64  A=%x (64,1)  B=%w1 (32,1)  C=%t17  # model.py:12
  epilogue over (1,32,32)
    v0 = tile : f32
    v1 = load %b1[0 + d2] : f32
    ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adjit.ir.types import dtype_name
from adjit.schedule.plan import (
    Apply,
    Bounds,
    Buffer,
    CheckRange,
    Const,
    Gather,
    Index,
    Inside,
    Instruction,
    Kernel,
    Load,
    Loop,
    Plan,
    Product,
    Reduce,
    Running,
    Scatter,
    Store,
    Straight,
    Tile,
    Tiles,
)


def print_plan(plan: Plan) -> str:
    """The whole plan."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    where = f" at {plan.peak_loc}" if plan.peak_loc is not None else ""
    yield (
        f"plan @{plan.name}  arena {plan.arena_bytes} bytes ({plan.bytes_without_reuse} without reuse), "
        f"peak {plan.peak_bytes} bytes{where}"
    )
    for buffer in plan.buffers:
        yield _buffer(buffer, plan)
    numbers: dict[object, int] = {}
    for i, kernel in enumerate(plan.kernels):
        body = numbers.setdefault(kernel.work, i)
        yield from _kernel(i, kernel, body)


def _buffer(buffer: Buffer, plan: Plan) -> str:
    head = f"buffer %{buffer.name} : {dtype_name(buffer.dtype)}[{buffer.size}]"
    if buffer.slot is not None:
        return f"{head} {plan.slots[buffer.slot].role} slot {buffer.slot}"
    shared = f" in place of %{buffer.inside.name}" if buffer.inside is not None else ""
    where = f"  {buffer.loc}" if buffer.loc is not None else ""
    return f"{head} arena+{buffer.offset}{shared}  kernels {buffer.first}..{buffer.last}{where}"


def _kernel(number: int, kernel: Kernel, same: int) -> Iterator[str]:
    work = kernel.work
    lines = ", ".join(map(str, kernel.locs))
    comment = f"  # {lines}" if lines else ""
    commit = " commit" if kernel.commits else ""
    names = [f"%{buffer.name}" + (f"+{offset}" if offset else "") for buffer, offset in kernel.params]
    if isinstance(work, Straight):
        yield f"kernel {number} straight line of {len(work.graph.nodes)} operations on {' '.join(names)}{comment}"
        return
    if isinstance(work, Tiles):
        assert kernel.inner is not None
        yield f"kernel {number} {work.count} tiles on {' '.join(names)}{comment}"
        yield from (f"    {line}" for line in _lines(kernel.inner))
        for at, step in enumerate(work.steps):
            for ahead in step.work.ahead if isinstance(step.work, Loop) else ():
                name = kernel.inner.kernels[at].params[ahead.param][0].name
                lines = f"{ahead.lines} lines for each d{ahead.dim}, {ahead.start} bytes on"
                yield f"    kernel {at} brings %{name} near: {lines}"
        return
    if isinstance(work, Product):
        batch = "".join(f" batch={entry[0]}" for entry in work.batch)
        head = (
            f"product{batch} m={work.m} n={work.n} k={work.k}  A={names[0]} {work.a_strides}  "
            f"B={names[1]} {work.b_strides}  C={names[2]}"
        )
    else:
        kind = type(work).__name__.lower()
        head = f"{kind} over {_tuple(work.body.domain)}"
        if work.body.reduced:
            head += f" reduced {_tuple(work.body.reduced)}"
        if isinstance(work, Running) and work.reverse:
            head += " reverse"
        if isinstance(work, CheckRange):
            head += f" in [{work.low}, {work.high}) check {work.number}"
        if isinstance(work, Scatter):
            action = "add" if work.add else "set"
            head += f" {action} {names[0]}[{_affine(0, work.coefficients)} + v{work.at}*{work.stride}] v{work.value}"
    yield f"kernel {number} {head}{commit}{comment}"
    body = kernel.work.elements
    if body is None:
        return
    if same != number:
        yield f"  as kernel {same}, on {' '.join(names)}"
        return
    if isinstance(work, Product):
        reduced = f" reduced {_tuple(body.reduced)}" if body.reduced else ""
        yield f"  epilogue over {_tuple(body.domain)}{reduced}"
    for i, instruction in enumerate(body.code):
        yield f"    {_instruction(i, instruction, names)}"


def _tuple(values: Sequence[int]) -> str:
    return f"({','.join(map(str, values))})"


def _affine(constant: int, coefficients: Sequence[int]) -> str:
    terms = [f"{c}*d{d}" if c != 1 else f"d{d}" for d, c in enumerate(coefficients) if c]
    if constant or not terms:
        terms.insert(0, str(constant))
    return " + ".join(terms)


def _bounds(bounds: Bounds) -> str:
    return "".join(f" where 0 <= {_affine(constant, terms)} < {n}" for constant, terms, n in bounds)


def _instruction(number: int, instruction: Instruction, names: Sequence[str]) -> str:
    dtype = dtype_name(instruction.dtype)
    if isinstance(instruction, Store):
        return (
            f"store v{instruction.arg} -> {names[instruction.param]}[{_affine(0, instruction.coefficients)}] : {dtype}"
        )
    return f"v{number} = {_value(instruction, names)} : {dtype}"


def _value(instruction: Instruction, names: Sequence[str]) -> str:
    if isinstance(instruction, Load):
        where = _affine(0, instruction.coefficients)
        return f"load {names[instruction.param]}[{where}]{_bounds(instruction.bounds)}"
    if isinstance(instruction, Gather):
        where = f"{_affine(0, instruction.coefficients)} + v{instruction.at}*{instruction.stride}"
        return f"gather {names[instruction.param]}[{where}]{_bounds(instruction.bounds)}"
    if isinstance(instruction, Const):
        return f"const {instruction.value!r}"
    if isinstance(instruction, Index):
        return f"index {_affine(instruction.constant, instruction.coefficients)}"
    if isinstance(instruction, Inside):
        return f"inside{_bounds(instruction.bounds)}"
    if isinstance(instruction, Reduce):
        return f"reduce {instruction.op} v{instruction.arg}"
    if isinstance(instruction, Apply):
        args = ", ".join(f"v{arg}" for arg in instruction.args)
        attrs = "".join(f" {key}={value}" for key, value in instruction.attrs)
        return f"{instruction.op} {args}{attrs}"
    assert isinstance(instruction, Tile)
    return "tile"
