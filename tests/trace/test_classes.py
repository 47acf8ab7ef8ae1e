"""A tracer shows the class of its value: `isinstance` and its kin answer as in the plain function."""

from __future__ import annotations

import copy
import functools
import math
import numbers
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit.trace import is_tracer
from adjit.trace.tracer import ScalarTracer
from adjit_runtime.errors import TraceError

CLASSES = (
    float, int, bool, complex, str, tuple, list, np.ndarray, np.generic, np.number, np.floating, np.integer,
    np.signedinteger, np.unsignedinteger, np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_,
    numbers.Number, numbers.Real, numbers.Integral, numbers.Complex,
)  # fmt: skip
"""What people ask for."""

ARGUMENTS = [
    2.0, 3, True, np.float64(2.0), np.float32(2.0), np.int64(3), np.int32(3), np.uint8(3), np.bool_(True), np.ones(3),
    np.ones((2, 3), np.float32), np.arange(3), np.array([True, False]), np.array(2.0), np.array(3, np.int32),
]  # fmt: skip

EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "x": lambda x: x,
    "x + 1": lambda x: x + 1,
    "2.5 * x": lambda x: 2.5 * x,
    "abs(x)": abs,
    "+x": operator.pos,
    "x < 2": lambda x: x < 2,
    "x // 2": lambda x: x // 2,
    "x == x": lambda x: x == x,
    "np.sin(x)": np.sin,
    "x + np.exp(x)": lambda x: x + np.exp(x),
    "np.sum(x)": np.sum,
    "np.where(x > 0, x, 1)": lambda x: np.where(x > 0, x, 1),
    "copy.copy(x)": copy.copy,
    "np.add(x, 1.5)": lambda x: np.add(x, 1.5),
    "np.mean(x)": np.mean,
    "max(x, x)": lambda x: max(x, x) if np.ndim(x) == 0 else x,
    "min([x, x])": lambda x: min([x, x]) if np.ndim(x) == 0 else x,
    "math.sin(x)": lambda x: math.sin(x) if np.ndim(x) == 0 else x,
    "math.isnan(x)": lambda x: math.isnan(x) if np.ndim(x) == 0 else x,
    "math.pow(x, 1.0)": lambda x: math.pow(x, 1.0) if np.ndim(x) == 0 else x,
    "math.modf(x)[1]": lambda x: math.modf(x)[1] if np.ndim(x) == 0 else x,
    "math.floor(x)": lambda x: math.floor(x) if np.ndim(x) == 0 else x,
    "round(x)": lambda x: round(x) if np.ndim(x) == 0 else x,
    "np.array(x)": lambda x: np.array(x),  # seen by the name in the call
    "np.asarray(x)": lambda x: np.asarray(x),
    "np.copy(x)": np.copy,
    "np.full((), sum)": lambda x: np.full((), np.sum(x)),
    "np.zeros_like(x)": np.zeros_like,
    "np.zeros(())": lambda x: np.zeros(()),
    "np.select": lambda x: np.select([x > 0], [x], 0.0),
}


def answers(x: Any) -> tuple[Any, ...]:
    """Everything that asks for a class."""
    matched = None
    match x:
        case np.ndarray():
            matched = "array"
        case bool():
            matched = "bool"
        case float():
            matched = "float"
        case int():
            matched = "int"
    return (*(isinstance(x, kind) for kind in CLASSES), np.isscalar(x), matched, dispatched(x), issubclass(
        x.__class__, float), np.ndim(x), np.shape(x))  # fmt: skip


@functools.singledispatch
def dispatched(x: Any) -> str:
    return "object"


@dispatched.register(float)
def _(x: Any) -> str:
    return "float"


@dispatched.register(np.ndarray)
def _(x: Any) -> str:
    return "array"


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("x", ARGUMENTS, ids=lambda x: f"{type(x).__name__}{np.shape(x) or ''}")
@pytest.mark.filterwarnings("ignore::adjit.WideningWarning")
def test_isinstance_answers_as_for_the_value(x: Any, name: str) -> None:
    expression, seen = EXPRESSIONS[name], []

    def f(x: Any) -> Any:
        y = expression(x)
        seen.append(answers(y))
        return y

    if _is_refused(expression, x):
        pytest.skip("NumPy refuses it, or gives float16")
    adjit.jit(f)(x)
    assert seen == [answers(expression(x))]


