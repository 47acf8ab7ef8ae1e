"""Tables that are updated row by row: the same step as with a gradient of their size, in less memory; and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim
from adjit.optim import Optimizer
from adjit_runtime.errors import ArgumentError

COUNT, FEATURES = 50, 3
RNG = np.random.default_rng(2)
PARAMS = {"table": RNG.normal(size=(COUNT, FEATURES)), "w": np.ones(FEATURES)}
BATCHES = [(RNG.integers(0, 16, (4, 10)), RNG.normal(size=(4, 10))) for _ in range(4)]


def loss_of(sparse: bool, lookups: int = 1) -> Callable[..., Any]:
    def loss(params: Any, ids: Any, y: Any) -> Any:
        rows = nn.embedding(params["table"], ids, sparse=sparse)
        for number in range(1, lookups):
            rows = rows * nn.embedding(params["table"], ids[::-1] + number, sparse=sparse)
        return np.mean((np.tanh(rows) @ params["w"] - y) ** 2)

    return loss


def trained(loss: Callable[..., Any], optimizer: Optimizer, dtype: Any = np.float64, **options: Any) -> list[Any]:
    step = adjit.training_step(loss, optimizer, **options)
    state = step.init({name: value.astype(dtype) for name, value in PARAMS.items()})
    losses = [step(state, ids, y.astype(dtype)) for ids, y in BATCHES]
    return [losses, *(np.array(leaf) for leaf in state.leaves())]


def without_table(params: Any) -> dict[str, bool]:
    return {name: name != "table" for name in params}


OPTIONS: list[Mapping[str, Any]] = [
    {},
    {"clip_norm": 0.1},
    {"clip_value": 0.01},
    {"l1": 0.1, "l2": 0.1, "weight_decay": 0.1, "regularized": without_table},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "plain")
@pytest.mark.parametrize("optimizer", [optim.sgd(0.5), optim.adagrad(0.1)], ids=["sgd", "adagrad"])
def test_the_step_is_the_dense_one(optimizer: Optimizer, options: Mapping[str, Any]) -> None:
    for dtype, lookups in ((np.float64, 2), (np.float32, 1)):
        found = trained(loss_of(True, lookups), optimizer, dtype, **options)
        wanted = trained(loss_of(False, lookups), optimizer, dtype, **options)
        for a, b in zip(found, wanted, strict=True):
            if "clip_norm" in options:  # the norm is a sum in another order
                np.testing.assert_allclose(a, b, rtol=1e-6 if dtype is np.float32 else 1e-13)
            else:
                np.testing.assert_array_equal(a, b)


def test_rows_that_are_not_looked_up_stay() -> None:
    found = trained(loss_of(True), optim.adagrad(0.1))
    table = next(x for x in found[1:] if np.shape(x) == (COUNT, FEATURES))
    np.testing.assert_array_equal(table[16:], PARAMS["table"][16:])
    assert (table[:16] != PARAMS["table"][:16]).any(axis=1).all()


@pytest.mark.parametrize("shape", [(0,), (1,), ()])
def test_few_rows(shape: tuple[int, ...]) -> None:
    def loss(params: Any, ids: Any) -> Any:
        return np.sum(nn.embedding(params["table"], ids, sparse=True) ** 2) + np.sum(params["w"] ** 2)

    step = adjit.training_step(loss, optim.sgd(0.25))
    state = step.init(PARAMS)
    step(state, np.full(shape, 7))
    wanted = PARAMS["table"].copy()
    wanted[np.full(shape, 7)] /= 2
    np.testing.assert_array_equal(state.params["table"], wanted)


def test_no_array_of_the_size_of_the_table_is_made() -> None:
    def loss(params: Any, ids: Any) -> Any:
        return np.mean(nn.embedding(params["table"], ids, sparse=True) ** 2)

    for optimizer in (optim.sgd(0.1), optim.adagrad(0.1)):
        step = adjit.training_step(loss, optimizer)
        state = step.init({"table": np.ones((20_000, 16), np.float32)})
        plan = str(step.ir("plan", state, np.arange(8)))
        arena = int(plan.split("arena ")[1].split(" bytes")[0])
        assert arena < 50_000
        assert "over (20000" not in plan
        assert "over (320000" not in plan


def test_an_optimiser_of_ones_own() -> None:
    def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        return p - h["rate"] * np.sign(g), {"seen": kept["seen"] + np.abs(np.sign(g))}

    mine = Optimizer("mine", {"rate": 0.1}, lambda p: {"seen": np.zeros_like(p)}, update, sparse=True)
    for a, b in zip(trained(loss_of(True), mine), trained(loss_of(False), mine), strict=True):
        np.testing.assert_array_equal(a, b)
    odd = Optimizer("odd", {"rate": 0.1}, lambda p: {"seen": np.zeros(3)}, update, sparse=True)
    with pytest.raises(ArgumentError, match=r"odd: init keeps an array of shape \(3,\)"):
        trained(loss_of(True), odd)


def test_many_models_at_once() -> None:
    step = adjit.vmap(adjit.training_step(loss_of(True), optim.adagrad(0.1)))
    stacked = {name: np.stack([value, 2 * value]) for name, value in PARAMS.items()}
    state = step.init(stacked)
    for ids, y in BATCHES:
        step(state, np.stack([ids, ids]), np.stack([y, y]))
    first = trained(loss_of(False), optim.adagrad(0.1))
    tables = next(x for x in map(np.array, state.leaves()) if x.shape == (2, COUNT, FEATURES))
    alone = next(x for x in first[1:] if np.shape(x) == (COUNT, FEATURES))
    np.testing.assert_allclose(tables[0], alone, rtol=1e-13)


def looks_up(table: Any, ids: Any) -> Any:
    return np.sum(nn.embedding(table, ids, sparse=True) ** 2)


REFUSED: list[tuple[Callable[..., Any], Optimizer, Mapping[str, Any], str]] = [
    (lambda p, ids: looks_up(p["table"], ids), optim.sgd(0.1, momentum=0.9), {}, "sgd with what it keeps changes all"),
    (lambda p, ids: looks_up(p["table"], ids), optim.adam(0.1), {}, "adam .* params.table"),
    (lambda p, ids: looks_up(p["table"], ids), optim.sgd(0.1), {"l2": 0.1}, "l2 changes all rows"),
    (lambda p, ids: looks_up(p["table"], ids), optim.sgd(0.1), {"weight_decay": 0.1}, "regularized= a mask"),
    (lambda p, ids: looks_up(p["table"], ids) + np.sum(p["table"]), optim.sgd(0.1), {}, "is used otherwise, too"),
    (lambda p, ids: looks_up(2 * p["table"], ids), optim.sgd(0.1), {}, "this table is computed"),
    (
        lambda p, ids: adjit.scan(lambda c, i: (c + looks_up(p["table"], i), None), np.float64(0), ids)[0],
        optim.sgd(0.1), {}, "outside of loops",
    ),
    (lambda p, ids: np.sum(adjit.grad(looks_up)(p["table"], ids)), optim.sgd(0.1), {}, "an argument of a loop, or of"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refusals(number: int) -> None:
    loss, optimizer, options, match = REFUSED[number]
    step = adjit.training_step(loss, optimizer, **options)
    state = step.init(PARAMS)
    with pytest.raises(ArgumentError, match=match):
        step(state, np.array([1, 2, 1]))


def test_elsewhere_it_changes_nothing() -> None:
    ids = np.array([1, 2, 1])
    for f in (lambda t, i: nn.embedding(t, i, sparse=True), lambda t, i: nn.embedding(2 * t / 2, i)):
        np.testing.assert_array_equal(adjit.jit(f)(PARAMS["table"], ids), PARAMS["table"][ids])
    g = adjit.grad(looks_up)(PARAMS["table"], ids)
    np.testing.assert_allclose(g[:3], PARAMS["table"][:3] * np.array([[0.0], [4.0], [2.0]]), rtol=1e-15)
    batched = adjit.vmap(lambda i: nn.embedding(PARAMS["table"], i, sparse=True))(ids)
    np.testing.assert_array_equal(batched, PARAMS["table"][ids])
