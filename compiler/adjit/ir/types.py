"""Types of values: `Array(dtype, shape, weak)` and `Tuple`, and the short names of dtypes.

`f32[128,784]`, `f64[]`, `i64[3]`, `bool[4]`; a trailing `~` marks a weak scalar, which came from a Python
number and takes the dtype of the array that it meets. A dimension is an int.
"""

from __future__ import annotations

from dataclasses import dataclass

# By its own name, as the module's attribute is exchanged while a function is traced.
from math import prod

import numpy as np

DTYPE_NAMES: dict[str, np.dtype] = {
    "bool": np.dtype(np.bool_),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}
"""Every dtype of the type system, by its name in IR text."""

_SHORT = {dtype: name for name, dtype in DTYPE_NAMES.items()}

BOOL, I32, I64, U8, F32, F64 = (DTYPE_NAMES[name] for name in ("bool", "i32", "i64", "u8", "f32", "f64"))

COMPILED_DTYPES = frozenset({BOOL, I32, I64, U8, DTYPE_NAMES["u64"], F32, F64})
"""The dtypes that machine code exists for."""

MOST_DIMENSIONS = 64
"""NumPy's bound."""
MOST_BYTES = 2**63 - 1
"""NumPy's bound on the bytes of an array."""


def dtype_name(dtype: np.dtype) -> str:
    """`f32` for float32; the NumPy name where the type system has none."""
    # NumPy works a name out whenever it is asked for one.
    return _SHORT.get(dtype) or dtype.name


def is_float(dtype: np.dtype) -> bool:
    """Whether a derivative can flow through values of this dtype."""
    return dtype.kind == "f"


@dataclass(frozen=True, slots=True)
class Array:
    """An n-dimensional array of one dtype; `weak` only where the shape is ()."""

    dtype: np.dtype
    shape: tuple[int, ...] = ()
    weak: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def problem(self) -> str:
        """Why no array has this type, or "" where one may: NumPy's bounds on dimensions and bytes.

        As in NumPy the bytes count without the extents that are 0, so that strides fit too."""
        if not self.shape:
            return ""
        if len(self.shape) > MOST_DIMENSIONS:
            return f"{len(self.shape)} dimensions, where an array has at most {MOST_DIMENSIONS}"
        if min(self.shape) < 0:
            return f"{self}: negative dimensions are not allowed"
        if self.dtype.itemsize * prod(self.shape) > MOST_BYTES or (
            0 in self.shape and self.dtype.itemsize * prod(n for n in self.shape if n) > MOST_BYTES
        ):
            return f"{self} is too big: its bytes do not fit int64"
        return ""

    def with_shape(self, shape: tuple[int, ...]) -> Array:
        """The same dtype, another shape, not weak."""
        return Array(self.dtype, tuple(shape))

    def with_dtype(self, dtype: np.dtype) -> Array:
        """The same shape, another dtype, not weak."""
        return Array(dtype, self.shape)

    @property
    def strong(self) -> Array:
        """The same type without the weak mark."""
        return Array(self.dtype, self.shape) if self.weak else self

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)}[{','.join(map(str, self.shape))}]{'~' if self.weak else ''}"


@dataclass(frozen=True, slots=True)
class Tuple:
    """What an op with several results has; used only by `item` and `return`."""

    items: tuple[Array, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


Type = Array | Tuple
