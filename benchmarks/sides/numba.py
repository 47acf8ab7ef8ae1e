"""Numba: the same loops as a C programmer writes them, gradients by hand; a floor of what native loops reach.

fastmath where sums may be taken in any order: losses still agree within the problem's tolerance. Only the workloads
that plain loops suit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks.problem import Problem
from benchmarks.sides import Side, numba_loops

Array = np.ndarray


@numba.njit(cache=True, fastmath=True)
def adam(p: Array, g: Array, m: Array, v: Array, scale: float, spread: float) -> None:
    b1, b2, c1, c2 = np.float32(0.9), np.float32(0.999), np.float32(0.1), np.float32(0.001)
    # A constant count: LLVM unrolls.
    for i in range(33):
        m[i] = b1 * m[i] + c1 * g[i]
        v[i] = b2 * v[i] + c2 * g[i] * g[i]
        p[i] -= scale * m[i] / (np.sqrt(v[i]) * spread + np.float32(1e-8))


@numba.njit(cache=True, fastmath=True)
def train_xor(rate: float, p: Array, m: Array, v: Array, powers: Array, x: Array, y: Array, count: int) -> float:
    """`p` holds w1 (2, 8), b1 (8), w2 (8), b2 (1), one after the other; `powers` are 0.9^t and 0.999^t."""
    hidden = np.empty(8, np.float32)
    g = np.empty(33, np.float32)
    loss = np.float32(0)
    for _ in range(count):
        g[:] = 0
        loss = np.float32(0)
        for row in range(4):
            out = p[32]
            for j in range(8):
                z = x[row, 0] * p[j] + x[row, 1] * p[8 + j] + p[16 + j]
                hidden[j] = max(z, np.float32(0))
                out += hidden[j] * p[24 + j]
            error = out - y[row, 0]
            loss += error * error * np.float32(0.25)
            d = error * np.float32(0.5)
            g[32] += d
            for j in range(8):
                g[24 + j] += d * hidden[j]
                dz = d * p[24 + j] if hidden[j] > 0 else np.float32(0)
                g[j] += x[row, 0] * dz
                g[8 + j] += x[row, 1] * dz
                g[16 + j] += dz
        powers[0] *= 0.9
        powers[1] *= 0.999
        adam(p, g, m, v, np.float32(rate / (1 - powers[0])), np.float32(1 / math.sqrt(1 - powers[1])))
    return loss


@numba.njit(cache=True, fastmath=True)
def train_mlp_small(
    rate: float, w1: Array, b1: Array, w2: Array, b2: Array, kept: Array, x: Array, labels: Array, count: int
) -> float:
    """Momentum of all parameters is one array, in the order w1, b1, w2, b2."""
    rows, inputs = x.shape
    width, classes = w2.shape
    h = np.empty((rows, width), np.float32)
    d = np.empty((rows, classes), np.float32)
    dh = np.empty(width, np.float32)
    g = np.empty(kept.size, np.float32)
    at_b1 = inputs * width
    at_w2 = at_b1 + width
    at_b2 = at_w2 + width * classes
    loss = np.float32(0)
    step = np.float32(rate)
    for _ in range(count):
        g[:] = 0
        loss = np.float32(0)
        for r in range(rows):
            h[r] = b1
            for i in range(inputs):
                xi = x[r, i]
                for j in range(width):
                    h[r, j] += xi * w1[i, j]
            d[r] = b2
            for j in range(width):
                h[r, j] = max(h[r, j], np.float32(0))
                hj = h[r, j]
                for c in range(classes):
                    d[r, c] += hj * w2[j, c]
            top = d[r].max()
            chosen = d[r, labels[r]] - top
            total = np.float32(0)
            for c in range(classes):
                d[r, c] = np.exp(d[r, c] - top)
                total += d[r, c]
            loss += np.log(total) - chosen
            for c in range(classes):
                d[r, c] /= total
            d[r, labels[r]] -= np.float32(1)
            for c in range(classes):
                d[r, c] /= np.float32(rows)
                g[at_b2 + c] += d[r, c]
            for j in range(width):
                hj = h[r, j]
                s = np.float32(0)
                for c in range(classes):
                    g[at_w2 + j * classes + c] += hj * d[r, c]
                    s += d[r, c] * w2[j, c]
                dh[j] = s if hj > 0 else np.float32(0)
                g[at_b1 + j] += dh[j]
            for i in range(inputs):
                xi = x[r, i]
                for j in range(width):
                    g[i * width + j] += xi * dh[j]
        loss /= np.float32(rows)
        for i in range(kept.size):
            kept[i] = np.float32(0.9) * kept[i] + g[i]
        flat1, flat2 = w1.reshape(-1), w2.reshape(-1)
        for i in range(flat1.size):
            flat1[i] -= step * kept[i]
        for i in range(width):
            b1[i] -= step * kept[at_b1 + i]
        for i in range(flat2.size):
            flat2[i] -= step * kept[at_w2 + i]
        for i in range(classes):
            b2[i] -= step * kept[at_b2 + i]
    return loss


def _train_logreg(parts: int, rate: float, w: Array, b: Array, x: Array, y: Array, count: int) -> float:
    """One pass over the rows: the product and the row's part of the gradient while the row is in the cache."""
    rows, width = x.shape
    loss = 0.0
    for _ in range(count):
        g = np.zeros((parts, width), np.float32)
        sums = np.zeros((parts, 2))
        for part in numba.prange(parts):
            own = np.zeros(width, np.float32)
            total, bias = 0.0, 0.0
            for r in range(part * rows // parts, (part + 1) * rows // parts):
                row = x[r]
                z = b[0]
                for i in range(width):
                    z += row[i] * w[i]
                small = np.exp(-abs(z))
                total += max(z, np.float32(0)) - y[r] * z + np.log1p(small)
                d = (np.float32(1) if z >= 0 else small) / (np.float32(1) + small) - y[r]
                bias += d
                for i in range(width):
                    own[i] += d * row[i]
            g[part] = own
            sums[part, 0] = total
            sums[part, 1] = bias
        for part in range(parts):
            for i in range(width):
                w[i] -= np.float32(rate / rows) * g[part, i]
        b[0] -= np.float32(rate * sums[:, 1].sum() / rows)
        loss = sums[:, 0].sum() / rows
    return loss


def _prices(
    s: Array, k: Array, t: Array, r: Array, v: Array, ds: Array, dk: Array, dt: Array, dr: Array, dv: Array
) -> float:
    total = 0.0
    for i in numba.prange(s.size):
        sqrt_t = math.sqrt(t[i])
        root = v[i] * sqrt_t
        d1 = (math.log(s[i] / k[i]) + (r[i] + v[i] * v[i] / 2) * t[i]) / root
        delta = 0.5 * (1 + math.erf(d1 * 0.7071067811865476))
        discounted = math.exp(-r[i] * t[i]) * 0.5 * (1 + math.erf((d1 - root) * 0.7071067811865476))
        bond = k[i] * discounted
        vega = s[i] * sqrt_t * 0.3989422804014327 * math.exp(-0.5 * d1 * d1)
        total += s[i] * delta - bond
        ds[i] = delta
        dk[i] = -discounted
        dt[i] = vega * v[i] / (2 * t[i]) + r[i] * bond
        dr[i] = t[i] * bond
        dv[i] = vega
    return total


@numba.njit(cache=True)
def _add(a: Array, b: Array) -> Array:
    return a + b


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`prange` becomes threads where there is more than one."""
    compiled: Callable[..., Any] = numba.njit(
        function, cache=True, fastmath=True, parallel=numba.config.NUMBA_NUM_THREADS > 1
    )
    return compiled


def looped(name: str, p: dict[str, Array] | Array, data: dict[str, Array]) -> Side | None:
    """A value with gradients, or what stands for them; None for what is not a loop over time or over rows."""
    if isinstance(p, dict):
        if name == "rnn_small":
            weights = [p[key] for key in ("input", "hidden", "bias", "output")]

            def recurrent() -> tuple[float, dict[str, Array]]:
                value, into, hidden, bias, out = numba_loops.rnn_small(*weights, data["x"])
                return value, {"input": into, "hidden": hidden, "bias": bias, "output": out}

            return Side(recurrent)
        if name == "tridiagonal":
            return Side(lambda: {"entries": numba_loops.tridiagonal(p["u"])})
        return None
    if name == "epidemic":
        return Side(lambda: numba_loops.epidemic(p))
    function = {"carries": numba_loops.carries, "carries_value": numba_loops.carries_value}.get(name)
    return Side(lambda: function(p, data["x"])) if function else None


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    side = looped(name, problem.params, problem.data)
    if side is not None:
        return side
    p = {key: array.copy() for key, array in problem.params.items()} if isinstance(problem.params, dict) else {}
    run: Callable[[int], float]
    rate = problem.hyper.get("learning_rate", 0.0)
    if name == "add8":
        return Side(lambda: _add(p["a"], p["b"]))
    if name == "xor":
        flat = np.concatenate([p[key].ravel() for key in ("w1", "b1", "w2", "b2")])
        state = (flat, np.zeros_like(flat), np.zeros_like(flat), np.ones(2))
        run = functools.partial(train_xor, rate, *state, problem.data["x"], problem.data["y"])
    elif name == "mlp_small":
        kept = np.zeros(sum(array.size for array in p.values()), np.float32)
        data = (problem.data["x"], problem.data["labels"])
        run = functools.partial(train_mlp_small, rate, p["w1"], p["b1"], p["w2"], p["b2"], kept, *data)
    elif name == "logreg":
        train = _compiled(_train_logreg)
        run = functools.partial(
            train, numba.get_num_threads(), rate, p["w"], p["b"].reshape(1), problem.data["x"], problem.data["y"]
        )
    elif name == "elementwise":
        price = _compiled(_prices)

        def evaluated() -> tuple[float, dict[str, Array]]:
            gradients = {key: np.empty_like(p[key]) for key in "sktrv"}
            return price(*(p[key] for key in "sktrv"), *gradients.values()), gradients

        return Side(evaluated)
    else:
        return None
    return Side(lambda: run(1), run)
