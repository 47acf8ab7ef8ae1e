"""adjit, as its users write it."""

from __future__ import annotations

from typing import Any

import numpy as np

import adjit
from adjit import nn, optim
from adjit.trace import apply
from benchmarks.sides import Side
from benchmarks.workloads import Problem


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
    """ADBench's objective: the log-likelihood of a Gaussian mixture with a Wishart prior (m = 0, gamma = 1)."""
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    d, k, n = x.shape[1], means.shape[0], x.shape[0]
    logs = icf[:, :d]
    diagonal = np.exp(logs)
    rows, columns = np.tril_indices(d, -1)
    # Column by column, as ADBench lays it out.
    order = np.lexsort((rows, columns))
    rows, columns = rows[order], columns[order]
    place = np.zeros((d, d), np.int64)
    place[rows, columns] = np.arange(len(rows))
    mask = np.tri(d, k=-1)
    lower = icf[:, d:][:, place.reshape(-1)].reshape(k, d, d) * mask
    centred = x[:, None, :] - means[None]
    q = diagonal[None] * centred + np.einsum("kij,nkj->nki", lower, centred)
    inner = alphas + np.sum(logs, axis=1) - 0.5 * np.sum(q * q, axis=2)
    likelihood = np.sum(nn.logsumexp(inner, axis=1)) - n * nn.logsumexp(alphas)
    prior = 0.5 * (np.sum(diagonal**2) + np.sum((icf[:, d:]) ** 2)) - np.sum(logs) * 0.0
    return likelihood - prior


def deep_loss(p: Any, x: Any, y: Any) -> Any:
    h = x
    for layer in p["layers"]:
        h = h + np.tanh(h @ layer["w"] + layer["b"])
    return np.mean((h @ p["out"] - y) ** 2)


TRAINED: dict[str, tuple[Any, Any]] = {
    "xor": (mse_loss, optim.adam),
    "mlp_small": (two_layers, lambda rate: optim.sgd(rate, momentum=0.9)),
    "mlp": (three_layers, optim.adam),
    "mlp_wide": (three_layers, lambda rate: optim.adamw(rate, weight_decay=1e-2)),
    "logreg": (logistic_loss, optim.sgd),
    "pinn": (burgers_loss, optim.adam),
    "softmax_regression": (softmax_loss, optim.sgd),
    "deep": (deep_loss, optim.adam),
}
EVALUATED = {"elementwise": prices, "gmm": mixture}


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    data = tuple(problem.data.values())
    if name in EVALUATED:
        function = adjit.value_and_grad(EVALUATED[name])
        return Side(lambda: float(function(problem.params, *data)[0]))
    loss, optimizer = TRAINED[name]
    step = adjit.training_step(loss, optimizer(problem.hyper["learning_rate"]))
    state = step.init(problem.params)
    rows = 256 if name == "softmax_regression" else len(data[0])
    at = [0]

    def once() -> float:
        if rows == len(data[0]):
            return float(step(state, *data))
        begin = at[0] * rows % (len(data[0]) // rows * rows)
        at[0] += 1
        return float(step(state, *(array[begin : begin + rows] for array in data)))

    def loop(count: int) -> float:
        batches = len(data[0]) // rows
        last = 0.0
        for _ in range(max(1, count // batches)):
            epochs = count if batches == 1 else 1
            run = step.run(state, data, batch_size=rows, epochs=epochs, shuffle=False, drop_last=True)
            last = float(run.losses[-1])
            if batches == 1:
                break
        return last

    return Side(once, loop)
