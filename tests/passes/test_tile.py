"""Loops over tiles of rows: the same function, compiled and evaluated, whatever the rows are left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.both import run_both
from tests.thresholds import TILED, force

import adjit
from adjit import nn, optim
from adjit.ir.equal import equal
from adjit.ir.graph import Graph
from adjit.passes import tile as module
from adjit.passes.pipeline import optimize
from adjit.passes.tile import tile
from adjit.schedule import nested
from adjit_runtime.target import host_target


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few rows, wherever there can be any."""
    force(monkeypatch, TILED)


RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def logistic(p: Any, x: Any, y: Any) -> Any:
    return nn.binary_cross_entropy_with_logits(x @ p["w"] + p["b"], y)


def softmax(p: Any, x: Any, labels: Any) -> Any:
    return nn.cross_entropy(np.tanh(x @ p["w"]) @ p["v"] + p["b"], labels)


def embedded(p: Any, labels: Any, y: Any) -> Any:
    return np.mean((p["table"][labels] @ p["w"] - y) ** 2)


def moved(p: Any, x: Any, y: Any) -> Any:
    """Reshapes, transposes, joins, rows at another axis than the first."""
    h = (x.reshape(x.shape[0], 2, 3).transpose(1, 0, 2) @ p["w"]).transpose(1, 2, 0).reshape(x.shape[0], -1)
    h = np.concatenate([h, np.flip(h, axis=1), x[:, :2]], axis=1)
    return np.sum(np.pad(h, ((0, 0), (1, 0))) @ p["v"] * y[:, None])


def guarded(p: Any, x: Any, y: Any) -> Any:
    """`any` and `max` over rows in the adjoint, too."""
    z = x @ p["w"]
    return np.sum(np.where(z > 0, np.sqrt(z), 0.0)) + np.max(np.cumsum(x, axis=1) @ p["w"]) + np.mean(y)


def mixed(p: Any, x: Any, y: Any) -> Any:
    """Means over rows come in between: what needs them cannot be in the same tile."""
    centred = x - np.mean(x, axis=0)
    return np.mean((centred @ p["w"] - y) ** 2)


def labels(n: int) -> np.ndarray:
    return RNG.integers(0, 3, n)


CASES: dict[str, tuple[Callable[..., Any], Any, Callable[[int], tuple[Any, ...]]]] = {
    "logistic": (logistic, {"w": array(6), "b": array()}, lambda n: (array(n, 6), array(n) > 0)),
    "softmax": (softmax, {"w": array(6, 5), "v": array(5, 3), "b": array(3)}, lambda n: (array(n, 6), labels(n))),
    "embedded": (embedded, {"table": array(3, 5), "w": array(5)}, lambda n: (labels(n), array(n))),
    "moved": (moved, {"w": array(3, 2), "v": array(11, 2)}, lambda n: (array(n, 6), array(n))),
    "guarded": (guarded, {"w": array(6)}, lambda n: (array(n, 6), array(n))),
    "mixed": (mixed, {"w": array(6)}, lambda n: (array(n, 6), array(n))),
}


def adjoint(name: str, rows: int) -> tuple[Graph, list[np.ndarray]]:
    function, params, data = CASES[name]
    args = data(rows)
    graph = adjit.value_and_grad(function).ir("adjoint", params, *args)
    return graph, [*(params[key] for key in sorted(params)), *args]


def tiles_in(graph: Graph) -> list[Any]:
    return [node for node in graph.nodes if node.op.name == "tiled"]


