"""Programs whose first call is measured, each of many small operations, as Python loops unroll them.

A program is a function of a NumPy and of its parameters: `np` is NumPy's module for adjit, and the module that takes
its place for JAX and autograd. A side that has to write a program in another way has it in its own `WRITTEN`. All are
float64; every side takes the value and the gradients of all parameters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

from benchmarks.drawn import arrays, drawn
from benchmarks.problem import Problem

Function = Callable[[Any, Any], Any]


def sines(np: Any, x: Any) -> Any:
    return np.sum(np.sin(x))


def power(np: Any, x: Any) -> Any:
    return np.sum(x**2.5)


def elementwise(np: Any, p: Any) -> Any:
    a, b, c = p["a"], p["b"], p["c"]
    u = np.cos(np.minimum(a, b)) + np.sin(a) * np.exp(-b)
    v = np.maximum(u * c, 0.1) / (1.0 + a * a) + np.sqrt(b + c * c)
    return np.sum(np.tanh(v - 0.5 * u) + np.arctan(a * b) + np.log(1.0 + v * v))


def rk4(steps: int) -> Function:
    """Lotka and Volterra's predators and prey by the classical method of Runge and Kutta."""

    def function(np: Any, p: Any) -> Any:
        def slope(u: Any) -> Any:
            prey, predators = u[0], u[1]
            return np.stack([p[0] * prey - p[1] * prey * predators, p[2] * prey * predators - p[3] * predators])

        u, h = np.array([1.0, 0.5]) * p[4], 0.1
        for _ in range(steps):
            k1 = slope(u)
            k2 = slope(u + 0.5 * h * k1)
            k3 = slope(u + 0.5 * h * k2)
            k4 = slope(u + h * k3)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return np.sum(u * u)

    return function


def writes(np: Any, x: Any) -> Any:
    y = np.zeros(160)
    for i in range(1, 160):
        y[i] = x[i] + 0.5 * y[i - 1]
    return np.sum(y * y)


RETURNS = 0.02 * numpy.sin(numpy.arange(60.0) ** 2)
"""Those of the variance recursion."""


def variances(np: Any, p: Any) -> Any:
    """The likelihood of a GARCH(1, 1)."""
    variance, total = 1e-4, 0.0
    for r in RETURNS:
        variance = p[0] + p[1] * r**2 + p[2] * variance
        total = total + np.log(variance) + r**2 / variance
    return total


def cholesky(np: Any, x: Any) -> Any:
    """The logarithm of a determinant, its factorisation in loops."""
    n = 12
    a = x @ x.T + n * np.eye(n)
    rows: list[list[Any]] = []
    for i in range(n):
        row: list[Any] = []
        for j in range(i + 1):
            rest = a[i, j] - sum(row[k] * (row if i == j else rows[j])[k] for k in range(j))
            row.append(np.sqrt(rest) if i == j else rest / rows[j][j])
        rows.append(row)
    return sum(np.log(row[-1]) for row in rows)


def rnn(np: Any, p: Any) -> Any:
    """A hundred time steps of sixteen hidden numbers, eight sequences at a time."""
    h = np.zeros((8, 16))
    for t in range(100):
        h = np.tanh(SEQUENCES[t] @ p["input"] + h @ p["hidden"] + p["bias"])
    return np.mean(h * h)


SEQUENCES = numpy.random.default_rng(1).normal(size=(100, 8, 4))
"""What the RNN reads."""


def parameters(np: Any, p: Any) -> Any:
    return sum(x * x for x in p) + sum(np.sin(x) * y for x, y in itertools.pairwise(p))


def scalars(np: Any, x: Any) -> Any:
    return sum(np.sin(x[i]) * x[i + 1] for i in range(300))


def stacked(np: Any, x: Any) -> Any:
    y = np.stack([x[i] * x[i + 1] for i in range(200)])
    return np.sum(y * y)


