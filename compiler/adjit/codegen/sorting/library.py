"""The functions that sort one row: elements become keys, these are sorted, and become elements or positions again.

Values are sorted alone. Positions of 32-bit elements are the lower halves of 64-bit numbers whose upper halves
are keys, which are sorted alone as well; those of 64-bit elements go beside their keys. What a key does not tell of a
float, the sign of a zero and the bits of a NaN, is put back from the row, where these stand in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adjit.codegen.llvm import I1, I64, PTR, VOID, Function, Module, Ty, Value, int_literal, literal, type_of
from adjit.codegen.sorting.keys import infinity, is_special, key_type, largest, smallest, to_key, to_number
from adjit.codegen.sorting.quick import Quicksort
from adjit.ir.types import dtype_name
from adjit_runtime.target import Target

SLACK = 16
"""Elements behind each array in the workspace: a vector of any target."""
ALIGN = 8
"""Elements that arrays in the workspace are whole multiples of."""


def workspace_bytes(dtype: np.dtype, positions: bool, n: int) -> int:
    """Bytes that a function needs for a row of n elements."""
    arrays = 2 if positions and dtype.itemsize == 8 else 1
    return arrays * (8 if positions else dtype.itemsize) * ((n + SLACK + ALIGN - 1) // ALIGN * ALIGN)


def emit_sorting_library(module: Module, target: Target, dtype: np.dtype, positions: bool) -> None:
    """Write the function of a dtype, and those that it calls."""
    name = f"adjit_{'argsort' if positions else 'sort'}_{dtype_name(dtype)}"
    if positions:
        _Positions(module, target, dtype).emit(name)
    else:
        _Values(module, target, dtype).emit(name)


class _Row:
    """A function that is being written: a row from `x` to `out`."""

    def __init__(self, module: Module, target: Target, dtype: np.dtype) -> None:
        self.module = module
        self.target = target
        self.dtype = dtype
        self.bits = key_type(dtype)
        self.lanes = target.vector_bytes // dtype.itemsize

    def open(self, name: str) -> None:
        steps = [(PTR, "x"), (I64, "x_step"), (PTR, "out"), (I64, "out_step"), (I64, "n"), (PTR, "workspace")]
        self.f = self.module.function(name, VOID, steps)
        self.x, self.x_step, self.out, self.out_step, self.n, self.workspace = self.f.params
        padded = self.f.add(self.n, SLACK + ALIGN - 1)
        self._stretch = self.f.binary("and", padded, int_literal(-ALIGN))
        self._dense_out = self.f.compare("eq", self.out_step, int_literal(1))

    def array(self, number: int, ty: Ty) -> Value:
        """An array of the workspace."""
        return self.f.element(self.workspace, ty, self.f.mul(self._stretch, number))

    def result_or(self, array: Value) -> Value:
        """The result, where its elements are adjacent, or an array in its place."""
        return self.f.select(self._dense_out, self.out, array)

    def each(
        self,
        step: Value,
        lanes: int,
        carried: Callable[[int], list[Value]],
        body: Callable[[Value, int, list[Value]], list[Value]],
    ) -> tuple[list[Value], list[Value]]:
        """`body` by vectors, where the elements of a row are adjacent, and for the others one by one; what each of the
        two loops carries to its end."""
        f = self.f
        whole = f.binary("and", self.n, int_literal(-lanes))
        whole = f.select(f.compare("eq", step, int_literal(1)), whole, int_literal(0))
        wide = f.loop(0, whole, lanes, carried(lanes), lambda i, values: body(i, lanes, values))
        return wide, f.loop(whole, self.n, 1, carried(0), lambda i, values: body(i, 0, values))

    def place(self, array: Value, ty: Ty, step: Value, i: Value, lanes: int) -> Value:
        """Where element i of a row stands; in vectors they are adjacent."""
        return self.f.element(array, ty, i if lanes else self.f.mul(i, step))

    def read(self, i: Value, lanes: int) -> Value:
        """The bits of the operand's elements."""
        ty = self.bits.vector(lanes)
        return self.f.load(self.place(self.x, ty, self.x_step, i, lanes), ty)


