"""Buffers: memory of one value, in a slot of the program or in the arena. Data only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adjit.ir.node import Loc


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory of one value. `slot` is the program's slot, or None for the arena, where `offset` is its place.

    `first` and `last` are the numbers of the kernels that write it first and read it last. It may lie in the place of
    another one, `inside`, which may do so itself: the first of them is its `home`.
    """

    name: str
    dtype: np.dtype
    size: int
    slot: int | None = None
    offset: int = 0
    first: int = -1
    last: int = -1
    loc: Loc | None = None
    inside: Buffer | None = None
    home: Buffer | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize


def storage(buffer: Buffer) -> Buffer:
    """The buffer whose place `buffer` has."""
    return buffer.home or buffer


Param = tuple[Buffer, int]
"""What a parameter of a kernel names: a buffer, and an offset in elements."""
Params = tuple[Param, ...]
