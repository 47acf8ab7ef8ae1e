"""The work, as data: initial arrays and batches, the same for every side, and what a limit of the machine would be.

A workload says what has to be computed; how, is each side's business (`benchmarks/sides`). `flops` and `bytes` are of
one step: what the mathematics needs, whoever computes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """One workload's arrays. `params` are trained; `data` is what each step takes; `hyper` numbers of the optimiser.

    `flops` and `bytes` of a step bound it from below; `working_set` is the bytes that it touches again and again."""

    params: Any
    data: Arrays
    hyper: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    bytes: float = 0.0
    working_set: float = 0.0
    tolerance: float = 1e-4


def _layers(sizes: list[int], rng: np.random.Generator, dtype: Any = np.float32) -> Arrays:
    params: Arrays = {}
    for i, (n, m) in enumerate(itertools.pairwise(sizes), 1):
        params[f"w{i}"] = (rng.normal(size=(n, m)) * np.sqrt(2 / n)).astype(dtype)
        params[f"b{i}"] = np.zeros(m, dtype)
    return params


def _dense_flops(batch: int, sizes: list[int]) -> float:
    """Forward, gradient of the weights, gradient of the input of all layers but the first."""
    products = [2.0 * batch * n * m for n, m in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0]


def _bytes(*arrays: Any) -> float:
    return float(sum(a.nbytes for a in arrays))


def xor() -> Problem:
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(2, 8)), "b1": np.zeros(8), "w2": rng.normal(size=(8, 1)), "b2": np.zeros(1)}
    params = {name: array.astype(np.float32) for name, array in params.items()}
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.array([[0], [1], [1], [0]], np.float32)
    return Problem(params, {"x": x, "y": y}, {"learning_rate": 0.01})


def _classifier(sizes: list[int], batch: int, rate: float, state_arrays: int) -> Problem:
    rng = np.random.default_rng(0)
    params = _layers(sizes, rng)
    x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], batch)
    weights = _bytes(*params.values())
    # Weights are read by forward and backward, and each array of state is read and written once.
    return Problem(
        params, {"x": x, "labels": labels}, {"learning_rate": rate}, _dense_flops(batch, sizes),
        weights * (2 + 2 * state_arrays), weights * state_arrays + x.nbytes,
    )  # fmt: skip


def mlp_small() -> Problem:
    return _classifier([64, 32, 10], 32, 0.05, 2)


def mlp() -> Problem:
    return _classifier([784, 512, 256, 10], 128, 1e-3, 3)


def mlp_wide() -> Problem:
    return _classifier([1024, 4096, 1024, 10], 256, 1e-4, 3)


def softmax_regression() -> Problem:
    rng = np.random.default_rng(0)
    params = {"w": np.zeros((784, 10), np.float32), "b": np.zeros(10, np.float32)}
    x = rng.normal(size=(60_000, 784)).astype(np.float32)
    labels = rng.integers(0, 10, 60_000)
    step = 256 * 784
    return Problem(params, {"x": x, "labels": labels}, {"learning_rate": 0.05}, 4.0 * step * 10, 4.0 * step, x.nbytes)


def logreg() -> Problem:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 100)).astype(np.float32)
    y = (rng.random(100_000) < 0.5).astype(np.float32)
    params = {"w": np.zeros(100, np.float32), "b": np.zeros((), np.float32)}
    return Problem(params, {"x": x, "y": y}, {"learning_rate": 0.1}, 4.0 * x.size, _bytes(x), x.nbytes)


def elementwise() -> Problem:
    rng = np.random.default_rng(0)
    n = 1_000_000
    params = {
        "s": rng.uniform(50, 150, n),
        "k": rng.uniform(50, 150, n),
        "t": rng.uniform(0.1, 2, n),
        "r": rng.uniform(0, 0.1, n),
        "v": rng.uniform(0.1, 0.5, n),
    }
    return Problem(params, {}, {}, 0.0, 8.0 * n * 11, 8.0 * n * 11, 1e-9)


def pinn() -> Problem:
    rng = np.random.default_rng(0)
    params = _layers([2, 32, 32, 32, 1], rng)
    t, x = (rng.uniform(low, 1, 1024).astype(np.float32) for low in (0, -1))
    # Four evaluations' worth of products (u, u_t, u_x, u_xx), each three times.
    flops = 4 * _dense_flops(1024, [2, 32, 32, 32, 1])
    return Problem(params, {"t": t, "x": x}, {"learning_rate": 1e-3}, flops, 0.0, 0.0, 1e-3)


def gmm() -> Problem:
    rng = np.random.default_rng(0)
    d, k, n = 10, 25, 1000
    params = {
        "alphas": rng.normal(size=k),
        "means": rng.normal(size=(k, d)),
        "icf": rng.normal(size=(k, d + d * (d - 1) // 2)) * 0.3,
    }
    x = rng.normal(size=(n, d))
    return Problem(params, {"x": x}, {}, 3 * 2.0 * n * k * d * (d + 1) / 2, 0.0, 0.0, 1e-9)


def deep() -> Problem:
    rng = np.random.default_rng(0)
    params = {
        "layers": [
            {"w": (rng.normal(size=(64, 64)) / 16).astype(np.float32), "b": np.zeros(64, np.float32)} for _ in range(24)
        ],
        "out": (rng.normal(size=(64, 1)) / 8).astype(np.float32),
    }
    x, y = rng.normal(size=(64, 64)).astype(np.float32), rng.normal(size=(64, 1)).astype(np.float32)
    return Problem(params, {"x": x, "y": y}, {"learning_rate": 1e-3}, 24 * 6.0 * 64**3, 0.0, 0.0)


WORKLOADS: dict[str, Callable[[], Problem]] = {
    f.__name__: f for f in (xor, mlp_small, mlp, mlp_wide, logreg, elementwise, pinn, gmm, softmax_regression, deep)
}
