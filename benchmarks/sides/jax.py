"""JAX: one jitted step with donated state; the loop is a `lax.scan` over steps in one call."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import erf, logsumexp

from benchmarks.attended import ATTENDED, classified_rows
from benchmarks.calls import KINDS, Call, Six
from benchmarks.convolved import CONVOLVED
from benchmarks.factored import FACTORED, SORTED
from benchmarks.looped import LOOPED
from benchmarks.problem import Problem
from benchmarks.programs import PROGRAMS
from benchmarks.sides import Side
from benchmarks.swept import RATES
from benchmarks.transformed import (
    UNKNOWNS,
    arguments_of,
    classifier,
    compressed_tridiagonal,
    residual,
    rosenbrock,
)
from benchmarks.workloads import lower_triangle, mixture_constant

Tree = Any
jax.tree_util.register_dataclass(Six, [one.name for one in fields(Six)], [])


def mse_loss(p: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return jnp.mean((h @ p["w2"] + p["b2"] - y) ** 2)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], axis=1))


def two_layers(p: Tree, x: jax.Array, labels: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return cross_entropy(h @ p["w2"] + p["b2"], labels)


def three_layers(p: Tree, x: jax.Array, labels: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jax.nn.relu(h @ p["w2"] + p["b2"])
    return cross_entropy(h @ p["w3"] + p["b3"], labels)


def softmax_loss(p: Tree, x: jax.Array, labels: jax.Array) -> jax.Array:
    return cross_entropy(x @ p["w"] + p["b"], labels)


def logistic_loss(p: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
    z = x @ p["w"] + p["b"]
    return jnp.mean(jax.nn.softplus(z) - y * z)


def burgers_loss(p: Tree, t: jax.Array, x: jax.Array) -> jax.Array:
    def u(t: jax.Array, x: jax.Array) -> jax.Array:
        h = jnp.stack([t, x], axis=1)
        for i in (1, 2, 3):
            h = jnp.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
        return (h @ p["w4"] + p["b4"])[:, 0]

    # Forward over forward inside, reverse outside: the order that costs least here.
    one, zero = jnp.ones_like(t), jnp.zeros_like(t)

    def along_x(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(lambda x: u(t, x), (x,), (one,))

    (value, u_x), (_, u_xx) = jax.jvp(along_x, (x,), (one,))
    _, u_t = jax.jvp(u, (t, x), (one, zero))
    residual = u_t + value * u_x - (0.01 / jnp.pi) * u_xx
    return jnp.mean(residual**2)


def deep_loss(p: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
    h = x
    for layer in p["layers"]:
        h = h + jnp.tanh(h @ layer["w"] + layer["b"])
    return jnp.mean((h @ p["out"] - y) ** 2)


def prices(p: Tree) -> jax.Array:
    s, k, t, r, v = (p[name] for name in "sktrv")
    root = v * jnp.sqrt(t)
    d1 = (jnp.log(s / k) + (r + v * v / 2) * t) / root
    d2 = d1 - root

    def cdf(z: jax.Array) -> jax.Array:
        return 0.5 * (1 + erf(z * jnp.sqrt(0.5)))

    return jnp.sum(s * cdf(d1) - k * jnp.exp(-r * t) * cdf(d2))


def mixture(p: Tree, x: jax.Array) -> jax.Array:
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    (n, d), k = x.shape, means.shape[0]
    logs = icf[:, :d]
    diagonal = jnp.exp(logs)
    rows, columns = lower_triangle(d)
    factor = jax.vmap(jnp.diag)(diagonal).at[:, rows, columns].set(icf[:, d:])
    # Component first, points last: batches of products as XLA has them.
    q = factor @ (x.T[None] - means[:, :, None])
    inner = alphas + jnp.sum(logs, axis=1) - 0.5 * jnp.sum(q * q, axis=1).T
    likelihood = jnp.sum(logsumexp(inner, axis=1)) - n * logsumexp(alphas)
    return likelihood + 0.5 * (jnp.sum(diagonal**2) + jnp.sum(icf[:, d:] ** 2)) + mixture_constant(d, k, n)


class Operations:
    """Channels last, which XLA's convolutions on a CPU take as they are."""

    tanh, relu, cross_entropy = staticmethod(jnp.tanh), staticmethod(jax.nn.relu), staticmethod(cross_entropy)

    relu6, dense = staticmethod(jax.nn.relu6), staticmethod(lambda x, w, b: x @ w + b)
    gelu = staticmethod(functools.partial(jax.nn.gelu, approximate=False))

    def looked_up(self, table: jax.Array, ids: jax.Array) -> jax.Array:
        return table[ids]

    def layer_norm(self, x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift

    def attention(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k)
        seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
        return jnp.einsum("bhqk,bhkd->bhqd", weights, v)

    def self_attention(self, joined: jax.Array, heads: int) -> jax.Array:
        batch, time, _ = joined.shape
        q, k, v = joined.reshape(batch, time, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        return self.attention(q, k, v).swapaxes(1, 2).reshape(batch, time, -1)

    def token_cross_entropy(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))

    def conv(self, x: jax.Array, w: jax.Array, stride: int = 1, padding: int = 0, groups: int = 1) -> jax.Array:
        return lax.conv_general_dilated(
            x, w, (stride, stride), ((padding, padding),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def max_pool(self, x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def mean(self, x: jax.Array) -> jax.Array:
        return x.mean((1, 2))

    def rows(self, x: jax.Array) -> jax.Array:
        return x.reshape(len(x), -1)

    def normalized(self, x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift

    def shifted(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        return x + bias


def writes(np: Any, x: jax.Array) -> jax.Array:
    y = np.zeros(160)
    for i in range(1, 160):
        y = y.at[i].set(x[i] + 0.5 * y[i - 1])
    return np.sum(y * y)


LOSSES = {
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
    **{name: make(jnp, lax.scan) for name, make in LOOPED.items()},
    **{name: make(jnp) for name, make in FACTORED.items()},
    **{name: functools.partial(loss, Operations()) for name, loss in (CONVOLVED | ATTENDED).items()},
}


def hessian_times_vector(p: Tree, v: Tree, x: jax.Array, labels: jax.Array) -> Tree:
    gradient = jax.grad(lambda p: classifier(jnp)(p, x, labels))
    return jax.jvp(gradient, (p,), (v,))[1]


def tridiagonal(u: jax.Array) -> Tree:
    seeds, places = compressed_tridiagonal(UNKNOWNS)
    _, along = jax.linearize(residual(jnp), u)
    return {"entries": jax.vmap(along)(jnp.asarray(seeds)).reshape(-1)[jnp.asarray(places)]}


TRANSFORMED = {
    "vmap_grad": jax.vmap(jax.grad(classifier(jnp)), in_axes=(None, 0, 0)),
    "hvp": hessian_times_vector,
    "tridiagonal": tridiagonal,
    "hessian": lambda x: {"x": jax.hessian(rosenbrock(jnp))(x)},
}
WRITTEN = {"writes_160": writes}
"""Programs that are not NumPy's text here: arrays are not written into."""


def start(optimizer: str, params: Tree) -> Tree:
    """The moments at the start."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    if optimizer == "sgd":
        return ()
    return zeros(params) if optimizer == "momentum" else (zeros(params), zeros(params), jnp.zeros((), jnp.int32))


def updated(optimizer: str, rate: Any, params: Tree, kept: Tree, gradients: Tree) -> tuple[Tree, Tree]:
    """New parameters and moments."""
    if optimizer == "sgd":
        return jax.tree.map(lambda p, g: p - rate * g, params, gradients), kept
    if optimizer == "momentum":
        kept = jax.tree.map(lambda v, g: 0.9 * v + g, kept, gradients)
        return jax.tree.map(lambda p, v: p - rate * v, params, kept), kept
    m, v, t = kept
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    scale = rate / (1 - 0.9**t)
    spread = lax.rsqrt(1 - 0.999**t)
    decay = rate * 1e-2 if optimizer == "adamw" else 0.0

    def update(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - (scale * m / (jnp.sqrt(v) * spread + 1e-8) + decay * p)

    return jax.tree.map(update, params, m, v), (m, v, t)


def held(leaf: Any) -> Any:
    """An argument as JAX's users hold it: an array of JAX's, unless it is another thing or has a layout of its own."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) and leaf.flags.c_contiguous else leaf


def called(call: Call) -> Side:
    """A kind of call."""
    if call.argnums is None:
        function = jax.jit(call.of(jnp), static_argnames=call.static)
    else:
        function = jax.jit(jax.value_and_grad(call.of(jnp), call.argnums))
    if call.fresh:
        x = call.arguments["x"]

        def evaluated() -> tuple[float, np.ndarray]:
            value, gradient = function(x.copy())
            return float(value), np.asarray(gradient)

        return Side(evaluated)
    positional, named = call.given(jax.tree.map(held, dict(call.arguments)))
    return Side(lambda: jax.block_until_ready(function(*positional, **named)))


def stepped(problem: Problem) -> Side:
    """A step that takes its batch as a dict."""
    rate, optimizer = problem.hyper["learning_rate"], problem.optimizer

    def one(state: Tree, batch: Tree) -> tuple[Tree, jax.Array]:
        params, kept = state
        value, gradients = jax.value_and_grad(mse_loss)(params, batch["x"], batch["y"])
        return updated(optimizer, rate, params, kept, gradients), value

    step = jax.jit(one, donate_argnums=0)
    params = jax.tree.map(jnp.array, problem.params)
    state, batch = (params, start(optimizer, params)), jax.tree.map(jnp.asarray, problem.data)

    def once() -> jax.Array:
        nonlocal state
        state, value = step(state, batch)
        return value.block_until_ready()

    return Side(once)


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    jax.config.update("jax_enable_x64", problem.double)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    params = jax.tree.map(jnp.array, problem.params)
    data = tuple(jnp.asarray(array) for array in problem.data.values())
    if name in SORTED:
        ordered = jax.jit(SORTED[name](jnp))
        return Side(lambda: jax.block_until_ready(ordered(params)))
    if name in KINDS:
        return called(KINDS[name])
    if name in PROGRAMS:
        program = jax.jit(jax.value_and_grad(functools.partial(WRITTEN.get(name, PROGRAMS[name].function), jnp)))
        return Side(lambda: jax.block_until_ready(program(params)))
    if name == "batch_step":
        return stepped(problem)
    if name in TRANSFORMED:
        derivative, arguments = jax.jit(TRANSFORMED[name]), (*arguments_of(params), *data)
        return Side(lambda: jax.block_until_ready(derivative(*arguments)))
    if name == "sweep":
        return swept(problem, params, data)
    if not problem.optimizer:
        function = jax.jit(jax.value_and_grad(LOSSES[name]))
        return Side(lambda: jax.block_until_ready(function(params, *data)))
    return trained(LOSSES[name], problem, params, data)


def updated_rows(rate: float, params: Tree, ids: jax.Array, labels: jax.Array) -> tuple[Tree, jax.Array]:
    """A step of `embedding` that writes into the rows which it has read: a gradient of the table is never made."""

    def loss(rows: jax.Array, rest: Tree) -> jax.Array:
        return classified_rows(Operations(), rest, rows, labels)

    rest = {name: leaf for name, leaf in params.items() if name != "table"}
    value, (by_rows, by_rest) = jax.value_and_grad(loss, (0, 1))(params["table"][ids], rest)
    rest, _ = updated("sgd", rate, rest, (), by_rest)
    return {**rest, "table": params["table"].at[ids].add(-rate * by_rows)}, value


def trained(loss: Any, problem: Problem, params: Tree, data: tuple[jax.Array, ...]) -> Side:
    """A side that trains: state lives here and is donated to each call."""
    rate, batches, rows = problem.hyper["learning_rate"], problem.batches, problem.rows

    def one(state: Tree, at: Any, data: tuple[jax.Array, ...]) -> tuple[Tree, jax.Array]:
        if batches > 1:
            data = tuple(lax.dynamic_slice_in_dim(array, at * rows, rows) for array in data)
        params, kept = state
        if loss is LOSSES["embedding"]:
            params, value = updated_rows(rate, params, *data)
            return (params, kept), value
        value, gradients = jax.value_and_grad(loss)(params, *data)
        return updated(problem.optimizer, rate, params, kept, gradients), value

    def many(state: Tree, data: tuple[jax.Array, ...], count: int) -> tuple[Tree, jax.Array]:
        # None where there is one batch: an index that nobody reads costs a little.
        order = jnp.arange(count) % batches if batches > 1 else None
        state, losses = lax.scan(lambda state, at: one(state, at, data), state, order, length=count)
        return state, losses[-1]

    step = jax.jit(one, donate_argnums=0)
    run = jax.jit(many, donate_argnums=0, static_argnums=2)
    held = [(params, start(problem.optimizer, params))]
    count = [0]

    def once() -> jax.Array:
        at = None
        if batches > 1:
            at = count[0] % batches
            count[0] += 1
        held[0], value = step(held[0], at, data)
        return value

    def loop(steps: int) -> jax.Array:
        held[0], value = run(held[0], data, steps)
        return value

    return Side(once, loop)


def swept(problem: Problem, params: Tree, data: tuple[jax.Array, ...]) -> Side:
    """A step of many models: the step of one, mapped over parameters, moments and rates. The count is one for all."""

    def one(params: Tree, kept: Tree, rate: jax.Array, *batch: jax.Array) -> tuple[Tree, Tree, jax.Array]:
        value, gradients = jax.value_and_grad(two_layers)(params, *batch)
        return *updated(problem.optimizer, rate, params, kept, gradients), value

    moments = (0, 0, None)
    each = jax.vmap(one, in_axes=(0, moments, 0, None, None), out_axes=(0, moments, 0))
    rates = jnp.asarray(RATES, jnp.float32)

    def many(state: Tree, rates: jax.Array, data: tuple[jax.Array, ...], count: int) -> tuple[Tree, jax.Array]:
        def turn(state: Tree, _: None) -> tuple[Tree, jax.Array]:
            *state, values = each(*state, rates, *data)
            return tuple(state), values

        state, values = lax.scan(turn, state, None, length=count)
        return state, values[-1]

    step = jax.jit(each, donate_argnums=(0, 1))
    run = jax.jit(many, donate_argnums=0, static_argnums=3)
    held = [(params, start(problem.optimizer, params))]

    def once() -> jax.Array:
        *state, values = step(*held[0], rates, *data)
        held[0] = tuple(state)
        return values

    def loop(steps: int) -> jax.Array:
        held[0], values = run(held[0], rates, data, steps)
        return values

    return Side(once, loop)
