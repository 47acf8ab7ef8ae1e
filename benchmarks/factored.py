"""Workloads of matrices and sorts: what is factored, written once for every library's `np`, and what is put in order.

Of small matrices every side takes value and gradients; the unit is what NumPy takes for the value alone. Of a Gaussian
process it is the same function of a covariance that is there: its calls of LAPACK, and little else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from benchmarks.problem import Problem

Function = Callable[..., Any]
SIZES = (4, 8)
"""Rows of small matrices."""
POINTS, INPUTS = 1000, 4
"""Of the Gaussian process."""
SIDES = ("adjit", "numpy", "jax")


def small_cholesky(np: Any) -> Function:
    """Of symmetric matrices, whatever is given: which triangle has the gradient differs between libraries."""

    def total(p: Any) -> Any:
        given = [p[f"a{n}"] for n in SIZES]
        return sum(np.sum(np.linalg.cholesky(0.5 * (a + np.swapaxes(a, 1, 2)))) for a in given)

    return total


def small_solve(np: Any) -> Function:
    return lambda p: sum(np.sum(np.linalg.solve(p[f"a{n}"], p[f"b{n}"]) ** 2) for n in SIZES)


def small_inv(np: Any) -> Function:
    return lambda p: sum(np.sum(np.linalg.inv(p[f"a{n}"])) for n in SIZES)


def small_slogdet(np: Any) -> Function:
    return lambda p: sum(np.sum(np.linalg.slogdet(p[f"a{n}"])[1]) for n in SIZES)


def _likelihood(np: Any, k: Any, y: Any) -> Any:
    """Of a process with the covariance k, by its factor: the last row of that of a matrix with y beside k is L^-1 y."""
    beside = np.concatenate([np.concatenate([k, y[:, None]], axis=1), np.append(y, 1e6)[None, :]])
    factor = np.linalg.cholesky(beside)
    solved, scales = factor[-1, :-1], np.diagonal(factor)[:-1]
    return 0.5 * np.sum(solved * solved) + np.sum(np.log(scales)) + 0.5 * len(y) * np.log(2 * np.pi)


def gaussian_process(np: Any) -> Function:
    """The negative logarithm of the likelihood: a length for each input, a scale, and noise."""

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = x * np.exp(-p["lengths"])
        squares = np.sum(z * z, axis=1)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2.0 * (z @ z.T), 0.0)
        k = np.exp(p["scale"] - 0.5 * distances) + np.exp(p["noise"]) * np.eye(POINTS)
        return _likelihood(np, k, y)

    return loss


def gaussian_process_calls(np: Any) -> Function:
    """The same of a covariance that is there."""
    return lambda p, y: _likelihood(np, p["k"], y)


FACTORED: dict[str, Callable[[Any], Function]] = {
    f.__name__: f
    for f in (small_cholesky, small_solve, small_inv, small_slogdet, gaussian_process, gaussian_process_calls)
}


def sort(np: Any) -> Function:
    return lambda p: {"values": np.sort(p["x"]), "order": np.argsort(p["x"])}


SORTED: dict[str, Callable[[Any], Function]] = {"sort": sort, "sort_rows": sort}

FACTORED_MEANING: dict[str, str] = {
    "small_cholesky": "Cholesky factors of 1,000 matrices of 4 x 4 and of 8 x 8, value and gradients, float64",
    "small_solve": "1,000 systems of 4 and of 8 equations, value and gradients, float64",
    "small_inv": "inverses of 1,000 matrices of 4 x 4 and of 8 x 8, value and gradients, float64",
    "small_slogdet": "log-determinants of 1,000 matrices of 4 x 4 and of 8 x 8, value and gradients, float64",
    "gaussian_process": "a Gaussian process's likelihood, 1,000 points, value and gradients, float64",
    "sort": "sort and argsort of 1e6 numbers, float64",
    "sort_rows": "sort and argsort of 16,384 rows of 64, float64",
}


def _small(definite: bool) -> Problem:
    rng, params = numpy.random.default_rng(0), {}
    for n in SIZES:
        a = rng.normal(size=(1000, n, n))
        params[f"a{n}"] = a @ a.transpose(0, 2, 1) + n * numpy.eye(n) if definite else a + 2 * numpy.eye(n)
    return Problem(params, {}, tolerance=1e-7, sides=SIDES)


def _small_solve() -> Problem:
    rng, problem = numpy.random.default_rng(1), _small(True)
    beside = {f"b{n}": rng.normal(size=(1000, n, 1)) for n in SIZES}
    return Problem(problem.params | beside, {}, tolerance=problem.tolerance, sides=SIDES)


def _points() -> tuple[numpy.ndarray, numpy.ndarray]:
    rng = numpy.random.default_rng(0)
    x = rng.uniform(-2, 2, (POINTS, INPUTS))
    return x, numpy.sin(numpy.sum(x, axis=1)) + 0.1 * rng.normal(size=POINTS)


def _gaussian_process() -> Problem:
    x, y = _points()
    params = {"lengths": numpy.zeros(INPUTS), "scale": numpy.array(0.0), "noise": numpy.array(-2.0)}
    # The factor, and as much again twice for its adjoint.
    return Problem(params, {"x": x, "y": y}, flops=POINTS**3, tolerance=1e-7, sides=SIDES)


def _gaussian_process_calls() -> Problem:
    x, y = _points()
    k = numpy.exp(-0.5 * numpy.sum((x[:, None] - x[None, :]) ** 2, axis=-1)) + numpy.exp(-2) * numpy.eye(POINTS)
    return Problem({"k": k}, {"y": y}, tolerance=1e-7, sides=SIDES)


def _sort() -> Problem:
    return Problem({"x": numpy.random.default_rng(0).normal(size=1_000_000)}, {}, tolerance=1e-12, sides=SIDES)


def _sort_rows() -> Problem:
    return Problem({"x": numpy.random.default_rng(0).normal(size=(16_384, 64))}, {}, tolerance=1e-12, sides=SIDES)


FACTORED_PROBLEMS: dict[str, Callable[[], Problem]] = {
    "small_cholesky": lambda: _small(True),
    "small_solve": _small_solve,
    "small_inv": lambda: _small(False),
    "small_slogdet": lambda: _small(False),
    "gaussian_process": _gaussian_process,
    "sort": _sort,
    "sort_rows": _sort_rows,
}

FACTORED_UNITS: dict[str, Callable[[], Problem]] = {
    "gaussian_process_calls": _gaussian_process_calls,
    **{f"{name}_value": FACTORED_PROBLEMS[name] for name in FACTORED_PROBLEMS if name.startswith("small")},
}
"""What rows are measured in."""
