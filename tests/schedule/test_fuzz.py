"""Texts that are no plans: FormatError comes out of `parse_plan`, InternalError out of `verify_plan`, nothing else; and
what both take reaches no memory outside its buffers, which is asked of every index here.

Texts are printed plans of each kind of work, cut off or changed by a seeded generator."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ir.test_fuzz import LONG, PIECES, changed
from tests.schedule.texts import described

from adjit.codegen.kernels import EMITTERS
from adjit.schedule.across import Across
from adjit.schedule.buffer import storage
from adjit.schedule.factors import Factored
from adjit.schedule.instructions import Gather, Load, Store
from adjit.schedule.parse import parse_plan
from adjit.schedule.plan import Kernel, Plan
from adjit.schedule.sorts import Sorted
from adjit.schedule.text import print_plan
from adjit.schedule.turns import Nested, NestedStep, Straight, StraightLoop
from adjit.schedule.verify import verify_plan
from adjit.schedule.work import Product, Scatter, Single, Work
from adjit_runtime.errors import FormatError, InternalError

FILETESTS = Path(__file__).resolve().parent.parent / "filetests"


def filetests() -> dict[str, str]:
    """Every plan that stands in a filetest, by its name."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FILETESTS.glob("plan_*.ir")))
    plans = re.findall(r"^; expect:\n((?:;.*\n)*)", text, re.MULTILINE)
    return {plan.split("@")[1].split()[0]: re.sub(r"^; ?", "", plan, flags=re.MULTILINE) for plan in plans}


TEXTS = filetests()

OWN_PIECES = [
    "plan", "buffer %x : f32[2] input slot 0", "unused", "kernel 0", "kernel 1 loop over (2)", "as kernel 0, on %x",
    "arena+0", "arena+64", "arena+" + "9" * 18, "in place of %t3", "kernels 0..1", "kernels 0..99999999999999999999",
    "product", "running", "scatter", "checkrange", "sort f64 (2,3,1)", "argsort", "2 turns in 1 groups on %x by 2 {",
    "factor lu f64 (3,4,0) on", "transposed", "lower", "across 20 on %x by 16",
    "by 1", "by -1", "turns", "carried 1", "checks 0", "straight line 2", "reduced (0)", "reverse", "commit",
    "scratch", "batch=2 (1,2,3)", "epilogue over (1,2,2)", "v0", "v1 = load %x[d0] : f32", "d0", "d9", "p0", "+8", "-8",
    "where 0 <= d0 < 3", "where 0 <= -1 + d0 < 2", "v0 in [0,9)", "[0,9)", "reduce sum", "reduce cumsum", "gather",
    "const nan bits=4290772992", "bits=99999999999999999999", "index", "inside", "product", "store v0 -> %x[d0] : f32",
    'check 0 raises "A" "b" value "c"', "prefetch in kernel 0: 1 lines of %x for each d0, 8 bytes on", "64", "4096",
    "1000000", "-1", "0",
]  # fmt: skip


# -- every index ------------------------------------------------------------------------------------------------------


