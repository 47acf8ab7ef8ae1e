"""Random graphs of all dtypes and all ops of the registry, in which no rounding can tip a choice.

A value is exact where machine code has the bits of the evaluator: inputs, integers, bools, and what arithmetic makes of
such. Comparisons, rounding, casts to integers and positions are taken of exact values only."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from tests.ops.samples import COMPUTED, DTYPES, domain_of, takes

SIZES = (1, 2, 3, 5, 7, 8, 10, 13, 14, 16, 17, 31, 33, 70)
MOST_ELEMENTS = 5_000
BOOL, I64 = np.dtype(np.bool_), np.dtype(np.int64)
EXACT_COST = 6
"""An op that costs as much or less is rounded as NumPy rounds it."""
ELEMENTWISE = [op for name in COMPUTED if isinstance(op := OPS[name], Elementwise) and name not in ("cast", "select")]
REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "cumsum", "cumprod")


class Mixture:
    """Grows one graph from a seed."""

    def __init__(self, seed: int, dtypes: list[np.dtype] = DTYPES) -> None:
        self.choose = random.Random(seed)
        self.dtypes = dtypes
        self.b = Builder()
        self.values: list[Value] = []
        self.exact: set[Any] = set()
        for i in range(self.choose.randint(2, 4)):
            shape = tuple(self.choose.choice(SIZES) for _ in range(self.choose.randint(0, 2)))
            self._add(self.b.value(self.b.input(f"x{i}", Array(self.choose.choice(dtypes), shape))), True)

    def _add(self, value: Value, exact: bool) -> Value:
        if exact:
            self.exact.add(value.node)
        if value.node.array_type.size <= MOST_ELEMENTS:
            self.values.append(value)
        return value

    def _pick(self, fits: Callable[[Value], bool] = lambda v: True, exact: bool = False) -> Value | None:
        fitting = [v for v in self.values if fits(v) and (not exact or v.node in self.exact)]
        return self.choose.choice(fitting) if fitting else None

    def _as(self, x: Value, dtype: np.dtype) -> Value:
        """A value of another dtype; the cast of what is not exact stays among floats."""
        if x.dtype == dtype:
            return x
        cast = self.b.cast(x, dtype=dtype)
        if x.node in self.exact:
            self.exact.add(cast.node)
        return cast

    def _like(self, x: Value, dtype: np.dtype, exact: bool) -> Value:
        """A value of the shape of `x`: an earlier one, a broadcast one, or a constant."""
        found = self._pick(lambda v: v.shape == x.shape and (v.dtype == dtype or v.dtype.kind != "f"), exact)
        if found is not None and self.choose.random() < 0.7:
            return self._as(found, dtype)
        for axis, n in enumerate(x.shape):
            row = self._pick(lambda v, n=n: v.shape == (n,), True)
            if row is not None:
                wide = self.b.broadcast(row, shape=x.shape, axes=(axis,))
                self.exact.add(wide.node)
                return self._as(wide, dtype)
        constant = self.b.full(
            self.choose.choice((False, True) if dtype.kind == "b" else (0, 1, 3)), Array(dtype, x.shape)
        )
        self.exact.add(constant.node)
        return constant

    def grow(self) -> None:
        """Add one op, where operands fit."""
        steps = (self.elementwise, self.elementwise, self.reduce, self.move, self.select, self.index, self.contract)
        self.choose.choice(steps)()

    def elementwise(self) -> None:
        """Any elementwise op."""
        op = self.choose.choice(ELEMENTWISE)
        tame = op.cost <= EXACT_COST
        dtypes = [d for d in self.dtypes if takes(op, d) and not (op.name == "pow" and d.kind in "iu")]
        x = self._pick(exact=tame)
        if x is None or not dtypes:
            return
        dtype = x.dtype if x.dtype in dtypes else self.choose.choice(dtypes)
        if x.node not in self.exact and dtype.kind != "f":
            return
        operands = [self._as(x, dtype)]
        operands += [self._like(x, dtype, tame) for _ in range((op.arity or 1) - 1)]
        if not tame:
            operands = [self._within(v, *domain_of(op, i)) for i, v in enumerate(operands)]
        self._add(getattr(self.b, op.name)(*operands), tame or dtype.kind != "f")

    def _within(self, x: Value, low: float, high: float) -> Value:
        """Values of a domain; those of integers are what they are."""
        return self.b.sigmoid(x) * (high - low) + low if x.dtype.kind == "f" else x

    def reduce(self) -> None:
        """Any reduction, position or running sum."""
        x = self._pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        name, n = self.choose.choice(REDUCTIONS), len(x.shape)
        exact = x.node in self.exact
        if name in ("any", "all"):
            if not exact:
                return
            x = self._as(x, BOOL)
        elif x.dtype == BOOL:
            x = self._as(x, self.choose.choice([d for d in self.dtypes if d != BOOL]))
        if name.startswith("arg"):
            if exact:
                self._add(getattr(self.b, name)(x, axis=self.choose.randrange(n)), True)
            return
        if x.dtype.kind == "f" and name in ("sum", "prod", "cumsum", "cumprod"):
            x, exact = self.b.tanh(x), False
        if name.startswith("cum"):
            axis, reverse = self.choose.randrange(n), self.choose.random() < 0.5
            self._add(getattr(self.b, name)(x, axis=axis, reverse=reverse), exact)
            return
        axes = tuple(sorted(self.choose.sample(range(n), self.choose.randint(1, n))))
        result = self._add(getattr(self.b, name)(x, axes=axes), exact)
        if self.choose.random() < 0.5:
            kept = tuple(i for i in range(n) if i not in axes)
            self._add(self.b.broadcast(result, shape=x.shape, axes=kept), exact)

    def move(self) -> None:
        """Any movement."""
        x = self._pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        b, shape, rank = self.b, x.shape, len(x.shape)
        kind = self.choose.randrange(6)
        exact = x.node in self.exact
        if kind == 0:
            result = b.transpose(x, axes=tuple(self.choose.sample(range(rank), rank)))
        elif kind == 1:
            result = b.flip(x, axes=(self.choose.randrange(rank),))
        elif kind == 2:
            start = tuple(self.choose.randrange(n) for n in shape)
            stop = tuple(self.choose.randint(i + 1, n) for i, n in zip(start, shape, strict=True))
            result = b.slice(x, start=start, stop=stop, step=tuple(self.choose.randint(1, 3) for _ in shape))
        elif kind == 3:
            low, high, interior = (tuple(self.choose.randint(0, 2) for _ in shape) for _ in range(3))
            value = x.dtype.type(self.choose.choice((0, 1))).item()
            result = b.pad(x, low=low, high=high, interior=interior, value=value)
        elif kind == 4:
            other = self._like(x, x.dtype, False)
            exact = exact and other.node in self.exact
            result = b.concatenate(x, other, axis=self.choose.randrange(rank))
        else:
            total = int(np.prod(shape))
            divisor = self.choose.choice([d for d in range(1, total + 1) if total % d == 0])
            result = b.reshape(x, shape=self.choose.choice(((total,), (divisor, total // divisor))))
        self._add(result, exact)

    def select(self) -> None:
        """A choice by an exact bool."""
        x = self._pick()
        if x is None:
            return
        condition, y = self._like(x, BOOL, True), self._like(x, x.dtype, False)
        if condition.node in self.exact:
            chosen = self.b.value(self.b.emit("select", condition.node, x.node, y.node))
            self._add(chosen, x.node in self.exact and y.node in self.exact)

    def index(self) -> None:
        """Elements taken, replaced or added, at places that a constant or a sum of integers gives."""
        x = self._pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        axis, exact = self.choose.randrange(len(x.shape)), x.node in self.exact
        n = x.shape[axis]
        shape = self.choose.choice(((), (2,), (17,), (3, 5)))
        if int(np.prod(x.shape)) // n * int(np.prod(shape)) > MOST_ELEMENTS:
            return
        rng = np.random.default_rng(self.choose.randrange(10**6))
        at = self.b.value(self.b.array(np.asarray(rng.integers(-n, n, size=shape), dtype=np.int64)))
        at = self.b.check_index(at, size=n, axis=axis)
        taken = self.b.take(x, at, axis=axis)
        kind = self.choose.randrange(3)
        if kind == 0:
            self._add(taken, exact)
        elif kind == 1 and x.dtype != BOOL:
            added = self.b.tanh(taken) if x.dtype.kind == "f" else taken
            self._add(self.b.scatter_add(x, at, added, axis=axis), exact and x.dtype.kind != "f")
        else:
            self._add(self.b.scatter(x, at, taken, axis=axis), exact)

    def contract(self) -> None:
        """A product, with what comes after it."""
        x = self._pick(lambda v: len(v.shape) == 2 and v.dtype != BOOL)
        if x is None:
            return
        exact = x.node in self.exact and x.dtype.kind != "f"
        x = self.b.tanh(x) if x.dtype.kind == "f" else x
        other = self._pick(lambda v: len(v.shape) == 2 and x.shape[1] in v.shape and v.dtype == x.dtype)
        if other is None:
            self._add(self.b.contract(x, x, spec=self.choose.choice(("ik,jk->ij", "ki,kj->ij", "ij,ij->i"))), exact)
            return
        spec = "ik,kj->ij" if other.shape[0] == x.shape[1] else "ik,jk->ij"
        product = self.b.contract(x, other, spec=spec)
        self._add(product, exact and other.node in self.exact)
        if x.dtype.kind == "f":
            self._add(self.b.tanh(product + self._like(product, x.dtype, False)), False)

    def graph(self, steps: int, outputs: int = 4) -> Graph:
        """Grow and close."""
        for _ in range(steps):
            self.grow()
        return self.b.graph("mixture", [v.node for v in self.values[-outputs:]])
