"""`root` and `fixed_point`: values against closed forms, derivatives against these and against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.evaluate import evaluate
from adjit.ir.verify import verify


def square_root(a: Any) -> Any:
    return adjit.root(lambda x: x * x - a, 1.0)


def kepler(mean: Any, e: Any) -> Any:
    """The eccentric anomaly E: E - e sin E = M."""
    return adjit.root(lambda x, e: x - e * np.sin(x) - mean, mean, e)


def iterated_kepler(mean: float, e: float) -> Any:
    x = mean
    for _ in range(100):
        x = mean + e * np.sin(x)
    return x


def lambert(z: Any) -> Any:
    """w exp(w) = z."""
    return adjit.root(lambda w: w * np.exp(w) - z, np.log(1.0 + z))


def curves(a: Any) -> Any:
    """Where a circle of radius^2 a[0] meets the curve x = y^3 + a[1]."""

    def system(x: Any, a: Any) -> Any:
        return np.stack([x[0] ** 2 + x[1] ** 2 - a[0], x[0] - x[1] ** 3 - a[1]])

    return adjit.root(system, np.array([1.0, 0.5]), a)


A = np.array([2.0, 0.1])
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(4, 4)) * 0.3, RNG.normal(size=4)


def equilibrium(w: Any, b: Any) -> Any:
    """A layer of infinite depth: x = tanh(w x + b)."""
    return adjit.fixed_point(lambda x: np.tanh(w @ x + b), np.zeros(4))


def halves(a: Any) -> Any:
    """Of a tree: x = a + y / 2, y = x / 4."""
    found = adjit.fixed_point(lambda s: {"x": a + s["y"] / 2, "y": s["x"] / 4}, {"x": 0.0 * a, "y": 0.0 * a})
    return found["x"] + found["y"]


# Function, arguments, and the value in another way.
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Callable[..., Any]]] = {
    "sqrt": (square_root, (2.0,), np.sqrt),
    "kepler": (kepler, (1.0, 0.3), iterated_kepler),
    "lambert": (lambert, (1.0,), lambda z: 0.5671432904097838),
    "curves": (curves, (A,), lambda a: np.array([1.02500797, 0.97435038])),
    "equilibrium": (lambda w, b: equilibrium(w, b).sum(), (W, B), lambda w, b: iterated(w, b).sum()),
    "halves": (halves, (3.0,), lambda a: 1.25 * a / (1 - 0.125)),
}  # fmt: skip


def iterated(w: Any, b: Any) -> Any:
    x = np.zeros(4)
    for _ in range(500):
        x = np.tanh(w @ x + b)
    return x


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    function, args, known = CASES[name]
    # As exact as the largest step of an iteration allows, or the digits that stand above.
    np.testing.assert_allclose(adjit.jit(function)(*args), known(*args), rtol=1e-8 if name == "curves" else 1e-11)
    # Outside of a trace it is compiled for the call.
    np.testing.assert_allclose(function(*args), adjit.jit(function)(*args), rtol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_against_differences(name: str) -> None:
    function, args, _ = CASES[name]
    adjit.check_grads(function, args, order=2)


def test_derivatives_against_closed_forms() -> None:
    f: Callable[..., Any] = square_root
    for wanted in (0.5 * 2**-0.5, -0.25 * 2**-1.5, 0.375 * 2**-2.5, -0.9375 * 2**-3.5):
        f = adjit.grad(f)
        np.testing.assert_allclose(f(2.0), wanted, rtol=1e-13)
    x = kepler(1.0, 0.3)
    slope = 1 / (1 - 0.3 * np.cos(x))
    np.testing.assert_allclose(adjit.grad(kepler, (0, 1))(1.0, 0.3), (slope, np.sin(x) * slope), rtol=1e-13)
    w = lambert(1.0)
    np.testing.assert_allclose(adjit.grad(lambert)(1.0), w / (1 + w), rtol=1e-12)
    np.testing.assert_allclose(adjit.grad(halves)(3.0), 1.25 / 0.875, rtol=1e-11)
    slope = 1 - iterated(W, B) ** 2
    inverse = np.linalg.inv(np.eye(4) - slope[:, None] * W)
    np.testing.assert_allclose(adjit.jacobian(equilibrium, 1)(W, B), inverse * slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [square_root, lambda a: adjit.fixed_point(lambda x: np.cos(a * x) + 0.1, 1.0)])
def test_second_derivatives_in_all_ways(make: Callable[..., Any]) -> None:
    wanted = (adjit.grad(make)(0.9 + 1e-5) - adjit.grad(make)(0.9 - 1e-5)) / 2e-5
    for outer in (adjit.jacfwd, adjit.jacrev):
        for inner in (adjit.jacfwd, adjit.jacrev):
            # Differences are as exact as this.
            np.testing.assert_allclose(outer(inner(make))(0.9), wanted, rtol=1e-7)
    np.testing.assert_allclose(adjit.hessian(make)(0.9), wanted, rtol=1e-7)
    np.testing.assert_allclose(adjit.hvp(make)(0.9, 1.0), wanted, rtol=1e-7)


def test_the_derivative_by_the_beginning_is_zero() -> None:
    assert adjit.grad(lambda x0: adjit.root(lambda x: x * x - 2.0, x0))(1.0) == 0.0
    assert adjit.jvp(lambda x0: adjit.root(lambda x: x * x - 2.0, x0), (1.0,), (1.0,))[1] == 0.0
    assert adjit.grad(lambda x0: adjit.fixed_point(np.cos, x0))(1.0) == 0.0


def test_the_tape_does_not_grow_with_the_steps() -> None:
    """Of the steps nothing is kept for the adjoint: the plan has as many bytes for few steps as for many."""
    sizes = []
    for most in (10, 1000):
        f = adjit.grad(lambda b, most=most: adjit.fixed_point(lambda x: 0.1 * np.tanh(x) + b, b, max_steps=most).sum())
        f(np.ones(50))
        sizes.append(next(iter(f.records.values())).program.arena_bytes)
    assert sizes[0] == sizes[1]


def test_batches() -> None:
    xs = np.array([1.0, 4.0, 9.0])
    np.testing.assert_allclose(adjit.vmap(square_root)(xs), np.sqrt(xs), rtol=1e-15)
    np.testing.assert_allclose(adjit.vmap(adjit.grad(square_root))(xs), 0.5 / np.sqrt(xs), rtol=1e-14)
    total = adjit.grad(lambda xs: adjit.vmap(square_root)(xs).sum())
    np.testing.assert_allclose(total(xs), 0.5 / np.sqrt(xs), rtol=1e-14)
    np.testing.assert_allclose(adjit.jacobian(total)(xs), np.diag(-0.25 * xs**-1.5), rtol=1e-13)
    several = np.array([[2.0, 0.1], [3.0, 0.2], [2.5, -0.3]])
    np.testing.assert_allclose(adjit.vmap(curves)(several), [curves(a) for a in several], rtol=1e-14)
    jacobians = [adjit.jacobian(curves)(a) for a in several]
    np.testing.assert_allclose(adjit.vmap(adjit.jacobian(curves))(several), jacobians, rtol=1e-13)
    layers = adjit.vmap(equilibrium, in_axes=(None, 0))
    np.testing.assert_allclose(layers(W, np.stack([B, 2 * B])), [iterated(W, B), iterated(W, 2 * B)], rtol=1e-10)
    shared = adjit.grad(lambda w: (layers(w, np.stack([B, 2 * B])) ** 2).sum())(W)
    each = [adjit.grad(lambda w, b: (equilibrium(w, b) ** 2).sum())(W, b) for b in (B, 2 * B)]
    np.testing.assert_allclose(shared, each[0] + each[1], rtol=1e-10)


def test_in_loops_and_branches() -> None:
    def steps(a: Any) -> Any:
        """Implicit Euler of y' = -a y^3: each step solves an equation."""
        return adjit.scan(lambda y, _: (adjit.root(lambda x: x + 0.1 * a * x**3 - y, y), None), 1.0, length=5)[0]

    adjit.check_grads(steps, (2.0,), order=2)
    # The exact solution is within the error of the method.
    np.testing.assert_allclose(steps(2.0), 1 / np.sqrt(1 + 2 * 2.0 * 0.5), rtol=0.1)
    chosen = adjit.grad(lambda a: adjit.cond(a > 1, square_root, lambda a: a, a))
    np.testing.assert_allclose(chosen(4.0), 0.25, rtol=1e-14)
    # What does not run does not fail.
    assert chosen(-1.0) == 1.0
    step = adjit.training_step(lambda w, x: (adjit.vmap(square_root)(w * x) ** 2).mean(), adjit.optim.sgd(0.5))
    state = step.init(np.array(2.0))
    step(state, np.array([1.0, 3.0]))
    np.testing.assert_allclose(state.params, 2.0 - 0.5 * 2.0, rtol=1e-13)


