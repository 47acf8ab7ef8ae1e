"""A loss that becomes NaN or infinite in a run is told, once, with its step; or the run stops there."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import adjit


def diverging(dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    step = adjit.training_step(lambda p, x: np.mean((x * p) ** 4), adjit.optim.sgd(1e3))
    return step, step.init(np.array([2.0], dtype)), (np.ones((40, 1), dtype),)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_warns_once_of_the_first_step(dtype: Any) -> None:
    step, state, data = diverging(dtype)
    for _ in range(2):  # the second run begins with a loss that is not finite
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            history = step.run(state, data, batch_size=1, epochs=50)
        first = int(np.argmin(np.isfinite(history.losses)))
        assert not np.isfinite(history.losses[first])
        assert len(history) == 2000
        [warning] = seen
        assert warning.category is adjit.NotFiniteWarning
        assert issubclass(warning.category, RuntimeWarning)
        assert warning.filename == __file__
        assert f"the loss of step {first} of 2000 is {history.losses[first]}" in str(warning.message)
        assert ("that of the step before" in str(warning.message)) == (first > 0)


def test_a_run_stops() -> None:
    step, state, data = diverging()
    with pytest.raises(adjit.NotFiniteError, match=r"the loss of step \d+ of \d+ is (inf|nan)") as info:
        step.run(state, data, batch_size=1, epochs=100_000, on_nan="raise")
    assert isinstance(info.value, FloatingPointError)
    losses = info.value.losses  # type: ignore[attr-defined]
    assert state.step == len(losses) < 4_000_000
    assert not np.isfinite(losses).all()
    # The state is as it was then, and free.
    assert step(state, data[0]) != 0


def test_a_run_says_nothing() -> None:
    step, state, data = diverging()
    history = step.run(state, data, batch_size=1, epochs=20, on_nan="ignore")
    assert not np.isfinite(history.losses).all()


def test_finite_losses_are_no_matter() -> None:
    step = adjit.training_step(lambda p, x: np.mean((x - p) ** 2), adjit.optim.sgd(0.1))
    for how in ("raise", "warn", "ignore"):
        losses = step.run(step.init(np.ones(1)), (np.ones((8, 1)),), batch_size=1, epochs=5, on_nan=how).losses
        assert np.isfinite(losses).all()
    with pytest.raises(adjit.ArgumentError, match=r"on_nan is 'raise', 'warn' or 'ignore', not True"):
        step.run(step.init(np.ones(1)), (np.ones((8, 1)),), batch_size=1, on_nan=True)


def test_a_warning_that_is_an_error_has_the_losses() -> None:
    step, state, data = diverging()
    with pytest.raises(adjit.NotFiniteWarning) as info:
        step.run(state, data, batch_size=1, epochs=50)
    assert not np.isfinite(info.value.losses[-1])  # type: ignore[attr-defined]
