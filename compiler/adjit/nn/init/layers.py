"""Initial parameters of layers: dicts of NumPy arrays, nested where a layer is made of layers.

`key` is one of `adjit.random`; a layer draws from keys of its own that it makes of it. Weights are float32 unless
`dtype` says float64. All raise ArgumentError for sizes that are no integers, or negative, and DTypeError for another
`dtype` or for what is no key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.nn.init.weights import glorot_uniform
from adjit.nn.operands import numbers, one_axis
from adjit.random import normal, split, uniform
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, OutOfMemory
from adjit_runtime.public import public

Tree = dict[str, Any]

_KNOWN = {
    "rng": "key", "seed": "key", "in_features": "inputs", "input_size": "inputs", "out_features": "outputs",
    "hidden_size": "features", "units": "features", "num_features": "channels", "num_channels": "channels",
    "normalized_shape": "features", "num_embeddings": "count", "embedding_dim": "features", "embed_dim": "features",
    "d_model": "features", "num_heads": "heads", "nhead": "heads", "dim_feedforward": "hidden", "use_bias": "bias",
    "param_dtype": "dtype", "max_len": "tokens", "max_length": "tokens", "batch_size": "batch",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def dense(inputs: int, outputs: int, *, key: Any, bias: bool = True, dtype: Any = np.float32) -> Tree:
    """{"w": (inputs, outputs), "b": (outputs,)} for `nn.dense`: `glorot_uniform`, and zeros. Without `bias` no "b".

    >>> from adjit import nn, random
    >>> {name: x.shape for name, x in nn.init.dense(3, 2, key=random.key(0)).items()}
    {'w': (3, 2), 'b': (2,)}
    """
    shape = _size("inputs", inputs), _size("outputs", outputs)
    w = glorot_uniform(shape, key=key, dtype=dtype)
    return {"w": w, "b": np.zeros(shape[1], w.dtype)} if checks.flag("bias", bias) else {"w": w}


@public(_KNOWN)
def embedding(count: int, features: int, *, key: Any, dtype: Any = np.float32) -> Any:
    """The table (count, features) for `nn.embedding`: standard normal.

    >>> from adjit import nn, random
    >>> nn.init.embedding(10, 4, key=random.key(0)).shape
    (10, 4)
    """
    return normal(key, (_size("count", count), _size("features", features)), dtype)


@public(_KNOWN)
def layer_norm(features: int | Sequence[int], *, bias: bool = True, dtype: Any = np.float32) -> Tree:
    """{"scale": ones, "bias": zeros} of the shape `features` for `nn.layer_norm`. Without `bias` no "bias".

    >>> from adjit import nn
    >>> nn.init.layer_norm(2)
    {'scale': array([1., 1.], dtype=float32), 'bias': array([0., 0.], dtype=float32)}
    """
    return _affine(checks.extents("features", features), bias, dtype)


@public(_KNOWN)
def rms_norm(features: int | Sequence[int], *, dtype: Any = np.float32) -> Tree:
    """{"scale": ones} of the shape `features` for `nn.rms_norm`.

    >>> from adjit import nn
    >>> nn.init.rms_norm(2)
    {'scale': array([1., 1.], dtype=float32)}
    """
    return _affine(checks.extents("features", features), False, dtype)


@public(_KNOWN)
def group_norm(channels: int, *, dtype: Any = np.float32) -> Tree:
    """{"scale": ones, "bias": zeros}, (channels,), for `nn.group_norm`.

    >>> from adjit import nn
    >>> sorted(nn.init.group_norm(2))
    ['bias', 'scale']
    """
    return _affine((_size("channels", channels),), True, dtype)


@public(_KNOWN)
def instance_norm(channels: int, *, dtype: Any = np.float32) -> Tree:
    """{"scale": ones, "bias": zeros}, (channels,), for `nn.instance_norm`.

    >>> from adjit import nn
    >>> sorted(nn.init.instance_norm(2))
    ['bias', 'scale']
    """
    return _affine((_size("channels", channels),), True, dtype)


@public(_KNOWN)
def batch_norm(channels: int, *, dtype: Any = np.float32) -> tuple[Tree, Tree]:
    """Parameters and running statistics, each (channels,), for `nn.batch_norm`: ({"scale", "bias"}, {"mean", "var"}).

    >>> from adjit import nn
    >>> params, running = nn.init.batch_norm(2)
    >>> sorted(params), sorted(running)
    (['bias', 'scale'], ['mean', 'var'])
    """
    shape = (_size("channels", channels),)
    dtype = _dtype(dtype)
    return _affine(shape, True, dtype), {"mean": np.zeros(shape, dtype), "var": np.ones(shape, dtype)}


@public({"weight": "w", "dim": "axis"})
def weight_norm(w: Any, axis: int | None = -1) -> Tree:
    """{"v": w, "g": its lengths along `axis`} for `nn.weight_norm`, which gives `w` again.

    Shapes of `v` and `g`, and errors, are those of `nn.weight_norm`.

    >>> import numpy as np
    >>> from adjit import nn
    >>> nn.init.weight_norm(np.array([[3.0], [4.0]]))["g"].tolist()
    [5.0]
    """
    w = numbers("weight_norm: w", w)
    kept = None if axis is None else one_axis("weight_norm: axis", axis, w, "w")
    try:
        return {"v": w, "g": np.sqrt(np.sum(w * w, axis=tuple(i for i in range(np.ndim(w)) if i != kept)))}
    except MemoryError:
        raise OutOfMemory(f"weight_norm: there is no memory for the lengths of w of shape {np.shape(w)}") from None


@public(_KNOWN)
def spectral_norm(outputs: int, *, key: Any, dtype: Any = np.float32) -> Any:
    """A random vector (outputs,) of length 1 for `nn.spectral_norm`: state, and no parameter.

    >>> from adjit import nn, random
    >>> nn.init.spectral_norm(4, key=random.key(0)).shape
    (4,)
    """
    u = normal(key, (_size("outputs", outputs),), dtype)
    total = np.sum(u * u)
    return u / np.sqrt(np.where(total == 0, 1.0, total)).astype(u.dtype)


@public(_KNOWN)
def multi_head_attention(
    features: int,
    heads: int,
    *,
    key: Any,
    shared_heads: int | None = None,
    size: int | None = None,
    context: int | None = None,
    bias: bool = True,
    dtype: Any = np.float32,
) -> Tree:
    """{"query", "key", "value", "out"}, each as of `dense`, for `nn.multi_head_attention`.

    features      of what goes in as q, and comes out
    heads         of the queries; `shared_heads` those of keys and values, by which they can be divided (None: as many)
    size          of a head; None: features / heads
    context       features of what goes in as k and v; None: those of q

    Raises ArgumentError where heads do not divide what they share.

    >>> from adjit import nn, random
    >>> params = nn.init.multi_head_attention(8, 4, shared_heads=2, key=random.key(0))
    >>> {name: layer["w"].shape for name, layer in params.items()}
    {'query': (8, 8), 'key': (8, 4), 'value': (8, 4), 'out': (8, 8)}
    """
    heads, shared, each = _heads("multi_head_attention", features, heads, shared_heads, size)
    other = features if context is None else _size("context", context)
    layers = {
        "query": (features, heads * each), "key": (other, shared * each), "value": (other, shared * each),
        "out": (heads * each, features),
    }  # fmt: skip
    keys = split(key, len(layers))
    return {
        name: dense(*shape, key=own, bias=bias, dtype=dtype)
        for (name, shape), own in zip(layers.items(), keys, strict=True)
    }


@public(_KNOWN)
def transformer_block(
    features: int,
    heads: int,
    *,
    key: Any,
    hidden: int | None = None,
    shared_heads: int | None = None,
    norm: Callable[..., Tree] = layer_norm,
    bias: bool = True,
    dtype: Any = np.float32,
) -> Tree:
    """{"norm1", "attention", "norm2", "up", "down"} for `nn.transformer_block`.

    features, heads, shared_heads, bias   those of `multi_head_attention`
    hidden                                the outputs of "up"; None: 4 features
    norm                                  norm(features, dtype=dtype) makes the parameters of one, such as `rms_norm`

    >>> from adjit import nn, random
    >>> nn.init.transformer_block(8, 2, key=random.key(0))["up"]["w"].shape
    (8, 32)
    """
    features = _size("features", features)
    hidden = 4 * features if hidden is None else _size("hidden", hidden)
    checks.function("norm", norm)
    first, up, down = split(key, 3)
    return {
        "norm1": norm(features, dtype=dtype),
        "attention": multi_head_attention(
            features, heads, key=first, shared_heads=shared_heads, bias=bias, dtype=dtype
        ),
        "norm2": norm(features, dtype=dtype),
        "up": dense(features, hidden, key=up, bias=bias, dtype=dtype),
        "down": dense(hidden, features, key=down, bias=bias, dtype=dtype),
    }


@public(_KNOWN)
def attention_cache(
    features: int,
    heads: int,
    tokens: int,
    *,
    batch: int | Sequence[int] = (),
    shared_heads: int | None = None,
    size: int | None = None,
    dtype: Any = np.float32,
) -> Tree:
    """{"keys": zeros, "values": zeros}, (*batch, shared_heads, tokens, size): the `cache` of an attention, state and no
    parameter.

    features, heads, shared_heads, size   those of the `multi_head_attention` or `transformer_block` that it is for
    tokens                                how many it has places for, of prompt and answer together
    batch                                 the axes in front of those of a sequence, or how many sequences there are

    Raises ArgumentError where heads do not divide what they share.

    >>> from adjit import nn
    >>> {name: x.shape for name, x in nn.init.attention_cache(8, 4, 16, batch=3, shared_heads=2).items()}
    {'keys': (3, 2, 16, 2), 'values': (3, 2, 16, 2)}
    """
    _, shared, each = _heads("attention_cache", features, heads, shared_heads, size)
    shape = (*checks.extents("batch", batch), shared, checks.integer("tokens", tokens, 1), each)
    try:
        return {part: np.zeros(shape, _dtype(dtype)) for part in ("keys", "values")}
    except (MemoryError, ValueError):
        raise OutOfMemory(f"attention_cache: there is no memory for tokens={tokens}: shape {shape}") from None


@public(_KNOWN)
def rnn(inputs: int, features: int, *, key: Any, bias: bool = True, dtype: Any = np.float32) -> Tree:
    """{"input": {"w": (inputs, features), "b"}, "hidden": {"w": (features, features)}} for `nn.rnn`.

    The weights of the inputs are `glorot_uniform`, those of the state uniform on [-a, a) with a = 1 / sqrt(features),
    and the bias is 0. Without `bias` there is none.

    >>> from adjit import nn, random
    >>> nn.init.rnn(3, 4, key=random.key(0))["hidden"]["w"].shape
    (4, 4)
    """
    return _recurrent(1, inputs, features, key, bias, dtype)


@public(_KNOWN)
def gru(inputs: int, features: int, *, key: Any, bias: bool = True, dtype: Any = np.float32) -> Tree:
    """{"input": {"w": (inputs, 3 features), "b"}, "hidden": {"w": (features, 3 features), "b"}} for `nn.gru`; as `rnn`.

    >>> from adjit import nn, random
    >>> nn.init.gru(3, 4, key=random.key(0))["hidden"]["w"].shape
    (4, 12)
    """
    params = _recurrent(3, inputs, features, key, bias, dtype)
    if bias:
        # That of n is multiplied by r, so it is no other name for the bias of the inputs.
        params["hidden"]["b"] = np.zeros_like(params["input"]["b"])
    return params


@public(_KNOWN)
def lstm(inputs: int, features: int, *, key: Any, bias: bool = True, dtype: Any = np.float32) -> Tree:
    """{"input": {"w": (inputs, 4 features), "b"}, "hidden": {"w": (features, 4 features)}} for `nn.lstm`; as `rnn`.

    The bias of the gate f is 1, so that the state is kept at first. Source: Gers, Schmidhuber, Cummins 2000;
    Jozefowicz, Zaremba, Sutskever 2015.

    >>> from adjit import nn, random
    >>> nn.init.lstm(3, 2, key=random.key(0))["input"]["b"].tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    params = _recurrent(4, inputs, features, key, bias, dtype)
    if bias:
        params["input"]["b"][features : 2 * features] = 1.0
    return params


