"""Training steps, states and their hyper-parameters; everything that a call may get wrong."""

from __future__ import annotations

import copy
import gc
import threading
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from tests.api.models import data, loss, make_params


def make(optimizer: Any = None, **options: Any) -> tuple[Any, Any]:
    step = adjit.training_step(loss, optimizer or optim.adam(1e-2), **options)
    return step, step.init(make_params())


def test_a_step_updates_in_place_and_returns_a_float() -> None:
    step, state = make()
    x, y = data()
    view = state.params["w1"]
    before = view.copy()
    value = step(state, x, y)
    assert type(value) is float
    np.testing.assert_allclose(value, loss(make_params(), x, y), rtol=1e-13)
    assert state.params["w1"] is view
    assert (view != before).any()
    assert state.step == 1


def test_the_loss_falls() -> None:
    step, state = make()
    x, y = data()
    losses = [step(state, x, y) for _ in range(200)]
    assert losses[-1] < 0.2 * losses[0]


def test_init_copies_and_keeps_dtypes() -> None:
    params = {"w": np.ones(3, np.float32), "b": np.array(0.5), "deep": [np.zeros((2, 2)), (np.ones(1),)]}
    step = adjit.training_step(
        lambda p, x: np.sum(p["w"].astype(float)) * x + p["b"] + np.sum(p["deep"][0]), optim.adam(0.1)
    )
    state = step.init(params)
    step(state, 2.0)
    assert params["w"].tolist() == [1, 1, 1]
    assert state.params["w"].dtype == np.float32
    assert state.params["b"].dtype == np.float64
    assert state.optimizer["w"]["m"].dtype == np.float32
    assert state.params["deep"][1][0].tolist() == [1.0]


def test_hyper_parameters_take_effect_without_compiling() -> None:
    step, state = make(optim.sgd(0.1))
    x, y = data()
    step(state, x, y)
    before = state.params["w1"].copy()
    state.hyper["learning_rate"] = 0.0
    step(state, x, y)
    np.testing.assert_array_equal(state.params["w1"], before)
    assert len(step.signatures()) == 1
    assert state.hyper["learning_rate"] == 0.0
    assert dict(state.hyper) == {"learning_rate": 0.0}
    with pytest.raises(adjit.ArgumentError, match="no hyper-parameter rate; there are learning_rate"):
        state.hyper["rate"] = 1.0
    with pytest.raises(adjit.StateError, match="momentum cannot be set: it was switched off when the step was made"):
        state.hyper["momentum"] = 0.9
    for name in ("clip_norm", "clip_value", "weight_decay", "l1", "l2"):
        with pytest.raises(adjit.StateError, match=f"{name} cannot be set"):
            state.hyper[name] = 0.5
    with pytest.raises(adjit.StateError, match="cannot be deleted"):
        del state.hyper["learning_rate"]


def test_schedules_have_their_own_numbers() -> None:
    rate = optim.schedule.warm_up(optim.schedule.cosine(0.1, steps=10, end=0.01), steps=4)
    step, state = make(optim.sgd(rate))
    assert dict(state.hyper["learning_rate"]) == {"peak": 0.1, "steps": 10.0, "end": 0.01, "warm_up_steps": 4.0}
    with pytest.raises(adjit.ArgumentError, match="learning_rate has the numbers peak, steps, end"):
        state.hyper["learning_rate"] = 0.1
    state.hyper["learning_rate"]["peak"] = 0.0
    state.hyper["learning_rate"]["end"] = 0.0
    before = state.params["w1"].copy()
    step(state, *data())
    np.testing.assert_array_equal(state.params["w1"], before)


