"""What vmap of a training step refuses, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit.optim import schedule
from tests.training.regression import RATES, SHARED_DATA, K, X, Y, loss, params

STEP = adjit.training_step(loss, optim.sgd(0.1))
MANY = adjit.vmap(STEP, in_axes=SHARED_DATA)
OF_EACH = adjit.training_step(loss, optim.sgd(RATES))

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: adjit.vmap(STEP, in_axes=(None, 0, 0)), adjit.ArgumentError, "begin with a 0, as in in_axes="),
    (lambda: adjit.vmap(STEP, in_axes=1), adjit.ArgumentError, "lie along axis 0 of the state"),
    (lambda: adjit.vmap(STEP, tile="off"), adjit.ArgumentError, r"tile is an argument of the step: training_step\("),
    (lambda: adjit.vmap(STEP, inexact=True), adjit.ArgumentError, "inexact is an argument of the step"),
    (lambda: adjit.vmap(STEP, static_argnames="x"), adjit.ArgumentError, "static_argnames is an argument of the step"),
    (lambda: OF_EACH.init(params(0)), adjit.ArgumentError, r"learning_rate is an array of shape \(3,\), .* adjit.vmap"),
    (lambda: STEP.init(params(0), key=[1, 2]), adjit.ArgumentError, "key is an integer"),
    (
        lambda: adjit.vmap(OF_EACH).init(params(0), models=4),
        adjit.ShapeError,
        r"shape \(3,\), and the shape of the models",
    ),
    (lambda: MANY.init(params(0), models=K, key=[1, 2]), adjit.ShapeError, r"key is an array of shape \(2,\)"),
    (lambda: MANY.init(params(0), models=K, key=[1.5]), adjit.ArgumentError, "is an integer, or an array of them"),
    (lambda: MANY.init(params(0), models=K, key=np.array([2**63], np.uint64)), OverflowError, "does not fit int64"),
    (lambda: MANY.init(params(0), models=0), adjit.ShapeError, "there is no model"),
    (lambda: MANY.init(params(0), models=(2, 3)), adjit.ArgumentError, "was mapped 1 times"),
    (lambda: MANY.init(params(0), models=2.5), adjit.ArgumentError, "models is an integer"),
    (lambda: MANY.init(params(0)), adjit.ShapeError, "params.scale has shape"),
    (lambda: MANY.init({}), adjit.ArgumentError, "say how many models there are"),
    (lambda: MANY(STEP.init(params(0)), X, Y), adjit.StateError, "of many: its init makes their state"),
    (lambda: STEP(MANY.init(params(0), models=2), X, Y), adjit.StateError, r"of one model: adjit.vmap\(step\)"),
    (
        lambda: adjit.vmap(STEP)(MANY.init(params(0), models=2), np.stack([X] * 3), np.stack([Y] * 3)),
        adjit.ShapeError,
        "called with 2 values of the state, along axis 0, and 3 of x",
    ),
    (lambda: MANY(MANY.init(params(0), models=2), X), adjit.ArgumentError, "missing a required argument|in_axes"),
    (
        lambda: adjit.vmap(STEP, in_axes=SHARED_DATA, out_axes=None)(MANY.init(params(0), models=2), X, Y),
        adjit.ArgumentError,
        "losses of the models of loss lie along axis 0",
    ),
    (
        lambda: adjit.vmap(STEP).run(MANY.init(params(0), models=2), (X.T[:2], Y[:2]), batch_size=1),
        adjit.ShapeError,
        "y has no rows beside its models",
    ),
    (lambda: optim.sgd(np.array([0.1, -0.1])), adjit.ArgumentError, "each is a number >= 0.0, not -0.1"),
    (lambda: optim.sgd(np.array(["a"])), adjit.ArgumentError, "a number, or an array with one for each"),
    (lambda: optim.sgd([[0.1], [0.1, 0.2]]), adjit.ArgumentError, "a number, or an array with one for each"),
    (lambda: optim.adam(0.1, b1=[0.9, 1.0]), adjit.ArgumentError, "b1 is a number >= 0 and < 1"),
    (lambda: schedule.step(0.1, 0.5, every=[1, 0]), adjit.ArgumentError, "every is positive"),
    (
        lambda: adjit.training_step(loss, optim.sgd(0.1), clip_norm=[0.0, 1.0]),
        adjit.ArgumentError,
        "clip_norm is 0 for one of several models",
    ),
    (
        lambda: MANY.init(params(0), models=2).hyper.__setitem__("learning_rate", [1.0, 2.0, 3.0]),
        adjit.ShapeError,
        r"state.hyper: learning_rate is an array of shape \(3,\)",
    ),
    (
        lambda: STEP.init(params(0)).hyper.__setitem__("learning_rate", [1.0, 2.0]),
        adjit.ArgumentError,
        "this is a step of one",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=[pattern for _, _, pattern in REFUSED])
def test_errors(case: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, error, pattern = case
    with pytest.raises(error, match=pattern):
        call()
