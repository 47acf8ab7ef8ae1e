"""The weights of attention as whole arrays, what they give, and the derivatives of that, written out.

Arrays have any axes in front, then: queries `(groups, time, features)`, keys `(keys, features)`, values
`(keys, size)`, scores, bias and mask `(groups, time, keys)`, the last two with extents of 1 where they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.nn.activations import shifted
from adjit.nn.operands import counted
from adjit.random import bernoulli


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of a call while it is traced. `rate` is that of the dropout, 0 where there is none."""

    causal: bool
    rate: float


def composed(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, form: Form) -> Any:
    """What each query gets: (..., groups, time, size)."""
    weights = _weights(q, k, bias, mask, form)
    return _by_keys(_thinned(weights, key, form), v)


def composed_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The change of what each query gets."""
    q, k, v, bias, mask, key, form = primals
    dq, dk, dv, dbias, *_ = tangents
    weights = _weights(q, k, bias, mask, form)
    change = _softmax_jvp(weights, _scores_jvp(q, k, dq, dk, dbias))
    return _by_keys(_thinned(change, key, form), v) + _by_keys(_thinned(weights, key, form), dv)


def composed_gradients(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, g: Any, form: Form) -> tuple[Any, ...]:
    """The gradients by q, k, v and bias, where that by the result is `g`."""
    weights = _weights(q, k, bias, mask, form)
    by_weight = _thinned(_scores(g, v), key, form)
    by_score = _softmax_jvp(weights, by_weight)
    return _gradients(q, k, bias, by_score, _thinned(weights, key, form), g)


def composed_gradients_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The change of these gradients."""
    q, k, v, bias, mask, key, g, form = primals
    dq, dk, dv, dbias, _, _, dg, _ = tangents
    weights = _weights(q, k, bias, mask, form)
    weights_change = _softmax_jvp(weights, _scores_jvp(q, k, dq, dk, dbias))
    by_weight = _thinned(_scores(g, v), key, form)
    by_weight_change = _thinned(_scores(dg, v) + _scores(g, dv), key, form)
    mean = np.sum(weights * by_weight, axis=-1, keepdims=True)
    mean_change = np.sum(weights_change * by_weight + weights * by_weight_change, axis=-1, keepdims=True)
    by_score = weights * (by_weight - mean)
    by_score_change = weights_change * (by_weight - mean) + weights * (by_weight_change - mean_change)
    thin, thin_change = (_thinned(x, key, form) for x in (weights, weights_change))
    one = _gradients(q, k, bias, by_score_change, thin_change, g)
    other = _gradients(dq, dk, None, by_score, thin, dg)
    by_bias = one[3]
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], by_bias)


def _scores(q: Any, k: Any) -> Any:
    """(..., groups, time, keys): the queries of all groups are rows of one product."""
    *lead, groups, time, features = np.shape(q)
    rows = np.reshape(q, (*lead, groups * time, features)) @ np.swapaxes(k, -1, -2)
    return np.reshape(rows, (*lead, groups, time, np.shape(k)[-2]))


def _scores_jvp(q: Any, k: Any, dq: Any, dk: Any, dbias: Any) -> Any:
    change = _scores(dq, k) + _scores(q, dk)
    return change if dbias is None else change + dbias


def _by_keys(weights: Any, v: Any) -> Any:
    """(..., groups, time, size)."""
    *lead, groups, time, keys = np.shape(weights)
    rows = np.reshape(weights, (*lead, groups * time, keys)) @ v
    return np.reshape(rows, (*lead, groups, time, np.shape(v)[-1]))


def _by_queries(weights: Any, q: Any) -> Any:
    """(..., keys, features)."""
    *lead, groups, time, keys = np.shape(weights)
    rows = np.reshape(weights, (*lead, groups * time, keys))
    return np.swapaxes(rows, -1, -2) @ np.reshape(q, (*lead, groups * time, np.shape(q)[-1]))


def _gradients(q: Any, k: Any, bias: Any, by_score: Any, weights: Any, g: Any) -> tuple[Any, ...]:
    by_bias = None if bias is None else summed_to(by_score, np.shape(bias))
    return _by_keys(by_score, k), _by_queries(by_score, q), _by_queries(weights, g), by_bias


def summed_to(x: Any, shape: tuple[int, ...]) -> Any:
    """The sums along the axes on which `shape` has 1."""
    axes = tuple(i for i, (n, m) in enumerate(zip(np.shape(x), shape, strict=True)) if n != m)
    return np.sum(x, axis=axes, keepdims=True) if axes else x


def _weights(q: Any, k: Any, bias: Any, mask: Any, form: Form) -> Any:
    """The softmax of the scores; 0 for a query that sees no key."""
    scores = _scores(q, k)
    if bias is not None:
        scores = scores + bias
    seen = _seen(mask, form.causal, scores)
    if seen is not None:
        scores = np.where(seen, scores, -np.inf)
    e = np.exp(shifted(scores, -1))
    total = np.sum(e, axis=-1, keepdims=True)
    return e / np.where(total == 0, 1.0, total)


def _softmax_jvp(weights: Any, change: Any) -> Any:
    """The change of a softmax, and as its Jacobian is symmetric the gradient by the scores, too."""
    return weights * (change - np.sum(weights * change, axis=-1, keepdims=True))


def _seen(mask: Any, causal: bool, scores: Any) -> Any:
    """Which key each query sees; None where it is every one."""
    if not causal:
        return mask
    time, keys = np.shape(scores)[-2:]
    before = counted(keys, 1, 2, scores) <= counted(time, 0, 2, scores)
    return before if mask is None else mask & before


def _thinned(weights: Any, key: Any, form: Form) -> Any:
    """With dropout."""
    if key is None or form.rate == 0:
        return weights
    kept = bernoulli(key, 1.0 - form.rate, np.shape(weights))
    return np.where(kept, weights / (1.0 - form.rate), 0.0)
