"""Instructions of x86 that LLVM has no common name for, on vectors of any power of two of lanes.

Each returns None where the module's target lacks it; the caller then computes the same bits in more steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from adjit.codegen.llvm import F32, I8, I32, I64, Function, Ty, Value, literal, type_of, vector_literal


def permute(f: Function, values: Sequence[float], ty: Ty, index: Value) -> Value | None:
    """`values[index % 8]` in each lane of the float type `ty`: numbers of a register picked by indices."""
    target = f.module.target
    if target is None or not target.permutes or not ty.lanes:
        return None

    def rule(ty: Ty, xs: list[Value]) -> Value:
        return _pick(f, values, ty, xs[0]) if ty.lanes >= 8 else _pick_of_halves(f, values, ty, xs[0])

    return _by_registers(f, ty, (index,), rule, target.vector_bytes)


def scale(f: Function, a: Value, n: Value) -> Value | None:
    """a 2^n, rounded once, for n a whole number of a's type."""
    return _avx512(f, "scalef", (a, n), lambda ty: (literal(ty, 0),))


def split(f: Function, a: Value) -> tuple[Value, Value] | None:
    """The exponent of a positive number, as a float, and its mantissa in [1, 2)."""
    exponent = _avx512(f, "getexp", (a,), lambda ty: (literal(ty, 0),))
    mantissa = _avx512(f, "getmant", (a,), lambda ty: (literal(I32, 0), literal(ty, 0)))
    return None if exponent is None or mantissa is None else (exponent, mantissa)


def mend(f: Function, a: Value, x: Value, responses: int) -> Value | None:
    """`a`, except where x is of a class for which `responses` name another value: four bits each, as vfixupimm has
    them."""
    table = literal(a.ty.with_kind("i", a.ty.bits), responses)
    return _avx512(f, "fixupimm", (a, x, table), lambda _: (literal(I32, 0),))


def _avx512(f: Function, name: str, args: Sequence[Value], rest: Callable[[Ty], tuple[Value, ...]]) -> Value | None:
    """An instruction on registers of 64 bytes, with every lane on and the rounding of the process."""
    target, ty = f.module.target, args[0].ty
    if target is None or not target.scales or not ty.lanes:
        return None

    def rule(ty: Ty, xs: list[Value]) -> Value:
        kind = "ps" if ty.bits == 32 else "pd"
        every, rounding = literal(type_of("i", ty.lanes, 0), -1), literal(I32, 4)
        return f.call(f"llvm.x86.avx512.mask.{name}.{kind}.512", ty, (*xs, *rest(ty), every, rounding))

    return _by_registers(f, ty, args, rule, 64)


def _by_registers(
    f: Function, ty: Ty, args: Sequence[Value], rule: Callable[[Ty, list[Value]], Value], nbytes: int
) -> Value:
    """`rule` on registers of `nbytes`, for arguments with as many lanes as `ty`, one of the same size each."""
    per = nbytes * 8 // ty.bits
    parts = []
    for i in range(0, ty.lanes, per):
        # A shorter vector fills the register again and again.
        lanes = [(i + j) % ty.lanes for j in range(per)]
        parts.append(rule(ty.vector(per), [a if per == ty.lanes else f.shuffle(a, None, lanes) for a in args]))
    while len(parts) > 1:
        both = range(2 * parts[0].ty.lanes)
        parts = [f.shuffle(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0] if ty.lanes >= per else f.shuffle(parts[0], None, range(ty.lanes))


def _pick(f: Function, values: Sequence[float], ty: Ty, index: Value) -> Value:
    """From a register that the numbers fill once or twice."""
    names = {(16, 32): "avx512.permvar.sf.512", (8, 64): "avx512.permvar.df.512", (8, 32): "avx2.permps"}
    table = vector_literal(ty, [*values] * (ty.lanes // 8))
    return f.call(f"llvm.x86.{names[ty.lanes, ty.bits]}", ty, (table, index))


def _pick_of_halves(f: Function, values: Sequence[float], ty: Ty, index: Value) -> Value:
    """From two registers of four float64s each: number i is the pair of float32s 2 i and 2 i + 1."""
    floats, pairs = F32.vector(8), I32.vector(8)
    both = f.shuffle(f.convert("bitcast", index, pairs), None, (0, 0, 2, 2, 4, 4, 6, 6))
    both = f.binary("add", f.binary("add", both, both), vector_literal(pairs, (0, 1) * 4))
    halves = []
    for half in (values[:4], values[4:]):
        table = f.convert("bitcast", vector_literal(ty, half), floats)
        halves.append(f.convert("bitcast", f.call("llvm.x86.avx2.permps", floats, (table, both)), ty))
    third = f.binary("shl", index, literal(index.ty, 61))
    return f.select(f.compare("slt", third, literal(index.ty, 0)), halves[1], halves[0])


def compress(f: Function, a: Value, mask: Value) -> Value:
    """The lanes where `mask` is true, side by side from the first one on; the other lanes have anything."""
    target, ty = f.module.target, a.ty
    if target is None or not target.permutes or target.vector_bytes * 8 != ty.lanes * ty.bits or target.masks:
        return f.intrinsic("experimental.vector.compress", ty, (a, mask, literal(ty, 0)))
    bits = f.convert("zext", f.convert("bitcast", mask, type_of("i", ty.lanes, 0)), I64)
    table = f.module.constant_table(f"compress_{ty.lanes}", np.dtype(np.uint8), _kept_lanes(ty.lanes))
    order = f.convert("zext", f.load(f.element(table, I64, bits), I8.vector(8)), I32.vector(8))
    words = f.call("llvm.x86.avx2.permd", I32.vector(8), (f.convert("bitcast", a, I32.vector(8)), order))
    return f.convert("bitcast", words, ty)


def _kept_lanes(lanes: int) -> list[int]:
    """For each mask, as a number of as many bits, the words of eight that `compress` puts first."""
    words = 8 // lanes
    found: list[int] = []
    for mask in range(1 << lanes):
        kept = [words * lane + word for lane in range(lanes) if mask >> lane & 1 for word in range(words)]
        found += kept + [0] * (8 - len(kept))
    return found
