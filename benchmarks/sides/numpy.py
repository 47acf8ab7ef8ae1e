"""NumPy with gradients made by hand, updates in place. No `pinn`: nobody writes that adjoint by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.factored import FACTORED, SORTED
from benchmarks.problem import Arrays, Problem, leaves
from benchmarks.sides import Side
from benchmarks.workloads import lower_triangle, mixture_constant

Gradients = dict[str, Any]
LossAndGradients = Callable[..., tuple[Any, Gradients]]


def mse_network(p: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Any, Gradients]:
    h = x @ p["w1"]
    h += p["b1"]
    np.maximum(h, 0, out=h)
    error = h @ p["w2"]
    error += p["b2"]
    error -= y
    value = np.vdot(error, error) / error.size
    d = (2 / np.float32(error.size)) * error
    dh = d @ p["w2"].T
    dh *= h > 0
    return value, {"w1": x.T @ dh, "b1": dh.sum(axis=0), "w2": h.T @ d, "b2": d.sum(axis=0)}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[Any, np.ndarray]:
    """The mean loss and the gradient of the logits, which are overwritten."""
    rows = np.arange(len(labels))
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[rows, labels]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    value = np.mean(np.log(total[:, 0]) - chosen)
    logits /= total
    logits[rows, labels] -= 1
    logits /= len(labels)
    return value, logits


def classifier(p: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[Any, Gradients]:
    """ReLU layers w1, b1, w2, b2, ... and a cross-entropy."""
    depth = len(p) // 2
    hidden = [x]
    for i in range(1, depth):
        h = hidden[-1] @ p[f"w{i}"]
        h += p[f"b{i}"]
        hidden.append(np.maximum(h, 0, out=h))
    logits = hidden[-1] @ p[f"w{depth}"]
    logits += p[f"b{depth}"]
    value, d = cross_entropy(logits, labels)
    gradients: Gradients = {}
    for i in range(depth, 0, -1):
        gradients[f"w{i}"] = hidden[i - 1].T @ d
        gradients[f"b{i}"] = d.sum(axis=0)
        if i > 1:
            d = d @ p[f"w{i}"].T
            d *= hidden[i - 1] > 0
    return value, gradients


def softmax_regression(p: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[Any, Gradients]:
    logits = x @ p["w"]
    logits += p["b"]
    value, d = cross_entropy(logits, labels)
    return value, {"w": x.T @ d, "b": d.sum(axis=0)}


def logistic(p: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Any, Gradients]:
    z = x @ p["w"]
    z += p["b"]
    small = np.exp(-np.abs(z))
    value = np.mean(np.maximum(z, 0) - y * z + np.log1p(small))
    d = np.where(z >= 0, np.float32(1), small)
    d /= 1 + small
    d -= y
    d /= len(y)
    return value, {"w": d @ x, "b": d.sum()}


def deep(p: Any, x: np.ndarray, y: np.ndarray) -> tuple[Any, Gradients]:
    hidden, bent = [x], []
    for layer in p["layers"]:
        z = hidden[-1] @ layer["w"]
        z += layer["b"]
        bent.append(np.tanh(z, out=z))
        hidden.append(hidden[-1] + z)
    error = hidden[-1] @ p["out"]
    error -= y
    value = np.vdot(error, error) / error.size
    d = (2 / np.float32(error.size)) * error
    gradients: Gradients = {"out": hidden[-1].T @ d, "layers": []}
    d = d @ p["out"].T
    for layer, h, z in zip(reversed(p["layers"]), reversed(hidden[:-1]), reversed(bent), strict=True):
        inner = 1 - z * z
        inner *= d
        gradients["layers"].append({"w": h.T @ inner, "b": inner.sum(axis=0)})
        d += inner @ layer["w"].T
    gradients["layers"].reverse()
    return value, gradients


def prices(p: Arrays) -> tuple[Any, Gradients]:
    """Values of European calls and their sensitivities (delta, theta, rho, vega and the one to the strike)."""
    from scipy.special import ndtr

    s, k, t, r, v = (p[name] for name in "sktrv")
    sqrt_t = np.sqrt(t)
    root = v * sqrt_t
    d1 = (np.log(s / k) + (r + v * v / 2) * t) / root
    discounted = np.exp(-r * t)
    delta, other = ndtr(d1), ndtr(d1 - root)
    discounted *= other
    value = np.vdot(s, delta) - np.vdot(k, discounted)
    # s phi(d1) = k e^-rt phi(d2), so that d1 and d2 need no derivatives of their own.
    vega = np.exp(-0.5 * d1 * d1)
    vega *= s * sqrt_t / np.sqrt(2 * np.pi)
    bond = k * discounted
    return value, {
        "s": delta,
        "k": -discounted,
        "t": vega * v / (2 * t) + r * bond,
        "r": t * bond,
        "v": vega,
    }


def mixture(p: Arrays, x: np.ndarray) -> tuple[Any, Gradients]:
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    (n, d), k = x.shape, means.shape[0]
    logs = icf[:, :d]
    below = lower_triangle(d)
    # One triangular matrix with the exponentials on its diagonal for each component.
    factor = np.zeros((k, d, d))
    factor[:, below[0], below[1]] = icf[:, d:]
    diagonal = np.exp(logs)
    factor[:, range(d), range(d)] = diagonal
    # Points before coordinates: three times as fast with OpenBLAS as the other order.
    centred = x[None] - means[:, None]
    q = centred @ factor.transpose(0, 2, 1)
    inner = alphas + logs.sum(axis=1) - 0.5 * np.einsum("kni,kni->nk", q, q)
    top = inner.max(axis=1, keepdims=True)
    weights = np.exp(inner - top)
    total = weights.sum(axis=1, keepdims=True)
    weights /= total
    shifted = np.exp(alphas - alphas.max())
    value = np.sum(np.log(total) + top) - n * (np.log(shifted.sum()) + alphas.max())
    value += 0.5 * (np.sum(diagonal**2) + np.sum(icf[:, d:] ** 2)) + mixture_constant(d, k, n)
    share = weights.sum(axis=0)
    dq = weights.T[:, :, None] * q
    d_factor = -(dq.transpose(0, 2, 1) @ centred)
    d_icf = np.empty_like(icf)
    d_icf[:, :d] = d_factor[:, range(d), range(d)] * diagonal + share[:, None] + diagonal**2
    d_icf[:, d:] = d_factor[:, below[0], below[1]] + icf[:, d:]
    d_means = np.einsum("ki,kij->kj", dq.sum(axis=1), factor)
    return value, {"alphas": share - n * shifted / shifted.sum(), "means": d_means, "icf": d_icf}


BY_HAND: dict[str, LossAndGradients] = {
    "xor": mse_network,
    "mlp_small": classifier,
    "mlp": classifier,
    "mlp_wide": classifier,
    "logreg": logistic,
    "softmax_regression": softmax_regression,
    "deep": deep,
    "elementwise": prices,
    "gmm": mixture,
}


def copied(tree: Any) -> Any:
    """A tree with copies of its arrays."""
    if isinstance(tree, dict):
        return {name: copied(leaf) for name, leaf in tree.items()}
    return [copied(leaf) for leaf in tree] if isinstance(tree, list) else tree.copy()


def updater(name: str, rate: float, params: list[np.ndarray]) -> Callable[[list[np.ndarray]], None]:
    """The optimiser in place, with scratch memory of its own."""
    moments = [(np.zeros_like(p), np.zeros_like(p), np.empty_like(p)) for p in params]
    steps = itertools.count(1)

    def sgd(gradients: list[np.ndarray]) -> None:
        for p, g in zip(params, gradients, strict=True):
            p -= rate * g

    def momentum(gradients: list[np.ndarray]) -> None:
        for p, g, (m, _, space) in zip(params, gradients, moments, strict=True):
            m *= 0.9
            m += g
            p -= np.multiply(m, rate, out=space)

    def adam(gradients: list[np.ndarray]) -> None:
        t = next(steps)
        scale, spread = rate / (1 - 0.9**t), (1 - 0.999**t) ** -0.5
        for p, g, (m, v, space) in zip(params, gradients, moments, strict=True):
            m *= 0.9
            m += np.multiply(g, 0.1, out=space)
            np.multiply(g, g, out=space)
            space *= 0.001
            v *= 0.999
            v += space
            np.sqrt(v, out=space)
            space *= spread
            space += 1e-8
            np.divide(m, space, out=space)
            space *= scale
            if name == "adamw":
                p *= 1 - rate * 1e-2
            p -= space

    return {"sgd": sgd, "momentum": momentum}.get(name, adam)


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    if name == "add8":
        a, b = problem.params["a"], problem.params["b"]
        return Side(partial(np.add, a, b))
    if name.startswith("product_"):
        a, b = problem.params["a"], problem.params["b"]
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
        return Side(lambda: np.matmul(a, b, out=out))
    plain = SORTED.get(name) or FACTORED.get(name.removesuffix("_value") if name.endswith("_value") else "")
    if plain is not None:
        function = plain(np)
        return Side(lambda: function(problem.params))
    if name not in BY_HAND:
        return None
    by_hand, batches = BY_HAND[name], problem.in_turn()
    if not problem.optimizer:
        return Side(lambda: by_hand(problem.params, *next(batches)))
    params = copied(problem.params)
    update = updater(problem.optimizer, problem.hyper["learning_rate"], leaves(params))

    def once() -> Any:
        value, gradients = by_hand(params, *next(batches))
        update(leaves(gradients))
        return value

    return Side(once)
