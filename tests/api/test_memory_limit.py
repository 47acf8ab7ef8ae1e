"""`memory_limit`: a call never needs more, less is never more, and values and gradients are what they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import nn, optim, random
from adjit.autodiff.fewer import Fewer, keep_fewer, levels_of, loops_of
from adjit.schedule.parse import parse_plan
from adjit.schedule.text import print_plan
from adjit_runtime.errors import AdjitError, ArgumentError, OutOfMemory

RNG = np.random.default_rng(0)


def deep(params: Any, x: Any) -> Any:
    """Residual layers."""
    h = x
    for w, b in params:
        h = h + nn.gelu(h @ w + b)
    return np.mean(h * h)


def recurrent(params: Any, xs: Any) -> Any:
    """A scan of 300 turns."""

    def turn(h: Any, x: Any) -> Any:
        h = np.tanh(h @ params[0] + x @ params[1])
        return h, np.sum(h * h)

    h, energies = adjit.scan(turn, np.zeros((8, 24)), xs)
    return np.mean(energies) + np.sum(h)


def nested(params: Any, xs: Any) -> Any:
    """Loops in a loop."""

    def turn(h: Any, x: Any) -> Any:
        def inner(i: Any, h: Any) -> Any:
            return h + 0.1 * np.sin(h @ params[0] + x @ params[1])

        return adjit.fori_loop(0, 20, inner, h), None

    h, _ = adjit.scan(turn, np.zeros((8, 24)), xs)
    return np.sum(h * h)


def classifier(params: Any, data: Any) -> Any:
    """Normalised layers with dropout, random numbers and checked labels: all is computed again as it was."""
    h, key, labels = data
    for i, (w, b) in enumerate(params):
        h = (h - np.mean(h, axis=1, keepdims=True)) / np.sqrt(np.var(h, axis=1, keepdims=True) + 1e-5)
        h = nn.dropout(nn.silu(h @ w + b), 0.2, random.fold_in(key, i))
    return nn.cross_entropy(h, labels)


LAYERS = [(RNG.normal(size=(24, 24)) / 8, RNG.normal(size=24) / 8) for _ in range(12)]
CELL = [RNG.normal(size=(24, 24)) / 6, RNG.normal(size=(5, 24)) / 3]
MODELS: dict[str, tuple[Callable[..., Any], Any, Any, tuple[float, ...]]] = {
    "deep": (deep, LAYERS, RNG.normal(size=(96, 24)), (0.7, 0.5)),
    "recurrent": (recurrent, CELL, RNG.normal(size=(300, 8, 5)), (0.5, 0.3, 0.15)),
    "nested": (nested, CELL, RNG.normal(size=(30, 8, 5)), (0.9, 0.5, 0.2)),
    "classifier": (
        classifier,
        LAYERS[:3],
        (RNG.normal(size=(96, 24)).astype(float), random.key(3), RNG.integers(0, 24, 96)),
        (0.8,),
    ),
}


def needed(function: Any) -> int:
    """Bytes of a call of the program that was compiled last."""
    program = next(reversed(function.records.values())).program
    return int(program.arena_bytes)


def assert_same(found: Any, wanted: Any) -> None:
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(wanted), strict=True):
        # Sums over turns are in the order of the loop that takes them.
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_less_is_never_more(name: str) -> None:
    loss, params, x, shares = MODELS[name]
    plain = adjit.value_and_grad(loss, tile="off")
    wanted = plain(params, x)
    before = most = needed(plain)
    for share in shares:
        limit = int(share * most)
        limited = adjit.value_and_grad(loss, tile="off", memory_limit=limit)
        assert_same(limited(params, x), wanted)
        assert needed(limited) <= min(limit, before), share
        before = needed(limited)
        text = str(limited.ir("plan"))
        assert text.startswith(f"# memory limit of {limit} bytes: ")
        assert re.search(r"[0-9.]+ times the time without a limit, as predicted", text)
        assert print_plan(parse_plan(text)) == text.partition("\n")[2]
        assert "memory limit of" in str(limited.explain())


def test_values_computed_again_have_the_same_bits() -> None:
    loss, params, x, _ = MODELS["deep"]
    plain = adjit.value_and_grad(loss, tile="off")
    wanted = plain(params, x)
    limited = adjit.value_and_grad(loss, tile="off", memory_limit=needed(plain) // 2)
    for a, b in zip(optree.tree_leaves(limited(params, x)), optree.tree_leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_out_of_reach_names_what_is_not() -> None:
    loss, params, x, _ = MODELS["deep"]
    limited = adjit.grad(loss, tile="off", memory_limit="10KB")
    with pytest.raises(OutOfMemory, match=r"deep: memory_limit is 10000 bytes, .* needs \d+ at least") as caught:
        limited(params, x)
    assert isinstance(caught.value, AdjitError | MemoryError)
    least = int(re.search(r"give memory_limit=(\d+)", str(caught.value))[1])  # type: ignore[index]
    assert needed_after(adjit.grad(loss, tile="off", memory_limit=least), params, x) == least
    with pytest.raises(OutOfMemory):
        adjit.grad(loss, tile="off", memory_limit=least - 1)(params, x)


def needed_after(function: Any, *args: Any) -> int:
    function(*args)
    return needed(function)


def test_the_same_program_needs_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing hangs on where its nodes lie in memory; here a kernel makes several values that are read late."""

    def loss(params: Any, x: Any) -> Any:
        h = x.astype(np.float32)
        for w, _ in params:
            h = np.exp(-((h.astype(np.float64) @ w) ** 2)).astype(np.float32) + h
        return np.sum(h.astype(np.float64) ** 2)

    monkeypatch.setenv("ADJIT_CACHE", "0")
    found, others = set(), []
    for number in range(6):
        others.append([object() for _ in range(100 * number)])
        with pytest.raises(OutOfMemory) as caught:
            adjit.grad(loss, memory_limit=0)(LAYERS[:5], RNG.normal(size=(33, 24)))
        found.add(str(caught.value))
    assert len(found) == 1


