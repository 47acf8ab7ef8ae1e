"""Loops over time as a C programmer writes them, value and gradients by hand: what `numba` has of `looped`, and the
entries of a tridiagonal Jacobian."""

from __future__ import annotations

import math

import numba
import numpy as np

Array = np.ndarray


@numba.njit(cache=True, fastmath=True)
def carries_value(p: Array, x: Array) -> float:
    """In place: each number is read by itself and by the one before it."""
    c = p.copy()
    for t in range(x.size):
        first, scale = c[0], 0.1 * x[t]
        for i in range(59):
            c[i] = 0.9 * c[i] + scale * c[i + 1]
        c[59] = 0.9 * c[59] + scale * first
        for k in range(0, 60, 10):
            c[k] = math.tanh(c[k])
    return (c * c).sum()


@numba.njit(cache=True, fastmath=True)
def carries(p: Array, x: Array) -> tuple[float, Array]:
    """All but every tenth number is linear in the state: the tanh alone are kept."""
    c, kept = p.copy(), np.empty((x.size, 6))
    for t in range(x.size):
        first, scale = c[0], 0.1 * x[t]
        for i in range(59):
            c[i] = 0.9 * c[i] + scale * c[i + 1]
        c[59] = 0.9 * c[59] + scale * first
        for k in range(6):
            c[10 * k] = math.tanh(c[10 * k])
            kept[t, k] = c[10 * k]
    g = 2 * c
    for t in range(x.size - 1, -1, -1):
        for k in range(6):
            g[10 * k] *= 1 - kept[t, k] * kept[t, k]
        last, scale = g[59], 0.1 * x[t]
        for i in range(59, 0, -1):
            g[i] = 0.9 * g[i] + scale * g[i - 1]
        g[0] = 0.9 * g[0] + scale * last
    return (c * c).sum(), g


@numba.njit(cache=True, fastmath=True, inline="always")
def slope(infection: float, recovery: float, u: Array, out: Array) -> None:
    """Of the susceptible, the ill, the recovered."""
    ill = infection * u[0] * u[1]
    out[0] = -ill
    out[1] = ill - recovery * u[1]
    out[2] = recovery * u[1]


@numba.njit(cache=True, fastmath=True, inline="always")
def pull(infection: float, recovery: float, u: Array, g: Array, out: Array, rates: Array) -> None:
    """`out` is the cotangent of u, `rates` gets what those of both rates grow by."""
    ill = g[1] - g[0]
    out[0] = ill * infection * u[1]
    out[1] = ill * infection * u[0] + recovery * (g[2] - g[1])
    out[2] = 0.0
    rates[0] += ill * u[0] * u[1]
    rates[1] += u[1] * (g[2] - g[1])


@numba.njit(cache=True, fastmath=True)
def epidemic(p: Array) -> tuple[float, Array]:
    """The states are kept, the stages of a step computed again."""
    steps, h = 1000, 0.02
    states = np.empty((steps + 1, 3))
    states[0, 0], states[0, 1], states[0, 2] = 1 - p[2], p[2], 0.0
    a, b, c, d = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    at_b, at_c, at_d = np.empty(3), np.empty(3), np.empty(3)
    for t in range(steps):
        u = states[t]
        slope(p[0], p[1], u, a)
        for i in range(3):
            at_b[i] = u[i] + h / 2 * a[i]
        slope(p[0], p[1], at_b, b)
        for i in range(3):
            at_c[i] = u[i] + h / 2 * b[i]
        slope(p[0], p[1], at_c, c)
        for i in range(3):
            at_d[i] = u[i] + h * c[i]
        slope(p[0], p[1], at_d, d)
        for i in range(3):
            states[t + 1, i] = u[i] + h / 6 * (a[i] + 2 * b[i] + 2 * c[i] + d[i])
    last = states[steps]
    g, rates, of_stage, back = 2 * last, np.zeros(2), np.empty(3), np.empty(3)
    for t in range(steps - 1, -1, -1):
        u = states[t]
        slope(p[0], p[1], u, a)
        for i in range(3):
            at_b[i] = u[i] + h / 2 * a[i]
        slope(p[0], p[1], at_b, b)
        for i in range(3):
            at_c[i] = u[i] + h / 2 * b[i]
        slope(p[0], p[1], at_c, c)
        for i in range(3):
            at_d[i] = u[i] + h * c[i]
        total = g.copy()
        for i in range(3):
            of_stage[i] = h / 6 * g[i]
        pull(p[0], p[1], at_d, of_stage, back, rates)
        for i in range(3):
            total[i] += back[i]
            of_stage[i] = h / 3 * g[i] + h * back[i]
        pull(p[0], p[1], at_c, of_stage, back, rates)
        for i in range(3):
            total[i] += back[i]
            of_stage[i] = h / 3 * g[i] + h / 2 * back[i]
        pull(p[0], p[1], at_b, of_stage, back, rates)
        for i in range(3):
            total[i] += back[i]
            of_stage[i] = h / 6 * g[i] + h / 2 * back[i]
        pull(p[0], p[1], u, of_stage, back, rates)
        for i in range(3):
            g[i] = total[i] + back[i]
    return (last * last).sum(), np.array([rates[0], rates[1], g[1] - g[0]])


@numba.njit(cache=True, fastmath=True)
def rnn_small(
    into: Array, hidden: Array, bias: Array, out: Array, x: Array
) -> tuple[float, Array, Array, Array, Array]:
    """Row after row, as matrices are read best."""
    steps, size = x.shape[0], 32
    states, z = np.zeros((steps + 1, size), np.float32), np.empty(size, np.float32)
    for t in range(steps):
        z[:] = bias
        for i in range(size):
            for j in range(size):
                z[j] += x[t, i] * into[i, j] + states[t, i] * hidden[i, j]
        for j in range(size):
            states[t + 1, j] = math.tanh(z[j])
    d_into, d_hidden, d_out = np.zeros_like(into), np.zeros_like(hidden), np.zeros_like(out)
    d_bias, g, d_z = np.zeros_like(bias), np.zeros(size, np.float32), np.empty(size, np.float32)
    loss, scale = np.float32(0), np.float32(2.0 / (4 * steps))
    for t in range(steps, 0, -1):
        h = states[t]
        for k in range(4):
            y = np.float32(0)
            for j in range(size):
                y += h[j] * out[j, k]
            loss += y * y
            for j in range(size):
                d_out[j, k] += scale * y * h[j]
                g[j] += scale * y * out[j, k]
        for j in range(size):
            d_z[j] = g[j] * (np.float32(1) - h[j] * h[j])
            d_bias[j] += d_z[j]
        for i in range(size):
            back = np.float32(0)
            for j in range(size):
                d_into[i, j] += x[t - 1, i] * d_z[j]
                d_hidden[i, j] += states[t - 1, i] * d_z[j]
                back += hidden[i, j] * d_z[j]
            g[i] = back
    return loss / np.float32(4 * steps), d_into, d_hidden, d_bias, d_out


@numba.njit(cache=True, fastmath=True)
def tridiagonal(u: Array) -> Array:
    """The three entries of each row."""
    n = u.size
    entries = np.empty(3 * n - 2)
    for i in range(n):
        entries[3 * i] = -2.0 + math.exp(u[i])
    for i in range(n - 1):
        entries[3 * i + 1] = 1.0
        entries[3 * i + 2] = 1.0
    return entries
