"""adjit, as its users write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import adjit
from adjit import nn, optim
from adjit.trace import apply
from benchmarks.attended import ATTENDED, SPARSE_ROWS
from benchmarks.calls import KINDS, Call
from benchmarks.convolved import CONVOLVED
from benchmarks.factored import FACTORED, SORTED
from benchmarks.looped import LOOPED
from benchmarks.problem import Problem
from benchmarks.programs import PROGRAMS
from benchmarks.sides import Side
from benchmarks.swept import RATES
from benchmarks.transformed import arguments_of, classifier, residual, rosenbrock
from benchmarks.workloads import lower_triangle, mixture_constant


def erf(x: Any) -> Any:
    return apply("erf", x)


def mse_loss(p: Any, x: Any, y: Any) -> Any:
    h = nn.relu(x @ p["w1"] + p["b1"])
    return np.mean((h @ p["w2"] + p["b2"] - y) ** 2)


def two_layers(p: Any, x: Any, labels: Any) -> Any:
    h = nn.relu(x @ p["w1"] + p["b1"])
    return nn.cross_entropy(h @ p["w2"] + p["b2"], labels)


def three_layers(p: Any, x: Any, labels: Any) -> Any:
    h = nn.relu(x @ p["w1"] + p["b1"])
    h = nn.relu(h @ p["w2"] + p["b2"])
    return nn.cross_entropy(h @ p["w3"] + p["b3"], labels)


def softmax_loss(p: Any, x: Any, labels: Any) -> Any:
    return nn.cross_entropy(x @ p["w"] + p["b"], labels)


def logistic_loss(p: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(x @ p["w"] + p["b"], y)


def prices(p: Any) -> Any:
    s, k, t, r, v = (p[name] for name in "sktrv")
    root = v * np.sqrt(t)
    d1 = (np.log(s / k) + (r + v * v / 2) * t) / root
    d2 = d1 - root

    def cdf(z: Any) -> Any:
        return 0.5 * (1 + erf(z * np.sqrt(0.5)))

    return np.sum(s * cdf(d1) - k * np.exp(-r * t) * cdf(d2))


def burgers_loss(p: Any, t: Any, x: Any) -> Any:
    def u(t: Any, x: Any) -> Any:
        h = np.stack([t, x], axis=1)
        for i in (1, 2, 3):
            h = np.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
        return (h @ p["w4"] + p["b4"])[:, 0]

    def total(t: Any, x: Any) -> Any:
        return np.sum(u(t, x))

    u_t, u_x = adjit.grad(total, argnums=(0, 1))(t, x)
    u_xx = adjit.grad(lambda x: np.sum(adjit.grad(total, argnums=1)(t, x)))(x)
    residual = u_t + u(t, x) * u_x - (0.01 / np.pi) * u_xx
    return np.mean(residual**2)


def mixture(p: Any, x: Any) -> Any:
    """ADBench's objective: the log-likelihood of a Gaussian mixture and the logarithm of a Wishart prior."""
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    d, k, n = x.shape[1], means.shape[0], x.shape[0]
    logs = icf[:, :d]
    diagonal = np.exp(logs)
    place = np.zeros((d, d), np.int64)
    place[lower_triangle(d)] = np.arange(d * (d - 1) // 2)
    factor = icf[:, d:][:, place.reshape(-1)].reshape(k, d, d) * np.tri(d, k=-1) + diagonal[:, :, None] * np.eye(d)
    q = factor @ (x.T[None] - means[:, :, None])
    inner = alphas + np.sum(logs, axis=1) - 0.5 * np.sum(q * q, axis=1).T
    likelihood = np.sum(nn.logsumexp(inner, axis=1)) - n * nn.logsumexp(alphas)
    prior = 0.5 * (np.sum(diagonal**2) + np.sum(icf[:, d:] ** 2))
    return likelihood + prior + mixture_constant(d, k, n)


def deep_loss(p: Any, x: Any, y: Any) -> Any:
    h = x
    for layer in p["layers"]:
        h = h + np.tanh(h @ layer["w"] + layer["b"])
    return np.mean((h @ p["out"] - y) ** 2)


class Operations:
    """Channels last, as the data are."""

    tanh, relu, cross_entropy = staticmethod(np.tanh), staticmethod(nn.relu), staticmethod(nn.cross_entropy)
    layer_norm, gelu = staticmethod(nn.layer_norm), staticmethod(nn.gelu)
    token_cross_entropy = staticmethod(nn.cross_entropy)

    def looked_up(self, table: Any, ids: Any) -> Any:
        return nn.embedding(table, ids, sparse=len(table) >= SPARSE_ROWS)

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        return x @ w + b

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        return nn.attention(q, k, v, causal=True)

    def self_attention(self, joined: Any, heads: int) -> Any:
        batch, time, _ = joined.shape
        q, k, v = np.transpose(joined.reshape(batch, time, 3, heads, -1), (2, 0, 3, 1, 4))
        return np.swapaxes(nn.attention(q, k, v, causal=True), 1, 2).reshape(batch, time, -1)

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return nn.conv(x, w, stride, padding, groups=groups, layout="NHWC")

    def relu6(self, x: Any) -> Any:
        return np.where(x >= 6, 6.0, nn.relu(x))

    def max_pool(self, x: Any) -> Any:
        return nn.max_pool(x, 2, layout="NHWC")

    def mean(self, x: Any) -> Any:
        return nn.global_avg_pool(x, "NHWC")

    def rows(self, x: Any) -> Any:
        return x.reshape(len(x), -1)

    def normalized(self, x: Any, scale: Any, shift: Any) -> Any:
        mean = np.mean(x, axis=(0, 1, 2))
        variance = np.var(x, axis=(0, 1, 2))
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def shifted(self, x: Any, bias: Any) -> Any:
        return x + bias


def batch_loss(p: Any, batch: Any) -> Any:
    return mse_loss(p, batch["x"], batch["y"])


LOSSES: dict[str, Any] = {
    "xor": mse_loss,
    "mlp_small": two_layers,
    "mlp": three_layers,
    "mlp_wide": three_layers,
    "logreg": logistic_loss,
    "pinn": burgers_loss,
    "softmax_regression": softmax_loss,
    "deep": deep_loss,
    "elementwise": prices,
    "gmm": mixture,
    "adam_step": mse_loss,
    "batch_step": batch_loss,
    **{name: make(np, adjit.scan) for name, make in LOOPED.items()},
    **{name: make(np) for name, make in FACTORED.items()},
    **{name: partial(loss, Operations()) for name, loss in (CONVOLVED | ATTENDED).items()},
}
TRANSFORMED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "vmap_grad": (lambda: adjit.jit(adjit.vmap(adjit.grad(classifier(np)), in_axes=(None, 0, 0))), dict),
    "hvp": (lambda: adjit.hvp(classifier(np)), dict),
    "hvp_gradient": (lambda: adjit.grad(classifier(np)), dict),
    "tridiagonal": (lambda: adjit.sparse_jacobian(residual(np)), lambda matrix: {"entries": matrix.data}),
    "tridiagonal_value": (lambda: adjit.jit(residual(np)), lambda value: {"value": value}),
    "hessian": (lambda: adjit.hessian(rosenbrock(np)), lambda matrix: {"x": matrix}),
    "hessian_gradient": (lambda: adjit.grad(rosenbrock(np)), lambda gradient: {"x": gradient}),
}
"""What makes the derivative's function, and what gives its arrays names."""