class _Values(_Row):
    def emit(self, name: str) -> None:
        restore = self._emit_restore(f"{name}_restore") if self.dtype.kind == "f" else ""
        number = self.bits.with_kind(self.dtype.kind if self.dtype.kind == "f" else "i", self.bits.bits)
        sort = Quicksort(self.module, number, False, self.target).emit()
        self.open(name)
        f = self.f
        keys = self.result_or(self.array(0, self.bits))
        special = self._fill(keys)
        f.call(sort, VOID, [keys, self.n])
        if self.dtype.kind == "u":
            self._give(keys)
        else:
            f.branch(f.compare("ne", self.out_step, int_literal(1)), lambda: self._give(keys))
        if restore:

            def again() -> list[Value]:
                f.call(restore, VOID, [self.x, self.x_step, self.out, self.out_step, self.n])
                return []

            f.branch(special, again)
        f.ret()

    def _fill(self, keys: Value) -> Value:
        """Make the keys; whether a float is special."""
        f, is_float = self.f, self.dtype.kind == "f"

        def none(lanes: int) -> list[Value]:
            return [literal(I1.vector(lanes), False)] if is_float else []

        def one(i: Value, lanes: int, found: list[Value]) -> list[Value]:
            bits = self.read(i, lanes)
            f.store(to_number(f, bits, self.dtype), f.element(keys, bits.ty, i))
            return [f.binary("or", found[0], is_special(f, bits))] if is_float else []

        wide, single = self.each(self.x_step, self.lanes, none, one)
        if not is_float:
            return literal(I1, False)
        lanes = type_of("i", self.lanes, 0)
        some = f.compare("ne", f.convert("bitcast", wide[0], lanes), literal(lanes, 0))
        return f.binary("or", some, single[0])

    def _give(self, keys: Value) -> list[Value]:
        """What was sorted as the result."""
        f = self.f

        def one(i: Value, lanes: int, _: list[Value]) -> list[Value]:
            ty = self.bits.vector(lanes)
            bits = f.load(f.element(keys, ty, i), ty)
            if self.dtype.kind == "u":
                bits = f.binary("xor", bits, smallest(ty))
            f.store(bits, self.place(self.out, ty, self.out_step, i, lanes))
            return []

        self.each(self.out_step, self.lanes, lambda _: [], one)
        return []

    def _emit_restore(self, name: str) -> str:
        """Zeros and NaN of the operand in their order in place of those of the result."""
        steps = [(PTR, "x"), (I64, "x_step"), (PTR, "out"), (I64, "out_step"), (I64, "n")]
        f = self.module.function(name, VOID, steps, internal=True)
        x, x_step, out, out_step, n = f.params
        ty, zero = self.bits, literal(self.bits, 0)

        def kinds(i: Value) -> tuple[Value, Value, Value, Value]:
            bits = f.load(f.element(x, ty, f.mul(i, x_step)), ty)
            magnitude = f.binary("and", bits, largest(ty))
            is_nan = f.compare("sgt", magnitude, infinity(ty))
            return bits, magnitude, f.compare("eq", magnitude, zero), is_nan

        def counted(total: Value, condition: Value) -> Value:
            return f.add(total, f.convert("zext", condition, I64))

        def count(i: Value, carried: list[Value]) -> list[Value]:
            bits, magnitude, _, is_nan = kinds(i)
            # From the smallest integer, which is -0.0, up to that of minus infinity: numbers below zero.
            below = f.compare("slt", bits, zero)
            below = f.binary("and", below, f.compare("ne", bits, smallest(ty)))
            below = f.binary("and", below, f.compare("sle", magnitude, infinity(ty)))
            return [counted(carried[0], below), counted(carried[1], is_nan)]

        def put(i: Value, carried: list[Value]) -> list[Value]:
            bits, _, is_zero, is_nan = kinds(i)

            def write() -> list[Value]:
                at = f.select(is_nan, carried[1], carried[0])
                f.store(bits, f.element(out, ty, f.mul(at, out_step)))
                return []

            f.branch(f.binary("or", is_zero, is_nan), write)
            return [counted(carried[0], is_zero), counted(carried[1], is_nan)]

        below, nans = f.loop(0, n, 1, [int_literal(0)] * 2, count)
        f.loop(0, n, 1, [below, f.sub(n, nans)], put)
        f.ret()
        return name


class _Positions(_Row):
    def emit(self, name: str) -> None:
        sort = Quicksort(self.module, I64, self.bits == I64, self.target).emit()
        self.open(name)
        self.lanes = self.target.vector_bytes // 8
        if self.bits == I64:
            self._beside(sort)
        else:
            self._packed(sort)
        self.f.ret()

    def _packed(self, sort: str) -> None:
        """Keys above, positions below."""
        f = self.f
        keys = self.result_or(self.array(0, I64))

        def fill(i: Value, lanes: int, _: list[Value]) -> list[Value]:
            ty = I64.vector(lanes)
            key = f.convert("sext", to_key(f, self.read(i, lanes), self.dtype), ty)
            both = f.binary("or", f.binary("shl", key, literal(ty, 32)), _numbers(f, i, lanes))
            f.store(both, f.element(keys, ty, i))
            return []

        self.each(self.x_step, self.lanes, lambda _: [], fill)
        f.call(sort, VOID, [keys, self.n])
        self._give(keys, 0xFFFFFFFF)

    def _beside(self, sort: str) -> None:
        f = self.f
        keys, positions = self.array(0, I64), self.result_or(self.array(1, I64))

        def fill(i: Value, lanes: int, _: list[Value]) -> list[Value]:
            key = to_key(f, self.read(i, lanes), self.dtype)
            f.store(key, f.element(keys, key.ty, i))
            f.store(_numbers(f, i, lanes), f.element(positions, key.ty, i))
            return []

        self.each(self.x_step, self.lanes, lambda _: [], fill)
        f.call(sort, VOID, [keys, positions, self.n])
        f.branch(f.compare("ne", self.out_step, int_literal(1)), lambda: self._give(positions, -1))

    def _give(self, array: Value, mask: int) -> list[Value]:
        """Bits of `mask` of an array as the result."""
        f = self.f

        def one(i: Value, lanes: int, _: list[Value]) -> list[Value]:
            ty = I64.vector(lanes)
            found = f.binary("and", f.load(f.element(array, ty, i), ty), literal(ty, mask))
            f.store(found, self.place(self.out, ty, self.out_step, i, lanes))
            return []

        self.each(self.out_step, self.lanes, lambda _: [], one)
        return []


def _numbers(f: Function, i: Value, lanes: int) -> Value:
    """i, i + 1, ..."""
    if not lanes:
        return i
    return f.binary("add", f.splat(i, lanes), f.iota(I64.vector(lanes)))
