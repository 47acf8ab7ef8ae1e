"""Attention: the plain composition of softmax and products, by which every derivative and batch of it follows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.nn.activations import shifted
from adjit.nn.dropout import dropout as drop
from adjit.nn.operands import counted, dtype_of, like, numbers, scalar, within
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.public import public

_KNOWN = {
    "query": "q", "key_states": "k", "value": "v", "queries": "q", "keys": "k", "values": "v",
    "attn_mask": "mask (bools, True where a query sees a key), or bias (floats that are added)", "is_causal": "causal",
    "dropout_p": "dropout", "dropout_rate": "dropout", "dropout_rng": "key",
    "enable_gqa": "leave it out: k and v with fewer heads are shared by groups of those of q",
    "deterministic": "with key=None nothing is dropped",
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
    Returns  (..., heads, time, size of v), of the dtype that q, k and v have together

    k and v may have fewer heads, by which those of q can be divided: each is shared by a group of heads that follow one
    another (grouped queries). A query that sees no key gets 0, with derivative 0. Raises ShapeError where shapes do not
    fit, DTypeError for a mask that is not of bools, and ArgumentError for a dropout outside [0, 1). Source: Vaswani et
    al. 2017; Ainslie et al. 2023 for groups.

    >>> import numpy as np
    >>> from adjit import nn
    >>> q, v = np.zeros((1, 3, 2)), np.array([[[1.0], [3.0], [8.0]]])
    >>> nn.attention(q, q, v, causal=True)[0, :, 0].tolist()
    [1.0, 2.0, 4.0]
    """
    q, k, v = numbers("attention: q", q), numbers("attention: k", k), numbers("attention: v", v)
    lead, shared = _lead(q, k, v)
    (time, features), (keys, size) = np.shape(q)[-2:], np.shape(v)[-2:]
    by = 1.0 / math.sqrt(max(features, 1)) if scale is None else scalar("attention: scale", scale)
    # The queries of a group are those of one head, one head below the other: no key is copied for each of them.
    rows = (*shared, math.prod(lead[-1:]) // max(math.prod(shared[-1:]), 1) * time)
    scores = np.reshape(np.reshape(q * by, (*rows, features)) @ np.swapaxes(k, -1, -2), (*lead, time, keys))
    if bias is not None:
        scores = scores + like(within("attention: bias", bias, np.shape(scores), "the scores"), scores)
    seen = _seen(mask, causal, scores)
    if seen is not None:
        scores = np.where(seen, scores, -np.inf)
    e = np.exp(shifted(scores, -1))
    total = np.sum(e, axis=-1, keepdims=True)
    weights = drop(e / np.where(total == 0, 1.0, total), _rate(dropout), key)
    return np.reshape(np.reshape(weights, (*rows, keys)) @ v, (*lead, time, size))


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


def _seen(mask: Any, causal: bool, scores: Any) -> Any:
    """Which key each query sees; None where it is every one."""
    seen = None
    if mask is not None:
        seen = within("attention: mask", mask, np.shape(scores), "the scores")
        if dtype_of(seen).kind != "b":
            raise DTypeError(f"attention: mask is of bools, not {dtype_of(seen)}; what is added to the scores is bias")
    if not checks.flag("attention: causal", causal):
        return seen
    time, keys = np.shape(scores)[-2:]
    before = counted(keys, 1, 2, scores) <= counted(time, 0, 2, scores)
    return before if seen is None else seen & before


def _rate(dropout: Any) -> float:
    rate = checks.real("attention: dropout", dropout)
    if not 0 <= rate < 1:
        raise ArgumentError(f"attention: dropout is in [0, 1), not {rate}")
    return rate
