"""Optimizer: what an optimiser is made of, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adjit.optim.schedule import Numbers, Schedule
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError

Hyper = Numbers | Schedule | Mapping[str, Any] | None
Init = Callable[[Any], Any]
Advance = Callable[[Any, Mapping[str, Any], Any], Any]
Update = Callable[[Any, Any, Any, Mapping[str, Any], Any], tuple[Any, Any]]
Mask = Callable[[Any], Any]

RESERVED = ("loss", "groups", "average_decay")
"""Names under which steps give and keep numbers of their own."""


@dataclass(frozen=True, eq=False)
class Optimizer:
    """An optimiser.

    `hyper`   name -> number, `Schedule`, a mapping of the same kind, or None for what is switched off: then there is no
              code for it, and setting it later raises. Numbers live in the state, as float64, and may be changed
              between steps; an array has one for each of the models that `adjit.vmap` of a step trains, and `update`
              sees that of one model.
    `init`    (parameter) -> pytree of arrays that are kept for it, `{}` for none; plain NumPy, called once by step.init
    `update`  (gradient, kept, parameter, hyper, t) -> (new parameter, new kept); traced. `hyper` maps names to scalars
              (schedules are evaluated already) or None, and "loss" to the loss of this step; `t` is the number of the
              step, from 1. Results are converted to the dtypes of what they replace.
    `shared`  name -> (number before the first step, (old number, hyper, t) -> new number): float64 scalars that are
              kept once for all parameters, such as the product of the decays so far; each step advances them first,
              and `update` finds the new numbers in its `hyper`, under their names
    `masks`   name of a hyper-parameter ("decays.rate" of one in a mapping) -> function from the parameters to a pytree
              of bools: where it says False, `update` sees None for that hyper-parameter.

    `sparse`  whether an element whose gradient is 0 stays as it is, and what is kept for it too, whatever the numbers:
              then tables that are looked up by `nn.embedding(..., sparse=True)` are updated row by row.

    `groups`, `average_decay`, `every` and `mean` are what the functions `groups`, `ema` and `accumulate` set.
    """

    name: str
    hyper: Mapping[str, Hyper]
    init: Init
    update: Update
    masks: Mapping[str, Mask] = field(default_factory=dict)
    shared: Mapping[str, tuple[float, Advance]] = field(default_factory=dict)
    sparse: bool = False
    groups: Mapping[str, Optimizer | Mapping[str, Hyper] | None] = field(default_factory=dict)
    average_decay: Numbers | Schedule | None = None
    every: int = 1
    mean: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"Optimizer: name is a str, not {checks.shown(self.name)}")
        for what in ("hyper", "masks", "shared", "groups"):
            given = getattr(self, what)
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise ArgumentError(f"{self.name}: {what} is a mapping with names for keys, not {checks.shown(given)}")
        checks.function(f"{self.name}: init", self.init)
        checks.function(f"{self.name}: update", self.update)
        _check_hyper(self.name, self.hyper)
        for name, mask in self.masks.items():
            checks.function(f"{self.name}: the mask of {name}", mask)
            if not _has(self.hyper, name):
                raise ArgumentError(f"{self.name}: a mask for {name}, which is no hyper-parameter")
        checks.flag(f"{self.name}: sparse", self.sparse)
        for name, pair in self.shared.items():
            if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[1])):
                raise ArgumentError(f"{self.name}: {name} in shared is (number, function), not {checks.shown(pair)}")
            checks.real(f"{self.name}: the number of {name} in shared", pair[0])
            if name in self.hyper:
                raise ArgumentError(f"{self.name}: {name} is a hyper-parameter and cannot be a shared number, too")
        for name in RESERVED:
            if name in self.hyper or name in self.shared:
                raise ArgumentError(f"{self.name}: {name} is a name that steps have for numbers of their own")
        self._check_composition()

    def _check_composition(self) -> None:
        if not isinstance(self.average_decay, Schedule | None):
            checks.reals(f"{self.name}: average_decay is a schedule, None, or", self.average_decay, 0.0, 1.0)
        checks.integer(f"{self.name}: every", self.every, 1)
        checks.flag(f"{self.name}: mean", self.mean)
        for pattern, given in self.groups.items():
            if not isinstance(given, Optimizer | Mapping | None):
                raise ArgumentError(
                    f"{self.name}: groups: {pattern!r} stands for an optimiser, a mapping of hyper-parameters, or None "
                    f"for parameters that stay what they are, not {checks.shown(given)}"
                )
            if isinstance(given, Optimizer) and given.composed:
                raise ArgumentError(
                    f"{self.name}: groups: {pattern!r} stands for {given.name} with {given.composed}: write it around "
                    "groups(...), for all parameters"
                )
            if isinstance(given, Mapping):
                _check_overrides(f"{self.name}: groups: {pattern!r}", given, self.hyper)

    @property
    def composes(self) -> bool:
        """Whether more is kept for a parameter than `init` makes: {"kept": that, "average": .., "sum": ..}."""
        return self.average_decay is not None or self.every > 1

    @property
    def composed(self) -> str:
        """What was made around the optimiser, for errors; empty for a plain one."""
        found = {"groups": bool(self.groups), "ema": self.average_decay is not None, "accumulate": self.every > 1}
        return " and ".join(name for name, there in found.items() if there)


def _check_hyper(owner: str, hyper: Mapping[str, Hyper], at: str = "") -> None:
    for name, value in hyper.items():
        if not isinstance(name, str):
            raise ArgumentError(f"{owner}: hyper: {at} is a mapping with names for keys, not {checks.shown(hyper)}")
        if isinstance(value, Mapping):
            _check_hyper(owner, value, f"{at}{name}.")
        elif value is not None and not isinstance(value, Schedule):
            checks.reals(f"{owner}: {at}{name} is a schedule, None, or", value)


def _check_overrides(what: str, given: Mapping[str, Any], hyper: Mapping[str, Any]) -> None:
    """Other numbers for hyper-parameters that are there."""
    for name, value in given.items():
        known = hyper.get(name)
        if known is None:
            there = ", ".join(other for other, number in hyper.items() if number is not None)
            reason = "is switched off" if name in hyper else "is none"
            raise ArgumentError(f"{what}: of the hyper-parameters, {there}, {checks.shown(name)} {reason}; give an "
                                "optimiser, if the group has another one")  # fmt: skip
        if isinstance(known, Mapping) != isinstance(value, Mapping):
            raise ArgumentError(f"{what}: {name} is {checks.shown(value)}, and {checks.shown(known)} in the optimiser")
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            _check_overrides(f"{what}: {name}", value, known)
        elif not isinstance(value, Schedule):
            checks.reals(f"{what}: {name} is a schedule, or", value)


def _has(hyper: Mapping[str, Any], name: str) -> bool:
    """Whether there is a hyper-parameter of that name, which has points where it lies in mappings."""
    first, _, rest = name.partition(".")
    if name in hyper or not rest:
        return name in hyper
    inner = hyper.get(first)
    return isinstance(inner, Mapping) and _has(inner, rest)