def spans(work: Single | StraightLoop) -> Iterator[tuple[int, int, int, int]]:
    """What a kernel reaches: parameter, smallest and largest element, bytes of one. By trying every index."""
    if isinstance(work, StraightLoop | Across):
        for param, (node, step) in enumerate(zip((*work.graph.inputs, *work.graph.outputs), work.turns, strict=True)):
            last = step * (work.count - 1)
            yield param, min(last, 0), max(last, 0) + node.array_type.size - 1, node.dtype.itemsize
        return
    if isinstance(work, Product):
        size = work.dtype.itemsize
        counts = tuple(entry[0] for entry in work.batch)
        matrices = (
            (0, (work.m, work.k), work.a_strides),
            (1, (work.k, work.n), work.b_strides),
            (2, (work.m, work.n), (work.c_row, 1)),
        )
        for param, extents, strides in matrices:
            index = np.indices((*counts, *extents))
            steps = (*(entry[1 + param] for entry in work.batch), *strides)
            if index.size and 0 not in (work.m, work.n) and not (work.scratch and param == 2):
                reached = weighted(index, 0, steps)
                yield param, int(reached.min()), int(reached.max()), size
        body = work.epilogue
    elif isinstance(work, Sorted):
        for param, dtype in ((0, work.dtype), (1, work.result)):
            if work.rows * work.n:
                yield param, 0, work.rows * work.n - 1, dtype.itemsize
        return
    elif isinstance(work, Factored):
        for param, elements in enumerate(work.sizes):
            if work.count * elements:
                yield param, 0, work.count * elements - 1, work.itemsize
        return
    else:
        body = work.body
    if body is None:
        return
    index = np.indices(body.domain)
    if not index.size and body.domain:
        return
    for i in body.code:
        if isinstance(i, Load | Gather | Store):
            reached, touched = weighted(index, 0, i.coefficients), np.ones(body.domain, bool)
            for constant, terms, n in () if isinstance(i, Store) else i.bounds:
                value = weighted(index, constant, terms)
                touched &= (value >= 0) & (value < n)
            ends = [0, i.stride * max(i.size - 1, 0)] if isinstance(i, Gather) else [0]
            if touched.any():
                reached = reached[touched]
                yield i.param, int(reached.min()) + min(ends), int(reached.max()) + max(ends), i.dtype.itemsize
    if isinstance(work, Scatter):
        reached, ends = weighted(index, 0, work.coefficients), [0, work.stride * max(work.size - 1, 0)]
        size = body.code[work.value].dtype.itemsize
        yield 0, int(reached.min()) + min(ends), int(reached.max()) + max(ends), size


def weighted(index: np.ndarray, constant: int, terms: Any) -> np.ndarray:
    total = np.full(index.shape[1:], constant, object)
    for each, factor in zip(index, terms, strict=True):
        total = total + each.astype(object) * factor
    return total


def is_small(work: Single | StraightLoop) -> bool:
    """Whether every index can be tried."""
    if isinstance(work, StraightLoop | Across):
        return True
    if isinstance(work, Product):
        return work.m * work.n * max(work.k, 1) * int(np.prod([e[0] for e in work.batch], dtype=object)) < 1 << 14
    if isinstance(work, Sorted | Factored):
        return True
    return int(np.prod(work.body.domain, dtype=object)) < 1 << 14


def assert_inside(plan: Plan, kernel: Kernel) -> None:
    """All that a kernel touches is in the memory of its parameters: in slots, or in the arena."""
    if isinstance(kernel.work, Straight):
        return
    for work, starts_of in reached(kernel.work):
        if not is_small(work):
            continue
        for param, low, high, size in spans(work):
            for number, start in starts_of(param):
                buffer, offset = kernel.params[number]
                home = storage(buffer)
                limit = (
                    plan.arena_bytes
                    if home.slot is None
                    else np.dtype(plan.slots[home.slot].dtype).itemsize
                    * int(np.prod(plan.slots[home.slot].shape, dtype=object))
                )
                begin = (home.offset if home.slot is None else 0) + offset * buffer.dtype.itemsize + start
                assert begin + low * size >= 0
                assert begin + (high + 1) * size <= limit


Starts = Callable[[int], list[tuple[int, int]]]
"""For a parameter of a work where it points, at the ends of all turns: parameter of the kernel, bytes past it."""


def reached(work: Work) -> list[tuple[Single | StraightLoop, Starts]]:
    """What a work consists of, each with where its parameters point."""
    if not isinstance(work, Nested):
        assert not isinstance(work, Straight)
        return [(work, lambda param: [(param, 0)])]
    found: list[tuple[Single | StraightLoop, Starts]] = []
    for step in work.steps:
        for inner, starts_of in reached(step.work):
            found.append((inner, functools.partial(_outer, work, step, starts_of)))
    return found


