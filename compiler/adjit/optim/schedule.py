"""Schedules: hyper-parameters as functions of the step count, evaluated in float64 inside the compiled step.

The numbers of a schedule live in the state: `state.hyper["learning_rate"]["peak"] = 1e-4` takes effect at the next
step. So does what it keeps of the losses that it has seen, in `state.shared`.

    >>> from adjit.optim import adam, schedule
    >>> optimizer = adam(schedule.warm_up(schedule.cosine(1e-3, steps=10_000), steps=500))
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public


@dataclass(frozen=True, eq=False)
class Schedule:
    """`value(numbers, count)` is the value at the step with `count` steps before it; plain NumPy on scalars, traced.

    A number may be an array with one for each model, where `adjit.vmap` of a step trains several.

    `kept`      name -> number before the first step: float64 scalars that the schedule keeps between steps. `value`
                finds them among its numbers
    `advance`   (numbers, count, loss) -> {name: new number} for what is kept; called at each step, when `value` has
                been, with the loss of the step
    """

    name: str
    numbers: Mapping[str, Any]
    value: Callable[[Mapping[str, Any], Any], Any]
    kept: Mapping[str, float] = field(default_factory=dict)
    advance: Callable[[Mapping[str, Any], Any, Any], Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"Schedule: name is a str, not {checks.shown(self.name)}")
        for what in ("numbers", "kept"):
            given = getattr(self, what)
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise ArgumentError(
                    f"{self.name}: {what} is a mapping from names to numbers, not {checks.shown(given)}"
                )
        for name, number in self.numbers.items():
            checks.reals(f"{self.name}: {name}", number)
        for name, number in self.kept.items():
            checks.real(f"{self.name}: {name} in kept", number)
            if name in self.numbers:
                raise ArgumentError(f"{self.name}: {name} is one of the numbers, and cannot be kept, too")
        checks.function(f"{self.name}: value", self.value)
        if self.advance is not None:
            checks.function(f"{self.name}: advance", self.advance)
        if bool(self.kept) != (self.advance is not None):
            raise ArgumentError(f"{self.name}: kept and advance go together: what is kept, and how it changes")

    def __call__(self, count: int) -> Any:
        """The value with the numbers as they were given, for a look at the curve: a float, or one for each model.

        Of a schedule that sees losses, as long as these only fall."""
        numbers = {name: np.asarray(number) if np.ndim(number) else number for name, number in self.numbers.items()}
        found = self.value({**numbers, **self.kept}, checks.integer(f"{self.name}: count", count, 0))
        return found if np.ndim(found) else float(found)


_COUNTS = (
    "total_steps", "decay_steps", "T_max", "num_steps", "warmup_steps", "warmup", "n_steps", "T_0", "total_iters",
)  # fmt: skip
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
    "min_lr": "end",
    "base_lr": "the first argument is the value at the start, or the peak",
    "max_lr": "the first argument is the value at the start, or the peak",
    "initial_lr": "the first argument is the value at the start, or the peak",
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
def polynomial(initial: Numbers, steps: Numbers, power: Numbers = 1.0, end: Numbers = 0.0) -> Schedule:
    """From `initial` to `end` along (1 - count / steps) ** power, then `end`; linear with the power 1."""
    _positive("polynomial", steps=steps, power=power)

    def value(n: Mapping[str, Any], count: Any) -> Any:
        left = 1.0 - np.minimum(count / n["steps"], 1.0)
        return n["end"] + (n["initial"] - n["end"]) * left ** n["power"]

    return Schedule("polynomial", {"initial": initial, "steps": steps, "power": power, "end": end}, value)


_ANNEALS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda done: 0.5 - 0.5 * np.cos(math.pi * done),
    "linear": lambda done: done,
}


@public(_KNOWN | {"pct_start": "rise", "div_factor": "start_divisor", "final_div_factor": "end_divisor",
                  "anneal_strategy": "anneal"})  # fmt: skip
def one_cycle(
    peak: Numbers,
    steps: Numbers,
    rise: Numbers = 0.3,
    start_divisor: Numbers = 25.0,
    end_divisor: Numbers = 1e4,
    anneal: str = "cosine",
    three_phases: bool = False,
) -> Schedule:
    """Up to `peak` and down again (Smith and Topin 2019), as torch.optim.lr_scheduler.OneCycleLR has it.

    From start = peak / start_divisor to `peak` in the share `rise` of the steps, then to start / end_divisor, where it
    stays; with `three_phases` back to the start as fast as up, then to start / end_divisor. `anneal` is the form of
    each phase, "cosine" or "linear"."""
    _positive("one_cycle", steps=steps, rise=rise, start_divisor=start_divisor, end_divisor=end_divisor)
    three = checks.flag("one_cycle: three_phases", three_phases)
    checks.reals(f"one_cycle: rise, the share of {'each of two phases' if three else 'a phase'},", rise, 0.0,
                 0.5 if three else 1.0)  # fmt: skip
    if not isinstance(anneal, str) or anneal not in _ANNEALS:
        raise ArgumentError(f'one_cycle: anneal is "cosine" or "linear", not {checks.shown(anneal)}')
    form = _ANNEALS[anneal]

    def value(n: Mapping[str, Any], count: Any) -> Any:
        start = n["peak"] / n["start_divisor"]
        top, last = n["rise"] * n["steps"] - 1.0, n["steps"] - 1.0
        corners = [(0.0, start), (top, n["peak"]), (last, start / n["end_divisor"])]
        if three:
            corners.insert(2, (2.0 * top, start))
        found: Any = start
        for (x, a), (x2, b) in itertools.pairwise(corners):
            done = np.minimum(np.maximum((count - x) / np.maximum(x2 - x, 1e-9), 0.0), 1.0)
            found = np.where(count > x, a + (b - a) * form(done), found)
        return np.where(count > last, start / n["end_divisor"], found)

    numbers = {"peak": peak, "steps": steps, "rise": rise, "start_divisor": start_divisor, "end_divisor": end_divisor}
    return Schedule("one_cycle", numbers, value)


@public(_KNOWN | {"T_mult": "stretch", "t_mul": "stretch", "m_mul": "shrink"})
def restarts(
    peak: Numbers, steps: Numbers, stretch: Numbers = 1.0, shrink: Numbers = 1.0, end: Numbers = 0.0
) -> Schedule:
    """Warm restarts (Loshchilov and Hutter 2017, SGDR): half a cosine from `peak` to `end` over and over again.

    The first one has `steps` steps, each other one `stretch` times, a number >= 1, as many as that before it, and
    `shrink` times its peak."""
    _positive("restarts", steps=steps, shrink=shrink)
    checks.reals("restarts: stretch", stretch, 1.0)

    def value(n: Mapping[str, Any], count: Any) -> Any:
        cycle, since, length = _cycle(n["steps"], n["stretch"], count)
        peak = n["peak"] * n["shrink"] ** cycle
        return n["end"] + (peak - n["end"]) * 0.5 * (1.0 + np.cos(math.pi * since / length))

    numbers = {"peak": peak, "steps": steps, "stretch": stretch, "shrink": shrink, "end": end}
    return Schedule("restarts", numbers, value)


def _cycle(steps: Any, stretch: Any, count: Any) -> tuple[Any, Any, Any]:
    """The number of the cycle that a step is in, its steps before that one, and how many it has."""
    equal = stretch == 1.0
    base = np.where(equal, 2.0, stretch)

    def begin(cycle: Any) -> Any:
        return steps * np.where(equal, cycle, (base**cycle - 1.0) / (base - 1.0))

    # A logarithm may be off by one at the first step of a cycle.
    guess = np.floor(np.log(count / steps * (base - 1.0) + 1.0) / np.log(base))
    cycle = np.where(equal, np.floor(count / steps), guess)
    cycle = np.where(begin(cycle + 1.0) <= count, cycle + 1.0, cycle)
    cycle = np.where(begin(cycle) > count, cycle - 1.0, cycle)
    return cycle, count - begin(cycle), steps * np.where(equal, 1.0, base**cycle)


@public(_KNOWN | {"schedules": "pieces", "boundaries": "ends", "milestones": "ends"})
def piecewise(pieces: Sequence[Numbers | Schedule], ends: Sequence[Numbers]) -> Schedule:
    """One of several after another: `pieces[i]` before the step with ends[i] steps before it, the last one for good.

    Each is a number or a schedule, which counts from where it begins. Numbers of the i-th are called "i.value", as in
    state.hyper["learning_rate"]["1.value"], or "i.peak" as the schedule has them, and the ends "ends.0", "ends.1"."""
    if not isinstance(pieces, list | tuple) or not pieces:
        raise ArgumentError(f"piecewise: pieces is a list of numbers and schedules, not {checks.shown(pieces)}")
    if not isinstance(ends, list | tuple) or len(ends) != len(pieces) - 1:
        raise ArgumentError(
            f"piecewise: ends is a list with a step for each of {len(pieces)} pieces but the last, not "
            f"{checks.shown(ends)}"
        )
    for i, piece in enumerate(pieces):
        if not isinstance(piece, Schedule):
            checks.reals(f"piecewise: pieces[{i}] is a schedule, or", piece)
    for i, end in enumerate(ends):
        checks.reals(f"piecewise: ends[{i}]", end, 0.0)
        if i and not np.all(np.greater(end, ends[i - 1])):
            raise ArgumentError(f"piecewise: ends are steps in order, not {checks.shown(ends)}")
    parts = [piece if isinstance(piece, Schedule) else constant(piece) for piece in pieces]
    numbers = {f"{i}.{name}": number for i, part in enumerate(parts) for name, number in part.numbers.items()}
    kept = {f"{i}.{name}": number for i, part in enumerate(parts) for name, number in part.kept.items()}
    numbers |= {f"ends.{i}": end for i, end in enumerate(ends)}

    def own(n: Mapping[str, Any], i: int) -> dict[str, Any]:
        return {name: n[f"{i}.{name}"] for name in (*parts[i].numbers, *parts[i].kept)}

    def begin(n: Mapping[str, Any], i: int) -> Any:
        return n[f"ends.{i - 1}"] if i else 0

    def value(n: Mapping[str, Any], count: Any) -> Any:
        found = parts[0].value(own(n, 0), count)
        for i, part in enumerate(parts[1:], 1):
            since = count - begin(n, i)
            found = np.where(since >= 0, part.value(own(n, i), np.maximum(since, 0)), found)
        return found

    def advance(n: Mapping[str, Any], count: Any, loss: Any) -> dict[str, Any]:
        new = {}
        for i, part in enumerate(parts):
            if part.advance is None:
                continue
            since = count - begin(n, i)
            active = since >= 0 if i == len(ends) else (since >= 0) & (count < n[f"ends.{i}"])
            for name, number in part.advance(own(n, i), np.maximum(since, 0), loss).items():
                new[f"{i}.{name}"] = np.where(active, number, n[f"{i}.{name}"])
        return new

    return Schedule("piecewise", numbers, value, kept, advance if kept else None)


@public(_KNOWN | {"min_lr": "end", "accumulation_size": "every"})
def plateau(
    initial: Numbers,
    factor: Numbers = 0.1,
    patience: Numbers = 10,
    threshold: Numbers = 1e-4,
    cooldown: Numbers = 0,
    every: Numbers = 1,
    end: Numbers = 0.0,
) -> Schedule:
    """`initial` until the loss stays where it is, then `factor` times as much, and so on down to `end`.

    The mean loss of each `every` steps (an epoch, say) is compared with the least one so far. One that is not below it
    by the share `threshold` is bad; when more than `patience` in a row were bad, the next value is `factor` times this
    one, and the next `cooldown` means cannot be bad. As torch.optim.lr_scheduler.ReduceLROnPlateau for the means, with
    threshold_mode="rel" and no eps. The loss is that of the step, before its update, penalties included."""
    _positive("plateau", factor=factor, every=every)
    checks.reals("plateau: patience", patience, 0.0)
    checks.reals("plateau: threshold", threshold, 0.0, 1.0)
    checks.reals("plateau: cooldown", cooldown, 0.0)
    if not np.all(np.less(factor, 1.0)):
        raise ArgumentError(f"plateau: factor is a number > 0 and < 1, not {checks.shown(factor)}")

    def value(n: Mapping[str, Any], count: Any) -> Any:
        return np.maximum(n["initial"] * n["scale"], n["end"])

    def advance(n: Mapping[str, Any], count: Any, loss: Any) -> dict[str, Any]:
        total, seen = n["total"] + loss, n["seen"] + 1.0
        whole = seen >= n["every"]
        mean = total / seen
        better = mean < n["best"] * (1.0 - np.sign(n["best"]) * n["threshold"])
        resting = np.maximum(n["resting"] - 1.0, 0.0)
        bad = np.where(better | (n["resting"] > 0), 0.0, n["bad"] + 1.0)
        falls = bad > n["patience"]
        new = {
            "best": np.where(better, mean, n["best"]),
            "bad": np.where(falls, 0.0, bad),
            "resting": np.where(falls, n["cooldown"], resting),
            "scale": np.where(falls, n["scale"] * n["factor"], n["scale"]),
            "total": 0.0,
            "seen": 0.0,
        }
        going_on = {"total": total, "seen": seen}
        return {name: np.where(whole, number, going_on.get(name, n[name])) for name, number in new.items()}

    numbers = {"initial": initial, "factor": factor, "patience": patience, "threshold": threshold,
               "cooldown": cooldown, "every": every, "end": end}  # fmt: skip
    kept = {"best": math.inf, "bad": 0.0, "resting": 0.0, "scale": 1.0, "total": 0.0, "seen": 0.0}
    return Schedule("plateau", numbers, value, kept, advance)


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

    numbers = {**inner.numbers, "warm_up_steps": steps}
    return Schedule(f"warm_up of {inner.name}", numbers, value, inner.kept, inner.advance)
