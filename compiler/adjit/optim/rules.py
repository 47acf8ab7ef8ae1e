"""Which optimiser updates which parameter, and with which numbers.

A `Rule` is an optimiser, or one of its groups. Numbers lie where `state.hyper` shows them: those of the optimiser by
name, those of a group under "groups" and its pattern. Shared numbers have one name each, with points in it."""

from __future__ import annotations

import fnmatch
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.optim.optimizer import Hyper, Optimizer
from adjit.optim.schedule import Schedule
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError

Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Rule:
    """How the parameters of a group are updated; `pattern` is None for those of no group."""

    optimizer: Optimizer
    pattern: str | None = None
    frozen: bool = False
    inherits: bool = False
    """Whether its numbers are others in place of some of the whole optimiser's."""

    def shared_name(self, name: str) -> str:
        """The name of a shared number in the state."""
        return name if self.pattern is None else f"groups.{self.pattern}.{name}"

    def initial(self, parameter: np.ndarray, whole: Optimizer) -> Any:
        """What is kept for a parameter before the first step."""
        kept = self.optimizer.init(parameter)
        if not whole.composes:
            return kept
        found = {"kept": kept} | ({"average": parameter} if whole.average_decay is not None else {})
        return found | ({"sum": np.zeros_like(parameter)} if whole.every > 1 and not self.frozen else {})

    def numbers(self, scalars: Mapping[str, Any], shared: Mapping[str, Any], loss: Any) -> dict[str, Any]:
        """What `update` finds in its hyper-parameters, of the scalars of a whole step."""
        found = {name: scalars[name] for name in self.optimizer.hyper} if self.pattern is None or self.inherits else {}
        if self.pattern is not None and not self.frozen:
            found = _merged(found, scalars["groups"][self.pattern])
        own = {name: shared[self.shared_name(name)] for name in self.optimizer.shared}
        return {**found, **own, "loss": loss}


def _frozen(g: Any, kept: Any, p: Any, h: Mapping[str, Any], t: Any) -> tuple[Any, Any]:
    return p, kept


_STAYS = Optimizer("frozen", {}, lambda p: {}, _frozen)


def rules_of(optimizer: Optimizer) -> list[Rule]:
    """The rule of the optimiser itself, then one for each of its groups."""
    found = [Rule(optimizer)]
    for pattern, given in optimizer.groups.items():
        if given is None:
            found.append(Rule(_STAYS, pattern, frozen=True))
        elif isinstance(given, Optimizer):
            found.append(Rule(given, pattern))
        else:
            found.append(Rule(optimizer, pattern, inherits=True))
    return found


def assigned(optimizer: Optimizer, names: Sequence[str]) -> list[Rule]:
    """The rule of each parameter, by the names of the leaves, which begin with "params." but for that of a single
    array. Raises ArgumentError for a pattern that matches none."""
    names = [name.removeprefix("params.") for name in names]
    own, *others = rules_of(optimizer)
    found = [next((rule for rule in others if _matches(name, rule)), own) for name in names]
    for rule in others:
        if not any(_matches(name, rule) for name in names):
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise ArgumentError(f"groups: the pattern {rule.pattern!r} matches no parameter; there are {shown}")
    return found


def _matches(name: str, rule: Rule) -> bool:
    return rule.pattern is not None and fnmatch.fnmatchcase(name, rule.pattern)


def hyper_of_rules(optimizer: Optimizer) -> dict[str, Hyper]:
    """All hyper-parameters, as `state.hyper` has them."""
    hyper = dict(optimizer.hyper)
    if optimizer.average_decay is not None:
        hyper["average_decay"] = optimizer.average_decay
    own = {
        pattern: given.hyper if isinstance(given, Optimizer) else given
        for pattern, given in optimizer.groups.items()
        if given is not None
    }
    return hyper | {"groups": own} if own else hyper


def check_extras(optimizer: Optimizer, extras: Iterable[str]) -> None:
    """Refuse a number of the step that an optimiser has, or that it has no rate for."""
    for rule in rules_of(optimizer):
        for name in sorted(extras):
            if name in rule.optimizer.hyper:
                raise ArgumentError(f"training_step: {rule.optimizer.name} has a {name} of its own; give it there")
        if "weight_decay" in extras and not rule.frozen and rule.optimizer.hyper.get("learning_rate") is None:
            raise ArgumentError("training_step: weight_decay needs an optimiser with a learning_rate")


