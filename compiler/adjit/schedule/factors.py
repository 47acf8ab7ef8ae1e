"""The kind of work that factors matrices, or solves equations by their factors: many of one size, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adjit.ir.node import Node
from adjit.ir.types import dtype_name
from adjit.ops.declare import Factoring
from adjit.ops.spectral import qr_shapes, svd_shapes
from adjit.schedule.buffer import Params
from adjit.schedule.touches import Touch
from adjit.schedule.work import Single, Work
from adjit.tuned import SMALL_ROWS

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Factored(Single):
    """An op of the family of `factoring` on `count` matrices of n rows, beside `columns` right-hand sides where there
    are such, or, of rectangular ones, of so many columns; `flags` are those of its attributes that are true. Parameters
    are its operands, those that it reads, then the result; the matrices of one lie one after the other."""

    op: str
    dtype: np.dtype
    count: int
    n: int
    columns: int
    flags: tuple[str, ...] = ()

    packs: ClassVar[bool] = True

    @property
    def is_small(self) -> bool:
        """Whether code of ours has a matrix in each lane."""
        return is_small(self.op, self.n)

    @property
    def sizes(self) -> Sizes:
        """Elements of each parameter for one matrix."""
        return SIZES[self.op](self.n, self.columns)

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""
        return set(range(len(self.sizes) - 1))

    @property
    def writes(self) -> Collection[int]:
        """The result."""
        return {len(self.sizes) - 1}

    @property
    def operands(self) -> int:  # type: ignore[override]
        """All are."""
        return len(self.sizes)

    @property
    def extents(self) -> tuple[int, ...]:
        """Matrices, their rows, and right-hand sides."""
        return self.count, self.n, max(self.columns, 1)

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether these are its operands and its result."""
        return given == (self.dtype,) * len(self.sizes)

    def touches(self) -> Iterator[Touch]:
        """Every element of all parameters."""
        last = len(self.sizes) - 1
        for number, size in enumerate(self.sizes):
            strides = (size * self.dtype.itemsize, self.dtype.itemsize)
            yield Touch(number, self.dtype, 0, (self.count, size), strides, number == last)

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        *given, result = places
        sizes = f"({self.count},{self.n},{self.columns})"
        flags = "".join(f" {flag}" for flag in self.flags)
        return f"factor {self.op} {dtype_name(self.dtype)} {sizes}{flags} on {' '.join(given)} -> {result}"

    def describe(self) -> str:
        """It in a few words."""
        beside = f" beside {self.columns}" if self.columns else ""
        return f"{self.op} of {self.count} x {self.n}x{self.n}{beside}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        return "Works on whole matrices, one or some at a time; nothing joins it."

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        return "works on whole matrices"

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return self.count * FLOPS[self.op](self.n, self.columns)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    def nbytes(self, params: Params) -> float:
        """Bytes of all parameters."""
        return float(sum(buffer.nbytes for buffer, _ in params))


def _total(shapes: Sequence[Sizes]) -> int:
    return sum(map(math.prod, shapes))


SIZES: dict[str, Callable[[int, int], Sizes]] = {
    "cholesky": lambda n, m: (n * n, n * n),
    "cholesky_adjoint": lambda n, m: (n * n, n * n, n * n),
    "lu": lambda n, m: (n * n, n * n + n),
    "triangular_solve": lambda n, m: (n * n, n * m, n * m),
    "solve": lambda n, m: (n * n + n, n * m, n * m),
    "eigh": lambda n, m: (n * n, n + n * n),
    "eigvalsh": lambda n, m: (n * n, n),
    "svd": lambda m, n: (m * n, _total(svd_shapes(m, n, False))),
    "svd_full": lambda m, n: (m * n, _total(svd_shapes(m, n, True))),
    "svdvals": lambda m, n: (m * n, min(m, n)),
    "qr": lambda m, n: (m * n, _total(qr_shapes(m, n, False))),
    "qr_full": lambda m, n: (m * n, _total(qr_shapes(m, n, True))),
}
"""Elements of each parameter for one matrix of n rows, beside m right-hand sides."""

FLAGS = ("lower", "transposed", "unit")
"""What may be true of an op."""

FLOPS: dict[str, Callable[[int, int], float]] = {
    "cholesky": lambda n, m: n**3 / 3,
    "cholesky_adjoint": lambda n, m: 2 * n**3 / 3,
    "lu": lambda n, m: 2 * n**3 / 3,
    "triangular_solve": lambda n, m: n * n * m,
    "solve": lambda n, m: 2 * n * n * m,
    "eigh": lambda n, m: 9 * n**3,
    "eigvalsh": lambda n, m: 4 * n**3 / 3,
    "svd": lambda m, n: 14 * m * n * min(m, n),
    "svd_full": lambda m, n: 14 * m * n * max(m, n),
    "svdvals": lambda m, n: 4 * m * n * min(m, n),
    "qr": lambda m, n: 4 * m * n * min(m, n),
    "qr_full": lambda m, n: 4 * m * n * max(m, n),
}
"""Floating-point operations for one matrix."""


OURS = frozenset({"cholesky", "cholesky_adjoint", "lu", "triangular_solve", "solve"})
"""Those of which code of ours does small matrices."""


def is_small(op: str, rows: int) -> bool:
    """Whether code of ours does matrices of so many rows; LAPACK does the others."""
    return op in OURS and rows <= SMALL_ROWS


def factored(node: Node) -> Factored:
    """The work of a node."""
    assert isinstance(node.op, Factoring)
    first = node.args[0]
    columns = node.shape[-1] if len(node.args) > 1 else first.shape[-1] if node.op.rectangular else 0
    flags = tuple(name for name, value in node.attrs.items() if value)
    return Factored(node.op.name, node.dtype, math.prod(first.shape[:-2]), first.shape[-2], columns, flags)
