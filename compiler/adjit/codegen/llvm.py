"""A small writer of LLVM IR text: typed values in SSA form, loops with carried values, masked memory.

Text, not `llvmlite.ir` objects, because it is twenty times faster to build. Nothing here knows graphs,
plans or kernels. A `Function` is written front to back; `Function.loop` and `Function.branch` take
callables for their bodies and hand back the values that leave them, so that no caller writes a phi.

No fast-math flag is ever emitted: the order of every sum is the order in the text.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adjit_runtime.errors import InternalError
from adjit_runtime.target import Target


@dataclass(frozen=True, eq=False, slots=True)
class Ty:
    """An LLVM type: `kind` is "i", "f", "ptr" or "void"; `lanes` is 0 for a scalar, else a vector's length.

    `type_of` makes the one object of each type, so that types are compared by identity; `text` is what is written."""

    kind: str
    bits: int
    lanes: int
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def suffix(self) -> str:
        """The type as it stands in an intrinsic's name: `v16f32`, `i64`, `p0`."""
        base = "p0" if self.kind == "ptr" else f"{self.kind}{self.bits}"
        return f"v{self.lanes}{base}" if self.lanes else base

    @property
    def scalar(self) -> Ty:
        """The type of one lane."""
        return type_of(self.kind, self.bits, 0)

    def vector(self, lanes: int) -> Ty:
        """This type with `lanes` lanes; 0 gives the scalar."""
        return type_of(self.kind, self.bits, lanes)

    def with_kind(self, kind: str, bits: int) -> Ty:
        """Another element type with the same number of lanes."""
        return type_of(kind, bits, self.lanes)


@functools.cache
def type_of(kind: str, bits: int, lanes: int) -> Ty:
    """The type of a kind, a number of bits and of lanes."""
    if kind == "f":
        base = {16: "half", 32: "float", 64: "double"}[bits]
    else:
        base = f"i{bits}" if kind == "i" else kind
    return Ty(kind, bits, lanes, f"<{lanes} x {base}>" if lanes else base)


