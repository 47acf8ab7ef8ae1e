"""Gradient descent and its kin with a step of its own for each element. One parameter array at a time.

Numbers out of range raise ArgumentError. `weight_decay` is coupled here, a part of the gradient, as PyTorch has it: g
becomes g + weight_decay p, ahead of all else; decoupled decay is an argument of the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adjit.optim.arguments import BETAS, KNOWN, Rate, coupled, decayed, hyper_of, masks_of, zeros
from adjit.optim.optimizer import Mask, Optimizer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public


@public(KNOWN | {"beta": "momentum"})
def sgd(
    learning_rate: Rate,
    momentum: Rate | None = 0.0,
    nesterov: bool = False,
    dampening: Rate = 0.0,
    weight_decay: Rate | None = None,
) -> Optimizer:
    """Gradient descent, with momentum as Sutskever et al. (2013): v = momentum v + g, p -= learning_rate v.

    With `nesterov` p -= learning_rate (g + momentum v). Without momentum nothing is kept. With `dampening`
    v = momentum v + (1 - dampening) g from the second step on. `weight_decay` is coupled: g + weight_decay p.

        >>> from adjit.optim import sgd
        >>> optimizer = sgd(0.1, momentum=0.9)
    """
    hyper = hyper_of(
        "sgd", learning_rate=learning_rate, momentum=momentum, dampening=dampening, weight_decay=weight_decay
    )
    nesterov = checks.flag("sgd: nesterov", nesterov)
    keeps = hyper["momentum"] is not None
    damps = not _is_zero(hyper["dampening"])
    if damps and (nesterov or not keeps):
        raise ArgumentError("sgd: dampening is for a momentum, and one without nesterov")
    if not damps:
        del hyper["dampening"]

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        if not keeps:
            return p - h["learning_rate"] * g, kept
        # The first gradient is the momentum, undamped.
        entering = np.where(t == 1, 1.0, 1.0 - h["dampening"]).astype(g.dtype) * g if damps else g
        v = h["momentum"] * kept["v"] + entering
        direction = g + h["momentum"] * v if nesterov else v
        return p - h["learning_rate"] * direction, {"v": v}

    sparse = not keeps and "weight_decay" not in hyper
    return Optimizer("sgd", hyper, zeros("v") if keeps else zeros(), update, sparse=sparse)


def _is_zero(value: Any) -> bool:
    return isinstance(value, float) and value == 0.0


@public(KNOWN | {"alpha": "decay", "rho": "decay"})
def rmsprop(
    learning_rate: Rate,
    decay: Rate = 0.9,
    eps: Rate = 1e-8,
    momentum: Rate | None = 0.0,
    weight_decay: Rate | None = None,
) -> Optimizer:
    """RMSProp (Tieleman and Hinton 2012): g over the root of a running mean of its square.

    s = decay s + (1 - decay) g^2, p -= learning_rate g / (sqrt(s) + eps); with momentum that step is accumulated as in
    `sgd`. `weight_decay` is coupled.

        >>> from adjit.optim import rmsprop
        >>> optimizer = rmsprop(1e-3)
    """
    hyper = hyper_of(
        "rmsprop", learning_rate=learning_rate, decay=decay, eps=eps, momentum=momentum, weight_decay=weight_decay
    )
    keeps = hyper["momentum"] is not None

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        s = h["decay"] * kept["s"] + (1.0 - h["decay"]) * (g * g)
        scaled = g / (np.sqrt(s) + h["eps"])
        if not keeps:
            return p - h["learning_rate"] * scaled, {"s": s}
        v = h["momentum"] * kept["v"] + scaled
        return p - h["learning_rate"] * v, {"s": s, "v": v}

    return Optimizer("rmsprop", hyper, zeros("s", "v") if keeps else zeros("s"), update)


@public(KNOWN)
def adagrad(learning_rate: Rate, eps: Rate = 1e-10, weight_decay: Rate | None = None) -> Optimizer:
    """Adagrad (Duchi, Hazan, Singer 2011): s += g^2, p -= learning_rate g / (sqrt(s) + eps).

    `weight_decay` is coupled.

        >>> from adjit.optim import adagrad
        >>> optimizer = adagrad(1e-2)
    """
    hyper = hyper_of("adagrad", learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        s = kept["s"] + g * g
        return p - h["learning_rate"] * g / (np.sqrt(s) + h["eps"]), {"s": s}

    return Optimizer("adagrad", hyper, zeros("s"), update, sparse="weight_decay" not in hyper)


@public(KNOWN | {"rho": "decay"})
def adadelta(
    learning_rate: Rate = 1.0, decay: Rate = 0.9, eps: Rate = 1e-6, weight_decay: Rate | None = None
) -> Optimizer:
    """Adadelta (Zeiler 2012): steps in the units of the parameters.

    With s the running mean of g^2 and d that of the steps' squares: step = sqrt(d + eps) / sqrt(s + eps) g,
    p -= learning_rate step. `weight_decay` is coupled.

        >>> from adjit.optim import adadelta
        >>> optimizer = adadelta()
    """
    hyper = hyper_of("adadelta", learning_rate=learning_rate, decay=decay, eps=eps, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        s = h["decay"] * kept["s"] + (1.0 - h["decay"]) * (g * g)
        step = np.sqrt(kept["d"] + h["eps"]) / np.sqrt(s + h["eps"]) * g
        d = h["decay"] * kept["d"] + (1.0 - h["decay"]) * (step * step)
        return p - h["learning_rate"] * step, {"s": s, "d": d}

    return Optimizer("adadelta", hyper, zeros("s", "d"), update)


@public(KNOWN | {"etas": "they are shrink and grow here", "step_sizes": "they are smallest and largest here"})
def rprop(
    learning_rate: Rate = 1e-2,
    shrink: Rate = 0.5,
    grow: Rate = 1.2,
    smallest: Rate = 1e-6,
    largest: Rate = 50.0,
) -> Optimizer:
    """Rprop (Riedmiller and Braun 1993), for gradients of all data: the sign of the gradient alone counts.

    Each element has a step of its own, `learning_rate` at first. Where the gradient has the sign that it had, it is
    multiplied by `grow`; where the sign is another one, by `shrink`, and the element waits for the next gradient. It is
    kept between `smallest` and `largest`.

        >>> from adjit.optim import rprop
        >>> optimizer = rprop(1e-2)
    """
    hyper = hyper_of("rprop", learning_rate=learning_rate, shrink=shrink, grow=grow, smallest=smallest, largest=largest)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        turned = np.sign(g) * np.sign(kept["g"])
        factor = np.where(turned > 0, h["grow"], np.where(turned < 0, h["shrink"], 1.0)).astype(p.dtype)
        size = np.where(t == 1, h["learning_rate"], kept["size"]).astype(p.dtype)
        size = np.minimum(np.maximum(size * factor, h["smallest"]), h["largest"])
        g = np.where(turned < 0, 0.0, g).astype(p.dtype)
        return p - np.sign(g) * size, {"g": g, "size": size}

    return Optimizer("rprop", hyper, zeros("g", "size"), update)


@public(KNOWN | BETAS | {"decay": "weight_decay"})
def lion(
    learning_rate: Rate,
    b1: Rate = 0.9,
    b2: Rate = 0.99,
    weight_decay: Rate | None = None,
    mask: Mask | None = None,
) -> Optimizer:
    """Lion (Chen et al. 2023): the sign of an interpolation between the running mean m of gradients and g.

    p -= learning_rate (sign(b1 m + (1 - b1) g) + weight_decay p), then m = b2 m + (1 - b2) g. Rates are three to ten
    times smaller than Adam's. `mask` is that of `adamw`.

        >>> from adjit.optim import lion
        >>> optimizer = lion(1e-4, weight_decay=0.1)
    """
    hyper = hyper_of("lion", learning_rate=learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        direction = np.sign(h["b1"] * kept["m"] + (1.0 - h["b1"]) * g)
        m = h["b2"] * kept["m"] + (1.0 - h["b2"]) * g
        return p - decayed(h["learning_rate"] * direction, p, h), {"m": m}

    return Optimizer("lion", hyper, zeros("m"), update, masks_of("lion", mask, hyper))
