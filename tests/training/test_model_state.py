"""State that is not trained: what a loss takes and gives back beside the parameters is kept from step to step."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import nn, optim, random

X = np.random.default_rng(0).normal(size=(8, 3))
Y = np.random.default_rng(1).normal(size=8)
PARAMS = {"w": np.array([0.3, -0.2, 0.5]), "b": np.float64(0.25)}
STATE = {
    "mean": np.zeros(3, np.float32), "count": 0, "seen": np.zeros(2, bool), "before": np.zeros(3), "last": np.zeros(8),
    "pair": (np.array([1, 2], np.int32), np.array([3, 4], np.int32)), "none": np.zeros((0, 2)), "sums": np.uint64(5),
    "bytes": np.array([250, 3], np.uint8), "fixed": np.ones(2),
}  # fmt: skip


def loss(p: Any, state: Any, x: Any, y: Any) -> Any:
    """Of each kind: averaged, counted, flags, what parameters were, a copy of data, two that change places."""
    error = x @ p["w"] + p["b"] - y
    new = {
        "mean": 0.9 * state["mean"] + 0.1 * np.mean(x, axis=0).astype(np.float32),
        "count": state["count"] + 1,
        "seen": np.stack([state["count"] > 0, ~state["seen"][1]]),
        "before": p["w"],
        "last": y,
        "pair": (state["pair"][1], state["pair"][0]),
        "none": state["none"] * 2,
        "sums": state["sums"] + np.uint64(7),
        "bytes": state["bytes"] + np.uint8(3),
        "fixed": state["fixed"],
    }
    return np.mean(error**2) + 1e-3 * np.sum(state["mean"].astype(np.float64)), new


def by_hand(rate: float, batches: list[Any]) -> tuple[Any, Any, list[float]]:
    """The same steps in NumPy."""
    p, state, losses = copy.deepcopy(PARAMS), optree.tree_map(np.asarray, STATE), []
    for x, y in batches:
        value, new = loss(p, state, x, y)
        error = x @ p["w"] + p["b"] - y
        p = {"w": p["w"] - rate * 2 * x.T @ error / len(y), "b": p["b"] - rate * 2 * np.mean(error)}
        state = optree.tree_map(np.array, new)
        losses.append(float(value))
    return p, state, losses


def same(found: Any, wanted: Any) -> None:
    assert optree.tree_structure(copy.deepcopy(found)) == optree.tree_structure(wanted)
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(wanted), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=1e-6 if a.dtype == np.float32 else 1e-12)


def test_steps_are_those_by_hand() -> None:
    step = adjit.training_step(loss, optim.sgd(0.1), state=True)
    state = step.init(PARAMS, STATE)
    same(state.model_state, optree.tree_map(np.asarray, STATE))
    kept = state.model_state["mean"]
    losses = [step(state, X, Y * k) for k in range(5)]
    params, wanted, values = by_hand(0.1, [(X, Y * k) for k in range(5)])
    np.testing.assert_allclose(losses, values, rtol=1e-6)
    same(state.model_state, wanted)
    same(state.params, params)
    assert kept is state.model_state["mean"]
    assert "3 parameters" not in repr(state)
    assert "2 parameters, 11 arrays of model state" in repr(state)
    assert "model_state.pair.1" in state._repr_html_()


def made(**named: Any) -> tuple[adjit.TrainingStep, adjit.State]:
    step = adjit.training_step(loss, optim.adam(0.1), state=True, **named)
    return step, step.init(PARAMS, STATE)


def test_native_calls_write_in_place() -> None:
    step, state = made()
    other, twin = made()
    for k in range(12):
        assert step(state, X, Y * k) == other(twin.copy() if k == 20 else twin, X, Y * k)
    address = state.model_state["mean"].__array_interface__["data"][0]
    for _ in range(5):
        step(state, X, Y)
    assert state.model_state["mean"].__array_interface__["data"][0] == address
    assert state.entries
    assert int(state.model_state["count"]) == 17


@pytest.mark.parametrize("shuffle", [True, False])
def test_runs_are_steps(shuffle: bool) -> None:
    """Epochs, the rest of the rows and all: the same as steps one by one."""

    def average(p: Any, state: Any, x: Any, y: Any) -> Any:
        new = {"mean": 0.9 * state["mean"] + 0.1 * np.mean(x, axis=0), "rows": state["rows"] + len(y)}
        return np.mean((x @ p - y) ** 2), (new, (new["rows"], np.max(y)))

    step = adjit.training_step(average, optim.sgd(0.1, momentum=0.9), state=True, has_aux=True)
    begin = {"mean": np.zeros(3), "rows": 0}
    state, twin = step.init(np.zeros(3), begin), step.init(np.zeros(3), begin)
    found = [step.run(state, (X, Y), batch_size=3, epochs=2, shuffle=shuffle) for _ in range(2)]
    losses, rows = [], []
    for _ in range(4):
        order = random.permutation(random.fold_in(random.key(0), twin.step), 8) if shuffle else np.arange(8)
        for some in (order[:3], order[3:6], order[6:]):
            value, (seen, _) = step(twin, X[some], Y[some])
            losses.append(value)
            rows.append(int(seen))
    assert rows == [*range(3, 9, 3), 8, 11, 14, 16, 19, 22, 24, 27, 30, 32]
    assert np.concatenate([history.losses for history in found]).tolist() == losses
    assert np.concatenate([history.aux[0] for history in found]).tolist() == rows
    for a, b in zip(state.leaves(), twin.leaves(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_gradient_flows_through_it() -> None:
    """What a step kept of the parameters is a number for the next one, whose gradient `value_and_grad` gives, too."""

    def carried(p: Any, s: Any, x: Any) -> Any:
        return p * s * x, (p * x, (p + s, s))

    step = adjit.training_step(carried, optim.sgd(1.0), state=True, has_aux=True)
    state = step.init(np.float64(2.0), 3.0)
    assert step(state, 5.0) == (30.0, (5.0, 3.0))
    assert (float(state.params), float(state.model_state)) == (2 - 15, 10)
    (value, (new, (_, before))), slope = adjit.value_and_grad(carried, has_aux=True)(
        state.params, state.model_state, 7.0
    )
    step(state, 7.0)
    assert (float(state.params), float(state.model_state), float(before)) == (-13 - slope, new, 10)
    assert value == -13 * 10 * 7


def test_keys_static_arguments_and_options() -> None:
    def drawn(p: Any, s: Any, x: Any, kind: str, *, key: Any, scale: float = 1.0) -> Any:
        noise = random.normal(key, (2,)).astype(np.float64)
        return np.sum(p * x) * scale, {"noise": noise if kind == "new" else s["noise"], "n": s["n"] + 1}

    step = adjit.training_step(drawn, optim.sgd(0.0), state=True, static_argnames="kind", memory_limit="10MB")
    state = step.init(np.ones(2), {"noise": np.zeros(2), "n": 0}, key=4)
    assert step(state, np.ones(2), "old") == 2.0
    assert state.model_state["noise"].tolist() == [0, 0]
    assert step(state, np.ones(2), kind="new", scale=2.0) == 4.0
    wanted = random.normal(random.fold_in(4, 1), (2,))
    np.testing.assert_allclose(state.model_state["noise"], wanted, rtol=1e-6)
    assert int(state.model_state["n"]) == 2
    assert "model_state.noise" in str(step.ir("step", state, np.ones(2), "new"))
    assert step.ir("plan", state, np.ones(2), "new")
    assert step.profile(state, np.ones(2), "new", steps=2)
    assert int(state.model_state["n"]) == 2
    assert "x: f64[2]" in step.signatures()[0]


def test_copies_pickles_and_writes() -> None:
    step, state = made()
    step(state, X, Y)
    copies = [state.copy(), copy.copy(state), copy.deepcopy(state)]
    plain = pickle.loads(pickle.dumps(state))
    step(state, X, Y)
    for each in copies:
        assert int(each.model_state["count"]) == 1
        step(each, X, Y)
        same(each.model_state, copy.deepcopy(state.model_state))
    assert list(plain) == ["params", "optimizer", "shared", "hyper", "key", "step", "model_state"]
    again = step.init(plain["params"], plain["model_state"])
    same(again.model_state, plain["model_state"])
    state.model_state["count"][...] = 40
    state.model_state["mean"] += 1
    step(state, X, Y)
    assert int(state.model_state["count"]) == 41
    for write in (lambda: setattr(state, "model_state", {}), lambda: state.model_state.update(count=1)):
        with pytest.raises(adjit.StateError):
            write()
    plainer = adjit.training_step(lambda p: np.sum(p), optim.sgd(0.1)).init(np.ones(2))
    assert plainer.model_state is None
    state.close()
    with pytest.raises(adjit.StateError, match="closed"):
        state.model_state  # noqa: B018


def test_evaluation_reads_the_views() -> None:
    step, state = made()
    step(state, X, Y)

    @adjit.jit
    def shifted(p: Any, s: Any, x: Any) -> Any:
        return (x - s["mean"].astype(np.float64)) @ p["w"] * s["count"]

    found = shifted(state.params, state.model_state, X)
    wanted = (X - state.model_state["mean"]) @ state.params["w"]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert len(shifted.signatures()) == 1
    # A batch that is a part of the state itself.
    step(state, X, state.model_state["last"])
    np.testing.assert_array_equal(state.model_state["last"], Y)


def test_checkpoints(tmp_path: Path) -> None:
    step, state = made()
    step(state, X, Y)
    adjit.save(tmp_path / "s", state)
    for loaded in (adjit.load(tmp_path / "s"), adjit.load(tmp_path / "s", like=made()[1])):
        assert loaded.layout is state.layout
        twin = state.copy()
        for _ in range(3):
            assert step(twin, X, Y) == step(loaded, X, Y)
        for a, b in zip(twin.leaves(), loaded.leaves(), strict=True):
            np.testing.assert_array_equal(a, b)
    # What other versions wrote has no such part, and what has none is written as they did.
    plain = adjit.training_step(lambda p: np.sum(p["w"] ** 2), optim.adam(0.1))
    adjit.save(tmp_path / "plain", plain.init(PARAMS))
    data = (tmp_path / "plain").read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert metadata["adjit"] == "2"
    assert "model_state" not in json.loads(metadata["structure"])
    assert adjit.load(tmp_path / "plain").model_state is None
    with pytest.raises(adjit.ArgumentError, match=r"model_state\.bytes"):
        adjit.load(tmp_path / "plain", like=state)
    with pytest.raises(adjit.ArgumentError, match=r"model_state\.bytes"):
        adjit.load(tmp_path / "s", like=plain.init(PARAMS))
    data = (tmp_path / "s").read_bytes()
    for old, new in (
        (b'"adjit":"3"', b'"adjit":"2"'),
        (b'"adjit":"3"', b'"adjit":"4"'),
        (b'"dtype":"U8"', b'"dtype":"I8"'),
    ):
        assert data.count(old) == 1
        (tmp_path / "s").write_bytes(data.replace(old, new))
        with pytest.raises(adjit.FormatError):
            adjit.load(tmp_path / "s")


def test_of_many_models(tmp_path: Path) -> None:
    step = adjit.training_step(loss, optim.sgd(np.array([0.1, 0.2])), state=True)
    many = adjit.vmap(step, in_axes=(0, None, None))
    stacked = optree.tree_map(lambda *leaves: np.stack(leaves), PARAMS, PARAMS)
    own = optree.tree_map(lambda leaf: np.stack([np.asarray(leaf), np.asarray(leaf)]), STATE)
    own["mean"][1] = 2.0
    alike, each = many.init(PARAMS, STATE, models=2), many.init(stacked, own)
    histories = [many.run(state, (X, Y), batch_size=8, epochs=3, shuffle=False) for state in (alike, each)]
    for state in (alike, each):
        many(state, X, Y)
    for k, rate in enumerate((0.1, 0.2)):
        one = adjit.training_step(loss, optim.sgd(rate), state=True)
        for state, begin, history in ((alike, STATE, histories[0]), (each, own, histories[1])):
            first = begin if begin is STATE else optree.tree_map(lambda leaf, k=k: leaf[k], begin)
            twin = one.init(PARAMS, first)
            losses = [one(twin, X, Y) for _ in range(4)]
            np.testing.assert_allclose(history.losses[:, k], losses[:3], rtol=1e-12)
            same(
                optree.tree_map(lambda leaf, k=k: leaf[k], copy.deepcopy(state.model_state)),
                copy.deepcopy(twin.model_state),
            )
    adjit.save(tmp_path / "many", each)
    loaded = adjit.load(tmp_path / "many")
    np.testing.assert_array_equal(many(loaded, X, Y), many(each, X, Y))
    nested = adjit.vmap(many, in_axes=(0, None, None))
    deep = nested.init(PARAMS, STATE, models=(3, 2))
    nested(deep, X, Y)
    assert deep.model_state["count"].tolist() == [[1, 1]] * 3
    with pytest.raises(adjit.ShapeError, match=r"model_state\.bytes has shape \(2,\)"):
        many.init(optree.tree_map(lambda *x: np.stack(x), PARAMS, PARAMS, PARAMS), STATE)


# What is wrong, what is said of it: of losses ...
RETURNED: dict[str, tuple[Any, type[adjit.AdjitError], str]] = {
    "nothing": (lambda p, s: np.sum(p), adjit.ArgumentError, r"with state=True .* \(loss, new state\), not an? "),
    "a list": (lambda p, s: [np.sum(p), s], adjit.ArgumentError, r"\(loss, new state\), not a list"),
    "tree": (lambda p, s: (np.sum(p), {"a": s["a"]}), adjit.ArgumentError, r"model_state\.n is missing"),
    "more": (lambda p, s: (np.sum(p), {**s, "x": 1.0}), adjit.ArgumentError, r"model_state\.x is new"),
    "kind": (lambda p, s: (np.sum(p), [s["a"], s["n"]]), adjit.ArgumentError, r"another structure"),
    "shape": (lambda p, s: (np.sum(p), {**s, "a": s["a"][:1]}), adjit.ShapeError, r"a has shape \(1,\), and had"),
    "dtype": (lambda p, s: (np.sum(p), {**s, "a": s["n"] * np.ones(2)}), adjit.DTypeError, r"astype\(np\.float32\)"),
    "kind of number": (lambda p, s: (np.sum(p), {**s, "n": 1.5}), adjit.DTypeError, r"f64\[\]~, and was i64\[\]"),
    "no array": (lambda p, s: (np.sum(p), {**s, "n": "x"}), adjit.ArgumentError, r"n is a str"),
    "no scalar": (lambda p, s: (p, s), adjit.ShapeError, "a gradient is that of one scalar"),
}  # fmt: skip


@pytest.mark.parametrize("name", RETURNED)
def test_losses_that_return_something_else(name: str) -> None:
    function, kind, text = RETURNED[name]
    step = adjit.training_step(function, optim.sgd(0.1), state=True)
    state = step.init(np.ones(2), {"a": np.ones(2, np.float32), "n": 0})
    with pytest.raises(kind, match=text):
        step(state)
    assert state.step == 0


def test_numbers_of_python_take_the_type() -> None:
    def reset(p: Any, s: Any) -> Any:
        return np.sum(p), {"a": 2, "flag": True, "n": False}

    step = adjit.training_step(reset, optim.sgd(0.1), state=True)
    state = step.init(np.ones(2), {"a": np.float32(0), "flag": False, "n": 3})
    step(state)
    found = {name: (value.dtype.name, value.item()) for name, value in state.model_state.items()}
    assert found == {"a": ("float32", 2.0), "flag": ("bool", True), "n": ("int64", 0)}


def test_what_does_not_fit() -> None:
    step, state = made()
    plain = adjit.training_step(lambda p, x: np.sum(p["w"]) * np.sum(x), optim.adam(0.1))
    for call, text in {
        lambda: step.init(PARAMS): r"init\(params, model_state\)",
        lambda: plain.init(PARAMS, STATE): "state=True",
        lambda: step.init(PARAMS, {"x": "text"}): r"model_state\.x is a str",
        lambda: step.init(PARAMS, {"x": 2**70}): "int64",
        lambda: adjit.training_step(lambda p: 0.0, optim.sgd(0.1), state=True): r"def loss\(params, state, x, y\)",
        lambda: adjit.training_step(lambda p, *, s: 0.0, optim.sgd(0.1), state=True): "by position",
        lambda: adjit.training_step(lambda p, s: 0.0, optim.sgd(0.1), state=True, static_argnames="s"): "s cannot be",
        lambda: adjit.training_step(loss, optim.sgd(0.1), state=1): "state is",
    }.items():
        with pytest.raises(adjit.ArgumentError, match=text):
            call()
    with pytest.raises(adjit.DTypeError, match=r"x is float16.*astype\(np\.float32\)"):
        step.init(PARAMS, {"x": np.ones(2, np.float16)})
    with pytest.raises(adjit.DTypeError, match="complex128"):
        step.init(PARAMS, {"x": np.ones(2, complex)})
    for wrong in (lambda: step(plain.init(PARAMS), X, Y), lambda: plain(state, X)):
        with pytest.raises(adjit.StateError, match="beside the parameters"):
            wrong()
    with pytest.raises(adjit.ArgumentError, match=r"pass has_aux=True, and if a new state .*, state=True"):
        adjit.training_step(lambda p, x: (p, x), optim.sgd(0.1))(
            adjit.training_step(loss, optim.sgd(0.1)).init(1.0), 1.0
        )
    both = adjit.training_step(loss, optim.sgd(0.1), state=True, has_aux=True)
    with pytest.raises(adjit.ArgumentError, match=r"returns \(loss, \(new state, aux\)\), not \(loss, a dict of 10\)"):
        both(both.init(PARAMS, STATE), X, Y)


def test_an_error_in_a_step_leaves_all_as_it_was() -> None:
    def picked(p: Any, s: Any, i: Any) -> Any:
        return np.sum(p[i] ** 2), s + 1

    step = adjit.training_step(picked, optim.sgd(0.1), state=True)
    state = step.init(np.ones(3), np.zeros(4))
    step(state, np.array([1]))
    before = state.leaves()
    with pytest.raises(adjit.IndexOutOfRange):
        step(state, np.array([7]))
    for a, b in zip(before, state.leaves(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_open_arguments() -> None:
    def every(*args: Any) -> Any:
        p, s, x = args
        return np.sum(p * x), s + x

    def rest(p: Any, s: Any, *xs: Any) -> Any:
        return np.sum(p * xs[0]), s + xs[0]

    for function in (every, rest):
        step = adjit.training_step(function, optim.sgd(0.1), state=True)
        state = step.init(np.ones(2), np.zeros(2))
        step(state, np.ones(2))
        step(state, np.ones(2))
        assert state.model_state.tolist() == [2, 2]


def test_what_a_loss_calls_state_may_be_data() -> None:
    step = adjit.training_step(lambda p, x, state: np.sum(p * x) * state, optim.sgd(0.1))
    assert step(step.init(np.ones(2)), np.ones(2), state=3.0) == 6.0


def test_running_statistics_of_batch_norm() -> None:
    """A network with them learns, and its evaluation does not depend on the batch."""
    first, second = random.split(random.key(0), 2)
    norm, running = nn.init.batch_norm(4)
    params = {"in": nn.init.dense(3, 4, key=first), "norm": norm, "out": nn.init.dense(4, 1, key=second)}

    def network(p: Any, running: Any, x: Any, training: bool) -> Any:
        h, running = nn.batch_norm(nn.dense(p["in"], x), running, **p["norm"], training=training)
        return nn.dense(p["out"], nn.relu(h))[:, 0], running

    def squared(p: Any, running: Any, x: Any, y: Any) -> Any:
        found, running = network(p, running, x, training=True)
        return np.mean((found - y) ** 2), running

    x, y = X.astype(np.float32), Y.astype(np.float32)
    step = adjit.training_step(squared, optim.adam(0.03), state=True)
    state = step.init(params, running)
    assert step.run(state, (x, y), batch_size=8, epochs=200).losses[-10:].mean() < 0.3 * np.mean(y**2)
    evaluate = adjit.jit(lambda p, s, x: network(p, s, x, training=False)[0])
    whole = evaluate(state.params, state.model_state, x)
    np.testing.assert_allclose(evaluate(state.params, state.model_state, x[:2]), whole[:2], rtol=1e-4, atol=1e-5)
