"""Initial parameters of layers: names, shapes, dtypes, distributions, and that each layer takes what is made for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import nn, random
from adjit.nn import init
from adjit_runtime.errors import ArgumentError, DTypeError
from tests.trace.check import floats

X, IMAGE, TIMES, Q = floats(2, 4), floats(2, 4, 3), floats(3, 2, 4), floats(2, 1, 2)

# What makes the parameters (of a key, a dtype), and what takes them.
LAYERS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "dense": (lambda **o: init.dense(4, 3, **o), lambda p: nn.dense(p, X)),
    "embedding": (lambda **o: init.embedding(5, 3, **o), lambda p: nn.embedding(p, [4, 0])),
    "multi_head_attention": (
        lambda **o: init.multi_head_attention(4, 2, **o), lambda p: nn.multi_head_attention(p, X, heads=2),
    ),
    "transformer_block": (
        lambda **o: init.transformer_block(4, 2, **o), lambda p: nn.transformer_block(p, X, heads=2),
    ),
    "rnn": (lambda **o: init.rnn(4, 3, **o), lambda p: nn.rnn(p, TIMES)[0]),
    "gru": (lambda **o: init.gru(4, 3, **o), lambda p: nn.gru(p, TIMES)[0]),
    "lstm": (lambda **o: init.lstm(4, 3, **o), lambda p: nn.lstm(p, TIMES)[0]),
    "spectral_norm": (lambda **o: init.spectral_norm(4, **o), lambda u: nn.spectral_norm(X, u)[0]),
    "layer_norm": (lambda key, **o: init.layer_norm((4, 3), **o), lambda p: nn.layer_norm(IMAGE, **p, axis=(1, 2))),
    "rms_norm": (lambda key, **o: init.rms_norm(4, **o), lambda p: nn.rms_norm(X, **p)),
    "group_norm": (lambda key, **o: init.group_norm(4, **o), lambda p: nn.group_norm(IMAGE, 2, **p)),
    "instance_norm": (lambda key, **o: init.instance_norm(4, **o), lambda p: nn.instance_norm(IMAGE, **p)),
    "batch_norm": (
        lambda key, **o: init.batch_norm(4, **o), lambda p: nn.batch_norm(IMAGE, p[1], **p[0], training=False)[0],
    ),
    "attention_cache": (
        lambda key, **o: init.attention_cache(4, 2, 3, **o), lambda c: nn.attention(Q, Q, Q, cache=c, position=1)[0],
    ),
}  # fmt: skip
every = pytest.mark.parametrize("name", LAYERS)


def test_all_stand_here() -> None:
    assert set(LAYERS) | set(init.weights.__all__) | {"weight_norm"} == set(init.__all__)


@every
def test_dtypes_keys_and_layers(name: str) -> None:
    make, layer = LAYERS[name]
    params = make(key=random.key(0))
    leaves = optree.tree_leaves(params)
    assert {x.dtype for x in leaves} == {np.dtype(np.float32)}
    y = layer(params)
    assert y.dtype == np.float32
    np.testing.assert_allclose(adjit.jit(layer)(params), y, rtol=1e-4, atol=1e-6)
    for again, first in zip(optree.tree_leaves(make(key=0)), leaves, strict=True):
        np.testing.assert_array_equal(again, first)
    assert {x.dtype for x in optree.tree_leaves(make(key=0, dtype=np.float64))} == {np.dtype(np.float64)}
    with pytest.raises(DTypeError, match="float32 or float64"):
        make(key=0, dtype=np.int32)


@pytest.mark.parametrize("name", list(LAYERS)[:8])
def test_weights_are_drawn_from_the_key(name: str) -> None:
    make = LAYERS[name][0]
    pairs = zip(optree.tree_leaves(make(key=0)), optree.tree_leaves(make(key=1)), strict=True)
    # Biases and scales have one number, or two.
    differ = [np.mean(a != b) for a, b in pairs if len(np.unique(a)) > 2]
    assert differ
    assert min(differ) > 0.9
    with pytest.raises(DTypeError, match="key"):
        make(key=0.5)
    compiled = adjit.jit(lambda key: make(key=key))(random.key(0))
    for found, plain in zip(optree.tree_leaves(compiled), optree.tree_leaves(make(key=0)), strict=True):
        np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_what_a_recurrent_layer_starts_with() -> None:
    for make, gates in ((init.rnn, 1), (init.gru, 3), (init.lstm, 4)):
        params = make(50, 40, key=0)
        assert params["input"]["w"].shape == (50, 40 * gates)
        assert params["hidden"]["w"].shape == (40, 40 * gates)
        assert 0.98 < np.max(np.abs(params["input"]["w"])) / np.sqrt(6 / 90) <= 1
        assert 0.98 < np.max(np.abs(params["hidden"]["w"])) * np.sqrt(40) <= 1
        assert "b" not in make(50, 40, key=0, bias=False)["input"]
    np.testing.assert_array_equal(init.lstm(2, 3, key=0)["input"]["b"], [0] * 3 + [1] * 3 + [0] * 6)
    assert init.gru(2, 3, key=0)["hidden"]["b"].shape == (9,)


def test_scales_of_what_is_drawn() -> None:
    w = init.dense(300, 200, key=0)["w"]
    assert 0.99 < np.max(np.abs(w)) / np.sqrt(6 / 500) <= 1
    table = init.embedding(400, 100, key=0)
    np.testing.assert_allclose([np.mean(table), np.std(table)], [0, 1], atol=0.02)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: init.dense(-1, 2, key=0), "inputs is an integer >= 0"),
    (lambda: init.dense(1, 2.0, key=0), "outputs is an integer >= 0"),
    (lambda: init.dense(1, 2, key=0, bias=None), "bias is True or False"),
    (lambda: init.lstm(1, None, key=0), "features is an integer >= 0"),
    (lambda: init.transformer_block(4, 2, key=0, norm=None), "norm is a function"),
    (lambda: init.multi_head_attention(4, 0, key=0), "heads is an integer >= 1"),
    (lambda: init.attention_cache(4, 3, 5), "attention_cache: heads=3 do not share features=4"),
    (lambda: init.attention_cache(4, 2, 0), "tokens is an integer >= 1"),
])  # fmt: skip
def test_refusals(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        call()
