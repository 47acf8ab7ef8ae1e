"""Arguments of optimisers: what each number may be, and what people call it elsewhere.

Each may be an array with one number for each model, where `adjit.vmap` of a step trains several, or a `Schedule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adjit.optim.optimizer import Hyper, Mask
from adjit.optim.schedule import Numbers, Schedule
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError

Rate = Numbers | Schedule

_STEP = "it is an argument of the step, training_step(loss, optimizer, clip_norm=1.0)"
KNOWN = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "step_size": "learning_rate",
    "alpha": "learning_rate",
    "eta": "learning_rate",
    "epsilon": "eps",
    "wd": "weight_decay",
    "params": "an optimiser is made without the parameters, as adam(1e-3); step.init(params) takes them",
    "clipnorm": _STEP,
    "clip_norm": _STEP,
    "max_norm": _STEP,
    "schedule": "a schedule stands for the rate, adam(adjit.optim.schedule.cosine(1e-3, steps=1000))",
}
BETAS = {
    "beta1": "b1",
    "beta2": "b2",
    "beta_1": "b1",
    "beta_2": "b2",
    "betas": "they are b1 and b2 here, as adam(1e-3, b1=0.9, b2=0.999)",
}
"""Arguments that people know from other libraries, and what they are here."""


def _rate(what: str, value: Any) -> Any:
    """A number >= 0: a step against the gradient has no negative length."""
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


def _not_negative(what: str, value: Any) -> Numbers:
    return checks.reals(what, value, 0.0)


def _share(what: str, value: Any) -> Numbers:
    return checks.reals(what, value, 0.0, 1.0)


def _positive(what: str, value: Any) -> Numbers:
    number = checks.reals(what, value, 0.0)
    if np.any(np.equal(number, 0.0)):
        raise ArgumentError(f"{what} is positive, not {checks.shown(number)}")
    return number


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "learning_rate": _rate,
    "momentum": _or_none,
    "weight_decay": _or_none,
    "b1": _decay,
    "b2": _decay,
    "decay": _share,
    "dampening": _share,
    "average_decay": _share,
    "clip": _positive,
    "shrink": _share,
}
"""What a hyper-parameter of a name may be, beside a schedule; another one is a number >= 0."""


def hyper_of(owner: str, **given: Any) -> dict[str, Hyper]:
    """Hyper-parameters by name, each checked. Without a weight decay there is none: the step may have it."""
    checked = {name: number(f"{owner}: {name}", name, value) for name, value in given.items()}
    return {name: value for name, value in checked.items() if name != "weight_decay" or value is not None}


def number(what: str, name: str, value: Any) -> Any:
    """The hyper-parameter `name`: a schedule, or what may stand under that name."""
    if isinstance(value, Schedule):
        return value
    check: Callable[[str, Any], Any] = _CHECKS.get(name, _not_negative)
    return check(what, value)


def masks_of(owner: str, mask: Mask | None, hyper: Mapping[str, Hyper]) -> dict[str, Mask]:
    """The masks of an optimiser that takes one for its weight decay."""
    if mask is None:
        return {}
    checks.function(f"{owner}: mask", mask)
    return {"weight_decay": mask} if "weight_decay" in hyper else {}


def coupled(g: Any, p: Any, h: Mapping[str, Any]) -> Any:
    """The gradient with weight decay as a part of it, where there is one."""
    decay = h.get("weight_decay")
    return g if decay is None else g + decay * p


def decayed(change: Any, p: Any, h: Mapping[str, Any]) -> Any:
    """A change of the parameter with weight decay beside it, where there is one."""
    decay = h.get("weight_decay")
    return change if decay is None else change + h["learning_rate"] * decay * p


def zeros(*names: str) -> Callable[[Any], dict[str, Any]]:
    """`init` of what begins as zeros in the parameter's shape."""
    return lambda p: {name: np.zeros_like(p) for name in names}
