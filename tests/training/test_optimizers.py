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


def test_an_optimiser_of_ones_own_sees_the_loss() -> None:
    def polyak(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        return p - h["loss"] / h["slope"] * g, kept

    own = optim.Optimizer("polyak", {"slope": 4.0}, lambda p: {}, polyak, shared={
        "least": (np.inf, lambda old, h, t: np.minimum(old, h["loss"])),
    })  # fmt: skip
    step = adjit.training_step(lambda p, x: np.sum((p - x) ** 2), own, l2=0.5)
    state, w, least = step.init(np.full(3, 2.0, np.float32)), np.full(3, 2.0), np.inf
    for x in (0.5, 0.25, 1.0):
        value = np.sum((w - x) ** 2) + 0.5 * np.sum(w**2)
        w = w - value / 4 * (2 * (w - x) + w)
        least = min(least, value)
        np.testing.assert_allclose(step(state, x), value, rtol=1e-5)
        np.testing.assert_allclose(state.params, w, rtol=1e-5)
        np.testing.assert_allclose(state.shared["least"], least, rtol=1e-5)  # float32


def test_a_schedule_of_ones_own_keeps_numbers() -> None:
    own = schedule.Schedule(
        "by_loss", {"most": 0.5}, lambda n, count: np.minimum(n["last"], n["most"]), {"last": 0.125},
        lambda n, count, loss: {"last": loss + 0.0 * count},
    )  # fmt: skip
    step = adjit.training_step(_valued, optim.sgd(own))
    state = step.init(np.array(1.0))
    for value, wanted in ((0.25, 0.875), (2.0, 0.625), (0.0, 0.125)):
        step(state, value)
        assert float(state.params) == wanted
    assert own(5) == 0.125
    wrong = schedule.Schedule("wrong", {}, lambda n, count: n["a"], {"a": 0.1}, lambda n, count, loss: {"b": 1.0})
    refusing = adjit.training_step(_valued, optim.sgd(wrong))
    with pytest.raises(adjit.ArgumentError, match="wrong: advance gives"):
        refusing(refusing.init(np.array(1.0)), 1.0)


@pytest.mark.parametrize("stretch", [1.0, 1.5, 2.0, 3.0])
def test_restarts_begin_at_the_peak(stretch: float) -> None:
    plan = schedule.restarts(0.5, steps=4, stretch=stretch, shrink=0.5)
    start, length = 0.0, 4.0
    for cycle in range(8):
        if start == int(start):
            assert plan(int(start)) == 0.5 * 0.5**cycle
            assert cycle == 0 or plan(int(start) - 1) < 0.5 * 0.5 ** (cycle - 1)
        start, length = start + length, length * stretch


def test_a_plateau_of_means_that_may_be_negative() -> None:
    step = adjit.training_step(_valued, optim.sgd(schedule.plateau(1.0, factor=0.5, patience=0, every=2)))
    state = step.init(np.array(0.0))
    scales = []
    for value in (-1.0, -3.0, -2.0, -2.0, -4.0, 0.0, -2.5, -2.5):
        step(state, value)
        scales.append(state.shared["learning_rate.scale"])
    # Means -2, -2, -2, -2.5: two of them are no better than the first.
    assert scales == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]
