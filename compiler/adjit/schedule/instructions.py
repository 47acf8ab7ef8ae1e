"""What a kernel computes, as instructions over scalars. Data only.

A **body** is a tuple of instructions in order; an instruction's operands are the numbers of earlier ones. Memory is
named by parameter: parameter p is a pointer to an element of one buffer, and an access adds `coefficients . index`
elements to it. So two kernels that differ only in buffers and offsets have equal bodies, are emitted once and are
called twice.

Levels of a loop kernel with reduced dimensions: an instruction whose value varies along no reduced dimension is
computed once for each point of the others ("row"); a `Reduce` turns a value that varies into a row's.
"""

from __future__ import annotations

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
    """Instructions over a domain; `reduced` lists the domain's reduced dimensions; `params` the dtype of each."""

    domain: tuple[int, ...]
    reduced: tuple[int, ...]
    params: tuple[np.dtype, ...]
    code: tuple[Instruction, ...]
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        # Each layer of a network asks for it several times.
        if self._hash == 0:
            object.__setattr__(self, "_hash", hash((self.domain, self.reduced, self.params, self.code)))
        return self._hash

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Load | Gather)}

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Store)}
