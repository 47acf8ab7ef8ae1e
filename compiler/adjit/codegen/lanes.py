"""Lanes: the scalar protocol over LLVM vectors, or over LLVM scalars where `lanes` is 0.

Every meaning is NumPy's, also where LLVM's instruction is undefined: division by zero, MIN // -1, shifts that are too
wide, floats that no integer holds. Mathematics is inherited, written once over the operations below."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen import x86
from adjit.codegen.llvm import Function, Value, literal, register_type
from adjit.ops.mathematics import Mathematics
from adjit.ops.scalar import Number

BOOL = np.dtype(np.bool_)
FLOAT64 = np.dtype(np.float64)


class Lane:
    """A value in each lane, of one dtype, with Python's operators."""

    __slots__ = ("dtype", "kit", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kit: Lanes, value: Value, dtype: np.dtype) -> None:
        self.kit = kit
        self.value = value
        self.dtype = dtype

    def _binary(self, other: Operand, floats: str, integers: str, swap: bool = False) -> Lane:
        other = self.kit.lift(other, self)
        a, b = (other, self) if swap else (self, other)
        opcode = floats if self.dtype.kind == "f" else integers
        return self.kit.wrap(self.kit.function.binary(opcode, a.value, b.value), self.dtype)

    def _compare(self, other: Operand, floats: str, signed: str, unsigned: str) -> Lane:
        other = self.kit.lift(other, self)
        predicate = {"f": floats, "i": signed}.get(self.dtype.kind, unsigned)
        return self.kit.wrap(self.kit.function.compare(predicate, self.value, other.value), BOOL)

    def __add__(self, other: Operand) -> Lane:
        return self._binary(other, "fadd", "add")

    def __radd__(self, other: Operand) -> Lane:
        return self._binary(other, "fadd", "add", swap=True)

    def __sub__(self, other: Operand) -> Lane:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: Operand) -> Lane:
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other: Operand) -> Lane:
        return self._binary(other, "fmul", "mul")

    def __rmul__(self, other: Operand) -> Lane:
        return self._binary(other, "fmul", "mul", swap=True)

    def __truediv__(self, other: Operand) -> Lane:
        return self._binary(other, "fdiv", "sdiv")

    def __rtruediv__(self, other: Operand) -> Lane:
        return self._binary(other, "fdiv", "sdiv", swap=True)

    def __neg__(self) -> Lane:
        if self.dtype.kind == "f":
            return self.kit.wrap(self.kit.function.unary("fneg", self.value), self.dtype)
        return self.kit.const(self, 0) - self

    def __and__(self, other: Operand) -> Lane:
        return self._binary(other, "and", "and")

    def __or__(self, other: Operand) -> Lane:
        return self._binary(other, "or", "or")

    def __xor__(self, other: Operand) -> Lane:
        return self._binary(other, "xor", "xor")

    def __invert__(self) -> Lane:
        return self ^ self.kit.const(self, True if self.dtype.kind == "b" else -1)

    def __lshift__(self, other: Operand) -> Lane:
        return self._binary(other, "shl", "shl")

    def __rshift__(self, other: Operand) -> Lane:
        shift = "ashr" if self.dtype.kind == "i" else "lshr"
        return self._binary(other, shift, shift)

    def __lt__(self, other: Operand) -> Lane:
        return self._compare(other, "olt", "slt", "ult")

    def __le__(self, other: Operand) -> Lane:
        return self._compare(other, "ole", "sle", "ule")

    def __gt__(self, other: Operand) -> Lane:
        return self._compare(other, "ogt", "sgt", "ugt")

    def __ge__(self, other: Operand) -> Lane:
        return self._compare(other, "oge", "sge", "uge")

    def __eq__(self, other: Operand) -> Lane:  # type: ignore[override]
        return self._compare(other, "oeq", "eq", "eq")

    def __ne__(self, other: Operand) -> Lane:  # type: ignore[override]
        return self._compare(other, "une", "ne", "ne")