def _numbers(*shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(0).uniform(0.2, 1.0, shape)


def _weights() -> dict[str, numpy.ndarray]:
    return {"hidden": _numbers(16, 16) / 16, "input": _numbers(4, 16) - 0.5, "bias": _numbers(16) - 0.5}


def _matrices() -> dict[str, numpy.ndarray]:
    return {"a": _numbers(19, 1), "b": _numbers(1, 9), "c": _numbers(19, 9)}


def _rates() -> numpy.ndarray:
    """Of the predators and prey, and how many there are at the start."""
    return numpy.array([0.9, 0.4, 0.3, 0.6, 1.0])


def adam_step() -> Problem:
    rng = numpy.random.default_rng(0)
    params = {"w1": rng.normal(size=(8, 32)) / 4, "b1": numpy.zeros(32), "w2": rng.normal(size=(32, 4)) / 6}
    data = {"x": rng.normal(size=(16, 8)), "y": rng.normal(size=(16, 4))}
    return Problem(params | {"b2": numpy.zeros(4)}, data, {"learning_rate": 1e-3}, tolerance=1e-9, optimizer="adam")


def _problem(name: str) -> Problem:
    return Problem(PROGRAMS[name].params(), {}, tolerance=1e-9)


@dataclass(frozen=True)
class Program:
    """A function of (np, params), the parameters where it is differentiated, and what it is in words."""

    function: Function
    params: Callable[[], Any]
    meaning: str

    def of(self, np: Any) -> Callable[[Any], Any]:
        """The function of the parameters alone."""
        function = self.function
        return lambda params: function(np, params)


PROGRAMS: dict[str, Program] = {
    "sines_100": Program(sines, lambda: _numbers(100), "the sum of the sines of 100 numbers"),
    "sines_1000": Program(sines, lambda: _numbers(1000), "the sum of the sines of 1,000 numbers"),
    "power_200": Program(power, lambda: _numbers(200), "the sum of `x**2.5`, 200 numbers"),
    "elementwise_20": Program(elementwise, _matrices, "some twenty elementwise functions of 19 x 9 numbers"),
    "rk4_20": Program(rk4(20), _rates, "Lotka-Volterra by Runge-Kutta's method, 20 steps of a Python loop"),
    "rk4_40": Program(rk4(40), _rates, "40 steps"),
    "rk4_100": Program(rk4(100), _rates, "100 steps"),
    "writes_160": Program(writes, lambda: _numbers(160), "`y[i] = x[i] + 0.5 * y[i - 1]`, 160 numbers"),
    "variances_60": Program(variances, lambda: numpy.array([1e-5, 0.1, 0.8]), "a GARCH's likelihood, 60 steps"),
    "cholesky_12": Program(cholesky, lambda: _numbers(12, 12), "a factorisation of 12 x 12 in Python loops"),
    "rnn_100": Program(rnn, _weights, "an RNN, 100 time steps, 16 hidden numbers"),
    "parameters_600": Program(parameters, lambda: list(_numbers(600)), "squares and products of 600 parameters"),
    "scalars_300": Program(scalars, lambda: _numbers(301), "`sum(sin(x[i]) * x[i + 1])`, 300 terms"),
    "stacked_200": Program(stacked, lambda: _numbers(201), "`np.stack` of 200 scalars"),
    # Of forty and of twenty random programs those that took adjit longest for each node of their graph.
    "random_60": Program(drawn(7, 60), arrays, "a random program of 60 operations"),
    "random_200": Program(drawn(14, 200), arrays, "a random program of 200 operations"),
}
"""Those that are a value and its gradients."""

START: dict[str, Callable[[], Problem]] = {
    **{name: functools.partial(_problem, name) for name in PROGRAMS},
    "adam_step": adam_step,
}
"""The rows of the part on first calls."""

START_MEANING: dict[str, str] = {name: program.meaning for name, program in PROGRAMS.items()} | {
    "adam_step": "a step of Adam, 8-32-4, ReLU, mean squared error, batch 16",
}
