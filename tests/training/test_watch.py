"""Norms of gradients, weights and updates, of each parameter in each step."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.random.default_rng(1).normal(size=12)


def params(dtype: Any = np.float64) -> Any:
    layers = [np.random.default_rng(i).normal(size=shape).astype(dtype) for i, shape in enumerate([(3, 4), (4,)])]
    return {"layers": layers, "b": np.asarray(0.5, dtype), "none": np.zeros((0, 2), dtype)}


def loss(p: Any, x: Any, y: Any) -> Any:
    return np.mean((np.tanh(x @ p["layers"][0]) @ p["layers"][1] + p["b"] - y) ** 2) + np.sum(p["none"])


NAMES = ["b", "layers.0", "layers.1", "none"]


def leaves(p: Any) -> dict[str, Any]:
    return dict(zip(NAMES, (p["b"], *p["layers"], p["none"]), strict=True))


def lengths(p: Any) -> dict[str, float]:
    return {name: float(np.linalg.norm(np.asarray(x, np.float64))) for name, x in leaves(p).items()}


def agree(found: Any, wanted: dict[str, float], rtol: float = 1e-12) -> None:
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], wanted[name], rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_norms_are_those_of_what_a_step_does(dtype: Any) -> None:
    """Through Python and natively; gradients have l2 in them and are not clipped, updates are what is added."""
    x, y, rtol = X.astype(dtype), Y.astype(dtype), 1e-12 if dtype == np.float64 else 2e-5
    step = adjit.training_step(
        loss, optim.adam(0.1), watch=True, clip_norm=0.01, clip_value=0.05, l2=0.1, weight_decay=0.01
    )
    plain = adjit.training_step(loss, optim.adam(0.1), clip_norm=0.01, clip_value=0.05, l2=0.1, weight_decay=0.01)
    state, twin = step.init(params(dtype)), plain.init(params(dtype))
    slope = adjit.grad(lambda p: loss(p, x, y) + 0.1 * sum(np.sum(v * v) for v in leaves(p).values()))
    for _ in range(6):
        before = copy.deepcopy(state.params)
        value, norms = step(state, x, y)
        assert value == plain(twin, x, y)
        agree(norms.gradients, lengths(slope(before)), rtol)
        agree(norms.weights, lengths(before), rtol)
        changes = {
            name: after - then
            for (name, after), then in zip(leaves(state.params).items(), leaves(before).values(), strict=True)
        }
        agree(norms.updates, {name: float(np.linalg.norm(x)) for name, x in changes.items()}, 10 * rtol)
    for a, b in zip(state.leaves(), twin.leaves(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert state.entries
    assert isinstance(norms, adjit.Norms)
    assert repr(norms).splitlines()[0].split() == ["parameter", "gradients", "weights", "updates"]
    assert "layers.0" in norms._repr_html_()
    again = pickle.loads(pickle.dumps(norms))
    assert again.gradients == norms.gradients


@pytest.mark.parametrize(
    ("watch", "kinds"),
    [
        ("norms", ["gradients", "weights", "updates"]), ("updates", ["updates"]), (False, []), ((), []), (None, []),
        (("updates", "gradients"), ["gradients", "updates"]), ({"weights"}, ["weights"]),
    ],
)  # fmt: skip
def test_what_is_watched(watch: Any, kinds: list[str]) -> None:
    step = adjit.training_step(loss, optim.sgd(0.1), watch=watch)
    result = step(step.init(params()), X, Y)
    if not kinds:
        assert isinstance(result, float)
        return
    norms = result[1]
    assert list(norms.arrays) == kinds
    assert [name for name in ("gradients", "weights", "updates") if getattr(norms, name) is not None] == kinds


def test_runs_with_aux_and_state() -> None:
    def counted(p: Any, s: Any, x: Any, y: Any) -> Any:
        return loss(p, x, y), (s + 1, {"most": np.max(y)})

    step = adjit.training_step(counted, optim.sgd(0.1), has_aux=True, state=True, watch=True)
    state, twin = step.init(params(), 0), step.init(params(), 0)
    history = step.run(state, (X, Y), batch_size=5, epochs=2, shuffle=False)
    each = [step(twin, X[i : i + 5], Y[i : i + 5]) for _ in range(2) for i in (0, 5, 10)]
    assert history.losses.tolist() == [value for value, _ in each]
    assert history.aux["most"].tolist() == [aux["most"] for _, (aux, _) in each]
    for kind in ("gradients", "weights", "updates"):
        found = getattr(history.norms, kind)
        for name in NAMES:
            assert found[name].tolist() == [getattr(norms, kind)[name] for _, (_, norms) in each]
    assert "with aux, with norms" in repr(history)
    assert " to " in repr(history.norms)
    assert int(state.model_state) == 6
    assert step.run(state, (X, Y), batch_size=5, epochs=0).norms is None


def test_one_array_and_many_models() -> None:
    step = adjit.training_step(lambda p, x: np.sum((p * x) ** 2), optim.sgd(np.array([0.1, 0.2])), watch=True)
    many = adjit.vmap(step, in_axes=(0, None))
    state = many.init(np.array([[3.0, 4.0], [6.0, 8.0]]))
    losses, norms = many(state, np.ones(2))
    assert losses.tolist() == [25, 100]
    assert norms.weights["params"].tolist() == [5, 10]
    np.testing.assert_allclose(norms.gradients["params"], [10, 20], rtol=1e-15)
    np.testing.assert_allclose(norms.updates["params"], [1, 4], rtol=1e-15)
    history = many.run(state, (np.ones((4, 2)),), batch_size=2, shuffle=False)
    assert history.norms is not None
    assert history.norms.arrays["weights"].shape == (2, 2, 1)
    assert "to" in repr(history.norms)


def test_large_and_small_gradients() -> None:
    """Squares of float32 that are infinite, or 0; a gradient that is not finite has no norm that is."""
    step = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(0.0), watch="gradients")
    state = step.init(np.ones(4, np.float32))
    for size in (1e30, 1e-30):
        _, norms = step(state, np.full(4, size, np.float32))
        np.testing.assert_allclose(norms.gradients["params"], 2 * size, rtol=1e-6)
    _, norms = step(state, np.full(4, np.inf, np.float32))
    assert norms.gradients["params"] == np.inf
    _, norms = step(state, np.full(4, np.nan, np.float32))
    assert np.isnan(norms.gradients["params"])
    assert "nan" in repr(norms)


def test_rows_of_tables() -> None:
    """A table whose rows are looked up: its gradient and update are those of the rows."""

    def looked_up(p: Any, ids: Any) -> Any:
        return np.sum(nn.embedding(p, ids, sparse=True) ** 2)

    table = np.arange(12.0).reshape(6, 2)
    step = adjit.training_step(looked_up, optim.sgd(0.1), watch=True)
    state = step.init(table)
    _, norms = step(state, np.array([1, 4, 1]))
    gradient = np.zeros((6, 2))
    np.add.at(gradient, [1, 4, 1], 2 * table[[1, 4, 1]])
    np.testing.assert_allclose(norms.gradients["params"], np.linalg.norm(gradient), rtol=1e-14)
    np.testing.assert_allclose(norms.updates["params"], 0.1 * np.linalg.norm(gradient), rtol=1e-13)
    np.testing.assert_allclose(norms.weights["params"], np.linalg.norm(table), rtol=1e-15)


def test_what_cannot_be_watched() -> None:
    for watch in ("losses", ["gradients", "x"], 3, [None]):
        with pytest.raises(adjit.ArgumentError, match="watch"):
            adjit.training_step(loss, optim.sgd(0.1), watch=watch)  # type: ignore[arg-type]