@pytest.mark.parametrize("rows", [16, 8, 24, 19, 33, 1000])
@pytest.mark.parametrize("name", CASES)
def test_the_same_function_in_tiles(name: str, rows: int) -> None:
    graph, inputs = adjoint(name, rows)
    plain = optimize(graph, tiles=False)
    tiled = tile(plain)
    # The sums of `mixed` are of rows that need a mean of all rows, or of rows that are there.
    assert (len(tiles_in(plain)), len(tiles_in(tiled))) == (0, 0 if name == "mixed" else 1)
    with np.errstate(all="ignore"):
        for found, wanted in zip(run_both(tiled, *inputs), run_both(plain, *inputs), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    assert equal(adjit.parse(str(tiled)), tiled)


@pytest.mark.parametrize(("rows", "count", "each"), [(16, 2, 8), (24, 3, 8), (21, 3, 7), (19, 2, 8), (1000, 125, 8)])
def test_tiles_divide_the_rows_where_they_can(rows: int, count: int, each: int) -> None:
    graph, _ = adjoint("logistic", rows)
    (node,) = tiles_in(optimize(graph))
    assert (node.attrs["count"], node.attrs["body"].inputs[0].shape[0]) == (count, each)
    assert node.loc is not None


@pytest.mark.parametrize(("rows", "count", "each"), [(512, 2, 256), (520, 2, 256), (600, 3, 200)])
def test_tiles_have_whole_lines_where_rows_are_last(rows: int, count: int, each: int) -> None:
    def distances(p: Any, x: Any) -> Any:
        q = p["l"] @ (x.T[None] - p["m"][:, :, None])
        return np.sum(nn.logsumexp(-np.sum(q * q, axis=1).T, axis=1))

    params, x = {"l": array(3, 5, 5), "m": array(3, 5)}, array(rows, 5)
    step = adjit.value_and_grad(distances)
    value, gradient = step(params, x)
    (node,) = tiles_in(step.ir("optimized"))
    assert (node.attrs["count"], node.attrs["body"].inputs[0].shape[0]) == (count, each)
    other, straight = adjit.value_and_grad(distances, tile="off")(params, x)
    np.testing.assert_allclose(value, other, rtol=1e-13)  # another order of the sums
    for name, of in straight.items():
        np.testing.assert_allclose(gradient[name], of, rtol=1e-11, atol=1e-11)  # likewise
    # One thread stays in the memory of the first group, two do not.
    threads = adjit.get_threads()
    try:
        for number in (1, 2):
            adjit.set_threads(number)
            again, others = step(params, x)
            assert again == value
            assert all((others[name] == of).all() for name, of in gradient.items())
    finally:
        adjit.set_threads(threads)


def test_all_of_a_step_by_rows_is_in_the_tile() -> None:
    graph, _ = adjoint("softmax", 64)
    tiled = optimize(graph)
    (node,) = tiles_in(tiled)
    # Nothing with rows is left outside but the check of the labels.
    outside = [n for n in tiled.nodes if n is not node and n.shape[:1] == (64,)]
    assert {n.op.name for n in outside} == {"cast", "check_index"}
    assert node.attrs["combine"].split(",").count("sum") == 4


def columns(w: Any, x: Any) -> Any:
    """A sum over rows, and a value whose rows are its columns."""
    h = np.tanh(np.einsum("ij,jk->ki", x, w))
    return np.sum(h, axis=1), np.cumsum(h, axis=0)


def planes(w: Any, x: Any) -> Any:
    """The same with the rows last of three axes."""
    h = np.tanh(np.einsum("ij,jk->ki", x, w))
    return np.einsum("ki,il->kl", h, x), np.cumsum(h[:, None, :] + np.arange(2.0)[:, None], axis=1)


@pytest.mark.parametrize("rows", [16, 24, 19, 101])
@pytest.mark.parametrize("function", [columns, planes])
def test_results_whose_rows_are_not_first(function: Callable[..., Any], rows: int) -> None:
    w, x = array(6, 5), array(rows, 6)
    graph = adjit.jit(function).ir("optimized", w, x)
    (node,) = tiles_in(graph)
    assert (node.attrs["combine"], len(node.attrs["body"].outputs)) == ("sum", 2)
    for found, wanted in zip(run_both(graph, w, x), function(w, x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


def test_off_means_off() -> None:
    function, params, data = CASES["logistic"]
    args = data(64)
    on, off = adjit.value_and_grad(function), adjit.value_and_grad(function, tile="off")
    a, b = on(params, *args), off(params, *args)
    assert tiles_in(on.ir("optimized"))
    assert not tiles_in(off.ir("optimized"))
    assert " turns in " in str(on.ir("plan"))
    np.testing.assert_allclose(a[1]["w"], b[1]["w"], rtol=1e-12)
    with pytest.raises(adjit.ArgumentError, match="tile is 'auto' or 'off', not 'on'"):
        adjit.jit(function, tile="on")


def test_a_training_step_in_tiles() -> None:
    function, params, data = CASES["softmax"]
    x, y = data(200)
    losses = []
    for how in ("auto", "off"):
        step = adjit.training_step(function, optim.adam(1e-2), clip_norm=1.0, tile=how)
        state = step.init(params)
        losses.append([step(state, x, y) for _ in range(20)])
        assert bool(tiles_in(step.ir("optimized"))) is (how == "auto")
        losses.append(list(step.run(state, (x, y), batch_size=40, epochs=3).losses))
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-12)  # sums in another order
    np.testing.assert_allclose(losses[1], losses[3], rtol=1e-12)  # likewise


def test_large_matrices_are_not_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    loss = lambda w, v, x: np.mean((np.tanh(x @ w) @ v) ** 2)  # noqa: E731
    x = np.zeros((512, 784), np.float32)
    thick = adjit.value_and_grad(loss, argnums=(0, 1)).ir(
        "optimized", np.zeros((784, 512), np.float32), np.zeros((512, 10), np.float32), x
    )
    assert not tiles_in(thick)
    thin = adjit.value_and_grad(loss, argnums=(0, 1)).ir(
        "optimized", np.zeros((784, 2), np.float32), np.zeros((2, 10), np.float32), x
    )
    assert tiles_in(thin)
    even = adjit.value_and_grad(loss, argnums=(0, 1)).ir(
        "optimized", np.zeros((600, 25), np.float32), np.zeros((25, 10), np.float32), x[:, :600]
    )
    assert not tiles_in(even)
    assert "are little beside the 31 million operations" in " ".join(module.reasons_against(even))


def test_an_index_out_of_range_is_found_before_the_tiles() -> None:
    function, params, data = CASES["softmax"]
    x, y = data(64)
    step = adjit.training_step(function, optim.sgd(0.1))
    state = step.init(params)
    y[50] = 3
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        step(state, x, y)
    np.testing.assert_array_equal(state.params["w"], params["w"])


@pytest.mark.parametrize("rows", [3000, 4096 * 3, 4096 * 4 + 1])
def test_fewer_rows_than_tiles_of_a_loop_have(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a loop without products are long: a few thousand rows are not one of them."""
    monkeypatch.undo()
    function = adjit.jit(lambda x: np.mean(np.tanh(x) * 2))
    x = array(rows, 100)
    assert bool(tiles_in(function.ir("optimized", x))) is (rows > 4096 * 4)
    np.testing.assert_allclose(function(x), np.mean(np.tanh(x) * 2), rtol=1e-12)


@pytest.mark.parametrize("columns", [16, 30, 100, 256, 300])
def test_short_rows_from_memory_are_prefetched(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of later tiles, past the last one, too; not on a target with few registers, nor of long rows."""
    for place in (module, nested):
        monkeypatch.setattr(place, "MEMORY_BYTES", 1)
    monkeypatch.setattr(module, "STREAM_AHEAD_ROWS", (4, 16))
    monkeypatch.setenv("ADJIT_CACHE", "0")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1024, columns)).astype(np.float32), (rng.random(1024) < 0.5).astype(np.float32)
    params = {"w": rng.normal(size=columns).astype(np.float32), "b": np.float32(0.5)}
    found, plans = [], []
    for options in ({}, {"tile": "off"}):
        step = adjit.value_and_grad(CASES["logistic"][0], **options)
        found.append(step(params, x, y))
        plans.append(step.ir("plan"))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6)  # sums in another order
    np.testing.assert_allclose(found[0][1]["w"], found[1][1]["w"], rtol=1e-6, atol=1e-6)  # likewise
    short = host_target().registers == 32 and 64 <= x[0].nbytes <= 1024
    assert ("prefetch in kernel" in plans[0]) == short
    assert "prefetch in kernel" not in plans[1]
