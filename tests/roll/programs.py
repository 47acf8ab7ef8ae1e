"""Functions with loops of a number of turns that Python unrolls, and how many loops there are to be found in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjit


def data(*shape: int) -> np.ndarray:
    """Numbers, the same ones each time."""
    return np.random.default_rng(sum(shape)).normal(size=shape)


@dataclass(frozen=True)
class Program:
    """A function of `arrays(turns)`, which `make(turns)` makes; `loops` are found in it, those in others counted."""

    make: Callable[[int], Callable[..., Any]]
    arrays: Callable[[int], list[Any]]
    loops: int = 1


def rk4(n: int) -> Callable[..., Any]:
    def f(p: Any) -> Any:
        def rhs(u: Any) -> Any:
            return np.stack([p[0] * u[0] - p[1] * u[0] * u[1], p[2] * u[0] * u[1] - p[3] * u[1]])

        u = np.array([1.0, 0.5]) + 0 * p[0]
        for _ in range(n):
            a = rhs(u)
            b = rhs(u + 0.05 * a)
            c = rhs(u + 0.05 * b)
            d = rhs(u + 0.1 * c)
            u = u + 0.1 / 6 * (a + 2 * b + 2 * c + d)
        return np.sum(u**2)

    return f


def writes(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        y = adjit.asarray(np.zeros(n)).copy()
        for i in range(1, n):
            y[i] = x[i] + 0.5 * y[i - 1]
        return np.sum(y * y)

    return f


def garch(n: int) -> Callable[..., Any]:
    returns = np.linspace(-0.02, 0.02, n)

    def f(p: Any) -> Any:
        s, total = 1e-4, 0.0
        for i in range(n):
            s = p[0] + p[1] * returns[i] ** 2 + p[2] * s
            total = total + np.log(s) + returns[i] ** 2 / s
        return total

    return f


def forward(n: int) -> Callable[..., Any]:
    def f(a: Any, b: Any, start: Any) -> Any:
        alpha = np.log(start) + b[:, 0]
        found = []
        for t in range(1, n):
            top = np.max(alpha)
            alpha = np.log(np.exp(alpha - top) @ a) + top + b[:, t]
            found.append(alpha)
        return np.stack(found)

    return f


def rnn(n: int) -> Callable[..., Any]:
    def f(x: Any, w: Any, u: Any) -> Any:
        h = np.zeros((2, 4), np.float32)
        states = []
        for t in range(n):
            h = np.tanh(x[:, t] @ w + h @ u)
            states.append(h)
        return np.concatenate(states, axis=1), h

    return f


def autoregression(n: int) -> Callable[..., Any]:
    def f(x: Any, a: Any, b: Any) -> Any:
        y = [x[0], x[1]]
        for t in range(2, n):
            y.append(a * y[t - 1] + b * y[t - 2] + x[t])
        return np.stack(y)

    return f


def long_memory(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        y = [x[i] for i in range(5)]
        for t in range(5, n):
            y.append(x[t] + 0.1 * y[t - 5] + 0.2 * y[t - 1] + 0.1 * y[t - 3])
        return np.stack(y), y[-4]

    return f


def neighbours(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        total = 0.0
        for i in range(n - 1):
            total += np.sin(x[i]) * x[i + 1] * x[n - 1 - i] * (i * 0.1) * x[2 * i // 2]
        return total

    return f


def windows(n: int) -> Callable[..., Any]:
    def f(x: Any, m: Any) -> Any:
        total = np.zeros(2)
        for i in range(n):
            total = total * 0.5 + x[3 * i : 3 * i + 2] + x[2 * i : 2 * i + 5 : 3] - x[3 * n - 3 * i : 3 * n - 3 * i + 2]
            total = total + m[i, i] + m[1, i : i + 2] * m[:2, n - 1 - i] + m[i, ::2][:2] + m[:1, 3 * i : 3 * i + 2][0]
        return total

    return f


def gather(n: int) -> Callable[..., Any]:
    def f(x: Any, at: Any) -> Any:
        total = 0.0
        for i in range(n):
            total = total + x[at[i]] * 2
        return total

    return f


def rows(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        y = 0 * x
        for i in range(1, n):
            y[i] = y[i - 1] * 0.2 + x[i]
            y[i, 0] = 1.0
        return y

    return f


def heat(n: int) -> Callable[..., Any]:
    def f(u0: Any) -> Any:
        u = np.zeros((n, 9)) + 0 * u0[0]
        u[0] = u0
        for t in range(n - 1):
            u[t + 1, 1:-1] = u[t, 1:-1] + 0.1 * (u[t, 2:] - 2 * u[t, 1:-1] + u[t, :-2])
        return u

    return f


def elements(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        y = 0 * x
        for i in range(1, n):
            for j in range(1, 6):
                y[i, j] = 0.5 * y[i - 1, j] + x[i, j] * y[i, j - 1]
        return y

    return f


def nested(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        s = x[0, 0]
        for i in range(n):
            for j in range(n):
                s = 0.5 * s + x[i, j]
            s = np.tanh(s)
        return s

    return f


def sweeps(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        s = x[0]
        for _ in range(n):
            for j in range(30):
                s = np.tanh(s * 0.5) + x[j]
        return s

    return f


def there_and_back(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        h, states = x[0], []
        for i in range(n):
            h = np.tanh(h + x[i]) * 2
            states.append(h)
        back = x[0]
        for h in reversed(states):
            back = back * 0.5 + np.sin(h) * h
        return back, sum(states)

    return f


def alternating(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        h, found = x[0], []
        for i in range(n):
            h = np.tanh(h + x[i])
            found.append(h)
            h = h * 2
            found.append(h)
        return np.array(found), np.array(found[::3]), np.array(found[::-1]), found[4]

    return f


def even_and_odd(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        h = x[0]
        for i in range(n):
            h = np.tanh(h) + x[i] if i % 2 else h * 0.5 - x[i]
        return h

    return f


def arrays_of_constants(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        for i in range(n):
            x = x * 0.5 + np.full(3, 1.0 * i) + np.arange(i, i + 3.0) + np.array([1.0, 2.0, 3.0])
            x = np.where(np.array([True, False, i % 3 == 0]), x, -x)
        return x

    return f


def swapped(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        a, b = x[0], x[1]
        for i in range(n):
            a, b = b, a * 0.5 + np.sin(b) + x[i]
        return a, b

    return f


def unread(n: int) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        h, last = x[0], x[0]
        for i in range(n):
            last = np.exp(-x[i] * h)
            h = h * 0.5 + x[i]
        return h, last

    return f


def weak(n: int) -> Callable[..., Any]:
    def f(a: Any, x: Any) -> Any:
        t, found = a, []
        for _ in range(n):
            t = t * 0.5 + 1.0
            t = np.sin(t)
            found.append(t)
        return x * t + x * found[3]

    return f


PROGRAMS: dict[str, Program] = {
    "rk4": Program(rk4, lambda n: [np.array([1.0, 0.4, 0.3, 0.6])]),
    "writes": Program(writes, lambda n: [data(n)]),
    "garch": Program(garch, lambda n: [np.array([1e-6, 0.1, 0.8])]),
    "forward": Program(forward, lambda n: [np.abs(data(3, 3)), data(3, n), np.abs(data(3))]),
    "rnn": Program(rnn, lambda n: [a.astype(np.float32) for a in (data(2, n, 3), data(3, 4), data(4, 4))]),
    "autoregression": Program(autoregression, lambda n: [data(n), np.float64(0.5), np.float64(0.3)]),
    "long_memory": Program(long_memory, lambda n: [data(n)]),
    "neighbours": Program(neighbours, lambda n: [data(n)]),
    "windows": Program(windows, lambda n: [data(3 * n + 5), data(n + 2, 3 * n + 2)]),
    "gather": Program(gather, lambda n: [data(6), np.arange(n) % 6]),
    "rows": Program(rows, lambda n: [data(n, 3)]),
    "heat": Program(heat, lambda n: [data(9)]),
    "elements": Program(elements, lambda n: [data(n, 6)]),
    "nested": Program(nested, lambda n: [data(n, n)], loops=2),
    "sweeps": Program(sweeps, lambda n: [data(30)], loops=2),
    "there_and_back": Program(there_and_back, lambda n: [data(n)], loops=3),
    "alternating": Program(alternating, lambda n: [data(n)]),
    "even_and_odd": Program(even_and_odd, lambda n: [data(n)]),
    "arrays_of_constants": Program(arrays_of_constants, lambda n: [data(3)]),
    "swapped": Program(swapped, lambda n: [data(n)]),
    "unread": Program(unread, lambda n: [data(n)]),
    "weak": Program(weak, lambda n: [0.3, data(3)]),
}
