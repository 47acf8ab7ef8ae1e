"""Where branches meet, where functions end, and very large and very deep formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from adjit.ir.equal import equal

x, y = sympy.symbols("x y", real=True)


def at(expression: Any, *points: float) -> tuple[list[float], list[float]]:
    """Values and derivatives by x."""
    value, slope = adjit.from_sympy(x, expression, wrt=x)(np.array(points))
    return value.tolist(), slope.tolist()


def test_a_branch_that_is_not_chosen_leaves_no_nan() -> None:
    assert at(sympy.Piecewise((sympy.sqrt(x), x > 0), (0, True)), -1.0, 0.0, 4.0) == ([0, 0, 2], [0, 0, 0.25])
    assert at(sympy.Piecewise((x, x <= 0), (sympy.log(x), True)), -1.0, 0.0, 2.0)[1] == [1, 1, 0.5]
    inside = sympy.Piecewise((sympy.sin(x) / x, sympy.Ne(x, 0)), (1, True))
    assert at(inside, 0.0) == ([1], [0])


def test_the_first_condition_that_holds_decides() -> None:
    steps = sympy.Piecewise((1 * x, x < 1), (2 * x, x < 2), (3 * x, True))
    assert at(steps, 0.0, 1.0, 1.5, 2.0) == ([0, 2, 3, 6], [1, 2, 2, 3])


def test_where_no_condition_holds_there_is_no_number() -> None:
    values, slopes = at(sympy.Piecewise((x**2, x > 0), (x, x < -1)), 1.0, -0.5, -2.0)
    assert values[::2] == [1, -2]
    assert math.isnan(values[1])
    assert slopes[::2] == [2, 1]


@pytest.mark.parametrize(
    ("expression", "point", "value", "slope"),
    [
        (sympy.Heaviside(x), 0.0, 0.5, 0), (sympy.Heaviside(x, 0), 0.0, 0, 0), (sympy.Heaviside(x, 1), 0.0, 1, 0),
        (sympy.Abs(x), 0.0, 0, 0), (sympy.sign(x), 0.0, 0, 0), (sympy.Max(x, 0), 0.0, 0, 0.5),
        (sympy.sinc(x), 0.0, 1, 0), (sympy.sech(x), 0.0, 1, 0), (sympy.sech(x), 800.0, 0, 0),
        (sympy.csch(x), 800.0, 0, 0), (sympy.csch(x), -800.0, 0, 0), (sympy.acot(x), 0.0, math.pi / 2, -1),
        (x**2, 0.0, 0, 0), (x**3, 0.0, 0, 0),
        (x ** sympy.Rational(3, 2), 0.0, 0, 0), (sympy.sqrt(x), 0.0, 0, math.inf), (x**1.5, 0.0, 0, 0),
        (sympy.coth(x), 800.0, 1, 0), (sympy.erfc(x), 30.0, 0, 0), (sympy.erfc(x), -9.0, 2, 0),
        (sympy.gamma(x), 200.0, math.inf, math.inf), (sympy.tanh(x), 800.0, 1, 0),
        (sympy.Add(x, sympy.oo, evaluate=False), 1.0, math.inf, 1),
    ],
    ids=str,
)  # fmt: skip
def test_at_the_ends(expression: Any, point: float, value: float, slope: float) -> None:
    found, derivative = at(expression, point)
    np.testing.assert_allclose(found + derivative, [value, slope], rtol=1e-15, atol=1e-35)


def test_functions_are_real() -> None:
    values = adjit.from_sympy(x, [sympy.sqrt(x), sympy.loggamma(x), x ** sympy.Rational(1, 3), sympy.log(x)])(-1.5)
    assert np.isnan(values).all()
    assert math.isnan(adjit.from_sympy(x, sympy.gamma(x))(-2.0))
    assert adjit.from_sympy(x, sympy.gamma(x))(0.0) == math.inf


def test_second_derivatives_at_even_functions() -> None:
    for expression, wanted in ((sympy.sech(x), -1.0), (sympy.sinc(x), -1 / 3), (sympy.acot(x) * x, -2.0)):
        found = adjit.grad(adjit.grad(adjit.from_sympy(x, expression)))(0.0)
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_constants_are_rounded_once() -> None:
    long = sympy.Float("1.00000000000000011102230246251565404236316680908203126", 60)
    exact = [
        sympy.Rational(1, 3),
        sympy.pi,
        sympy.E,
        long,
        sympy.Rational(10**40 + 1, 10**40),
        sympy.Integer(2**53 + 1),
    ]
    found = adjit.from_sympy([], exact)()
    assert found == [1 / 3, math.pi, math.e, 1 + 2**-52, 1.0, 2.0**53]


def test_powers_share_their_squares() -> None:
    graph = adjit.from_sympy(x, x**2 + x**4 + x**8).formula.graph(np.dtype(float))
    assert sorted(node.op.name for node in graph.nodes) == ["add", "add", "mul", "mul", "mul"]
    assert "pow" not in str(adjit.from_sympy(x, x**16 / x**15 + x**-3).formula.graph(np.dtype(float)))


def test_equal_parts_are_computed_once() -> None:
    part = sympy.exp(x * y) + 1
    graph = adjit.from_sympy([x, y], [part**2, sympy.sin(part), part * y]).formula.graph(np.dtype(float))
    assert str(graph).count(" exp ") == 1
    assert str(graph).count(" sin ") == 1


def test_no_order_of_hashes_shows() -> None:
    """Two formulas of the same text are one program."""
    names = sympy.symbols("a:8")
    one, other = (sympy.Max(*order) + sympy.Mul(*order) for order in (names, names[::-1]))
    graphs = [adjit.from_sympy(names, e).formula.graph(np.dtype(float)) for e in (one, other)]
    assert equal(*graphs)


def test_a_formula_of_depth_10000() -> None:
    expression, value = x, 0.5
    for _ in range(10_000):
        # SymPy's own constructor looks all the way down.
        expression = sympy.sin(sympy.Add(expression, y, evaluate=False), evaluate=False)
        value = math.sin(value + 0.3)
    formula = adjit.from_sympy([x, y], expression, wrt=x)
    assert repr(formula) == "<formula formula(x, y): 20002 terms>"
    (found, slope) = adjit.evaluate(formula.formula.graph(np.dtype(float)), 0.5, 0.3)
    np.testing.assert_allclose(found, value, rtol=1e-12)
    assert abs(slope) < 1e-100


def test_deep_formulas_compile() -> None:
    expression, value = x, 0.5
    for _ in range(1500):
        expression = sympy.cos(expression, evaluate=False) * y
        value = math.cos(value) * 0.9
    np.testing.assert_allclose(adjit.from_sympy([x, y], expression)(0.5, 0.9), value, rtol=1e-12)


def test_a_formula_of_50000_terms() -> None:
    wide = sympy.Add(*(sympy.Mul(i, x, y ** (i % 7), evaluate=False) for i in range(2, 25_000)), evaluate=False)
    formula = adjit.from_sympy([x, y], wide)
    (found,) = adjit.evaluate(formula.formula.graph(np.dtype(float)), 1.5, 0.7)
    wanted = math.fsum(i * 1.5 * 0.7 ** (i % 7) for i in range(2, 25_000))
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_what_is_shared_is_walked_once() -> None:
    """A tree of 2^200 nodes, with 200 different ones."""
    expression = x
    for _ in range(200):
        expression = sympy.sin(expression, evaluate=False) * sympy.cos(expression, evaluate=False)
    assert len(adjit.from_sympy(x, expression).formula.terms.items) == 601
    small = x
    for _ in range(30):
        small = sympy.sin(small, evaluate=False) * sympy.cos(small, evaluate=False)
    assert repr(adjit.from_sympy(x, small)) == "<formula formula(x): 91 terms>"
