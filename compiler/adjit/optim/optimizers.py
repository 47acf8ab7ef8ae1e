"""The optimisers, each with its source. All work on one parameter array at a time.

Rates, decays and the like are numbers >= 0 (decays of Adam below 1); another one raises ArgumentError. Each may be an
array with one number for each model, where `adjit.vmap` of a step trains several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adjit.optim.optimizer import Advance, Mask, Optimizer
from adjit.optim.schedule import Numbers, Schedule
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public

Rate = Numbers | Schedule

_DECAYS = "it is an argument of the step, training_step(loss, optimizer, weight_decay=1e-4)"
_STEP = "it is an argument of the step, training_step(loss, optimizer, clip_norm=1.0)"
_KNOWN = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "step_size": "learning_rate",
    "alpha": "learning_rate",
    "eta": "learning_rate",
    "epsilon": "eps",
    "params": "an optimiser is made without the parameters, as adam(1e-3); step.init(params) takes them",
    "clipnorm": _STEP,
    "clip_norm": _STEP,
    "max_norm": _STEP,
    "schedule": "a schedule stands for the rate, adam(adjit.optim.schedule.cosine(1e-3, steps=1000))",
}
_ADAM = {
    "beta1": "b1",
    "beta2": "b2",
    "beta_1": "b1",
    "beta_2": "b2",
    "betas": "they are b1 and b2 here, as adam(1e-3, b1=0.9, b2=0.999)",
}
"""Arguments that people know from other libraries, and what they are here."""


def _rate(what: str, value: Any) -> Any:
    """A schedule, or a number >= 0: a step against the gradient has no negative length."""
    if isinstance(value, Schedule):
        return value
    try:
        return checks.reals(what, value, 0.0)
    except ArgumentError as error:
        name = what.partition(":")[0]
        if callable(value):
            raise ArgumentError(
                f"{error}; one that changes is a schedule, as adjit.optim.schedule.cosine(1e-3, steps=1000), or yours: "
                'Schedule("mine", {"first": 1e-3}, lambda numbers, count: numbers["first"] / (1 + count))'
            ) from None
        raise ArgumentError(f"{error}; a step goes against the gradient by itself: {name}(1e-3)") from None


def _decay(what: str, value: Any) -> Numbers:
    """How much of a running mean stays: from 0, and less than 1, with which it would never begin."""
    number = checks.reals(what, value, 0.0, 1.0)
    if np.any(np.equal(number, 1.0)):
        raise ArgumentError(f"{what} is a number >= 0 and < 1, not {checks.shown(number)}")
    return number


def _or_none(what: str, value: Any) -> Numbers | None:
    """A number >= 0; 0 switches off: no buffer, no code."""
    return None if value is None else checks.or_off(what, value)


def _zeros(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda p: {name: np.zeros_like(p) for name in names}


@public(_KNOWN | {"beta": "momentum", "weight_decay": _DECAYS, "wd": _DECAYS})
def sgd(learning_rate: Rate, momentum: Numbers | None = 0.0, nesterov: bool = False) -> Optimizer:
    """Gradient descent, with momentum as Sutskever et al. (2013): v = momentum v + g, p -= learning_rate v.

    With `nesterov` p -= learning_rate (g + momentum v). Without momentum nothing is kept.

        >>> from adjit.optim import sgd
        >>> optimizer = sgd(0.1, momentum=0.9)
    """
    hyper = {
        "learning_rate": _rate("sgd: learning_rate", learning_rate),
        "momentum": _or_none("sgd: momentum", momentum),
    }
    nesterov = checks.flag("sgd: nesterov", nesterov)
    keeps = hyper["momentum"] is not None

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        if not keeps:
            return p - h["learning_rate"] * g, kept
        v = h["momentum"] * kept["v"] + g
        direction = g + h["momentum"] * v if nesterov else v
        return p - h["learning_rate"] * direction, {"v": v}

    return Optimizer("sgd", hyper, _zeros("v") if keeps else _zeros(), update, sparse=not keeps)


# How much of the moments is still the zeros that they began with: the product of all decays so far. A running product
# is right also where a decay is changed between steps. (The step of a network of 2-8-1: 132 ns with powers, 104 so.)
_ADAM_SHARED: dict[str, tuple[float, Advance]] = {
    "b1_product": (1.0, lambda old, h, t: old * h["b1"]),
    "b2_product": (1.0, lambda old, h, t: old * h["b2"]),
}


def _adam(g: Any, kept: Any, h: Mapping[str, Any]) -> tuple[Any, Any]:
    """The step and the moments. The corrections of the bias are scalars, computed in float64 and rounded once."""
    m = h["b1"] * kept["m"] + (1.0 - h["b1"]) * g
    v = h["b2"] * kept["v"] + (1.0 - h["b2"]) * (g * g)
    rate = h["learning_rate"] / (1.0 - h["b1_product"])
    spread = 1.0 / np.sqrt(1.0 - h["b2_product"])
    return rate * m / (np.sqrt(v) * spread + h["eps"]), {"m": m, "v": v}


def _adam_hyper(name: str, learning_rate: Any, b1: Any, b2: Any, eps: Any) -> dict[str, Any]:
    return {
        "learning_rate": _rate(f"{name}: learning_rate", learning_rate),
        "b1": _decay(f"{name}: b1", b1),
        "b2": _decay(f"{name}: b2", b2),
        "eps": checks.reals(f"{name}: eps", eps, 0.0),
    }


@public(_KNOWN | _ADAM | {"weight_decay": f"{_DECAYS}, or take adamw", "wd": f"{_DECAYS}, or take adamw"})
def adam(learning_rate: Rate, b1: Numbers = 0.9, b2: Numbers = 0.999, eps: Numbers = 1e-8) -> Optimizer:
    """Adam (Kingma and Ba 2015): steps along the mean of gradients over the root of the mean of their squares.

    >>> from adjit.optim import adam
    >>> optimizer = adam(1e-3)
    """

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        change, moments = _adam(g, kept, h)
        return p - change, moments

    hyper = _adam_hyper("adam", learning_rate, b1, b2, eps)
    return Optimizer("adam", hyper, _zeros("m", "v"), update, shared=_ADAM_SHARED)


@public(_KNOWN | _ADAM | {"decay": "weight_decay", "wd": "weight_decay"})
def adamw(
    learning_rate: Rate,
    b1: Numbers = 0.9,
    b2: Numbers = 0.999,
    eps: Numbers = 1e-8,
    weight_decay: Numbers | None = 1e-2,
    mask: Mask | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p -= learning_rate (step + weight_decay p).

    `mask`: a function from the parameters to a pytree of bools; only leaves where it says True decay.

        >>> from adjit.optim import adamw
        >>> optimizer = adamw(1e-3, mask=lambda params: {name: name.startswith("w") for name in params})
    """

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        change, moments = _adam(g, kept, h)
        if h["weight_decay"] is not None:
            change = change + h["learning_rate"] * h["weight_decay"] * p
        return p - change, moments

    hyper = _adam_hyper("adamw", learning_rate, b1, b2, eps)
    hyper["weight_decay"] = _or_none("adamw: weight_decay", weight_decay)
    masks = {"weight_decay": checks.function("adamw: mask", mask)} if mask is not None else {}
    return Optimizer("adamw", hyper, _zeros("m", "v"), update, masks, _ADAM_SHARED)


