"""The update of a parameter is traced once for each type and repeated for others: each is as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim

SHAPE = (3, 5)
TERMS = {
    "a": lambda p, x: 0.5 * np.sum(p * p),  # its gradient is the parameter
    "b": lambda p, x: np.sum(p * x),  # its gradient is the argument, as that of c
    "c": lambda p, x: np.sum(p * x),
    "d": lambda p, x: np.sum(np.tanh(p) * x),
}


def params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(size=SHAPE) for name in TERMS} | {"e": rng.normal(size=7)}


def loss(p: dict[str, Any], x: Any) -> Any:
    total = sum(TERMS[name](p[name], x) for name in p if name != "e")
    return total + np.sum(p["e"] ** 3) if "e" in p else total


def counted(update: Any) -> tuple[optim.Optimizer, list[int]]:
    calls: list[int] = []

    def noting(*args: Any) -> Any:
        calls.append(1)
        return update.update(*args)

    return optim.Optimizer(update.name, update.hyper, update.init, noting, update.masks, shared=update.shared), calls


@pytest.mark.parametrize("make", [lambda: optim.adam(0.1), lambda: optim.sgd(0.1, momentum=0.9)], ids=["adam", "sgd"])
def test_each_parameter_is_updated_as_if_it_were_alone(make: Any) -> None:
    x = np.random.default_rng(4).normal(size=SHAPE)
    whole = params()
    optimizer, calls = counted(make())
    step = adjit.training_step(loss, optimizer, weight_decay=0.1, regularized=lambda p: {n: n in "abe" for n in p})
    state = step.init(whole)
    for _ in range(3):
        step(state, x)
    # a and b decay, c and d do not, e has another shape; a state of one parameter has none to repeat.
    assert len(calls) <= 4
    for name, start in whole.items():
        decays = name in "abe"
        alone = adjit.training_step(loss, make(), weight_decay=0.1 if decays else None)
        own = alone.init({name: start})
        for _ in range(3):
            alone(own, x)
        np.testing.assert_allclose(state.params[name], own.params[name], rtol=1e-14)  # roundings of fused decay
