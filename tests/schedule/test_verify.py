"""The verifier of plans: what would reach memory outside its buffers, or says another thing than is done, is refused.

Plans are those of the filetests, with something changed in their texts."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from tests.schedule.test_fuzz import TEXTS

from adjit.schedule.parse import parse_plan
from adjit.schedule.verify import extremes, verify_plan
from adjit_runtime.errors import InternalError

FILLS = "loop over ({})  # model.py:4\n    v0 = load %table[d0] : f32\n    store v0 -> %result{}[d0]"
WRONG = [
    ("twice", "arena+0  kernels 2..3", "arena+64  kernels 2..3", "outside the arena or not aligned"),
    ("twice", "arena+0  kernels 2..3", "arena+0  kernels 3..3", "alive at kernels 3 to 3, not 2 to 3"),
    ("twice", "arena+0  kernels 0..1", "arena+0  kernels 0..2", "overlap while both are alive"),
    ("twice", "arena 2048 bytes", "arena 2049 bytes", "no multiple of 64"),
    ("twice", "%t4 : f32[500]", "%t4 : f32[499]", "kernel 2 reaches elements 0 to 499 of %t4, which has 499"),
    ("twice", "kernel 2 loop over (500)", "kernel 2 loop over (500) commit", ""),
    ("places", "arena+16384 in place of %t5", "arena+0 in place of %t5", "does not lie where %t5 lies"),
    ("map", "buffer %result0", "buffer %h : f16[3] input slot 3\nbuffer %result0", "%h is float16, which machine code"),
    ("map", "load %x[d0]", "load %x[2*d0]", "reaches elements 0 to 3998 of %x, which has 2000"),
    ("map", "load %x[d0]", "load %x[-1*d0]", "reaches elements -1999 to 0 of %x"),
    ("map", "load %x[d0]", "load %x+1[d0]", "reaches elements 1 to 2000 of %x"),
    ("map", "load %x[d0]", "load %x+9[d0] where 0 <= d0 < 1991", ""),
    ("map", "load %x[d0]", "load %x+9[d0] where 0 <= d0 < 1992", "reaches elements 9 to 2000 of %x"),
    ("shifted", "load %x-2[40*d0 + d1] where 0 <= -2 + d1 < 40", "load %x-2[40*d0 + d1]", "elements -2 to 359 of %x"),
    ("shifted", "d1] where 0 <= -2 + d1 < 40", "d1] where 0 <= -1 + d1 < 40", "elements -1 to 358 of %x"),
    ("shifted", "d1] where 0 <= -2 + d1 < 40", "d1] where 0 <= -2 + d1 < 41 where 0 <= -9 + d1 < 20", ""),
    ("shifted", "d1] where 0 <= -2 + d1 < 40", "d1] where 0 <= -2 + 40*d0 + d1 < 360", ""),
    ("shifted", "d1] where 0 <= -2 + d1 < 40", "d1] where 0 <= -2 + 40*d0 + d1 < 361", "elements 0 to 360 of %x"),
    ("embedding", "v0 in [0,50) : f32", "v0 in [0,51) : f32", "kernel 2 reaches elements 0 to 815 of %table"),
    ("embedding", "gather %table[d1 + v0*16]", "gather %table[d1 + v0*-16]", "elements -784 to 15 of %table"),
    ("embedding", "-> %result1[d1 + v0*16] v0 in [0,50)", "-> %result1[d1 + v0*16] v0 in [0,51)", "kernel 4 reaches"),
    ("embedding", "scatter over (40,16) add", "scatter over (40,17) add", "kernel 4 reaches"),
    ("embedding", FILLS.format(800, 1), FILLS.format(640, 0), "4 changes %result1"),
    ("layer", "k=100", "k=101", "kernel 0 reaches elements 0 to 6400 of %x"),
    ("layer", "A=%x (100,1)", "A=%x (101,1)", "kernel 0 reaches elements 0 to 6462 of %x"),
    ("layer", "B=%w (70,1)", "B=%w (1,100)", ""),
    ("layer", "B=%w (70,1)", "B=%w (-70,1)", "kernel 0 reaches elements -6930 to 69 of %w"),
    ("layer", "C=%result0 (70,1)", "C=%result0 (71,1)", "kernel 0 reaches elements 0 to 4542 of %result0"),
    ("batch", "batch=5", "batch=6", "kernel 0 reaches elements 0 to 2303 of %x"),
    ("batch", "(384,768,512)", "(384,768,513)", "kernel 0 reaches elements 0 to 2563 of %result0"),
    ("loss", "1 8 turns in", "1 9 turns in", "kernel 1 reaches 3456 bytes of %x"),
    ("loss", "8 turns in 8 groups", "7 turns in 7 groups", ""),
    ("loss", "8 turns in 8 groups", "8 turns in 4 groups", ""),
    ("loss", "on %x by 96", "on %x+1 by 96", "beyond its end"),
    ("loss", "on %x by 96", "on %x by 97", "beyond its end"),
    ("loss", "on %x by 96", "on %x by -96", "beyond its end"),
    ("loss", "%w %t4", "%w-1 %t4", "beyond its end"),
    ("recursion", "%x by 1", "%x+1 by 1", "kernel 0 reaches beyond %x"),
    ("recursion", "%x by 1", "%x+98 by -1", "kernel 0 reaches beyond %x"),
    ("recursion", "line 100 turns", "line 101 turns", "kernel 0 reaches beyond %x"),
    ("recursion", "line 100 turns", "line 0 turns", "kernel 0 is no loop over a straight line"),
    ("recursion", "%result1 by 1", "%result1", "turns of kernel 0 write over each other in %result1"),
    ("recursion", "carried 1", "carried 2", "kernel 0 carries value 1 as something else"),
    ("recursion", "carried 1", "carried 3", "kernel 0 carries 3 values of its line"),
    ("recursion", "carried 1 on %c", "carried 1 on %c by 1", "kernel 0 carries value 0 as something else"),
    ("recursion", "turns reverse", "turns stops", "kernel 0 stops by what is no bool"),
    ("recursion", "turns reverse", "turns counted", "kernel 0 is not given what its work takes"),
    ("recursion", "turns reverse", "turns ranged", "kernel 0 has a range of turns and no operand that has it"),
    ("nested", "counted ranged", "counted", ""),
    ("nested", "some : i64[2] input", "some : i64[1] input", "kernel 0 has no number of turns"),
    ("nested", "on %table %h %row %t4 %some", "on %table %table %row %t4 %some", "kernel 0 reads %table elsewhere"),
    ("recursion", "carried 1 on", "carried 1 checks 0 on", "the checks of kernel 0 are not among those of the plan"),
    ("layers", "20 turns checks 0 on", "21 turns checks 0 on", "kernel 1 reaches 4200 bytes of %x, beyond its end"),
    ("layers", "20 turns checks 0 on", "20 turns checks 1 on", "the checks of kernel 1 are not among those"),
    ("layers", "%at by 1", "%at by -1", "beyond its end"),
    ("layers", "%result0 %x", "%h %x", "kernel 1 writes the input %h"),
    ("loss", "%x0 : f32[8,12] input", "%x0 : f32[8,13] input", "beyond its end"),
    ("loss", "%x0 : f32[8,12] input", "%x0 : f32[8,11] input", "elements 0 to 95 of %x0, which has 88"),
    ("loss", "plan @tile  arena 64", "plan @tile  arena 128", "beyond its end"),
    ("loss", "plan @tile  arena 64", "plan @tile  arena 0", "outside the arena"),
    ("loss", "%w : f32[12] input", "%w : f64[12] input", "kernel 1 takes %w for float32"),
    ("step", "%x : f32[4,2] input", "%x : f32[4,1] input", "%x is not what the straight line takes"),
    ("step", "%w : f32[2,2] state", "%w : f32[2,2] input", "kernel 0 writes the input %w"),
    ("step", "line on %w %x", "line on %x %w", "kernel 0 writes the input %x"),
    ("step", "line on %w %x", "line on %x", "kernel 0 is not given what its work takes"),
    ("step", "buffer %result0", "unused %h : f32[3] input slot 3\nbuffer %result0", "other inputs and outputs than"),
    ("step", "%result0 : f32[] output", "%result0 : f64[] output", "%result0 is not what the straight line takes"),
    ("step", "update %w = %3", "update %w = %1", "update"),
]  # fmt: skip
"""A plan, what is changed in it, and what is said of that; "": it holds all the same."""


@pytest.mark.parametrize(("name", "old", "new", "message"), WRONG)
def test_a_plan_that_says_something_else(name: str, old: str, new: str, message: str) -> None:
    text = TEXTS[name]
    assert text.count(old) == 1
    verify_plan(parse_plan(text))
    if not message:
        verify_plan(parse_plan(text.replace(old, new)))
        return
    with pytest.raises(InternalError, match=message):
        verify_plan(parse_plan(text.replace(old, new)))


@pytest.mark.parametrize("seed", range(300))
def test_extremes_leave_nothing_out(seed: int) -> None:
    """Against every index: never too narrow, and exact where each bound is on one dimension, or on what is asked."""
    choose = random.Random(seed)
    extents = tuple(choose.randint(1, 5) for _ in range(choose.randint(0, 3)))
    terms = tuple(choose.randint(-9, 9) for _ in extents)
    bounds = []
    for _ in range(choose.randint(0, 3)):
        kind = choose.randrange(3)
        factors = [0] * len(extents) if kind == 0 else [choose.randint(-3, 3) for _ in extents]
        if kind == 0 and extents:
            factors[choose.randrange(len(extents))] = choose.choice((-2, -1, 1, 2))
        if kind == 2:
            factors = [-t for t in terms]
        bounds.append((choose.randint(-9, 9), tuple(factors), choose.randint(0, 30)))
    reached = [
        int(np.dot(index, terms)) if extents else 0
        for index in itertools.product(*map(range, extents))
        if all(0 <= c + sum(f * i for f, i in zip(factors, index, strict=True)) < n for c, factors, n in bounds)
    ]
    found = extremes(extents, terms, tuple(bounds))
    if found is None:
        assert not reached
    elif reached:
        assert found[0] <= min(reached)
        assert max(reached) <= found[1]
    single = all(sum(map(bool, factors)) <= 1 for _, factors, _ in bounds)
    if single and reached:
        assert found == (min(reached), max(reached))
