"""Workloads that are loops over time, written once for every library's `np` and `scan`.

Each is a function of (np, scan) that gives the loss, of the parameters and the data; every side takes its value and its
gradients, but for `lstm`, which is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.problem import Problem

Loss = Callable[..., Any]
STATES = 60
"""Scalars that `carries` carries."""


def carries(np: Any, scan: Any) -> Loss:
    """Sixty scalars, each made of two of them, and of a tanh every tenth."""

    def turn(c: Any, x: Any) -> Any:
        mixed = [0.9 * a + 0.1 * b * x for a, b in zip(c, (*c[1:], c[0]), strict=True)]
        return tuple(np.tanh(a) if i % 10 == 0 else a for i, a in enumerate(mixed)), None

    def loss(p: Any, x: Any) -> Any:
        last, _ = scan(turn, tuple(p[i] for i in range(STATES)), x)
        return sum(a * a for a in last)

    return loss


def epidemic(np: Any, scan: Any) -> Loss:
    """SIR by the classical method of Runge and Kutta, 1,000 steps, three parameters."""

    def loss(p: Any) -> Any:
        def slope(u: Any) -> Any:
            ill = p[0] * u[0] * u[1]
            return np.stack([-ill, ill - p[1] * u[1], p[1] * u[1]])

        def step(u: Any, _: Any) -> Any:
            h = 0.02
            a = slope(u)
            b = slope(u + h / 2 * a)
            c = slope(u + h / 2 * b)
            d = slope(u + h * c)
            return u + h / 6 * (a + 2 * b + 2 * c + d), None

        start = np.stack([1.0 - p[2], p[2], 0.0 * p[2]])
        last, _ = scan(step, start, None, 1000)
        return np.sum(last**2)

    return loss


def kalman(np: Any, scan: Any) -> Loss:
    """The likelihood of 500 observations of a state of four numbers, by Kalman's filter."""

    def loss(p: Any, y: Any) -> Any:
        move, seen = p["move"], p["seen"]
        noise = np.exp(p["noise"])[:, None] * np.eye(4)

        def step(state: Any, y: Any) -> Any:
            mean, spread = state
            mean, spread = move @ mean, move @ spread @ move.T + noise
            error, at = y - seen @ mean, spread @ seen
            scale = seen @ at + np.exp(p["error"])
            gain = at / scale
            likelihood = -0.5 * (np.log(2 * np.pi * scale) + error * error / scale)
            return (mean + gain * error, spread - gain[:, None] * at[None, :]), likelihood

        _, found = scan(step, (np.zeros(4), np.eye(4)), y)
        return -np.sum(found)

    return loss


def rnn_small(np: Any, scan: Any) -> Loss:
    """One sequence of 200 elements, 32 hidden numbers."""

    def loss(p: Any, x: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = np.tanh(x @ p["input"] + h @ p["hidden"] + p["bias"])
            return h, h

        _, found = scan(step, np.zeros(32, x.dtype), x)
        return np.mean((found @ p["output"]) ** 2)

    return loss


def lstm(np: Any, scan: Any) -> Loss:
    """Hochreiter and Schmidhuber's cell, 65-128-65, 32 sequences of 64 characters."""

    def loss(p: Any, x: Any, labels: Any) -> Any:
        def gate(x: Any) -> Any:
            return 1 / (1 + np.exp(-x))

        def step(state: Any, x: Any) -> Any:
            h, c = state
            z = x @ p["input"] + h @ p["hidden"] + p["bias"]
            i, f, g, o = z[:, :128], z[:, 128:256], z[:, 256:384], z[:, 384:]
            c = gate(f) * c + gate(i) * np.tanh(g)
            h = gate(o) * np.tanh(c)
            return (h, c), h

        zero = np.zeros((32, 128), x.dtype)
        _, found = scan(step, (zero, zero), x)
        logits = found @ p["output"] + p["end"]
        top = np.max(logits, axis=-1, keepdims=True)
        log_sum = np.log(np.sum(np.exp(logits - top), axis=-1)) + top[..., 0]
        right = np.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        return np.mean(log_sum - right)

    return loss


LOOPED: dict[str, Callable[[Any, Any], Loss]] = {f.__name__: f for f in (carries, epidemic, kalman, rnn_small, lstm)}

LOOPED_MEANING: dict[str, str] = {
    "carries": "60 scalars carried over 600 turns of a loop, value and gradients, float64",
    "epidemic": "SIR by Runge and Kutta, 1,000 steps, three parameters, value and gradients, float64",
    "kalman": "Kalman's filter, 4 states, 500 steps, value and gradients, float64",
    "rnn_small": "an RNN, 32 hidden numbers, one sequence of 200, value and gradients",
    "lstm": "an LSTM, 65-128-65, 64 time steps, batch 32, Adam",
}


def _carries() -> Problem:
    rng = numpy.random.default_rng(0)
    return Problem(rng.uniform(-1, 1, STATES), {"x": rng.uniform(0.5, 1.5, 600)}, tolerance=1e-9)


def _epidemic() -> Problem:
    return Problem(numpy.array([2.0, 0.5, 0.01]), {}, tolerance=1e-9)


def _kalman() -> Problem:
    rng = numpy.random.default_rng(0)
    turn = numpy.kron(numpy.eye(2), [[1.0, 0.1], [0.0, 0.98]])
    params = {
        "move": turn, "seen": numpy.array([1.0, 0.0, 0.5, 0.0]), "noise": numpy.full(4, -3.0),
        "error": numpy.array(-1.0),
    }  # fmt: skip
    return Problem(params, {"y": numpy.cumsum(rng.normal(size=500) * 0.3)}, tolerance=1e-8)


def _weights(rng: numpy.random.Generator, *shape: int) -> numpy.ndarray:
    return (rng.normal(size=shape) / numpy.sqrt(shape[0])).astype(numpy.float32)


def _rnn_small() -> Problem:
    rng = numpy.random.default_rng(0)
    params = {
        "input": _weights(rng, 32, 32), "hidden": _weights(rng, 32, 32), "bias": numpy.zeros(32, numpy.float32),
        "output": _weights(rng, 32, 4),
    }  # fmt: skip
    return Problem(params, {"x": rng.normal(size=(200, 32)).astype(numpy.float32)}, tolerance=1e-3)


def _lstm() -> Problem:
    rng = numpy.random.default_rng(0)
    params = {
        "input": _weights(rng, 65, 512), "hidden": _weights(rng, 128, 512), "bias": numpy.zeros(512, numpy.float32),
        "output": _weights(rng, 128, 65), "end": numpy.zeros(65, numpy.float32),
    }  # fmt: skip
    characters = rng.integers(0, 65, (65, 32))
    x = numpy.eye(65, dtype=numpy.float32)[characters[:-1]]
    rows = 64 * 32
    # Forward, gradients of weights, gradients of inputs; the first layer's input has none.
    flops = 2.0 * rows * (3 * (128 * 512 + 128 * 65) + 2 * 65 * 512)
    return Problem(
        params, {"x": x, "labels": characters[1:]}, {"learning_rate": 1e-3}, flops, optimizer="adam", loop_steps=20
    )  # fmt: skip


LOOPED_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "carries": _carries,
    "epidemic": _epidemic,
    "kalman": _kalman,
    "rnn_small": _rnn_small,
    "lstm": _lstm,
}

LOOP_VALUES: dict[str, Callable[[], Problem]] = {"carries_value": _carries}
"""What rows are measured in: the value alone."""
