"""step.run: all steps in native code give what the same calls of step give."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim, random
from adjit_runtime.tuned import RUNS_KEPT
from tests.api.models import data, loss, make_params


def fresh(step: Any) -> Any:
    return step.init(make_params(), key=3)


def batches(rows: int, size: int, epochs: int, shuffle: bool, seed: int, drop_last: bool, start: int = 0) -> list[Any]:
    """The rows of each step, by the documented rule."""
    result: list[Any] = []
    for _ in range(epochs):
        order = np.arange(rows)
        if shuffle:
            order = random.permutation(random.fold_in(random.key(seed), start + len(result)), rows)
        parts = [order[i : i + size] for i in range(0, rows, size)]
        result += [part for part in parts if len(part) == size or not drop_last]
    return result


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(37, 8), (32, 8), (5, 1), (7, 7), (9, 8)])
def test_run_is_the_same_calls_of_step(rows: int, size: int, shuffle: bool, drop_last: bool) -> None:
    step = adjit.training_step(loss, optim.adam(1e-2))
    x, y = data(rows)
    one, other = fresh(step), fresh(step)
    history = step.run(one, (x, y), batch_size=size, epochs=3, shuffle=shuffle, seed=5, drop_last=drop_last)
    losses = [step(other, x[part], y[part]) for part in batches(rows, size, 3, shuffle, 5, drop_last)]
    assert history.losses.tolist() == losses
    assert history.losses.dtype == np.float64
    assert len(history) == one.step == len(losses)
    for name, array in one.params.items():
        np.testing.assert_array_equal(array, other.params[name])


def test_a_batch_larger_than_the_data() -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    x, y = data(5)
    assert len(step.run(fresh(step), (x, y), batch_size=8, shuffle=False).losses) == 1
    with pytest.raises(adjit.ArgumentError, match="5 rows make no batch of 8"):
        step.run(fresh(step), (x, y), batch_size=8, drop_last=True)
    assert len(step.run(fresh(step), (x, y), batch_size=8, epochs=0).losses) == 0


def test_two_runs_are_one() -> None:
    step = adjit.training_step(loss, optim.adam(optim.schedule.cosine(1e-2, 50)))
    x, y = data()
    whole, halves = fresh(step), fresh(step)
    losses = step.run(whole, (x, y), batch_size=8, epochs=10, seed=1).losses
    first = step.run(halves, (x, y), batch_size=8, epochs=5, seed=1).losses
    second = step.run(halves, (x, y), batch_size=8, epochs=5, seed=1).losses
    assert [*first, *second] == losses.tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loop_serves_other_data_of_the_same_types(shuffle: bool) -> None:
    step = adjit.training_step(loss, optim.adam(1e-2))
    one, other = fresh(step), fresh(step)
    for seed in range(3):
        x, y = (array + seed for array in data(37))
        found = step.run(one, (x, y), batch_size=8, epochs=2, shuffle=shuffle, seed=seed).losses
        wanted = [step(other, x[part], y[part]) for part in batches(37, 8, 2, shuffle, seed, False, other.step)]
        assert found.tolist() == wanted
    assert len(one.loops) == 1
    for rows in range(8, 8 + 2 * RUNS_KEPT):
        x, y = data(rows)
        step.run(one, (x, y), batch_size=8)
    assert len(one.loops) == RUNS_KEPT
    one.close()
    assert not one.loops


@pytest.mark.parametrize("rows", [16, 19])
def test_a_run_on_another_state_has_only_to_bind_it(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    step = adjit.training_step(loss, optim.adam(1e-2))
    x, y = data(rows)
    wanted = step.run(fresh(step), (x, y), batch_size=8, epochs=3, seed=1).losses

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("signatures were looked at again")

    monkeypatch.setattr(type(step), "step_signature", refuse)
    states = [fresh(step) for _ in range(3)]
    for _ in range(2):
        found = [step.run(state, (x, y), batch_size=8, epochs=3, seed=1).losses for state in states]
    assert len(step.plans) == 1
    monkeypatch.undo()
    again = fresh(step)
    assert step.run(again, (x, y), batch_size=8, epochs=3, seed=1).losses.tolist() == wanted.tolist()
    assert step.run(again, (x, y), batch_size=8, epochs=3, seed=1).losses.tolist() == found[0].tolist()
    assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_states_of_two_layouts_have_plans_of_their_own() -> None:
    step = adjit.training_step(lambda p, x: np.sum(p) * np.sum(x), optim.sgd(0.0))
    for size in (2, 5, 2, 5):
        state = step.init(np.ones(size))
        assert step.run(state, (np.ones(4),), batch_size=2).losses.tolist() == [2.0 * size] * 2
    assert len(step.plans) == 2
    for rows in range(2, 2 + 2 * RUNS_KEPT):
        step.run(state, (np.ones(rows),), batch_size=2)
    assert len(step.plans) == RUNS_KEPT


def test_a_loop_serves_again_after_an_error() -> None:
    step = adjit.training_step(lambda p, i: np.sum(p[i] ** 2), optim.sgd(0.1))
    bad, good = np.array([0, 1, 2, 9]), np.array([0, 1, 2, 3])
    one, other = step.init(np.ones(4)), step.init(np.ones(4))
    step.run(one, (good,), batch_size=2, shuffle=False)
    with pytest.raises(adjit.IndexOutOfRange, match="step 1 of 2"):
        step.run(one, (bad,), batch_size=2, shuffle=False)
    again = step.run(one, (good,), batch_size=2, shuffle=False).losses
    wanted = [step(other, good[part]) for part in ([0, 1], [2, 3], [0, 1], [0, 1], [2, 3])]
    assert again.tolist() == wanted[3:]


def test_every_dtype_of_data_and_layout() -> None:
    def several(p: Any, x: Any, tree: Any, scale: Any = 1.0) -> Any:
        label, flag, byte = tree["label"], tree["flag"], tree["byte"]
        picked = p[label] * np.where(flag, 1.0, 2.0)
        return np.sum(picked * x[:, 0, 1] * scale) + np.sum(byte) * 0.5

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 11, 3))[:, ::-1].transpose(1, 0, 2)
    tree = {
        "label": rng.integers(0, 4, 11),
        "flag": rng.random(11) < 0.5,
        "byte": rng.integers(0, 9, (11, 3)).astype(np.uint8),
    }
    step = adjit.training_step(several, optim.sgd(0.1))
    one, other = step.init(np.ones(4)), step.init(np.ones(4))
    found = step.run(one, (x, tree), batch_size=4, seed=2, constants={"scale": 3.0}).losses
    wanted = [
        step(other, x[rows], {name: array[rows] for name, array in tree.items()}, scale=3.0)
        for rows in batches(11, 4, 1, True, 2, False)
    ]
    assert found.tolist() == wanted


def test_aux_is_stacked() -> None:
    def with_aux(p: Any, x: Any) -> Any:
        return np.sum(p * x), {"mean": np.mean(x), "pair": np.stack([x[0], x[-1]])}

    step = adjit.training_step(with_aux, optim.sgd(0.0), has_aux=True)
    x = np.arange(10.0)
    history = step.run(step.init(np.array(1.0)), (x,), batch_size=4, shuffle=False)
    assert history.aux["mean"].tolist() == [1.5, 5.5, 8.5]
    assert history.aux["pair"].tolist() == [[0, 3], [4, 7], [8, 9]]
    rows = adjit.training_step(lambda p, x: (np.sum(p * x), x), optim.sgd(0.0), has_aux=True)
    with pytest.raises(adjit.ShapeError, match="cannot be stacked; pass drop_last=True"):
        rows.run(rows.init(np.array(1.0)), (x,), batch_size=4)
    assert rows.run(rows.init(np.array(1.0)), (x,), batch_size=4, drop_last=True).aux.shape == (2, 4)


def test_the_key_in_a_run() -> None:
    def noisy(p: Any, x: Any, *, key: Any) -> Any:
        return np.sum(p * x * random.bernoulli(key, 0.5, x.shape))

    step = adjit.training_step(noisy, optim.sgd(0.1))
    x = np.arange(12.0)
    one, other = step.init(np.array(1.0), key=9), step.init(np.array(1.0), key=9)
    found = step.run(one, (x,), batch_size=4, epochs=3, seed=4).losses
    assert found.tolist() == [step(other, x[rows]) for rows in batches(12, 4, 3, True, 4, False)]


def test_an_error_names_the_step_and_keeps_the_state_before_it() -> None:
    step = adjit.training_step(lambda p, i: np.sum(p[i] ** 2), optim.sgd(0.1))
    labels = np.array([0, 1, 2, 3, 9, 0])
    state, other = step.init(np.ones(4)), step.init(np.ones(4))
    with pytest.raises(IndexError, match=r"step 2 of 3: .*index 9 is out of bounds") as caught:
        step.run(state, (labels,), batch_size=2, shuffle=False)
    losses = [step(other, labels[:2]), step(other, labels[2:4])]
    assert caught.value.losses.tolist() == losses  # type: ignore[attr-defined]
    np.testing.assert_array_equal(state.params, other.params)
    assert state.step == 2
    step(state, labels[:2])


def test_data_that_do_not_fit() -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    x, y = data()
    state = fresh(step)
    for bad, error, text in [
        (x, adjit.ArgumentError, r"data is a tuple of arrays, \(X, Y\), not a ndarray"),
        ((x, y[:-1]), adjit.ShapeError, "differ in rows"),
        ((x, 3.0), adjit.ShapeError, "array 1 of the data has no rows; pass it in constants"),
        ((), adjit.ArgumentError, "data has no arrays"),
    ]:
        with pytest.raises(error, match=text):
            step.run(state, bad, batch_size=4)
    for options in ({"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": 4, "epochs": -1}):
        with pytest.raises(adjit.ArgumentError, match=r"(batch_size|epochs) is an integer >="):
            step.run(state, (x, y), **options)
    with pytest.raises(TypeError):
        step.run(state, (x, y))
    assert state.step == 0


def test_data_that_overlap_the_state() -> None:
    step = adjit.training_step(lambda p, x: np.sum(p["w"]) * np.sum(x), optim.sgd(1.0))
    state = step.init({"w": np.arange(6.0)})
    other = step.init({"w": np.arange(6.0)})
    step.run(state, (state.params["w"],), batch_size=2, epochs=2, seed=0)
    step.run(other, (np.arange(6.0),), batch_size=2, epochs=2, seed=0)
    np.testing.assert_array_equal(state.params["w"], other.params["w"])


def test_ctrl_c_stops_between_steps_with_the_state_intact() -> None:
    step = adjit.training_step(loss, optim.adam(1e-3))
    x, y = data(512)
    state, other = fresh(step), fresh(step)
    step.run(state, (x, y), batch_size=8)
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    # A process that a shell started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            step.run(state, (x, y), batch_size=8, epochs=1_000_000)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert state.step == 64 + len(caught.value.losses)  # type: ignore[attr-defined]
    step(state, x[:8], y[:8])
    # The same number of steps gives the same bits.
    epochs, rest = divmod(state.step - 1, 64)
    step.run(other, (x, y), batch_size=8, epochs=epochs)
    order = random.permutation(random.fold_in(random.key(0), other.step), 512)
    for i in range(rest):
        rows = order[8 * i : 8 * i + 8]
        step(other, x[rows], y[rows])
    step(other, x[:8], y[:8])
    np.testing.assert_array_equal(state.params["w1"], other.params["w1"])


def test_progress_is_called_and_other_threads_run() -> None:
    step = adjit.training_step(loss, optim.adam(1e-3))
    x, y = data(512)
    calls: list[tuple[int, int, float]] = []
    ticks: list[float] = []
    over = threading.Event()

    def tick() -> None:
        while not over.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    history = step.run(fresh(step), (x, y), batch_size=8, epochs=400, progress=lambda *now: calls.append(now))
    over.set()
    thread.join()
    assert calls[-1] == (64 * 400, 64 * 400, history.losses[-1])
    assert len(calls) > 3
    assert len(ticks) > 3


def test_what_progress_raises_has_the_losses_so_far() -> None:
    step = adjit.training_step(loss, optim.adam(1e-3))
    x, y = data(64)
    whole = step.run(fresh(step), (x, y), batch_size=8, epochs=20).losses
    state = fresh(step)

    def stop(done: int, total: int, last: float) -> None:
        raise LookupError(done)

    with pytest.raises(LookupError) as found:
        step.run(state, (x, y), batch_size=8, epochs=20, progress=stop)
    (done,) = found.value.args
    np.testing.assert_array_equal(found.value.losses, whole[:done])  # type: ignore[attr-defined]
    assert state.step == done


def test_permutation_is_one() -> None:
    for count in (0, 1, 2, 17, 1000):
        order = random.permutation(random.key(3), count)
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
    assert not np.array_equal(random.permutation(3, 50), random.permutation(4, 50))