class Lanes(Mathematics):
    """See `ops.scalar.Scalars`; code goes to `function`, with `lanes` lanes (0: plain scalars)."""

    def __init__(self, function: Function, lanes: int) -> None:
        self.function = function
        self.lanes = lanes

    # -- handles -------------------------------------------------------------------------------------------------------

    def wrap(self, value: Value, dtype: np.dtype) -> Lane:
        """A handle on an LLVM value."""
        return Lane(self, value, dtype)

    def lift(self, x: Operand, like: Lane) -> Lane:
        """A handle, or a Python number as a constant of `like`'s dtype."""
        return x if isinstance(x, Lane) else self.const(like, x)

    def const(self, like: Lane, value: float | int | bool) -> Lane:
        return self.wrap(literal(like.value.ty, value), like.dtype)

    def _call(self, name: str, *xs: Lane) -> Lane:
        ty = xs[0].value.ty
        return self.wrap(self.function.intrinsic(name, ty, [x.value for x in xs]), xs[0].dtype)

    # -- conversions ---------------------------------------------------------------------------------------------------

    def bitcast(self, x: Lane, dtype: np.dtype) -> Lane:
        ty = register_type(dtype).vector(x.value.ty.lanes)
        return self.wrap(self.function.convert("bitcast", x.value, ty), dtype)

    def cast(self, x: Lane, dtype: np.dtype) -> Lane:
        if x.dtype == dtype:
            return x
        f = self.function
        ty = register_type(dtype).vector(x.value.ty.lanes)
        source, target = x.dtype.kind, dtype.kind
        if target == "b":
            return x != self.const(x, 0)
        if source == "f" and target == "f":
            return self.wrap(f.convert("fpext" if dtype.itemsize > x.dtype.itemsize else "fptrunc", x.value, ty), dtype)
        if target == "f":
            return self.wrap(f.convert("sitofp" if source == "i" else "uitofp", x.value, ty), dtype)
        if source == "f":
            return self._float_to_integer(x, dtype)
        width = 1 if source == "b" else x.dtype.itemsize * 8
        if ty.bits == width:
            return self.wrap(x.value, dtype)
        opcode = "trunc" if ty.bits < width else ("sext" if source == "i" else "zext")
        return self.wrap(f.convert(opcode, x.value, ty), dtype)

    def _float_to_integer(self, x: Lane, dtype: np.dtype) -> Lane:
        """Truncation; what does not fit gives the smallest integer, as x86's instructions and so NumPy have it.

        Types narrower than 32 bits go through int32, uint64 through int64 in two halves."""
        f = self.function
        if dtype.itemsize < 4:
            return self.cast(self._float_to_integer(x, np.dtype(np.int32)), dtype)
        signed = np.dtype(np.int32) if dtype.itemsize == 4 else np.dtype(np.int64)
        if dtype.kind == "u" and dtype.itemsize == 8:
            half = float(2**63)
            low = self._float_to_integer(x, signed)
            high = self._float_to_integer(x - half, signed) ^ self.const(low, np.iinfo(np.int64).min)
            return self.wrap(self.select(x >= half, high, low).value, dtype)
        bound = float(2 ** (signed.itemsize * 8 - 1))
        fits = (x >= -bound) & (x < bound)
        safe = self.select(fits, x, self.const(x, 0.0))
        ty = register_type(signed).vector(x.value.ty.lanes)
        whole = self.wrap(f.convert("fptosi", safe.value, ty), signed)
        result = self.select(fits, whole, self.const(whole, np.iinfo(signed).min))
        return self.wrap(result.value, dtype)

    # -- choice and simple functions -----------------------------------------------------------------------------------

    def select(self, condition: Lane, x: Lane, y: Lane) -> Lane:
        return self.wrap(self.function.select(condition.value, x.value, y.value), x.dtype)

    def fma(self, x: Lane, y: Operand, z: Operand) -> Lane:
        y, z = self.lift(y, x), self.lift(z, x)
        return self.wrap(self.function.fma(x.value, y.value, z.value), x.dtype)

    def abs(self, x: Lane) -> Lane:
        if x.dtype.kind == "f":
            return self._call("fabs", x)
        if x.dtype.kind == "u":
            return x
        return self.select(x < 0, -x, x)

    def sqrt(self, x: Lane) -> Lane:
        return self._call("sqrt", x)

    def copysign(self, x: Lane, y: Lane) -> Lane:
        return self._call("copysign", x, y)

    def maximum(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.kind != "f":
            return self.select(x > y, x, y)
        # x where it is larger or NaN, else y, which may be NaN itself.
        return self.select((x > y) | (x != x), x, y)

    def minimum(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.kind != "f":
            return self.select(x < y, x, y)
        return self.select((x < y) | (x != x), x, y)

    def floor(self, x: Lane) -> Lane:
        return self._call("floor", x)

    def ceil(self, x: Lane) -> Lane:
        return self._call("ceil", x)

    def trunc(self, x: Lane) -> Lane:
        return self._call("trunc", x)

    def rint(self, x: Lane) -> Lane:
        return self._call("rint", x)

    # -- integers ------------------------------------------------------------------------------------------------------

    def _divide(self, x: Lane, y: Lane) -> tuple[Lane, Lane]:
        """Quotient towards zero and remainder, defined for every operand: x / 0 is (0, x), MIN / -1 wraps."""
        f = self.function
        one = self.const(y, 1)
        zero = y == 0
        if x.dtype.kind == "u":
            safe = self.select(zero, one, y)
            quotient = self.wrap(f.binary("udiv", x.value, safe.value), x.dtype)
            rest = self.wrap(f.binary("urem", x.value, safe.value), x.dtype)
            return self.select(zero, self.const(x, 0), quotient), self.select(zero, x, rest)
        minus = y == -1
        safe = self.select(zero | minus, one, y)
        quotient = self.wrap(f.binary("sdiv", x.value, safe.value), x.dtype)
        rest = self.wrap(f.binary("srem", x.value, safe.value), x.dtype)
        quotient = self.select(zero, self.const(x, 0), self.select(minus, -x, quotient))
        return quotient, self.select(zero, x, rest)

    def floor_divide(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.kind == "f":
            floor: Lane = self._float_floor_divide(x, y)
            return floor
        quotient, rest = self._divide(x, y)
        if x.dtype.kind == "u":
            return quotient
        lower = (rest != 0) & ((rest ^ y) < 0) & (y != 0)
        return self.select(lower, quotient - 1, quotient)

    def remainder(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.kind == "f":
            exact: Lane = self._float_remainder(x, y)
            return exact
        _, rest = self._divide(x, y)
        zero = self.const(x, 0)
        rest = self.select(y == 0, zero, rest)
        if x.dtype.kind == "u":
            return rest
        return self.select((rest != 0) & ((rest ^ y) < 0), rest + y, rest)

    def fmod(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.kind == "f":
            exact: Lane = self._float_fmod(x, y)
            return exact
        _, rest = self._divide(x, y)
        return self.select(y == 0, self.const(x, 0), rest)

    def shift_left(self, x: Lane, y: Lane) -> Lane:
        bits = x.dtype.itemsize * 8
        wide = (y < 0) | (y >= bits) if y.dtype.kind == "i" else y >= bits
        zero = self.const(x, 0)
        return self.select(wide, zero, x << self.select(wide, self.const(y, 0), y))

    def shift_right(self, x: Lane, y: Lane) -> Lane:
        bits = x.dtype.itemsize * 8
        wide = (y < 0) | (y >= bits) if y.dtype.kind == "i" else y >= bits
        moved = x >> self.select(wide, self.const(y, 0), y)
        zero = self.const(x, 0)
        beyond = self.select(x < 0, self.const(x, -1), zero) if x.dtype.kind == "i" else zero
        return self.select(wide, beyond, moved)

    # -- control, for the rare paths of mathematics --------------------------------------------------------------------

    def any(self, condition: Lane) -> Value:
        """Whether a bool is true in any lane."""
        ty = condition.value.ty
        if not ty.lanes:
            return condition.value
        return self.function.intrinsic("vector.reduce.or", ty.scalar, (condition.value,), (ty,))

    def where_needed(self, condition: Lane, usual: Lane, rare: Callable[[], Lane]) -> Lane:
        """`usual`, except in the lanes where `condition` holds: there `rare()`, computed only if any lane needs it."""
        f = self.function

        def compute() -> list[Value]:
            return [self.select(condition, rare(), usual).value]

        (value,) = f.branch(self.any(condition), compute, lambda: [usual.value])
        return self.wrap(value, usual.dtype)

    def repeat_while(
        self, start: Sequence[Lane], again: Callable[[list[Lane]], Lane], step: Callable[[list[Lane]], list[Lane]]
    ) -> list[Lane]:
        """Repeat `step` on a list of handles while `again` holds in any lane."""
        f = self.function
        dtypes = [lane.dtype for lane in start]

        def body(values: list[Value]) -> list[Value]:
            lanes = [self.wrap(v, d) for v, d in zip(values, dtypes, strict=True)]
            return [lane.value for lane in step(lanes)]

        def test(values: list[Value]) -> Value:
            return self.any(again([self.wrap(v, d) for v, d in zip(values, dtypes, strict=True)]))

        values = f.while_loop([lane.value for lane in start], test, body)
        return [self.wrap(v, d) for v, d in zip(values, dtypes, strict=True)]

    def table(self, name: str, values: tuple[float, ...], index: Lane, dtype: np.dtype = FLOAT64) -> Lane:
        """The number at `index` (an integer within range) of a constant table."""
        f = self.function
        pointer = f.module.constant_table(name, dtype, values)
        ty = register_type(dtype)
        if not index.value.ty.lanes:
            return self.wrap(f.load(f.element(pointer, ty, index.value), ty), dtype)
        return self.wrap(f.gather(pointer, ty.vector(index.value.ty.lanes), index.value, None), dtype)

    def lookup(self, name: str, values: tuple[float, ...], index: Lane) -> Lane:
        """`values[index % 8]` for a constant table of 8: float64 for an int64 index, float32 for an int32 one."""
        dtype = np.dtype(np.float64 if index.dtype.itemsize == 8 else np.float32)
        ty = register_type(dtype).vector(index.value.ty.lanes)
        chosen = x86.permute(self.function, values, ty, index.value)
        return self.table(name, values, index & 7, dtype) if chosen is None else self.wrap(chosen, dtype)

    def picks(self, x: Lane) -> bool:
        """Whether `lookup` of numbers like x is one instruction: all eight are in a register."""
        target = self.function.module.target
        return target is not None and target.permutes and target.vector_bytes >= 8 * x.dtype.itemsize

    # -- steps of mathematics that some targets have an instruction for; None where there is none ----------------------

    def scale(self, x: Lane, n: Lane) -> Lane | None:
        """x 2^n, rounded once, for a whole n of x's dtype."""
        value = x86.scale(self.function, x.value, n.value)
        return None if value is None else self.wrap(value, x.dtype)

    def split(self, x: Lane) -> tuple[Lane, Lane] | None:
        """Exponent and mantissa in [1, 2) of a positive x, both of its dtype."""
        parts = x86.split(self.function, x.value)
        return None if parts is None else (self.wrap(parts[0], x.dtype), self.wrap(parts[1], x.dtype))

    def mend(self, y: Lane, x: Lane, responses: int) -> Lane | None:
        """y, but what `responses` say where x is no positive finite number."""
        value = x86.mend(self.function, y.value, x.value, responses)
        return None if value is None else self.wrap(value, y.dtype)

    # -- functions of the module ---------------------------------------------------------------------------------------

    def out_of_line(self, name: str, xs: tuple[Lane, ...], rule: Callable[..., Lane]) -> Lane:
        """`rule(kit, *xs)` as a function of the module, written once for each dtype and number of lanes."""
        f = self.function
        ty = xs[0].value.ty
        # Signed and unsigned integers are one type of LLVM's, but not one function.
        symbol = f"adjit_{name}_{'u' if xs[0].dtype.kind == 'u' else ''}{ty.suffix}"
        if symbol not in f.module.defined:
            inner = f.module.function(symbol, ty, [(ty, f"x{i}") for i in range(len(xs))], internal=True)
            kit = Lanes(inner, self.lanes)
            result = rule(kit, *(kit.wrap(p, x.dtype) for p, x in zip(inner.params, xs, strict=True)))
            inner.ret(result.value)
        return self.wrap(f.call(symbol, ty, [x.value for x in xs]), xs[0].dtype)


Operand = Lane | Number
