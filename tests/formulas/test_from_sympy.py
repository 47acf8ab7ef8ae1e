"""Formulas as functions: arguments, results, dtypes, derivatives, transformations; and what is refused."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from adjit.ir.evaluate import evaluate

x, y, t = sympy.symbols("x y t")
SIZE = sympy.Symbol("n")
THETA = sympy.Function("theta")(t)


def test_what_it_shows() -> None:
    formula = adjit.from_sympy([x, y], x * sympy.sin(y), name="height")
    assert repr(formula) == "<formula height(x, y): x*sin(y)>"
    assert formula.__name__ == "height"
    assert formula.__doc__ == "height(x, y) computes x*sin(y)."
    assert str(inspect.signature(formula)) == "(x, y)"
    assert "mul" in str(formula.ir("trace", 1.0, 2.0))
    assert float(formula(y=0.0, x=3.0)) == 0.0


@pytest.mark.parametrize(
    ("symbols", "names"),
    [
        ([sympy.Symbol("lambda"), sympy.Symbol("\\alpha"), sympy.Symbol("1")], "(lambda_, alpha, arg2)"),
        ([sympy.Dummy("a"), sympy.Dummy("a")], "(a, a_)"),
        ([THETA, THETA.diff(t)], "(theta_t, Derivative_theta_t_t)"),
        ([sympy.MatrixSymbol("A", 2, 2), [x, y], sympy.Matrix([t])], "(A, arg1, arg2)"),
    ],
    ids=str,
)  # fmt: skip
def test_arguments_have_the_names_of_symbols(symbols: Any, names: str) -> None:
    assert str(inspect.signature(adjit.from_sympy(symbols, sympy.Integer(1)))) == names


def test_results_broadcast_as_numpys_do() -> None:
    formula = adjit.from_sympy([x, y], [x + y, x**2, 1])
    column, row = np.arange(3.0)[:, None], np.arange(4.0)
    total, square, one = formula(column, row)
    np.testing.assert_array_equal(total, column + row)
    np.testing.assert_array_equal(square, np.broadcast_to(column**2, (3, 4)))
    np.testing.assert_array_equal(one, np.ones((3, 4)))
    assert formula(np.zeros((0, 1)), row)[0].shape == (0, 4)


def test_what_depends_on_one_argument_is_computed_once_for_all_others() -> None:
    graph = adjit.from_sympy([x, y], sympy.sin(x) * y).ir("trace", np.zeros((3, 1)), np.zeros(4))
    assert "sin %x : f64[3,1]" in str(graph)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ((np.ones(2, np.float32), 2.0), np.float32), ((np.ones(2, np.float32), 2), np.float32),
        ((np.ones(2, np.int64), 2), np.float64), ((np.ones(2, np.uint8), 2), np.float64),
        ((np.ones(2), 2.0), np.float64), ((2, 3), np.float64), ((np.array([True, False]), 1.0), np.float64),
        ((np.float32(1), 2.0), np.float32),
    ],
)  # fmt: skip
def test_dtypes(given: Any, dtype: Any) -> None:
    widens = getattr(given[0], "dtype", None) == np.uint8
    with pytest.warns(adjit.WideningWarning) if widens else contextlib.nullcontext():
        found = adjit.from_sympy([x, y], x / 3 + y)(*given)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.asarray(given[0]) / 3 + given[1], rtol=1e-6)


def test_truths() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    less, both, flag = adjit.from_sympy([x, y], [x < y, (x <= y) & (x >= y), sympy.true])(a, b)
    assert less.dtype == both.dtype == flag.dtype == bool
    assert (less.tolist(), both.tolist(), flag.tolist()) == ([True, False, False], [False, True, False], [True] * 3)
    p = sympy.Symbol("p")
    chosen = adjit.from_sympy([p, x], sympy.Piecewise((x, p), (-x, True)))
    np.testing.assert_array_equal(chosen(np.array([True, False]), 2.0), [2.0, -2.0])


def test_trees_of_results() -> None:
    formula = adjit.from_sympy([x, y], {"sum": x + y, "rest": (x * y, [sympy.Tuple(x, y)[0]]), "none": ()})
    assert formula(2.0, 3.0) == {"sum": 5.0, "rest": (6.0, [2.0]), "none": ()}
    assert adjit.from_sympy([x, y], sympy.Tuple(y, x))(2.0, 3.0) == (3.0, 2.0)
    assert adjit.from_sympy(x, [])(2.0) == []


def test_matrices_have_their_axes_last() -> None:
    turn = sympy.Matrix([[sympy.cos(x), -sympy.sin(x)], [sympy.sin(x), sympy.cos(x)]])
    angles = np.linspace(0, 1, 6).reshape(2, 3)
    found = adjit.from_sympy(x, turn)(angles)
    assert found.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(found @ np.swapaxes(found, -1, -2), np.broadcast_to(np.eye(2), found.shape), atol=1e-15)
    np.testing.assert_array_equal(adjit.from_sympy(x, sympy.eye(2))(1.0), np.eye(2))
    np.testing.assert_array_equal(adjit.from_sympy(x, sympy.Array([x, x**2, 1]))(3.0), [3, 9, 1])
    np.testing.assert_array_equal(adjit.from_sympy(x, np.array([x, x**2]))(3.0), [3, 9])
    assert adjit.from_sympy(x, sympy.zeros(0, 3))(np.ones(4)).shape == (4, 0, 3)
    mixed = adjit.from_sympy(x, sympy.Array([sympy.Heaviside(x), x > 1]))(2.0)
    np.testing.assert_array_equal(mixed, [1.0, 1.0])


def test_arguments_that_hold_several_symbols() -> None:
    a, v = sympy.MatrixSymbol("a", 2, 3), sympy.MatrixSymbol("v", 3, 1)
    product = adjit.from_sympy([a, v], a * v)
    left, right = np.arange(30.0).reshape(5, 2, 3), np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(product(left, right), left @ right)
    q = sympy.Matrix(sympy.symbols("q:2"))
    length = adjit.from_sympy([q], sympy.sqrt(q.dot(q)))
    assert float(length(np.array([[3.0], [4.0]]))) == 5.0
    listed = adjit.from_sympy([[x, [y, t]], THETA], x + 10 * y + 100 * t + 1000 * THETA)
    assert float(listed([1.0, (2.0, 3.0)], 4.0)) == 4321.0
    pair = adjit.from_sympy([[x, y]], x - y)
    np.testing.assert_array_equal(pair(np.array([[5.0, 6.0], [1.0, 2.0]])), [4.0, 4.0])
    np.testing.assert_array_equal(pair([np.array([5.0, 6.0]), 1.0]), [4.0, 5.0])
    base = sympy.IndexedBase("b")
    assert float(adjit.from_sympy([base[0], base[1]], base[0] / base[1])(6.0, 3.0)) == 2.0


def test_derivatives_have_the_tree_of_the_values() -> None:
    formula = adjit.from_sympy([x, y], {"a": x * y, "m": sympy.Matrix([[x, y**2]])}, wrt=[y, x])
    points = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    values, (by_y, by_x) = formula(*points)
    np.testing.assert_array_equal(values["a"], [3, 8])
    np.testing.assert_array_equal(by_y["a"], [1, 2])
    np.testing.assert_array_equal(by_x["a"], [3, 4])
    np.testing.assert_array_equal(by_y["m"], [[[0, 6]], [[0, 8]]])
    np.testing.assert_array_equal(by_x["m"], [[[1, 0]], [[1, 0]]])
    value, slope = adjit.from_sympy(x, x**3, wrt=x)(2.0)
    assert (float(value), float(slope)) == (8.0, 12.0)
    assert adjit.from_sympy(x, x, wrt=[])(2.0) == (2.0, ())
    assert adjit.from_sympy([x, y], x, wrt=[x, y])(2.0, 3.0) == (2.0, (1.0, 0.0))


def test_derivatives_in_forward_and_in_reverse_mode_agree() -> None:
    terms = [
        sympy.Piecewise((sympy.sqrt(x), x > 0), (0, True)) * y,
        x**y,
        sympy.atan2(x, y),
        x,
        sympy.Integer(2),
        y * x,
    ]
    points = np.array([0.0, 0.5, 2.0]), np.array([0.5, 1.5, 1.0])
    forward = adjit.from_sympy([x, y], terms, wrt=[x, y])(*points)[1]
    for number, term in enumerate(terms):
        for symbol, columns in enumerate(forward):
            backward = adjit.from_sympy([x, y], term, wrt=[x, y])(*points)[1][symbol]
            np.testing.assert_allclose(columns[number], backward, rtol=1e-15)


def test_derivatives_are_those_of_the_graph() -> None:
    """At the edge of a branch SymPy's formula would be a number times infinity."""
    piece = sympy.Piecewise((x * sympy.log(x), x > 0), (0, True))
    value, slope = adjit.from_sympy(x, piece, wrt=x)(np.array([0.0, 1.0]))
    assert (value.tolist(), slope.tolist()) == ([0.0, 0.0], [0.0, 1.0])


