"""Optimisers that see a parameter as a matrix: Muon and Adafactor. One parameter array at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adjit.optim.adams import adamw
from adjit.optim.arguments import KNOWN, Rate, decayed, hyper_of, number
from adjit.optim.optimizer import Advance, Hyper, Optimizer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""The polynomial a x + b x^3 + c x^5 of Jordan 2024: steep at 0; five times, it has values from 0.7 to 1.2."""


def _orthogonal(x: Any, turns: int, eps: float) -> Any:
    """The orthogonal matrix next to `x`, about: singular values near 1 in place of its own (Newton and Schulz)."""
    a, b, c = _QUINTIC
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / np.maximum(np.sqrt(np.sum(x * x)), eps)
    for _ in range(turns):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


_SCALES = {
    "original": lambda inputs, outputs: max(1.0, outputs / inputs) ** 0.5,
    "match_rms_adamw": lambda inputs, outputs: 0.2 * max(inputs, outputs) ** 0.5,
}


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a layer: a matrix has a column for each output, a kernel of a convolution comes first."""
    return shape if len(shape) == 2 else (int(np.prod(shape[1:])), shape[0])


@public(KNOWN | {"beta": "momentum", "ns_steps": "turns", "adjust_lr_fn": "scale", "adam": "fallback"})
def muon(
    learning_rate: Rate = 1e-3,
    momentum: Rate = 0.95,
    nesterov: bool = True,
    weight_decay: Rate | None = 0.1,
    turns: int = 5,
    scale: str = "original",
    eps: float = 1e-7,
    fallback: Optimizer | None = None,
) -> Optimizer:
    """Muon (Jordan 2024) for parameters of two or more dimensions, `fallback` for the others.

    With m the running mean of gradients, the direction is (1 - momentum) g + momentum m, or m without `nesterov`, made
    orthogonal by `turns` steps of Newton and Schulz; p -= learning_rate (s direction + weight_decay p). A parameter of
    more dimensions, the kernels of a convolution, is a matrix with a row for each entry of its first axis.

    scale      s: "original", sqrt(max(1, outputs / inputs)), or "match_rms_adamw" (Liu et al. 2025),
               0.2 sqrt(max(outputs, inputs)), with which rates and decays of AdamW fit
    eps        the least norm that a direction is divided by
    fallback   an optimiser for vectors and scalars; adamw(learning_rate=3e-4) without one

    The same as torch.optim.Muon, which computes the direction in bfloat16. Weights here have a column for each output,
    as in `adjit.nn`, theirs a row. Embeddings and the last layer are often left to Adam:
    groups(muon(), {"embedding*": adamw(3e-4)}).

        >>> from adjit.optim import adam, muon
        >>> optimizer = muon(0.02, fallback=adam(1e-3))
    """
    hyper = hyper_of("muon", learning_rate=learning_rate, weight_decay=weight_decay)
    # It has a buffer whatever its number: a share of a running mean, and not switched off by 0.
    hyper["momentum"] = number("muon: momentum", "b1", momentum)
    nesterov = checks.flag("muon: nesterov", nesterov)
    turns = checks.integer("muon: turns", turns, 1)
    if not isinstance(scale, str) or scale not in _SCALES:
        raise ArgumentError(f'muon: scale is "original" or "match_rms_adamw", not {checks.shown(scale)}')
    least = checks.real("muon: eps", eps, 0.0)
    other = adamw(3e-4) if fallback is None else fallback
    if not isinstance(other, Optimizer):
        raise ArgumentError(f"muon: fallback is an optimiser, as adjit.optim.adam(1e-3), not {checks.shown(fallback)}")
    if other.composed:
        raise ArgumentError(f"muon: fallback is {other.name} with {other.composed}: write it around muon(...)")

    def init(p: Any) -> Any:
        return {"m": np.zeros_like(p)} if np.ndim(p) >= 2 else other.init(p)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        if len(p.shape) < 2:
            return other.update(g, kept, p, _of_fallback(h, other), t)
        inputs, outputs = _sides(p.shape)
        m = h["momentum"] * kept["m"] + (1.0 - h["momentum"]) * g
        direction = h["momentum"] * m + (1.0 - h["momentum"]) * g if nesterov else m
        if p.size:
            flat = direction.reshape(p.shape[0], -1)
            direction = _orthogonal(flat, turns, least).reshape(p.shape)
        factor = _SCALES[scale](max(inputs, 1), max(outputs, 1))
        return p - decayed(h["learning_rate"] * factor * direction, p, h), {"m": m}

    masks = {f"fallback.{name}": mask for name, mask in other.masks.items()}
    shared = {f"fallback.{name}": _shared_by_fallback(name, other) for name in other.shared}
    return Optimizer("muon", {**hyper, "fallback": other.hyper}, init, update, masks, shared)


def _of_fallback(h: Mapping[str, Any], fallback: Optimizer) -> dict[str, Any]:
    """What the fallback finds in its hyper-parameters."""
    shared = {name: h[f"fallback.{name}"] for name in fallback.shared if f"fallback.{name}" in h}
    return {**h["fallback"], **shared, "loss": h["loss"]}


def _shared_by_fallback(name: str, fallback: Optimizer) -> tuple[float, Advance]:
    initial, advance = fallback.shared[name]
    return initial, lambda old, h, t: advance(old, _of_fallback(h, fallback), t)


@public(KNOWN | {"beta2_decay": "decay_power", "d": "clip", "clipping_threshold": "clip", "decay_rate": "decay_power"})
def adafactor(
    learning_rate: Rate = 1e-2,
    decay_power: Rate = 0.8,
    eps: float | None = None,
    least_scale: Rate = 1e-3,
    clip: Rate = 1.0,
    weight_decay: Rate | None = None,
) -> Optimizer:
    """Adafactor (Shazeer and Stern 2018) without momentum, as torch.optim.Adafactor: memory for rows and columns.

    The mean of squared gradients is kept as one number for each row and each column of the last two axes; of a vector
    or a scalar for each element. Its decay is 1 - t^-decay_power. A step, g over the root of that mean, is divided by
    its root mean square where that is more than `clip`, and is relative: it is multiplied by
    min(learning_rate, 1 / sqrt(t)) max(least_scale, root mean square of p). Weight decay is decoupled.

    `eps`, None for the machine epsilon of the dtype, is the least that means are taken for.

        >>> from adjit.optim import adafactor
        >>> optimizer = adafactor()
    """
    hyper: dict[str, Hyper] = hyper_of(
        "adafactor", learning_rate=learning_rate, decay_power=decay_power, least_scale=least_scale, clip=clip,
        weight_decay=weight_decay,
    )  # fmt: skip
    given = None if eps is None else checks.real("adafactor: eps", eps, 0.0)

    def init(p: Any) -> Any:
        if np.ndim(p) < 2:
            return {"v": np.zeros_like(p)}
        return {"rows": np.zeros_like(p[..., :1]), "columns": np.zeros_like(p[..., :1, :])}

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        least = float(np.finfo(p.dtype).eps) if given is None else given
        count = t * 1.0
        entering = count ** -h["decay_power"]
        v, memory = _factored(g, kept, entering, least)
        step = g / np.sqrt(np.maximum(v, least * least))
        share = np.maximum(1.0, _rms(step) / h["clip"])
        rate = np.minimum(h["learning_rate"], 1.0 / np.sqrt(count)) * np.maximum(h["least_scale"], _rms(p))
        return p - decayed((rate / share).astype(p.dtype) * step, p, h), memory

    return Optimizer("adafactor", hyper, init, update)


def _factored(g: Any, kept: Any, entering: Any, least: float) -> tuple[Any, Any]:
    """The running mean of g^2 and what is kept of it."""
    squares = g * g
    if "v" in kept:
        v = (1.0 - entering) * kept["v"] + entering * squares
        return v, {"v": v}
    n, m = max(g.shape[-2], 1), max(g.shape[-1], 1)
    rows = (1.0 - entering) * kept["rows"] + entering * (np.sum(squares, axis=-1, keepdims=True) / m)
    columns = (1.0 - entering) * kept["columns"] + entering * (np.sum(squares, axis=-2, keepdims=True) / n)
    mean = np.maximum(np.sum(rows, axis=-2, keepdims=True) / n, least)
    return rows * (columns / mean), {"rows": rows, "columns": columns}


def _rms(x: Any) -> Any:
    """The root mean square of all elements."""
    return np.sqrt(np.sum(x * x) / max(x.size, 1))