def _recurrent(gates: int, inputs: int, features: int, key: Any, bias: bool, dtype: Any) -> Tree:
    inputs, features = _size("inputs", inputs), _size("features", features)
    first, second = split(key, 2)
    limit = 1.0 / math.sqrt(max(features, 1))
    # Each gate is a layer of its own: its fan-out is `features`.
    parts = [glorot_uniform((inputs, features), key=own, dtype=dtype) for own in split(first, gates)]
    w = np.concatenate(parts, axis=1)
    params: Tree = {
        "input": {"w": w},
        "hidden": {"w": uniform(second, (features, gates * features), -limit, limit, dtype)},
    }
    if checks.flag("bias", bias):
        params["input"]["b"] = np.zeros(gates * features, w.dtype)
    return params


def _affine(shape: tuple[int, ...], bias: bool, dtype: Any) -> Tree:
    dtype = _dtype(dtype)
    scale = np.ones(shape, dtype)
    return {"scale": scale, "bias": np.zeros(shape, dtype)} if checks.flag("bias", bias) else {"scale": scale}


def _heads(name: str, features: Any, heads: Any, shared_heads: Any, size: Any) -> tuple[int, int, int]:
    """How many heads queries have, how many keys and values, and the size of one."""
    features, heads = _size("features", features), checks.integer("heads", heads, 1)
    shared = heads if shared_heads is None else checks.integer("shared_heads", shared_heads, 1)
    if heads % shared:
        raise ArgumentError(f"{name}: heads={heads} make no groups for shared_heads={shared}")
    if size is None and features % heads:
        raise ArgumentError(f"{name}: heads={heads} do not share features={features}: give size")
    return heads, shared, features // heads if size is None else checks.integer("size", size, 1)


def _size(what: str, value: Any) -> int:
    return checks.integer(what, value, 0)


def _dtype(dtype: Any) -> np.dtype:
    found: np.dtype | None
    try:
        found = np.dtype(dtype)
    except Exception:
        # NumPy shows what is no dtype, and that may raise what it likes.
        found = None
    if dtype is None or found is None or found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise DTypeError(f"dtype is float32 or float64, not {checks.shown(dtype)}")
    return found
