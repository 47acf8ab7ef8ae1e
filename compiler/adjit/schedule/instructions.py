"""What a kernel computes, as instructions over scalars. Data only.

A **body** is a tuple of instructions in order; an instruction's operands are the numbers of earlier ones. Memory is
named by parameter: parameter p is a pointer to an element of one buffer, and an access adds `coefficients . index`
elements to it. So two kernels that differ only in buffers and offsets have equal bodies, are emitted once and are
called twice.

Levels of a loop kernel with reduced dimensions: an instruction whose value varies along no reduced dimension is
computed once for each point of the others ("row"); a `Reduce` turns a value that varies into a row's.

Stores that fill memory together, as each writes every n-th element of it and there are n, are written as whole vectors:
a body says which (`beside`), as its parameters are where they lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Bounds = tuple[tuple[int, tuple[int, ...], int], ...]
"""Predicates (constant, coefficients, n): 0 <= constant + coefficients . index < n, all of them."""


@dataclass(frozen=True, slots=True)
class Load:
    """The element at parameter + coefficients . index; where a bound fails memory is not touched (the value is 0)."""

    param: int
    coefficients: tuple[int, ...]
    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Gather:
    """The element at parameter + coefficients . index + stride * value of `at`, which is held within [0, size)."""

    param: int
    coefficients: tuple[int, ...]
    at: int
    stride: int
    size: int
    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class ProductElement:
    """In the epilogue of a contraction: the finished element of the product."""

    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Const:
    """A constant; `bits` tells apart what == does not (nan, -0.0)."""

    value: Any
    bits: bytes
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Index:
    """constant + coefficients . index, as a number."""

    constant: int
    coefficients: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Inside:
    """Whether all bounds hold."""

    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise op of the registry."""

    op: str
    args: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Reduce:
    """A reduction op over the reduced dimensions; argmax and argmin give the linear index over them."""

    op: str
    arg: int
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Store:
    """Write the value of `arg` at parameter + coefficients . index."""

    param: int
    coefficients: tuple[int, ...]
    arg: int
    dtype: np.dtype


Instruction = Load | Gather | ProductElement | Const | Index | Inside | Apply | Reduce | Store


def operands(instruction: Instruction) -> tuple[int, ...]:
    """The numbers of the instructions that an instruction reads."""
    if isinstance(instruction, Apply):
        return instruction.args
    if isinstance(instruction, (Reduce, Store)):
        return (instruction.arg,)
    if isinstance(instruction, Gather):
        return (instruction.at,)
    return ()


@dataclass(frozen=True, slots=True)
class Body:
    """Instructions over a domain; `reduced` lists the domain's reduced dimensions; `params` the dtype of each; `beside`
    the numbers of stores that fill memory together, in the order of their places."""

    domain: tuple[int, ...]
    reduced: tuple[int, ...]
    params: tuple[np.dtype, ...]
    code: tuple[Instruction, ...]
    beside: tuple[tuple[int, ...], ...] = ()
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        # Each layer of a network asks for it several times.
        if self._hash == 0:
            object.__setattr__(self, "_hash", hash((self.domain, self.reduced, self.params, self.code, self.beside)))
        return self._hash

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Load | Gather)}

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Store)}


def side_by_side(
    code: Sequence[Instruction], domain: tuple[int, ...], params: Sequence[tuple[object, int]], first: int = 0
) -> tuple[tuple[int, ...], ...]:
    """Stores that fill memory together, in the order of their places: n of them, at least n elements apart along every
    dimension. `params` are buffers and first elements, from the parameter numbered `first` on."""
    alike: dict[tuple[object, tuple[int, ...]], dict[int, int]] = {}
    for number, store in enumerate(code):
        if isinstance(store, Store):
            steps = tuple(c for c, n in zip(store.coefficients, domain, strict=True) if c and n > 1)
            buffer, offset = params[store.param - first]
            if min(steps, default=1) > 1:
                alike.setdefault((buffer, steps), {})[offset] = number
    found = []
    for (_, steps), stores in alike.items():
        for start in stores:
            places = range(start, start + min(steps))
            if start - 1 not in stores and places.stop not in stores and all(place in stores for place in places):
                found.append(tuple(stores[place] for place in places))
    return tuple(found)
