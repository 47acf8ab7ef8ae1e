"""The scalar protocol: what an elementwise op may use to say how it is computed.

An op's `scalar=` rule is called with `k`, one of the implementations of `Scalars`, and with its operands as
handles of that implementation: LLVM vectors of any width (codegen/lanes.py).

Handles support Python's operators: `+ - *` on all numbers, `/` on floats (IEEE: x / 0 is inf), unary `-`,
comparisons `< <= > >= ==` and `!=` (false on NaN, `!=` true), `& | ^ ~` on integers and bools, `<< >>` on
integers (the shift count must be within range; `>>` is arithmetic on signed types). A Python number beside a
handle takes the handle's dtype. Integer `+ - *` wrap around. `a.dtype` is the NumPy dtype. Both operands of
an operator have the same dtype; nothing converts silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

Number = float | int | bool


class Lane(Protocol):
    """A handle: one value per lane, of one dtype, with Python's operators."""

    @property
    def dtype(self) -> np.dtype: ...

    def __add__(self, other: Lane | Number) -> Lane: ...
    def __radd__(self, other: Lane | Number) -> Lane: ...
    def __sub__(self, other: Lane | Number) -> Lane: ...
    def __rsub__(self, other: Lane | Number) -> Lane: ...
    def __mul__(self, other: Lane | Number) -> Lane: ...
    def __rmul__(self, other: Lane | Number) -> Lane: ...
    def __truediv__(self, other: Lane | Number) -> Lane: ...
    def __rtruediv__(self, other: Lane | Number) -> Lane: ...
    def __and__(self, other: Lane | Number) -> Lane: ...
    def __or__(self, other: Lane | Number) -> Lane: ...
    def __xor__(self, other: Lane | Number) -> Lane: ...
    def __lshift__(self, other: Lane | Number) -> Lane: ...
    def __rshift__(self, other: Lane | Number) -> Lane: ...
    def __lt__(self, other: Lane | Number) -> Lane: ...
    def __le__(self, other: Lane | Number) -> Lane: ...
    def __gt__(self, other: Lane | Number) -> Lane: ...
    def __ge__(self, other: Lane | Number) -> Lane: ...
    def __eq__(self, other: Lane | Number) -> Lane: ...  # type: ignore[override]
    def __ne__(self, other: Lane | Number) -> Lane: ...  # type: ignore[override]
    def __neg__(self) -> Lane: ...
    def __invert__(self) -> Lane: ...


