"""A program for each construct that a function may be made of: functions of a vector of three floats, smooth where they
are asked. `A` is `adjit`, or what stands for it in plain Python (`plain`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

X = np.array([0.4, -0.7, 1.1])
W = np.array([[0.3, -0.2, 0.5], [0.1, 0.4, -0.6], [-0.5, 0.2, 0.7]])
S, T = sympy.symbols("s t")


def layer(h: Any, x: Any) -> Any:
    return np.tanh(W @ h + 0.5 * x)


def turn(h: Any, e: Any) -> Any:
    h = np.tanh(W @ h) * e + 0.3
    return h, np.sin(h) * e


def steps(A: Any, x: Any) -> Any:
    last, ys = A.scan(turn, x, x[::-1])
    return ys @ last


def reversed_steps(A: Any, x: Any) -> Any:
    last, ys = A.scan(turn, x * x, np.concatenate([x, x]), reverse=True)
    return ys @ last


def checkpoints(A: Any, x: Any) -> Any:
    return A.scan(lambda h, _: (np.sin(W @ h) + x * h, None), x, length=7, checkpoint=2)[0]


def counter(A: Any, x: Any) -> Any:
    return A.fori_loop(0, 3, lambda i, h: np.sin(h * x[i]) + i * x, x)


def counted(A: Any, x: Any) -> Any:
    return A.fori_loop(0, np.sum(x > 0), lambda i, h: np.cos(h) * x + h, x, max_steps=4)


def written(A: Any, x: Any) -> Any:
    def body(i: Any, table: Any) -> Any:
        table[i] = np.sin(table[i - 1]) * x[i] + table[i]
        return table

    return A.fori_loop(1, 3, body, x * x)


def search(A: Any, x: Any) -> Any:
    def body(carry: Any) -> Any:
        h, n = carry
        return h * 1.3 + np.sin(h) * x, n + 1

    return A.while_loop(lambda carry: np.sum(carry[0] ** 2) < 9.0, body, (x, 0), max_steps=8)[0]


def free_search(A: Any, x: Any) -> Any:
    return A.while_loop(lambda h: np.sum(h**2) < 9.0, lambda h: h * 1.3 + np.sin(h) * x, x)


def free_counter(A: Any, x: Any) -> Any:
    return A.fori_loop(0, 3 + np.sum(x > 0), lambda i, h: np.sin(h * x) + 0.1 * i, x, checkpoint=3)


def in_a_row(A: Any, x: Any) -> Any:
    """Long enough that it is rolled up."""
    h = x
    for i in range(16):
        h = 0.5 * np.tanh(W @ h) + x[i % 3] * np.cos(h) * 0.5
    return h


def branch(A: Any, x: Any) -> Any:
    return A.cond(np.sum(x) > 0, lambda x: np.sin(x) * x, lambda x: x**3, x) * A.cond(x[0] > 1, np.exp, np.cos, x)


def branches(A: Any, x: Any) -> Any:
    return A.switch(np.sum(x > 0), [np.exp, np.sin, lambda x: x * x[0] ** 2, np.cos], x)


def mapped(A: Any, x: Any) -> Any:
    return A.map(lambda e: np.sin(e * x) * e, x)


def again(A: Any, x: Any) -> Any:
    return A.checkpoint(layer)(A.checkpoint(layer)(x, x), x)


def rule_forward(A: Any, x: Any) -> Any:
    def rule(primals: Any, tangents: Any) -> Any:
        (x,), (dx,) = primals, tangents
        return np.exp(x) * x[0], np.exp(x) * (dx * x[0] + dx[0])

    return A.custom_rule(lambda x: np.exp(x) * x[0], jvp=rule)(np.sin(x))


def rule_reverse(A: Any, x: Any) -> Any:
    def rule(x: Any, y: Any) -> Any:
        s = np.sin(x)
        return s * y, lambda g: (g * y * np.cos(x), g * s)

    return A.custom_rule(lambda x, y: np.sin(x) * y, vjp=rule)(x, x * x)


def equation(A: Any, x: Any) -> Any:
    return A.root(lambda y, x: y + 0.3 * np.sin(W @ y) - x, np.zeros(3), x)


def iteration(A: Any, x: Any) -> Any:
    return A.fixed_point(lambda y, x: 0.4 * np.cos(y * x) + x, np.zeros(3), x)


def minimum(A: Any, x: Any) -> Any:
    return A.minimize(
        lambda y, x: np.sum(np.cosh(y - np.sin(x)) + 0.1 * y * x), np.zeros(3), x, max_steps=2, history=1
    ).x


def rows(A: Any, x: Any) -> Any:
    return A.vmap(lambda w, e: np.sin(w @ x) * e)(W, x)


def chunks(A: Any, x: Any) -> Any:
    return A.vmap(lambda w, e: np.tanh(w * x) * e, in_axes=(1, None), out_axes=-1, chunk=2)(W, x)


def batches_of_batches(A: Any, x: Any) -> Any:
    inner = A.vmap(lambda a, b: np.sin(a * b) + a, in_axes=(None, 0))
    return A.vmap(inner, in_axes=(0, None))(x, x * x)


def formula(A: Any, x: Any) -> Any:
    return A.from_sympy([S, T], sympy.Piecewise((sympy.sin(S * T), S < T), (S**2 * T, True)))(x, x[::-1] + 0.1)


def ready(A: Any, x: Any) -> Any:
    return A.jit(lambda x: np.sin(x) * x)(x) * A.jit(layer)(x, x)


def pythons_own(A: Any, x: Any) -> Any:
    return A.jit(_pythons_own, control_flow=True)(x)


def _pythons_own(x: Any) -> Any:
    total = x * 0.5
    for e in x:
        if e < 0:
            continue
        total = np.sin(total) + e * x
    return total if total[0] > 0 else total * x


def gradient(A: Any, x: Any) -> Any:
    return A.grad(lambda y: np.sum(np.sin(y * x) * y[0]))(x * x)


def value_and_gradient(A: Any, x: Any) -> Any:
    value, slope = A.value_and_grad(lambda y: np.sum(np.sin(y * x) * y[0]))(x * x)
    return value * slope


def tangent(A: Any, x: Any) -> Any:
    return A.jvp(lambda y: np.sin(y * x) * y[0], (x,), (x[::-1],))[1]


def pullback(A: Any, x: Any) -> Any:
    value, back = A.vjp(lambda y: np.sin(y * x) * y[0], x)
    return value * back(x)[0]


def linearized(A: Any, x: Any) -> Any:
    value, push = A.linearize(lambda y: np.exp(y * x) * y[0], x)
    return push(np.cos(value)) + push(x)


def columns(A: Any, x: Any) -> Any:
    return A.jacfwd(lambda y: np.sin(W @ y * x))(x)


def jacobian_rows(A: Any, x: Any) -> Any:
    return A.jacrev(lambda y: np.sin(W @ y * x))(x)


def by_shapes(A: Any, x: Any) -> Any:
    return A.jacobian(lambda y: np.sin(W @ y * x)[:2])(x)


def curvature(A: Any, x: Any) -> Any:
    return A.hessian(lambda y: np.sum(np.sin(W @ y) * x * y))(x)


def curvature_along(A: Any, x: Any) -> Any:
    return A.hvp(lambda y: np.sum(np.sin(W @ y) * x * y))(x, x * x)


def tree(A: Any, x: Any) -> Any:
    """Leaves in the order of their keys, and one without dimensions."""
    vector, unravel = A.ravel({"b": np.outer(x, x), "a": x[0]})
    made = unravel(np.sin(vector))
    return made["b"] @ x * made["a"]


def slopes(A: Any, x: Any) -> Any:
    return A.elementwise_grad(lambda y: np.sin(y * x) * y)(x + 0.5)


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "scan": steps, "scan in reverse": reversed_steps, "scan with checkpoints": checkpoints, "fori_loop": counter,
    "fori_loop between traced bounds": counted, "fori_loop in place": written, "while_loop": search,
    "while_loop without a bound": free_search, "fori_loop without a bound": free_counter, "unrolled": in_a_row,
    "cond": branch, "switch": branches, "map": mapped, "checkpoint": again, "custom_rule by jvp": rule_forward,
    "custom_rule by vjp": rule_reverse, "root": equation, "fixed_point": iteration, "minimize": minimum,
    "vmap": rows,
    "vmap in chunks": chunks, "vmap of vmap": batches_of_batches, "from_sympy": formula, "jit": ready,
    "control_flow=True": pythons_own, "grad": gradient, "value_and_grad": value_and_gradient, "jvp": tangent,
    "vjp": pullback, "linearize": linearized, "jacfwd": columns, "jacrev": jacobian_rows, "jacobian": by_shapes,
    "hessian": curvature, "hvp": curvature_along, "elementwise_grad": slopes, "ravel": tree,
}  # fmt: skip