def test_what_f_reads_from_outside_has_derivatives() -> None:
    def f(scale: Any, shift: Any) -> Any:
        def inner(y: Any) -> Any:
            return adjit.root(lambda x: scale * x**3 + x - y - shift, y)

        return inner(inner(1.0))

    adjit.check_grads(f, (0.5, 0.2), order=2)


def test_nested() -> None:
    def f(a: Any) -> Any:
        return adjit.root(lambda x: x - adjit.fixed_point(lambda y: np.cos(a * y) * 0.5 + 0.1 * x, 0.0), 0.0)

    adjit.check_grads(f, (1.3,), order=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes(dtype: Any) -> None:
    a = np.array([2.0, 3.0], dtype)
    found = adjit.jit(lambda a: adjit.root(lambda x: x * x - a, a))(a)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.sqrt(a), rtol=8 * np.finfo(dtype).eps)
    # A number of Python takes the dtype that f gives.
    single = adjit.jit(lambda a: adjit.root(lambda x: x * x - a, 1.0))(dtype(2.0))
    assert single.dtype == dtype
    gradient = adjit.grad(lambda a: adjit.fixed_point(lambda x: 0.5 * np.cos(x) + a, 0 * a).sum())(a)
    assert gradient.dtype == dtype
    x = adjit.fixed_point(lambda x: 0.5 * np.cos(x) + a, 0 * a)
    np.testing.assert_allclose(gradient, 1 / (1 + 0.5 * np.sin(x)), rtol=50 * np.finfo(dtype).eps ** 0.75)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 40])
