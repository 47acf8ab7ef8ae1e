"""Random networks: sizes, activations, losses, regularisation and optimisers by a seed, for tests of whole steps.

    python -m tests.networks --minutes 60 --seed 0

trains one after the other on 1, 2, 3, 5 and 8 threads and says which did not have the same bits on all of them from
the first call on, or the values of the interpreter."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjit
from adjit import nn, optim
from adjit.ir.evaluate import evaluate_all

THREADS = (1, 2, 3, 5, 8)
STEPS = 4

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": nn.relu,
    "maximum": lambda z: np.maximum(z, 0),
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "sigmoid": nn.sigmoid,
    "tanh": np.tanh,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "gelu": nn.gelu,
    "sin": np.sin,
    "softmax": nn.softmax,
    "normalised": lambda z: (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-3),
    "standardised": lambda z: (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3),
    "soft": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: optim.sgd(1e-2),
    "momentum": lambda: optim.sgd(1e-2, momentum=0.9),
    "nesterov": lambda: optim.sgd(1e-2, momentum=0.9, nesterov=True),
    "adam": lambda: optim.adam(1e-3),
    "adamw": lambda: optim.adamw(1e-3),
    "rmsprop": lambda: optim.rmsprop(1e-3),
    "adagrad": lambda: optim.adagrad(1e-2),
}
EXTRAS: tuple[dict[str, float], ...] = (
    {}, {}, {}, {"clip_norm": 0.5}, {"clip_value": 0.1}, {"weight_decay": 0.01}, {"l1": 1e-3}, {"l2": 1e-3},
)  # fmt: skip


def _loss_of(name: str) -> Callable[[Any, Any], Any]:
    if name == "cross_entropy":
        return lambda out, y: nn.cross_entropy(out, y)
    if name == "mae":
        return lambda out, y: np.mean(np.abs(out - y))
    if name == "huber":
        return lambda out, y: nn.huber(out, y)
    return lambda out, y: np.mean((out - y) ** 2)


@dataclass(frozen=True)
class Network:
    """One network and how it is trained; `widths` are inputs, hidden layers, outputs."""

    seed: int
    dtype: str
    batch: int
    widths: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    optimizer: str
    extra: tuple[tuple[str, float], ...]
    residual: bool
    dropout: bool

    def step(self) -> Any:
        """A new training step, which is compiled at its first call."""
        measure = _loss_of(self.loss)

        def forward(p: Any, x: Any, key: Any) -> Any:
            for i, name in enumerate(self.activations):
                product = x @ p[f"w{i}"]
                if name == "standardised":
                    h = ACTIVATIONS[name](product) + p[f"b{i}"]
                else:
                    h = ACTIVATIONS[name](product + p[f"b{i}"])
                x = h + x if self.residual and h.shape == x.shape else h
            if self.dropout:
                x = nn.dropout(x, 0.25, key)
            last = len(self.activations)
            return x @ p[f"w{last}"] + p[f"b{last}"]

        def loss(p: Any, x: Any, y: Any, *, key: Any) -> Any:
            return measure(forward(p, x, key), y)

        extra: dict[str, Any] = dict(self.extra)
        return adjit.training_step(loss, OPTIMIZERS[self.optimizer](), **extra)

    def arrays(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Parameters, inputs and targets."""
        rng = np.random.default_rng(self.seed)
        params: dict[str, np.ndarray] = {}
        for i, (n, m) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            params[f"w{i}"] = (rng.normal(size=(n, m)) / np.sqrt(n)).astype(self.dtype)
            params[f"b{i}"] = (rng.normal(size=m) / 10).astype(self.dtype)
        x = rng.normal(size=(self.batch, self.widths[0])).astype(self.dtype)
        if self.loss == "cross_entropy":
            return params, x, rng.integers(0, self.widths[-1], self.batch)
        return params, x, rng.normal(size=(self.batch, self.widths[-1])).astype(self.dtype)


def _extent(choose: random.Random, low: int, high: int) -> int:
    """Small numbers as often as large ones, and whole lines of vectors as often as others."""
    n = round(low * (high / low) ** choose.random())
    return n if choose.random() < 0.5 else min(high, max(low, round(n / 8) * 8))


