"""A table of programs as people write them: compiled with control_flow=True each gives what plain Python gives, on each
of its paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.rewriting.check import same


def newton(a):
    x = a
    while abs(x * x - a) > 1e-10:
        x = 0.5 * (x + a / x)
    return x


def collatz(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


def euclid(a, b):
    while b:
        a, b = b, a % b
    return a


def bisection(target):
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        if middle**3 > target:
            high = middle
        else:
            low = middle
    return low


def clipped(x, low, high):
    if x < low:
        y = low
    elif x > high:
        y = high
    else:
        y = x
    return y


def falling(height, n):
    """A ball that lands: an event ends the simulation."""
    position, speed, landed = height, 0.0, -1
    for step in range(n):
        speed = speed - 0.1
        position = position + 0.1 * speed
        if position < 0:
            position = 0.0
            landed = step
            break
    return position, landed


def bouncing(height):
    x, v, bounces = height, 0.0, 0
    t = 0.0
    while t < 3.0:
        v -= 0.02
        x += 0.02 * v
        if x < 0:
            x, v = -x, -0.8 * v
            bounces += 1
            if bounces == 3:
                break
        t += 0.02
    else:
        bounces = -bounces
    return x, t, bounces


def descent(x):
    """Gradient descent with a line search."""
    for _ in range(4):
        slope = 2 * x
        rate = 1.0
        while np.sum((x - rate * slope) ** 2) > np.sum(x**2) - 0.5 * rate * np.sum(slope**2):
            rate = rate / 2
        x = x - rate * slope
    return x


def running_maximum(x):
    out = np.empty_like(x)
    best = x[0]
    for i in range(len(x)):
        if x[i] > best:
            best = x[i]
        out[i] = best
    return out


def fizz_buzz(n):
    out = np.zeros(16, dtype=np.int64)
    for i in range(n):
        if i % 15 == 0:
            out[i] = 3
        elif i % 5 == 0:
            out[i] = 2
        elif i % 3 == 0:
            out[i] = 1
        else:
            continue
        out[i] *= 10
    return out


def piecewise(x):
    if x < 0:
        return 0.0
    if x < 1:
        return x**2
    elif x < 2:
        return 2 * x - 1
    return 3.0


def machine(symbols):
    state, accepted = 0, 0
    for symbol in symbols:
        if state == 0:
            state = 1 if symbol == 1 else 0
        elif state == 1 and symbol == 1:
            state = 2
        elif state == 2:
            accepted += 1
            state = 0
        else:
            state = 0
    return state, accepted


def first_above(x, limit):
    for i, v in enumerate(x):
        if v > limit:
            return i, v
    return -1, 0.0


def where_sorted(x, value):
    low, high = 0, len(x)
    while low < high:
        middle = (low + high) // 2
        if x[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


def mandelbrot(re, im):
    x, y = 0.0, 0.0
    for n in range(40):
        if x * x + y * y > 4.0:
            return n
        x, y = x * x - y * y + re, 2 * x * y + im
    return 40


def bubble_sort(x):
    x = x.copy()
    swapped = True
    while swapped:
        swapped = False
        for i in range(len(x) - 1):
            if x[i] > x[i + 1]:
                x[i], x[i + 1] = x[i + 1], x[i]
                swapped = True
    return x


def primes(n):
    count = 0
    for k in range(2, n):
        i = 2
        while i * i <= k:
            if k % i == 0:
                break
            i += 1
        else:
            count += 1
    return count


def sum_of_rows(x):
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            if x[i, j] < 0:
                break
            if x[i, j] == 0:
                continue
            total += x[i, j]
    return total


def power(x, n):
    result = 1.0
    while n > 0:
        if n % 2:
            result = result * x
        x = x * x
        n //= 2
    return result


def halved(x):
    while True:
        x = x / 2
        if x < 1:
            return x


def trapezoid(x, y, n):
    area = 0.0
    for i in range(1, n, 2):
        area += (x[i] - x[i - 1]) * (y[i] + y[i - 1]) / 2
    return area


def counted_down(x, n):
    found = x[0]
    for i in range(n, 0, -2):
        found = found * 0.5 + x[i]
    return found


def reversed_pairs(x, y, n):
    total = 0.0
    for (i, a), b in zip(enumerate(x), reversed(y), strict=False):
        if i >= n:
            break
        total += i * a * b
    return total


def logical(x, y):
    if 0 < x < y <= 3 or (x > 10 and not y > 10):
        return 1
    return 2 if x in (4, 5) else 3


def extremes(x, y, z):
    return max(x, y, z) - min(x, y) + max([x, z])


def nested_returns(a, b):
    if a > 0:
        if b > 0:
            return 1.0
        z = 2.0
    else:
        z = 3.0
    return z * 2


def written(x, c):
    y = x.copy()
    view = y[1:]
    if c > 0:
        view *= 2
    view[0] = 7.0
    if c > 1:
        y[0] = 5.0
    return y, view


def entries(x, c):
    state = {"x": x, "n": 0}
    same_state = state
    if c > 0:
        state["x"] = state["x"] * 2
        state["n"] += 1
    return same_state


def jump_in_with(x, n):
    total = 0.0
    for i in range(n):
        with np.errstate(all="ignore"):
            if x[i] < 0:
                continue
            total += np.sqrt(x[i])
        total += 1
    return total


def of_lists(x, a, b, c):
    """The elements of a list of arrays: no number chooses among them while the program runs."""
    total = 0.0
    for part in [a, b, c]:
        if part.sum() > x:
            break
        total += part.sum()
    return total


TABLE = np.array([0.0, 1.0, 4.0, 9.0])
PRICES = [1.0, 2.0, 4.0]


def looked_up(x, k):
    """Elements of plain arrays and lists from outside, at a place that is computed."""
    for i in range(1, len(TABLE)):
        if x < TABLE[i]:
            return TABLE[i - 1] + PRICES[k] * (x - TABLE[i - 1])
    return PRICES[-1]


X = np.array([1.0, 3.0, 2.0, 5.0, -1.0])
GRID = np.array([[1.0, 0.0, 2.0], [1.0, -1.0, 3.0], [-1.0, 2.0, 3.0]])

PROGRAMS: list[tuple[Callable[..., Any], list[tuple[Any, ...]]]] = [
    (newton, [(2.0,), (9.0,), (1.0,)]),
    (collatz, [(27,), (1,), (6,)]),
    (euclid, [(12, 18), (7, 0), (35, 14)]),
    (bisection, [(8.0,), (2.0,)]),
    (clipped, [(0.0, 1.0, 2.0), (3.0, 1.0, 2.0), (1.5, 1.0, 2.0)]),
    (falling, [(1.0, 50), (1.0, 3), (0.0, 5)]),
    (bouncing, [(0.1,), (3.0,)]),
    (descent, [(np.array([3.0, -2.0]),)]),
    (running_maximum, [(X,), (-X,)]),
    (fizz_buzz, [(16,), (4,), (0,)]),
    (piecewise, [(-1.0,), (0.5,), (1.5,), (2.5,)]),
    (machine, [(np.array([1, 1, 0, 1, 0, 1, 1, 1]),), (np.array([0, 1, 1, 0, 1, 1, 0, 0]),)]),
    (first_above, [(X, 2.5), (X, 0.0), (X, 9.0), (X, 3.0)]),
    (where_sorted, [(np.sort(X), 2.5), (np.sort(X), 9.0), (np.sort(X), -5.0)]),
    (mandelbrot, [(0.0, 0.0), (1.0, 1.0), (-0.75, 0.2)]),
    (bubble_sort, [(X,), (np.sort(X),), (-np.sort(X),)]),
    (primes, [(30,), (2,), (3,)]),
    (sum_of_rows, [(GRID,), (np.abs(GRID),)]),
    (power, [(2.0, 10), (3.0, 0), (1.5, 7)]),
    (halved, [(100.0,), (0.5,)]),
    (trapezoid, [(X, X**2, 5), (X, X**2, 2), (X, X, 0)]),
    (counted_down, [(X, 4), (X, 3), (X, 0)]),
    (reversed_pairs, [(X, X, 3), (X, X, 9), (X, X, 0)]),
    (logical, [(1, 2), (2, 1), (11, 3), (11, 12), (4, 0), (1, 4)]),
    (extremes, [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (2.0, 3.0, 1.0)]),
    (nested_returns, [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)]),
    (written, [(X, 2.0), (X, 1.0), (X, -1.0)]),
    (entries, [(X, 1.0), (X, 0.0)]),
    (jump_in_with, [(X, 5), (X, 2), (X, 0)]),
    (looked_up, [(0.5, 0), (2.0, 1), (5.0, 2), (99.0, 0)]),
    (of_lists, [(3.0, X[:1], X[1:3], X), (99.0, X, X, X), (0.0, X, X, X), (10.0, X[:2], X[:2], X[3:4])]),
]


@pytest.mark.parametrize(("program", "calls"), PROGRAMS, ids=[program.__name__ for program, _ in PROGRAMS])
def test_a_program_gives_what_python_gives(program: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    compiled = same(program, *calls)
    # One program for each signature, whichever path is taken.
    assert len(compiled.signatures()) == len({str(compiled.signature_of(args, {})[0]) for args in calls})
