"""autograd (of HIPS): a tape at each call, nothing compiled. It has programs, kinds of calls with gradients, and steps
whose optimiser is NumPy by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad

from benchmarks.calls import KINDS
from benchmarks.problem import Problem, leaves
from benchmarks.programs import PROGRAMS
from benchmarks.sides import Side
from benchmarks.sides.numpy import copied, updater


def mse_loss(p: Any, x: Any, y: Any) -> Any:
    h = np.maximum(x @ p["w1"] + p["b1"], 0.0)
    return np.mean((h @ p["w2"] + p["b2"] - y) ** 2)


def writes(np: Any, x: Any) -> Any:
    y = [np.zeros(())]
    for i in range(1, 160):
        y.append(x[i] + 0.5 * y[i - 1])
    stacked = np.stack(y)
    return np.sum(stacked * stacked)


WRITTEN = {"writes_160": writes}
"""Programs that are not NumPy's text here: arrays are not written into."""


def stepped(problem: Problem) -> Side:
    """A step of the optimiser by hand."""
    function = value_and_grad(mse_loss)
    params = copied(problem.params)
    update = updater(problem.optimizer, problem.hyper["learning_rate"], leaves(params))

    def once() -> Any:
        value, gradients = function(params, problem.data["x"], problem.data["y"])
        update(leaves(gradients))
        return value

    return Side(once)


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload; None for what this library is not beside."""
    if name in PROGRAMS:
        program = value_and_grad(partial(WRITTEN.get(name, PROGRAMS[name].function), np))
        return Side(lambda: program(problem.params))
    if name in ("adam_step", "batch_step"):
        return stepped(problem)
    call = KINDS.get(name)
    if call is None or call.argnums is None:
        return None
    function = value_and_grad(call.of(np), call.argnums)
    positional, named = call.given()
    if call.fresh:
        return Side(lambda: function(positional[0].copy()))
    return Side(partial(function, *positional, **named))