class Scalars(Protocol):
    """What every implementation offers. Operands and results are `Lane`s; `x` and `y` share one dtype."""

    def const(self, like: Lane, value: float | int | bool) -> Lane:
        """A constant of `like`'s dtype."""

    def cast(self, x: Lane, dtype: np.dtype) -> Lane:
        """NumPy's `astype`; float to integer out of range (and NaN) gives what NumPy gives on x86-64."""

    def bitcast(self, x: Lane, dtype: np.dtype) -> Lane:
        """The same bits read as another dtype of the same size."""

    def select(self, condition: Lane, x: Lane, y: Lane) -> Lane:
        """x where the bool is true, else y; never a product, so a NaN on the other side is harmless."""

    def fma(self, x: Lane, y: Lane, z: Lane) -> Lane:
        """x * y + z, rounded once (floats)."""

    def abs(self, x: Lane) -> Lane:
        """Absolute value; clears the sign bit of floats, wraps at the smallest integer."""

    def sqrt(self, x: Lane) -> Lane:
        """Correctly rounded square root."""

    def copysign(self, x: Lane, y: Lane) -> Lane:
        """|x| with the sign bit of y."""

    def maximum(self, x: Lane, y: Lane) -> Lane:
        """np.maximum: NaN if either is NaN."""

    def minimum(self, x: Lane, y: Lane) -> Lane:
        """np.minimum: NaN if either is NaN."""

    def floor(self, x: Lane) -> Lane: ...
    def ceil(self, x: Lane) -> Lane: ...
    def trunc(self, x: Lane) -> Lane: ...
    def rint(self, x: Lane) -> Lane: ...

    def floor_divide(self, x: Lane, y: Lane) -> Lane:
        """np.floor_divide: floors; of integers x // 0 is 0 and MIN // -1 wraps."""

    def remainder(self, x: Lane, y: Lane) -> Lane:
        """np.remainder: the sign of y; of integers x % 0 is 0."""

    def fmod(self, x: Lane, y: Lane) -> Lane:
        """C's fmod on floats, exact; on integers np.fmod (sign of x, x fmod 0 is 0)."""

    def shift_left(self, x: Lane, y: Lane) -> Lane:
        """np.left_shift: 0 for counts out of range."""

    def shift_right(self, x: Lane, y: Lane) -> Lane:
        """np.right_shift: 0 or -1 for counts out of range."""

    # Mathematics: <= 2 ULP, exact at inf, nan, zero. float32 and float64.
    def exp(self, x: Lane) -> Lane: ...
    def exp2(self, x: Lane) -> Lane: ...
    def expm1(self, x: Lane) -> Lane: ...
    def log(self, x: Lane) -> Lane: ...
    def log2(self, x: Lane) -> Lane: ...
    def log10(self, x: Lane) -> Lane: ...
    def log1p(self, x: Lane) -> Lane: ...
    def sin(self, x: Lane) -> Lane: ...
    def cos(self, x: Lane) -> Lane: ...
    def tan(self, x: Lane) -> Lane: ...
    def arcsin(self, x: Lane) -> Lane: ...
    def arccos(self, x: Lane) -> Lane: ...
    def arctan(self, x: Lane) -> Lane: ...
    def arctan2(self, x: Lane, y: Lane) -> Lane: ...
    def sinh(self, x: Lane) -> Lane: ...
    def cosh(self, x: Lane) -> Lane: ...
    def tanh(self, x: Lane) -> Lane: ...
    def arcsinh(self, x: Lane) -> Lane: ...
    def arccosh(self, x: Lane) -> Lane: ...
    def arctanh(self, x: Lane) -> Lane: ...
    def sigmoid(self, x: Lane) -> Lane: ...
    def erf(self, x: Lane) -> Lane: ...
    def rsqrt(self, x: Lane) -> Lane: ...
    def cbrt(self, x: Lane) -> Lane: ...
    def pow(self, x: Lane, y: Lane) -> Lane:
        """np.power on floats, with all of C99's special cases; on integers wraps (y >= 0)."""

    def threefry(self, key: Lane, counter: Lane) -> Lane:
        """64 bits (int64) of Threefry-2x32-20: key and counter are int64, each read as two 32-bit words, low first."""

    # What mathematics is written with. Rare paths:
    def where_needed(self, condition: Lane, usual: Lane, rare: Callable[[], Lane]) -> Lane:
        """`usual`, but `rare()` where the bool is true: computed only where it is so in any lane."""

    def repeat_while(
        self, start: Sequence[Lane], again: Callable[[list[Lane]], Lane], step: Callable[[list[Lane]], list[Lane]]
    ) -> list[Lane]:
        """Repeat `step` while `again` holds in any lane."""

    def out_of_line(self, name: str, xs: tuple[Lane, ...], rule: Callable[..., Lane]) -> Lane:
        """`rule(kit, *xs)`; an implementation may share its code between uses."""

    # Tables, and steps that some targets have an instruction for (None where there is none):
    def table(self, name: str, values: tuple[float, ...], index: Lane, dtype: np.dtype = ...) -> Lane:
        """The number at `index` (an integer within range) of a constant table."""

    def lookup(self, name: str, values: tuple[float, ...], index: Lane) -> Lane:
        """`values[index % 8]` for a constant table of 8: float64 for an int64 index, float32 for an int32 one."""

    def picks(self, x: Lane) -> bool:
        """Whether `lookup` of numbers like x is one instruction."""

    def scale(self, x: Lane, n: Lane) -> Lane | None:
        """x 2^n, rounded once, for a whole n of x's dtype."""

    def split(self, x: Lane) -> tuple[Lane, Lane] | None:
        """Exponent and mantissa in [1, 2) of a positive x, both of its dtype."""

    def mend(self, y: Lane, x: Lane, responses: int) -> Lane | None:
        """y, but what `responses` say where x is no positive finite number."""
