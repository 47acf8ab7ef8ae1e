"""Attention in tiles, blocks of queries against blocks of keys: no array of all scores.

Forwards each block of queries goes along its keys and carries the largest score, the sum and the weighted values so
far. Backwards each block of keys goes along its queries: weights are computed again, from scores and the logarithm of
what the softmax divided by; gradients of keys and values are carried, those of queries added to in place. The order of
sums depends on shapes alone. Arrays are those of `weights`. Sources: Milakov and Gimelshein 2018 (a softmax
that runs along), Dao et al. 2022 and Dao 2023 (tiles, forwards and backwards)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adjit.control import fori_loop, map, scan
from adjit.custom import CustomRule
from adjit.ir.types import I64
from adjit.nn.attending.weights import (
    Form,
    composed,
    composed_gradients,
    composed_gradients_jvp,
    composed_jvp,
    summed_to,
)
from adjit.random import chosen
from adjit.trace import lower
from adjit.trace.integers import bound
from adjit.tuned import ATTENTION_BLOCKS, ATTENTION_PARTS, ATTENTION_UNIT


@dataclass(frozen=True, slots=True)
class _Blocks:
    """How queries and keys of one head are cut. The last blocks are filled up."""

    groups: int
    time: int
    keys: int

    @classmethod
    def of(cls, q: Any, k: Any) -> _Blocks:
        """Of one head's queries and keys."""
        *_, groups, time, _ = np.shape(q)
        return cls(groups, time, np.shape(k)[-2])

    @property
    def rows(self) -> int:
        """Queries of a block, which are those of all groups at so many times."""
        return _even(self.time, max(ATTENTION_UNIT, ATTENTION_BLOCKS[0] // self.groups))

    @property
    def columns(self) -> int:
        """Keys of a block."""
        return _even(self.keys, ATTENTION_BLOCKS[1])

    @property
    def down(self) -> int:
        """Blocks of queries."""
        return -(-self.time // self.rows)

    @property
    def across(self) -> int:
        """Blocks of keys."""
        return -(-self.keys // self.columns)

    def cut_rows(self, x: Any, axis: int = 1) -> Any:
        """(groups, time, ...) as (down, groups, rows, ...)."""
        return _cut(x, axis, self.rows, self.down)

    def cut_columns(self, x: Any, axis: int = 0) -> Any:
        """(keys, ...) as (across, columns, ...)."""
        return _cut(x, axis, self.columns, self.across)

    def joined_rows(self, x: Any, axis: int = 1) -> Any:
        """(down, groups, rows, ...) as (groups, time, ...)."""
        return _joined(x, axis, self.time)

    def joined_columns(self, x: Any, axis: int = 0) -> Any:
        """(across, columns, ...) as (keys, ...)."""
        return _joined(x, axis, self.keys)


def _even(size: int, most: int) -> int:
    """The size of blocks of about `most`, which are as few as those would be, and alike."""
    each = -(-size // -(-size // most))
    return -(-each // ATTENTION_UNIT) * ATTENTION_UNIT


def _cut(x: Any, axis: int, size: int, count: int) -> Any:
    """An axis in `count` blocks of `size`, which are a new axis in front of all; zeros fill the last one."""
    shape = np.shape(x)
    missing = size * count - shape[axis]
    if missing:
        x = np.concatenate([x, np.zeros((*shape[:axis], missing, *shape[axis + 1 :]), x.dtype)], axis=axis)
    x = np.reshape(x, (*shape[:axis], count, size, *shape[axis + 1 :]))
    return np.moveaxis(x, axis, 0)


def _joined(x: Any, axis: int, size: int) -> Any:
    """Blocks along axis 0 as one axis of `size`, the other way round."""
    x = np.moveaxis(x, 0, axis)
    shape = np.shape(x)
    x = np.reshape(x, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))
    return x[(slice(None),) * axis + (slice(size),)]


def _each(f: Callable[..., Any], levels: Sequence[int], *arrays: Any) -> Any:
    """f of the parts of `arrays` at each place of their first axes, the `levels`, stacked. An array that has 1 there is
    the same at all places along the axis; None stays None."""
    if not levels:
        return f(*arrays)
    size, *others = levels
    moving = tuple(x if x is not None and np.shape(x)[0] == size else None for x in arrays)
    still = [x if x is None or moves is not None else x[0] for x, moves in zip(arrays, moving, strict=True)]

    def one(parts: Sequence[Any]) -> Any:
        return _each(f, others, *_first(parts, still))

    return map(one, moving)


def _first(parts: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Each part, or where there is none the other one."""
    return [other if part is None else part for part, other in zip(parts, others, strict=True)]


def _at(blocks: Any, i: Any) -> Any:
    """The block of that number, of what is cut; what is not is itself."""
    return blocks[i] if np.ndim(blocks) == 4 else blocks


def _turns(count: Any, most: int) -> Any:
    """A number of turns, of which there are so many at most."""
    found = lower.weak_cast(count, I64)
    bound(found, 0, most)
    return found


# -- a tile ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tile:
    """One tile of scores, (groups, rows, columns): `row` and `column` are the place of its first query and key; parts
    of bias and mask that lie there."""

    head: _Head
    row: Any
    column: Any
    bias: Any
    mask: Any

    def scores(self, q: Any, k: Any) -> Any:
        """Of queries (groups, rows, features) and keys (columns, features)."""
        found = _product(q, k.T)
        return found if self.bias is None else found + self.bias

    def seen(self, x: Any, other: float) -> Any:
        """The scores, or what was made of them, with `other` for a key that is not seen."""
        b = self.head.blocks
        column = lower.iota((1, 1, b.columns), 2, _PLACE)
        if self.mask is not None:
            x = np.where(self.mask, x, other)
        if self.head.form.causal:
            row = lower.iota((1, b.rows, 1), 1, _PLACE) + _place(self.row - self.column)
            x = np.where(column <= row, x, other)
        if b.keys % b.columns:
            x = np.where(column < _place(b.keys - self.column), x, other)
        return x

    def thinned(self, weights: Any) -> Any:
        """With dropout, as `weights` has it of all weights."""
        head, b = self.head, self.head.blocks
        if head.number is None:
            return weights
        group, row, column = (lower.iota(np.shape(weights), axis, I64) for axis in range(3))
        places = ((head.number * b.groups + group) * b.time + (self.row + row)) * b.keys + (self.column + column)
        kept = chosen(head.key, 1.0 - head.form.rate, places)
        return np.where(kept, weights / (1.0 - head.form.rate), 0.0)


_PLACE = np.dtype(np.int32)


def _place(x: Any) -> Any:
    """A place in a tile as int32: as many lanes as scores have."""
    return lower.cast(x, _PLACE)


def _product(x: Any, y: Any) -> Any:
    """(groups, rows, any) of (groups, rows, n) and (n, any), as one product."""
    flat = np.reshape(x, (-1, np.shape(x)[-1])) @ y
    return np.reshape(flat, (*np.shape(x)[:2], np.shape(y)[-1]))


def _summed(x: Any, y: Any) -> Any:
    """(columns, any) of (groups, rows, columns) and (groups, rows, any)."""
    return np.reshape(x, (-1, np.shape(x)[-1])).T @ np.reshape(y, (-1, np.shape(y)[-1]))


# -- a head ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Head:
    """One head of keys, and the groups of queries that share it; `number` is None where nothing is dropped."""

    blocks: _Blocks
    form: Form
    bias: Any
    mask: Any
    number: Any
    key: Any
    parts: int = 1
    """Into how many the blocks of keys are parted backwards: each has gradients of all queries, which are added up."""

    def _rows(self) -> tuple[Any, Any]:
        """Bias and mask for each block of queries; None for what is the same for all."""
        return self._cut(1, self.blocks.cut_rows)

    def _columns(self) -> tuple[Any, Any]:
        """Bias and mask for each block of keys; None for what is the same for all."""
        return self._cut(2, self.blocks.cut_columns)

    def _cut(self, axis: int, cut: Callable[[Any, int], Any]) -> tuple[Any, Any]:
        bias, mask = (None if x is None or np.shape(x)[axis] == 1 else cut(x, axis) for x in (self.bias, self.mask))
        return bias, mask

    def part(self, parts: Sequence[Any]) -> _Head:
        """With these parts of bias and mask, where there are such."""
        bias, mask = _first(parts, (self.bias, self.mask))
        return replace(self, bias=bias, mask=mask)

    def forwards(self, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        """What each query gets, (groups, time, size), and the logarithm of what its softmax divides by."""
        b = self.blocks
        k, v = b.cut_columns(k), b.cut_columns(v)
        starts = b.rows * np.arange(b.down)
        turns = np.minimum(b.across, (starts + b.rows - 1) // b.columns + 1)

        def block(x: Any) -> tuple[Any, Any]:
            q, start, count, *own = x
            head = self.part(own)
            bias, mask = _first(head._columns(), (head.bias, head.mask))

            def turn(i: Any, now: Any) -> Any:
                top, total, y = now
                tile = _Tile(self, start, i * b.columns, _at(bias, i), _at(mask, i))
                scores = tile.seen(tile.scores(q, k[i]), -np.inf)
                new = np.maximum(top, np.max(scores, axis=-1))
                # Of a query that has seen no key yet the difference would be NaN.
                base = np.where(new == -np.inf, 0.0, new)
                weights, before = np.exp(scores - base[..., None]), np.exp(top - base)
                total = total * before + np.sum(weights, axis=-1)
                return new, total, y * before[..., None] + _product(tile.thinned(weights), v[i])

            zeros = np.zeros((b.groups, b.rows), q.dtype)
            first = (zeros - np.inf, zeros, np.zeros((b.groups, b.rows, np.shape(v)[-1]), q.dtype))
            count = _turns(count, b.across) if self.form.causal else b.across
            top, total, y = fori_loop(0, count, turn, first)
            divisor = np.where(total == 0, 1.0, total)
            return y / divisor[..., None], np.where(total == 0, 0.0, top) + np.log(divisor)

        y, log = map(block, (b.cut_rows(q), starts, turns, *self._rows()))
        return b.joined_rows(y), b.joined_rows(log)

    def backwards(self, q: Any, k: Any, v: Any, g: Any, log: Any, mean: Any) -> tuple[Any, ...]:
        """The gradients by q, k, v and bias; `mean` is what each query's result gives times its gradient `g`."""
        b = self.blocks
        q, g, log, mean = (b.cut_rows(x) for x in (q, g, log, mean))
        starts = b.columns * np.arange(b.across)
        turns = np.maximum(0, b.down - starts // b.rows)
        parts = self.parts

        def block(by_q: Any, x: Any) -> tuple[Any, Any]:
            k, v, start, count, *own = x
            head = self.part(own)
            bias, mask = _first(head._rows(), (head.bias, head.mask))

            def turn(i: Any, now: Any) -> Any:
                by_q, by_k, by_v, by_bias = now
                r = b.down - 1 - i
                tile = _Tile(self, r * b.rows, start, _at(bias, r), _at(mask, r))
                weights = tile.seen(np.exp(tile.scores(q[r], k) - log[r][..., None]), 0.0)
                by_weights = tile.thinned(_product(g[r], v.T))
                by_scores = weights * (by_weights - mean[r][..., None])
                by_q[r] += _product(by_scores, k)
                by_k, by_v = by_k + _summed(by_scores, q[r]), by_v + _summed(tile.thinned(weights), g[r])
                return by_q, by_k, by_v, self._added(by_bias, r, by_scores)

            first = (by_q, np.zeros_like(k), np.zeros_like(v), None if bias is None else np.zeros_like(bias))
            count = _turns(count, b.down) if self.form.causal else b.down
            by_q, *found = fori_loop(0, count, turn, first)
            return by_q, tuple(found)

        def some(x: Any) -> Any:
            return scan(block, np.zeros_like(q), x)

        def apart(x: Any) -> Any:
            """What blocks have, those of each part together."""
            if x is None:
                return None
            return np.moveaxis(np.reshape(x, (b.across // parts, parts, *np.shape(x)[1:])), 1, 0)

        def together(x: Any) -> Any:
            return np.reshape(np.moveaxis(x, 0, 1), (b.across, *np.shape(x)[2:]))

        xs = (b.cut_columns(k), b.cut_columns(v), starts, turns, *self._columns())
        by_q, found = map(some, tuple(apart(x) for x in xs))
        by_k, by_v, by_bias = (x if x is None else together(x) for x in found)
        if by_bias is not None:
            by_bias = self._joined_bias(by_bias)
        return b.joined_rows(np.sum(by_q, axis=0)), b.joined_columns(by_k), b.joined_columns(by_v), by_bias

    def _added(self, by_bias: Any, r: Any, by_scores: Any) -> Any:
        """The gradient of the bias beside a block of keys, with that of the tile in row `r`."""
        if by_bias is None:
            return None
        if np.ndim(by_bias) == 3:
            return by_bias + summed_to(by_scores, np.shape(by_bias))
        by_bias[r] = summed_to(by_scores, np.shape(by_bias)[1:])
        return by_bias

    def _joined_bias(self, x: Any) -> Any:
        """The gradient of the bias of one head, of those beside blocks of keys."""
        b = self.blocks
        return (
            b.joined_columns(x, 2) if np.ndim(x) == 4 else b.joined_columns(b.joined_rows(np.moveaxis(x, 1, 0), 2), 2)
        )


# -- the whole ---------------------------------------------------------------------------------------------------------


def _forwards(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, form: Form) -> tuple[Any, Any]:
    """What each query gets, (*levels, groups, time, size), and the logarithm of what its softmax divides by."""

    def head(q: Any, k: Any, v: Any, bias: Any, mask: Any, number: Any) -> tuple[Any, Any]:
        return _Head(_Blocks.of(q, k), form, bias, mask, number, key).forwards(q, k, v)

    levels = np.shape(k)[:-2]
    return _each(head, levels, q, k, v, bias, mask, _numbers(levels, form, key))  # type: ignore[no-any-return]


def _numbers(levels: Sequence[int], form: Form, key: Any) -> Any:
    """A number for each head, where dropout asks for it."""
    if key is None or form.rate == 0:
        return None
    return np.arange(math.prod(levels)).reshape(levels)[()]


def _value(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, form: Form) -> Any:
    return _forwards(q, k, v, bias, mask, key, form)[0]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    return composed(*primals), composed_jvp(primals, tangents)


def _vjp(q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, form: Form) -> tuple[Any, Callable[[Any], Any]]:
    y, log = _forwards(q, k, v, bias, mask, key, form)

    def pullback(g: Any) -> tuple[Any, ...]:
        return (*_gradients(q, k, v, bias, mask, key, g, y, log, form), None, None, None)

    return y, pullback


def _plain_gradients(
    q: Any, k: Any, v: Any, bias: Any, mask: Any, key: Any, g: Any, y: Any, log: Any, form: Form
) -> tuple[Any, ...]:
    """The gradients by q, k, v and bias, where that by the result `y` is `g`."""
    mean = np.sum(g * y, axis=-1)

    def head(q: Any, k: Any, v: Any, bias: Any, mask: Any, number: Any, g: Any, log: Any, mean: Any) -> Any:
        return _Head(_Blocks.of(q, k), form, bias, mask, number, key, parts).backwards(q, k, v, g, log, mean)

    levels = np.shape(k)[:-2]
    # Threads share heads where there are enough.
    parts = 1 if math.prod(levels) >= ATTENTION_PARTS else math.gcd(_Blocks.of(q, k).across, ATTENTION_PARTS)
    *found, by_bias = _each(head, levels, q, k, v, bias, mask, _numbers(levels, form, key), g, log, mean)
    return (*found, by_bias if bias is None else summed_to(by_bias, np.shape(bias)))


def _gradients_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    # The result and its logarithm are functions of the rest: what they change is in the change of that.
    given, changes = ((*x[:7], x[9]) for x in (primals, tangents))
    return composed_gradients(*given), composed_gradients_jvp(given, changes)


_gradients = CustomRule(_plain_gradients, _gradients_jvp, None, pure=True)
tiled = CustomRule(_value, _jvp, _vjp, pure=True)
"""Attention as `weights.composed` has it, in tiles, with rules for its derivatives."""
