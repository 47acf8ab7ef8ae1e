"""jvp, vjp, linearize, Jacobians and Hessians: trees, aux, composition, loops, SciPy's optimisers, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import adjit

X = np.array([0.3, -1.2, 2.0])
V = np.array([1.0, 2.0, -1.0])


def network(params: Any, x: Any) -> Any:
    return np.tanh(x @ params["w"] + params["b"])


PARAMS = {"w": np.arange(6.0).reshape(3, 2) / 7, "b": np.array([0.1, -0.2])}
STEP = {"w": np.ones((3, 2)), "b": np.array([1.0, 3.0])}


def rosen(x: Any, a: Any = 100.0) -> Any:
    return np.sum((1.0 - x[:-1]) ** 2 + a * (x[1:] - x[:-1] ** 2) ** 2)


def decay(p: Any) -> Any:
    """A loop: some steps of an explicit rule."""

    def step(y: Any, t: Any) -> Any:
        new = y - 0.1 * p[1] * y * np.cos(t)
        return new, new

    last, path = adjit.scan(step, p[0], np.linspace(0.0, 1.0, 7))
    return path * last


# -- jvp, vjp, linearize ----------------------------------------------------------------------------------------------


def test_jvp_is_the_derivative_along_tangents() -> None:
    value, tangent = adjit.jvp(network, (PARAMS, X), (STEP, V))
    y = network(PARAMS, X)
    np.testing.assert_allclose(value, y, rtol=1e-14)
    expected = (1 - y**2) * (V @ PARAMS["w"] + X @ STEP["w"] + STEP["b"])
    np.testing.assert_allclose(tangent, expected, rtol=1e-13)


def test_vjp_gives_a_pullback_that_can_be_called_often() -> None:
    value, pullback = adjit.vjp(network, PARAMS, X)
    y = network(PARAMS, X)
    np.testing.assert_allclose(value, y, rtol=1e-14)
    for g in (np.array([1.0, 0.0]), np.array([-2.0, 0.5])):
        params, x = pullback(g)
        inner = g * (1 - y**2)
        np.testing.assert_allclose(params["w"], np.outer(X, inner), rtol=1e-13)
        np.testing.assert_allclose(params["b"], inner, rtol=1e-13)
        np.testing.assert_allclose(x, PARAMS["w"] @ inner, rtol=1e-13)


def test_linearize_computes_the_value_once() -> None:
    value, linear = adjit.linearize(network, PARAMS, X)
    np.testing.assert_allclose(value, network(PARAMS, X), rtol=1e-14)
    for step, v in ((STEP, V), (PARAMS, X)):
        np.testing.assert_allclose(linear(step, v), adjit.jvp(network, (PARAMS, X), (step, v))[1], rtol=1e-13)
    # What is left for it is linear.
    names = {node.op.name for node in linear._late.nodes}
    assert "tanh" not in names


def test_integers_among_the_results() -> None:
    def f(x: Any) -> Any:
        return {"best": np.argmax(x), "y": x * x, "all": np.all(x > 0)}

    value, tangent = adjit.jvp(f, (X,), (V,))
    assert (value["best"], tangent["best"], tangent["all"]) == (2, 0, False)
    assert tangent["best"].dtype == np.int64
    np.testing.assert_allclose(tangent["y"], 2 * X * V)
    _, linear = adjit.linearize(f, X)
    np.testing.assert_allclose(linear(V)["y"], 2 * X * V)
    value, pullback = adjit.vjp(f, X)
    (g,) = pullback({"best": value["best"], "y": V, "all": True})
    np.testing.assert_allclose(g, 2 * X * V)


@pytest.mark.parametrize("traced", [False, True])
def test_aux(traced: bool) -> None:
    def f(x: Any) -> Any:
        return np.sum(x**2), {"n": x.shape[0], "y": x + 1}

    def all_of_them(x: Any, v: Any) -> Any:
        value, tangent, aux = adjit.jvp(f, (x,), (v,), has_aux=True)
        again, pullback, more = adjit.vjp(f, x, has_aux=True)
        third, linear, most = adjit.linearize(f, x, has_aux=True)
        return [value, again, third], [tangent, linear(v)], pullback(2.0)[0], [aux, more, most]

    values, tangents, gradient, auxes = (adjit.jit(all_of_them) if traced else all_of_them)(X, V)
    np.testing.assert_allclose(values, [np.sum(X**2)] * 3)
    np.testing.assert_allclose(tangents, [2 * X @ V] * 2)
    np.testing.assert_allclose(gradient, 4 * X)
    for aux in auxes:
        assert aux["n"] == 3
        np.testing.assert_array_equal(aux["y"], X + 1)
    with pytest.raises(adjit.ArgumentError, match=r"jvp: with has_aux=True sum returns \(value, aux\)"):
        adjit.jvp(np.sum, (X,), (V,), has_aux=True)


def test_numbers_and_dtypes() -> None:
    value, tangent = adjit.jvp(np.sin, (0.0,), (2,))
    assert (value, tangent) == (0.0, 2.0)
    single = np.array([0.5, 1.0], np.float32)
    value, tangent = adjit.jvp(np.exp, (single,), (np.ones(2, np.float32),))
    assert value.dtype == tangent.dtype == np.float32
    (g,) = adjit.vjp(np.exp, single)[1](np.ones(2, np.float32))
    assert g.dtype == np.float32


@dataclass
class Body:
    mass: Any
    at: Any


def test_dataclasses_are_pytrees() -> None:
    def energy(body: Any) -> Any:
        return Body(body.mass * 2.0, body.mass * np.sum(body.at**2))

    body, step = Body(2.0, X), Body(1.0, V)
    value, tangent = adjit.jvp(energy, (body,), (step,))
    assert isinstance(value, Body)
    np.testing.assert_allclose(tangent.at, X @ X + 4 * X @ V)
    assert isinstance(adjit.jacrev(energy)(body).at, Body)
    np.testing.assert_allclose(adjit.jacfwd(energy)(body).at.at, 4 * X)


def test_the_function_is_traced_anew() -> None:
    scale = np.array(2.0)
    f = lambda x: x * scale  # noqa: E731
    assert adjit.jvp(f, (1.0,), (1.0,))[1] == 2.0
    scale[...] = 5.0
    assert adjit.jvp(f, (1.0,), (1.0,))[1] == 5.0


# -- composition ------------------------------------------------------------------------------------------------------


def second(x: Any) -> Any:
    return -np.sin(x) * x + 2 * np.cos(x)


def wave(x: Any) -> Any:
    return np.sin(x) * x


def along(f: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda x: adjit.jvp(f, (x,), (np.ones_like(x),))[1]


def back(f: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda x: adjit.vjp(f, x)[1](np.ones_like(x))[0]


def linear(f: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda x: adjit.linearize(f, x)[1](np.ones_like(x))


WAYS = {
    "jvp": along, "vjp": back, "linearize": linear, "elementwise_grad": adjit.elementwise_grad,
    "vmap of vjp": lambda f: lambda x: adjit.vmap(back(f))(x[None])[0],
    "jacfwd": lambda f: lambda x: np.diagonal(adjit.jacfwd(f)(x)),
    "jacrev": lambda f: lambda x: np.diagonal(adjit.jacrev(f)(x)),
}  # fmt: skip


@pytest.mark.parametrize("outer", WAYS)
@pytest.mark.parametrize("inner", WAYS)
def test_all_compose_with_all(outer: str, inner: str) -> None:
    function = WAYS[outer](WAYS[inner](wave))
    np.testing.assert_allclose(function(X), second(X), rtol=1e-13)
    np.testing.assert_allclose(adjit.jit(function)(X), second(X), rtol=1e-13)


@pytest.mark.parametrize("way", WAYS)
def test_values_of_enclosing_traces_are_captured(way: str) -> None:
    """They have derivatives of their own."""

    def f(w: Any) -> Any:
        return np.sum(WAYS[way](lambda x: np.sin(w * x))(w * 0.5) * V)

    # d/dw of w cos(w^2 / 2).
    expected = V * (np.cos(X * X / 2) - X * X * np.sin(X * X / 2))
    np.testing.assert_allclose(adjit.grad(f)(X), expected, rtol=1e-12)


def test_a_pullback_from_outside_becomes_a_part_of_a_trace() -> None:
    _, pullback = adjit.vjp(wave, X)
    _, pushed = adjit.linearize(wave, X)
    slope = np.cos(X) * X + np.sin(X)
    for linear_function in (lambda g: pullback(g)[0], pushed):
        f = lambda g, h=linear_function: np.sum(h(g) ** 2) + np.sum(h(2.0 * g))  # noqa: E731
        value, gradient = adjit.value_and_grad(f)(V)
        np.testing.assert_allclose(value, np.sum((slope * V) ** 2) + 2 * slope @ V)
        np.testing.assert_allclose(gradient, 2 * slope**2 * V + 2 * slope)


def test_training_of_a_loss_with_derivatives_in_it() -> None:
    """A network that is to have a given slope."""
    xs = np.linspace(-1.0, 1.0, 9)

    def loss(params: Any, x: Any) -> Any:
        u = lambda x: np.tanh(np.outer(x, params["w"])) @ params["v"]  # noqa: E731
        _, slope = adjit.jvp(u, (x,), (np.ones_like(x),))
        return np.mean((slope - 1.0) ** 2)

    step = adjit.training_step(loss, adjit.optim.adam(0.05))
    state = step.init({"w": np.linspace(0.1, 1.0, 5), "v": np.linspace(-0.5, 0.5, 5)})
    first = step(state, xs)
    for _ in range(50):
        last = step(state, xs)
    assert last < 0.1 * first


# -- Jacobians and Hessians -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [adjit.jacfwd, adjit.jacrev, adjit.jacobian])
def test_a_jacobian_has_the_trees_of_value_and_argument(make: Any) -> None:
    def f(params: Any, x: Any) -> Any:
        y = network(params, x)
        return {"y": y, "sum": np.sum(y * y)}

    found = make(f)(PARAMS, X)
    y = network(PARAMS, X)
    slope = np.diag(1 - y**2)
    np.testing.assert_allclose(found["y"]["b"], slope, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found["y"]["w"], np.einsum("ij,k->ikj", slope, X), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found["sum"]["b"], 2 * y @ slope, rtol=1e-13)
    by_w, by_x = make(f, argnums=(0, 1))(PARAMS, X)["y"]
    np.testing.assert_allclose(by_w["w"], found["y"]["w"], rtol=1e-15)
    np.testing.assert_allclose(by_x, slope @ PARAMS["w"].T, rtol=1e-13)
    np.testing.assert_allclose(make(f, argnums=-1)(PARAMS, X)["y"], by_x, rtol=1e-15)


@pytest.mark.parametrize("make", [adjit.jacfwd, adjit.jacrev, adjit.jacobian, adjit.hessian])
def test_sizes_of_one_and_none(make: Any) -> None:
    order = 2 if make is adjit.hessian else 1
    assert make(lambda x: x**3)(2.0) == 12.0
    assert make(lambda x: x**3)(np.ones(1)).shape == (1,) * (order + 1)
    assert make(lambda x: x**3)(np.ones((0, 2))).shape == (0, 2) * (order + 1)
    assert make(lambda x: x[:0] * 1.0)(X).shape == (0,) + (3,) * order
    assert make(lambda x: np.sum(x))(np.ones((2, 1))).shape == (2, 1) * order
    # What an argument has no part in.
    assert not make(lambda x, y: np.sin(x), argnums=1)(X, X).any()


def test_a_jacobian_is_chosen_by_sizes() -> None:
    wide, tall = (lambda x: x[:1] * x[1:2]), (lambda x: np.concatenate([x, x * x]))
    assert adjit.jacobian(wide).ir("adjoint", X).name == "lambda_jacobian"
    assert _unit_vectors(adjit.jacobian(wide), X) == 1
    assert _unit_vectors(adjit.jacobian(tall), X) == 3
    assert _unit_vectors(adjit.jacfwd(wide), X) == 3
    assert _unit_vectors(adjit.jacrev(tall), X) == 6


def _unit_vectors(function: Any, x: Any) -> int:
    graph = function.ir("adjoint", x)
    scans = [node.attrs["length"] for node in graph.nodes if node.op.name == "scan"]
    return scans[0] if scans else 1


def test_what_does_not_wait_for_tangents_is_computed_once() -> None:
    graph = adjit.jacfwd(lambda x: np.tanh(np.exp(x) @ np.ones((3, 4)))).ir("adjoint", X)
    (scan,) = (node for node in graph.nodes if node.op.name == "scan")
    assert not {node.op.name for node in scan.attrs["body"].nodes} & {"exp", "tanh"}


@pytest.mark.parametrize("make", [adjit.jacfwd, adjit.jacrev, adjit.jacobian])
def test_aux_and_static_arguments_of_jacobians(make: Any) -> None:
    def f(x: Any, n: Any) -> Any:
        return x**n, {"n": n, "best": np.argmax(x)}

    found, aux = make(f, has_aux=True, static_argnames="n")(X, n=3)
    np.testing.assert_allclose(found, np.diag(3 * X**2))
    assert (aux["n"], aux["best"]) == (3, 2)
    decorated = make(static_argnums=1)(lambda x, n: x**n)
    np.testing.assert_allclose(decorated(X, 2), np.diag(2 * X))


def test_hessians() -> None:
    np.testing.assert_allclose(adjit.hessian(rosen)(X), scipy.optimize.rosen_hess(X), rtol=1e-12)
    found = adjit.hessian(lambda p: np.sum(network(p, X)))(PARAMS)
    y = network(PARAMS, X)
    curve = np.diag(-2 * y * (1 - y**2))
    np.testing.assert_allclose(found["b"]["b"], curve, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["w"]["b"], np.einsum("i,jk->ijk", X, curve), rtol=1e-12, atol=1e-15)
    # Of a vector: a matrix for each element.
    np.testing.assert_allclose(adjit.hessian(np.sin)(X)[1, 1, 1], -np.sin(X[1]))
    mixed = adjit.hessian(lambda x, y: np.sum(x * x * y), argnums=(0, 1))(X, V)
    np.testing.assert_allclose(mixed[0][1], np.diag(2 * X))
    assert not mixed[1][1].any()
    both, aux = adjit.hessian(lambda x: (np.sum(x**3), x), has_aux=True)(X)
    np.testing.assert_allclose(both, np.diag(6 * X))
    np.testing.assert_array_equal(aux, X)


def test_products_with_a_hessian() -> None:
    product = adjit.hvp(rosen)
    np.testing.assert_allclose(product(X, V), scipy.optimize.rosen_hess(X) @ V, rtol=1e-12)
    trees = adjit.hvp(lambda p, x: np.sum(network(p, x) ** 2))(PARAMS, STEP, X)
    assert set(trees) == {"w", "b"}
    static = adjit.hvp(lambda x, n: np.sum(x**n), static_argnames="n")
    np.testing.assert_allclose(static(X, V, n=3), 6 * X * V)
    np.testing.assert_allclose(static(X, V, 4), 12 * X**2 * V)
    with pytest.raises(adjit.ShapeError, match=r"hvp: the tangent of x is f64\[2\], and x is f64\[3\]"):
        product(X, V[:2])
    with pytest.raises(adjit.DTypeError, match=r"hvp: <lambda> at .* is to be differentiated by n, which is i64\[3\]"):
        adjit.hvp(lambda n: np.sum(n * 1.0))(np.arange(3), np.arange(3))
    with pytest.raises(adjit.ShapeError, match=r"returns f64\[3\]; only|sin returns f64\[3\], and a gradient"):
        adjit.hvp(np.sin)(X, V)


def test_gradients_of_elementwise_functions() -> None:
    np.testing.assert_allclose(adjit.elementwise_grad(np.sin)(X), np.cos(X))
    by_both = adjit.elementwise_grad(lambda x, y: x * y, argnums=(0, 1))(X, V)
    np.testing.assert_array_equal(by_both[0], V)
    g, aux = adjit.elementwise_grad(lambda x: (x**2, "n" and x), has_aux=True)(X)
    np.testing.assert_allclose(g, 2 * X)
    np.testing.assert_array_equal(aux, X)
    with pytest.raises(adjit.ArgumentError, match=r"elementwise_grad: .* returns one array, not a dict"):
        adjit.elementwise_grad(lambda x: {"y": x})(X)
    with pytest.raises(adjit.DTypeError, match=r"elementwise_grad: argmax returns i64\[\]; only floats have"):
        adjit.elementwise_grad(np.argmax)(X)


# -- loops ------------------------------------------------------------------------------------------------------------


P = np.array([1.5, 0.7])


def numeric(f: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    columns = [(f(x + 1e-6 * e) - f(x - 1e-6 * e)) / 2e-6 for e in np.eye(x.size)]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("way", ["jacfwd", "jacrev", "jvp", "vjp", "linearize"])
def test_loops(way: str) -> None:
    expected = numeric(decay, P)
    if way in ("jacfwd", "jacrev"):
        found = getattr(adjit, way)(decay)(P)
    elif way == "vjp":
        _, pullback = adjit.vjp(decay, P)
        found = np.stack([pullback(e)[0] for e in np.eye(7)])
    else:
        pushed = adjit.linearize(decay, P)[1] if way == "linearize" else lambda v: adjit.jvp(decay, (P,), (v,))[1]
        found = np.stack([pushed(e) for e in np.eye(2)], axis=-1)
    # The error of central differences with this step.
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_loops_of_python_are_rolled_up_before_they_are_differentiated() -> None:
    def f(p: Any) -> Any:
        y = p[0]
        for _ in range(100):
            y = y - 0.01 * p[1] * np.sin(y)
        return y

    for make in (adjit.jacfwd, adjit.jacrev, adjit.hessian):
        function = make(f)
        np.testing.assert_allclose(
            function(P), numeric(f if make is not adjit.hessian else adjit.grad(f), P), rtol=1e-6
        )
        assert len(function.ir("adjoint", P).nodes) < 60
    _, pullback = adjit.vjp(f, P)
    _, pushed = adjit.linearize(f, P)
    slope = adjit.jacfwd(f)(P)
    np.testing.assert_allclose(pullback(1.0)[0], slope, rtol=1e-12)
    np.testing.assert_allclose([pushed(e) for e in np.eye(2)], slope, rtol=1e-12)


def test_batches_of_derivatives() -> None:
    """vmap over jvp, a pullback, linearize and jacfwd of a loop, and those over vmap."""
    ps, v = np.stack([P, P * 0.5, P + 1.0]), np.array([1.0, -2.0])
    whole = np.stack([numeric(decay, p) for p in ps])
    np.testing.assert_allclose(adjit.vmap(adjit.jacfwd(decay))(ps), whole, rtol=1e-7, atol=1e-9)
    for push in (
        lambda p: adjit.jvp(decay, (p,), (v,))[1],
        lambda p: adjit.linearize(decay, p)[1](v),
        lambda p: adjit.jacrev(decay)(p) @ v,
    ):
        np.testing.assert_allclose(adjit.vmap(push)(ps), whole @ v, rtol=1e-7, atol=1e-9)
    g = np.linspace(0.0, 1.0, 7)
    pulled = adjit.vmap(lambda p: adjit.vjp(decay, p)[1](g)[0])(ps)
    np.testing.assert_allclose(pulled, g @ whole, rtol=1e-7, atol=1e-9)
    _, along_all = adjit.jvp(adjit.vmap(decay), (ps,), (np.stack([v, v, v]),))
    np.testing.assert_allclose(along_all, whole @ v, rtol=1e-7, atol=1e-9)


def test_second_derivatives_of_loops() -> None:
    loss = lambda p: np.sum(decay(p) ** 2)  # noqa: E731
    full = adjit.hessian(loss)(P)
    np.testing.assert_allclose(full, numeric(adjit.grad(loss), P), rtol=1e-6)
    np.testing.assert_allclose(adjit.hvp(loss)(P, np.array([1.0, -2.0])), full @ [1.0, -2.0], rtol=1e-12)


# -- SciPy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov", "trust-constr"])
def test_minimize_takes_gradients_and_products(method: str) -> None:
    second_order = {} if "BFGS" in method else {"hessp": adjit.hvp(rosen)}
    found = scipy.optimize.minimize(
        adjit.value_and_grad(rosen), np.zeros(4), args=(10.0,), jac=True, method=method, **second_order
    )
    assert found.success or method == "trust-constr"
    np.testing.assert_allclose(found.x, np.ones(4), atol=1e-4)


def test_minimize_takes_a_hessian() -> None:
    found = scipy.optimize.minimize(
        adjit.value_and_grad(rosen), np.zeros(3), jac=True, hess=adjit.hessian(rosen),
        method="trust-exact",
    )  # fmt: skip
    np.testing.assert_allclose(found.x, np.ones(3), atol=1e-4)


@pytest.mark.parametrize("make", [adjit.jacfwd, adjit.jacrev, adjit.jacobian])
def test_least_squares_and_roots_take_jacobians(make: Any) -> None:
    t = np.linspace(0.0, 3.0, 20)
    data = 2.0 * np.exp(-0.7 * t)
    residuals = lambda p: p[0] * np.exp(-p[1] * t) - data  # noqa: E731
    jacobian = make(residuals)(np.ones(2))
    assert (jacobian.dtype, jacobian.shape) == (np.float64, (20, 2))
    assert jacobian.flags.c_contiguous
    found = scipy.optimize.least_squares(adjit.jit(residuals), np.ones(2), jac=make(residuals))
    np.testing.assert_allclose(found.x, [2.0, 0.7], rtol=1e-6)
    f = lambda x: np.stack([x[0] ** 2 + x[1] - 3.0, x[0] - x[1] + 1.0])  # noqa: E731
    root = scipy.optimize.root(adjit.jit(f), np.ones(2), jac=make(f))
    np.testing.assert_allclose(root.x, [1.0, 2.0], rtol=1e-8)


def test_stiff_equations_take_a_jacobian() -> None:
    f = lambda t, y: np.stack([y[1], 50.0 * (1.0 - y[0] ** 2) * y[1] - y[0]])  # noqa: E731
    found = scipy.integrate.solve_ivp(
        adjit.jit(f), (0.0, 20.0), np.array([2.0, 0.0]), method="BDF", jac=adjit.jacfwd(f, argnums=1)
    )
    plain = scipy.integrate.solve_ivp(f, (0.0, 20.0), np.array([2.0, 0.0]), method="BDF", rtol=1e-6)
    assert found.success
    np.testing.assert_allclose(found.y[0, -1], plain.y[0, -1], rtol=1e-2)


# -- check_grads ------------------------------------------------------------------------------------------------------


def test_check_grads_passes_what_is_right() -> None:
    adjit.check_grads(network, (PARAMS, X))
    adjit.check_grads(decay, (P,), order=3, modes="rev")
    adjit.check_grads(lambda x: {"y": np.sin(x), "best": np.argmax(x)}, [X], modes="fwd")
    adjit.check_grads(np.exp, (np.ones(2, np.float32),))


@pytest.mark.parametrize(("modes", "text"), [("fwd", "forward mode"), ("rev", "reverse mode")])
def test_check_grads_names_what_is_wrong(modes: str, text: str) -> None:
    def f(x: Any, params: Any) -> Any:
        return x * adjit.stop_gradient(params["w"])

    with pytest.raises(
        AssertionError, match=rf"derivative of f by params\.w, along .*: {text} gives 0\.0, differences"
    ):
        adjit.check_grads(f, (X, {"w": V}), modes=modes)
    # Right at order 1, wrong at order 2.
    half = lambda x: adjit.stop_gradient(x) * x - 0.5 * adjit.stop_gradient(x * x) + 0.5 * x * 0.0  # noqa: E731
    with pytest.raises(adjit.DerivativeError, match="by x"):
        adjit.check_grads(half, (X,), modes=modes)


def test_check_grads_refuses() -> None:
    with pytest.raises(adjit.DTypeError, match=r"check_grads: .* differentiated by n, which is i64\[2\]"):
        adjit.check_grads(lambda n: n * 1.0, (np.arange(2),))
    with pytest.raises(adjit.ArgumentError, match="check_grads: args is a tuple"):
        adjit.check_grads(np.sin, X)
    with pytest.raises(adjit.ArgumentError, match="check_grads: modes is 'fwd' or 'rev', not 'both'"):
        adjit.check_grads(np.sin, (X,), modes="both")


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_tangents_that_do_not_fit() -> None:
    def f(x: Any, params: Any) -> Any:
        return x * params["w"]

    at = (X, {"w": 2.0})
    with pytest.raises(adjit.ShapeError, match=r"jvp: the tangent of x is f64\[2\], and x is f64\[3\]"):
        adjit.jvp(f, at, (V[:2], {"w": 1.0}))
    with pytest.raises(adjit.DTypeError, match=r"jvp: the tangent of x is f32\[3\], and x is f64\[3\]: write \.astype"):
        adjit.jvp(f, at, (V.astype(np.float32), {"w": 1.0}))
    with pytest.raises(adjit.ArgumentError, match="jvp: tangents have the structure of primals"):
        adjit.jvp(f, at, (V, 1.0))
    with pytest.raises(adjit.ArgumentError, match="jvp: primals is a tuple with one entry for each argument"):
        adjit.jvp(f, X, V)
    with pytest.raises(adjit.DTypeError, match=r"jvp: f is to be differentiated by params\.w, which is i64\[\]"):
        adjit.jvp(f, (X, {"w": np.int64(2)}), (V, {"w": np.int64(0)}))
    with pytest.raises(adjit.ShapeError, match=r"jvp: the tangent of x is f64\[2\]"):
        adjit.jit(lambda x: adjit.jvp(f, (x, {"w": 2.0}), (x[:2], {"w": 1.0})))(X)


def test_cotangents_that_do_not_fit() -> None:
    _, pullback = adjit.vjp(lambda x: {"y": x * 2.0, "s": np.sum(x)}, X)
    with pytest.raises(adjit.ArgumentError, match=r"vjp: the cotangent has the structure .*'s': \*.*, not \*"):
        pullback(V)
    with pytest.raises(adjit.ShapeError, match=r"vjp: the cotangent of the value\['y'\] is f64\[2\]"):
        pullback({"y": V[:2], "s": 1.0})
    _, pushed = adjit.linearize(np.sin, X)
    with pytest.raises(adjit.ShapeError, match=r"linearize: the tangent of .* is f64\[2\]"):
        pushed(V[:2])
    with pytest.raises(adjit.ArgumentError, match="linearize: the tangent has the structure"):
        pushed(V, V)


def test_values_that_have_no_derivative() -> None:
    for make in (adjit.jacfwd, adjit.jacrev, adjit.jacobian, adjit.hessian):
        with pytest.raises(adjit.DTypeError, match=r"returns i64\[\]; only floats have a derivative: return the rest"):
            make(lambda x: {"y": x, "n": np.argmax(x)})(X)
        with pytest.raises(adjit.DTypeError, match=r"differentiated by n, which is i64\[2\]; only floats"):
            make(lambda n: n * 1.0)(np.arange(2))
        with pytest.raises(adjit.ArgumentError, match=r"argnums=3, and .* was called with 1 positional"):
            make(lambda x: x, argnums=3)(X)


@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "jacobian", "hessian", "hvp", "elementwise_grad"])
def test_arguments_that_others_have(name: str) -> None:
    with pytest.raises(adjit.ArgumentError, match=f"{name} has no argument 'wrt'"):
        getattr(adjit, name)(np.sin, wrt=0)


@pytest.mark.parametrize("name", ["vjp", "linearize"])
def test_arguments_that_are_not_there(name: str) -> None:
    with pytest.raises(adjit.ArgumentError, match=f"{name} has no argument 'argnums'"):
        getattr(adjit, name)(np.sin, X, argnums=0)
