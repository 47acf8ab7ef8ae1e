"""Keys: signed integers of an element's size that are in order where the elements are.

Elements that compare equal have one key, so that -0.0 has that of 0.0, and NaN, whatever its bits, the largest. What a
key of a float no longer tells is whether it is of one of these: `is_special`. Values of floats are sorted as floats, in
which one instruction finds a minimum on every machine."""

from __future__ import annotations

import math

import numpy as np

from adjit.codegen.llvm import Function, Ty, Value, literal, type_of


def key_type(dtype: np.dtype) -> Ty:
    """The type of a key."""
    return type_of("i", 8 * dtype.itemsize, 0)


def smallest(ty: Ty) -> Value:
    """The smallest signed integer, which is the sign of a float."""
    return literal(ty, -(1 << (ty.bits - 1)))


def largest(ty: Ty) -> Value:
    """The largest key."""
    if ty.kind == "f":
        return literal(ty, math.inf)
    return literal(ty, (1 << (ty.bits - 1)) - 1)


def infinity(ty: Ty) -> Value:
    """The bits of infinity."""
    return literal(ty, 0x7F800000 if ty.bits == 32 else 0x7FF0000000000000)


def to_key(f: Function, bits: Value, dtype: np.dtype) -> Value:
    """The key of an element, or of each lane, given its bits."""
    ty = bits.ty
    if dtype.kind == "i":
        return bits
    if dtype.kind == "u":
        return f.binary("xor", bits, smallest(ty))
    number = f.select(f.compare("eq", bits, smallest(ty)), literal(ty, 0), _turned(f, bits))
    return f.select(_is_nan(f, bits), largest(ty), number)


def to_number(f: Function, bits: Value, dtype: np.dtype) -> Value:
    """What values are sorted as, alone: keys of integers, and floats themselves, infinity for a NaN."""
    if dtype.kind != "f":
        return to_key(f, bits, dtype)
    number = f.select(f.compare("eq", bits, smallest(bits.ty)), literal(bits.ty, 0), bits)
    return f.convert(
        "bitcast", f.select(_is_nan(f, bits), infinity(bits.ty), number), bits.ty.with_kind("f", bits.ty.bits)
    )


def is_special(f: Function, bits: Value) -> Value:
    """Whether a float is -0.0 or NaN."""
    return f.binary("or", f.compare("eq", bits, smallest(bits.ty)), _is_nan(f, bits))


def _turned(f: Function, bits: Value) -> Value:
    """With all but the sign inverted where the sign is set, which undoes itself: a larger magnitude is smaller then."""
    every = literal(bits.ty, bits.ty.bits - 1)
    magnitude = f.binary("lshr", f.binary("ashr", bits, every), literal(bits.ty, 1))
    return f.binary("xor", bits, magnitude)


def _is_nan(f: Function, bits: Value) -> Value:
    magnitude = f.binary("and", bits, largest(bits.ty))
    return f.compare("sgt", magnitude, infinity(bits.ty))
