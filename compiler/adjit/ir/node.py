"""Nodes. A node is its value: op, args, attrs, type, loc.

Frozen, compared and hashed by identity: structural equality of a shared graph is exponential, and of a deep one
overflows the stack. Every walk is a loop over `graph.nodes`, never a recursion.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from adjit.ir.op import Attrs, Op
from adjit.ir.quote import printable
from adjit.ir.types import Array, Type


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in the user's source: file, line, and where known the columns [column, end_column) of the expression."""

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None

    def __str__(self) -> str:
        name = self.file.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        return f"{printable(name) or '?'}:{self.line}"


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """An array that a graph holds as a constant, by name and digest; `array` is None where a text left it unbound.

    Two `Data` are the same constant where dtype, shape and digest agree.
    """

    name: str
    digest: str
    array: np.ndarray | None

    @staticmethod
    def of(array: np.ndarray, name: str) -> Data:
        """Keep `array` (a read-only C-ordered copy of it) under `name`."""
        kept = np.array(array, order="C", copy=True)
        kept.flags.writeable = False
        return Data(name, digest_of(kept), kept)


def digest_of(array: np.ndarray) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of dtype, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def same_bits(a: float, b: float) -> bool:
    """Whether two numbers are equal, zeros by their sign."""
    return a == b and math.copysign(1, a) == math.copysign(1, b)


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One value of a graph."""

    op: Op
    args: tuple[Node, ...]
    attrs: Attrs
    type: Type
    loc: Loc | None = field(default=None)

    @property
    def array_type(self) -> Array:
        """The type of a node that is an array; a tuple here is a fault of the compiler."""
        if not isinstance(self.type, Array):
            raise self._no_array()
        return self.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array node."""
        # Asked for more often than anything else of a node.
        try:
            return self.type.shape  # type: ignore[union-attr]
        except AttributeError:
            raise self._no_array() from None

    @property
    def dtype(self) -> np.dtype:
        """Dtype of an array node."""
        try:
            return self.type.dtype  # type: ignore[union-attr]
        except AttributeError:
            raise self._no_array() from None

    def _no_array(self) -> TypeError:
        return TypeError(f"{self.op.name} gives a tuple where an array is needed")

    @property
    def is_splat(self) -> bool:
        """Whether this is a constant with one value in every element."""
        return self.op.name == "constant" and "value" in self.attrs

    def __repr__(self) -> str:
        return f"<{self.op.name} : {self.type}>"