OPTIMIZERS: dict[str, Any] = {
    "adam": optim.adam,
    "adamw": lambda rate: optim.adamw(rate, weight_decay=1e-2),
    "momentum": lambda rate: optim.sgd(rate, momentum=0.9),
    "sgd": optim.sgd,
}


def arena_bytes(function: Any) -> int:
    """Scratch memory of all programs of a function."""
    return sum(compiled.loaded.program.arena_bytes for compiled in function._compiled.values())


def nodes(function: Any) -> tuple[int, int]:
    """Of the graph as it was traced and of the one with its gradients."""
    return len(function.ir("trace").nodes), len(function.ir("adjoint").nodes)


def called(call: Call) -> Side:
    """A kind of call."""
    if call.argnums is None:
        function = adjit.jit(call.of(np), static_argnames=call.static)
    else:
        function = adjit.value_and_grad(call.of(np), argnums=call.argnums)
    positional, named = call.given()
    if call.fresh:
        return Side(lambda: function(positional[0].copy()))
    return Side(partial(function, *positional, **named))


def derived(name: str, problem: Problem) -> Side:
    """A derivative of a function of all arrays, in their order; parameters alone are one argument."""
    make, named = TRANSFORMED[name]
    function, arguments = make(), (*arguments_of(problem.params), *problem.data.values())
    return Side(lambda: named(function(*arguments)), arena_bytes=lambda: arena_bytes(function))


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    data = tuple(problem.data.values())
    params = problem.params
    if name in TRANSFORMED:
        return derived(name, problem)
    if name in SORTED:
        ordered = adjit.jit(SORTED[name](np))
        return Side(lambda: ordered(params), arena_bytes=lambda: arena_bytes(ordered))
    if name in KINDS:
        return called(KINDS[name])
    if name in PROGRAMS:
        program = adjit.value_and_grad(PROGRAMS[name].of(np))
        return Side(lambda: program(params), nodes=lambda: nodes(program))
    if name.startswith("product_"):
        # What is contiguous the other way round is passed so, as an argument is never a view of another order.
        transposed = {key: not array.flags.c_contiguous for key, array in params.items()}
        given = {key: array.T if transposed[key] else array for key, array in params.items()}
        product = adjit.jit(lambda a, b: (a.T if transposed["a"] else a) @ (b.T if transposed["b"] else b))
        return Side(lambda: product(given["a"], given["b"]))
    if not problem.optimizer:
        function = adjit.value_and_grad(LOSSES[name])
        return Side(lambda: function(params, *data), arena_bytes=lambda: arena_bytes(function))
    if name == "sweep":
        one = adjit.training_step(two_layers, optim.adam(RATES))
        step: Any = adjit.vmap(one, in_axes=(0, None, None))
    else:
        step = adjit.training_step(LOSSES[name], OPTIMIZERS[problem.optimizer](problem.hyper["learning_rate"]))
    state = step.init(params)
    if name == "batch_step":
        return Side(lambda: step(state, problem.data))
    batches = problem.in_turn()

    def loop(count: int) -> Any:
        rows = problem.rows or len(data[0])
        epochs = count // problem.batches
        run = step.run(state, data, batch_size=rows, epochs=epochs, shuffle=False, drop_last=True)
        return run.losses[-1]

    def full() -> Any:
        return step(state, *data)

    def batch() -> Any:
        return step(state, *next(batches))

    return Side(full if problem.batches == 1 else batch, loop, lambda: arena_bytes(step), lambda: nodes(step))