@public(_KNOWN | {"alpha": "decay", "rho": "decay", "weight_decay": _DECAYS, "wd": _DECAYS})
def rmsprop(
    learning_rate: Rate, decay: Numbers = 0.9, eps: Numbers = 1e-8, momentum: Numbers | None = 0.0
) -> Optimizer:
    """RMSProp (Tieleman and Hinton 2012): g over the root of a running mean of its square.

    s = decay s + (1 - decay) g^2, p -= learning_rate g / (sqrt(s) + eps); with momentum that step is accumulated as in
    `sgd`.

        >>> from adjit.optim import rmsprop
        >>> optimizer = rmsprop(1e-3)
    """
    hyper = {
        "learning_rate": _rate("rmsprop: learning_rate", learning_rate),
        "decay": checks.reals("rmsprop: decay", decay, 0.0, 1.0),
        "eps": checks.reals("rmsprop: eps", eps, 0.0),
        "momentum": _or_none("rmsprop: momentum", momentum),
    }
    keeps = hyper["momentum"] is not None

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        s = h["decay"] * kept["s"] + (1.0 - h["decay"]) * (g * g)
        scaled = g / (np.sqrt(s) + h["eps"])
        if not keeps:
            return p - h["learning_rate"] * scaled, {"s": s}
        v = h["momentum"] * kept["v"] + scaled
        return p - h["learning_rate"] * v, {"s": s, "v": v}

    return Optimizer("rmsprop", hyper, _zeros("s", "v") if keeps else _zeros("s"), update)


@public(_KNOWN | {"weight_decay": _DECAYS, "wd": _DECAYS})
def adagrad(learning_rate: Rate, eps: Numbers = 1e-10) -> Optimizer:
    """Adagrad (Duchi, Hazan, Singer 2011): s += g^2, p -= learning_rate g / (sqrt(s) + eps).

    >>> from adjit.optim import adagrad
    >>> optimizer = adagrad(1e-2)
    """

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        s = kept["s"] + g * g
        return p - h["learning_rate"] * g / (np.sqrt(s) + h["eps"]), {"s": s}

    hyper = {
        "learning_rate": _rate("adagrad: learning_rate", learning_rate),
        "eps": checks.reals("adagrad: eps", eps, 0.0),
    }
    return Optimizer("adagrad", hyper, _zeros("s"), update, sparse=True)
