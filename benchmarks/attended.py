"""Models of tokens, written once over the operations that each side has as its library's users write them.

Weights are (inputs, outputs); queries, keys and values of all heads are one product, and lie side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.problem import Arrays, Problem


class Operations(Protocol):
    """What a model is made of."""

    def looked_up(self, table: Any, ids: Any) -> Any:
        """A row for each number."""

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        """Along the last axis."""

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        """Along the last axis, eps 1e-5."""

    def gelu(self, x: Any) -> Any:
        """With the distribution function, not the tanh form."""

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        """Causal, of (batch, heads, time, size)."""

    def self_attention(self, joined: Any, heads: int) -> Any:
        """(batch, time, width) of (batch, time, 3 width): causal, of so many heads."""

    def token_cross_entropy(self, logits: Any, labels: Any) -> Any:
        """The mean over all tokens."""


Loss = Callable[[Operations, Any, Any, Any], Any]


class Shape(NamedTuple):
    """Of a decoder: layers, heads, width, tokens of a sequence, sequences of a batch, kinds of tokens."""

    layers: int
    heads: int
    width: int
    time: int
    batch: int
    tokens: int = 65


DECODERS: dict[str, Shape] = {"gpt_small": Shape(4, 4, 128, 64, 12), "gpt_medium": Shape(6, 6, 384, 256, 4)}


def decoder(heads: int) -> Loss:
    """A decoder as GPT-2's: normalisation ahead of the parts, learned positions, gelu."""

    def loss(of: Operations, p: Any, ids: Any, labels: Any) -> Any:
        h = of.looked_up(p["tokens"], ids) + p["positions"]
        for layer in p["layers"]:
            x = of.layer_norm(h, layer["scale1"], layer["shift1"])
            x = of.self_attention(of.dense(x, layer["joined"], layer["joined_b"]), heads)
            h = h + of.dense(x, layer["out"], layer["out_b"])
            x = of.layer_norm(h, layer["scale2"], layer["shift2"])
            x = of.gelu(of.dense(x, layer["up"], layer["up_b"]))
            h = h + of.dense(x, layer["down"], layer["down_b"])
        logits = of.layer_norm(h, p["scale"], p["shift"]) @ p["head"]
        return of.token_cross_entropy(logits, labels)

    return loss


def classified_rows(of: Operations, p: Any, rows: Any, labels: Any) -> Any:
    """What `embedding` makes of the rows that it has looked up."""
    return of.token_cross_entropy(of.dense(rows, p["w"], p["b"]), labels)


def embedding(of: Operations, p: Any, ids: Any, labels: Any) -> Any:
    return classified_rows(of, p, of.looked_up(p["table"], ids), labels)


def attention(of: Operations, p: Any, direction: Any) -> Any:
    """The part of its result in a direction, so that the gradients are those of a model with more behind it."""
    q, k, v = (p[name][None] for name in "qkv")
    return (of.attention(q, k, v)[0] * direction).sum()


SPARSE_ROWS = 10_000
"""Rows of a table from which on its gradient is sparse, where a side has that."""

ATTENDED: dict[str, Callable[..., Any]] = {
    **{name: decoder(shape.heads) for name, shape in DECODERS.items()},
    "attention": attention,
    "embedding": embedding,
}

ATTENDED_MEANING: dict[str, str] = {
    "gpt_small": "a GPT, 4 layers, 4 heads, 128 wide, 64 characters of 65, batch 12, AdamW",
    "gpt_medium": "a GPT, 6 layers, 6 heads, 384 wide, 256 characters of 65, batch 4, AdamW",
    "attention": "causal attention, 8 heads, 1,024 x 64, value and gradients",
    "embedding": "a table of 50,000 x 64, 1,024 of its rows, 64-10, cross-entropy, SGD",
}


def _normal(rng: np.random.Generator, *shape: int, by: float = 1.0) -> np.ndarray:
    return (rng.normal(size=shape) * by).astype(np.float32)


def _filled(size: int, value: float) -> np.ndarray:
    return np.full(size, value, np.float32)


def _layer(rng: np.random.Generator, width: int) -> Arrays:
    sizes = {"joined": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    made = {name: _normal(rng, *shape, by=shape[0] ** -0.5) for name, shape in sizes.items()}
    biases = {f"{name}_b": _filled(shape[1], 0.0) for name, shape in sizes.items()}
    norms = {f"{name}{i}": _filled(width, value) for i in (1, 2) for name, value in (("scale", 1.0), ("shift", 0.0))}
    return made | biases | norms


def _decoder(shape: Shape) -> Problem:
    rng, width = np.random.default_rng(0), shape.width
    params = {
        "tokens": _normal(rng, shape.tokens, width, by=0.02),
        "positions": _normal(rng, shape.time, width, by=0.02),
        "layers": [_layer(rng, width) for _ in range(shape.layers)],
        "scale": _filled(width, 1.0),
        "shift": _filled(width, 0.0),
        "head": _normal(rng, width, shape.tokens, by=0.02),
    }
    text = rng.integers(0, shape.tokens, (shape.batch, shape.time + 1))
    rows = shape.batch * shape.time
    # Products of weights, and scores and their products with values of what a token sees: half of all on average.
    weights = 12 * width * width * shape.layers + width * shape.tokens
    flops = 3 * 2.0 * rows * (weights + shape.layers * width * shape.time)
    # Weights, moments and gradients; each row's state between the layers.
    return Problem(
        params, {"ids": text[:, :-1].copy(), "labels": text[:, 1:].copy()}, {"learning_rate": 1e-3}, flops,
        32.0 * weights, 12.0 * weights, tolerance=1e-3, optimizer="adamw", loop_steps=4,
    )  # fmt: skip


def _attention() -> Problem:
    rng = np.random.default_rng(0)
    heads, time, size = 8, 1024, 64
    params = {name: _normal(rng, heads, time, size) for name in "qkv"}
    # Two products forward, five backward, of the half that a query sees.
    flops = 7 * 2.0 * heads * time * (time + 1) / 2 * size
    return Problem(params, {"direction": _normal(rng, heads, time, size)}, flops=flops, tolerance=1e-3)


def _embedding() -> Problem:
    rng = np.random.default_rng(0)
    count, width, rows, classes = 50_000, 64, 1024, 10
    params = {
        "table": _normal(rng, count, width),
        "w": _normal(rng, width, classes, by=width**-0.5),
        "b": _filled(classes, 0.0),
    }
    data = {"ids": rng.integers(0, count, rows), "labels": rng.integers(0, classes, rows)}
    touched = 4.0 * rows * width
    return Problem(
        params, data, {"learning_rate": 0.1}, 6.0 * rows * width * classes, 3 * touched, touched, tolerance=1e-3,
        optimizer="sgd", loop_steps=100,
    )  # fmt: skip


ATTENDED_PROBLEMS: dict[str, Callable[[], Problem]] = {
    **{name: lambda shape=shape: _decoder(shape) for name, shape in DECODERS.items()},
    "attention": _attention,
    "embedding": _embedding,
}