def _is_refused(expression: Callable[[Any], Any], x: Any) -> bool:
    try:
        return np.result_type(expression(x)) == np.float16
    except TypeError:
        return True


def test_elements_and_views() -> None:
    def f(x: Any) -> Any:
        seen.append([answers(v) for v in (x[0], x[0, ...], x[1:], x.T, *x, x.reshape(()) if x.size == 1 else x[0])])
        return x[0]

    for x in (np.ones(2), np.ones(1)):
        seen: list[Any] = []
        f(x)
        adjit.jit(f)(x)
        assert seen[0] == seen[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.array(x[0]),
        lambda x: np.full((), x[0]),
        lambda x: np.where(x[0] > 0, x[0], 1.0),
        lambda x: np.select([x[0] > 0], [x[1]], 0.0),
        lambda x: np.copy(x[0]),
        lambda x: np.zeros(()),
        lambda x: np.asarray(x[0, ...].copy()),
    ],
)
def test_arrays_without_dimensions_are_changed_in_place(make: Callable[[Any], Any]) -> None:
    def f(x: Any) -> Any:
        a = make(x)
        b = a
        a += x[1]
        c = b.copy()
        a[()] = a * 2
        return b, c

    x = np.array([0.5, 3.0])
    assert adjit.jit(f)(x) == f(x)


def test_values_of_enclosing_functions() -> None:
    def outer(x: Any, n: Any) -> Any:
        return adjit.grad(lambda y: y * x[0] if isinstance(n, float) and isinstance(x, np.ndarray) else -y)(1.0)

    assert adjit.jit(outer)(np.array([3.0]), 2.0) == 3.0
    assert adjit.jit(outer)(np.array([3.0]), 2) == -1.0


def test_the_path_that_the_plain_function_takes_is_compiled() -> None:
    def f(x: Any, n: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x * 2
        return np.sum(x) if isinstance(n, numbers.Integral) else np.sum(x) * 10

    compiled = adjit.jit(f)
    for args in ((np.ones(3), 2), (np.ones(3), 2.0), (1.5, 2), (np.float64(1.5), 2)):
        assert compiled(*args) == f(*args)


def test_tracers_stay_leaves_and_cannot_be_pickled() -> None:
    def f(x: Any, n: Any) -> Any:
        assert is_tracer(x)
        assert isinstance(x, ScalarTracer) is False
        assert isinstance(n, ScalarTracer)
        leaves = optree.tree_leaves({"a": (x, n)})
        assert leaves[0] is x
        assert leaves[1] is n
        assert "traced" in repr(x)
        for value in (x, n):
            with pytest.raises(TraceError, match="pickled"):
                pickle.dumps(value)
        return n

    # What a traced function catches is raised again when the trace ends.
    with pytest.raises(TraceError, match="pickled"):
        adjit.jit(f)(np.ones(2), 1.0)


def test_arguments_that_are_arrays_without_dimensions() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append([answers(v) for v in (x, x * 1, x[()], +x, np.float64(x))])
        return x * x

    for x in (np.array(3.0), np.float64(3.0)):
        seen.clear()
        f(x)
        assert adjit.jit(f)(x) == 9.0
        assert adjit.grad(f)(x) == 6.0
        # In a trace, too; what is an array there is one here.
        assert adjit.jit(lambda x: adjit.grad(f)(x))(x) == 6.0
        assert seen == [seen[0]] * 4
    assert adjit.jit(lambda x: x.astype(np.int32) + isinstance(x, np.ndarray))(np.array(2, np.int8)) == 3


def test_an_argument_without_dimensions_belongs_to_the_caller() -> None:
    def doubled(x: Any) -> Any:
        x *= 2
        return x

    assert adjit.jit(doubled)(np.float64(2.0)) == 4.0
    with pytest.raises(TraceError, match=r"the argument `x`"):
        adjit.jit(doubled)(np.array(2.0))
    with pytest.raises(TraceError, match=r"one of the arguments of max"):
        adjit.jit(lambda x, y: doubled(max(x, y)))(np.array(2.0), np.array(3.0))
