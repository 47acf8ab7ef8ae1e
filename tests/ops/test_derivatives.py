"""Every op that a float flows through is differentiable twice, or stands in the list of exemptions with its reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy

from adjit.autodiff.reverse import gradient
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.types import F64, Array
from adjit.ops.declare import Elementwise
from tests.ops.samples import COMPUTED, Case, cases_of

DIFFERENTIABLE = [name for name in COMPUTED if getattr(OPS[name], "vjp", None) is not None]
PIECEWISE_CONSTANT = {"sign", "floor", "ceil", "trunc", "rint", "floor_divide"}


def test_every_op_has_a_derivative_or_a_reason() -> None:
    for name in COMPUTED:
        op: Any = OPS[name]
        assert (op.vjp is not None) != bool(getattr(op, "exempt", "")), name


def float_cases(name: str) -> list[Case]:
    """Calls in float64 of a few elements, away from kinks and without special values."""
    cases = []
    for case in cases_of(name):
        floats = [a for a in case.arrays if a.dtype == F64]
        result = case.attrs.get("dtype", F64)
        if not floats or result != F64 or not 0 < sum(a.size for a in floats) <= 60:
            continue
        if all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 50 for a in floats):
            cases.append(case)
    return cases[:6]


def scalar_graph(case: Case, order: int) -> tuple[Graph, list[int]]:
    """sum(w * op(...)), or for order 2 sum(v * its gradient); the numbers of the float inputs."""
    rng = np.random.default_rng(7)
    b = Builder()
    nodes = [b.input(f"x{i}", Array(a.dtype, a.shape)) for i, a in enumerate(case.arrays)]
    y = b.value(b.emit(case.op, *nodes, **case.attrs))
    weights = b.value(b.array(np.asarray(rng.uniform(0.5, 1.5, y.shape))))
    axes = tuple(range(len(y.shape)))
    # A square, so that the second derivative of linear ops is not 0.
    loss = b.sum(weights * y * y, axes=axes) if axes else weights * y * y
    graph = b.graph("f", [loss.node])
    floats = [i for i, a in enumerate(case.arrays) if a.dtype == F64]
    if order == 1:
        return graph, floats
    first = gradient(graph, floats)
    b = Builder()
    b.inputs.extend(first.inputs)
    b.nodes.extend(first.nodes)
    total = None
    for node in first.outputs[1:]:
        g = b.value(node)
        part = g * b.value(b.array(np.asarray(rng.uniform(0.5, 1.5, g.shape))))
        part = b.sum(part, axes=tuple(range(len(g.shape)))) if g.shape else part
        total = part if total is None else total + part
    assert total is not None
    return b.graph("df", [total.node]), floats


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivative_against_central_differences(name: str, order: int) -> None:
    cases = float_cases(name)
    assert cases
    for case in cases:
        graph, floats = scalar_graph(case, order)
        found = evaluate(gradient(graph, floats), *case.arrays)[1:]
        for number, g in zip(floats, found, strict=True):
            wanted = differences(graph, case, number)
            # The error of central differences with this step, relative to the largest derivative.
            scale = np.max(np.abs(wanted), initial=1.0)
            np.testing.assert_allclose(g, wanted, rtol=1e-6, atol=3e-7 * scale, err_msg=str(case))


def differences(graph: Graph, case: Case, number: int) -> np.ndarray:
    result = np.zeros(case.arrays[number].shape)
    step = 1e-5
    for at in np.ndindex(*result.shape):
        sides = []
        for h in (step, -step, 2 * step, -2 * step):
            arrays = [np.array(a) for a in case.arrays]
            arrays[number][at] += h
            sides.append(float(evaluate(graph, *arrays)[0]))
        # The formula of order 4.
        result[at] = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * step)
    return result


# -- the rules, proved ------------------------------------------------------------------------------------------------

NO_SYMBOL = {"fmod": "its derivative rounds, and rint has none", "rint": "SymPy does not round half to even"}


class Symbol:
    """A Value whose node is an expression of SymPy."""

    def __init__(self, expression: Any) -> None:
        self.e = sympy.sympify(expression)
        self.dtype = F64
        self.shape = ()
        self.type = Array(F64, ())

    def _with(self, f: Any, other: Any) -> Symbol:
        return Symbol(f(self.e, other.e if isinstance(other, Symbol) else sympy.nsimplify(other, rational=False)))

    def __add__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a + b, other)

    def __sub__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a - b, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: b - a, other)

    def __mul__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a * b, other)

    def __truediv__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a / b, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: b / a, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Symbol:
        return Symbol(-self.e)

    def __lt__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a < b, other)

    def __gt__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a > b, other)

    def __le__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a <= b, other)

    def __ge__(self, other: Any) -> Symbol:
        return self._with(lambda a, b: a >= b, other)

    def eq(self, other: Any) -> Symbol:
        return self._with(sympy.Eq, other)

    def __or__(self, other: Any) -> Symbol:
        return self._with(sympy.Or, other)

    def __and__(self, other: Any) -> Symbol:
        return self._with(sympy.And, other)

    def __invert__(self) -> Symbol:
        return Symbol(sympy.Not(self.e))


class Symbols:
    """A builder of such values: ops by their symbolic meaning."""

    def full(self, value: Any, like: Any) -> Symbol:
        return Symbol(value)

    def cast(self, x: Any, dtype: Any) -> Symbol:
        return x

    def select(self, condition: Any, x: Any, y: Any) -> Symbol:
        x, y = (v.e if isinstance(v, Symbol) else sympy.sympify(v) for v in (x, y))
        return Symbol(sympy.Piecewise((x, condition.e), (y, True)))

    def __getattr__(self, name: str) -> Any:
        symbolic = getattr(OPS[name], "symbolic", None)
        assert symbolic is not None, name
        return lambda *xs: Symbol(symbolic(*(x.e if isinstance(x, Symbol) else sympy.sympify(x) for x in xs)))


def test_ops_without_a_symbolic_meaning_are_listed() -> None:
    missing = {
        n for n in DIFFERENTIABLE if isinstance(OPS[n], Elementwise) and getattr(OPS[n], "symbolic", None) is None
    }
    assert missing == set(NO_SYMBOL)


SYMBOLIC = [
    n for n in DIFFERENTIABLE if isinstance(OPS[n], Elementwise) and n not in NO_SYMBOL and n not in ("select", "cast")
]


def _is_of_steps(expression: Any) -> bool:
    """Whether it is a derivative that SymPy leaves as it is: that of floor, which is 0 between its steps."""
    return isinstance(expression, sympy.Derivative | sympy.Subs)


@pytest.mark.parametrize("name", SYMBOLIC)
def test_sympy_proves_the_rule(name: str) -> None:
    """The rule run on expressions is the derivative of the symbolic meaning: their difference expands to 0, or is 0 at
    random points in SymPy's arithmetic of 40 digits."""
    op: Any = OPS[name]
    domains = op.domain if isinstance(op.domain[0], tuple) else [op.domain] * op.arity
    xs = [sympy.Symbol(f"x{i}", real=True, positive=low >= 0 or None) for i, (low, _) in enumerate(domains)]
    g = sympy.Symbol("g", real=True)
    meaning = op.symbolic(*xs)
    rules = op.vjp(Symbols(), Symbol(g), Symbol(meaning), *map(Symbol, xs))
    rng = np.random.default_rng(0)
    for number, rule in enumerate(rules):
        derivative = g * sympy.diff(meaning, xs[number]).replace(_is_of_steps, lambda *_: sympy.Integer(0))
        found = sympy.Integer(0) if rule is None else rule.e
        if name in PIECEWISE_CONSTANT:
            assert found == 0
            continue
        difference = found - derivative
        if sympy.expand(difference) == 0:
            continue
        for _ in range(12):
            point = {g: sympy.Rational(int(rng.integers(1, 99)), 37)}
            for x, (low, high) in zip(xs, domains, strict=True):
                point[x] = sympy.Rational(
                    int(1000 * low) + int(rng.integers(1, int(1000 * (high - low)))), 1000
                ) + sympy.Rational(1, 7919)
            a, b = (e.subs({x: sympy.N(value, 40) for x, value in point.items()}) for e in (found, derivative))
            # Constants in the rules are float64.
            assert abs(sympy.N(a - b)) <= sympy.Float("1e-14") * (1 + abs(b)), (name, point, a, b)
