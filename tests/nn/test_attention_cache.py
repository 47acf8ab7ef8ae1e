"""Keys and values of earlier tokens in a cache: decoding is the full causal pass, in place in a loop of the program."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, random
from adjit_runtime.errors import ArgumentError, DTypeError, IndexOutOfRange, ShapeError
from tests.trace.check import floats

FEATURES, HEADS, SHARED, TIME, BATCH = 12, 6, 2, 7, 3
SIZES: dict[str, Any] = {"shared_heads": SHARED, "dtype": np.float64}
BLOCKS = [nn.init.transformer_block(FEATURES, HEADS, key=key, **SIZES) for key in random.split(random.key(0), 2)]
X = floats(BATCH, TIME, FEATURES).astype(np.float64)


def caches(tokens: int = TIME, batch: Any = BATCH) -> list[Any]:
    return [nn.init.attention_cache(FEATURES, HEADS, tokens, batch=batch, **SIZES) for _ in BLOCKS]


def full(x: Any, **options: Any) -> Any:
    for block in BLOCKS:
        x = nn.transformer_block(block, x, heads=HEADS, causal=True, **options)
    return x


def decoded(x: Any, kept: Any, position: Any, **options: Any) -> tuple[Any, Any]:
    new = []
    for block, cache in zip(BLOCKS, kept, strict=True):
        x, cache = nn.transformer_block(block, x, heads=HEADS, cache=cache, position=position, **options)
        new.append(cache)
    return x, new


def generate(x: Any, kept: Any, prompt: int = 1) -> Any:
    """All of x (..., time, features) in one program: a prompt at once, then token after token."""
    first, kept = decoded(x[..., :prompt, :], kept, 0)

    def turn(kept: Any, i: Any) -> tuple[Any, Any]:
        y, kept = decoded(x[..., i, :][..., None, :], kept, i)
        return kept, y[..., 0, :]

    _, rest = adjit.scan(turn, kept, np.arange(prompt, x.shape[-2]))
    return np.concatenate([first, np.moveaxis(rest, 0, -2)], axis=-2)


@pytest.mark.parametrize("prompt", [1, 4])
@pytest.mark.parametrize("places", [TIME, TIME + 4])
def test_decoding_is_the_causal_pass(prompt: int, places: int) -> None:
    expected = full(X)
    kept = caches(places)
    compiled = adjit.jit(generate, static_argnames="prompt")
    np.testing.assert_allclose(compiled(X, kept, prompt=prompt), expected, rtol=1e-10, atol=1e-12)
    assert not any(np.any(x) for cache in kept for x in cache.values()), "the caller's caches stay as they were"
    parts, position = [], 0
    for count in [prompt] + [1] * (TIME - prompt):
        y, kept = decoded(X[:, position : position + count], kept, position)
        parts.append(y)
        position += count
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=1e-10, atol=1e-12)
    assert [cache["keys"].shape for cache in kept] == [(BATCH, SHARED, places, FEATURES // HEADS)] * 2


def test_no_axes_in_front_and_many_by_vmap() -> None:
    alone = adjit.jit(generate)(X[0], caches(batch=()))
    np.testing.assert_allclose(alone, full(X[0]), rtol=1e-10, atol=1e-12)
    mapped = adjit.vmap(generate)(X, caches())
    np.testing.assert_allclose(mapped, full(X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_loops_of_plain_python_and_no_sequences(compiled: bool) -> None:
    call: Callable[..., Any] = adjit.jit(generate) if compiled else generate
    np.testing.assert_allclose(call(X[:1], caches(batch=1)), full(X[:1]), rtol=1e-10, atol=1e-12)
    assert call(X[:0], caches(batch=0)).shape == (0, TIME, FEATURES)


def test_sequences_of_different_lengths_by_vmap() -> None:
    """Each sequence has a position of its own, where the functions are mapped over it."""
    starts = np.array([0, 2, 5])
    _, kept = decoded(X, caches(), 0)
    step = adjit.vmap(decoded)
    tokens = np.stack([row[start : start + 1] for row, start in zip(X, starts, strict=True)])
    y, _ = adjit.jit(lambda *a: step(*a))(tokens, kept, starts)
    expected = full(X)
    for row, found, start in zip(expected, y, starts, strict=True):
        np.testing.assert_allclose(found[0], row[start], rtol=1e-10, atol=1e-12)


def test_what_lies_behind_the_tokens_is_not_seen() -> None:
    kept = [{part: np.full_like(x, 1e3) for part, x in cache.items()} for cache in caches(TIME + 2)]
    np.testing.assert_allclose(decoded(X, kept, 0)[0], full(X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm_first", [True, False])
def test_masks_biases_and_other_arguments(norm_first: bool) -> None:
    mask, bias = np.arange(TIME) != 1, floats(HEADS, TIME, TIME)
    options: dict[str, Any] = {"norm_first": norm_first, "activation": nn.relu}
    expected = full(X, mask=mask, bias=bias, **options)
    kept, parts = caches(), []
    for i in range(TIME):
        y, kept = decoded(X[:, i : i + 1], kept, i, mask=mask, bias=bias[:, i : i + 1], causal=i % 2 == 0, **options)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=1e-10, atol=1e-12)


def test_a_prompt_of_many_tokens_in_tiles() -> None:
    q = floats(1, 200, 4).astype(np.float64)
    cache = nn.init.attention_cache(4, 1, 256, dtype=np.float64)
    y, new = adjit.jit(lambda q, c, i: nn.attention(q, q, q, cache=c, position=i))(q, cache, 0)
    np.testing.assert_allclose(y, nn.attention(q, q, q, causal=True), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(new["keys"][:, :200], q)


def test_derivatives_are_those_of_the_causal_pass() -> None:
    weights = X[::-1]
    ours = adjit.grad(lambda x: np.sum(weights * generate(x, caches(), 3)))(X)
    theirs = adjit.grad(lambda x: np.sum(weights * full(x)))(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loop", ["scan", "fori_loop"])
@pytest.mark.parametrize("batch", [(), (BATCH,)])
def test_a_loop_writes_where_the_cache_lies(loop: str, batch: tuple[int, ...]) -> None:
    """A turn writes into what is carried, and has no room for as much as the keys of one layer."""
    places, features, heads = 256, 128, 2
    params = [nn.init.transformer_block(features, heads, key=0, hidden=8) for _ in range(2)]

    def step(x: Any, kept: Any, i: Any) -> tuple[Any, Any]:
        new = []
        for block, cache in zip(params, kept, strict=True):
            x, cache = nn.transformer_block(block, x, heads=heads, cache=cache, position=i)
            new.append(cache)
        return x, new

    def written(x: Any, kept: Any) -> Any:
        if loop == "scan":
            return adjit.scan(lambda carry, i: (step(*carry, i), None), (x, kept), np.arange(places))[0][0]
        return adjit.fori_loop(0, places, lambda i, carry: step(*carry, i), (x, kept))[0]

    def stale(x: Any, kept: Any) -> Any:
        def turn(i: Any, carry: Any) -> Any:
            x, new = step(*carry, i)
            return x + carry[1][0]["keys"].sum() * new[0]["keys"].sum(), new

        return adjit.fori_loop(0, places, turn, (x, kept))[0]

    x = np.ones((*batch, 1, features), np.float32)
    kept = [nn.init.attention_cache(features, heads, places, batch=batch) for _ in params]
    size = kept[0]["keys"].nbytes
    shape = ",".join(map(str, kept[0]["keys"].shape))

    def turn(function: Callable[..., Any]) -> tuple[int, int, list[str]]:
        """The bytes that a turn has room for, its writes, and its buffers of the shape of keys."""
        plan = str(adjit.jit(function).ir("plan", x, kept))
        body = plan[plan.index(" turns ") :]
        room = int(re.findall(r"arena (\d+) bytes", body)[0])
        writes = re.findall(r"kernel \d+ scatter over ", body)
        return room, len(writes), re.findall(rf"buffer %\S+ : f32\[{shape}\] (\w+)", body)

    room, writes, buffers = turn(written)
    assert (writes, buffers) == (4, ["state"] * 4)
    assert room < size // 2
    assert turn(stale)[0] >= size, "where the cache before the write is read later, a turn has room for both"


@pytest.mark.parametrize("compiled", [False, True])
def test_a_position_that_is_not_in_the_cache(compiled: bool) -> None:
    call: Callable[..., Any] = adjit.jit(decoded) if compiled else decoded
    for position, count in ((-1, 1), (TIME, 1), (TIME - 1, 2), (2**63 - 1, 2), (np.uint64(2**64 - 1), 1)):
        with pytest.raises(IndexOutOfRange, match="out of bounds"):
            call(X[:, :count], caches(), position)
    y, _ = call(X[:, :1], caches(), np.uint8(TIME - 1))
    assert y.shape == (BATCH, 1, FEATURES)


def changed(part: str, shape: tuple[int, ...], dtype: Any = np.float64) -> dict[str, Any]:
    return {"keys": np.zeros((2, 5, 4)), "values": np.zeros((2, 5, 3)), part: np.zeros(shape, dtype)}


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"cache": changed("keys", (5, 4))}, ShapeError, r"cache\['keys'\] is of shape \(5, 4\), not \(2, places, 4\)"),
    ({"cache": changed("keys", (1, 5, 4))}, ShapeError, r"cache\['keys'\] is of shape \(1, 5, 4\)"),
    ({"cache": changed("values", (2, 5, 4))}, ShapeError, r"cache\['values'\] .* not \(2, places, 3\), for v"),
    ({"cache": changed("values", (2, 6, 3))}, ShapeError, r"cache\['keys'\] has 5 places, and cache\['values'\] 6"),
    ({"cache": changed("keys", (2, 0, 4)) | {"values": np.zeros((2, 0, 3))}}, IndexOutOfRange, "0 places"),
    ({"cache": changed("keys", (2, 5, 4), np.float32)}, DTypeError, r"cache\['keys'\] is of float32, and k of float64"),
    ({"cache": {"keys": np.zeros((2, 5, 4))}}, ArgumentError, "cache has no 'values'"),
    ({"cache": 3}, ArgumentError, "cache is a dict"),
    ({"cache": None}, ArgumentError, "position is that of the first token in a cache, and there is no cache"),
    ({"position": None}, ArgumentError, "position is that of the first token in the cache"),
    ({"position": 1.0}, DTypeError, "position is an integer, not of float64"),
    ({"position": True}, DTypeError, "position is an integer, not of bool"),
    ({"position": np.array([1])}, ShapeError, "position is one integer"),
    ({"q": np.zeros((4, 2, 4))}, ShapeError, "q has 2 tokens, and k and v have 1"),
    ({"mask": np.ones((1, 4), bool)}, ShapeError, "mask of shape"),
    ({"mask": np.ones((1, 5))}, DTypeError, "mask is of bools"),
])  # fmt: skip
def test_refusals(options: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {
        "q": np.zeros((4, 1, 4)), "k": np.zeros((2, 1, 4)), "v": np.zeros((2, 1, 3)),
        "cache": changed("keys", (2, 5, 4)), "position": 0,
    }  # fmt: skip
    y, new = nn.attention(**given)
    assert y.shape == (4, 1, 3)
    assert new["values"].shape == (2, 5, 3)
    with pytest.raises(error, match=text):
        nn.attention(**{**given, **options})