def test_systems_of_linear_equations(n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, n)), rng.normal(size=n)
    if n > 2:
        # The first pivot is 0, and rows must change places.
        a[0, 0] = 0.0
    found = adjit.jit(lambda a, b: adjit.root(lambda x: a @ x - b, np.zeros(n)))(a, b)
    # As exact as the condition of the matrix allows.
    np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=1e-9, atol=1e-12)
    if n:
        da, db = adjit.grad(lambda a, b: adjit.root(lambda x: a @ x - b, np.zeros(n)).sum(), (0, 1))(a, b)
        u = np.linalg.solve(a.T, np.ones(n))
        np.testing.assert_allclose(db, u, rtol=1e-9)
        np.testing.assert_allclose(da, -np.outer(u, found), rtol=1e-8, atol=1e-11)


# -- no convergence ---------------------------------------------------------------------------------------------------


def test_what_does_not_converge_is_an_error_with_the_line() -> None:
    with pytest.raises(adjit.ConvergenceError, match=r"test_implicit\.py:\d+: root: Newton's method .* 50 steps"):
        adjit.jit(square_root)(-1.0)
    with pytest.raises(RuntimeError, match="did not find a root"):
        adjit.vmap(square_root)(np.array([1.0, -1.0]))
    with pytest.raises(adjit.ConvergenceError, match=r"test_implicit\.py:\d+: fixed_point: the iteration .* 1000"):
        adjit.fixed_point(lambda x: 2 * x + 1, 1.0)
    with pytest.raises(adjit.ConvergenceError, match="in 3 steps"):
        adjit.root(lambda x: x * x - 2.0, 1000.0, max_steps=3)
    for bad in (np.nan, np.inf):
        with pytest.raises(adjit.ConvergenceError):
            adjit.jit(square_root)(bad)
        with pytest.raises(adjit.ConvergenceError):
            adjit.jit(lambda a: adjit.fixed_point(lambda x: 0.5 * x + a, 0.0))(bad)


def test_a_singular_jacobian_is_no_root() -> None:
    with pytest.raises(adjit.ConvergenceError):
        adjit.root(lambda x: np.stack([x[0] + x[1], x[0] + x[1] - 1.0]), np.zeros(2))


