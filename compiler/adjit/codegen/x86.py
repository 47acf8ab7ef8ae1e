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


def parting(f: Function, mask: Value, count: Value, ty: Ty) -> Callable[[Value], Value]:
    """What puts the lanes of vectors of `ty` where `mask` is true, `count` of them, ahead of the others, each in their
    order. Where no instruction picks lanes it goes through memory."""
    target, size = f.module.target, ty.lanes * ty.bits
    fits = target is not None and target.permutes and target.vector_bytes * 8 == size
    if fits and ty.lanes <= 8:
        return _parting_by_table(f, mask, ty)
    bits = ty.with_kind("i", ty.bits)

    def part(a: Value) -> Value:
        a = a if ty == bits else f.convert("bitcast", a, bits)
        others = _compressed(f, a, f.binary("xor", mask, literal(mask.ty, True)), literal(bits, 0))
        if fits and ty.lanes == 16:
            at = f.binary("sub", f.iota(bits), f.splat(f.convert("trunc", count, bits.scalar), ty.lanes))
            others = f.call("llvm.x86.avx512.permvar.si.512", bits, (others, at))
        else:
            memory = f.alloca(bits.scalar, 2 * ty.lanes)
            f.store(others, f.element(memory, bits, count))
            others = f.load(memory, bits)
        found = _compressed(f, a, mask, others)
        return found if ty == bits else f.convert("bitcast", found, ty)

    return part


def _compressed(f: Function, a: Value, mask: Value, others: Value) -> Value:
    return f.intrinsic("experimental.vector.compress", a.ty, (a, mask, others))


def _parting_by_table(f: Function, mask: Value, ty: Ty) -> Callable[[Value], Value]:
    """By an instruction that picks lanes, whose indices stand in a table, a row of eight for each mask."""
    bits = f.convert("zext", f.convert("bitcast", mask, type_of("i", ty.lanes, 0)), I64)
    table = f.module.constant_table(f"parting_{ty.lanes}", np.dtype(np.uint8), _orders(ty.lanes))
    row = f.load(f.element(table, I64, bits), I8.vector(8))
    wide = ty.lanes * ty.bits == 512
    whole = (I64 if wide else I32).vector(8)
    order = f.convert("zext", row, whole)
    name = "llvm.x86.avx512.permvar.di.512" if wide else "llvm.x86.avx2.permd"

    def part(a: Value) -> Value:
        same = ty == whole
        found = f.call(name, whole, (a if same else f.convert("bitcast", a, whole), order))
        return found if same else f.convert("bitcast", found, ty)

    return part


def _orders(lanes: int) -> list[int]:
    """For each mask, as a number of as many bits, the words of eight that its lanes have, then those of the others."""
    words = 8 // lanes
    found: list[int] = []
    for mask in range(1 << lanes):
        order = sorted(range(lanes), key=lambda lane: not mask >> lane & 1)
        found += [words * lane + word for lane in order for word in range(words)]
    return found
