"""Plans as text that parses back to the same text: `print_plan` here, `parse_plan` in `schedule.parse`.

plan @step  arena 4096 bytes (8320 without reuse), peak 4096 bytes  # model.py:12
buffer %w : f32[64,32] state slot 0
buffer %labels : i64[16] input slot 2
unused %key : i64[] input slot 1
buffer %t4 : f32[512] arena+0  kernels 2..3  # model.py:12
buffer %t5 : f32[512] arena+0 in place of %t4  kernels 3..5  # model.py:13
check 0 raises "IndexOutOfRange" "model.py:14: index " value " is out of bounds for axis 1 with size 10"
kernel 0 checkrange over (16) v0 in [-10,10) check 0  # model.py:14
    v0 = load %labels[d0] : i64
kernel 2 product m=16 n=32 k=64  A=%x (64,1)  B=%w (32,1)  C=%t4 (32,1)  # model.py:12
  epilogue over (1,16,32)
    v0 = product : f32
    v1 = load %b[d2] : f32
    v2 = add v0, v1 : f32
    store v2 -> %t4[32*d1 + d2] : f32
kernel 3 loop over (8)  # model.py:14, optim.py:9
  as kernel 1, on %t5+8 %t6

Slots, each of its shape, are the program's; its inputs are those of inputs and state, its results those of outputs, in
order. One that no kernel names is `unused`; a name in quotes after the slot is the slot's, where the buffer's differs.
A constant has its elements or digest as in a graph's text. Other buffers lie in the arena. A check in a loop has its
place after it, `loop "model.py:12"`, where it tells the turn.

Work: `loop`, `running ... reverse`, `scatter ... add v1 -> %t9[8*d0 + v0*1] v0 in [0,8)`, `checkrange`, `product` with
the strides of A, B and C and `batch=4 (64,64,16)` (extent; strides of A, B and C), `scratch` after C where its blocks
are made, `straight line on` the slots, with a graph, `straight line 9 turns carried 2 checks 0 on %c %d %x by 1 ...`,
whose line is run so often, with values that it carries and the number of its first check, `across 1000 on %x by 16 ...`
with the graph of one place, and `8 turns in 4 groups on %x by 64 %w`, with the plan of a turn in braces: the places are
its slots, then scratch memory, `by` says by how many elements one moves on with each turn; state moves on by its size
with each group; `prefetch` says what its loops prefetch. `commit` marks copies of new state that others still read.

A body has an instruction a line, v0, v1 ...; a store has a number, too. `%t5+8[3*d0 + d1]` is the element at 8 + 3 d0 +
d1; `where 0 <= d0 < 5` says where memory is touched, `v0 in [0,8)` within what a position is held. A `const` whose bits
its number does not give has `bits=`. Parameters are numbered in the order in which the body names them; else the
kernel's line ends in `on`, with all of them. Equal works print once: `as kernel 1, on %t5+8 %t6`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adjit.ir.node import Loc
from adjit.ir.op import OPS
from adjit.ir.quote import quote
from adjit.ir.text import array_text, attribute_text, literal, print_graph, quoted
from adjit.ir.types import Array, dtype_name
from adjit.schedule.across import Across
from adjit.schedule.buffer import Buffer
from adjit.schedule.instructions import (
    Apply,
    Body,
    Bounds,
    Const,
    Gather,
    Index,
    Inside,
    Instruction,
    Load,
    ProductElement,
    Reduce,
    Store,
)
from adjit.schedule.notation import affine, over
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.turns import Nested, Straight, StraightLoop
from adjit.schedule.work import Loop, Single, Work


def print_plan(plan: Plan) -> str:
    """The whole plan; ASCII but for the files of its lines."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield (
        f"plan {quoted('@', plan.name)}  arena {plan.arena_bytes} bytes ({plan.bytes_without_reuse} without reuse), "
        f"peak {plan.peak_bytes} bytes{_comment(plan.peak_loc)}"
    )
    names = _names(plan.buffers)
    for buffer in plan.buffers:
        yield _buffer(buffer, plan, names)
    used = {buffer.slot for buffer in plan.buffers}
    for number, slot in enumerate(plan.slots):
        if number not in used:
            yield f"unused {_slot(number, plan, quoted('%', slot.name))}"
    for number, check in enumerate(plan.checks):
        after = f" value {quote(check.after)}" if check.after is not None else ""
        loop = f" loop {quote(check.loop)}" if check.loop else ""
        yield f"check {number} raises {quote(check.error)} {quote(check.before)}{after}{loop}"
    numbers: dict[object, int] = {}
    for i, kernel in enumerate(plan.kernels):
        yield from _kernel(i, kernel, numbers.setdefault(kernel.work, i), names)


