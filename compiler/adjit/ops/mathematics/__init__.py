"""Vector mathematics: each function written once over the basic operations of the scalar protocol.

`Mathematics` is inherited by every implementation of the protocol. Short functions are written where they are used;
long ones go through `out_of_line`, which an implementation may turn into a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.ops.mathematics import elementary, special, trigonometry

Lane = Any
"""A handle of the class that inherits, which the functions take for a `scalar.Lane`."""


class Mathematics:
    """The mathematical half of `ops.scalar.Scalars`."""

    def out_of_line(self, name: str, xs: tuple[Lane, ...], rule: Callable[..., Any]) -> Lane:
        """`rule(kit, *xs)`; an implementation may share its code between uses."""
        return rule(self, *xs)

    def exp(self: Any, x: Lane) -> Lane:
        return elementary.exp(self, x)

    def log(self: Any, x: Lane) -> Lane:
        return elementary.log(self, x)

    def sigmoid(self: Any, x: Lane) -> Lane:
        return elementary.sigmoid(self, x)

    def exp2(self: Any, x: Lane) -> Lane:
        return elementary.exp2(self, x)

    def log2(self: Any, x: Lane) -> Lane:
        return elementary.log2(self, x)

    def log10(self: Any, x: Lane) -> Lane:
        return elementary.log10(self, x)

    def tanh(self: Any, x: Lane) -> Lane:
        if x.dtype.itemsize == 4:
            return elementary.tanh(self, x)
        return self.out_of_line("tanh", (x,), elementary.tanh)

    def expm1(self, x: Lane) -> Lane:
        return self.out_of_line("expm1", (x,), elementary.expm1)

    def log1p(self, x: Lane) -> Lane:
        return self.out_of_line("log1p", (x,), elementary.log1p)

    def sinh(self, x: Lane) -> Lane:
        return self.out_of_line("sinh", (x,), elementary.sinh)

    def cosh(self, x: Lane) -> Lane:
        return self.out_of_line("cosh", (x,), elementary.cosh)

    def arcsinh(self, x: Lane) -> Lane:
        return self.out_of_line("arcsinh", (x,), elementary.arcsinh)

    def arccosh(self, x: Lane) -> Lane:
        return self.out_of_line("arccosh", (x,), elementary.arccosh)

    def arctanh(self, x: Lane) -> Lane:
        return self.out_of_line("arctanh", (x,), elementary.arctanh)

    def cbrt(self, x: Lane) -> Lane:
        return self.out_of_line("cbrt", (x,), elementary.cbrt)

    def sin(self, x: Lane) -> Lane:
        return self.out_of_line("sin", (x,), trigonometry.sin)

    def cos(self, x: Lane) -> Lane:
        return self.out_of_line("cos", (x,), trigonometry.cos)

    def tan(self, x: Lane) -> Lane:
        return self.out_of_line("tan", (x,), trigonometry.tan)

    def arcsin(self, x: Lane) -> Lane:
        return self.out_of_line("arcsin", (x,), trigonometry.arcsin)

    def arccos(self, x: Lane) -> Lane:
        return self.out_of_line("arccos", (x,), trigonometry.arccos)

    def arctan(self, x: Lane) -> Lane:
        return self.out_of_line("arctan", (x,), trigonometry.arctan)

    def arctan2(self, x: Lane, y: Lane) -> Lane:
        return self.out_of_line("arctan2", (x, y), trigonometry.arctan2)

    def erf(self, x: Lane) -> Lane:
        return self.out_of_line("erf", (x,), special.erf)

    def rsqrt(self: Any, x: Lane) -> Lane:
        return 1.0 / self.sqrt(x)

    def pow(self, x: Lane, y: Lane) -> Lane:
        """x^y; of integers modulo 2^bits."""
        if np.dtype(x.dtype).kind == "f":
            return self.out_of_line("pow", (x, y), special.float_pow)
        return self.out_of_line("integer_pow", (x, y), special.integer_pow)

    def _float_fmod(self, x: Lane, y: Lane) -> Lane:
        return self.out_of_line("fmod", (x, y), special.float_fmod)

    def _float_remainder(self, x: Lane, y: Lane) -> Lane:
        return self.out_of_line("remainder", (x, y), special.float_remainder)

    def _float_floor_divide(self, x: Lane, y: Lane) -> Lane:
        return self.out_of_line("floor_divide", (x, y), special.float_floor_divide)

    def threefry(self: Any, key: Lane, counter: Lane) -> Lane:
        return special.threefry(self, key, counter)
