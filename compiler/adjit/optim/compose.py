"""What is made around an optimiser: groups of parameters, averages of parameters, sums of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adjit.optim.arguments import Rate, number
from adjit.optim.optimizer import Hyper, Optimizer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.public import public


@public({"base": "optimizer", "opt": "optimizer", "params": "patterns", "param_groups": "patterns"})
def groups(optimizer: Optimizer, patterns: Mapping[str, Any]) -> Optimizer:
    """Settings of their own for parameters whose names match a pattern.

    A name is the way to a leaf, joined by points: "layers.0.w" for params["layers"][0]["w"]. In a pattern "*" stands
    for any text, points included, "?" for a character, "[ab]" for one of several; the first pattern that matches the
    whole name counts, and one that matches none is an error when `step.init` sees the names. It stands for

    a dict          hyper-parameters, numbers or schedules, that are others in this group; the rest, and whatever is
                    changed of that later, is the `optimizer`'s
    an optimiser    the one of this group
    None            nothing: the group is frozen. Its gradient is not computed, and counts for no clipping

    Numbers of a group are in `state.hyper["groups"][pattern]`, what it keeps once for all in `state.shared`, under
    "groups.<pattern>.<name>".

        >>> from adjit.optim import adam, groups, sgd
        >>> optimizer = groups(adam(1e-3), {"*.b": {"learning_rate": 1e-2}, "head.*": sgd(0.1), "embedding.*": None})
    """
    _check("groups", optimizer)
    if optimizer.composed:
        raise ArgumentError(
            f"groups: optimizer is {optimizer.name} with {optimizer.composed}: one groups(...) has all patterns, and "
            "ema and accumulate are written around it"
        )
    if not isinstance(patterns, Mapping) or not patterns:
        raise ArgumentError(
            'groups: patterns is a dict from patterns to settings, as {"*.b": {"learning_rate": 0.1}, "head.*": None}, '
            f"not {checks.shown(patterns)}"
        )
    return replace(optimizer, groups={name: _settings(name, given) for name, given in patterns.items()})


def _settings(pattern: Any, given: Any) -> Any:
    if not isinstance(pattern, str):
        raise ArgumentError(f"groups: patterns: a pattern is a str, as '*.b', not {checks.shown(pattern)}")
    if not isinstance(given, Optimizer | Mapping | None):
        raise ArgumentError(
            f"groups: patterns: {pattern!r} stands for an optimiser, a dict of hyper-parameters, or None for "
            f"parameters that stay what they are, not {checks.shown(given)}"
        )
    if not isinstance(given, Mapping):
        return given
    return _checked(f"groups: patterns: {pattern!r}", given)


def _checked(what: str, given: Mapping[str, Any]) -> dict[str, Hyper]:
    """Hyper-parameters by name; 0 is a number here, as the code for it is there."""
    found: dict[str, Hyper] = {}
    for name, value in given.items():
        if not isinstance(name, str) or value is None:
            raise ArgumentError(f"{what}: {checks.shown(name)} is {checks.shown(value)}: give a name and a number")
        inner = isinstance(value, Mapping)
        checked = _checked(f"{what}: {name}", value) if inner else number(f"{what}: {name}", name, value)
        found[name] = 0.0 if checked is None else checked
    return found


@public({"base": "optimizer", "opt": "optimizer", "rate": "decay", "momentum": "decay"})
def ema(optimizer: Optimizer, decay: Rate = 0.999) -> Optimizer:
    """An optimiser that keeps a running mean of the parameters: mean = decay mean + (1 - decay) p after each step.

    It begins as the parameters that `step.init` gets. `averaged(state)` has it as a pytree, `state.hyper` the number
    under "average_decay". A schedule makes the mean another one: with count / (count + 1) it is that of all steps.
    Around `accumulate` it is that of the steps in which parameters move.

        >>> import numpy as np, adjit
        >>> from adjit.optim import averaged, ema, sgd
        >>> step = adjit.training_step(lambda p: p["w"], ema(sgd(0.25), decay=0.5))
        >>> state = step.init({"w": np.array(1.0)})
        >>> step(state), step(state)
        (1.0, 0.75)
        >>> float(state.params["w"]), float(averaged(state)["w"])
        (0.5, 0.6875)
    """
    _check("ema", optimizer)
    if optimizer.average_decay is not None:
        raise ArgumentError(f"ema: optimizer is {optimizer.name}, of which an average is kept already")
    return replace(optimizer, average_decay=number("ema: decay", "average_decay", decay))


@public({"base": "optimizer", "opt": "optimizer", "every": "steps", "every_k_schedule": "steps", "use_grad_mean":
         "mean", "accumulation_steps": "steps"})  # fmt: skip
def accumulate(optimizer: Optimizer, steps: int, mean: bool = True) -> Optimizer:
    """An optimiser that moves the parameters in every `steps`-th step, by the mean of the gradients till then.

    So `steps` batches count as one that is as large as all of them; with mean=False gradients are summed up. Clipping
    is of the mean or sum. Schedules, and `t` of an optimiser, count moves; the loss that they see is the mean (the sum)
    of the losses, too. In between nothing but the sum changes. `state.step` counts calls.

        >>> from adjit.optim import accumulate, adam
        >>> optimizer = accumulate(adam(1e-3), steps=4)
    """
    _check("accumulate", optimizer)
    if optimizer.every > 1:
        raise ArgumentError(f"accumulate: optimizer is {optimizer.name}, which accumulates already")
    count = checks.integer("accumulate: steps", steps, 1)
    return replace(optimizer, every=count, mean=checks.flag("accumulate: mean", mean))


@public({"s": "state"})
def averaged(state: Any) -> Any:
    """The parameters' running mean that `ema` keeps, as a pytree of views of the state, in containers of their own.

    Raises ArgumentError where `state` is none, or that of an optimiser without `ema`, StateError where it is closed."""
    layout = getattr(state, "layout", None)
    if layout is None:
        raise ArgumentError(
            f"averaged: state is the state of a step with an optimiser of adjit.optim.ema, not {checks.kind(state)}"
        )
    # Raises where the state is closed.
    state.params  # noqa: B018
    moments = layout.moments.unflatten(state.values()[layout.parts["moments"]])
    kept = layout.params.flatten_up_to(moments)
    if not all(isinstance(each, dict) and "average" in each for each in kept):
        raise ArgumentError("averaged: state keeps no average: make the step with adjit.optim.ema(optimizer)")
    return layout.params.unflatten([each["average"] for each in kept])


def _check(what: str, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"{what}: optimizer is an optimiser, such as adjit.optim.adam(1e-3), not {checks.shown(optimizer)}"
        )