def _names(buffers: Sequence[Buffer]) -> dict[Buffer, str]:
    """The name that each has in the text: the second `t8` is `t8_1`."""
    names: dict[Buffer, str] = {}
    counts: dict[str, int] = {}
    for buffer in buffers:
        name = buffer.name
        while name in counts:
            counts[buffer.name] += 1
            name = f"{buffer.name}_{counts[buffer.name]}"
        counts[name] = 0
        names[buffer] = quoted("%", name)
    return names


def _comment(*locs: Loc | None) -> str:
    lines = ", ".join(str(loc) for loc in locs if loc is not None)
    return f"  # {lines}" if lines else ""


def _slot(number: int, plan: Plan, name: str) -> str:
    slot = plan.slots[number]
    type = Array(np.dtype(slot.dtype), slot.shape, slot.weak)
    own = f" {quote(slot.name)}" if quoted("%", slot.name) != name else ""
    data = plan.constants.get(number)
    held = "" if data is None else f" {array_text(data, type) or f'sha256={data.digest}'}"
    return f"{name} : {type} {slot.role} slot {number}{own}{held}"


def _buffer(buffer: Buffer, plan: Plan, names: dict[Buffer, str]) -> str:
    if buffer.slot is not None:
        return f"buffer {_slot(buffer.slot, plan, names[buffer])}"
    shared = f" in place of {names[buffer.inside]}" if buffer.inside is not None else ""
    return (
        f"buffer {names[buffer]} : {dtype_name(buffer.dtype)}[{buffer.size}] arena+{buffer.offset}{shared}  "
        f"kernels {buffer.first}..{buffer.last}{_comment(buffer.loc)}"
    )


# -- kernels ----------------------------------------------------------------------------------------------------------


def _kernel(number: int, kernel: Kernel, same: int, names: dict[Buffer, str]) -> Iterator[str]:
    yield from OF_KIND.get(type(kernel.work), _single)(number, kernel, same, _places(kernel, names))


def _single(number: int, kernel: Kernel, same: int, places: Sequence[str]) -> Iterator[str]:
    work = kernel.work
    assert isinstance(work, Single)
    body, first = work.elements, work.operands
    commit = " commit" if kernel.commits else ""
    listed = same == number and body is not None and not _is_in_order(body, first, places)
    every = f" on {' '.join(places)}" if listed else ""
    yield f"kernel {number} {work.head(places)}{commit}{every}{_comment(*kernel.locs)}"
    if body is None:
        return
    if same != number:
        yield f"  as kernel {same}, on {' '.join(places)}"
        return
    if work.title:
        yield f"  {work.title} {over(body)}"
    known = _once(places, first)
    for i, instruction in enumerate(body.code):
        yield f"    {_instruction(i, instruction, known)}"


def _straight(number: int, kernel: Kernel, _: int, places: Sequence[str]) -> Iterator[str]:
    assert isinstance(kernel.work, Straight)
    yield f"kernel {number} straight line on {' '.join(places)}{_comment(*kernel.locs)}"
    yield from (f"  {line}" for line in print_graph(kernel.work.graph).splitlines())


def _straight_loop(number: int, kernel: Kernel, _: int, places: Sequence[str]) -> Iterator[str]:
    work = kernel.work
    assert isinstance(work, StraightLoop)
    moving = " ".join(map(_moving, places, (*work.turns, 0)))
    head = f"straight line {work.count} turns{_ways(work)} carried {work.carried}{_first_check(work)}"
    yield f"kernel {number} {head} on {moving}{_comment(*kernel.locs)}"
    yield from (f"  {line}" for line in print_graph(work.graph).splitlines())


def _across(number: int, kernel: Kernel, _: int, places: Sequence[str]) -> Iterator[str]:
    assert isinstance(kernel.work, Across)
    yield f"kernel {number} {kernel.work.head(places)}{_comment(*kernel.locs)}"
    yield from (f"  {line}" for line in print_graph(kernel.work.graph).splitlines())


def _places(kernel: Kernel, names: dict[Buffer, str]) -> list[str]:
    return [names[buffer] + (f"+{offset}" if offset > 0 else str(offset or "")) for buffer, offset in kernel.params]


def _once(places: Sequence[str], first: int) -> list[str]:
    """A place that a body is given twice is named by its number the second time."""
    known: dict[str, int] = {}
    return [name if i < first or known.setdefault(name, i) == i else f"p{i}" for i, name in enumerate(places)]


