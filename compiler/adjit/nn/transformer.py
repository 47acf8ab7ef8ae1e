"""Multi-head attention with its projections, and the block of a transformer.

Their parameters are nested dicts of arrays, which `nn.init.multi_head_attention` and `nn.init.transformer_block` make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adjit.nn.activations import gelu
from adjit.nn.attending import attention
from adjit.nn.dense import affine
from adjit.nn.dropout import dropout as drop
from adjit.nn.normalization import layer_norm
from adjit.nn.operands import numbers, parameters, same_shape
from adjit.random import split
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "query": "q", "value": "v", "inputs_q": "q", "inputs_k": "k", "inputs_v": "v", "context": "k",
    "num_heads": "heads", "n_heads": "heads", "nhead": "heads", "embed_dim": "the sizes are those of params",
    "attn_mask": "mask (bools, True where a query sees a key), or bias (floats that are added)", "src_mask": "mask",
    "key_padding_mask": "mask, of shape (batch, 1, 1, keys), True where there is something", "is_causal": "causal",
    "dropout_p": "dropout", "dropout_rate": "dropout", "dropout_rng": "key",
    "deterministic": "with key=None nothing is dropped", "batch_first": "axes are (..., time, features) here",
    "past_key_value": "cache", "kv_cache": "cache", "cache_position": "position",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def multi_head_attention(
    params: Any,
    q: Any,
    k: Any = None,
    v: Any = None,
    *,
    heads: int,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: Any = None,
    dropout: float = 0.0,
    key: Any = None,
    cache: Any = None,
    position: Any = None,
) -> Any:
    """`attention` of heads that are linear layers of q, k and v, and one more of what they give, side by side.

    params   {"query", "key", "value", "out"}, each {"w", "b"} as of `dense`. The outputs of "query" are those of all
             heads; "key" and "value" may have fewer heads, which groups of those of the queries share
    q        (..., time, features)
    k        (..., keys, features); None: q, which is self-attention
    v        (..., keys, features); None: k
    heads    how many there are of queries
    cache    as of `attention`: keys and values (..., heads of "key", places, size) of a head, which
             `nn.init.attention_cache` makes; q, and k and v where they are given, are those of new tokens alone
    Returns  (..., time, outputs of "out"); with a cache (that, new cache)

    The others are those of `attention`, whose scores are (..., heads, time, keys). Raises ArgumentError for params of
    other names, ShapeError where shapes do not fit, and what `attention` raises. Source: Vaswani et al. 2017.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> params = nn.init.multi_head_attention(8, 2, key=random.key(0))
    >>> nn.multi_head_attention(params, np.ones((3, 5, 8), np.float32), heads=2, causal=True).shape
    (3, 5, 8)
    """
    name = "multi_head_attention"
    found = parameters(f"{name}: params", params, ("query", "key", "value", "out"))
    count = checks.integer(f"{name}: heads", heads, 1)
    given = _sequences(name, q, k, v)
    projected = {
        part: affine(name, f"params[{part!r}]", found[part], x, of)
        for (part, x), of in zip(given.items(), "qkv", strict=True)
    }
    size = _share(name, "query", np.shape(projected["query"])[-1], count)
    wide = np.shape(projected["key"])[-1]
    if size == 0 or wide % size or not wide or count % (wide // size):
        raise ShapeError(
            f"{name}: params['key'] has {wide} outputs, which are no heads of {size} that {count} heads of the queries "
            "share"
        )
    shared = wide // size
    sizes = {"query": count, "key": shared, "value": shared}
    q, k, v = (
        _heads(projected[part], n, _share(name, part, np.shape(projected[part])[-1], n)) for part, n in sizes.items()
    )
    y = attention(q, k, v, mask, bias, causal, scale, dropout, key, cache=cache, position=position)
    new = None
    if cache is not None:
        y, new = y
    joined = np.swapaxes(y, -2, -3)
    joined = np.reshape(joined, (*np.shape(joined)[:-2], count * np.shape(y)[-1]))
    y = affine(name, "params['out']", found["out"], joined, "what the heads give")
    return y if new is None else (y, new)


@public(_KNOWN)
def transformer_block(
    params: Any,
    x: Any,
    *,
    heads: int,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    dropout: float = 0.0,
    key: Any = None,
    cache: Any = None,
    position: Any = None,
    activation: Callable[[Any], Any] = gelu,
    norm: Callable[..., Any] = layer_norm,
    norm_first: bool = True,
) -> Any:
    """y = x + attention(norm(x)), then y + mlp(norm(y)): a block of a transformer.

    params      {"norm1", "attention", "norm2", "up", "down"}: the arguments of `norm` beside x, those of
                `multi_head_attention`, and the two layers of the MLP, as of `dense`
    x           (..., time, features)
    activation  between the layers of the MLP
    norm        norm(x, **params["norm1"]), such as `rms_norm`
    norm_first  False: norm(x + attention(x)), then norm(y + mlp(y)), as in the first transformers
    dropout     of the weights of the attention, and of what each part adds; needs `key`, as for `attention`
    cache       as of `multi_head_attention`: x are new tokens, which stand at `position` and behind it
    Returns     the shape of `x`; with a cache (that, new cache)

    The others are those of `multi_head_attention`, which says what is raised. Source: Xiong et al. 2020;
    Vaswani et al. 2017 for normalisation behind the parts.

    >>> import numpy as np
    >>> from adjit import nn, random
    >>> params = nn.init.transformer_block(8, 2, key=random.key(0))
    >>> nn.transformer_block(params, np.ones((3, 5, 8), np.float32), heads=2, causal=True).shape
    (3, 5, 8)
    >>> cache = nn.init.attention_cache(8, 2, 5, batch=3)
    >>> y, cache = nn.transformer_block(params, np.ones((3, 1, 8), np.float32), heads=2, cache=cache, position=0)
    >>> y.shape, cache["keys"].shape
    ((3, 1, 8), (3, 2, 5, 4))
    """
    name = "transformer_block"
    found = parameters(f"{name}: params", params, ("norm1", "attention", "norm2", "up", "down"))
    x = numbers(f"{name}: x", x)
    checks.function(f"{name}: activation", activation)
    checks.function(f"{name}: norm", norm)
    rate = checks.real(f"{name}: dropout", dropout)
    if not 0 <= rate < 1:
        raise ArgumentError(f"{name}: dropout is in [0, 1), not {rate}")
    first = checks.flag(f"{name}: norm_first", norm_first)
    keys = [None] * 3 if key is None or not rate else split(key, 3)

    def attend(x: Any) -> tuple[Any, Any]:
        given = found["attention"]
        y = multi_head_attention(
            given, x, heads=heads, mask=mask, bias=bias, causal=causal, dropout=rate, key=keys[0], cache=cache,
            position=position,
        )  # fmt: skip
        return (y, None) if cache is None else y

    def transform(x: Any) -> tuple[Any, Any]:
        up = affine(name, "params['up']", found["up"], x)
        hidden = same_shape(f"{name}: what activation gives", activation(up), up)
        return affine(name, "params['down']", found["down"], hidden, "what params['up'] gives"), None

    def added(x: Any, part: str, layers: Callable[[Any], tuple[Any, Any]], own: Any) -> tuple[Any, Any]:
        y, new = layers(_normed(name, norm, found, part, x) if first else x)
        x = x + drop(_kept(name, y, x), rate, own)
        return (x if first else _normed(name, norm, found, part, x)), new

    x, new = added(x, "norm1", attend, keys[1])
    x, _ = added(x, "norm2", transform, keys[2])
    return x if new is None else (x, new)


def _sequences(name: str, q: Any, k: Any, v: Any) -> dict[str, Any]:
    q = numbers(f"{name}: q", q)
    k = q if k is None else numbers(f"{name}: k", k)
    v = k if v is None else numbers(f"{name}: v", v)
    for of, x in zip("qkv", (q, k, v), strict=True):
        if np.ndim(x) < 2:
            raise ShapeError(f"{name}: {of} is (..., time, features), not of shape {np.shape(x)}")
    return {"query": q, "key": k, "value": v}


def _share(name: str, part: str, outputs: int, heads: int) -> int:
    if outputs % heads:
        raise ShapeError(f"{name}: params[{part!r}] has {outputs} outputs, which {heads} heads do not share")
    return outputs // heads


def _heads(x: Any, heads: int, size: int) -> Any:
    """(..., time, heads * size) as (..., heads, time, size)."""
    return np.swapaxes(np.reshape(x, (*np.shape(x)[:-1], heads, size)), -2, -3)


def _normed(name: str, norm: Callable[..., Any], params: dict[str, Any], part: str, x: Any) -> Any:
    given = params[part]
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{name}: params[{part!r}] is a dict of what norm takes, not {checks.shown(given)}")
    return same_shape(f"{name}: what norm gives", norm(x, **given), x)


def _kept(name: str, y: Any, x: Any) -> Any:
    if np.shape(y) != np.shape(x):
        raise ShapeError(f"{name}: x of shape {np.shape(x)}, and its parts add {np.shape(y)}")
    return y
