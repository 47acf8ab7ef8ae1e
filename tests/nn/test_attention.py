"""Attention, its heads and the block of a transformer: NumPy's loops over queries, masks, groups, dropout, refusals.

Values and gradients of every argument are in `test_against_torch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, random
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from tests.nn.derivatives import run_trees
from tests.trace.check import floats, run


def by_loops(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float) -> np.ndarray:
    """One head: (time, features), (keys, features), (keys, size), which key each query sees."""
    y = np.zeros((len(q), v.shape[1]))
    for i, query in enumerate(q):
        e = np.array([np.exp(scale * query @ key) if see else 0.0 for key, see in zip(k, seen[i], strict=True)])
        y[i] = sum((w * row for w, row in zip(e / (np.sum(e) or 1.0), v, strict=True)), np.zeros(v.shape[1]))
    return y


def drawn(lead: tuple[int, ...], shared: tuple[int, ...], time: int, keys: int, size: int) -> list[np.ndarray]:
    shapes = ((*lead, time, 4), (*shared, keys, 4), (*shared, keys, size))
    return [floats(*shape, dtype=np.float64, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("lead", "shared"), [
    ((), ()), ((1,), (1,)), ((6,), (2,)), ((3,), (1,)), ((2, 4), (2, 4)), ((2, 4), (2, 2)), ((2, 1, 6), (2, 1, 3)),
])  # fmt: skip
@pytest.mark.parametrize(("time", "keys", "size"), [(1, 1, 1), (3, 5, 2), (5, 3, 7)])
def test_heads_and_groups(lead: tuple[int, ...], shared: tuple[int, ...], time: int, keys: int, size: int) -> None:
    q, k, v = drawn(lead, shared, time, keys, size)
    expected = np.zeros((*lead, time, size))
    ones = np.ones((time, keys), bool)
    for place in np.ndindex(*lead):
        # Heads of queries that follow one another share one of the keys.
        mine = (*place[:-1], place[-1] * shared[-1] // lead[-1]) if lead else ()
        expected[place] = by_loops(q[place], k[mine], v[mine], ones, 0.5)
    found = nn.attention(q, k, v)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    traced = run(nn.attention, *(x.astype(np.float32) for x in (q, k, v)))
    assert traced.dtype == np.float32
    np.testing.assert_allclose(traced, expected, rtol=2e-4, atol=1e-6)


MASK = np.array([[True, False, True], [False, False, False], [True, True, True]])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["mask", "bias", "none"])
def test_what_a_query_sees(kind: str, causal: bool) -> None:
    q, k, v = drawn((), (), 3, 3, 2)
    seen = MASK if kind != "none" else np.ones((3, 3), bool)
    options = {"mask": {"mask": MASK}, "bias": {"bias": np.where(MASK, 0.0, -np.inf)}, "none": {}}[kind]
    expected = by_loops(q, k, v, seen & np.tri(3, dtype=bool) if causal else seen, 0.7)
    for function in (nn.attention, lambda *a, **o: run(lambda *a: nn.attention(*a, **o), *a)):
        found = function(q, k, v, scale=0.7, causal=causal, **options)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_query_that_sees_nothing_has_no_derivative() -> None:
    q, k, v = drawn((), (), 3, 3, 2)
    slopes = adjit.grad(lambda q, k, v: np.sum(nn.attention(q, k, v, MASK)[1]), argnums=(0, 1, 2))(q, k, v)
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0 * slope)


def test_a_traced_mask_and_scale() -> None:
    q, k, v = drawn((2,), (2,), 3, 3, 2)
    found = run(lambda q, k, v, m, s: nn.attention(q, k, v, m, scale=s), q, k, v, MASK, np.float64(0.3))
    np.testing.assert_allclose(found, nn.attention(q, k, v, MASK, scale=0.3), rtol=1e-12)


@pytest.mark.parametrize("shapes", [
    ((2, 0, 4), (2, 3, 4), (2, 3, 4)), ((0, 2, 3, 4),) * 3, ((1, 0, 3, 4),) * 3, ((3, 2), (3, 2), (3, 0)),
])  # fmt: skip
def test_sizes_of_zero(shapes: Any) -> None:
    q, k, v = (np.zeros(shape) for shape in shapes)
    expected = (*q.shape[:-1], v.shape[-1])
    assert nn.attention(q, k, v, causal=True).shape == run(nn.attention, q, k, v).shape == expected


def test_scores_of_any_size() -> None:
    q = np.array([[1e4], [-1e4]], np.float32)
    found = run(lambda q: nn.attention(q, q, q), q)
    np.testing.assert_array_equal(found, q)


def test_dropout_of_weights() -> None:
    q, k, v = drawn((2,), (2,), 5, 40, 40)
    v = np.broadcast_to(np.eye(40), (2, 40, 40)).copy()
    kept = nn.attention(q, k, v)
    dropped = nn.attention(q, k, v, dropout=0.25, key=random.key(3))
    gone = dropped == 0
    assert 0.15 < np.mean(gone) < 0.35
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.75, rtol=1e-12)
    traced = run(lambda q, key: nn.attention(q, k, v, dropout=0.25, key=key), q, random.key(3))
    np.testing.assert_allclose(traced, dropped, rtol=1e-11)
    np.testing.assert_array_equal(nn.attention(q, k, v, dropout=0.25), kept)


def test_second_derivatives_and_batches() -> None:
    q, k, v = drawn((2,), (1,), 3, 3, 2)
    bias = floats(3, 3, dtype=np.float64, seed=9)
    adjit.check_grads(lambda q, k, v, b: nn.attention(q, k, v, bias=b, causal=True), (q, k, v, bias))
    many = [np.stack([x, 2 * x]) for x in (q, k, v)]
    found = adjit.vmap(nn.attention)(*many)
    np.testing.assert_allclose(found, [nn.attention(*x) for x in zip(*many, strict=True)], rtol=1e-11)


def test_multi_head_attention_by_its_parts() -> None:
    params = nn.init.multi_head_attention(6, 4, shared_heads=2, size=3, context=5, key=0, dtype=np.float64)
    assert {name: layer["w"].shape for name, layer in params.items()} == {
        "query": (6, 12), "key": (5, 6), "value": (5, 6), "out": (12, 6),
    }  # fmt: skip
    q, k = floats(2, 3, 6, dtype=np.float64), floats(2, 4, 5, dtype=np.float64, seed=1)
    parts = {name: nn.dense(params[name], x) for name, x in (("query", q), ("key", k), ("value", k))}
    expected = np.zeros((2, 3, 12))
    for head in range(4):
        mine = [parts["query"][..., head * 3 : head * 3 + 3]]
        mine += [parts[name][..., head // 2 * 3 : head // 2 * 3 + 3] for name in ("key", "value")]
        expected[..., head * 3 : head * 3 + 3] = nn.attention(*mine)
    expected = expected @ params["out"]["w"] + params["out"]["b"]
    found = run_trees(lambda p, q, k: nn.multi_head_attention(p, q, k, heads=4), params, q, k)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(nn.multi_head_attention(params, q, k, k, heads=4), expected, rtol=1e-12, atol=1e-13)


def test_a_block_in_single_precision_and_its_dropout() -> None:
    params = nn.init.transformer_block(4, 2, hidden=6, shared_heads=1, key=0)
    x = floats(2, 3, 4)
    y = run_trees(lambda p, x: nn.transformer_block(p, x, heads=2, causal=True, activation=nn.relu), params, x)
    assert (y.dtype, y.shape) == (np.float32, x.shape)
    # A later token changes none before it.
    changed = x.copy()
    changed[:, 2] += 1
    after = nn.transformer_block(params, changed, heads=2, causal=True, activation=nn.relu)
    np.testing.assert_allclose(after[:, :2], y[:, :2], rtol=1e-5, atol=1e-6)
    assert np.all(after[:, 2] != y[:, 2])
    drop = [nn.transformer_block(params, x, heads=2, dropout=0.5, key=key) for key in (1, 1, 2, None)]
    np.testing.assert_array_equal(drop[0], drop[1])
    assert np.any(drop[0] != drop[2])
    np.testing.assert_array_equal(drop[3], nn.transformer_block(params, x, heads=2))


def test_a_block_with_another_normalisation() -> None:
    params = nn.init.transformer_block(4, 2, norm=nn.init.rms_norm, bias=False, key=0, dtype=np.float64)
    assert set(params["norm1"]) == {"scale"}
    assert set(params["up"]) == {"w"}
    x = floats(1, 4, dtype=np.float64)
    attended = x + nn.multi_head_attention(params["attention"], nn.rms_norm(x), heads=2)
    hidden = nn.gelu(nn.rms_norm(attended) @ params["up"]["w"])
    found = nn.transformer_block(params, x, heads=2, norm=nn.rms_norm)
    np.testing.assert_allclose(found, attended + hidden @ params["down"]["w"], rtol=1e-12)


def test_derivatives_of_a_block() -> None:
    params = nn.init.transformer_block(2, 1, hidden=3, key=0, dtype=np.float64)
    x = floats(2, 2, dtype=np.float64)
    adjit.check_grads(lambda p, x: nn.transformer_block(p, x, heads=1), (params, x), order=1)


Q, K, V = drawn((4,), (2,), 3, 5, 2)
PARAMS = nn.init.multi_head_attention(4, 2, key=0)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.attention(Q, K[:, :, :3], V), ShapeError, "q and k have the same features"),
    (lambda: nn.attention(Q, K, V[:, :4]), ShapeError, "k and v the same number of keys"),
    (lambda: nn.attention(Q[:3], K, V), ShapeError, "3 heads of q make no 2 equal groups"),
    (lambda: nn.attention(Q, K, V[:1]), ShapeError, "differ in the axes in front of time"),
    (lambda: nn.attention(Q, K[0], V[0]), ShapeError, r"are not all \(\.\.\., heads, time, features\)"),
    (lambda: nn.attention(Q, K[:, :0], V[:, :0]), ShapeError, "have no keys"),
    (lambda: nn.attention(Q, K, V, np.ones((3, 5))), DTypeError, "mask is of bools, not float64"),
    (lambda: nn.attention(Q, K, V, np.ones((2, 5), bool)), ShapeError, "mask of shape .2, 5. does not broadcast"),
    (lambda: nn.attention(Q, K, V, bias=np.ones((1, 4, 3, 5))), ShapeError, "bias of shape"),
    (lambda: nn.attention(Q, K, V, scale=np.ones(4)), ArgumentError, "scale is a number"),
    (lambda: adjit.jit(nn.attention)(Q, K, V, scale=np.ones(4)), ShapeError, "scale is a number, not an array"),
    (lambda: nn.attention(Q, K, V, dropout=1.0, key=0), ArgumentError, r"dropout is in \[0, 1\), not 1.0"),
    (lambda: nn.multi_head_attention(PARAMS, Q, heads=3), ShapeError, "4 outputs, which 3 heads do not share"),
    (lambda: nn.multi_head_attention(PARAMS, Q[..., 0, 0], heads=2), ShapeError, "q is .*, not of shape .4,."),
    (lambda: nn.multi_head_attention({"query": 1}, Q, heads=2), ArgumentError, "params has no 'key'"),
    (lambda: nn.init.multi_head_attention(4, 3, key=0), ArgumentError, "heads=3 do not share features=4: give size"),
    (lambda: nn.init.multi_head_attention(4, 4, shared_heads=3, key=0), ArgumentError, "shared_heads=3"),
    (
        lambda: nn.transformer_block(nn.init.transformer_block(4, 2, key=0), Q, heads=2, activation=np.sum),
        ShapeError, "what activation gives has the shape",
    ),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
