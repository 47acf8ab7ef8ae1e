"""Values and derivatives of formulas against SymPy's own arithmetic of many digits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy

import adjit
from adjit.formulas.scalars import KNOWN
from tests.formulas.table import REGULAR, Case, x, y, z

SYMBOLS = (x, y, z)
POINTS = 12


def points(case: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    # Numbers of few bits, so that SymPy sees those that the program does.
    return [np.round(rng.uniform(case.low, case.high, POINTS) * 1024) / 1024 for _ in SYMBOLS]


def exactly(expression: sympy.Expr, *arrays: np.ndarray) -> np.ndarray:
    """What an expression is at points, rounded once."""
    function = sympy.lambdify(SYMBOLS, expression.rewrite(sympy.Piecewise, deep=True), "mpmath")
    with mpmath.workdps(40):
        return np.array([float(mpmath.re(function(*map(mpmath.mpf, at)))) for at in zip(*arrays, strict=True)])


def close(found: Any, wanted: np.ndarray, rtol: float) -> None:
    scale = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1.0)
    # Where terms cancel what is left has the errors of the terms.
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * scale if rtol > 1e-14 else 4e-16 * scale)


@pytest.mark.parametrize("case", REGULAR, ids=lambda case: str(case.expression)[:60])
def test_a_formula_is_what_sympy_computes(case: Case) -> None:
    arrays = points(case)
    formula = adjit.from_sympy(SYMBOLS, case.expression)
    close(formula(*arrays), exactly(meant(case.expression), *arrays), case.rtol)


@pytest.mark.parametrize("case", REGULAR, ids=lambda case: str(case.expression)[:60])
def test_derivatives_are_what_sympy_derives(case: Case) -> None:
    arrays = points(case)
    formula = adjit.from_sympy(SYMBOLS, case.expression, wrt=SYMBOLS)
    value, derivatives = formula(*arrays)
    for symbol, found in zip(SYMBOLS, derivatives, strict=True):
        wanted = sympy.diff(meant(case.expression), symbol).replace(is_of_steps, lambda *_: sympy.Integer(0))
        close(found, exactly(wanted, *arrays), 10 * case.rtol)
    np.testing.assert_array_equal(value, adjit.from_sympy(SYMBOLS, case.expression)(*arrays))


def is_of_steps(expression: Any) -> bool:
    """What SymPy writes for the derivative of a function of steps, which is 0 between them."""
    return isinstance(expression, sympy.Derivative | sympy.Subs | sympy.DiracDelta)


@pytest.mark.parametrize("case", REGULAR[::3], ids=lambda case: str(case.expression)[:60])
def test_formulas_in_single_precision(case: Case) -> None:
    arrays = [array.astype(np.float32) for array in points(case)]
    found, derivative = adjit.from_sympy(SYMBOLS, case.expression, wrt=x)(*arrays)
    assert found.dtype == derivative.dtype == np.float32
    wanted = adjit.from_sympy(SYMBOLS, case.expression)(*(array.astype(float) for array in arrays))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5 * np.max(np.abs(wanted)))


def meant(expression: sympy.Expr) -> sympy.Expr:
    """The same without heads that mpmath has not."""
    swaps: dict[Any, Any] = {
        # SymPy's derivative of a logarithm with a base of its own forgets the base.
        "log": lambda a, *base: sympy.log(a) / sympy.Mul(*map(sympy.log, base)),
        "fma": lambda a, b, c: a * b + c, "hypot": lambda a, b: sympy.sqrt(a**2 + b**2), "Sqrt": sympy.sqrt,
        "Cbrt": sympy.cbrt, "expm1": lambda a: sympy.exp(a) - 1, "log1p": lambda a: sympy.log(1 + a),
        "exp2": lambda a: 2**a, "log2": lambda a: sympy.log(a, 2), "log10": lambda a: sympy.log(a, 10),
        "logaddexp": lambda a, b: sympy.log(sympy.exp(a) + sympy.exp(b)),
        "logaddexp2": lambda a, b: sympy.log(2**a + 2**b, 2), "UnevaluatedExpr": lambda a: a,
        "frac": lambda a: a - sympy.floor(a), "Mod": lambda a, b: a - b * sympy.floor(a / b),
        "erf2": lambda a, b: sympy.erf(b) - sympy.erf(a),
        "sinc": lambda a: sympy.Piecewise((1, sympy.Eq(a, 0)), (sympy.sin(a) / a, True)),
    }  # fmt: skip
    return expression.replace(lambda e: type(e).__name__ in swaps, lambda e: swaps[type(e).__name__](*e.args))


def test_the_table_has_every_head() -> None:
    """But for those that real symbols do without."""
    found = {type(part).__name__ for case in REGULAR for part in sympy.preorder_traversal(case.expression)}
    assert KNOWN - found == {"conjugate", "re", "im"}


def test_parts_of_complex_symbols_are_those_of_real_numbers() -> None:
    w = sympy.Symbol("w")
    formula = adjit.from_sympy(w, [sympy.re(w), sympy.im(w), sympy.conjugate(w)])
    np.testing.assert_array_equal(formula(2.5), [2.5, 0.0, 2.5])
