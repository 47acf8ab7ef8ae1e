"""Features of Python around rewritten control flow: decorators, methods, closures, walrus, try, match, functions that
are given to functions."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import adjit
from tests.rewriting.check import same


def deco(g):
    @functools.wraps(g)
    def wrapped(*a, **k):
        if a[0] > 100:
            return 0.0
        return g(*a, **k)

    return wrapped


@deco
def decorated(x, *, k=2.0):
    if x > 0:
        return k * x
    return x


class A:
    def f(self, x):
        return x + 1 if x > 0 else x


class B(A):
    def f(self, x):
        y = super().f(x)
        if y > 2:
            y = y * 2
        return y


def nl(x):
    c = 0

    def inc():
        nonlocal c
        if x > 0:
            c += 1
        else:
            c -= 1

    inc()
    inc()
    return c


def walrus(x):
    if (y := x * 2) > 3:
        return y
    while (z := x * 2) < 50:
        x = z
    return x + y


def tr(x):
    try:
        if x > 0:
            y = x
        else:
            y = -x
    finally:
        z = 1.0
    return y + z


def comp(x):
    return sum([v if v > 0 else 0.0 for v in x])


def anyall(x):
    return (1.0 if any(v > 2 for v in x) else 0.0) + (2.0 if all(v > 0 for v in x) else 0.0)


def scanned(x):
    def body(c, v):
        if v > 0:
            c = c + v
        return c, c

    return adjit.scan(body, 0.0, x)


def pos(v):
    return v if v > 0 else -v


def mapped(x):
    return adjit.map(pos, x), list(map(pos, [x[0], x[1]]))


def matching(x, k):
    match k:
        case 1:
            if x > 0:
                return x
        case _:
            pass
    return -x


def whileelse(n):
    i = 0
    while i < n:
        i += 1
        if i == 5:
            break
    else:
        return -1
    return i


def cellread(x):
    t = 0.0
    for i in range(3):
        f = lambda v: v * i if v > 0 else 0.0  # noqa: E731, B023
        t = t + f(x)
    return t


def multi(x, y):
    a = b = 0.0
    if x > 0:
        (a, b), c = (x, y), 1
    else:
        c = 2
    return a + b * c


def contin(x):
    k = 0
    while True:
        k += 1
        if k % 2:
            continue
        if k > x:
            break
    return k


X = np.array([1.0, -3.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (decorated, [(3.0,), (-3.0,), (101.0,)]),
        (B().f, [(3.0,), (-3.0,)]),
        (functools.partial(decorated, k=3.0), [(2.0,), (-2.0,)]),
        (nl, [(1.0,), (-1.0,)]),
        (walrus, [(1.0,), (5.0,)]),
        (tr, [(2.0,), (-2.0,)]),
        (comp, [(X,), (-X,)]),
        (anyall, [(X,), (np.abs(X),), (-np.abs(X),)]),
        (scanned, [(X,)]),
        (mapped, [(X,)]),
        (whileelse, [(3,), (9,)]),
        (cellread, [(2.0,), (-2.0,)]),
        (multi, [(1.0, 2.0), (-1.0, 2.0)]),
        (contin, [(7,), (1,)]),
    ],
    ids=str,
)
def test_python_around_control_flow(function, calls) -> None:
    same(function, *calls)


def test_static_arguments_choose_while_the_function_is_traced() -> None:
    compiled = adjit.jit(matching, control_flow=True, static_argnames="k")
    assert [float(compiled(x, k)) for x in (2.0, -2.0) for k in (1, 2)] == [2.0, -2.0, 2.0, 2.0]


def test_a_function_is_rewritten_inside_of_grad() -> None:
    assert float(adjit.jit(lambda x: adjit.grad(pos)(x), control_flow=True)(-2.0)) == -1.0
