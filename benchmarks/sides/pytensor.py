"""PyTensor: one compiled function whose updates of shared variables are the step."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from benchmarks.problem import Problem
from benchmarks.sides import Side
from benchmarks.workloads import lower_triangle, mixture_constant

Tree = Any


def mse_loss(p: Tree, x: Any, y: Any) -> Any:
    h = relu(x @ p["w1"] + p["b1"])
    return pt.mean((h @ p["w2"] + p["b2"] - y) ** 2)


def cross_entropy(logits: Any, labels: Any) -> Any:
    log_p = pt.special.log_softmax(logits, axis=1)
    return -pt.mean(log_p[pt.arange(labels.shape[0]), labels])


def relu(z: Any) -> Any:
    """Its derivative at 0 is 0."""
    return pt.switch(z > 0, z, np.float32(0))


def layers(p: Tree, x: Any, labels: Any) -> Any:
    depth = len(p) // 2
    h = x
    for i in range(1, depth):
        h = relu(h @ p[f"w{i}"] + p[f"b{i}"])
    return cross_entropy(h @ p[f"w{depth}"] + p[f"b{depth}"], labels)


def softmax_loss(p: Tree, x: Any, labels: Any) -> Any:
    return cross_entropy(x @ p["w"] + p["b"], labels)


def logistic_loss(p: Tree, x: Any, y: Any) -> Any:
    z = x @ p["w"] + p["b"]
    return pt.mean(pt.softplus(z) - y * z)


def burgers_loss(p: Tree, t: Any, x: Any) -> Any:
    h = pt.stack([t, x], axis=1)
    for i in (1, 2, 3):
        h = pt.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
    u = (h @ p["w4"] + p["b4"])[:, 0]
    u_t, u_x = pt.grad(u.sum(), [t, x])
    u_xx = pt.grad(u_x.sum(), x)
    residual = u_t + u * u_x - np.float32(0.01 / math.pi) * u_xx
    return pt.mean(residual**2)


def deep_loss(p: Tree, x: Any, y: Any) -> Any:
    h = x
    for layer in p["layers"]:
        h = h + pt.tanh(h @ layer["w"] + layer["b"])
    # As vectors: PyTensor 3.0.7 fails to compile the gradient of a product with one column here.
    return pt.mean((h @ p["out"][:, 0] - y[:, 0]) ** 2)


def prices(p: Tree) -> Any:
    s, k, t, r, v = (p[name] for name in "sktrv")
    root = v * pt.sqrt(t)
    d1 = (pt.log(s / k) + (r + v * v / 2) * t) / root
    d2 = d1 - root

    def cdf(z: Any) -> Any:
        return 0.5 * (1 + pt.erf(z * math.sqrt(0.5)))

    return pt.sum(s * cdf(d1) - k * pt.exp(-r * t) * cdf(d2))


def mixture(p: Tree, x: Any) -> Any:
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    (n, d), k = x.type.shape, means.type.shape[0]
    logs = icf[:, :d]
    diagonal = pt.exp(logs)
    rows, columns = lower_triangle(d)
    factor = pt.set_subtensor(pt.zeros((k, d, d))[:, rows, columns], icf[:, d:]) + diagonal[:, :, None] * np.eye(d)
    q = factor @ (x.T[None] - means[:, :, None])
    inner = alphas + logs.sum(axis=1) - 0.5 * (q * q).sum(axis=1).T
    likelihood = pt.logsumexp(inner, axis=1).sum() - n * pt.logsumexp(alphas)
    return likelihood + 0.5 * ((diagonal**2).sum() + (icf[:, d:] ** 2).sum()) + mixture_constant(d, k, n)


LOSSES = {
    "xor": mse_loss,
    "mlp_small": layers,
    "mlp": layers,
    "mlp_wide": layers,
    "logreg": logistic_loss,
    "pinn": burgers_loss,
    "softmax_regression": softmax_loss,
    "deep": deep_loss,
    "elementwise": prices,
    "gmm": mixture,
}


def shared(tree: Tree) -> Tree:
    """A tree of shared variables of fixed shapes."""
    if isinstance(tree, dict):
        return {name: shared(leaf) for name, leaf in tree.items()}
    if isinstance(tree, list):
        return [shared(leaf) for leaf in tree]
    return pytensor.shared(np.array(tree), shape=tree.shape)


def leaves(tree: Tree) -> list[Any]:
    """The variables of a tree."""
    if isinstance(tree, dict | list):
        return [leaf for part in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(part)]
    return [tree]


def updates_of(name: str, rate: float, params: list[Any], gradients: list[Any]) -> list[tuple[Any, Any]]:
    """The optimiser as updates of shared variables."""
    if name == "sgd":
        return [(p, p - np.float32(rate) * g) for p, g in zip(params, gradients, strict=True)]
    updates = []
    if name == "momentum":
        for p, g in zip(params, gradients, strict=True):
            kept = pytensor.shared(np.zeros_like(p.get_value()), shape=p.type.shape)
            v = np.float32(0.9) * kept + g
            updates += [(kept, v), (p, p - np.float32(rate) * v)]
        return updates
    count = pytensor.shared(np.float64(0))
    t = count + 1
    scale = (rate / (1 - 0.9**t)).astype("float32")
    spread = (1 / pt.sqrt(1 - 0.999**t)).astype("float32")
    updates.append((count, t))
    for p, g in zip(params, gradients, strict=True):
        first, second = (pytensor.shared(np.zeros_like(p.get_value()), shape=p.type.shape) for _ in "mv")
        m = np.float32(0.9) * first + np.float32(0.1) * g
        v = np.float32(0.999) * second + np.float32(0.001) * g * g
        change = scale * m / (pt.sqrt(v) * spread + np.float32(1e-8))
        if name == "adamw":
            change = change + np.float32(rate * 1e-2) * p
        updates += [(first, m), (second, v), (p, p - change)]
    return updates


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    params = shared(problem.params)
    if name == "add8":
        a, b = pt.dvector(), pt.dvector()
        add = pytensor.function([a, b], a + b, trust_input=True)
        return Side(lambda: add(problem.params["a"], problem.params["b"]))
    if name not in LOSSES:
        return None
    data = [pytensor.shared(array, borrow=True, shape=array.shape) for array in problem.data.values()]
    parameters = leaves(params)
    if not problem.optimizer:
        value = LOSSES[name](params, *data)
        evaluate = pytensor.function([], [value, *pt.grad(value, parameters)], trust_input=True)

        def evaluated() -> tuple[Any, Tree]:
            value, *gradients = evaluate()
            return value, dict(zip(params, gradients, strict=True))

        return Side(evaluated)
    batches, rows = problem.batches, problem.rows
    begin = pt.lscalar()
    batch = data if batches == 1 else [array[begin : begin + rows] for array in data]
    value = LOSSES[name](params, *batch)
    updates = updates_of(problem.optimizer, problem.hyper["learning_rate"], parameters, pt.grad(value, parameters))
    inputs = [] if batches == 1 else [begin]
    step = pytensor.function(inputs, value, updates=updates, trust_input=True)
    if batches == 1:
        return Side(step)
    begins = itertools.cycle([np.array(i * rows) for i in range(batches)])
    return Side(lambda: step(next(begins)))
