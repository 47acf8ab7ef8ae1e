"""No NaN through `where`: the branch that is not taken has derivative 0, to third order, evaluated and compiled.

Each case is a function of one array, lane by lane; SymPy differentiates the branch that each lane takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from tests.both import run_both

AROUND = [-2.0, -0.5, 0.0, 0.5, 2.0]


@dataclass(frozen=True)
class Case:
    """`function(x)` is `taken` where `mask(x)` holds, else `other`; both are expressions of SymPy in x."""

    name: str
    function: Callable[[Any], Any]
    mask: Callable[[np.ndarray], np.ndarray]
    taken: str
    other: str = "0"
    x: tuple[float, ...] = tuple(AROUND)

    def __str__(self) -> str:
        return self.name

    def derivative(self, order: int) -> np.ndarray:
        symbol = sympy.Symbol("x", real=True)
        branches = []
        for text in (self.taken, self.other):
            expression = sympy.sympify(text, locals={"x": symbol})
            branches.append(sympy.diff(expression, symbol, order))
        alive = self.mask(np.array(self.x))
        return np.array([float(branches[not on].subs(symbol, v)) for v, on in zip(self.x, alive, strict=True)])


def positive(x: Any) -> Any:
    return x > 0


def where_sum_of_rows(x: Any) -> Any:
    """A mask of another shape: one row decides for both."""
    both = np.stack([x, 2.0 * x])
    return np.sum(np.where(x[None, :] > 0, np.sqrt(both), 0.0), axis=0)


def where_of_column(x: Any) -> Any:
    """The mask is (n, 1), what it chooses (n, 3)."""
    wide = np.broadcast_to(x[:, None], (5, 3))
    return np.mean(np.where(x[:, None] > 0, np.log(wide), 0.0), axis=1)


def assigned(x: Any) -> Any:
    """The same by assignment through a mask."""
    y = np.sqrt(x)
    y[x <= 0] = 0.0
    return y


def norm_of_pair(x: Any) -> Any:
    pair = np.stack([x, 0.0 * x], axis=1)
    length = np.linalg.norm(pair, axis=1)
    return np.where(x > 0, length, 0.0)


def through_matmul(x: Any) -> Any:
    """The dead branch is a contraction of what is singular."""
    dead = np.sqrt(x)[:, None] @ np.ones((1, 2))
    return np.sum(np.where(x[:, None] > 0, dead, 0.0), axis=1)


def through_take(x: Any) -> Any:
    roots = np.sqrt(x)
    return np.where(x > 0, roots[np.arange(5)], 0.0)


def through_cumsum(x: Any) -> Any:
    """A running sum whose last entries are dead: the dead roots come after the ones that live."""
    order = np.argsort(-np.array(AROUND))
    back = np.argsort(order)
    sums = np.cumsum(np.sqrt(x[order]))
    return np.where(x > 0, sums[back], 0.0)


CASES = [
    Case("sqrt", lambda x: np.where(x > 0, np.sqrt(x), 0.0), positive, "sqrt(x)"),
    Case("sqrt-outside", lambda x: np.sqrt(np.where(x > 0, x, 1.0)), positive, "sqrt(x)"),
    Case("sqrt-squared", lambda x: np.where(x > 0, np.sqrt(x) ** 3, 0.0), positive, "x**Rational(3,2)"),
    Case("sqrt-otherwise", lambda x: np.where(x <= 0, x * x, np.sqrt(x)), positive, "sqrt(x)", "x**2"),
    Case("log", lambda x: np.where(x > 0, np.log(x), 0.0), positive, "log(x)"),
    Case("log2", lambda x: np.where(x > 0, np.log2(x), 0.0), positive, "log(x)/log(2)"),
    Case("log10", lambda x: np.where(x > 0, np.log10(x), 0.0), positive, "log(x)/log(10)"),
    Case("log1p", lambda x: np.where(x > -1, np.log1p(x), 0.0), lambda x: x > -1, "log(1+x)"),
    Case("x-log-x", lambda x: np.where(x > 0, x * np.log(x), 0.0), positive, "x*log(x)"),
    Case("reciprocal", lambda x: np.where(x != 0, 1.0 / x, 0.0), lambda x: x != 0, "1/x"),
    Case("ratio", lambda x: np.where(x != 0, np.sin(x) / x, 1.0), lambda x: x != 0, "sin(x)/x", "1"),
    Case("ratio-of-itself", lambda x: np.where(x != 0, x / np.abs(x), 0.0), lambda x: x != 0, "0*x"),
    Case("power", lambda x: np.where(x > 0, x**1.5, 0.0), positive, "x**Rational(3,2)"),
    Case("negative-power", lambda x: np.where(x != 0, x**-2, 7.0), lambda x: x != 0, "x**(-2)", "7"),
    Case("traced-power", lambda x: np.where(x > 0, x**x, 1.0), positive, "x**x", "1"),
    Case("float-power", lambda x: np.where(x > 0, np.power(x, 0.25), 0.0), positive, "x**Rational(1,4)"),
    Case("arccos", lambda x: np.where(np.abs(x) < 1, np.arccos(x), 0.0), lambda x: np.abs(x) < 1, "acos(x)"),
    Case("arcsin", lambda x: np.where(np.abs(x) < 1, np.arcsin(x), x), lambda x: np.abs(x) < 1, "asin(x)", "x"),
    Case("arctanh", lambda x: np.where(np.abs(x) < 1, np.arctanh(x), 0.0), lambda x: np.abs(x) < 1, "atanh(x)"),
    Case("arccosh", lambda x: np.where(x > 1, np.arccosh(x), 0.0), lambda x: x > 1, "acosh(x)"),
    Case("cbrt", lambda x: np.where(x > 0, np.cbrt(x), 0.0), positive, "x**Rational(1,3)"),
    Case("norm", norm_of_pair, positive, "x"),
    Case("exp-overflow", lambda x: np.where(x < 1, np.exp(1000 * x) * 1e-3, 0.0), lambda x: x < 0, "exp(1000*x)/1000",
         "0", (-0.01, 2.0, 5.0)),
    Case("logarithm-of-exp", lambda x: np.where(x < 1, np.log(1.0 + np.exp(x)), x), lambda x: x < 1,
         "log(1+exp(x))", "x", (-2.0, 0.5, 800.0, 2000.0)),
    Case("nested", lambda x: np.where(x > 0, np.where(x > 1, np.log(x - 1), np.sqrt(x)), 0.0), positive,
         "Piecewise((log(x-1), x > 1), (sqrt(x), True))"),
    Case("two-masks", lambda x: np.where(x > 0, np.sqrt(x), 0.0) + np.where(x < 0, np.sqrt(-x), 0.0),
         lambda x: x != 0, "Piecewise((sqrt(x), x > 0), (sqrt(-x), True))"),
    Case("shared", lambda x: (lambda r: np.where(x > 0, r, 0.0) + np.where(x > 1, r * r, 0.0))(np.sqrt(x)), positive,
         "sqrt(x) + Piecewise((x, x > 1), (0, True))"),
    Case("row-mask", where_sum_of_rows, positive, "sqrt(x) + sqrt(2*x)"),
    Case("column-mask", where_of_column, positive, "log(x)"),
    Case("scalar-mask", lambda x: np.where(np.sum(x) > 100.0, np.sqrt(x - 5.0), x * x), lambda x: x > 99, "0", "x**2"),
    Case("assignment", assigned, positive, "sqrt(x)"),
    Case("contraction", through_matmul, positive, "2*sqrt(x)"),
    Case("take", through_take, positive, "sqrt(x)"),
    Case("reshape", lambda x: np.where(x[:, None] > 0, np.sqrt(x.reshape(5, 1)), 0.0).reshape(5), positive, "sqrt(x)"),
    Case("flip", lambda x: np.where(x > 0, np.flip(np.sqrt(np.flip(x))), 0.0), positive, "sqrt(x)"),
    Case("prod", lambda x: np.where(x > 0, np.prod(np.stack([np.sqrt(x), x, x]), axis=0), 0.0), positive,
         "x**Rational(5,2)"),
    Case("max", lambda x: np.where(x > 0, np.max(np.stack([np.sqrt(x), x - 9.0]), axis=0), 0.0), positive, "sqrt(x)"),
    Case("slice", lambda x: np.where(x > 0, np.concatenate([np.sqrt(x), x])[:5], 0.0), positive, "sqrt(x)"),
]  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_other_branch_has_derivative_zero(case: Case, order: int) -> None:
    function: Any = case.function
    for _ in range(order):
        function = adjit.grad(lambda x, f=function: np.sum(f(x)))
    x = np.array(case.x)
    wanted = case.derivative(order)
    with np.errstate(all="ignore"):
        found, *_ = run_both(function.ir("adjoint", x), x)[-1:]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(function(x), wanted, rtol=1e-12, atol=1e-13)


def test_a_running_sum_whose_end_is_dead() -> None:
    x = np.array(AROUND)
    with np.errstate(all="ignore"):
        found = adjit.grad(lambda v: np.sum(through_cumsum(v)))(x)
    # Entry 0.5 comes second in the order: sqrt(2) + sqrt(0.5); and sqrt(2) comes in both sums.
    np.testing.assert_allclose(found, [0.0, 0.0, 0.0, 0.5 / np.sqrt(0.5), 2 * 0.5 / np.sqrt(2.0)])


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)], ids=str)
def test_a_value_that_dead_elements_read_too(shape: tuple[int, ...]) -> None:
    """It gets the sum over the elements that live: what the others would hand on is infinite, or no number."""
    m = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]])
    slope: Any = adjit.grad(lambda s: np.sum(np.where(m > 0, np.log(s * m), 0.0)))
    s = np.full(shape, 4.0)
    alive = (m > 0) / 4.0
    wanted = alive.sum(axis=0) if shape == (3,) else alive.sum(axis=1, keepdims=True) if shape else alive.sum()
    wanted = np.full(shape, wanted.sum() if shape == (1,) else wanted)
    with np.errstate(all="ignore"):
        (found,) = run_both(slope.ir("adjoint", s), s)[-1:]
    np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_by_several_inputs() -> None:
    """Each operand of a dead quotient, power and product stays 0."""

    def f(x: Any, y: Any) -> Any:
        dead = x / y + x**y + np.log(x) * y + np.arctan2(x, y)
        return np.sum(np.where(y > 0, dead, 0.0))

    x, y = np.array([2.0, 0.0, -1.0]), np.array([3.0, 0.0, -2.0])
    for found in adjit.grad(f, argnums=(0, 1))(x, y):
        assert np.isfinite(found).all()
        assert (found[1:] == 0).all()


def test_a_nan_where_it_is_alive_stays() -> None:
    """Guards hide nothing that NumPy's own derivative would show."""
    found = adjit.grad(lambda x: np.sum(np.where(x > -1, np.sqrt(x), 0.0)))(np.array([-0.5, 4.0]))
    assert np.isnan(found[0])
    assert found[1] == 0.25