I1, I8, I16, I32, I64 = (type_of("i", bits, 0) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = (type_of("f", bits, 0) for bits in (16, 32, 64))
PTR = type_of("ptr", 0, 0)
VOID = type_of("void", 0, 0)


def register_type(dtype: np.dtype) -> Ty:
    """The type of a `dtype` element in a register: bool is i1."""
    if dtype.kind == "b":
        return I1
    return type_of("f" if dtype.kind == "f" else "i", dtype.itemsize * 8, 0)


def memory_type(dtype: np.dtype) -> Ty:
    """The type of a `dtype` element in memory: bool is a byte."""
    return I8 if dtype.kind == "b" else register_type(dtype)


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or a constant: its type, and how it is written."""

    ty: Ty
    ref: str

    def __str__(self) -> str:
        return f"{self.ty.text} {self.ref}"


def literal(ty: Ty, value: float | int | bool) -> Value:
    """A constant of type `ty`, splatted over its lanes; floats are written by their bits, so any value is exact.

    Raises InternalError for an integer that has more bits, signed or unsigned, than the type: LLVM would cut it."""
    if ty.kind == "f":
        as_double = float(np.float32(value)) if ty.bits == 32 else float(value)
        text = f"0x{struct.unpack('<Q', struct.pack('<d', as_double))[0]:016X}"
    elif ty.kind == "ptr":
        text = "null"
    else:
        text = _integer_text(ty, value)
    if ty.lanes:
        text = "<" + ", ".join([f"{ty.scalar} {text}"] * ty.lanes) + ">"
    return Value(ty, text)


def _integer_text(ty: Ty, value: float | int | bool) -> str:
    """An integer as the signed number of `ty` that has its bits; of a bool, 0 or 1."""
    whole, size = int(value), 1 << ty.bits
    low = 0 if ty.bits == 1 else -(size >> 1)
    if whole != value or not low <= whole < size:
        raise InternalError(f"{value!r} does not fit {ty.scalar}")
    return str(whole if whole < size + low or ty.bits == 1 else whole - size)


def vector_literal(ty: Ty, values: Sequence[float | int]) -> Value:
    """A constant vector, lane by lane."""
    lanes = ", ".join(str(literal(ty.scalar, value)) for value in values)
    return Value(ty, f"<{lanes}>")


def int_literal(value: int) -> Value:
    """A constant i64: what sizes, strides and offsets are. Raises InternalError where it has more bits."""
    if not -(1 << 63) <= value < 1 << 63:
        raise InternalError(f"{value} does not fit i64: a size, stride or offset is too large")
    return Value(I64, str(value))


GLUE = "nounwind noinline optnone"
"""The attributes of a function that only prepares calls of others, or is light: LLVM generates its code without
optimisation, in a fifth of the time.

LLVM 22 ends the process where such a function blends words of two vectors, by a choice that is known and takes the last
word of the second (llvm-project 178883: an immediate of `vpblendw` is negative, which only optimisation mends). So glue
has no vectors of bytes or words; its bools, which are such vectors where a machine has no registers of masks, hold no
lane that LLVM knows and the others not: see `Function.hidden`."""


class Module:
    """Functions, the intrinsics they declared, and constant globals; `str(module)` is the text.

    Code for a known `target` may use instructions of its own; every target runs the code for none."""

    def __init__(self, name: str, target: Target | None = None) -> None:
        self.name = name
        self.target = target
        self.functions: list[Function] = []
        self.defined: set[str] = set()
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}

    def declare(self, name: str, result: Ty, params: Sequence[Ty], attributes: str = "") -> None:
        """Declare an external function or an intrinsic; saying it twice is harmless."""
        params_text = ", ".join(map(str, params))
        self.declarations[name] = f"declare {result} @{name}({params_text}) {attributes}".rstrip()

    def constant_table(self, name: str, dtype: np.dtype, values: Sequence[float | int]) -> Value:
        """A constant global array; returns the pointer to it."""
        ty = memory_type(dtype)
        body = ", ".join(str(literal(ty, value)) for value in values)
        self.globals[name] = f"@{name} = internal constant [{len(values)} x {ty}] [{body}], align 64"
        return Value(PTR, f"@{name}")

    def function(
        self, name: str, result: Ty, params: Sequence[tuple[Ty, str]], *, internal: bool = False, glue: bool = False
    ) -> Function:
        """Open a new function; pointers that never alias another are written `noalias` by their name's prefix `r_`.

        `glue` gives it the attributes `GLUE`."""
        function = Function(self, name, result, params, internal=internal, glue=glue)
        self.functions.append(function)
        self.defined.add(name)
        return function

    def __str__(self) -> str:
        parts = [f"; {self.name}", *self.globals.values(), *map(str, self.functions), *self.declarations.values()]
        return "\n\n".join(parts) + "\n"


class Function:
    """One function, written front to back; every emitting method appends a line and returns the value that it made."""

    def __init__(
        self, module: Module, name: str, result: Ty, params: Sequence[tuple[Ty, str]], *, internal: bool, glue: bool
    ) -> None:
        self.module = module
        self.name = name
        self.result = result
        self.params = [Value(ty, f"%{param}") for ty, param in params]
        self._linkage = "internal " if internal else ""
        self._attributes = GLUE if glue else "nounwind"
        self._lines: list[str] = ["entry:"]
        self._block = "entry"
        self._count = 0
        self._allocas: list[str] = []

    def __str__(self) -> str:
        params = ", ".join(
            f"{v.ty} noalias {v.ref}" if v.ty == PTR and v.ref.startswith("%r_") else str(v) for v in self.params
        )
        head = f"define {self._linkage}{self.result} @{self.name}({params}) {self._attributes} {{"
        return "\n".join([head, self._lines[0], *self._allocas, *self._lines[1:], "}"])

    @property
    def is_public(self) -> bool:
        """Whether other modules can call it."""
        return not self._linkage

    @property
    def is_glue(self) -> bool:
        """Whether its code is generated without optimisation."""
        return self._attributes == GLUE

    @property
    def instruction_count(self) -> int:
        """How many instructions have been written, labels not counted."""
        return len(self._allocas) + sum(not line.endswith(":") for line in self._lines)

    @property
    def lines(self) -> int:
        """How many lines have been written."""
        return len(self._lines)

    # -- plumbing -----------------------------------------------------------------------------------------------------

    def _fresh(self, hint: str = "v") -> str:
        self._count += 1
        return f"%{hint}{self._count}"

    def line(self, text: str) -> None:
        """Append one instruction that makes no value."""
        self._lines.append("  " + text)

    def define(self, ty: Ty, text: str) -> Value:
        """Append one instruction that makes a value of type `ty`."""
        if ty.lanes and ty.kind == "i" and 1 < ty.bits < 32 and self.is_glue:
            raise InternalError(f"{self.name} has the type {ty}, which LLVM may not survive in glue")
        ref = self._fresh()
        self._lines.append(f"  {ref} = {text}")
        return Value(ty, ref)

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name

    def _new_labels(self, *hints: str) -> list[str]:
        self._count += 1
        return [f"{hint}{self._count}" for hint in hints]

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        """`opcode` is LLVM's: add, fadd, and, shl ...; both operands have the same type."""
        if a.ty != b.ty:
            raise TypeError(f"{opcode}: {a.ty} and {b.ty} differ")
        a, b = self.hidden(a), self.hidden(b)
        return self.define(a.ty, f"{opcode} {a.ty} {a.ref}, {b.ref}")

    def unary(self, opcode: str, a: Value) -> Value:
        """`fneg`, the one unary instruction."""
        return self.define(a.ty, f"{opcode} {a}")

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """`icmp` or `fcmp`, by the operands' type; the result has i1 lanes."""
        opcode = "fcmp" if a.ty.kind == "f" else "icmp"
        if a.ty != b.ty:
            raise TypeError(f"{opcode} {predicate}: {a.ty} and {b.ty} differ")
        return self.define(a.ty.with_kind("i", 1), f"{opcode} {predicate} {a.ty} {a.ref}, {b.ref}")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """Lane-wise (or whole) choice."""
        if a.ty.bits == 1:
            condition, a, b = self.hidden(condition), self.hidden(a), self.hidden(b)
        return self.define(a.ty, f"select {condition}, {a}, {b}")

    def convert(self, opcode: str, a: Value, ty: Ty) -> Value:
        """`trunc`, `zext`, `sext`, `sitofp`, `uitofp`, `fptosi`, `fpext`, `fptrunc`, `bitcast`, ..."""
        return self.define(ty, f"{opcode} {a} to {ty}")

    def intrinsic(self, name: str, result: Ty, args: Sequence[Value], overload: Sequence[Ty] = ()) -> Value:
        """Call `llvm.<name>` with the overload's suffixes (the result's type where none are given)."""
        suffix = "".join("." + ty.suffix for ty in (overload or (result,)))
        return self.call(f"llvm.{name}{suffix}", result, args)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", a.ty, (a, b, c))

    def prefetch(self, pointer: Value, level: int, write: bool = False) -> None:
        """Bring the line at an address, which need not be one that may be read, into the cache of a level."""
        self.module.declare("llvm.prefetch.p0", VOID, (PTR, I32, I32, I32))
        self.line(f"call void @llvm.prefetch.p0({pointer}, i32 {int(write)}, i32 {4 - level}, i32 1)")

    def opaque(self, value: Value) -> Value:
        """The same value, of which LLVM no longer knows how it was made; no instruction."""
        return self.define(value.ty, f'call {value.ty} asm "", "=r,0"({value})')

    def hidden(self, value: Value) -> Value:
        """The same value; in glue LLVM does not know it where it is a constant vector of bools that differ."""
        lanes = _constant_bools(value) if self.is_glue else []
        if len(set(lanes)) < 2:
            return value
        ty = I32.vector(value.ty.lanes)
        name = "mask_" + "".join(str(int(lane)) for lane in lanes)
        known = self.module.constant_table(name, np.dtype(np.int32), lanes)
        return self.compare("ne", self.load(known, ty), literal(ty, 0))

    def call(self, name: str, result: Ty, args: Sequence[Value]) -> Value:
        """Call a function, declaring it unless this module defines it."""
        if name not in self.module.defined:
            self.module.declare(name, result, [arg.ty for arg in args])
        text = f"call {result} @{name}({', '.join(map(str, args))})"
        if result == VOID:
            self.line(text)
            return Value(VOID, "")
        return self.define(result, text)

    def call_pointer(self, pointer: Value, result: Ty, args: Sequence[Value]) -> Value:
        """Call through a function pointer."""
        text = f"call {result} {pointer.ref}({', '.join(map(str, args))})"
        if result == VOID:
            self.line(text)
            return Value(VOID, "")
        return self.define(result, text)

    # integer arithmetic on sizes and offsets, folded where both sides are literals

    def add(self, a: Value, b: Value | int) -> Value:
        """a + b on i64."""
        return self._fold("add", a, b, lambda x, y: x + y, neutral=0)

    def sub(self, a: Value, b: Value | int) -> Value:
        """a - b on i64."""
        return self._fold("sub", a, b, lambda x, y: x - y, neutral=0)

    def mul(self, a: Value, b: Value | int) -> Value:
        """a * b on i64."""
        if not isinstance(b, Value) and b == 0:
            return int_literal(0)
        return self._fold("mul", a, b, lambda x, y: x * y, neutral=1)

    def _fold(self, opcode: str, a: Value, b: Value | int, f: Callable[[int, int], int], neutral: int) -> Value:
        b = b if isinstance(b, Value) else int_literal(b)
        a_known, b_known = not a.ref.startswith("%"), not b.ref.startswith("%")
        if a_known and b_known:
            return int_literal(f(int(a.ref), int(b.ref)))
        if b_known and int(b.ref) == neutral:
            return a
        return self.binary(opcode, a, b)

    def minimum(self, a: Value, b: Value) -> Value:
        """The smaller of two signed integers."""
        return self.intrinsic("smin", a.ty, (a, b))

    # -- vectors ------------------------------------------------------------------------------------------------------

    def splat(self, a: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        ty = a.ty.vector(lanes)
        if self.is_glue and a.ty in (I32, I64) and not a.ref.startswith("%"):
            # An index: with the numbers of the lanes LLVM would know in which lanes a bound holds. See GLUE.
            a = self.opaque(a)
        first = self.define(ty, f"insertelement {ty} poison, {a}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.define(ty, f"shufflevector {first}, {ty} poison, {zeros}")

    def iota(self, ty: Ty) -> Value:
        """0, 1, 2, ... as an integer vector constant."""
        return vector_literal(ty, range(ty.lanes))

    def extract(self, a: Value, lane: int | Value) -> Value:
        """One lane."""
        index = f"i64 {lane}" if isinstance(lane, int) else str(lane)
        return self.define(a.ty.scalar, f"extractelement {a}, {index}")

    def insert(self, a: Value, element: Value, lane: int | Value) -> Value:
        """The vector with one lane replaced."""
        index = f"i64 {lane}" if isinstance(lane, int) else str(lane)
        return self.define(a.ty, f"insertelement {a}, {element}, {index}")

    def shuffle(self, a: Value, b: Value | None, lanes: Sequence[int]) -> Value:
        """Lanes of `a` (and of `b` after them) by number."""
        second = str(b) if b is not None else f"{a.ty} poison"
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.define(a.ty.vector(len(lanes)), f"shufflevector {a}, {second}, <{len(lanes)} x i32> <{mask}>")

    def mask_below(self, lanes: int, rest: Value) -> Value:
        """The i1 vector that is true in the lanes below `rest` (i64)."""
        ty = I32.vector(lanes)
        rest32 = self.convert("trunc", self.minimum(rest, int_literal(lanes)), I32)
        return self.compare("slt", self.iota(ty), self.splat(rest32, lanes))

    # -- memory -------------------------------------------------------------------------------------------------------

    def alloca(self, ty: Ty, count: int, align: int = 64) -> Value:
        """Stack memory for `count` elements, taken once at the function's entry."""
        ref = self._fresh("stack")
        self._allocas.append(f"  {ref} = alloca {ty}, i64 {count}, align {align}")
        return Value(PTR, ref)

    def element(self, pointer: Value, ty: Ty, index: Value | int) -> Value:
        """The address of element `index` of an array of `ty`."""
        index = index if isinstance(index, Value) else int_literal(index)
        if index.ref == "0":
            return pointer
        return self.define(PTR, f"getelementptr inbounds {ty.scalar}, {pointer}, {index}")

    def offset(self, pointer: Value, nbytes: Value | int) -> Value:
        """The address `nbytes` further on."""
        return self.element(pointer, I8, nbytes)

    def load(self, pointer: Value, ty: Ty, align: int | None = None) -> Value:
        """Load a scalar or a vector; `align` defaults to one element's."""
        return self.define(ty, f"load {ty}, {pointer}, align {align or _element_bytes(ty)}")

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        """Store a scalar or a vector; `align` defaults to one element's."""
        self.line(f"store {value}, {pointer}, align {align or _element_bytes(value.ty)}")

    def masked_load(self, pointer: Value, ty: Ty, mask: Value, other: Value | None = None) -> Value:
        """Load the lanes where `mask` is true; the others are `other` (zero where none is given)."""
        other = other or literal(ty, 0)
        name = f"llvm.masked.load.{ty.suffix}.p0"
        mask_type = ty.with_kind("i", 1)
        self.module.declare(name, ty, (PTR, mask_type, ty))
        place = f"ptr align {_element_bytes(ty)} {pointer.ref}"
        return self.define(ty, f"call {ty} @{name}({place}, {mask}, {other})")

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Store the lanes where `mask` is true."""
        if (count := _first_lanes(mask)) is not None:
            # Masked stores are slow on Zen 4: softmax of 500 rows of 100 takes 38.7 us with them, 19.4 in pieces. (And
            # LLVM 22 writes one lane of truncated integers in the width before: llvm-project issue 179489.)
            part = self.extract(value, 0) if count == 1 else self.shuffle(value, None, range(count))
            self.store(part, pointer)
            return
        name = f"llvm.masked.store.{value.ty.suffix}.p0"
        self.module.declare(name, VOID, (value.ty, PTR, mask.ty))
        self.line(f"call void @{name}({value}, ptr align {_element_bytes(value.ty)} {pointer.ref}, {mask})")

    def gather(self, pointer: Value, ty: Ty, offsets: Value, mask: Value | None) -> Value:
        """Load lane l from pointer + offsets[l] elements, where `mask` is true (everywhere if None); else 0."""
        name = f"llvm.masked.gather.{ty.suffix}.{PTR.vector(ty.lanes).suffix}"
        places = self._places(pointer, ty, offsets)
        mask = mask or literal(I1.vector(ty.lanes), True)
        self.module.declare(name, ty, (places.ty, mask.ty, ty))
        args = f"{places.ty} align {_element_bytes(ty)} {places.ref}, {mask}, {literal(ty, 0)}"
        return self.define(ty, f"call {ty} @{name}({args})")

    def scatter(self, value: Value, pointer: Value, offsets: Value, mask: Value | None) -> None:
        """Store lane l at pointer + offsets[l] elements where `mask` is true; a later lane wins over an earlier."""
        ty = value.ty
        name = f"llvm.masked.scatter.{ty.suffix}.{PTR.vector(ty.lanes).suffix}"
        places = self._places(pointer, ty, offsets)
        mask = mask or literal(I1.vector(ty.lanes), True)
        self.module.declare(name, VOID, (ty, places.ty, mask.ty))
        self.line(f"call void @{name}({value}, {places.ty} align {_element_bytes(ty)} {places.ref}, {mask})")

    def _places(self, pointer: Value, ty: Ty, offsets: Value) -> Value:
        return self.define(PTR.vector(ty.lanes), f"getelementptr inbounds {ty.scalar}, {pointer}, {offsets}")

    # -- control ------------------------------------------------------------------------------------------------------

    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: Value | int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """`for i in range(start, stop, step)` with carried values; the body gets them and returns their next ones.

        Runs zero times where start >= stop; `step` is positive."""
        start, stop, step = (v if isinstance(v, Value) else int_literal(v) for v in (start, stop, step))
        head, inside, done = self._new_labels("head", "body", "done")
        before = self._block
        self.line(f"br label %{head}")
        self._label(head)
        at = len(self._lines)
        index = Value(I64, self._fresh("i"))
        phis = [Value(value.ty, self._fresh("phi")) for value in carried]
        test = self.compare("slt", index, stop)
        self.line(f"br {test}, label %{inside}, label %{done}")
        self._label(inside)
        results = list(body(index, phis))
        # What advances with a loop is opaque: else LLVM looks for cheaper ways to count and to address, which takes up
        # to a quarter of all code generation and finds none.
        after = self.opaque(self.add(index, step))
        results = [self.opaque(value) if _may_advance(value) else value for value in results]
        tail = self._block
        self.line(f"br label %{head}")
        lines = [f"  {index.ref} = phi i64 [ {start.ref}, %{before} ], [ {after.ref}, %{tail} ]"]
        for phi, first, last in zip(phis, carried, results, strict=True):
            if first.ty != last.ty:
                raise TypeError(f"loop: a carried value changes from {first.ty} to {last.ty}")
            lines.append(f"  {phi.ref} = phi {phi.ty} [ {first.ref}, %{before} ], [ {last.ref}, %{tail} ]")
        self._lines[at:at] = lines
        self._label(done)
        return phis

    def while_loop(
        self,
        carried: Sequence[Value],
        test: Callable[[list[Value]], Value],
        body: Callable[[list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Repeat `body` on the carried values while `test` of them holds; returns the last ones."""
        head, inside, done = self._new_labels("while", "again", "over")
        before = self._block
        self.line(f"br label %{head}")
        self._label(head)
        at = len(self._lines)
        phis = [Value(value.ty, self._fresh("phi")) for value in carried]
        self.line(f"br {test(phis)}, label %{inside}, label %{done}")
        self._label(inside)
        results = list(body(phis))
        tail = self._block
        self.line(f"br label %{head}")
        self._lines[at:at] = [
            f"  {phi.ref} = phi {phi.ty} [ {first.ref}, %{before} ], [ {last.ref}, %{tail} ]"
            for phi, first, last in zip(phis, carried, results, strict=True)
        ]
        self._label(done)
        return phis

    def branch(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]] = lambda: (),
    ) -> list[Value]:
        """`if condition`: both sides return values of the same types; the chosen ones come back."""
        yes, no, join = self._new_labels("then", "else", "join")
        self.line(f"br {condition}, label %{yes}, label %{no}")
        self._label(yes)
        a_values = list(then())
        a_end = self._block
        self.line(f"br label %{join}")
        self._label(no)
        b_values = list(otherwise())
        b_end = self._block
        self.line(f"br label %{join}")
        self._label(join)
        return [
            self.define(a.ty, f"phi {a.ty} [ {a.ref}, %{a_end} ], [ {b.ref}, %{b_end} ]")
            for a, b in zip(a_values, b_values, strict=True)
        ]

    def return_if(
        self, condition: Value, value: Value | None = None, before: Callable[[], None] = lambda: None
    ) -> None:
        """Leave the function where `condition` holds, after `before`, and go on where it does not."""
        leave, stay = self._new_labels("leave", "stay")
        self.line(f"br {condition}, label %{leave}, label %{stay}")
        self._label(leave)
        before()
        self.ret(value)
        self._label(stay)

    def ret(self, value: Value | None = None) -> None:
        """Return."""
        self.line("ret void" if value is None else f"ret {value}")


def _may_advance(value: Value) -> bool:
    return value.ty in (I64, PTR) and value.ref.startswith("%")


def _element_bytes(ty: Ty) -> int:
    return 8 if ty.kind == "ptr" else max(1, ty.bits // 8)


def _constant_bools(value: Value) -> list[bool]:
    """The lanes of a constant vector of bools; none of any other value."""
    is_constant = value.ty.bits == 1 and value.ref.startswith("<")
    return [text in ("i1 1", "i1 true") for text in value.ref[1:-1].split(", ")] if is_constant else []


def _first_lanes(mask: Value) -> int | None:
    """How many lanes a constant mask has, where they are the first ones and there are some."""
    lanes = _constant_bools(mask)
    count = lanes.index(False) if False in lanes else len(lanes)
    return count if count and not any(lanes[count:]) else None
