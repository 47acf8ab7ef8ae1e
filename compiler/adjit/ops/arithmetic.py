"""Elementwise arithmetic, comparison, logic, select and cast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import BOOL, Array
from adjit.ops.declare import Elementwise, elementwise, sympy_name
from adjit_runtime.errors import DTypeError, ShapeError

add = elementwise(
    "add", numpy=np.add, arity=2, accepts="iuf", symbolic=lambda x, y: x + y,
    vjp=lambda b, g, z, x, y: (g, g), linear=((0, 1),), scalar=lambda k, x, y: x + y,
)  # fmt: skip
sub = elementwise(
    "sub", numpy=np.subtract, arity=2, accepts="iuf", symbolic=lambda x, y: x - y,
    vjp=lambda b, g, z, x, y: (g, -g), linear=((0, 1),), scalar=lambda k, x, y: x - y,
)  # fmt: skip
mul = elementwise(
    "mul", numpy=np.multiply, arity=2, accepts="iuf", symbolic=lambda x, y: x * y, singular=True,
    # By a finite constant.
    regular=lambda node: any(arg.is_splat and math.isfinite(arg.attrs["value"]) for arg in node.args),
    vjp=lambda b, g, z, x, y: (g * y, g * x), linear=((0,), (1,)), scalar=lambda k, x, y: x * y,
)  # fmt: skip
div = elementwise(
    "div", numpy=np.true_divide, arity=2, symbolic=lambda x, y: x / y, singular=True, cost=4,
    regular=lambda node: node.args[1].is_splat and abs(node.args[1].attrs["value"]) > 0,
    domain=((-3.0, 3.0), (0.3, 3.0)),
    vjp=lambda b, g, z, x, y: _quotient_rule(g / y, z), linear=((0,),), scalar=lambda k, x, y: x / y,
)  # fmt: skip
neg = elementwise(
    "neg", numpy=np.negative, accepts="if", symbolic=lambda x: -x,
    vjp=lambda b, g, y, x: (-g,), linear=((0,),), scalar=lambda k, x: -x,
)  # fmt: skip
abs_ = elementwise(
    "abs", numpy=np.absolute, accepts="iuf", symbolic=sympy_name("Abs"),
    vjp=lambda b, g, y, x: (b.select(x < 0, -g, b.select(x > 0, g, 0 * g)),),
    scalar=lambda k, x: k.abs(x),
)  # fmt: skip
sign = elementwise(
    "sign", numpy=np.sign, accepts="iuf", symbolic=sympy_name("sign"),
    vjp=lambda b, g, y, x: (None,),
    # The last select hands NaN through.
    scalar=lambda k, x: k.select(
        x > 0, k.const(x, 1), k.select(x < 0, k.const(x, -1), k.select(x == 0, k.const(x, 0), x))
    ),
)  # fmt: skip
maximum = elementwise(
    "maximum", numpy=np.maximum, arity=2, accepts="iuf",
    vjp=lambda b, g, z, x, y: _extremum(b, g, x > y, x < y), scalar=lambda k, x, y: k.maximum(x, y),
    symbolic=lambda x, y: sympy_name("Max")(x, y),
)  # fmt: skip
minimum = elementwise(
    "minimum", numpy=np.minimum, arity=2, accepts="iuf",
    vjp=lambda b, g, z, x, y: _extremum(b, g, x < y, x > y), scalar=lambda k, x, y: k.minimum(x, y),
    symbolic=lambda x, y: sympy_name("Min")(x, y),
)  # fmt: skip


def _quotient_rule(by_x: Any, z: Any) -> tuple[Any, Any]:
    """One division for both: d/dy is -z times d/dx."""
    return by_x, -by_x * z


def _extremum(b: Builder, g: Value, first: Value, second: Value) -> tuple[Value, Value]:
    """A tie gives half to each side; masks are selects, never products."""
    half = g * 0.5
    return b.select(first, g, b.select(second, 0.0, half)), b.select(second, g, b.select(first, 0.0, half))


floor_divide = elementwise(
    "floor_divide", numpy=np.floor_divide, arity=2, accepts="iuf", cost=40, domain=((-7.0, 7.0), (0.5, 2.0)),
    symbolic=lambda x, y: sympy_name("floor")(x / y),
    vjp=lambda b, g, z, x, y: (None, None), scalar=lambda k, x, y: k.floor_divide(x, y),
)  # fmt: skip
remainder = elementwise(
    "remainder", numpy=np.remainder, arity=2, accepts="iuf", cost=40, domain=((-7.0, 7.0), (0.5, 2.0)), singular=True,
    # SymPy has no derivative of Mod.
    symbolic=lambda x, y: x - y * sympy_name("floor")(x / y),
    vjp=lambda b, g, z, x, y: (g, -g * b.floor_divide(x, y)), scalar=lambda k, x, y: k.remainder(x, y),
)  # fmt: skip
fmod = elementwise(
    "fmod", numpy=np.fmod, arity=2, accepts="iuf", cost=30, domain=((-7.0, 7.0), (0.5, 2.0)), singular=True,
    # x / y itself may round up to the next whole number; less the remainder it is whole but for its last bits.
    vjp=lambda b, g, z, x, y: (g, -g * b.rint((x - z) / y)), scalar=lambda k, x, y: k.fmod(x, y),
)  # fmt: skip

eq = elementwise(
    "eq", numpy=np.equal, arity=2, accepts="biuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Eq"), scalar=lambda k, x, y: x == y,
)  # fmt: skip
ne = elementwise(
    "ne", numpy=np.not_equal, arity=2, accepts="biuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Ne"), scalar=lambda k, x, y: x != y,
)  # fmt: skip
lt = elementwise(
    "lt", numpy=np.less, arity=2, accepts="iuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Lt"), scalar=lambda k, x, y: x < y,
)  # fmt: skip
le = elementwise(
    "le", numpy=np.less_equal, arity=2, accepts="iuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Le"), scalar=lambda k, x, y: x <= y,
)  # fmt: skip
gt = elementwise(
    "gt", numpy=np.greater, arity=2, accepts="iuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Gt"), scalar=lambda k, x, y: x > y,
)  # fmt: skip
ge = elementwise(
    "ge", numpy=np.greater_equal, arity=2, accepts="iuf", result="bool", exempt="a truth value",
    symbolic=sympy_name("Ge"), scalar=lambda k, x, y: x >= y,
)  # fmt: skip
and_ = elementwise(
    "and", numpy=np.bitwise_and, arity=2, accepts="biu", exempt="bits", symbolic=sympy_name("And"),
    scalar=lambda k, x, y: x & y,
)  # fmt: skip
or_ = elementwise(
    "or", numpy=np.bitwise_or, arity=2, accepts="biu", exempt="bits", symbolic=sympy_name("Or"),
    scalar=lambda k, x, y: x | y,
)  # fmt: skip
xor = elementwise(
    "xor", numpy=np.bitwise_xor, arity=2, accepts="biu", exempt="bits", symbolic=sympy_name("Xor"),
    scalar=lambda k, x, y: x ^ y,
)  # fmt: skip
not_ = elementwise(
    "not", numpy=np.invert, accepts="biu", exempt="bits", symbolic=sympy_name("Not"), scalar=lambda k, x: ~x,
)  # fmt: skip
shift_left = elementwise(
    "shift_left", numpy=np.left_shift, arity=2, accepts="iu", exempt="bits", scalar=lambda k, x, y: k.shift_left(x, y),
)  # fmt: skip
shift_right = elementwise(
    "shift_right", numpy=np.right_shift, arity=2, accepts="iu", exempt="bits",
    scalar=lambda k, x, y: k.shift_right(x, y),
)  # fmt: skip
isnan = elementwise(
    "isnan", numpy=np.isnan, result="bool", exempt="a truth value", scalar=lambda k, x: x != x,
    symbolic=lambda x: sympy_name("sympify")(False),
)  # fmt: skip
isfinite = elementwise(
    "isfinite", numpy=np.isfinite, result="bool", exempt="a truth value",
    symbolic=lambda x: sympy_name("sympify")(True),
    scalar=lambda k, x: k.abs(x) < k.const(x, float("inf")),
)  # fmt: skip
signbit = elementwise(
    "signbit", numpy=np.signbit, result="bool", exempt="a truth value", symbolic=lambda x: sympy_name("Lt")(x, 0),
    scalar=lambda k, x: k.copysign(k.const(x, 1.0), x) < k.const(x, 0.0),
)  # fmt: skip
copysign = elementwise(
    "copysign", numpy=np.copysign, arity=2, domain=(0.5, 3.0),
    symbolic=lambda x, y: sympy_name("Piecewise")((abs(x), y >= 0), (-abs(x), True)),
    vjp=lambda b, g, z, x, y: (g * b.copysign(1.0, x) * b.copysign(1.0, y), None),
    scalar=lambda k, x, y: k.copysign(x, y),
)  # fmt: skip
stop_gradient = elementwise(
    "stop_gradient", numpy=lambda x: x, accepts="biuf", exempt="blocks the derivative: that is its meaning",
    symbolic=lambda x: x,
    scalar=lambda k, x: x,
)  # fmt: skip


def _select_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    condition, x, y = types
    if condition.dtype != BOOL:
        raise DTypeError(f"select: the condition is {condition}, not bool")
    if not condition.shape == x.shape == y.shape:
        raise ShapeError(f"select: shapes differ, {condition}, {x} and {y}")
    if x.dtype != y.dtype:
        raise DTypeError(f"select: dtypes differ, {x} and {y}; cast one with .astype")
    return Array(x.dtype, x.shape, all(t.weak for t in types))


select = register(
    Elementwise(
        name="select",
        kind="elementwise",
        arity=3,
        infer=_select_type,
        evaluate=np.where,
        # The engine has its own rule for select: it is where guards are made.
        vjp=lambda b, g, y, c, x, z: (None, b.select(c, g, 0.0), b.select(c, 0.0, g)),
        linear=((1, 2),),
        scalar=lambda k, c, x, y: k.select(c, x, y),
        symbolic=lambda c, x, y: sympy_name("Piecewise")((x, c), (y, True)),
    )
)


def _cast_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    return Array(attrs["dtype"], types[0].shape, attrs.get("weak", False))


def _evaluate_cast(x: np.ndarray, *, dtype: np.dtype, weak: bool = False) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(dtype)


cast = register(
    Elementwise(
        name="cast",
        kind="elementwise",
        arity=1,
        infer=_cast_type,
        evaluate=_evaluate_cast,
        attr_kinds={"dtype": "dtype", "weak": "bool"},
        vjp=lambda b, g, y, x, dtype, weak=False: (
            b.cast(g, dtype=x.dtype) if dtype.kind == "f" and x.dtype.kind == "f" else None,
        ),
        linear=((0,),),
        # Tangents are not weak.
        homogeneous=lambda attrs: {"dtype": attrs["dtype"]},
        scalar=lambda k, x, dtype, weak=False: k.cast(x, dtype),
        symbolic=lambda x: x,
    )
)


def _bits_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    key, counter = types
    if key.dtype.name != "int64" or counter.dtype.name != "int64":
        raise DTypeError(f"random_bits: key and counter are int64, not {key} and {counter}")
    if key.shape != counter.shape:
        raise ShapeError(f"random_bits: shapes differ, {key} and {counter}")
    return counter.strong


def _evaluate_bits(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    return threefry(np.asarray(key), np.asarray(counter))


def threefry(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) on int64 words, the low 32 bits first."""
    low = np.uint64(0xFFFFFFFF)
    k = key.astype(np.int64).view(np.uint64) if key.ndim else np.uint64(int(key) & 0xFFFFFFFFFFFFFFFF)
    c = counter.astype(np.int64).view(np.uint64) if counter.ndim else np.uint64(int(counter) & 0xFFFFFFFFFFFFFFFF)
    k0, k1 = (k & low).astype(np.uint32), (k >> np.uint64(32)).astype(np.uint32)
    x0, x1 = (c & low).astype(np.uint32), (c >> np.uint64(32)).astype(np.uint32)
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    with np.errstate(over="ignore"):
        x0, x1 = x0 + keys[0], x1 + keys[1]
        for turn in range(20):
            rotation = rotations[turn % 8]
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x1 ^ x0
            if turn % 4 == 3:
                step = turn // 4 + 1
                x0 = x0 + keys[step % 3]
                x1 = x1 + keys[(step + 1) % 3] + np.uint32(step)
    word = (np.asarray(x1).astype(np.uint64) << np.uint64(32)) | np.asarray(x0).astype(np.uint64)
    return word.astype(np.uint64).view(np.int64)


random_bits = register(
    Elementwise(
        name="random_bits",
        kind="elementwise",
        arity=2,
        infer=_bits_type,
        evaluate=_evaluate_bits,
        scalar=lambda k, key, counter: k.threefry(key, counter),
        cost=80,
        exempt="bits",
    )
)
