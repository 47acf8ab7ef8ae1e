"""The work, as data: initial arrays and batches, the same for every side.

A workload says what has to be computed; how, is each side's business (`benchmarks/sides`). `MEANING` says in words what
stands in each row. Programs whose first call is measured are in `programs`, kinds of calls in `calls`."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.attended import ATTENDED_MEANING, ATTENDED_PROBLEMS
from benchmarks.calls import CALLS, CALLS_MEANING
from benchmarks.convolved import CONVOLVED_MEANING, CONVOLVED_PROBLEMS
from benchmarks.factored import FACTORED_MEANING, FACTORED_PROBLEMS, FACTORED_UNITS
from benchmarks.looped import LOOP_VALUES, LOOPED_MEANING, LOOPED_PROBLEMS
from benchmarks.problem import Arrays, Problem
from benchmarks.programs import START
from benchmarks.swept import SWEPT_MEANING, SWEPT_PROBLEMS
from benchmarks.transformed import PLAIN_PROBLEMS, TRANSFORMED_MEANING, TRANSFORMED_PROBLEMS


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
    return Problem(params, {"x": x, "y": y}, {"learning_rate": 0.01}, optimizer="adam", loop_steps=2000)


def _classifier(
    sizes: list[int], batch: int, rate: float, optimizer: str, state_arrays: int, loop_steps: int
) -> Problem:
    rng = np.random.default_rng(0)
    params = _layers(sizes, rng)
    x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], batch)
    weights = _bytes(*params.values())
    # Weights are read by forward and backward, and each array of state is read and written once.
    return Problem(
        params, {"x": x, "labels": labels}, {"learning_rate": rate}, _dense_flops(batch, sizes),
        weights * (2 + 2 * state_arrays), weights * state_arrays + x.nbytes, optimizer=optimizer, loop_steps=loop_steps,
    )  # fmt: skip


def mlp_small() -> Problem:
    return _classifier([64, 32, 10], 32, 0.05, "momentum", 2, 1000)


def mlp() -> Problem:
    return _classifier([784, 512, 256, 10], 128, 1e-3, "adam", 3, 40)


def mlp_wide() -> Problem:
    return _classifier([1024, 4096, 1024, 10], 256, 1e-4, "adamw", 3, 2)


def softmax_regression() -> Problem:
    rng = np.random.default_rng(0)
    params = {"w": np.zeros((784, 10), np.float32), "b": np.zeros(10, np.float32)}
    x = rng.normal(size=(60_000, 784)).astype(np.float32)
    labels = rng.integers(0, 10, 60_000)
    step = 256 * 784
    return Problem(
        params, {"x": x, "labels": labels}, {"learning_rate": 0.05}, 4.0 * step * 10, 4.0 * step, x.nbytes,
        optimizer="sgd", rows=256, loop_steps=234,
    )  # fmt: skip


def logreg() -> Problem:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 100)).astype(np.float32)
    y = (rng.random(100_000) < 0.5).astype(np.float32)
    params = {"w": np.zeros(100, np.float32), "b": np.zeros((), np.float32)}
    return Problem(
        params, {"x": x, "y": y}, {"learning_rate": 0.1}, 4.0 * x.size, _bytes(x), x.nbytes,
        optimizer="sgd", loop_steps=20,
    )  # fmt: skip


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
    hyper = {"learning_rate": 1e-3}
    # Second derivatives of float32 networks agree to fewer digits.
    return Problem(params, {"t": t, "x": x}, hyper, flops, 0.0, 0.0, 1e-3, optimizer="adam", loop_steps=100)


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
    flops = 24 * 6.0 * 64**3
    return Problem(params, {"x": x, "y": y}, {"learning_rate": 1e-3}, flops, optimizer="adam", loop_steps=300)


def product(name: str) -> Problem:
    """ "product_512x128x784TN_f32": one matrix product, m x k x n; T: that operand is stored transposed."""
    shape, dtype = name.split("_")[1:]
    m, k, n = (int(text) for text in re.findall(r"\d+", shape))
    layout = shape[-2:] if shape[-1] in "NT" else "NN"
    rng = np.random.default_rng(0)
    a, b = (
        (rng.normal(size=size[::-1]).T if letter == "T" else rng.normal(size=size)).astype(dtype, order="K")
        for size, letter in zip(((m, k), (k, n)), layout, strict=True)
    )
    return Problem({"a": a, "b": b}, {}, flops=2.0 * m * k * n, tolerance=1e-2)


def problem_of(name: str) -> Problem:
    """The problem of a workload, of a product, or of what a row is measured in."""
    if name.startswith("product_"):
        return product(name)
    return (WORKLOADS | START | CALLS | LOOP_VALUES | PLAIN_PROBLEMS | FACTORED_UNITS)[name]()


def lower_triangle(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the places below the diagonal, column by column, as ADBench lays them out."""
    columns, rows = np.triu_indices(d, 1)
    return rows, columns


def mixture_constant(d: int, k: int, n: int) -> float:
    """What does not depend on the parameters in ADBench's mixture objective, with Wishart's gamma = 1 and m = 0.

    ADBench (Srajer, Kukelova, Fitzgibbon 2018) adds the logarithm of its prior, 0.5 |Q|^2 - k C."""
    freedom = d + 1
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi)
    log_gamma += sum(math.lgamma(0.5 * freedom + 0.5 * (1 - j)) for j in range(1, d + 1))
    return -0.5 * n * d * math.log(2 * math.pi) - k * (-0.5 * freedom * d * math.log(2) - log_gamma)


WORKLOADS: dict[str, Callable[[], Problem]] = (
    {f.__name__: f for f in (xor, mlp_small, mlp, mlp_wide, logreg, elementwise, pinn, gmm, softmax_regression, deep)}
    | LOOPED_PROBLEMS
    | TRANSFORMED_PROBLEMS
    | SWEPT_PROBLEMS
    | CONVOLVED_PROBLEMS
    | ATTENDED_PROBLEMS
    | FACTORED_PROBLEMS
)
"""The rows of the table of rates."""

MICRO: dict[str, Callable[[], Problem]] = {"add8": CALLS["add8"]}
"""What the smallest call costs, of every peer. The part on calls has others."""

MEANING: dict[str, str] = {
    "xor": "2-8-1, ReLU, mean squared error, batch 4, Adam",
    "mlp_small": "64-32-10, ReLU, cross-entropy, batch 32, SGD with momentum",
    "mlp": "784-512-256-10, ReLU, cross-entropy, batch 128, Adam",
    "mlp_wide": "1024-4096-1024-10, ReLU, cross-entropy, batch 256, AdamW",
    "logreg": "logistic regression, 100,000 x 100, full batch, SGD",
    "elementwise": "1e6 Black-Scholes prices, value and five gradients, float64",
    "pinn": "Burgers' equation, 2-32-32-32-1 tanh, 1,024 points, second derivatives, Adam",
    "gmm": "ADBench's Gaussian mixture, d = 10, K = 25, n = 1,000, value and gradients, float64",
    "softmax_regression": "784 x 10, 60,000 rows in batches of 256, SGD",
    "deep": "24 residual tanh layers of 64, batch 64, Adam",
    **LOOPED_MEANING,
    **TRANSFORMED_MEANING,
    **SWEPT_MEANING,
    **CONVOLVED_MEANING,
    **ATTENDED_MEANING,
    **FACTORED_MEANING,
    "add8": CALLS_MEANING["add8"],
}
