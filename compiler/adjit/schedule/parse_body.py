"""Bodies in the text of a plan: one instruction a line.

Each is checked against what stands before it: an operand is the value of an earlier line, of a dtype that the op takes;
what is loaded or stored is of the dtype of the buffer. Which elements are reached is not looked at: `verify_plan` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from adjit.ir.op import OPS
from adjit.ir.parse import Reader
from adjit.ir.tokens import Token
from adjit.ir.types import BOOL, DTYPE_NAMES, I64, Array, dtype_name
from adjit.ops.declare import Elementwise
from adjit.schedule.buffer import Param
from adjit.schedule.instructions import (
    Apply,
    Bounds,
    Const,
    Gather,
    Index,
    Inside,
    Instruction,
    Load,
    ProductElement,
    Reduce,
    Store,
)
from adjit_runtime.errors import AdjitError

_VALUE, _DIM, _PARAM = (re.compile(rf"{letter}([0-9]{{1,9}})") for letter in "vdp")


class Affine:
    """constant + coefficients . index + stride * value `position`, which is -1 where no value takes part."""

    __slots__ = ("coefficients", "constant", "position", "stride")

    def __init__(self, rank: int) -> None:
        self.constant = 0
        self.coefficients = [0] * rank
        self.position = -1
        self.stride = 0

    @property
    def terms(self) -> tuple[int, ...]:
        """The coefficients."""
        return tuple(self.coefficients)


class Indices:
    """Reads values and indices over `rank` dimensions."""

    def __init__(self, reader: Reader, rank: int) -> None:
        self.reader = reader
        self.rank = rank

    def number(self) -> tuple[int, Token]:
        """The number of a value, as `v3`."""
        token = self.reader.expect("word")
        found = _VALUE.fullmatch(token.text)
        if found is None:
            self.reader.fail(f"expected a value, found {token.text!r}", token)
        return int(found[1]), token

    def affine(self, has_position: bool = False) -> Affine:
        """`8 + 3*d0 + d1`, with a value `+ v0*64` where it `has_position`."""
        reader = self.reader
        start, found = reader.token, Affine(self.rank)
        while True:
            if reader.token.kind == "number":
                factor = reader.integer()
                if reader.accept("sign", "*"):
                    found.coefficients[self.dim()] += factor
                else:
                    found.constant += factor
            elif has_position and found.position < 0 and _VALUE.fullmatch(reader.token.text):
                found.position, _ = self.number()
                reader.expect("sign", "*")
                found.stride = reader.integer()
            else:
                found.coefficients[self.dim()] += 1
            if not reader.accept("sign", "+"):
                break
        if has_position and found.position < 0:
            reader.fail("expected a position, as v0*1, in the index", start)
        return found

    def dim(self) -> int:
        """The number of a dimension, as `d0`."""
        token = self.reader.expect("word")
        found = _DIM.fullmatch(token.text)
        if found is None or int(found[1]) >= self.rank:
            self.reader.fail(f"{token.text!r} is none of {self.rank} dimensions", token)
        return int(found[1])

    def element(self, has_position: bool = False) -> Affine:
        """`[3*d0 + d1]` after a place."""
        start = self.reader.expect("sign", "[")
        found = self.affine(has_position)
        self.reader.expect("sign", "]")
        if found.constant:
            self.reader.fail("the constant of an index stands with the buffer, as %x+8[d0]", start)
        return found

    def held(self, at: int) -> int:
        """`v0 in [0,8)` of the position `at`: how many there are."""
        reader = self.reader
        reader.expect("word", f"v{at}")
        reader.expect("word", "in")
        reader.expect("sign", "[")
        reader.expect("number", "0")
        reader.expect("sign", ",")
        size = reader.natural()
        reader.expect("sign", ")")
        return size


class BodyReader(Indices):
    """Reads the instructions of one body over `rank` dimensions.

    `place()` reads a buffer and an offset. Parameters are numbered from `first` on as the body names them, or as they
    stand in `listed`, all of the kernel's. `reductions` are the kinds of ops that may reduce, `tile` the dtype of the
    product whose epilogue this is, or None."""

    def __init__(
        self,
        reader: Reader,
        place: Callable[[], Param],
        rank: int,
        first: int,
        listed: Sequence[Param] | None,
        reductions: Collection[str],
        product: np.dtype | None,
    ) -> None:
        super().__init__(reader, rank)
        self.place = place
        self.first = first
        self.params: list[Param] = list(listed[first:]) if listed is not None else []
        self.reductions = reductions
        self.product = product
        self.code: list[Instruction] = []
        self._is_listed = listed is not None
        self._numbers: dict[tuple[int, int], int] = {}
        for i, (buffer, offset) in enumerate(self.params):
            self._numbers.setdefault((id(buffer), offset), first + i)

    def read(self) -> None:
        """All instructions that stand here."""
        reader = self.reader
        while True:
            token = reader.token
            if reader.accept("word", "store"):
                self.code.append(self._store())
            elif token.kind == "word" and _VALUE.fullmatch(token.text):
                reader.take()
                if token.text != f"v{len(self.code)}":
                    reader.fail(f"expected 'v{len(self.code)}', found {token.text!r}", token)
                reader.expect("sign", "=")
                self.code.append(self._value())
            else:
                return

    # -- parts --------------------------------------------------------------------------------------------------------

    def dtype_of(self, number: int, token: Token, kinds: str = "biuf") -> np.dtype:
        """The dtype of the value of a line, which is of one of `kinds`."""
        if number >= len(self.code) or isinstance(self.code[number], Store):
            self.reader.fail(f"v{number} is no value before", token)
        dtype = self.code[number].dtype
        if dtype.kind not in kinds:
            self.reader.fail(f"v{number} is {dtype_name(dtype)}, which is no position", token)
        return dtype

    def _operand(self, kinds: str = "biuf") -> tuple[int, np.dtype]:
        number, token = self.number()
        return number, self.dtype_of(number, token, kinds)

    def param(self) -> tuple[int, np.dtype]:
        """The number of a parameter, and the dtype of its buffer."""
        reader, token = self.reader, self.reader.token
        named = _PARAM.fullmatch(token.text) if self._is_listed else None
        if named is not None:
            reader.take()
            number = int(named[1])
            if not 0 <= number - self.first < len(self.params):
                reader.fail(f"there is no parameter {number}", token)
            return number, self.params[number - self.first][0].dtype
        buffer, offset = self.place()
        key = (id(buffer), offset)
        if key not in self._numbers:
            if self._is_listed:
                reader.fail(f"{token.text} is none of the places that the kernel is on", token)
            self._numbers[key] = self.first + len(self.params)
            self.params.append((buffer, offset))
        return self._numbers[key], buffer.dtype

    def _bounds(self) -> Bounds:
        reader, found = self.reader, []
        while reader.accept("word", "where"):
            reader.expect("number", "0")
            reader.expect("sign", "<=")
            affine = self.affine()
            reader.expect("sign", "<")
            found.append((affine.constant, affine.terms, reader.integer()))
        return tuple(found)

    def _typed(self, wanted: np.dtype | None = None) -> np.dtype:
        """`: f32`, which is `wanted`."""
        self.reader.expect("sign", ":")
        token = self.reader.token
        found = self.reader.dtype()
        if wanted is not None and found != wanted:
            self.reader.fail(f"expected {dtype_name(wanted)}, found {token.text}", token)
        return found

    # -- instructions -------------------------------------------------------------------------------------------------

    def _store(self) -> Store:
        arg, dtype = self._operand()
        self.reader.expect("sign", "->")
        param, wanted = self.param()
        where = self.element()
        token = self.reader.token
        if dtype != wanted:
            self.reader.fail(f"v{arg} is {dtype_name(dtype)}, the buffer {dtype_name(wanted)}", token)
        return Store(param, where.terms, arg, self._typed(wanted))

    def _value(self) -> Instruction:
        reader = self.reader
        word = reader.expect("word")
        if word.text == "load":
            param, wanted = self.param()
            where = self.element()
            return Load(param, where.terms, self._bounds(), self._typed(wanted))
        if word.text == "gather":
            return self._gather()
        if word.text == "const":
            return self._const()
        if word.text == "index":
            affine = self.affine()
            return Index(affine.constant, affine.terms, self._typed())
        if word.text == "inside":
            return Inside(self._bounds(), self._typed(BOOL))
        if word.text == "reduce":
            return self._reduce()
        if word.text == "product":
            if self.product is None:
                reader.fail("only the epilogue of a product has the element of one", word)
            return ProductElement(self._typed(self.product))
        return self._apply(word)

    def _gather(self) -> Gather:
        param, wanted = self.param()
        start = self.reader.token
        where = self.element(has_position=True)
        self.dtype_of(where.position, start, "iu")
        size = self.held(where.position)
        return Gather(param, where.terms, where.position, where.stride, size, self._bounds(), self._typed(wanted))

    def _const(self) -> Const:
        reader = self.reader
        token = reader.literal_token()
        bits = None
        if reader.accept("word", "bits"):
            reader.expect("sign", "=")
            bits = reader.expect("number")
        dtype = self._typed()
        array = np.asarray(reader.scalar(token, dtype), dtype)
        if bits is not None:
            whole = int(reader.scalar(bits, DTYPE_NAMES["u64"]))
            if whole >> (8 * dtype.itemsize):
                reader.fail(f"{dtype_name(dtype)} has {8 * dtype.itemsize} bits", bits)
            array = np.frombuffer(whole.to_bytes(dtype.itemsize, "little"), dtype)[0]
            if array == array:
                reader.fail("only what is not a number has bits", bits)
        return Const(array.item(), array.tobytes(), dtype)

    def _reduce(self) -> Reduce:
        reader = self.reader
        word = reader.expect("word")
        op = OPS.get(word.text)
        if op is None or op.kind not in self.reductions:
            reader.fail(f"{word.text!r} reduces nothing here", word)
        arg, dtype = self._operand()
        return Reduce(op.name, arg, self._typed(I64 if op.kind == "argreduction" else dtype))

    def _apply(self, word: Token) -> Apply:
        reader = self.reader
        op = OPS.get(word.text)
        if not isinstance(op, Elementwise):
            reader.fail(f"there is no elementwise op {word.text!r}", word)
        args, dtypes = zip(*self._operands(), strict=True)
        if len(args) != op.arity:
            reader.fail(f"{op.name} takes {op.arity} operands, not {len(args)}", word)
        attrs = reader.attributes(op, word)
        try:
            inferred = op.infer(tuple(Array(dtype) for dtype in dtypes), attrs)
        except (AdjitError, TypeError, ValueError, LookupError) as error:
            reader.fail(str(error), word)
        assert isinstance(inferred, Array)
        kept = tuple(sorted((name, value) for name, value in attrs.items() if name != "weak"))
        return Apply(op.name, args, kept, self._typed(inferred.dtype))

    def _operands(self) -> list[tuple[int, np.dtype]]:
        found = [self._operand()]
        while self.reader.accept("sign", ","):
            found.append(self._operand())
        return found