def network(seed: int, batch: int = 1000, hidden: int = 700) -> Network:
    """The network of a seed: 1 to 100 inputs, up to three layers of 8 units and more, 1 to 33 outputs."""
    choose = random.Random(seed)
    depth = choose.choice((1, 1, 1, 2, 2, 3))
    first = _extent(choose, 8, hidden)
    optimizer = choose.choice(tuple(OPTIMIZERS))
    extra = {} if optimizer == "adamw" else choose.choice(EXTRAS)
    hiddens = [first if choose.random() < 0.4 else _extent(choose, 8, hidden) for _ in range(depth)]
    dtype = choose.choice(("float32", "float32", "float64"))
    rows = _extent(choose, 1, batch)
    widths = (_extent(choose, 1, 100), *hiddens, _extent(choose, 1, 33))
    # Of a few rows a standardised column is all but the same whatever they are: its gradient is roundings.
    known = [name for name in ACTIVATIONS if name != "standardised" or rows >= 16]
    return Network(
        seed=seed,
        dtype=dtype,
        batch=rows,
        widths=widths,
        activations=tuple(choose.choice(known) for _ in range(depth)),
        loss=choose.choice(("mse", "mse", "mae", "huber", "cross_entropy")),
        optimizer=optimizer,
        extra=tuple(extra.items()),
        residual=choose.random() < 0.3,
        dropout=choose.random() < 0.2,
    )


def trained(net: Network, threads: int, steps: int = STEPS) -> tuple[list[float], dict[str, bytes], Any]:
    """Losses of the first steps of a program that was never called before, the bytes of the state after them, and the
    step."""
    adjit.set_threads(threads)
    params, x, y = net.arrays()
    step = net.step()
    state = step.init(params, key=net.seed)
    losses = [step(state, x, y) for _ in range(steps)]
    return losses, {name: array.tobytes() for name, array in zip(params, state.leaves(), strict=False)}, step


def strays(net: Network, step: Any) -> str:
    """How the first step differs from what the interpreter makes of it; "" where it does not."""
    params, x, y = net.arrays()
    state = step.init(params, key=net.seed)
    wanted = evaluate_all(step.ir("step"), *state.leaves(), x, y)
    loss = step(state, x, y)
    single = net.dtype == "float32"
    if not np.isclose(loss, wanted.outputs[0], rtol=2e-4 if single else 1e-9, atol=1e-5 if single else 1e-10):
        return f"the first loss is {loss}, the interpreter has {wanted.outputs[0]}"
    # A bias ahead of a column that is standardised has no gradient but roundings.
    idle = {f"b{i}" for i, name in enumerate(net.activations[1:]) if name == "standardised"}
    for name, start in params.items():
        if name in idle:
            continue
        right = wanted.updates[f"params.{name}"]
        # A gradient that is nearly zero has the sign of its roundings, of which adaptive updates take a whole step.
        near = np.isclose(state.params[name] - start, right - start, rtol=1e-2, atol=1e-5 if single else 1e-9)
        if np.sum(~near) > 2 + 0.03 * near.size:
            return f"{np.mean(~near):.0%} of {name} are not what the interpreter makes of them"
    return ""


def fault(net: Network, threads: tuple[int, ...] = THREADS) -> str:
    """What is wrong with a network's steps; "" where nothing is."""
    results = {}
    for count in threads:
        *results[count], step = trained(net, count)
    one = results[threads[0]]
    for count, found in results.items():
        if found != one:
            parts = [name for name in one[1] if found[1][name] != one[1][name]]
            return f"{count} threads: losses {found[0]}, not {one[0]}; other bits in {', '.join(parts)}"
    return strays(net, step)


def main() -> int:
    """Check networks for so many minutes; the number of faults is the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    seed, faults = options.seed, 0
    while time.monotonic() < end:
        net = network(seed)
        wrong = fault(net)
        if wrong:
            faults += 1
            print(f"{net}: {wrong}", flush=True)
        seed += 1
    print(f"{seed - options.seed} networks, {faults} faults")
    return min(faults, 100)


if __name__ == "__main__":
    sys.exit(main())