def _is_in_order(body: Body, first: int, places: Sequence[str]) -> bool:
    """Whether parameters are numbered as the body names them, each once."""
    found = dict.fromkeys(i.param for i in body.code if isinstance(i, Load | Gather | Store))
    return list(found) == list(range(first, len(places))) and len({*places[first:]}) == len(found)


def _moving(place: str, step: int) -> str:
    """A place, and by how many elements it moves with each turn."""
    return f"{place} by {step}" if step else place


def _ways(work: Nested | StraightLoop) -> str:
    """How a loop goes through its turns."""
    ways = ["reverse", "stops", "counted", "ranged", *(["stretches"] if isinstance(work, Nested) else [])]
    return "".join(f" {name}" for name in ways if getattr(work, name))


def _first_check(work: Nested | StraightLoop) -> str:
    return f" checks {work.first_check}" if work.first_check is not None else ""


def _nested(number: int, kernel: Kernel, _: int, places: Sequence[str]) -> Iterator[str]:
    work, inner = kernel.work, kernel.inner
    assert isinstance(work, Nested)
    assert inner is not None
    sizes = [buffer.dtype.itemsize for buffer, _ in kernel.params]
    groups = f" in {work.groups} groups" if work.groups > 1 else ""
    steps = [turn // size for turn, size in zip((*work.turns, 0), sizes, strict=False)]
    moving = " ".join(map(_moving, places, steps))
    head = f"kernel {number} {work.count} turns{groups}{_ways(work)}{_first_check(work)} on {moving} {{"
    yield f"{head}{_comment(*kernel.locs)}"
    yield from (f"    {line}" for line in _lines(inner))
    names = _names(inner.buffers)
    for at, step in enumerate(work.steps):
        for prefetch in step.work.prefetches if isinstance(step.work, Loop) else ():
            name = _once(_places(inner.kernels[at], names), 0)[prefetch.param]
            lines = f"{prefetch.lines} lines of {name} for each d{prefetch.dim}, {prefetch.start} bytes on"
            yield f"    prefetch in kernel {at}: {lines}"
    yield "}"


OF_KIND: dict[type[Work], Callable[[int, Kernel, int, Sequence[str]], Iterator[str]]] = {
    Nested: _nested,
    Straight: _straight,
    StraightLoop: _straight_loop,
    Across: _across,
}
"""How those are printed that have a graph or a plan in them; all others have a head, and perhaps a body."""


# -- bodies -----------------------------------------------------------------------------------------------------------


def _bounds(bounds: Bounds) -> str:
    return "".join(f" where 0 <= {affine(constant, terms)} < {n}" for constant, terms, n in bounds)


def _instruction(number: int, instruction: Instruction, places: Sequence[str]) -> str:
    dtype = dtype_name(instruction.dtype)
    if isinstance(instruction, Store):
        where = f"{places[instruction.param]}[{affine(0, instruction.coefficients)}]"
        return f"store v{instruction.arg} -> {where} : {dtype}"
    return f"v{number} = {_value(instruction, places)} : {dtype}"


def _value(instruction: Instruction, places: Sequence[str]) -> str:
    if isinstance(instruction, Load):
        where = affine(0, instruction.coefficients)
        return f"load {places[instruction.param]}[{where}]{_bounds(instruction.bounds)}"
    if isinstance(instruction, Gather):
        where = affine(0, instruction.coefficients, (instruction.at, instruction.stride))
        held = f"v{instruction.at} in [0,{instruction.size})"
        return f"gather {places[instruction.param]}[{where}] {held}{_bounds(instruction.bounds)}"
    if isinstance(instruction, Const):
        return f"const {_constant(instruction)}"
    if isinstance(instruction, Index):
        return f"index {affine(instruction.constant, instruction.coefficients)}"
    if isinstance(instruction, Inside):
        return f"inside{_bounds(instruction.bounds)}"
    if isinstance(instruction, Reduce):
        return f"reduce {instruction.op} v{instruction.arg}"
    if isinstance(instruction, Apply):
        args = ", ".join(f"v{arg}" for arg in instruction.args)
        kinds = OPS[instruction.op].attr_kinds
        attrs = "".join(f" {name}={attribute_text(kinds[name], value)}" for name, value in instruction.attrs)
        return f"{instruction.op} {args}{attrs}"
    assert isinstance(instruction, ProductElement)
    return "product"


def _constant(instruction: Const) -> str:
    text = literal(instruction.value, instruction.dtype)
    if instruction.value == instruction.value or instruction.bits == np.array(np.nan, instruction.dtype).tobytes():
        return text
    return f"{text} bits={int.from_bytes(instruction.bits, 'little')}"