def test_transformations() -> None:
    formula = adjit.from_sympy([x, y], sympy.exp(-x * y) + x**3)
    points = np.linspace(0.1, 1, 7)
    np.testing.assert_array_equal(adjit.jit(formula)(points, 2.0), formula(points, 2.0))
    np.testing.assert_allclose(adjit.grad(formula)(0.5, 2.0), 3 * 0.25 - 2 * np.exp(-1.0), rtol=1e-15)
    second = adjit.vmap(adjit.grad(adjit.grad(formula)), in_axes=(0, None))(points, 2.0)
    np.testing.assert_allclose(second, 6 * points + 4 * np.exp(-2 * points), rtol=1e-14)
    slopes = adjit.from_sympy([x, y], sympy.exp(-x * y) + x**3, wrt=x)
    np.testing.assert_allclose(adjit.grad(lambda a: slopes(a, 2.0)[1])(0.5), 3 + 4 * np.exp(-1.0), rtol=1e-15)


def test_in_a_traced_function_its_nodes_carry_the_line_of_the_call() -> None:
    formula = adjit.from_sympy([x, y], sympy.tanh(x) * y)

    def model(a: Any, b: Any) -> Any:
        return np.sum(formula(a, b)) + np.mean(a)

    compiled = adjit.jit(model)
    points = np.linspace(0, 1, 5)
    np.testing.assert_allclose(compiled(points, 2.0), np.sum(np.tanh(points) * 2) + 0.5, rtol=1e-15)
    graph = compiled.ir("trace")
    line = model.__code__.co_firstlineno + 1
    assert {node.loc.line for node in graph.nodes if node.op.name == "tanh"} == {line}
    np.testing.assert_allclose(evaluate(graph, points, 2.0)[0], compiled(points, 2.0), rtol=1e-15)