def switched_off(hyper: Mapping[str, Hyper], at: str = "") -> Iterator[str]:
    """The names of what is None, with those of the mappings that it lies in."""
    for name, value in hyper.items():
        if value is None:
            yield f"{at}{name}"
        elif isinstance(value, Mapping):
            yield from switched_off(value, f"{at}{name}.")


def initial_numbers(hyper: Mapping[str, Hyper], number: Callable[[str, Any], Any], at: str = "") -> dict[str, Any]:
    """The numbers as a state begins with them, each as `number(name, value)` has it: those of a schedule in a dict,
    none for what is off."""
    found: dict[str, Any] = {}
    for name, value in hyper.items():
        if isinstance(value, Schedule | Mapping):
            inner = value.numbers if isinstance(value, Schedule) else value
            found[name] = initial_numbers(inner, number, f"{at}{name}.")
        elif value is not None:
            found[name] = number(f"{at}{name}", value)
    return found


def initial_shared(optimizer: Optimizer, hyper: Mapping[str, Hyper]) -> dict[str, float]:
    """The numbers that are kept once for all parameters, before the first step."""
    found = {
        rule.shared_name(name): initial
        for rule in rules_of(optimizer)
        for name, (initial, _) in rule.optimizer.shared.items()
    }
    for path, schedule in _schedules(hyper, ()):
        found |= {".".join((*path, name)): initial for name, initial in schedule.kept.items()}
    return found | ({"accumulated_loss": 0.0} if optimizer.every > 1 else {})


def _schedules(hyper: Mapping[str, Any], at: Path) -> Iterator[tuple[Path, Schedule]]:
    for name, value in hyper.items():
        if isinstance(value, Schedule):
            yield (*at, name), value
        elif isinstance(value, Mapping):
            yield from _schedules(value, (*at, name))


def scalars_of(
    hyper: Mapping[str, Any], tree: Mapping[str, Any], shared: Mapping[str, Any], count: Any, at: Path = ()
) -> dict[str, Any]:
    """Hyper-parameters of a step: numbers of the state, schedules evaluated, None for what is off."""
    found: dict[str, Any] = {}
    for name, value in hyper.items():
        if isinstance(value, Schedule):
            found[name] = value.value(_known(value, tree[name], shared, (*at, name)), count)
        elif isinstance(value, Mapping):
            found[name] = scalars_of(value, tree[name], shared, count, (*at, name))
        else:
            found[name] = None if value is None else tree[name]
    return found


def _known(schedule: Schedule, numbers: Mapping[str, Any], shared: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The numbers of a schedule, and what it keeps."""
    return {**numbers, **{name: shared[".".join((*path, name))] for name in schedule.kept}}


def advanced(
    optimizer: Optimizer, hyper: Mapping[str, Any], tree: Mapping[str, Any], scalars: Mapping[str, Any],
    before: Mapping[str, Any], t: Any, loss: Any,
) -> dict[str, Any]:  # fmt: skip
    """The shared numbers of this step, of those before it."""
    found = dict(before)
    for rule in rules_of(optimizer):
        # A number is made of its old self alone: others are as they were.
        h = rule.numbers(scalars, before, loss)
        for name, (_, advance) in rule.optimizer.shared.items():
            found[rule.shared_name(name)] = advance(before[rule.shared_name(name)], h, t)
    for path, schedule in _schedules(hyper, ()):
        if schedule.advance is None:
            continue
        known = _known(schedule, functools.reduce(operator.getitem, path, tree), before, path)
        new = schedule.advance(known, t - 1, loss)
        if not isinstance(new, Mapping) or new.keys() != schedule.kept.keys():
            raise ArgumentError(
                f"{schedule.name}: advance gives {checks.shown(new)}, and what is kept is {', '.join(schedule.kept)}"
            )
        found |= {".".join((*path, name)): number for name, number in new.items()}
    return found


def _merged(whole: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The whole with the others in their places."""
    found = dict(whole)
    for name, value in others.items():
        old = found.get(name)
        found[name] = _merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return found
