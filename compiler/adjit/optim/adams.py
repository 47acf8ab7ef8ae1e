"""Adam and its kin: running means of gradients and of their squares. One parameter array at a time.

Numbers out of range raise ArgumentError: decays are below 1. `weight_decay` is coupled, a part of the gradient, as
PyTorch has it, but for adamw and lamb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from adjit.optim.arguments import BETAS, KNOWN, Rate, coupled, decayed, hyper_of, masks_of, zeros
from adjit.optim.optimizer import Advance, Init, Mask, Optimizer
from adjit_runtime import checks
from adjit_runtime.public import public

_KNOWN = KNOWN | BETAS | {"decay": "weight_decay"}

# How much of the moments is still the zeros that they began with: the product of all decays so far. A running product
# is right also where a decay is changed between steps. (The step of a network of 2-8-1: 132 ns with powers, 104 so.)
_SHARED: dict[str, tuple[float, Advance]] = {
    "b1_product": (1.0, lambda old, h, t: old * h["b1"]),
    "b2_product": (1.0, lambda old, h, t: old * h["b2"]),
}


def _moments(g: Any, kept: Any, h: Mapping[str, Any]) -> tuple[Any, Any]:
    """The running means of g and of its square."""
    return h["b1"] * kept["m"] + (1.0 - h["b1"]) * g, h["b2"] * kept["v"] + (1.0 - h["b2"]) * (g * g)


def _root(v: Any, h: Mapping[str, Any]) -> Any:
    """sqrt of v, its bias corrected, plus eps. The corrections are scalars, computed in float64 and rounded once."""
    return np.sqrt(v) * (1.0 / np.sqrt(1.0 - h["b2_product"])) + h["eps"]


def _adam(g: Any, kept: Any, h: Mapping[str, Any], amsgrad: bool, nesterov: bool) -> tuple[Any, Any]:
    """The step and the moments."""
    m, v = _moments(g, kept, h)
    largest = np.maximum(kept["largest"], v) if amsgrad else v
    rate = h["learning_rate"] / (1.0 - h["b1_product"])
    if nesterov:
        ahead = h["learning_rate"] * h["b1"] / (1.0 - h["b1_product"] * h["b1"])
        change = (ahead * m + rate * (1.0 - h["b1"]) * g) / _root(largest, h)
    else:
        change = rate * m / _root(largest, h)
    return change, {"m": m, "v": v, "largest": largest} if amsgrad else {"m": m, "v": v}


def _adam_init(amsgrad: bool) -> Init:
    return zeros("m", "v", "largest") if amsgrad else zeros("m", "v")


@public(_KNOWN)
def adam(
    learning_rate: Rate,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Rate = 1e-8,
    amsgrad: bool = False,
    nesterov: bool = False,
    weight_decay: Rate | None = None,
) -> Optimizer:
    """Adam (Kingma and Ba 2015): steps along the mean of gradients over the root of the mean of their squares.

    With `amsgrad` (Reddi, Kale, Kumar 2018) over the root of the largest of these means so far, with `nesterov`
    along the mean as it will be if the next gradient is this one (Dozat 2016; `nadam` is the form with a schedule of
    b1). `weight_decay` is coupled: g + weight_decay p; adamw has the other kind.

        >>> from adjit.optim import adam
        >>> optimizer = adam(1e-3)
    """
    hyper = hyper_of("adam", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    amsgrad, nesterov = checks.flag("adam: amsgrad", amsgrad), checks.flag("adam: nesterov", nesterov)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        change, moments = _adam(coupled(g, p, h), kept, h, amsgrad, nesterov)
        return p - change, moments

    return Optimizer("adam", hyper, _adam_init(amsgrad), update, shared=_SHARED)


@public(_KNOWN)
def adamw(
    learning_rate: Rate,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Rate = 1e-8,
    weight_decay: Rate | None = 1e-2,
    mask: Mask | None = None,
    amsgrad: bool = False,
    nesterov: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p -= learning_rate (step + weight_decay p).

    `mask`: a function from the parameters to a pytree of bools; only leaves where it says True decay. `amsgrad` and
    `nesterov` are those of `adam`.

        >>> from adjit.optim import adamw
        >>> optimizer = adamw(1e-3, mask=lambda params: {name: name.startswith("w") for name in params})
    """
    hyper = hyper_of("adamw", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
    amsgrad, nesterov = checks.flag("adamw: amsgrad", amsgrad), checks.flag("adamw: nesterov", nesterov)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        change, moments = _adam(g, kept, h, amsgrad, nesterov)
        return p - decayed(change, p, h), moments

    return Optimizer("adamw", hyper, _adam_init(amsgrad), update, masks_of("adamw", mask, hyper), _SHARED)


@public(_KNOWN)
def adamax(
    learning_rate: Rate, b1: Rate = 0.9, b2: Rate = 0.999, eps: Rate = 1e-8, weight_decay: Rate | None = None
) -> Optimizer:
    """Adamax (Kingma and Ba 2015): Adam whose scale is a running maximum, u = max(b2 u, |g| + eps).

    p -= learning_rate m / (1 - b1^t) / u. `weight_decay` is coupled.

        >>> from adjit.optim import adamax
        >>> optimizer = adamax(2e-3)
    """
    hyper = hyper_of("adamax", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        m = h["b1"] * kept["m"] + (1.0 - h["b1"]) * g
        u = np.maximum(h["b2"] * kept["u"], np.abs(g) + h["eps"])
        return p - h["learning_rate"] / (1.0 - h["b1_product"]) * m / u, {"m": m, "u": u}

    return Optimizer("adamax", hyper, zeros("m", "u"), update, shared={"b1_product": _SHARED["b1_product"]})


def _nadam_decay(h: Mapping[str, Any], t: Any) -> Any:
    """The decay of the mean at step t: from b1 / 2 to b1."""
    return h["b1"] * (1.0 - 0.5 * 0.96 ** (t * h["momentum_decay"]))


@public(_KNOWN)
def nadam(
    learning_rate: Rate,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Rate = 1e-8,
    momentum_decay: Rate = 4e-3,
    weight_decay: Rate | None = None,
) -> Optimizer:
    """NAdam (Dozat 2016): Adam with Nesterov's momentum, whose decay grows from b1 / 2 to b1.

    The decay at step t is c_t = b1 (1 - 0.96^(t momentum_decay) / 2), and the step goes along
    c_(t+1) m / (1 - c_1 ... c_(t+1)) + (1 - c_t) g / (1 - c_1 ... c_t), as torch.optim.NAdam has it. `weight_decay` is
    coupled.

        >>> from adjit.optim import nadam
        >>> optimizer = nadam(2e-3)
    """
    hyper = hyper_of(
        "nadam", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, momentum_decay=momentum_decay,
        weight_decay=weight_decay,
    )  # fmt: skip

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        m, v = _moments(g, kept, h)
        now, then = _nadam_decay(h, t), _nadam_decay(h, t + 1)
        of_g = h["learning_rate"] * (1.0 - now) / (1.0 - h["decay_product"])
        of_m = h["learning_rate"] * then / (1.0 - h["decay_product"] * then)
        return p - (of_m * m + of_g * g) / _root(v, h), {"m": m, "v": v}

    shared: dict[str, tuple[float, Advance]] = {
        "decay_product": (1.0, lambda old, h, t: old * _nadam_decay(h, t)),
        "b2_product": _SHARED["b2_product"],
    }
    return Optimizer("nadam", hyper, zeros("m", "v"), update, shared=shared)


@public(_KNOWN)
def radam(
    learning_rate: Rate, b1: Rate = 0.9, b2: Rate = 0.999, eps: Rate = 1e-8, weight_decay: Rate | None = None
) -> Optimizer:
    """RAdam (Liu et al. 2020): Adam that warms up by itself.

    Its steps are those of momentum alone as long as the mean of squares is of too few gradients, and Adam's times a
    factor that grows to 1 afterwards. `weight_decay` is coupled.

        >>> from adjit.optim import radam
        >>> optimizer = radam(1e-3)
    """
    hyper = hyper_of("radam", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        g = coupled(g, p, h)
        m, v = _moments(g, kept, h)
        left = 1.0 - h["b2_product"]
        most = 2.0 / (1.0 - h["b2"]) - 1.0
        length = most - 2.0 * t * h["b2_product"] / left
        warm = length > 5.0
        # What stands in the root is of the branch that is taken, so that the other one gives no NaN.
        safe = np.where(warm, length, 6.0)
        ratio = (safe - 4.0) * (safe - 2.0) * most / ((most - 4.0) * (most - 2.0) * safe)
        rectified = np.sqrt(left * np.where(warm, ratio, 1.0))
        rate = h["learning_rate"] / (1.0 - h["b1_product"])
        scale = np.where(warm, rectified / (np.sqrt(v) + h["eps"]), 1.0).astype(p.dtype)
        return p - rate * m * scale, {"m": m, "v": v}

    return Optimizer("radam", hyper, zeros("m", "v"), update, shared=_SHARED)


@public(_KNOWN)
def lamb(
    learning_rate: Rate,
    b1: Rate = 0.9,
    b2: Rate = 0.999,
    eps: Rate = 1e-6,
    weight_decay: Rate | None = None,
    mask: Mask | None = None,
) -> Optimizer:
    """LAMB (You et al. 2020): Adam for large batches, whose step is as long as each parameter array is.

    With r = Adam's step + weight_decay p: p -= learning_rate |p| / |r| r, where the norms are those of the whole array,
    and the ratio is 1 where one of them is 0. `mask` is that of `adamw`.

        >>> from adjit.optim import lamb
        >>> optimizer = lamb(1e-2, weight_decay=0.01)
    """
    hyper = hyper_of("lamb", learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)

    def update(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
        m, v = _moments(g, kept, h)
        step = coupled(m * (1.0 / (1.0 - h["b1_product"])) / _root(v, h), p, h)
        long, short = np.sqrt(np.sum(p * p)), np.sqrt(np.sum(step * step))
        known = (long > 0) & (short > 0)
        ratio = np.where(known, long / np.where(known, short, 1.0), 1.0).astype(p.dtype)
        return p - h["learning_rate"] * ratio * step, {"m": m, "v": v}

    return Optimizer("lamb", hyper, zeros("m", "v"), update, masks_of("lamb", mask, hyper), _SHARED)