def test_in_a_loop() -> None:
    leap = adjit.from_sympy([x, y], (y, -sympy.sin(x)))

    def turn(state: Any, _: Any) -> Any:
        dx, dy = leap(*state)
        return (state[0] + 0.01 * dx, state[1] + 0.01 * dy), state[0]

    def last(start: Any) -> Any:
        return adjit.scan(turn, (start, 0.0), length=100)[0][0]

    position, velocity = 1.0, 0.0
    for _ in range(100):
        position, velocity = position + 0.01 * velocity, velocity - 0.01 * np.sin(position)
    np.testing.assert_allclose(last(1.0), position, rtol=1e-13)
    np.testing.assert_allclose(adjit.jit(last)(1.0), position, rtol=1e-13)
    difference = (last(1.0 + 1e-6) - last(1.0 - 1e-6)) / 2e-6
    np.testing.assert_allclose(adjit.grad(last)(1.0), difference, rtol=1e-8)


def test_numbers_of_python_stay_weak() -> None:
    formula = adjit.from_sympy(x, sympy.sqrt(x))
    assert adjit.jit(lambda a: a * formula(2.0))(np.ones(2, np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("args", "expression", "error", "texts"),
    [
        ([x], x + y + sympy.Symbol("w"), adjit.ArgumentError, ["w, y are in the expressions", "(x)"]),
        ([x], sympy.zeta(x) + sympy.LambertW(x), adjit.ArgumentError, ["LambertW, zeta", "known are", "Piecewise"]),
        ([x], sympy.zeta(x) + y, adjit.ArgumentError, ["zeta", "y is in the expressions"]),
        ([x], sympy.Integral(sympy.exp(x**2), (x, 0, x)), adjit.ArgumentError, ["Integral (call .doit())"]),
        ([x], sympy.Derivative(x**2, x), adjit.ArgumentError, ["Derivative (call .doit(), or give it as an argument)"]),
        ([x], sympy.I * x, adjit.ArgumentError, ["ImaginaryUnit (adjit computes with real numbers"]),
        ([x], sympy.zoo, adjit.ArgumentError, ["ComplexInfinity"]),
        ([t], THETA, adjit.ArgumentError, ["theta(t) is in the expressions"]),
        ([x], sympy.Function("exp")(x), adjit.ArgumentError, ["exp(x) is in the expressions"]),
        ([x], sympy.polygamma(1, x), adjit.ArgumentError, ["polygamma is known for order 0 alone"]),
        ([x], x + 10**400, adjit.WeakOverflowError, ["a number of about 401 digits, which does not fit float64"]),
        ([x], "x + 1", adjit.ArgumentError, ["a text, which sympy.sympify reads"]),
        ([x], [x, object], adjit.ArgumentError, ["expressions are SymPy's"]),
        ("x", x, adjit.ArgumentError, ["args is a symbol or a list of symbols, not 'x': write sympy.symbols(...)"]),
        ([x, "y"], x, adjit.ArgumentError, ["args has 'y'", "sympy.symbols"]),
        ([x, [x]], x, adjit.ArgumentError, ["args has x twice"]),
        ([x + 1], x, adjit.ArgumentError, ["args has x + 1"]),
        ({x, y}, x, adjit.ArgumentError, ["args is a symbol or a list"]),
        ([sympy.MatrixSymbol("A", SIZE, 2)], sympy.Integer(1), adjit.ArgumentError, ["sizes are no numbers"]),
        ([sympy.Matrix([[x, 0]])], x, adjit.ArgumentError, ["args has 0"]),
        ([x], sympy.MatrixSymbol("B", SIZE, 2), adjit.ArgumentError, ["has no elements that could be told"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(args: Any, expression: Any, error: type[Exception], texts: list[str]) -> None:
    with pytest.raises(error) as caught:
        adjit.from_sympy(args, expression)
    assert all(text in str(caught.value) for text in texts), str(caught.value)


class Unknown(sympy.Function):  # type: ignore[misc]
    """A function of the user's own."""


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: adjit.from_sympy(x, Unknown(x)), adjit.ArgumentError, "expressions have Unknown, for which"),
        (lambda: adjit.from_sympy(x, x, wrt=y), adjit.ArgumentError, "wrt has y, which is none of the arguments (x)"),
        (lambda: adjit.from_sympy(x, x, wrt="x"), adjit.ArgumentError, "wrt has 'x'"),
        (lambda: adjit.from_sympy(x, x > 0, wrt=x), adjit.ArgumentError, "a truth value has no derivative"),
        (lambda: adjit.from_sympy(x, x, name="a b"), adjit.ArgumentError, "name is that of a function"),
        (lambda: adjit.from_sympy(x, expr=x), adjit.ArgumentError, "it is 'expressions' here"),
        (lambda: adjit.from_sympy(x, x, modules="numpy"), adjit.ArgumentError, "adjit compiles the formula"),
        (lambda: adjit.from_sympy(x, x)(1.0, 2.0), adjit.ArgumentError, "too many positional arguments"),
        (lambda: adjit.from_sympy([x, y], x)(1.0), adjit.ArgumentError, "missing a required argument: 'y'"),
        (lambda: adjit.from_sympy([x, y], x * y)(np.ones(2), np.ones(3)), adjit.ShapeError, "a formula"),
        (lambda: adjit.from_sympy([[x, y]], x)([1.0]), adjit.ShapeError, "the argument arg0 has 2 values, not 1"),
        (lambda: adjit.from_sympy([[x, y]], x)(1.0), adjit.ShapeError, "the argument arg0 has 2 values"),
        (lambda: adjit.from_sympy(x, x)([1.0]), adjit.ArgumentError, "the argument x is an array or a number, not a"),
        (
            lambda: adjit.from_sympy(sympy.MatrixSymbol("A", 2, 2), sympy.Integer(1))(np.ones((2, 3))),
            adjit.ShapeError, "the argument A is an array whose last axes are (2, 2), not one of shape (2, 3)",
        ),
    ],
)  # fmt: skip
def test_what_calls_refuse(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value), str(caught.value)
