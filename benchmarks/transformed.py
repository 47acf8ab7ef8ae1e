"""Workloads that are transformations: gradients of each example, products with a Hessian, a sparse Jacobian, a Hessian.

The functions that are transformed, written once for the `np` of adjit, of JAX and of NumPy; how they are transformed is
each side's own. Sides return the derivatives by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.problem import Arrays, Problem

Function = Callable[..., Any]
UNKNOWNS = 100_000
"""Of `tridiagonal`."""


def classifier(np: Any) -> Function:
    """The cross-entropy of a tanh network, of one example or the mean of many."""

    def loss(p: Any, x: Any, labels: Any) -> Any:
        depth, h = len(p) // 2, x
        for i in range(1, depth):
            h = np.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
        logits = h @ p[f"w{depth}"] + p[f"b{depth}"]
        rows = logits - np.max(logits, axis=-1, keepdims=True)
        chosen = np.arange(10) == labels[..., None]
        return np.mean(np.log(np.sum(np.exp(rows), axis=-1)) - np.sum(np.where(chosen, rows, 0.0), axis=-1))

    return loss


def residual(np: Any) -> Function:
    """Bratu's equation, u'' + e^u = 0 between zeros, by differences of points with a distance of 1."""

    def function(u: Any) -> Any:
        padded = np.pad(u, 1)
        return padded[2:] - 2.0 * u + padded[:-2] + np.exp(u)

    return function


def rosenbrock(np: Any) -> Function:
    """The valley of Rosenbrock in many dimensions."""

    def function(x: Any) -> Any:
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return function


def tridiagonal_indices(n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Rows and columns of the entries of a tridiagonal matrix in the order of SciPy's CSR."""
    rows, columns = numpy.repeat(numpy.arange(n), 3), (numpy.arange(n)[:, None] + numpy.arange(-1, 2)).reshape(-1)
    inside = (columns >= 0) & (columns < n)
    return rows[inside], columns[inside]


def compressed_tridiagonal(n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """By hand what a tridiagonal Jacobian takes without a library for it: the sums of every third unit vector, (3, n),
    and where in the three products with these, one after the other, the entries are."""
    rows, columns = tridiagonal_indices(n)
    seeds = (numpy.arange(n) % 3 == numpy.arange(3)[:, None]).astype(numpy.float64)
    return seeds, columns % 3 * n + rows


TRANSFORMED_MEANING: dict[str, str] = {
    "vmap_grad": "gradients of each of 256 examples, 64-128-10, tanh, cross-entropy",
    "hvp": "a Hessian times a vector, 256-256-128-10 (100,000 parameters), tanh, cross-entropy, batch 128",
    "tridiagonal": "the sparse Jacobian of Bratu's equation, 100,000 unknowns, float64",
    "hessian": "the Hessian of Rosenbrock's function of 100 numbers, float64",
}


def _layers(sizes: list[int], rng: numpy.random.Generator) -> Arrays:
    params: Arrays = {}
    for i, (n, m) in enumerate(itertools.pairwise(sizes), 1):
        params[f"w{i}"] = (rng.normal(size=(n, m)) / numpy.sqrt(n)).astype(numpy.float32)
        params[f"b{i}"] = numpy.zeros(m, numpy.float32)
    return params


def _examples(sizes: list[int], batch: int) -> tuple[Arrays, Arrays, numpy.random.Generator]:
    rng = numpy.random.default_rng(0)
    params = _layers(sizes, rng)
    x = rng.normal(size=(batch, sizes[0])).astype(numpy.float32)
    return params, {"x": x, "labels": rng.integers(0, sizes[-1], batch)}, rng


def _vmap_grad() -> Problem:
    params, data, _ = _examples([64, 128, 10], 256)
    count = sum(array.size for array in params.values())
    # The products forward and backward, and the outer ones, whose results are written.
    flops = 256.0 * (2 * (64 * 128 + 2 * 128 * 10) + count)
    return Problem(params, data, flops=flops, bytes=4.0 * 256 * count, working_set=4.0 * 256 * count, tolerance=1e-3)


def _hvp() -> Problem:
    sizes = [256, 256, 128, 10]
    params, data, rng = _examples(sizes, 128)
    vector = {name: rng.normal(size=array.shape).astype(numpy.float32) for name, array in params.items()}
    first, *rest = (128.0 * 2 * n * m for n, m in itertools.pairwise(sizes))
    # Three products forward (of the input, which has no tangent, two), as many for the gradients of inputs, of which
    # the first layer has none, and two for the tangents of the weights' gradients (one).
    flops = 3 * first + 8 * sum(rest)
    return Problem({"p": params, "v": vector}, data, flops=flops, tolerance=1e-3)


def _hvp_gradient() -> Problem:
    params, data, _ = _examples([256, 256, 128, 10], 128)
    return Problem(params, data, tolerance=1e-3)


def _tridiagonal() -> Problem:
    u = numpy.random.default_rng(0).normal(size=UNKNOWNS)
    # The unknowns are read, three entries of each row are written.
    moved = 8.0 * UNKNOWNS * 4
    return Problem({"u": u}, {}, bytes=moved, working_set=moved, tolerance=1e-9)


def _hessian() -> Problem:
    return Problem({"x": numpy.random.default_rng(0).normal(size=100)}, {}, tolerance=1e-9)


TRANSFORMED_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "vmap_grad": _vmap_grad,
    "hvp": _hvp,
    "tridiagonal": _tridiagonal,
    "hessian": _hessian,
}

PLAIN_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "hvp_gradient": _hvp_gradient,
    "tridiagonal_value": _tridiagonal,
    "hessian_gradient": _hessian,
}
"""What rows are measured in: the functions, or their gradients."""


def arguments_of(params: Any) -> tuple[Any, ...]:
    """What a function takes ahead of the data: the network's parameters (and the vector), or the one array."""
    if "v" in params:
        return params["p"], params["v"]
    return tuple(params.values()) if len(params) == 1 else (params,)
