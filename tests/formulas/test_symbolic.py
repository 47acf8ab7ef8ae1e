"""Functions as expressions of SymPy: values and gradients equal to what SymPy derives, loops, arrays, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from adjit import nn
from adjit.ir.op import OPS
from adjit.ops.declare import Elementwise

a, b, c = sympy.symbols("a b c", real=True)
u, v = sympy.symbols("u v", positive=True)


def logistic(w: Any, x: Any, t: Any) -> Any:
    z = w * x
    return np.log(1 + np.exp(z)) - t * z


def pendulum_energy(m: Any, length: Any, angle: Any, speed: Any) -> Any:
    return 0.5 * m * (length * speed) ** 2 + m * 9.81 * length * (1 - math.cos(angle))


def gaussian(x: Any, mean: Any, s: Any) -> Any:
    return np.exp(-((x - mean) ** 2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))


def kepler(x: Any, y: Any, z: Any) -> Any:
    return -1.0 / np.sqrt(x * x + y * y + z * z)


def network(w: Any, x: Any, t: Any) -> Any:
    hidden = np.tanh(np.array([w * x, w - x]))
    return np.sum((hidden @ np.array([1.0, 2.0]) - t) ** 2)


MODELS: list[tuple[Any, tuple[Any, ...], Any]] = [
    (logistic, (a, b, c), sympy.log(1 + sympy.exp(a * b)) - c * a * b),
    (pendulum_energy, (u, v, b, c), u * (v * c) ** 2 / 2 + sympy.Float(9.81) * u * v * (1 - sympy.cos(b))),
    (gaussian, (a, b, u), sympy.exp(-((a - b) ** 2) / (2 * u**2)) / (u * sympy.sqrt(2 * sympy.pi))),
    (kepler, (a, b, c), -1 / sympy.sqrt(a**2 + b**2 + c**2)),
    (network, (a, b, c), (sympy.tanh(a * b) + 2 * sympy.tanh(a - b) - c) ** 2),
    (lambda x, y: x**y, (u, sympy.Symbol("v", positive=True)), u**v),
    (lambda x: nn.sigmoid(x) * x, (a,), a / (1 + sympy.exp(-a))),
    (lambda x: math.erf(x) + np.cbrt(x), (u,), sympy.erf(u) + sympy.cbrt(u)),
    (lambda x: np.log2(x) + np.expm1(x) + np.sinh(x) / 3, (u,), sympy.log(u, 2) + sympy.exp(u) - 1 + sympy.sinh(u) / 3),
    (lambda x, y: np.prod(np.array([x, y, x + 1.0])), (a, b), a * b * (a + 1)),
]


# Programs that scale numbers by powers of two, which SymPy multiplies where a program would not.
SCALED: list[tuple[Any, tuple[Any, ...], Any]] = [
    (lambda x, y: np.arctan2(y, x), (u, v), sympy.atan2(v, u)),
    (lambda x: np.hypot(x, 2.0), (u,), sympy.sqrt(u**2 + 4)),
]


@pytest.mark.parametrize(("f", "symbols", "expected"), [*MODELS, *SCALED[:1]])
def test_value_and_gradient_are_what_sympy_derives(f: Any, symbols: Any, expected: Any) -> None:
    value, gradient = adjit.symbolic(f, *symbols)
    assert sympy.simplify(value - expected) == 0
    assert len(gradient) == len(symbols)
    for symbol, slope in zip(symbols, gradient, strict=True):
        assert sympy.simplify(slope - sympy.diff(expected, symbol)) == 0, symbol


@pytest.mark.parametrize(("f", "symbols"), [m[:2] for m in MODELS])
def test_numbers_agree_with_the_program(f: Any, symbols: Any) -> None:
    """There and back: the expressions as a compiled function."""
    found = adjit.symbolic(f, *symbols)
    point = [0.7 + 0.3 * i for i in range(len(symbols))]
    value, gradient = adjit.from_sympy(symbols, [found.value, list(found.gradient)])(*point)
    wanted = adjit.value_and_grad(f, argnums=tuple(range(len(point))))(*point)
    np.testing.assert_allclose([value, *gradient], [wanted[0], *wanted[1]], rtol=1e-13)


@pytest.mark.parametrize(("f", "symbols", "expected"), SCALED)
def test_scaled_programs_at_a_point(f: Any, symbols: Any, expected: Any) -> None:
    value, gradient = adjit.symbolic(f, *symbols)
    point = {symbol: sympy.Rational(7 + 3 * i, 10) for i, symbol in enumerate(symbols)}
    pairs = [(value, expected), *((g, sympy.diff(expected, s)) for g, s in zip(gradient, symbols, strict=True))]
    for found, wanted in pairs:
        assert abs(sympy.N(found.subs(point)) - sympy.N(wanted.subs(point))) < 1e-14


def test_names() -> None:
    found = adjit.symbolic(logistic)
    assert [str(symbol) for symbol in found.symbols] == ["w", "x", "t"]
    assert all(symbol.is_real for symbol in found.symbols)
    assert [str(symbol) for symbol in adjit.symbolic(logistic, "p", "q", c).symbols] == ["p", "q", "c"]
    assert adjit.symbolic(lambda *xs: sum(xs), a, b).value == a + b


def test_text_and_latex() -> None:
    def area(r: Any) -> Any:
        return math.pi * r**2

    found = adjit.symbolic(area)
    assert repr(found) == "area(r) = pi*r**2\ndarea/dr = 2*pi*r"
    latex = found._repr_latex_()
    assert latex.startswith("$\\displaystyle \\begin{aligned}")
    assert r"\pi r^{2}" in latex
    assert r"\frac{d}{d r} \operatorname{area}" in latex
    assert repr(adjit.symbolic(lambda x: (x, x * x))).splitlines()[2:] == ["f_1(x) = x**2", "df_1/dx = 2*x"]


def test_what_is_long_is_not_shown() -> None:
    def f(x: Any) -> Any:
        return adjit.fori_loop(0, 40, lambda i, s: np.sin(s) * np.cos(s), x)

    found = adjit.symbolic(f)
    first, second = repr(found).splitlines()
    assert first == "f(x) = (4.4e+12 terms)"
    assert second.startswith("df/dx = (")
    assert r"\text{(4.4e+12 terms)}" in found._repr_latex_()


def test_trees_of_results() -> None:
    value, gradient = adjit.symbolic(lambda x, y: {"p": x * y, "q": (x, 3)}, a, b)
    assert value == {"p": a * b, "q": (a, 3)}
    assert gradient == {"p": (b, a), "q": ((1, 0), (0, 0))}


def test_constants_are_exact_where_they_are_known() -> None:
    numbers = (0.5, 3.0, math.pi, -math.pi, math.e, math.log(2.0), 1 / 3, 0.1, math.inf)
    values = adjit.symbolic(lambda x: tuple(x + n for n in numbers), a).value
    half, pi, log = sympy.Rational(1, 2), sympy.pi, sympy.log(2)
    exact = (half, 3, pi, -pi, sympy.E, log, sympy.Rational(1, 3), sympy.Float(0.1), sympy.oo)
    assert values == tuple(a + n for n in exact)


def test_branches() -> None:
    found = adjit.symbolic(lambda x: np.where(x > 0, np.sqrt(x), 0.0), a)
    assert found.value == sympy.Piecewise((sympy.sqrt(a), a > 0), (0, True))
    assert found.gradient == (sympy.Piecewise((1 / (2 * sympy.sqrt(a)), a > 0), (0, True)),)
    clipped, (slope,) = adjit.symbolic(lambda x: np.maximum(x, 0.0) * 2, a)
    assert clipped == 2 * sympy.Max(0, a)
    assert [slope.subs(a, n) for n in (-1, 0, 1)] == [0, 1, 2]
    assert adjit.symbolic(lambda x: adjit.stop_gradient(x) * x, a).gradient == (a,)
    assert adjit.symbolic(lambda x: np.floor(x) + x % 2, a).value == sympy.floor(a) + a - 2 * sympy.floor(a / 2)


def test_branches_of_a_program() -> None:
    def f(x: Any) -> Any:
        return adjit.cond(x > 1, lambda x: x**2, lambda x: np.sin(x), x)

    value, (slope,) = adjit.symbolic(f, a)
    for n in (0.5, 2.0):
        wanted = adjit.value_and_grad(f)(n)
        np.testing.assert_allclose([float(value.subs(a, n)), float(slope.subs(a, n))], wanted, rtol=1e-14)
    assert value.atoms(sympy.core.relational.Relational) <= {a > 1, a <= 1}

    def g(x: Any) -> Any:
        return adjit.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, 1.0), max_steps=5)[1]

    assert adjit.symbolic(g, a).value == a**3


def test_loops_are_unrolled() -> None:
    def horner(x: Any) -> Any:
        return adjit.scan(lambda total, k: (total * x + k, None), 0.0, np.array([3.0, 2.0, 1.0]))[0]

    value, (slope,) = adjit.symbolic(horner, a)
    assert sympy.expand(value) == 3 * a**2 + 2 * a + 1
    assert sympy.expand(slope) == 6 * a + 2

    def rows(x: Any) -> Any:
        ys = adjit.scan(lambda s, k: (s * x, s + k), 1.0, np.arange(3.0), reverse=True)[1]
        return ys[0]

    assert adjit.symbolic(rows, a).value == a**2
    assert sympy.expand(
        adjit.symbolic(lambda x: adjit.fori_loop(0, 3, lambda i, s: s * x + i, x), a).value
    ) == sympy.expand(((a * a) * a + 1) * a + 2)


def test_arrays_of_scalars() -> None:
    def f(x: Any, y: Any) -> Any:
        m = np.array([[x, y], [y, x]])
        row = np.concatenate([m[0], m.T.reshape(4)[::-1]])
        return row.max() + np.cumsum(row)[2] + (m @ m)[0, 1] + row[np.array([1, 0])].sum()

    found = adjit.symbolic(f, a, b)
    assert sympy.simplify(found.value - (sympy.Max(a, b) + 3 * a + 2 * b + 2 * a * b)) == 0
    point = {a: 2.0, b: 0.5}
    wanted = adjit.grad(f, argnums=(0, 1))(2.0, 0.5)
    np.testing.assert_allclose([float(s.subs(point)) for s in found.gradient], wanted)


def test_a_compiled_function() -> None:
    assert adjit.symbolic(adjit.jit(lambda x: x**3), a).gradient == (3 * a**2,)
    formula = adjit.from_sympy([a, b], a * sympy.sin(b))
    assert adjit.symbolic(formula, a, b).value == a * sympy.sin(b)


def test_elementwise_ops_without_a_symbolic_meaning() -> None:
    missing = {name for name, op in OPS.items() if isinstance(op, Elementwise) and op.symbolic is None}
    assert missing == {"fmod", "random_bits", "rint", "shift_left", "shift_right"}


def rounded(x: Any) -> Any:
    return np.rint(x * 2)


@pytest.mark.parametrize(
    ("f", "names", "error", "texts"),
    [
        (rounded, (), adjit.TraceError, ["test_symbolic.py:", "rint is no expression", "np.rint(x * 2)"]),
        (lambda x: np.array([x, x]), (), adjit.ShapeError, ["returns f64[2]", "return the elements"]),
        (lambda x: adjit.fori_loop(0, 10_000, lambda i, s: s + x, x), (), adjit.TraceError, ["more than 10000 ops"]),
        (lambda x: np.argmax(np.array([x, 1.0])), (), adjit.TraceError, ["argmax", "depends on the values of symbols"]),
        (
            lambda x: adjit.while_loop(lambda s: s < 3, lambda s: s + x, x), (), adjit.TraceError,
            ["scan is no expression", "how many turns it has depends on the values"],
        ),
        (lambda x, y: x, ("x",), adjit.ArgumentError, ["cannot be called with 1 scalars"]),
        (lambda x: x, (3,), adjit.ArgumentError, ["names are texts or symbols of SymPy, not 3"]),
        (3, (), adjit.ArgumentError, ["f is a function"]),
    ],
)  # fmt: skip
def test_what_is_refused(f: Any, names: Any, error: type[Exception], texts: list[str]) -> None:
    with pytest.raises(error) as caught:
        adjit.symbolic(f, *names)
    assert all(text in str(caught.value) for text in texts), str(caught.value)
