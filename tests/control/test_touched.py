"""What a turn of a loop, and one of its derivatives, costs depends on what it touches, not on the arrays around that:
no kernel of a turn goes over an array, and nothing of an array is kept for each turn."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from tests.control.check import same

TURNS = 5
Body = Callable[[Any, Any, Any], Any]
"""body(i, carry, x): the next carry; `c` is a carried array, `s` a number."""


def read(i: Any, s: Any, x: Any) -> Any:
    return s + np.sin(x[i * 7 % 31, 0]) * x[i * 5 % 31, 1]


def read_rows(i: Any, s: Any, x: Any) -> Any:
    return s * 0.9 + (np.sin(x[i * 7 % 31]) * x[i * 3 % 31, :]).sum()


def read_several(i: Any, s: Any, x: Any) -> Any:
    return s * 0.9 + np.sin(x[(i * 7 + np.arange(3)) % 31]).sum() + np.take(x, i * 11 % 31)


def read_always(i: Any, s: Any, x: Any) -> Any:
    return s * np.cos(s) + (x[2:4] * s).sum() + x[5, 1] * x[7, 0] * s


def read_of_two_loops(i: Any, s: Any, x: Any) -> Any:
    return adjit.fori_loop(0, i, lambda j, s: s * 0.9 + np.sin(x[i, j % 2] * x[j, 1]), s)


def read_of_a_side(i: Any, s: Any, x: Any) -> Any:
    return adjit.cond(s > 2.0, lambda: s * 0.5 + x[i * 7 % 31, 0], lambda: s + np.sin(x[i * 3 % 31, 1]))


def write(i: Any, c: Any, x: Any) -> Any:
    c[i * 7 % 31, 1] = np.sin(c[i * 5 % 31, 0]) * x[i, 0]
    return c


def write_rows(i: Any, c: Any, x: Any) -> Any:
    c[i * 7 % 31] = c[i * 5 % 31] * np.cos(x[i])
    return c


def write_several(i: Any, c: Any, x: Any) -> Any:
    k = (i * 7 + np.array([0, 3, 0])) % 31
    c[k] = c[k] * np.sin(c[(k + 1) % 31]) + x[:3]
    return c


def write_always(i: Any, c: Any, x: Any) -> Any:
    c[0] = np.sin(c[1]) + c[2] * x[i]
    c[1, 0] = c[0, 0] * c[4, 1]
    return c


def write_a_part_of_a_row(i: Any, c: Any, x: Any) -> Any:
    c[i * 7 % 31, :1] = np.sin(c[i * 5 % 31, 1:]) * x[i, 1:]
    return c


def write_a_box(i: Any, c: Any, x: Any) -> Any:
    """Between places along both axes: that is a choice between two arrays, which goes over the whole."""
    c[2:4, :1] = np.sin(c[3:5, 1:]) * x[i, 0]
    return c


def write_a_view(i: Any, c: Any, x: Any) -> Any:
    row = c[i * 7 % 31]
    row[i % 2] = c[2:3, 1:].sum() * x[i, 0]
    return c


def write_as_the_first_ones(i: Any, c: Any, x: Any) -> Any:
    """Nothing but the write reads the row that it leaves the rest of."""
    row = np.sin(x[i * 5 % 31])
    row[i % 2] = c[i, 0]
    c[i * 7 % 31] = row
    return c


def copy(i: Any, c: Any, x: Any) -> Any:
    c[i * 7 % 31] = c[i * 5 % 31]
    return c


def swap(i: Any, c: Any, x: Any) -> Any:
    j, k = i * 7 % 31, (i * 5 + 1) % 31
    kept = c[j] * x[0]
    c[j] = c[k]
    c[k] = kept
    return c


def add(i: Any, c: Any, x: Any) -> Any:
    c[i * 7 % 31] += np.sin(x[i])
    c[i * 5 % 31, 0] *= x[i, 1]
    return c


def write_of_two_loops(i: Any, c: Any, x: Any) -> Any:
    def inner(j: Any, c: Any) -> Any:
        c[i, j] = np.sin(c[i, 1 - j]) * x[j, i % 2] + c[i + 1, j]
        return c

    return adjit.fori_loop(0, 2, inner, c)


def write_of_a_side(i: Any, c: Any, x: Any) -> Any:
    def one(c: Any) -> Any:
        c[i * 7 % 31, 0] = np.sin(c[i, 1])
        return c

    return adjit.cond(i % 2 == 0, one, lambda c: c, c)


def write_of_each_side(i: Any, c: Any, x: Any) -> Any:
    def writes(at: int) -> Callable[[Any], Any]:
        def side(c: Any) -> Any:
            c[i * 7 % 31, at] = np.sin(c[i, 1 - at]) * x[at, 0]
            return c

        return side

    return adjit.switch(i % 3, [writes(0), lambda c: c, writes(1)], c)


READS: list[Body] = [read, read_rows, read_several, read_always, read_of_two_loops, read_of_a_side]
WRITES: list[Body] = [
    write, write_rows, write_several, write_always, write_a_part_of_a_row, write_a_view,
    write_as_the_first_ones, copy, swap, add, write_of_two_loops, write_of_a_side, write_of_each_side,
]  # fmt: skip
BODIES = [*READS, *WRITES]


def program(body: Body) -> Callable[[Any, Any], Any]:
    """A function of a carried array and an invariant."""

    def f(c: Any, x: Any) -> Any:
        x, c = adjit.asarray(x), adjit.asarray(c)
        first = c[0, 0] if body in READS else c
        return (adjit.fori_loop(0, TURNS, lambda i, carry: body(i, carry, x), first) ** 2).sum()

    return f


def arrays(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    return rng.uniform(0.3, 0.9, (rows, 2)), rng.uniform(0.3, 0.9, (rows, 2))


def gradient(f: Callable[[Any, Any], Any]) -> Any:
    return adjit.grad(f, argnums=(0, 1))


def directional(f: Callable[[Any, Any], Any]) -> Any:
    return adjit.jit(lambda c, x: adjit.jvp(f, (c, x), (c, x))[1])


def curvature(f: Callable[[Any, Any], Any]) -> Any:
    return adjit.jit(lambda c, x: adjit.jvp(adjit.grad(f, argnums=(0, 1)), (c, x), (c, x))[1])


MAKERS = [adjit.jit, gradient, directional, curvature]


def kernels_of_turns(plan: str) -> list[int]:
    """How many elements the kernels in loops go over."""
    found = re.findall(r"^ {4,}kernel .* over \(([\d,]*)\)", plan, re.MULTILINE)
    return [math.prod(int(n) for n in domain.split(",") if n) for domain in found]


@pytest.mark.parametrize("make", MAKERS, ids=["value", "gradient", "jvp", "hvp"])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_no_kernel_of_a_turn_goes_over_an_array(body: Body, make: Callable[..., Any]) -> None:
    found = kernels_of_turns(make(program(body)).ir("plan", *arrays(500)))
    assert max(found, default=0) < 50, found


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_memory_is_that_of_arrays_and_of_what_is_touched(body: Body) -> None:
    """Neither arrays for each turn, nor several more of them than there are values and cotangents."""
    small, large = (
        int(re.findall(r"arena (\d+) bytes", gradient(program(body)).ir("plan", *arrays(rows)))[0])
        for rows in (500, 1000)
    )
    assert large - small <= 3 * 500 * 2 * 8


@pytest.mark.parametrize("body", [*BODIES, write_a_box], ids=lambda body: body.__name__)
def test_values_and_derivatives(body: Body) -> None:
    c, x = arrays(31)
    f = program(body)
    same(f, c, x)
    adjit.check_grads(f, (c, x), order=2 if body in (read_several, write_several, write_of_a_side, swap) else 1)


def test_a_side_that_gives_its_operand_back_is_no_loop() -> None:
    def f(c: Any, p: Any) -> Any:
        return adjit.cond(p, lambda c: c, lambda c: c * 2.0, c)

    c = np.ones(500)
    assert str(adjit.jit(f).ir("trace", c, True)).count(" = scan ") == 1
    for p in (True, False):
        same(f, c, p)


def test_sides_begin_as_one_operand_each() -> None:
    """Two results that are the same operand changed, or crossed, have a memory of their own each."""

    def f(a: Any, b: Any, p: Any) -> Any:
        def crossed(a: Any, b: Any) -> Any:
            a[0] = b[1]
            return b, a

        def twice(a: Any, b: Any) -> Any:
            b[1] = 3.0
            return b, b

        return adjit.cond(p, crossed, twice, a, b)

    a, b = np.arange(4.0), np.arange(4.0) + 10
    for p in (True, False):
        same(f, a, b, p)
        adjit.check_grads(
            lambda a, b, p=p: f(a, b, adjit.asarray(a).sum() < 100 if p else adjit.asarray(a).sum() > 100),
            (a, b),
            order=1,
        )


def test_a_result_that_is_written_into_an_array_too() -> None:
    """What the array was there is read when that result is known."""

    def f(c: Any, x: Any) -> Any:
        def turn(carry: Any, e: Any) -> Any:
            c, s = carry
            v = np.sin(e)
            s = s * 0.5 + (c[3:5] * np.exp(v).sum()).sum()
            c[3:5] = v
            return (c, s), v

        (c, s), vs = adjit.scan(turn, (adjit.asarray(c), c[0, 0]), x)
        return (c * c).sum() + s + vs[1:].sum()

    c, x = arrays(400)[0], np.linspace(0.1, 0.9, 16).reshape(4, 2, 2)
    same(f, c, x)
    adjit.check_grads(f, (c, x), order=1)


def _joined(a: Any, i: Any) -> Any:
    joined = np.concatenate([a, a * 2])
    joined[i] = 500.0
    return (a * joined.sum()).sum()


def _joined_twice(a: Any, i: Any) -> Any:
    joined = np.concatenate([np.concatenate([a, a * 2]), a * 3])
    joined[i] = 500.0
    return (a * joined.sum()).sum()


def _joined_and_carried(a: Any, i: Any) -> Any:
    def body(k: Any, c: Any) -> Any:
        c[(i + k) % 400] = 7.0 + c[i]
        return c

    return (a * adjit.fori_loop(0, 3, body, np.concatenate([a, a * 2])).sum()).sum()


@pytest.mark.parametrize("function", [_joined, _joined_twice, _joined_and_carried])
def test_a_part_is_read_when_what_it_is_joined_to_has_changed(function: Callable[[Any, Any], Any]) -> None:
    same(lambda x, i: function(np.sin(x), i), np.linspace(0.1, 1, 400), np.int64(3))
