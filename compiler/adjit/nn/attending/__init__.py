"""Attention: what users call.

weights  the composition of softmax and products on whole arrays, and its derivatives
tiles    the same for many scores, without an array of them
caching  keys and values of earlier tokens"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.nn.attending.caching import extended
from adjit.nn.attending.tiles import tiled
from adjit.nn.attending.weights import Form, composed
from adjit.nn.operands import dtype_of, like, numbers, scalar, within
from adjit.trace import is_tracer, lower
from adjit.tuned import ATTENTION_SCORES
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "query": "q", "key_states": "k", "value": "v", "queries": "q", "keys": "k", "values": "v",
    "attn_mask": "mask (bools, True where a query sees a key), or bias (floats that are added)", "is_causal": "causal",
    "dropout_p": "dropout", "dropout_rate": "dropout", "dropout_rng": "key",
    "enable_gqa": "leave it out: k and v with fewer heads are shared by groups of those of q",
    "deterministic": "with key=None nothing is dropped", "past_key_value": "cache", "kv_cache": "cache",
    "cache_position": "position",
}  # fmt: skip
"""Arguments that other libraries have, and what they are here."""


@public(_KNOWN)
def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: Any = None,
    dropout: float = 0.0,
    key: Any = None,
    *,
    cache: Any = None,
    position: Any = None,
) -> Any:
    """softmax(scale q k^T + bias) v, with the softmax along the keys.

    q        (..., heads, time, features); any number of axes in front, also none, and none of heads
    k        (..., heads, keys, features)
    v        (..., heads, keys, any size)
    mask     bools that broadcast to (..., heads, time, keys): True where a query sees a key
    bias     numbers that broadcast to that shape, added to the scores; -inf hides a key
    causal   query i sees keys 0 to i alone; with a mask, those that both let it see
    scale    a number; None: 1 / sqrt(features)
    dropout  the probability with which a weight is set to 0, the others divided by 1 - dropout: needs `key`, one of
             `adjit.random`; with key None nothing is dropped
    cache    {"keys": (..., heads, places, features), "values"}, of the dtypes of k and v, as `nn.init.attention_cache`
             makes it: q, k and v are those of new tokens, as many in each, whose k and v are written there. A query
             sees the places up to its own, causal or not; mask and bias are those of (..., heads, time, places)
    position where the first new token stands in the cache: an integer, which may be computed
    Returns  (..., heads, time, size of v), of the dtype that q, k and v have together; with a cache (that, new cache),
             and the one that was given stays as it was

    k and v may have fewer heads, by which those of q can be divided: each is shared by a group of heads that follow one
    another (grouped queries). A query that sees no key gets 0, with derivative 0. Raises ShapeError where shapes do not
    fit, DTypeError for a mask that is not of bools and a cache of another dtype, ArgumentError for a dropout outside
    [0, 1), and IndexOutOfRange where new tokens do not all have places: of a traced position when the program runs.
    Source: Vaswani et al. 2017; Ainslie et al. 2023 for groups.

    >>> import numpy as np
    >>> from adjit import nn
    >>> q, v = np.zeros((1, 3, 2)), np.array([[[1.0], [3.0], [8.0]]])
    >>> nn.attention(q, q, v, causal=True)[0, :, 0].tolist()
    [1.0, 2.0, 4.0]
    """
    q, k, v = numbers("attention: q", q), numbers("attention: k", k), numbers("attention: v", v)
    lead, shared = _lead(q, k, v)
    new = seen = None
    if cache is not None or position is not None:
        new, seen = extended(cache, position, q, k, v)
        k, v = new["keys"], new["values"]
    (time, features), keys = np.shape(q)[-2:], np.shape(k)[-2]
    by = 1.0 / math.sqrt(max(features, 1)) if scale is None else scalar("attention: scale", scale)
    form = Form(checks.flag("attention: causal", causal) and new is None, _rate(dropout))
    groups = math.prod(lead[-1:]) // max(math.prod(shared[-1:]), 1)
    q = np.reshape(q * by, (*shared, groups, time, features))
    scores = (*lead, time, keys)
    if bias is not None:
        bias = _apart(like(within("attention: bias", bias, scores, "the scores"), q), shared, groups)
    if mask is not None:
        mask = within("attention: mask", mask, scores, "the scores")
        if dtype_of(mask).kind != "b":
            raise DTypeError(f"attention: mask is of bools, not {dtype_of(mask)}; what is added to the scores is bias")
    if seen is not None:
        mask = seen if mask is None else mask & seen
    if mask is not None:
        mask = _apart(mask, shared, groups)
    attend = _tiled if _pays(q, k, v, time * keys) else composed
    y = attend(q, k, v, bias, mask, None if form.rate == 0 else key, form)
    y = np.reshape(y, (*lead, time, np.shape(v)[-1]))
    return y if new is None else (y, new)


def _apart(x: Any, shared: tuple[int, ...], groups: int) -> Any:
    """Bias or mask with all axes of (*shared, groups, time, keys), 1 along those where it is the same throughout."""
    shape = (1,) * (len(shared) + 2 - np.ndim(x)) + np.shape(x)
    *lead, time, keys = shape
    if not shared:
        return np.reshape(x, (1, time, keys))
    heads = (1, 1) if lead[-1] == 1 else (shared[-1], groups)
    return np.reshape(x, (*lead[:-1], *heads, time, keys))


def _pays(q: Any, k: Any, v: Any, scores: int) -> bool:
    """Whether tiles do: there are many scores, and a program is made of them."""
    return scores >= ATTENTION_SCORES and 0 not in np.shape(q) + np.shape(v) and any(map(is_tracer, (q, k, v)))


def _tiled(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, form: Form) -> Any:
    """In tiles: operands of one dtype, and axes in front joined where bias and mask have both of them, or none."""
    dtype = np.result_type(*(dtype_of(x) for x in (q, k, v, bias) if x is not None))
    q, k, v, bias = (x if x is None else lower.cast(x, dtype) for x in (q, k, v, bias))
    if bias is not None and np.shape(bias)[-1] != np.shape(k)[-2]:
        bias = np.broadcast_to(bias, (*np.shape(bias)[:-1], np.shape(k)[-2]))
    shared, shape = np.shape(k)[:-2], np.shape(q)
    runs = _runs(shared, [x for x in (bias, mask) if x is not None])

    def joined(x: Any) -> Any:
        found = np.shape(x)
        return np.reshape(x, (*(math.prod(found[i] for i in run) for run in runs), *found[len(shared) :]))

    operands = [x if x is None else joined(x) for x in (q, k, v, bias, mask)]
    return np.reshape(tiled(*operands, key, form), (*shape[:-1], np.shape(v)[-1]))


def _runs(shared: tuple[int, ...], extras: Sequence[Any]) -> list[list[int]]:
    """Axes that follow one another, along all of which each of `extras` changes, or along none; without those of 1."""
    runs: list[list[int]] = []
    before: list[bool] = []
    for axis in (i for i, n in enumerate(shared) if n > 1):
        changes = [np.shape(x)[axis] > 1 for x in extras]
        if runs and changes == before:
            runs[-1].append(axis)
        else:
            runs.append([axis])
        before = changes
    return runs


def _lead(q: Any, k: Any, v: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes in front of time, heads among them, of q, and of k and v."""
    shapes = tuple(map(np.shape, (q, k, v)))
    shown = f"q of shape {shapes[0]}, k of {shapes[1]} and v of {shapes[2]}"
    rank = len(shapes[0])
    if rank < 2 or {len(shape) for shape in shapes} != {rank}:
        raise ShapeError(f"attention: {shown} are not all (..., heads, time, features)")
    lead, shared, other = (shape[:-2] for shape in shapes)
    if shared != other or lead[:-1] != shared[:-1]:
        raise ShapeError(f"attention: {shown} differ in the axes in front of time")
    if shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ShapeError(f"attention: {shown}: q and k have the same features, k and v the same number of keys")
    if shapes[1][-2] == 0:
        raise ShapeError(f"attention: {shown} have no keys")
    if lead and (lead[-1] % shared[-1] if shared[-1] else lead[-1]):
        raise ShapeError(f"attention: {shown}: {lead[-1]} heads of q make no {shared[-1]} equal groups")
    return lead, shared


def _rate(dropout: Any) -> float:
    rate = checks.real("attention: dropout", dropout)
    if not 0 <= rate < 1:
        raise ArgumentError(f"attention: dropout is in [0, 1), not {rate}")
    return rate
