"""Many models in one step: a sweep of learning rates over networks that see the same batches.

The parameters are those of all models, stacked along axis 0; losses are an array with one for each. Every side does it
as its users would: by mapping the step of one model, or with batches of products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.problem import Problem

MODELS, SIZES, ROWS = 64, (64, 32, 10), 32
RATES = np.logspace(-4, -2, MODELS)

SWEPT_MEANING: dict[str, str] = {
    "sweep": "64 networks 64-32-10 with a learning rate each, ReLU, cross-entropy, batch 32 for all, Adam",
}


def sweep() -> Problem:
    rng = np.random.default_rng(0)
    first, hidden, last = SIZES
    params = {
        "w1": rng.normal(size=(MODELS, first, hidden)) * np.sqrt(2 / first), "b1": np.zeros((MODELS, hidden)),
        "w2": rng.normal(size=(MODELS, hidden, last)) * np.sqrt(2 / hidden), "b2": np.zeros((MODELS, last)),
    }  # fmt: skip
    params = {name: array.astype(np.float32) for name, array in params.items()}
    x = rng.normal(size=(ROWS, first)).astype(np.float32)
    # Forward, gradients of weights, gradient of the hidden layer.
    flops = MODELS * 2.0 * ROWS * (2 * first * hidden + 3 * hidden * last)
    weights = float(sum(array.nbytes for array in params.values()))
    return Problem(
        params, {"x": x, "labels": rng.integers(0, last, ROWS)}, {}, flops, 8 * weights, 3 * weights + x.nbytes,
        optimizer="adam", loop_steps=200,
    )  # fmt: skip


SWEPT_PROBLEMS: dict[str, Callable[[], Problem]] = {"sweep": sweep}
