"""The kind of work that sorts: rows of one array into another one, or the positions of their elements."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adjit.ir.types import I64, dtype_name
from adjit.schedule.buffer import Params
from adjit.schedule.touches import Touch
from adjit.schedule.work import Single, Work
from adjit.tuned import NETWORK_ELEMENTS


@dataclass(frozen=True, slots=True)
class Sorted(Single):
    """Of a C-ordered array of (outer, n, inner) the elements along n in order; with `positions`, where each comes from.
    Stable: the bits of the result follow from the operand alone."""

    dtype: np.dtype
    outer: int
    n: int
    inner: int
    positions: bool

    SOURCE: ClassVar[int] = 0
    RESULT: ClassVar[int] = 1
    """Numbers of the kernel's parameters."""
    operands: ClassVar[int] = 2
    packs: ClassVar[bool] = True

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""
        return {self.SOURCE}

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written."""
        return {self.RESULT}

    @property
    def result(self) -> np.dtype:
        """The dtype of the result."""
        return I64 if self.positions else self.dtype

    @property
    def extents(self) -> tuple[int, ...]:
        """The sizes of its result."""
        return self.outer, self.inner, self.n

    @property
    def rows(self) -> int:
        """How many rows are sorted, each by itself."""
        return self.outer * self.inner

    @property
    def by_network(self) -> bool:
        """Whether many short rows are sorted at once, one in each lane."""
        return self.rows > 1 and 1 < self.n <= NETWORK_ELEMENTS

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether these are its operand and its result."""
        return given == (self.dtype, self.result)

    def touches(self) -> Iterator[Touch]:
        """Every element of both, row by row."""
        for param, dtype in ((self.SOURCE, self.dtype), (self.RESULT, self.result)):
            strides = tuple(dtype.itemsize * step for step in (self.n * self.inner, 1, self.inner))
            yield Touch(param, dtype, 0, self.extents, strides, param == self.RESULT)

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        name = "argsort" if self.positions else "sort"
        sizes = f"({self.outer},{self.n},{self.inner})"
        return f"{name} {dtype_name(self.dtype)} {sizes} {places[self.SOURCE]} -> {places[self.RESULT]}"

    def describe(self) -> str:
        """It in a few words."""
        what = "positions in order" if self.positions else "sort"
        return f"{what} of {self.rows} x {self.n} {dtype_name(self.dtype)}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        if self.by_network:
            return "A network sorts as many rows at once as a vector has lanes; nothing joins it."
        return "Each row is sorted by itself; nothing joins it."

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        return "sorts it"

    @property
    def flops(self) -> float:
        """Comparisons, about."""
        return self.rows * self.n * math.log2(max(self.n, 2))

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    def nbytes(self, params: Params) -> float:
        """Bytes of both arrays."""
        return float(sum(buffer.nbytes for buffer, _ in params))