def test_results_may_be_constants() -> None:
    """The biases have no gradient here, which is a constant of no node."""
    deep_of, params, x, _ = MODELS["deep"]

    def loss(params: Any, x: Any) -> Any:
        return deep_of([(w, 0.0) for w, _ in params], x)

    plain = adjit.grad(loss)
    wanted = plain(params[:6], x)
    limited = adjit.grad(loss, memory_limit=int(0.8 * needed(plain)))
    assert_same(limited(params[:6], x), wanted)


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    loss, params, x, _ = MODELS["deep"]
    plain, limited = adjit.grad(loss), adjit.grad(loss, memory_limit="1GB")
    assert_same(plain(params, x), limited(params, x))
    assert "nothing is computed again" in str(limited.ir("plan"))
    assert str(limited.ir("plan")).partition("\n")[2] == str(plain.ir("plan"))
    assert "memory limit" not in str(plain.ir("plan"))


def test_a_program_in_registers_needs_next_to_nothing() -> None:
    assert float(adjit.grad(lambda x: x**3, memory_limit=64)(2.0)) == 12.0


def test_a_step_within_a_limit() -> None:
    loss, params, xs, _ = MODELS["recurrent"]
    plain = adjit.training_step(loss, optim.adam(1e-2), clip_norm=1.0)
    state = plain.init(params)
    values = [plain(state, xs) for _ in range(3)]
    limited = adjit.training_step(loss, optim.adam(1e-2), clip_norm=1.0, memory_limit=needed(plain) // 4)
    other = limited.init(params)
    np.testing.assert_allclose([limited(other, xs) for _ in range(3)], values, rtol=1e-9)
    assert needed(limited) <= needed(plain) // 4
    assert_same(list(other.params), list(state.params))
    assert "turns of loops run once more" in str(limited.ir("plan"))
    assert "states" in str(limited.explain())
    # What is made again for whoever looks is what runs.
    assert str(limited.ir("step")) != str(plain.ir("step"))


def test_many_models_in_a_step_within_a_limit() -> None:
    loss, params, xs, _ = MODELS["recurrent"]
    found = []
    for share in (None, 0.5):
        limit = None if share is None else int(share * needed(found[0][0]))
        one = adjit.training_step(loss, optim.sgd(0.1), memory_limit=limit)
        step = adjit.vmap(one, in_axes=(0, None))
        state = step.init([np.stack([w, 0.5 * w]) for w in params])
        found.append((step, [step(state, xs[:60]) for _ in range(2)]))
        assert limit is None or needed(step) <= limit
    assert_same(found[0][1], found[1][1])
    with pytest.raises(ArgumentError, match="vmap: memory_limit is an argument of the step"):
        adjit.vmap(one, in_axes=(0, None), memory_limit="1MB")


def test_what_comes_from_the_cache_shows_what_runs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    loss, params, xs, _ = MODELS["recurrent"]
    most = needed_after(adjit.grad(loss), params, xs)
    texts = []
    for limit in (most // 3, most // 3, most // 8):
        limited = adjit.grad(loss, memory_limit=limit)
        limited(params, xs)
        record = next(iter(limited.records.values()))
        assert record.cached == (len(texts) == 1)
        texts.append(str(limited.ir("plan")))
        assert record.program is not None
        assert record.program.arena_bytes <= limit
    assert texts[0] == texts[1] != texts[2]


def test_second_derivatives_within_a_limit() -> None:
    loss, params, x, _ = MODELS["deep"]
    direction = [(0.1 * w, b) for w, b in params]
    plain = adjit.hvp(loss)
    wanted = plain(params, direction, x)
    limited = adjit.hvp(loss, memory_limit=int(0.7 * needed(plain)))
    assert_same(limited(params, direction, x), wanted)
    assert needed(limited) <= 0.7 * needed(plain)


def test_a_gradient_of_a_gradient_through_a_loop() -> None:
    def slope(w: Any, xs: Any) -> Any:
        return np.sum(adjit.grad(lambda w: recurrent([w, CELL[1]], xs))(w) ** 2)

    xs = MODELS["recurrent"][2][:40]
    plain = adjit.grad(slope)
    wanted = plain(CELL[0], xs)
    limited = adjit.grad(slope, memory_limit=int(0.6 * needed(plain)))
    assert_same(limited(CELL[0], xs), wanted)
    assert needed(limited) <= 0.6 * needed(plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda f, limit: adjit.jit(lambda p, x: adjit.value_and_grad(f)(p, x), memory_limit=limit),
        lambda f, limit: adjit.vmap(adjit.grad(f), in_axes=(None, 0), memory_limit=limit),
        lambda f, limit: adjit.jacrev(f, memory_limit=limit),
        lambda f, limit: adjit.jacfwd(f, memory_limit=limit),
        lambda f, limit: adjit.jacobian(f, memory_limit=limit),
        lambda f, limit: adjit.elementwise_grad(f, memory_limit=limit),
        lambda f, limit: adjit.hessian(f, memory_limit=limit),
    ],
    ids=["jit", "vmap", "jacrev", "jacfwd", "jacobian", "elementwise_grad", "hessian"],
)
def test_every_transformation_takes_it(make: Callable[..., Any]) -> None:
    def f(p: Any, x: Any) -> Any:
        return np.sum(np.tanh(x * p) ** 2)

    p, x = RNG.normal(size=6), RNG.normal(size=(4, 6))
    limited, plain = make(f, "1MB"), make(f, None)
    assert_same(limited(p, x), plain(p, x))
    assert next(iter(limited.records.values())).options.memory_limit == 1_000_000


@pytest.mark.parametrize(
    "make",
    [
        lambda f, limit: adjit.jit(lambda w, x: adjit.grad(f)(w, x), memory_limit=limit),
        lambda f, limit: adjit.vmap(adjit.grad(f), in_axes=(None, 0), memory_limit=limit),
        lambda f, limit: adjit.jacrev(f, memory_limit=limit),
        lambda f, limit: adjit.hvp(lambda w, x: f(w, x), memory_limit=limit),
        lambda f, limit: adjit.hessian(lambda s, x: f(s * CELL[0], x), memory_limit=limit),
    ],
    ids=["jit", "vmap", "jacrev", "hvp", "hessian"],
)
def test_loops_of_gradients_within_a_program_keep_less(
    make: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    def f(w: Any, xs: Any) -> Any:
        return recurrent([w, CELL[1]], xs)

    kind, xs = request.node.callspec.id, MODELS["recurrent"][2][:40]
    args = {"hvp": (CELL[0], CELL[0], xs), "vmap": (CELL[0], np.stack([xs, xs])), "hessian": (1.1, xs)}
    given = args.get(kind, (CELL[0], xs))
    plain = make(f, None)
    wanted = plain(*given)
    limit = int(0.5 * needed(plain))
    limited = make(f, limit)
    assert_same(limited(*given), wanted)
    assert needed(limited) <= limit
    assert re.search(r"[1-9]\d* turns of loops run once more", str(limited.ir("plan")))


def test_forward_mode_says_what_it_needs() -> None:
    """Its loops keep nothing: there is nothing to keep less of."""
    xs = MODELS["recurrent"][2][:10]
    limited = adjit.jacfwd(lambda w, xs: recurrent([w, CELL[1]], xs), memory_limit="100KB")
    with pytest.raises(OutOfMemory, match=r"needs \d+ at least"):
        limited(CELL[0], xs)


def test_sparse_ones_take_it() -> None:
    pytest.importorskip("scipy")
    x = np.linspace(0.1, 1.0, 12)
    found = adjit.sparse_jacobian(lambda u: u[1:] * np.sin(u[:-1]), memory_limit="1MB")(x)
    wanted = adjit.jacfwd(lambda u: u[1:] * np.sin(u[:-1]))(x)
    np.testing.assert_allclose(found.toarray(), wanted)


@pytest.mark.parametrize("limit", ["200", "ten MB", "", 1.5, True, -1, [1], "-1MB"])
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(ArgumentError, match="grad: memory_limit"):
        adjit.grad(np.sum, memory_limit=limit)


@pytest.mark.parametrize(
    ("text", "nbytes"), [("200MB", 200_000_000), ("1.5 KiB", 1536), ("64b", 64), (12, 12), (None, None)]
)
def test_limits_are_numbers_or_texts(text: Any, nbytes: int | None) -> None:
    function = adjit.jit(np.sum, memory_limit=text)
    assert function.options().memory_limit == nbytes


def test_loops_that_say_what_they_keep_stay_as_they_are() -> None:
    def loss(w: Any, xs: Any) -> Any:
        h, _ = adjit.scan(lambda h, x: (np.tanh(h * w + x), None), np.zeros(300), xs, checkpoint="sqrt")
        return np.sum(h)

    def other(w: Any, xs: Any) -> Any:
        h, _ = adjit.scan(lambda h, x: (np.tanh(h * w + x), None), np.zeros(300), xs)
        return np.sum(h)

    w, xs = np.full(300, 0.5), RNG.normal(size=(64, 300))
    for function, loops in ((loss, 0), (other, 1)):
        made = adjit.grad(function)
        made(w, xs)
        graph = made.ir("rolled")
        levels = list(levels_of([graph]))
        assert bool(levels) == bool(loops)
        assert all(len(list(loops_of([graph], *fewer))) == loops for fewer in levels)
    states = [next(loops_of([graph], *fewer)).states for fewer in levels]
    assert states == [63, 32, 16, 8, 4, 3]
    assert keep_fewer(graph, Fewer()) is graph


def test_a_while_loop_within_a_limit() -> None:
    def loss(w: Any, x: Any) -> Any:
        def more(carry: Any) -> Any:
            return carry[0] < 30

        def turn(carry: Any) -> Any:
            i, h = carry
            return i + 1, np.exp(-(np.sin(h * w) ** 2)) * h + np.cos(h)

        return np.sum(adjit.while_loop(more, turn, (0, x), max_steps=50)[1])

    w, x = np.full(200, 0.7), np.linspace(0.0, 1.0, 200)
    plain = adjit.grad(loss)
    wanted = plain(w, x)
    limited = adjit.grad(loss, memory_limit=int(0.7 * needed(plain)))
    assert_same(limited(w, x), wanted)
