"""Gradients, forward mode, batches and training steps of functions whose control flow is rewritten."""

from __future__ import annotations

import numpy as np
import pytest

import adjit


def piecewise(x):
    if x < 0:
        return 0.5 * x
    if x < 1:
        return x**2
    return np.sin(x)


def decay(x):
    y = x
    for _ in range(20):
        y = y * 0.9
        if y < 1:
            break
    return y**2


def returns_early(w, x):
    total = 0.0 * w
    for i in range(len(x)):
        if w * x[i] > 3:
            return w * x[i] ** 2 + total
        total = total + w**2
    return total


def newton(a):
    x = 1.0 * a
    for _ in range(60):
        better = 0.5 * (x + a / x)
        if abs(better - x) < 1e-12:
            break
        x = better
    return x


def powers(x, n):
    found = 1.0
    for _ in range(8):
        if n == 0:
            break
        if n % 2 == 1:
            found = found * x
        x = x * x
        n = n // 2
    return found


def differences(function, x, *others):
    h = 1e-6
    return (function(x + h, *others) - function(x - h, *others)) / (2 * h)


X = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("function", "args"),
    [
        *((piecewise, (x,)) for x in (-1.0, 0.5, 2.0)),
        *((decay, (x,)) for x in (0.5, 2.0, 100.0)),
        *((returns_early, (w, X)) for w in (0.5, 2.0, 4.0)),
        *((newton, (x,)) for x in (2.0, 9.0)),
        *((powers, (1.5, n)) for n in (0, 5, 12)),
    ],
)
def test_gradients_are_those_of_the_path_that_runs(function, args) -> None:
    value, slope = adjit.value_and_grad(function, control_flow=True)(*args)
    assert value == pytest.approx(function(*args), rel=1e-12)
    # Central differences with h = 1e-6.
    assert slope == pytest.approx(differences(function, *args), rel=1e-6, abs=1e-6)
    compiled = adjit.jit(function, control_flow=True)
    _, tangent = adjit.jvp(lambda x: compiled(x, *args[1:]), (args[0],), (1.0,))
    assert tangent == pytest.approx(slope, rel=1e-12)


def test_second_derivatives() -> None:
    curve = adjit.grad(adjit.grad(piecewise, control_flow=True))
    assert [float(curve(x)) for x in (-1.0, 0.5)] == [0.0, 2.0]
    assert float(curve(2.0)) == pytest.approx(-np.sin(2.0))


def test_batches() -> None:
    x = np.array([-1.0, 0.5, 2.0])
    found = adjit.vmap(adjit.jit(piecewise, control_flow=True))(x)
    np.testing.assert_allclose(found, [piecewise(each) for each in x], rtol=1e-12)


def test_a_while_keeps_some_of_its_states_or_what_its_turns_need() -> None:
    def grows(x):
        while x < 100:
            x = x * x
        return x

    assert adjit.grad(grows, control_flow=True)(2.0) == 8 * 2.0**7

    def bounded(x):
        for _ in range(10):
            if x >= 100:
                break
            x = x * x
        return x

    assert adjit.grad(bounded, control_flow=True)(2.0) == 8 * 2.0**7


def test_a_training_step() -> None:
    def loss(params, x, y):
        error = x @ params["w"] - y
        total = np.mean(error**2)
        if total > 1:
            # Huber's loss, far from 0.
            total = 2 * np.sqrt(total) - 1
        return total

    x, y = np.eye(2), np.array([3.0, 4.0])
    step = adjit.training_step(loss, adjit.optim.sgd(0.5), control_flow=True)
    state = step.init({"w": np.zeros(2)})
    losses = [step(state, x, y) for _ in range(30)]
    assert losses[0] == pytest.approx(2 * np.sqrt(12.5) - 1)
    assert losses[-1] < 0.05