def _outer(work: Nested, step: NestedStep, starts_of: Starts, param: int) -> list[tuple[int, int]]:
    ends = [(t, g) for t in (0, work.count - 1) for g in (0, work.groups - 1)]
    places = [(step.params[number], start) for number, start in starts_of(param)]
    return [
        (place.param, place.start + start + place.turn * t + place.group * g)
        for place, start in places
        for t, g in ends
    ]


# -- texts ------------------------------------------------------------------------------------------------------------


def try_text(text: str) -> str:
    """How far a text comes."""
    try:
        plan = parse_plan(text)
    except FormatError:
        return "text"
    printed = print_plan(plan)
    again = parse_plan(printed)
    assert print_plan(again) == printed
    assert described(again) == described(plan)
    try:
        verify_plan(plan)
    except InternalError:
        return "plan"
    for kernel in plan.kernels:
        assert_inside(plan, kernel)
    return "holds"


def test_plans_of_every_kind_of_work_hold() -> None:
    assert {try_text(text) for text in TEXTS.values()} == {"holds"}
    kinds = {type(kernel.work).__name__ for text in TEXTS.values() for kernel in parse_plan(text).kernels}
    assert kinds == {kind.__name__ for kind in (*EMITTERS, Nested, Straight, StraightLoop)}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_end_early(name: str) -> None:
    text = TEXTS[name]
    assert {try_text(text[:end]) for end in range(0, len(text) - 1, 3)} <= {"text", "plan", "holds"}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_changed(name: str) -> None:
    choose = random.Random(name)
    pieces = OWN_PIECES * 4 + PIECES
    reached = {try_text(changed(TEXTS[name], choose, pieces)) for _ in range(250)}
    assert reached >= {"text", "holds"}


@pytest.mark.parametrize("name", TEXTS)
def test_numbers_that_are_changed(name: str) -> None:
    """What parses all the same, but says something else."""
    choose = random.Random(name)
    reached = set()
    for _ in range(250):
        words = TEXTS[name].split(" ")
        places = [i for i, word in enumerate(words) if any(c.isdigit() for c in word)]
        for i in choose.sample(places, choose.choice((1, 1, 2))):
            digits = [j for j, c in enumerate(words[i]) if c.isdigit()]
            j = choose.choice(digits)
            words[i] = words[i][:j] + choose.choice("0123456789") + words[i][j + choose.randint(0, 1) :]
        reached.add(try_text(" ".join(words)))
    assert reached == {"text", "plan", "holds"}


HEAD = "plan @f  arena 0 bytes (0 without reuse), peak 0 bytes\n"


@pytest.mark.parametrize("piece", LONG)
def test_long_texts_of_one_piece(piece: str) -> None:
    with pytest.raises(FormatError):
        parse_plan(HEAD + piece * LONG[piece] + "\nkernel")


def test_what_is_cut_and_read_by_no_kernel_of_a_tile() -> None:
    text = TEXTS["loss"]
    assert text.count("load %x0[") == 1
    assert try_text(text.replace("load %x0[12*d0 + d1]", "load %w0[d1]")) == "holds"


def test_plans_deep_in_one_another() -> None:
    text = HEAD + "kernel 0 2 turns in 1 groups on { " * 3000
    with pytest.raises(FormatError):
        parse_plan(text.replace("{ kernel", "{ " + HEAD + "kernel"))


def test_long_chains_of_places() -> None:
    """Buffers each in place of the next, which stands after it."""
    lines = [f"buffer %b{i} : f32[1] arena+0 in place of %b{i + 1}  kernels 0..0" for i in range(4_000)]
    last = "buffer %b4000 : f32[1] arena+0  kernels 0..0"
    plan = parse_plan("\n".join([HEAD.strip(), *lines, last]))
    assert {storage(buffer).name for buffer in plan.buffers} == {"b4000"}
    with pytest.raises(FormatError, match="in place of itself"):
        parse_plan("\n".join([HEAD.strip(), *lines, last.replace("arena+0", "arena+0 in place of %b0")]))