def test_an_adjoint_that_does_not_converge_is_an_error() -> None:
    def f(a: Any) -> Any:
        # The first step is there already, and the iteration would leave it.
        return adjit.fixed_point(lambda x: a * x, 0.0, max_steps=20)

    assert adjit.jit(f)(2.0) == 0.0
    with pytest.raises(adjit.ConvergenceError, match="fixed_point: the iteration for its derivative did not converge"):
        adjit.grad(lambda a: f(a) + adjit.fixed_point(lambda x: a * x + 0.0 * a, 0.0, max_steps=20))(2.0)


def test_without_the_check_it_is_what_the_last_step_gave() -> None:
    two = adjit.jit(lambda a: adjit.root(lambda x: x * x - a, 1.0, max_steps=2, check=False))
    np.testing.assert_allclose(two(2.0), 17 / 12, rtol=1e-15)
    three = adjit.jit(lambda a: adjit.fixed_point(lambda x: 2 * x + a, 1.0, max_steps=3, check=False))
    assert three(1.0) == 15.0


def test_tol_is_the_largest_last_step() -> None:
    rough = adjit.fixed_point(lambda x: 0.5 * x + 1.0, 0.0, tol=1e-2)
    fine = adjit.fixed_point(lambda x: 0.5 * x + 1.0, 0.0)
    assert 1e-3 < abs(rough - 2.0) < 1e-1
    np.testing.assert_allclose(fine, 2.0, rtol=1e-11)
    assert adjit.root(lambda x: x - 3.0, 3.0, tol=0.0) == 3.0


# -- graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kepler", "curves", "equilibrium"])
def test_graphs_hold_parse_and_run_in_the_interpreter(name: str) -> None:
    function, args, _ = CASES[name]
    f = adjit.value_and_grad(lambda *args: np.sum(function(*args)))
    value, gradient = f(*args)
    for stage in ("trace", "adjoint"):
        graph = f.ir(stage)
        verify(graph)
        assert str(adjit.parse(str(graph))) == str(graph)
    found = evaluate(f.ir("adjoint"), *args)
    np.testing.assert_allclose(found[0], value, rtol=1e-14)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-11)


# -- what is refused --------------------------------------------------------------------------------------------------


def two_of_three(x: Any) -> Any:
    return x[:2]


def narrow(x: Any) -> Any:
    return x.astype(np.float32)


def listed(x: Any) -> Any:
    return [x]


@pytest.mark.parametrize("solver", [adjit.root, adjit.fixed_point])
def test_refusals(solver: Callable[..., Any]) -> None:
    name = solver.__name__
    for function, kind, message in (
        (two_of_three, adjit.ShapeError, r"f gives f64\[2\], where x0 is f64\[3\]"),
        (narrow, adjit.DTypeError, r"f gives f32\[3\], where x0 is f64\[3\]: start with np.float32"),
        (listed, adjit.ArgumentError, r"f gives \[\*\], where x0 is \*"),
    ):
        with pytest.raises(kind, match=rf"test_implicit\.py:\d+: {name}: {message}") as found:
            solver(function, np.ones(3))
        assert "return" in str(found.value)
    with pytest.raises(adjit.ArgumentError, match=f"{name}: f is a function"):
        solver(3, 1.0)
    with pytest.raises(adjit.DTypeError, match="found among floats: write"):
        solver(lambda x: x, np.arange(3))
    with pytest.raises(adjit.ArgumentError, match="x0 is 'a', which is no array"):
        solver(lambda x: x, "a")
    with pytest.raises(adjit.ArgumentError, match="it is 'max_steps' here"):
        solver(lambda x: x, 1.0, max_iter=3)
    for argument, bad in (("max_steps", 0), ("tol", -1.0), ("check", 2)):
        with pytest.raises(adjit.AdjitError, match=f"{name}: {argument}"):
            solver(lambda x: x, 1.0, **{argument: bad})


def test_roots_are_numbers_or_vectors() -> None:
    with pytest.raises(adjit.ShapeError, match=r"root: x0 is f64\[2,2\], where x is a float, or one array of shape"):
        adjit.root(lambda x: x, np.ones((2, 2)))
    with pytest.raises(adjit.ShapeError, match="root: x0 is 2 arrays"):
        adjit.root(lambda x: x, [1.0, 2.0])
