"""Calls by kind of argument: how people call, on arrays so small that the arithmetic is next to nothing.

A kind is a function of its arguments, written once for every library's `np`, and the arguments. JAX has arrays as its
own, as its users hold them, but for those whose layout is the kind; autograd has the kinds with gradients alone, as the
others would be NumPy."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy

from benchmarks.problem import Problem

A = numpy.arange(8.0)
B = A / 3


@dataclass(frozen=True)
class Six:
    """Six arrays as a dataclass of the user's."""

    a: Any
    b: Any
    c: Any
    d: Any
    e: Any
    f: Any


@dataclass(frozen=True)
class Call:
    """`of(np)` is the function, `arguments` its arguments in order.

    Those named in `keywords` are passed by name, the one named in `static` is no array. `argnums` where value and
    gradients are wanted. `fresh`: each call has a new array and wants a number and an array of NumPy's, as
    `scipy.optimize.minimize` does."""

    of: Callable[[Any], Callable[..., Any]]
    arguments: Mapping[str, Any]
    meaning: str
    keywords: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    argnums: int | tuple[int, ...] | None = None
    fresh: bool = False

    def given(self, arguments: Mapping[str, Any] | None = None) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by position and by name."""
        arguments = arguments or self.arguments
        return (
            [value for name, value in arguments.items() if name not in self.keywords],
            {name: arguments[name] for name in self.keywords},
        )


def _sum(np: Any) -> Callable[..., Any]:
    return lambda a, b: a + b


def _scaled(np: Any) -> Callable[..., Any]:
    return lambda a, s: a * s


def _first(np: Any) -> Callable[..., Any]:
    return lambda a, n: a[:n] * 2.0


def _doubled(np: Any) -> Callable[..., Any]:
    """Of a mapping, of its own class."""
    return lambda arrays: type(arrays)((name, array * 2.0) for name, array in arrays.items())


def _doubled_fields(np: Any) -> Callable[..., Any]:
    return lambda arrays: Six(*(getattr(arrays, one.name) * 2.0 for one in fields(Six)))


def _total(np: Any) -> Callable[..., Any]:
    return lambda arrays: sum(arrays)


def _inner(np: Any) -> Callable[..., Any]:
    return lambda a, b: np.sum(a * b)


def _rosenbrock(np: Any) -> Callable[..., Any]:
    return lambda x: np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


SIX = {name: A + i for i, name in enumerate("abcdef")}

KINDS: dict[str, Call] = {
    "add8": Call(_sum, {"a": A, "b": B}, "`a + b` of two arrays of 8 float64 numbers"),
    "numpy_scalar": Call(_scaled, {"a": A, "s": numpy.float64(0.5)}, "`a * s`, s a NumPy scalar"),
    "python_float": Call(_scaled, {"a": A, "s": 0.5}, "`a * s`, s a Python float"),
    "keyword": Call(_sum, {"a": A, "b": B}, "`f(a, b=b)`", keywords=("b",)),
    "static": Call(_first, {"a": A, "n": 5}, "`f(a, n)`, n static", static=("n",)),
    "dict_of_6": Call(_doubled, {"arrays": SIX}, "a dict of 6 arrays in and out"),
    "ordered_dict_of_6": Call(_doubled, {"arrays": OrderedDict(SIX)}, "an OrderedDict of 6 arrays in and out"),
    "dataclass_of_6": Call(_doubled_fields, {"arrays": Six(**SIX)}, "a dataclass of 6 arrays in and out"),
    "list_of_32": Call(_total, {"arrays": [A + i for i in range(32)]}, "the sum of a list of 32 arrays"),
    "strided": Call(_sum, {"a": numpy.arange(16.0)[::2], "b": B}, "`a + b`, a every other number of an array"),
    "fortran": Call(
        _sum, {"a": numpy.arange(8.0).reshape(2, 4, order="F"), "b": B.reshape(2, 4)}, "`a + b`, a in Fortran's order"
    ),
    "argnums": Call(_inner, {"a": A, "b": B}, "value and both gradients of `sum(a * b)`", argnums=(0, 1)),
    "minimize": Call(
        _rosenbrock, {"x": B}, "an evaluation of `scipy.optimize.minimize(f, x, jac=True)`, x a vector of 8",
        argnums=0, fresh=True,
    ),
}  # fmt: skip


def batch_step() -> Problem:
    """A step as small as that of `xor`, the batch as a dict."""
    rng = numpy.random.default_rng(0)
    params = {"w1": rng.normal(size=(2, 8)), "b1": numpy.zeros(8), "w2": rng.normal(size=(8, 1)), "b2": numpy.zeros(1)}
    # (Not the table of xor: at an input of exactly 0 libraries differ in what they call the derivative of ReLU.)
    data = {"x": rng.normal(size=(4, 2)), "y": rng.normal(size=(4, 1))}
    return Problem(params, data, {"learning_rate": 0.01}, tolerance=1e-9, optimizer="adam")


def _problem(name: str) -> Problem:
    # What `a + b` gives has no error; sums and gradients are taken in orders of each side's own.
    return Problem(KINDS[name].arguments, {}, tolerance=1e-12)


CALLS: dict[str, Callable[[], Problem]] = {
    **{name: functools.partial(_problem, name) for name in KINDS},
    "batch_step": batch_step,
}
"""The rows of the part on calls."""

CALLS_MEANING: dict[str, str] = {name: call.meaning for name, call in KINDS.items()} | {
    "batch_step": "a training step, 2-8-1, Adam, the batch a dict of 2 arrays",
}
