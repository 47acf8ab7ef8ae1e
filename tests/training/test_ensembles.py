"""vmap of a training step: many models in one step are what each is by itself."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import nn, optim
from adjit.optim import schedule
from tests.thresholds import CUT, SHARED, force
from tests.training.regression import RATES, SHARED_DATA, K, X, Y, loss, params


def stacked(trees: list[Any]) -> Any:
    return optree.tree_map(lambda *leaves: np.stack(leaves), *trees)


def agree(found: Any, wanted: Any, rtol: float = 1e-12) -> None:
    trees = (np.asarray(tree) if isinstance(tree, list) else tree for tree in (found, wanted))
    for a, b in zip(*map(optree.tree_leaves, trees), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# Of the numbers of one model, or of all: a step.
STEPS: dict[str, Callable[[Callable[..., Any]], adjit.TrainingStep]] = {
    "sgd": lambda n: adjit.training_step(loss, optim.sgd(n(RATES))),
    "momentum": lambda n: adjit.training_step(loss, optim.sgd(n(RATES), momentum=n([0.5, 0.9, 0.0]), nesterov=True)),
    "adam": lambda n: adjit.training_step(loss, optim.adam(n(RATES), b1=n([0.8, 0.9, 0.95]), eps=1e-6)),
    "adamw": lambda n: adjit.training_step(
        loss, optim.adamw(0.1, weight_decay=n([0.01, 0.1, 0.3]), mask=lambda p: {name: name == "w" for name in p})
    ),
    "rmsprop": lambda n: adjit.training_step(loss, optim.rmsprop(n(RATES), decay=n([0.8, 0.9, 0.99]), momentum=0.5)),
    "adagrad": lambda n: adjit.training_step(loss, optim.adagrad(n(RATES))),
    "schedule": lambda n: adjit.training_step(
        loss, optim.adam(schedule.warm_up(schedule.cosine(n(RATES), steps=n([5.0, 10.0, 20.0])), steps=3))
    ),
    "clipped": lambda n: adjit.training_step(
        loss, optim.sgd(0.1), clip_norm=n([0.1, 1.0, np.inf]), clip_value=n([0.5, 0.05, 1.0])
    ),
    "regularized": lambda n: adjit.training_step(
        loss, optim.sgd(0.1), l1=n([0.0, 0.01, 0.1]), l2=n([0.1, 0.02, 0.0]), weight_decay=n([0.1, 0.2, 0.3]),
        regularized=lambda p: {name: p[name].ndim > 0 for name in p},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), [*((name, np.float64) for name in STEPS), ("adamw", np.float32)])
def test_many_are_what_each_is_alone(name: str, dtype: Any) -> None:
    many = adjit.vmap(STEPS[name](np.asarray), in_axes=SHARED_DATA)
    data = (X.astype(dtype), Y.astype(dtype))
    state = many.init(stacked([params(k, dtype) for k in range(K)]))
    history = many.run(state, data, batch_size=8, epochs=3)
    losses = np.stack([many(state, *data) for _ in range(6)])
    assert history.losses.shape == (9, K)
    rtol = 1e-11 if dtype == np.float64 else 2e-4  # Fifteen steps of float32 in another order of sums.
    step = STEPS[name](lambda numbers: float(numbers[1]))
    for k in range(K):
        one = step.init(params(k, dtype))
        take(one.hyper, state.hyper, k)
        agree(history.losses[:, k], step.run(one, data, batch_size=8, epochs=3).losses, rtol)
        agree(losses[:, k], [step(one, *data) for _ in range(6)], rtol)
        for part in ("params", "optimizer", "shared"):
            found, wanted = (dict(enumerate(optree.tree_leaves(getattr(s, part)))) for s in (state, one))
            agree({i: x[k] for i, x in found.items()}, wanted, rtol)
    assert state.step == one.step == 15


def take(hyper: Any, of_many: Any, k: int) -> None:
    """Give a model the numbers of one of many."""
    for name, numbers in of_many.items():
        if isinstance(numbers, np.ndarray):
            hyper[name] = numbers[k]
        else:
            take(hyper[name], numbers, k)


def batched(step: adjit.TrainingStep, in_axes: Any, data: Any, calls: bool, **named: Any) -> Any:
    """Parameters after two steps, in calls or in a run."""
    many = adjit.vmap(step, in_axes=in_axes)
    state = many.init(stacked([params(k) for k in range(K)]))
    if calls:
        for _ in range(2):
            many(state, *data, **named)
    else:
        many.run(state, data, batch_size=len(Y), epochs=2, shuffle=False, constants=named)
    return state.params


@pytest.mark.parametrize("calls", [True, False])
def test_data_of_each_model_along_any_axis(calls: bool) -> None:
    step = adjit.training_step(loss, optim.sgd(RATES))
    xs, ys = np.stack([X + k for k in range(K)]), np.stack([Y * k for k in range(K)])
    wanted = []
    for k in range(K):
        one = adjit.training_step(loss, optim.sgd(RATES[k]))
        state = one.init(params(k))
        for _ in range(2):
            one(state, xs[k], ys[k])
        wanted.append(state.params)
    for in_axes, data in {
        0: (xs, ys),
        (0, 0, 0): (xs, ys),
        (0, 1, -1): (xs.swapaxes(0, 1), ys.T),
        (0, -1, -2): (np.moveaxis(xs, 0, 2), ys),
    }.items():
        agree(batched(step, in_axes, data, calls), stacked(wanted))


def test_trees_of_axes_and_arguments_by_name() -> None:
    def weighed(p: Any, batch: Any, factor: Any = 1.0, *, shift: Any = 0.0) -> Any:
        return loss(p, batch["x"], batch["y"]) * factor + shift * p["scale"]

    step = adjit.training_step(weighed, optim.sgd(0.1))
    ys, factors, shifts = np.stack([Y * k for k in range(K)]), np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.1, 0.2])
    axes = (0, {"x": None, "y": 0}, 0)
    found = batched(step, axes, ({"x": X, "y": ys},), True, factor=factors, shift=shifts)
    agree(batched(step, axes, ({"x": X, "y": ys},), False, factor=factors, shift=shifts), found)
    shared = batched(step, (0, {"x": None, "y": 0}, None), ({"x": X, "y": ys},), False, factor=2.0)
    for k in range(K):
        for named, all_of_them in (({"factor": factors[k], "shift": shifts[k]}, found), ({"factor": 2.0}, shared)):
            state = step.init(params(k))
            for _ in range(2):
                step(state, {"x": X, "y": ys[k]}, **named)
            agree(optree.tree_map(lambda x, k=k: x[k], all_of_them), state.params)


def test_rows_in_batches_of_data_of_each_model() -> None:
    """Minibatches, shuffled, with a smaller last one: of data with the models first, and with the rows first."""
    xs, ys = np.stack([X + k for k in range(K)]), np.stack([Y * k for k in range(K)])
    found = []
    for in_axes, data in {(0, 0, 0): (xs, ys), (0, 1, 1): (xs.swapaxes(0, 1).copy(), ys.T.copy())}.items():
        many = adjit.vmap(adjit.training_step(loss, optim.adam(RATES)), in_axes=in_axes)
        state = many.init(stacked([params(k) for k in range(K)]))
        found.append((many.run(state, data, batch_size=6, epochs=2, seed=5).losses, state.params))
        assert len(many.run(state, data, batch_size=6)) == 4
        assert "graph @loss" in str(many.ir("batch"))
    agree(found[0], found[1], 1e-14)
    for k in range(K):
        one = adjit.training_step(loss, optim.adam(RATES[k]))
        state = one.init(params(k))
        agree(found[0][0][:, k], one.run(state, (xs[k], ys[k]), batch_size=6, epochs=2, seed=5).losses)


def test_a_grid_is_two_maps() -> None:
    rates, decays = np.array([0.05, 0.1]), np.array([0.0, 0.1, 0.2])
    step = adjit.training_step(loss, optim.sgd(rates[:, None]), weight_decay=decays)
    grid = adjit.vmap(adjit.vmap(step, in_axes=SHARED_DATA), in_axes=SHARED_DATA)
    state = grid.init(params(0), models=(2, 3))
    assert repr(state).startswith("<state of loss: 2 x 3 models of 4 parameters")
    history = grid.run(state, (X, Y), batch_size=10)
    assert history.losses.shape == (2, 2, 3)
    assert "2 x 3 models" in repr(history)
    for i, j in itertools.product(range(2), range(3)):
        alone = adjit.training_step(loss, optim.sgd(rates[i]), weight_decay=decays[j])
        one = alone.init(params(0))
        agree(history.losses[:, i, j], alone.run(one, (X, Y), batch_size=10).losses)
        agree(optree.tree_map(lambda x, at=(i, j): x[at], state.params), one.params)
    # Data of the inner models alone, behind the rows and ahead of them.
    ys = np.stack([Y * k for k in range(3)])
    for inner, data in ((1, ys.T.copy()), (0, ys)):
        grid = adjit.vmap(adjit.vmap(step, in_axes=(0, None, inner)), in_axes=SHARED_DATA)
        state = grid.init(params(0), models=(2, 3))
        losses = grid.run(state, (X, data), batch_size=20, shuffle=False).losses
        agree(losses[0, 1], [loss(params(0), X, y) for y in ys])


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_chunks_change_nothing(chunk: int) -> None:
    step = adjit.training_step(loss, optim.adam(RATES))
    found = []
    for most in (None, chunk):
        many = adjit.vmap(step, in_axes=SHARED_DATA, chunk=most)
        state = many.init(stacked([params(k) for k in range(K)]))
        found.append((many.run(state, (X, Y), batch_size=8, epochs=2).losses, state.params))
    agree(found[1], found[0])


def test_one_model_and_one_row() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.adam(0.1)), in_axes=SHARED_DATA)
    state = many.init(params(0), models=1)
    one = adjit.training_step(loss, optim.adam(0.1))
    alone = one.init(params(0))
    for _ in range(3):
        agree(many(state, X[:1], Y[:1]), [one(alone, X[:1], Y[:1])])
    agree(optree.tree_map(lambda x: x[0], state.params), alone.params)


def test_results_beside_the_losses() -> None:
    def with_aux(p: Any, x: Any, y: Any) -> Any:
        return loss(p, x, y), {"norm": np.sum(p["w"] ** 2), "rows": np.sum(x), "w": p["w"]}

    step = adjit.training_step(with_aux, optim.sgd(RATES), has_aux=True)
    many = adjit.vmap(step, in_axes=SHARED_DATA, out_axes=(0, {"norm": 0, "rows": None, "w": -1}))
    state = many.init(stacked([params(k) for k in range(K)]))
    before = copy.deepcopy(state.params["w"])
    losses, aux = many(state, X, Y)
    assert losses.shape == (K,)
    agree(aux["norm"], np.sum(before**2, axis=(1, 2)))
    agree(aux["rows"], np.sum(X))
    agree(aux["w"], np.moveaxis(before, 0, -1))
    history = adjit.vmap(step, in_axes=SHARED_DATA).run(state, (X, Y), batch_size=10)
    assert {name: x.shape for name, x in history.aux.items()} == {"norm": (2, K), "rows": (2, K), "w": (2, K, 4, 5)}


def noisy(p: Any, x: Any, *, key: Any) -> Any:
    return np.sum(p * nn.dropout(x, 0.5, key))


def test_keys_are_one_for_all_or_one_for_each() -> None:
    many = adjit.vmap(adjit.training_step(noisy, optim.sgd(0.1)), in_axes=(0, None))
    x = np.arange(1.0, 9.0)
    same = many(many.init(np.ones(8), key=7, models=K), x)
    assert np.all(same == same[0])
    keys = np.array([7, 8, 9])
    state = many.init(np.ones(8), key=keys, models=K)
    assert np.array_equal(state.key, keys)
    one = adjit.training_step(noisy, optim.sgd(0.1))
    singles = [one.init(np.ones(8), key=int(key)) for key in keys]
    for _ in range(3):
        agree(many(state, x), [one(single, x) for single in singles])
    state.key = 3
    assert np.array_equal(state.key, [3, 3, 3])
    state.key = [1, 2, 3]
    assert state.key.tolist() == [1, 2, 3]


def test_parameters_of_many_keys_are_made_by_vmap() -> None:
    def init(key: Any) -> Any:
        return {"w": nn.init.he_normal((4, 5), key=key), "b": np.zeros(5, np.float32)}

    keys = np.array(adjit.random.split(adjit.random.key(0), K))
    made = adjit.vmap(init)(keys)
    assert made["w"].shape == (K, 4, 5)
    step = adjit.training_step(lambda p, x: np.mean((x @ p["w"] + p["b"]) ** 2), optim.sgd(0.1))
    state = adjit.vmap(step, in_axes=(0, None)).init(made)
    for k in range(K):
        agree(state.params["w"][k], init(keys[k])["w"], 1e-6)


def test_a_model_that_fails_touches_no_other() -> None:
    found = []
    for rate in (0.1, 1e300):
        many = adjit.vmap(adjit.training_step(loss, optim.adam([0.1, rate, 0.1]), clip_norm=1.0), in_axes=SHARED_DATA)
        state = many.init(stacked([params(k) for k in range(K)]))
        if rate > 1:
            state.params["w"][1] = np.nan
        history = many.run(state, (X, Y), batch_size=8, epochs=3, on_nan="ignore")
        found.append([history.losses[:, [0, 2]], *(x[[0, 2]] for x in optree.tree_leaves(state.params))])
    assert np.isnan(history.losses[:, 1]).all()
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    assert np.isfinite(found[1][0]).all()


def test_losses_that_are_not_finite_name_the_model() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.sgd(0.01)), in_axes=SHARED_DATA)

    def begun() -> adjit.State:
        state = many.init(stacked([params(k) for k in range(K)]))
        state.params["v"][1, 0] = np.inf
        state.params["v"][2, 0] = np.nan
        return state

    with pytest.warns(
        adjit.NotFiniteWarning, match=r"the loss of step 0 of 3 of model 1 \(and of 1 more\) is (inf|nan)"
    ):
        many.run(begun(), (X, Y), batch_size=8)
    with pytest.raises(adjit.NotFiniteError, match="of model 1") as caught:
        many.run(begun(), (X, Y), batch_size=8, on_nan="raise")
    assert caught.value.losses.shape[1:] == (K,)  # type: ignore[attr-defined]


def test_progress_has_the_losses_of_all() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.sgd(0.01)), in_axes=SHARED_DATA)
    state = many.init(params(0), models=K)
    seen: list[Any] = []
    history = many.run(
        state, (X, Y), batch_size=10, progress=lambda done, total, last: seen.append((done, total, last))
    )
    assert seen[-1][:2] == (2, 2)
    assert np.array_equal(seen[-1][2], history.losses[-1])
    assert many.run(state, (X, Y), batch_size=10, epochs=0).losses.shape == (0, K)
    assert history._repr_html_().count("<polyline") == K
    assert f"2 steps of {K} models" in repr(history)


def test_hyper_parameters_of_each() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.sgd(schedule.exponential(0.1, 0.5)), l2=0.1), in_axes=SHARED_DATA)
    state = many.init(params(0), models=K)
    assert state.hyper["l2"].tolist() == [0.1] * K
    state.hyper["l2"] = [0.0, 1.0, 2.0]
    state.hyper["learning_rate"]["initial"] = 0.0
    state.hyper["learning_rate"]["initial"][2] = 0.1
    assert state.hyper["learning_rate"]["initial"].tolist() == [0.0, 0.0, 0.1]
    taken = state.hyper.copy()
    losses = many(state, X, Y)
    squares = sum(np.sum(x**2) for x in params(0).values())
    agree(losses - losses[0], np.array([0.0, 1.0, 2.0]) * squares)
    agree(state.params["w"][:2], np.stack([params(0)["w"]] * 2))
    assert not np.allclose(state.params["w"][2], params(0)["w"])
    state.hyper["l2"][:] = 5.0
    assert taken["l2"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        adjit.vmap(adjit.training_step(loss, optim.adam(0.1)), in_axes=SHARED_DATA).init(params(0), models=2).shared[
            "b1_product"
        ][0] = 1.0


def test_schedules_of_many_show_their_curves() -> None:
    curve = schedule.cosine(np.array([1.0, 2.0]), steps=10)
    agree(curve(0), [1.0, 2.0])
    agree(curve(10), [0.0, 0.0])
    assert schedule.cosine(1.0, steps=10)(0) == 1.0


def test_copies_and_pickles() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.adam(RATES)), in_axes=SHARED_DATA)
    state = many.init(stacked([params(k) for k in range(K)]), key=[1, 2, 3])
    many(state, X, Y)
    twin = state.copy()
    agree(many(twin, X, Y), many(state, X, Y))
    plain = pickle.loads(pickle.dumps(state))
    assert plain["step"] == 2
    assert plain["key"].tolist() == [1, 2, 3]
    agree(plain["hyper"]["learning_rate"], RATES)
    agree(plain["shared"]["b1_product"], np.full(K, 0.9**2))
    agree(plain["params"], state.params)
    # What was pickled is no view.
    many(state, X, Y)
    assert not np.allclose(plain["params"]["w"], state.params["w"])


@pytest.mark.parametrize("with_like", [False, True])
def test_checkpoints(tmp_path: Path, with_like: bool) -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.adam(schedule.cosine(0.1, steps=9))), in_axes=SHARED_DATA)
    state = many.init(stacked([params(k) for k in range(K)]), key=[4, 5, 6])
    state.hyper["learning_rate"]["peak"] = RATES
    many.run(state, (X, Y), batch_size=8)
    path = tmp_path / "many.safetensors"
    adjit.save(path, state)
    again = adjit.load(path, like=many.init(params(0), models=K) if with_like else None)
    assert again.key.tolist() == [4, 5, 6]
    assert np.array_equal(many.run(again, (X, Y), batch_size=8).losses, many.run(state, (X, Y), batch_size=8).losses)
    agree(again.params, state.params, 0)
    with pytest.raises(adjit.ArgumentError, match=r"params\.b is float64\[3, 5\], not"):
        adjit.load(path, like=many.init(params(0), models=2))


def test_a_checkpoint_of_models_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    many = adjit.vmap(adjit.training_step(loss, optim.sgd(0.1)), in_axes=SHARED_DATA)
    path = tmp_path / "many.safetensors"
    adjit.save(path, many.init(params(0), models=K))
    import json

    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    metadata.pop("checksum")
    for name, change in {
        "key": lambda key: key[:2], "params.w": lambda w: w[:2].copy(), "hyper.learning_rate": lambda x: x[0],
    }.items():  # fmt: skip
        tensors = load_file(path)
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
        damaged = tmp_path / "damaged.safetensors"
        save_file(tensors, damaged, metadata)
        with pytest.raises(adjit.FormatError):
            adjit.load(damaged)


def test_native_entries_give_the_same() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.sgd(RATES)), in_axes=SHARED_DATA)
    a, b = (many.init(params(0), models=K) for _ in range(2))
    losses = [many(a, X, Y) for _ in range(8)]
    assert many._entries
    assert all(x.shape == (K,) and x.dtype == np.float64 for x in losses)
    agree(np.stack(losses), many.run(b, (X, Y), batch_size=20, epochs=8, shuffle=False).losses, 1e-13)


def test_every_stage_shows() -> None:
    many = adjit.vmap(adjit.training_step(loss, optim.adam(RATES)), in_axes=SHARED_DATA)
    state = many.init(params(0), models=K)
    many(state, X, Y)
    assert f"%params.w: f64[{K},4,5]" in str(many.ir("batch"))
    assert "%params.w: f64[4,5]" in str(many.ir("step"))
    for stage in ("trace", "rolled", "adjoint", "step", "batch", "optimized"):
        graph = many.ir(stage)
        assert str(adjit.parse(str(graph))) == str(graph)
    step = adjit.parse(str(many.ir("batch")))
    assert len(step.updates) == len(many.ir("step").updates)
    assert "kernel" in str(many.profile(state, X, Y, steps=2))
    many.retrace()
    assert many(state, X, Y).shape == (K,)


@pytest.mark.parametrize("rows", [1, 7, 33])
def test_the_same_bits_for_any_number_of_threads(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, CUT, SHARED)

    def classify(p: Any, x: Any, y: Any) -> Any:
        return nn.cross_entropy(nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"], y)

    rng = np.random.default_rng(0)
    sizes = {"w1": (5, 24, 20), "b1": (5, 20), "w2": (5, 20, 7)}
    begun = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}
    x, y = rng.normal(size=(rows, 24)).astype(np.float32), rng.integers(0, 7, rows)
    many = adjit.vmap(adjit.training_step(classify, optim.adam(0.01)), in_axes=SHARED_DATA)
    found = set()
    try:
        for count in (1, 2, 3, 8):
            adjit.set_threads(count)
            state = many.init(begun)
            losses = [many(state, x, y).tobytes() for _ in range(3)]
            found.add((*losses, *(leaf.tobytes() for leaf in optree.tree_leaves(state.params))))
    finally:
        adjit.set_threads(None)
    assert len(found) == 1
    if rows > 1:
        assert "product batch=5" in str(many.ir("plan"))