SCHEDULES = [
    (optim.schedule.constant(0.3), lambda c: 0.3),
    (optim.schedule.step(0.4, 0.5, 3), lambda c: 0.4 * 0.5 ** (c // 3)),
    (optim.schedule.exponential(0.4, 0.9, 2), lambda c: 0.4 * 0.9 ** (c / 2)),
    (optim.schedule.cosine(0.4, 5, 0.1), lambda c: 0.1 + 0.3 * 0.5 * (1 + np.cos(np.pi * min(c / 5, 1)))),
    (optim.schedule.warm_up(0.4, 4), lambda c: 0.4 * min((c + 1) / 4, 1)),
]


@pytest.mark.parametrize(("rate", "expected"), SCHEDULES, ids=lambda x: getattr(x, "name", ""))
def test_schedules_are_functions_of_the_step_count(rate: Any, expected: Any) -> None:
    step = adjit.training_step(lambda p: p, optim.sgd(rate))
    state = step.init(np.array(0.0))
    for count in range(8):
        before = float(state.params)
        step(state)
        np.testing.assert_allclose(before - float(state.params), expected(count), rtol=1e-13)
        np.testing.assert_allclose(rate(count), expected(count), rtol=1e-13)


def test_schedules_keep_float32_models_in_float32() -> None:
    # Not clip_norm, which sums squares in float64.
    step = adjit.training_step(
        lambda p, x: np.mean((x @ p) ** 2), optim.adamw(optim.schedule.cosine(0.1, 5)), clip_value=1.0, l2=0.1
    )
    state = step.init(np.ones(3, np.float32))
    step(state, np.ones((2, 3), np.float32))
    wide = [node for node in step.ir("step").nodes if node.dtype == np.float64 and node.shape]
    assert not wide


def test_aux() -> None:
    def with_aux(p: Any, x: Any) -> Any:
        y = x * p
        return np.sum(y), {"y": y, "n": 2}

    step = adjit.training_step(with_aux, optim.sgd(0.1), has_aux=True)
    state = step.init(np.array([2.0, 3.0]))
    value, aux = step(state, np.array([1.0, 10.0]))
    assert (value, aux["y"].tolist(), aux["n"]) == (32.0, [2.0, 30.0], 2)


def test_the_key_is_folded_with_the_step_count() -> None:
    def noisy(p: Any, *, key: Any) -> Any:
        return p * 0 + adjit.random.uniform(key, (), dtype=np.float64)

    step = adjit.training_step(noisy, optim.sgd(0.1))
    state = step.init(np.array(0.0), key=7)
    found = [step(state) for _ in range(3)]
    keys = [adjit.random.fold_in(adjit.random.key(7), count) for count in range(3)]
    assert found == [adjit.random.uniform(key, (), dtype=np.float64) for key in keys]
    assert state.key == 7
    again = step.init(np.array(0.0), key=7)
    assert [step(again) for _ in range(3)] == found
    assert "key" not in str(step.__signature__)


def test_clipping() -> None:
    plain = lambda p: np.sum(p["a"] * np.array([3.0, 0.0])) + np.sum(p["b"] * 4.0)  # noqa: E731
    params = {"a": np.zeros(2), "b": np.zeros(1)}

    def moved(**options: Any) -> list[float]:
        step = adjit.training_step(plain, optim.sgd(1.0), **options)
        state = step.init(params)
        step(state)
        return [*(-state.params["a"]).tolist(), *(-state.params["b"]).tolist()]

    assert moved() == [3.0, 0.0, 4.0]
    np.testing.assert_allclose(moved(clip_norm=1.0), [0.6, 0.0, 0.8], rtol=1e-15)
    assert moved(clip_norm=50.0) == [3.0, 0.0, 4.0]
    assert moved(clip_value=3.5) == [3.0, 0.0, 3.5]
    np.testing.assert_allclose(moved(clip_value=3.0, clip_norm=1.0), np.array([3, 0, 3]) / np.sqrt(18), rtol=1e-15)


def test_penalties_on_chosen_leaves() -> None:
    chosen = lambda params: {name: params[name].ndim == 2 for name in params}  # noqa: E731
    params = {"w": np.array([[2.0, -1.0]]), "b": np.array([3.0])}
    flat = lambda p: np.sum(p["w"]) * 0 + np.sum(p["b"]) * 0  # noqa: E731

    def run(**options: Any) -> tuple[float, list[Any], list[Any]]:
        step = adjit.training_step(flat, optim.sgd(0.1), regularized=chosen, **options)
        state = step.init(params)
        value = step(state)
        return value, state.params["w"].tolist(), state.params["b"].tolist()

    assert run(l1=0.5) == (1.5, [[2.0 - 0.05, -1.0 + 0.05]], [3.0])
    value, w, b = run(l2=0.5)
    assert (value, b) == (2.5, [3.0])
    np.testing.assert_allclose(w, [[1.8, -0.9]], rtol=1e-15)
    value, w, b = run(weight_decay=0.5)
    assert (value, b) == (0.0, [3.0])
    np.testing.assert_allclose(w, [[1.9, -0.95]], rtol=1e-15)
    bad = adjit.training_step(flat, optim.sgd(0.1), regularized=lambda p: True, l1=0.1)
    state = bad.init(params)
    with pytest.raises(adjit.ArgumentError, match="the mask of regularized gives a bool for each parameter"):
        bad(state)


def test_adamw_decays_where_its_mask_says() -> None:
    masked = optim.adamw(0.1, weight_decay=0.5, mask=lambda p: {"w": True, "b": False})
    step = adjit.training_step(lambda p: np.sum(p["w"]) * 0 + np.sum(p["b"]) * 0, masked)
    state = step.init({"w": np.ones(1), "b": np.ones(1)})
    step(state)
    assert (state.params["w"][0], state.params["b"][0]) == (0.95, 1.0)


def test_switched_off_means_no_code() -> None:
    small, _ = make(optim.sgd(0.1)), None
    big = make(optim.sgd(0.1, momentum=0.9), clip_norm=1.0, l2=0.1)
    for step, state in (small, big):
        step(state, *data())
    assert len(small[0].ir("step").nodes) < len(big[0].ir("step").nodes)
    assert small[1].optimizer["w1"] == {}


def test_your_own_optimizer() -> None:
    def lion(learning_rate: float, b1: float = 0.9, b2: float = 0.99) -> optim.Optimizer:
        def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
            direction = np.sign(h["b1"] * kept["m"] + (1 - h["b1"]) * g)
            return p - h["learning_rate"] * direction, {"m": h["b2"] * kept["m"] + (1 - h["b2"]) * g}

        hyper = {"learning_rate": learning_rate, "b1": b1, "b2": b2}
        return optim.Optimizer("lion", hyper, lambda p: {"m": np.zeros_like(p)}, update)

    step, state = make(lion(0.01))
    before = state.params["w1"].copy()
    step(state, *data())
    np.testing.assert_allclose(np.abs(state.params["w1"] - before), 0.01, rtol=1e-12)


@pytest.mark.parametrize("size", [3, 800])
def test_an_optimiser_that_keeps_what_it_was_given(size: int) -> None:
    def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        return p - h["learning_rate"] * g, {"old": p, "older": kept["old"]}

    def init(p: Any) -> Any:
        return {"old": np.zeros_like(p), "older": np.full_like(p, 7.0)}

    step = adjit.training_step(lambda p: np.sum(p["w"]), optim.Optimizer("own", {"learning_rate": 0.5}, init, update))
    state = step.init({"w": np.ones(size)})
    for wanted in ((0.5, 1.0, 0.0), (0.0, 0.5, 1.0)):
        step(state)
        kept = state.optimizer["w"]
        for found, value in zip((state.params["w"], kept["old"], kept["older"]), wanted, strict=True):
            np.testing.assert_array_equal(found, np.full(size, value))


def test_numbers_that_all_parameters_share() -> None:
    """A running mean that starts at 0 still weighs its zeros by the product of the decays, also of changed ones."""
    step, state = make(optim.adam(0.1))
    assert state.shared == {"b1_product": 1.0, "b2_product": 1.0}
    step(state, *data())
    state.hyper["b1"] = 0.5
    step(state, *data())
    assert state.shared == {"b1_product": 0.9 * 0.5, "b2_product": 0.999 * 0.999}
    copied = state.copy()
    assert copied.shared == state.shared
    assert step(copied, *data()) == step(state, *data())

    def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        return p - h["seen"] * 0.0 - h["learning_rate"] * g, kept

    shared = {"seen": (2.0, lambda old, h, t: old + h["learning_rate"] + t)}
    own = optim.Optimizer("own", {"learning_rate": 0.25}, lambda p: {}, update, shared=shared)
    step, state = make(own)
    step(state, *data())
    step.run(state, data(), batch_size=4, epochs=1, shuffle=False)
    steps = state.step
    assert state.shared == {"seen": 2.0 + 0.25 * steps + steps * (steps + 1) / 2}
    assert make(optim.sgd(0.1))[1].shared == {}
    with pytest.raises(adjit.ArgumentError, match="own: learning_rate is a hyper-parameter and cannot be a shared"):
        optim.Optimizer("own", {"learning_rate": 0.1}, lambda p: {}, update, shared={"learning_rate": shared["seen"]})


def test_bad_optimizers() -> None:
    def made(update: Any, hyper: Any = None) -> Any:
        return optim.Optimizer("bad", hyper or {}, lambda p: {"m": np.zeros_like(p)}, update)

    for update, error, text in [
        (lambda g, k, p, h, t: p, adjit.ArgumentError, r"update returns \(new parameter, new kept\)"),
        (lambda g, k, p, h, t: (p, {}), adjit.ArgumentError, "init made"),
        (
            lambda g, k, p, h, t: (np.sum(p), k),
            adjit.ShapeError,
            r"the new value of params.b1 has shape \(\), the old one",
        ),
    ]:
        step, state = make(made(update))
        with pytest.raises(error, match=text):
            step(state, *data())
    with pytest.raises(adjit.ArgumentError, match="bad: rate is a schedule, None, or is a number, not 'high'"):
        made(lambda g, k, p, h, t: (p, k), {"rate": "high"})
    with pytest.raises(adjit.ArgumentError, match="optimizer is an optimiser, such as"):
        adjit.training_step(loss, 0.1)
    with pytest.raises(adjit.ArgumentError, match="adamw has a weight_decay of its own"):
        adjit.training_step(loss, optim.adamw(0.1), weight_decay=0.1)
    with pytest.raises(adjit.ArgumentError, match="clip_norm is None or is a number >= 0"):
        adjit.training_step(loss, optim.sgd(0.1), clip_norm=-1.0)


def test_parameters_that_cannot_be_trained() -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    with pytest.raises(adjit.DTypeError, match=r"params\.w is int64; parameters are float32 or float64"):
        step.init({"w": np.arange(3)})
    with pytest.raises(adjit.ArgumentError, match=r"params\.w is a str, not an array"):
        step.init({"w": "w"})


def test_the_dicts_of_a_state_are_read_only() -> None:
    _, state = make()
    for change in (
        lambda p: p.__setitem__("w1", np.zeros(3)),
        lambda p: p.pop("w1"),
        lambda p: p.update(w1=1),
        lambda p: p.clear(),
    ):
        with pytest.raises(adjit.StateError, match=r"state\.params\[key\]\[\.\.\.\] = array"):
            change(state.params)
    nested = adjit.training_step(lambda p: np.sum(p[0]), optim.sgd(0.1)).init([np.ones(2)])
    with pytest.raises(adjit.StateError, match="stay where they are"):
        nested.params[0] = np.zeros(2)
    state.params["w1"][...] = 0.0
    assert not state.params["w1"].any()
    # As an argument it is a plain dict.
    compiled = adjit.jit(lambda p: p["b1"] + 1)
    compiled(make_params())
    compiled(state.params)
    assert len(compiled.signatures()) == 1


def test_arguments_may_overlap_the_state() -> None:
    step = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(1.0))
    state = step.init(np.array([1.0, 2.0, 3.0]))
    step(state, state.params)
    assert state.params.tolist() == [0.0, 0.0, 0.0]
    state.params[...] = [1.0, 2.0, 3.0]
    step(state, state.params[::-1])
    assert state.params.tolist() == [-2.0, 0.0, 2.0]


def test_views_live_on_after_close() -> None:
    step, state = make()
    view = state.params["w1"]
    kept = view.copy()
    state.close()
    gc.collect()
    np.testing.assert_array_equal(view, kept)
    view[...] = 1.0
    for use in (
        lambda: state.params,
        lambda: state.hyper,
        lambda: state.step,
        lambda: step(state, *data()),
        state.close,
    ):
        with pytest.raises(adjit.StateError, match="the state is closed"):
            use()
    assert "closed" in repr(state)


def test_views_outlive_the_state() -> None:
    step, state = make()
    view = state.params["w1"]
    expected = view.copy()
    del step, state
    gc.collect()
    np.testing.assert_array_equal(view, expected)


def test_copies_are_states_of_their_own() -> None:
    step, state = make()
    x, y = data()
    step(state, x, y)
    twin = copy.deepcopy(state)
    first = [step(state, x, y) for _ in range(3)]
    assert [step(twin, x, y) for _ in range(3)] == first
    assert step(copy.copy(state), x, y) == step(state, x, y)


def test_a_state_of_another_step_is_refused() -> None:
    step, _ = make(optim.adam(0.1))
    _, other = make(optim.sgd(0.1))
    with pytest.raises(adjit.StateError, match="does not fit this step"):
        step(other, *data())
    with pytest.raises(adjit.ArgumentError, match=r"takes a state, which step\.init\(params\) makes, not a dict"):
        step(make_params(), *data())


def test_a_second_writer_is_refused() -> None:
    step, state = make()
    x, y = data()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            step(state, x, y)
        except adjit.StateError as error:
            failures.append(error)

    def write() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    state.exclusively(write)
    assert "busy in another thread" in str(failures[0])
    step(state, x, y)


def test_an_index_error_comes_before_any_write() -> None:
    def picks(p: Any, i: Any) -> Any:
        return np.sum(p["table"][i] ** 2) + np.sum(p["other"] ** 2)

    step = adjit.training_step(picks, optim.adam(0.1))
    state = step.init({"table": np.ones((5, 2)), "other": np.ones(3)})
    before = {name: array.copy() for name, array in state.params.items()}
    with pytest.raises(IndexError, match=r"test_step\.py:\d+: index 5 is out of bounds for axis 0 with size 5"):
        step(state, np.array([0, 5]))
    for name, array in state.params.items():
        np.testing.assert_array_equal(array, before[name])
    assert state.step == 0
    assert not state.optimizer["other"]["m"].any()
    step(state, np.array([0, -1]))
    assert state.step == 1


def test_steps_cannot_be_traced_and_losses_are_scalars() -> None:
    step = adjit.training_step(lambda p, x: p * x, optim.sgd(0.1))
    with pytest.raises(adjit.ShapeError, match=r"test_step\.py:\d+: training_step: <lambda> at .* returns f64\[3\]"):
        step(step.init(np.ones(3)), 1.0)
    with pytest.raises(adjit.ArgumentError, match="takes the parameters as its first argument"):
        adjit.training_step(lambda *, p: p, optim.sgd(0.1))


def test_static_arguments_of_a_loss() -> None:
    step = adjit.training_step(lambda p, x, power=2: np.sum((p * x) ** power), optim.sgd(0.0), static_argnames="power")
    state = step.init(np.array([2.0]))
    assert step(state, 3.0) == 36.0
    assert step(state, 3.0, power=1) == 6.0
    assert step(state, 3.0, 3) == 216.0
    assert len(step.signatures()) == 3


def test_ir_of_a_step() -> None:
    step, state = make()
    assert "update %params.w1" in str(step.ir("step", state, *data()))
    for stage in ("trace", "adjoint", "step", "optimized"):
        text = str(step.ir(stage))
        assert str(adjit.parse(text)) == text
    assert "in place" in str(step.ir("plan")) or "state slot" in str(step.ir("plan"))


def test_steps_that_share_a_state_run_their_own_programs() -> None:
    """Two steps of one optimiser fit each other's states, and their batches have one signature."""
    steps = [
        adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(0.0)),
        adjit.training_step(lambda p, x: 100.0 * np.sum(p * x), optim.sgd(0.0)),
    ]
    state, x = steps[0].init(np.ones(3)), np.ones(3)
    for _ in range(3):
        assert [step(state, x) for step in steps] == [3.0, 300.0]
    rows = np.ones((4, 3))
    runs = [step.run(state, (rows,), batch_size=2, epochs=1) for step in steps]
    assert [list(run.losses) for run in runs] == [[6.0, 6.0], [600.0, 600.0]]
