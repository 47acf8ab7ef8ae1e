"""Compositions that a user of loops and derivatives writes, by name. Each is compared with the same thing written with
neither loop nor transformation, or by a closed form, and most with differences, to second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from tests.compositions.programs import W, X, layer

V = np.array([1.0, -0.5, 2.0])
BATCH = np.stack([X, 0.5 * X, X[::-1]])
BELOW = 1e-11
"""Of sums in another order, relative to the largest element."""


def same(found: Any, wanted: Any, rtol: float = BELOW) -> None:
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.max(np.abs(wanted), initial=1.0))


def scanned(x: Any) -> Any:
    """Five layers as a loop, whose derivative computes each anew."""
    block = adjit.checkpoint(layer)
    last, norms = adjit.scan(lambda h, _: (block(h, x), np.sum(h * h)), x, length=5)
    return np.sum(last) + np.sum(norms)


def unrolled(x: Any) -> Any:
    """The same in a row."""
    h, total = x, 0.0
    for _ in range(5):
        total = total + np.sum(h * h)
        h = layer(h, x)
    return np.sum(h) + total


def gradient_of(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return adjit.grad(f)


def cube(x: Any) -> Any:
    return np.sum(x**3)


def _cube_rule(x: Any) -> Any:
    return np.sum(x**3), lambda g: (3 * x**2 * g,)


ruled_cube = adjit.custom_rule(cube, vjp=_cube_rule)


def doubling(x: Any) -> Any:
    """The first power of two times x beyond 4, and how often."""
    return adjit.while_loop(
        lambda c: np.sum(c[0] ** 2) < 16.0, lambda c: (c[0] * 2.0 + np.sin(c[0]), c[1] + 1), (x, 0), max_steps=9
    )[0]


def free_doubling(x: Any) -> Any:
    """The same with no most number of turns."""
    return adjit.while_loop(lambda h: np.sum(h**2) < 16.0, lambda h: h * 2.0 + np.sin(h), x)


def doubling_in_python(x: Any) -> Any:
    return adjit.jit(_doubling_in_python, control_flow=True)(x)


def _doubling_in_python(x: Any) -> Any:
    for _ in range(9):
        if np.sum(x**2) >= 16.0:
            break
        x = x * 2.0 + np.sin(x)
    return x


def kepler(e: Any, m: Any) -> Any:
    """The eccentric anomaly."""
    return adjit.root(lambda y, e, m: y - e * np.sin(y) - m, m, e, m)


def kepler_by_e(e: float, m: float) -> float:
    y = kepler(e, m)
    return float(np.sin(y) / (1 - e * np.cos(y)))


def contracted(a: Any) -> Any:
    return adjit.fixed_point(lambda y, a: 0.5 * np.cos(y) + a, 0.0, a)


def chosen(x: Any) -> Any:
    return adjit.cond(np.sum(x) > 0.5, lambda x: np.sum(np.sin(x) * x), lambda x: np.sum(x**3), x)


def chosen_in_numpy(x: np.ndarray) -> np.ndarray:
    return np.cos(x) * x + np.sin(x) if np.sum(x) > 0.5 else 3 * x**2


def switched(x: Any) -> Any:
    return adjit.switch(np.sum(x > 0), [np.exp, np.tanh, lambda x: x**3 * x[0], np.sin], x)


def squared(x: Any) -> Any:
    return adjit.map(lambda e: np.sin(e * x) @ x, x)


def ruled_sine(x: Any) -> Any:
    return adjit.custom_rule(np.sin, jvp=lambda p, t: (np.sin(p[0]), t[0] * np.cos(p[0])))(x)


def recurrence(x: Any) -> Any:
    return adjit.scan(lambda h, e: (ruled_sine(h) * e + 0.2, h), x[0], x)[1]


def recurrence_in_numpy(x: Any) -> Any:
    h, kept = x[0], []
    for i in range(3):
        kept.append(h)
        h = np.sin(h) * x[i] + 0.2
    return np.stack(kept)


def newton_in_a_loop(x: Any) -> Any:
    """Each turn solves an equation that the one before says."""
    return adjit.scan(lambda m, e: (kepler(0.3 * e**2, m), None), x[0], x)[0]


def pushed_in_a_loop(x: Any) -> Any:
    """Each turn goes along the derivative of a layer."""

    def turn(h: Any, e: Any) -> Any:
        value, push = adjit.linearize(lambda y: layer(y, x), h)
        return value + e * push(x), None

    return adjit.scan(turn, x, x)[0]


s, t = sympy.symbols("s t")
lagrangian = adjit.from_sympy([s, t], sympy.cos(s) * t**2 / 2 + sympy.exp(-s * t))


def action(x: Any) -> Any:
    return np.sum(lagrangian(x, x[::-1]))


# -- against the same in a row, or in closed form ---------------------------------------------------------------------


def test_grad_of_vmap_of_scan_of_checkpoint() -> None:
    total = adjit.grad(lambda x: np.sum(adjit.vmap(scanned)(x) * V))
    same(total(BATCH), np.stack([adjit.grad(unrolled)(x) for x in BATCH]) * V[:, None])


def test_grad_of_vmap_of_scan_of_checkpoint_by_what_is_shared() -> None:
    def loss(w: Any, batch: Any) -> Any:
        block = adjit.checkpoint(lambda h, w: np.tanh(w @ h))
        run = lambda x: adjit.scan(lambda h, _: (block(h, w), None), x, length=4)[0]  # noqa: E731
        return np.sum(adjit.vmap(run)(batch) ** 2)

    def in_a_row(w: Any, batch: Any) -> Any:
        for _ in range(4):
            batch = np.tanh(batch @ w.T)
        return np.sum(batch**2)

    same(adjit.grad(loss)(W, BATCH), adjit.grad(in_a_row)(W, BATCH))


def test_hessian_of_a_custom_rule() -> None:
    same(adjit.hessian(ruled_cube)(X), np.diag(6 * X))
    same(
        adjit.hessian(lambda x: ruled_cube(np.sin(x)))(X), np.diag(6 * np.sin(X) * np.cos(X) ** 2 - 3 * np.sin(X) ** 3)
    )


def test_jacfwd_of_while_loop() -> None:
    expected, factor, turns = X, np.ones(3), 0
    while np.sum(expected**2) < 16:
        factor = factor * (2 + np.cos(expected))
        expected, turns = expected * 2 + np.sin(expected), turns + 1
    same(adjit.jacfwd(doubling)(X), np.diag(factor))
    same(adjit.jacrev(doubling)(X), np.diag(factor))


def test_jacobians_and_hessian_of_a_while_loop_without_a_bound() -> None:
    same(adjit.jacfwd(free_doubling)(X), adjit.jacfwd(doubling)(X))
    same(adjit.jacrev(free_doubling)(X), adjit.jacfwd(doubling)(X))
    total = lambda f: lambda x: np.sum(f(x) ** 2)  # noqa: E731
    same(adjit.hessian(total(free_doubling))(X), adjit.hessian(total(doubling))(X))


def test_grad_of_vmap_of_a_while_loop_without_a_bound() -> None:
    """Each row runs to its own end."""
    rows = np.stack([X, 0.1 * X, 9 * X])
    total = lambda f: lambda rows: np.sum(adjit.vmap(f)(rows) * V)  # noqa: E731
    same(adjit.grad(total(free_doubling))(rows), adjit.grad(total(doubling))(rows))


def test_vmap_of_root() -> None:
    e, m = np.array([0.1, 0.4, 0.7]), np.array([0.3, 1.0, 2.0])
    found = adjit.vmap(kepler)(e, m)
    same(found - e * np.sin(found), m)
    same(adjit.vmap(adjit.grad(kepler))(e, m), [kepler_by_e(*pair) for pair in zip(e, m, strict=True)])
    same(adjit.vmap(kepler, in_axes=(None, 0), chunk=2)(0.4, m)[1], found[1])


def test_vmap_of_fixed_point() -> None:
    a = np.array([0.1, 0.5, -0.7])
    y = adjit.vmap(contracted)(a)
    same(0.5 * np.cos(y) + a, y)
    same(adjit.vmap(adjit.grad(contracted))(a), 1 / (1 + 0.5 * np.sin(y)))
    slope = 1 / (1 + 0.5 * np.sin(y))
    same(adjit.vmap(adjit.grad(adjit.grad(contracted)))(a), -0.5 * np.cos(y) * slope**3)


def test_grad_of_root_inside_scan() -> None:
    def in_a_row(x: Any) -> Any:
        m = x[0]
        for i in range(3):
            m = kepler(0.3 * x[i] ** 2, m)
        return m

    same(newton_in_a_loop(X), in_a_row(X))
    same(adjit.grad(newton_in_a_loop)(X), adjit.grad(in_a_row)(X))


def test_hvp_of_scan() -> None:
    same(adjit.hvp(scanned)(X, V), adjit.hessian(unrolled)(X) @ V)


def test_vmap_of_grad_of_cond_in_chunks() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3))
    wanted = np.stack([chosen_in_numpy(row) for row in rows])
    assert len({bool(np.sum(row) > 0.5) for row in rows}) == 2
    for chunk in (None, 1, 2, 3, 7, 20):
        same(adjit.vmap(adjit.grad(chosen), chunk=chunk)(rows), wanted)


def test_jvp_of_jvp_of_switch() -> None:
    along = lambda f: lambda x: adjit.jvp(f, (x,), (V,))[1]  # noqa: E731
    for x in (X, np.abs(X), -np.abs(X), X * [1, 1, -1]):
        branch = [np.exp, np.tanh, lambda x: x**3 * x[0], np.sin][int(np.sum(x > 0))]
        same(along(along(switched))(x), along(along(branch))(x))


def test_jacrev_of_map() -> None:
    wanted = np.diag([np.cos(e * X) @ X**2 for e in X]) + [np.cos(e * X) * e * X + np.sin(e * X) for e in X]
    same(adjit.jacrev(squared)(X), wanted)
    same(adjit.jacfwd(squared)(X), wanted)


def test_pythons_own_control_flow_inside_of_vmap_and_grad() -> None:
    rows = np.stack([X, 3 * X, 9 * X])
    same(adjit.vmap(doubling_in_python)(rows), [doubling(row) for row in rows])
    gradients = adjit.vmap(adjit.grad(lambda x: np.sum(doubling_in_python(x) * V)))(rows)
    same(gradients, [np.diag(adjit.jacfwd(doubling)(row)) * V for row in rows])
    total = adjit.grad(lambda rows: np.sum(adjit.vmap(doubling_in_python)(rows) * V))
    same(total(rows), gradients)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_sparse_jacobian_of_a_function_with_scan(n: int) -> None:
    def heat(u: Any) -> Any:
        """Steps of the heat equation, so a band."""

        def step(u: Any, _: Any) -> Any:
            left, right = np.roll(u, 1), np.roll(u, -1)
            return u + 0.1 * (left - 2 * u + right) + 0.1 * np.sin(u), None

        return adjit.scan(step, u, length=2)[0]

    u = np.linspace(-1.0, 2.0, n)
    found = adjit.sparse_jacobian(heat)(u)
    same(found.toarray(), adjit.jacfwd(heat)(u))
    assert found.nnz == n * min(n, 5)


def test_a_training_step_with_scan_and_checkpoint_and_vmap_in_its_loss() -> None:
    def loss(params: Any, batch: Any) -> Any:
        def one(x: Any) -> Any:
            block = adjit.checkpoint(lambda h: np.tanh(params["w"] @ h + params["b"]))
            return np.sum(adjit.scan(lambda h, _: (block(h), None), x, length=4)[0])

        return np.mean((adjit.vmap(one)(batch) - 1.0) ** 2)

    def in_a_row(params: Any, batch: Any) -> Any:
        for _ in range(4):
            batch = np.tanh(batch @ params["w"].T + params["b"])
        return np.mean((np.sum(batch, axis=1) - 1.0) ** 2)

    losses = []
    for function in (loss, in_a_row):
        step = adjit.training_step(function, adjit.optim.adam(0.05))
        state = step.init({"w": W, "b": np.zeros(3)})
        losses.append([step(state, BATCH) for _ in range(20)])
    # Adam divides by the root of what is near 0 at first.
    same(losses[0], losses[1], rtol=1e-8)
    assert losses[0][-1] < losses[0][0]


def test_custom_rule_inside_scan_inside_vmap() -> None:
    same(adjit.vmap(recurrence)(BATCH), [recurrence_in_numpy(x) for x in BATCH])
    wanted = [adjit.grad(lambda x: np.sum(recurrence_in_numpy(x) * V))(x) for x in BATCH]
    same(adjit.vmap(adjit.grad(lambda x: np.sum(recurrence(x) * V)))(BATCH), wanted)
    same(adjit.grad(lambda xs: np.sum(adjit.vmap(recurrence)(xs) * V))(BATCH), wanted)


def test_from_sympy_inside_of_vmap_and_hessian() -> None:
    def in_numpy(x: Any) -> Any:
        y = x[::-1]
        return np.sum(np.cos(x) * y**2 / 2 + np.exp(-x * y))

    same(adjit.vmap(adjit.hessian(action))(BATCH), [adjit.hessian(in_numpy)(x) for x in BATCH])
    same(adjit.hessian(lambda xs: np.sum(adjit.vmap(action)(xs)))(BATCH)[1, :, 1], adjit.hessian(in_numpy)(BATCH[1]))


def test_linearize_inside_scan() -> None:
    h = X
    for e in X:
        value = layer(h, X)
        h = value + e * ((1 - value**2) * (W @ X))
    same(pushed_in_a_loop(X), h)


def test_derivatives_of_derivatives_in_loops_of_batches() -> None:
    """A gradient in a scan in a vmap in a hessian."""

    def descended(x: Any) -> Any:
        step = lambda y, _: (y - 0.1 * adjit.grad(lambda y: np.sum(np.cos(y * x)))(y), None)  # noqa: E731
        return adjit.scan(step, x, length=3)[0]

    def in_a_row(x: Any) -> Any:
        y = x
        for _ in range(3):
            y = y + 0.1 * np.sin(y * x) * x
        return y

    loss = lambda f: lambda x: np.sum(adjit.vmap(f)(x[:, None] * V) ** 2)  # noqa: E731
    same(adjit.hessian(loss(descended))(X), adjit.hessian(loss(in_a_row))(X))


# -- against differences ----------------------------------------------------------------------------------------------

CHECKED: dict[str, Callable[[Any], Any]] = {
    "vmap of scan of checkpoint": lambda xs: adjit.vmap(scanned)(xs),
    "custom_rule": lambda x: ruled_cube(np.sin(x)), "while_loop": doubling,
    "vmap of root": lambda x: adjit.vmap(kepler)(0.1 + 0.5 * np.sin(x) ** 2, x),
    "vmap of fixed_point": adjit.vmap(contracted), "root inside scan": newton_in_a_loop, "cond in chunks":
    adjit.vmap(chosen, chunk=2), "switch": switched, "map": squared, "control_flow=True": doubling_in_python,
    "custom_rule inside scan inside vmap": adjit.vmap(recurrence), "from_sympy inside vmap": adjit.vmap(action),
    "linearize inside scan": pushed_in_a_loop,
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_check_grads_to_second_order(name: str) -> None:
    batched = "vmap of scan" in name or "inside vmap" in name or "chunks" in name
    adjit.check_grads(CHECKED[name], (BATCH if batched else X,), order=2)
