"""A digits network trained beside a reference in plain NumPy with gradients made by hand: the losses are the same."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim, random

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "data" / "digits.csv.gz"
RATE = 0.25
BATCH = 32
KEY = 11
Params = dict[str, np.ndarray]


def digits(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(DIGITS, "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return (table[:, :64] / 16).astype(dtype), table[:, 64].astype(np.int64)


def make_params(dtype: Any) -> Params:
    rng = np.random.default_rng(0)
    return {
        "w1": (rng.normal(size=(64, 48)) / 8).astype(dtype),
        "b1": np.zeros(48, dtype),
        "w2": (rng.normal(size=(48, 10)) / 7).astype(dtype),
        "b2": np.zeros(10, dtype),
    }


def loss(params: Any, x: Any, labels: Any, *, key: Any) -> Any:
    h = np.tanh(x @ params["w1"] + params["b1"])
    keep = random.bernoulli(key, 1 - RATE, h.shape)
    h = np.where(keep, h / (1 - RATE), 0.0)
    return nn.cross_entropy(h @ params["w2"] + params["b2"], labels)


def reference(p: Params, x: np.ndarray, labels: np.ndarray, count: int) -> tuple[Any, Params]:
    """Loss and gradients by hand; the mask is the one that the step draws."""
    key = random.fold_in(random.key(KEY), count)
    z = np.tanh(x @ p["w1"] + p["b1"])
    mask = random.bernoulli(key, 1 - RATE, z.shape) / z.dtype.type(1 - RATE)
    h = z * mask
    logits = h @ p["w2"] + p["b2"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    value = -log_p[rows, labels].mean()
    d = np.exp(log_p)
    d[rows, labels] -= 1
    d /= len(x)
    dh = d @ p["w2"].T * mask * (1 - z * z)
    grads = {"w1": x.T @ dh, "b1": dh.sum(axis=0), "w2": h.T @ d, "b2": d.sum(axis=0)}
    return value, {name: g.astype(z.dtype) for name, g in grads.items()}


Rule = Callable[[Any, dict[str, Any], Any, int], Any]


def by_sgd(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    return p - 0.1 * g


def by_momentum(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    kept["v"] = 0.9 * kept.get("v", 0) + g
    return p - 0.05 * kept["v"]


def by_nesterov(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    kept["v"] = 0.9 * kept.get("v", 0) + g
    return p - 0.05 * (g + 0.9 * kept["v"])


def adam_step(g: Any, kept: dict[str, Any], t: int) -> Any:
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * g
    kept["v"] = 0.999 * kept.get("v", 0) + 0.001 * g * g
    return (kept["m"] / (1 - 0.9**t)) / (np.sqrt(kept["v"] / (1 - 0.999**t)) + 1e-8)


def by_adam(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    return p - 1e-2 * adam_step(g, kept, t)


def by_adamw(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    return p - 1e-2 * (adam_step(g, kept, t) + 0.1 * p)


def by_rmsprop(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    kept["s"] = 0.9 * kept.get("s", 0) + 0.1 * g * g
    return p - 1e-3 * g / (np.sqrt(kept["s"]) + 1e-8)


def by_adagrad(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    kept["s"] = kept.get("s", 0) + g * g
    return p - 0.05 * g / (np.sqrt(kept["s"]) + 1e-10)


def by_cosine(g: Any, kept: dict[str, Any], p: Any, t: int) -> Any:
    return p - 0.1 * 0.5 * (1 + np.cos(np.pi * min((t - 1) / 60, 1))) * g


CASES: dict[str, tuple[optim.Optimizer, Rule]] = {
    "sgd": (optim.sgd(0.1), by_sgd),
    "momentum": (optim.sgd(0.05, momentum=0.9), by_momentum),
    "nesterov": (optim.sgd(0.05, momentum=0.9, nesterov=True), by_nesterov),
    "adam": (optim.adam(1e-2), by_adam),
    "adamw": (optim.adamw(1e-2, weight_decay=0.1), by_adamw),
    "rmsprop": (optim.rmsprop(1e-3), by_rmsprop),
    "adagrad": (optim.adagrad(0.05), by_adagrad),
    "cosine": (optim.sgd(optim.schedule.cosine(0.1, steps=60)), by_cosine),
}


def reference_losses(rule: Rule, dtype: Any, steps: int) -> list[float]:
    x, labels = digits(dtype)
    params = make_params(dtype)
    kept: dict[str, dict[str, Any]] = {name: {} for name in params}
    losses = []
    for count in range(steps):
        at = slice(count * BATCH % 1024, count * BATCH % 1024 + BATCH)
        value, grads = reference(params, x[at], labels[at], count)
        losses.append(float(value))
        params = {n: rule(grads[n], kept[n], params[n], count + 1).astype(dtype) for n in params}
    return losses


def compiled_losses(optimizer: optim.Optimizer, dtype: Any, steps: int) -> tuple[list[float], Params]:
    x, labels = digits(dtype)
    step = adjit.training_step(loss, optimizer)
    state = step.init(make_params(dtype), key=KEY)
    losses = [
        step(state, x[at], labels[at])
        for at in (slice(c * BATCH % 1024, c * BATCH % 1024 + BATCH) for c in range(steps))
    ]
    return losses, {name: array.copy() for name, array in state.params.items()}


@pytest.mark.parametrize("name", CASES)
def test_float64_agrees_for_100_steps(name: str) -> None:
    optimizer, rule = CASES[name]
    losses, _ = compiled_losses(optimizer, np.float64, 100)
    # The order of sums differs; the network amplifies what that makes of the last bits.
    np.testing.assert_allclose(losses, reference_losses(rule, np.float64, 100), rtol=1e-12)  # sums in another order
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", CASES)
def test_float32_agrees_for_10_steps(name: str) -> None:
    optimizer, rule = CASES[name]
    losses, _ = compiled_losses(optimizer, np.float32, 10)
    np.testing.assert_allclose(losses, reference_losses(rule, np.float32, 10), rtol=1e-5)  # likewise, of float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_runs_give_the_same_bits(dtype: Any) -> None:
    first, params = compiled_losses(optim.adam(1e-2), dtype, 50)
    second, again = compiled_losses(optim.adam(1e-2), dtype, 50)
    assert first == second
    for name, array in params.items():
        np.testing.assert_array_equal(array, again[name])
