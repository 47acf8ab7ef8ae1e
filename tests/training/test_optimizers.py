"""Each optimiser and schedule, step by step, against what PyTorch and Optax made of the same gradients and losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit.optim import schedule
from tests.training.optimizer_cases import (
    COUNTS,
    LOSSES,
    OPTIMIZERS,
    PLATEAUS,
    SCHEDULES,
    agrees_with_its_graph,
    joined,
    loss,
    parameters,
    slopes,
)

FIXTURES = np.load(Path(__file__).with_name("optimizers.npz"))


def test_every_case_was_recorded() -> None:
    assert {*OPTIMIZERS, *SCHEDULES, *PLATEAUS} == set(FIXTURES.files)


def path_of(step: adjit.TrainingStep, start: Any, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """The parameters after each step."""
    state = step.init({name: array.astype(dtype) for name, array in start.items()})
    path: dict[str, list[np.ndarray]] = {name: [] for name in start}
    for slope in slopes():
        step(state, {name: array.astype(dtype) for name, array in slope.items()})
        for name, array in state.params.items():
            path[name].append(array.copy())
    return {name: np.stack(each) for name, each in path.items()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_are_their_peers_step_by_step(name: str) -> None:
    step = adjit.training_step(loss, OPTIMIZERS[name]())
    found = joined(path_of(step, parameters()))
    # Roundings of twelve steps; of NAdam PyTorch keeps the product of decays in float32.
    rtol = 1e-7 if name.startswith("nadam") else 1e-10
    np.testing.assert_allclose(found, FIXTURES[name], rtol=rtol, atol=rtol)
    agrees_with_its_graph(step, step.init(parameters()), slopes()[0])


@pytest.mark.parametrize(
    "name", ["adam_amsgrad", "nadam_coupled", "radam_coupled", "lamb_decayed", "muon", "adafactor"]
)
def test_float32(name: str) -> None:
    path = path_of(adjit.training_step(loss, OPTIMIZERS[name]()), parameters(), np.float32)
    assert {found.dtype for found in path.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(joined(path), FIXTURES[name], rtol=2e-4, atol=2e-5)  # twelve steps of float32


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_their_peers(name: str) -> None:
    plan = SCHEDULES[name]()
    np.testing.assert_allclose([plan(count) for count in COUNTS], FIXTURES[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PLATEAUS)
def test_plateaus_see_the_loss(name: str) -> None:
    step = adjit.training_step(_valued, optim.sgd(schedule.plateau(0.5, **PLATEAUS[name])))
    state = step.init(np.array(0.0))
    found = []
    for value in LOSSES:
        before = float(state.params)
        assert step(state, value) == value
        # The gradient is 1, so that a step is as long as its rate.
        found.append(before - float(state.params))
    np.testing.assert_allclose(found, FIXTURES[name], rtol=1e-12, atol=1e-14)  # differences of sums


def _valued(p: Any, value: Any) -> Any:
    """A loss of that value whose gradient is 1."""
    return value + p - adjit.stop_gradient(p)
