"""Schedules: hyper-parameters as functions of the step count, evaluated in float64 inside the compiled step.

The numbers of a schedule live in the state: `state.hyper["learning_rate"]["peak"] = 1e-4` takes effect at the next
step.

    >>> from adjit.optim import adam, schedule
    >>> optimizer = adam(schedule.warm_up(schedule.cosine(1e-3, steps=10_000), steps=500))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public


@dataclass(frozen=True, eq=False)
class Schedule:
    """`value(numbers, count)` is the value at the step with `count` steps before it; plain NumPy on scalars, traced.

    A number may be an array with one for each model, where `adjit.vmap` of a step trains several."""

    name: str
    numbers: Mapping[str, Any]
    value: Callable[[Mapping[str, Any], Any], Any]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"Schedule: name is a str, not {checks.shown(self.name)}")
        if not isinstance(self.numbers, Mapping) or not all(isinstance(name, str) for name in self.numbers):
            raise ArgumentError(
                f"{self.name}: numbers is a mapping from names to numbers, not {checks.shown(self.numbers)}"
            )
        for name, number in self.numbers.items():
            checks.reals(f"{self.name}: {name}", number)
        checks.function(f"{self.name}: value", self.value)

    def __call__(self, count: int) -> Any:
        """The value with the numbers as they were given, for a look at the curve: a float, or one for each model."""
        numbers = {name: np.asarray(number) if np.ndim(number) else number for name, number in self.numbers.items()}
        found = self.value(numbers, checks.integer(f"{self.name}: count", count, 0))
        return found if np.ndim(found) else float(found)


_COUNTS = ("total_steps", "decay_steps", "T_max", "num_steps", "warmup_steps", "warmup", "n_steps")
_KNOWN = dict.fromkeys(_COUNTS, "steps") | {
    "gamma": "step has a 'factor', exponential a 'rate'",
    "step_size": "every",
    "transition_steps": "every",
    "decay_rate": "rate",
    "init_value": "the first argument is the value at the start, or the peak",
    "lr": "the first argument is the value at the start, or the peak",
    "learning_rate": "the first argument is the value at the start, or the peak",
    "alpha": "end",
    "eta_min": "end",
    "end_value": "end",
}
"""Arguments that people know from other libraries, and what they are here."""


Numbers = float | np.ndarray
"""A number, or an array with one for each of several models."""


def _positive(name: str, **numbers: Numbers) -> None:
    for key, number in numbers.items():
        if not np.all(np.greater(checks.reals(f"{name}: {key}", number), 0)):
            raise ArgumentError(f"{name}: {key} is positive, not {checks.shown(number)}")


@public(_KNOWN)
def constant(value: Numbers) -> Schedule:
    """Always `value`. A plain number does the same; this one has a name in `state.hyper`."""
    return Schedule("constant", {"value": value}, lambda n, count: n["value"])


@public(_KNOWN)
def step(initial: Numbers, factor: Numbers, every: Numbers) -> Schedule:
    """initial * factor ** floor(count / every)."""
    _positive("step", every=every)
    numbers = {"initial": initial, "factor": factor, "every": every}
    return Schedule("step", numbers, lambda n, count: n["initial"] * n["factor"] ** np.floor(count / n["every"]))


@public(_KNOWN)
def exponential(initial: Numbers, rate: Numbers, every: Numbers = 1) -> Schedule:
    """initial * rate ** (count / every)."""
    _positive("exponential", every=every, rate=rate)
    numbers = {"initial": initial, "rate": rate, "every": every}
    return Schedule("exponential", numbers, lambda n, count: n["initial"] * n["rate"] ** (count / n["every"]))


@public(_KNOWN)
def cosine(peak: Numbers, steps: Numbers, end: Numbers = 0.0) -> Schedule:
    """From `peak` to `end` along half a cosine in `steps` steps, then `end` (Loshchilov and Hutter 2017, SGDR)."""
    _positive("cosine", steps=steps)

    def value(n: Mapping[str, Any], count: Any) -> Any:
        done = np.minimum(count / n["steps"], 1.0)
        return n["end"] + (n["peak"] - n["end"]) * 0.5 * (1.0 + np.cos(math.pi * done))

    return Schedule("cosine", {"peak": peak, "steps": steps, "end": end}, value)


@public(_KNOWN)
def warm_up(then: Numbers | Schedule, steps: Numbers) -> Schedule:
    """Linear from then / steps to `then`, a number (called `peak`) or another schedule, in `steps` steps.

    The other schedule counts from the first step on."""
    _positive("warm_up", steps=steps)
    if not isinstance(then, Schedule):
        checks.reals("warm_up: then", then)
    inner = then if isinstance(then, Schedule) else Schedule("constant", {"peak": then}, lambda n, count: n["peak"])
    if "warm_up_steps" in inner.numbers:
        raise ArgumentError("warm_up: the schedule warms up already")

    def value(n: Mapping[str, Any], count: Any) -> Any:
        return inner.value(n, count) * np.minimum((count + 1) / n["warm_up_steps"], 1.0)

    return Schedule(f"warm_up of {inner.name}", {**inner.numbers, "warm_up_steps": steps}, value)
