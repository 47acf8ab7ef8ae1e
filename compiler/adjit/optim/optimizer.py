"""Optimizer: what an optimiser is made of, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adjit.optim.schedule import Numbers, Schedule
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError

Hyper = Numbers | Schedule | None
Init = Callable[[Any], Any]
Advance = Callable[[Any, Mapping[str, Any], Any], Any]
Update = Callable[[Any, Any, Any, Mapping[str, Any], Any], tuple[Any, Any]]
Mask = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Optimizer:
    """An optimiser.

    `hyper`   name -> number, `Schedule`, or None for what is switched off: then there is no code for it, and setting it
              later raises. Numbers live in the state, as float64, and may be changed between steps; an array has one
              for each of the models that `adjit.vmap` of a step trains, and `update` sees that of one model.
    `init`    (parameter) -> pytree of arrays that are kept for it, `{}` for none; plain NumPy, called once by step.init
    `update`  (gradient, kept, parameter, hyper, t) -> (new parameter, new kept); traced. `hyper` maps names to scalars
              (schedules are evaluated already) or None, `t` is the number of the step, from 1. Results are converted to
              the dtypes of what they replace.
    `shared`  name -> (number before the first step, (old number, hyper, t) -> new number): float64 scalars that are
              kept once for all parameters, such as the product of the decays so far; each step advances them first,
              and `update` finds the new numbers in its `hyper`, under their names
    `masks`   name of a hyper-parameter -> function from the parameters to a pytree of bools: where it says False,
              `update` sees None for that hyper-parameter.
    `sparse`  whether an element whose gradient is 0 stays as it is, and what is kept for it too, whatever the numbers:
              then tables that are looked up by `nn.embedding(..., sparse=True)` are updated row by row.
    """

    name: str
    hyper: Mapping[str, Hyper]
    init: Init
    update: Update
    masks: Mapping[str, Mask] = field(default_factory=dict)
    shared: Mapping[str, tuple[float, Advance]] = field(default_factory=dict)
    sparse: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError(f"Optimizer: name is a str, not {checks.shown(self.name)}")
        for what in ("hyper", "masks", "shared"):
            given = getattr(self, what)
            if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
                raise ArgumentError(f"{self.name}: {what} is a mapping with names for keys, not {checks.shown(given)}")
        checks.function(f"{self.name}: init", self.init)
        checks.function(f"{self.name}: update", self.update)
        for name, value in self.hyper.items():
            if value is not None and not isinstance(value, Schedule):
                checks.reals(f"{self.name}: {name} is a schedule, None, or", value)
        for name, mask in self.masks.items():
            checks.function(f"{self.name}: the mask of {name}", mask)
            if name not in self.hyper:
                raise ArgumentError(f"{self.name}: a mask for {name}, which is no hyper-parameter")
        checks.flag(f"{self.name}: sparse", self.sparse)
        for name, pair in self.shared.items():
            if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[1])):
                raise ArgumentError(f"{self.name}: {name} in shared is (number, function), not {checks.shown(pair)}")
            checks.real(f"{self.name}: the number of {name} in shared", pair[0])
            if name in self.hyper:
                raise ArgumentError(f"{self.name}: {name} is a hyper-parameter and cannot be a shared number, too")
