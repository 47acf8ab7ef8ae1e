"""Each construct under each transformation: value, jvp, vjp, second derivatives in all four orders, and batches of the
value and of a derivative. All that is made of a program is one function: compiled, evaluated, against plain Python and
differences of its own results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.evaluate import evaluate
from tests.compositions import plain, programs
from tests.compositions.check import close, slopes, weights
from tests.compositions.programs import PROGRAMS, X

RESULTS = ("value", "jvp", "vjp", "forward over reverse", "reverse over forward", "forward over forward",
           "reverse over reverse", "vmap", "vmap of vjp")  # fmt: skip
V = np.array([1.0, -0.5, 2.0])
BATCH = np.stack([X, 0.9 * X, X + 0.05])


def made(f: Callable[[Any], Any], w: np.ndarray) -> Callable[[Any], Any]:
    """All of them, of a function."""

    def along(g: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: adjit.jvp(g, (x,), (V,))[1]

    def back(g: Callable[[Any], Any], w: np.ndarray) -> Callable[[Any], Any]:
        return lambda x: adjit.vjp(g, x)[1](w)[0]

    first, reverse = along(f), back(f, w)
    functions = [f, first, reverse, along(reverse), back(first, w), along(first), back(reverse, V)]
    return lambda x: [function(x) for function in functions] + [adjit.vmap(g)(BATCH) for g in (f, reverse)]


OF_NO_ARRAYS = {"Minimum", "check_grads", "pattern", "sparse_hessian", "sparse_jacobian", "symbolic"}
"""A class of results, and what gives a verdict, a matrix of SciPy or a formula, so that nothing can be made of it."""


def test_all_constructs_have_a_program() -> None:
    used = set(re.findall(r"\bA\.(\w+)", inspect.getsource(programs)))
    assert used == {"grad", "jit", "value_and_grad", *adjit._LATE} - OF_NO_ARRAYS


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_transformations(name: str) -> None:
    program = PROGRAMS[name]
    value = np.asarray(program(plain, X))
    w = weights(value.shape)
    compiled = adjit.jit(made(lambda x: program(adjit, x), w))
    found = dict(zip(RESULTS, compiled(X), strict=True))
    for result, wanted in zip(RESULTS, evaluate(compiled.ir("trace"), X), strict=True):
        close(found[result], wanted, 1e-11, f"{result}: compiled and evaluated")
    close(found["value"], value, 1e-12, "plain Python")
    # By differences of what stands before it in the list.
    for below, forward, reverse, cotangent in (
        ("value", "jvp", "vjp", w),
        ("vjp", "forward over reverse", "reverse over reverse", V),
        ("jvp", "forward over forward", "reverse over forward", w),
    ):
        number = RESULTS.index(below)
        jacobian, _ = slopes(lambda x, number=number: compiled(x)[number], X, found[below].shape)
        close(found[forward], jacobian @ V, 1e-7, forward)
        close(found[reverse], np.tensordot(cotangent, jacobian, cotangent.ndim), 1e-7, reverse)
    for turn, x in enumerate(BATCH):
        value, _, gradient, *_ = compiled(x)
        close(found["vmap"][turn], value, 1e-11, "vmap: the loop")
        close(found["vmap of vjp"][turn], gradient, 1e-11, "vmap of vjp: the loop")
