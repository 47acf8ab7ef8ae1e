"""Kinds of work: what one kernel does. Data, which knows its own facts; nothing but the emitters, and the parser of a
kind's text, asks which kind a work is. `turns` has those that have a graph or a plan in them.

A new kind is a class here or there, its emitter in `codegen/emitters`, and the reader of its text in `parse_work`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adjit.ir.types import dtype_name
from adjit.schedule.buffer import Buffer, Params, storage
from adjit.schedule.counts import bytes_of_body, itemsize_of_body, operations_of_body
from adjit.schedule.instructions import Apply, Body, Gather, Load, Reduce, Store
from adjit.schedule.notation import affine, numbers, over, plural
from adjit.schedule.touches import Touch, at_any_position, touches_of_body, visits_once


class Work(ABC):
    """One kind of work. Parameters of its kernel have numbers; equal works have one function.

    operands   parameters of the kernel that come ahead of those that the body names
    in_order   its elements come one after the other, so that neither vectors nor threads share them
    packs      it is given memory for packing, after its parameters"""

    __slots__ = ()
    operands: ClassVar[int] = 0
    in_order: ClassVar[bool] = False
    packs: ClassVar[bool] = False

    @property
    @abstractmethod
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""

    @property
    @abstractmethod
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written."""

    @property
    def changes(self) -> Collection[int]:
        """Numbers of the parameters of which it writes some elements and leaves the rest: they have values before."""
        return ()

    @abstractmethod
    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether buffers of these dtypes are what its parameters name."""

    @abstractmethod
    def touches(self) -> Iterator[Touch]:
        """All that it touches of the memory that its parameters name."""

    @property
    def elements(self) -> Body | None:
        """What is computed element by element."""
        return None

    @property
    def may_fail(self) -> bool:
        """Whether it may leave the program, by a check; it is given the report then, as the last of all, if it has
        `reports`."""
        return False

    @property
    def reports(self) -> bool:
        """Whether it writes what failed into the report itself."""
        return False

    @property
    def tells_turns(self) -> bool:
        """Whether what a check in it reports has the number of a turn of the loop around it already."""
        return False

    @property
    def is_shared(self) -> bool:
        """Whether it is in groups, which run on the threads of the pool."""
        return False

    @property
    def has_turns(self) -> bool:
        """Whether it is a loop whose turns come one after the other."""
        return False

    def singles(self, alone: bool = True, times: int = 1) -> Iterator[tuple[Single, bool, int]]:
        """The works that it consists of, which have no others in them: each with whether threads may share it, and how
        often it runs."""
        yield from ()

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """Whether every read of `buffer` is at the element that is written, before it is written."""
        return False

    # -- what a profile says ----------------------------------------------------------------------------------------

    @abstractmethod
    def describe(self) -> str:
        """It in a few words."""

    @abstractmethod
    def explain(self) -> str:
        """What became one kernel, in a sentence."""

    @abstractmethod
    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to the work that makes what its parameters of the numbers `mine` name."""

    @property
    @abstractmethod
    def flops(self) -> float:
        """Floating-point operations."""

    @property
    def product_flops(self) -> int:
        """Floating-point operations of matrix products, of which there are many for each element."""
        return 0

    @property
    def instructions(self) -> float:
        """Instructions of loops over straight lines, about."""
        return 0.0

    @property
    @abstractmethod
    def itemsize(self) -> int:
        """Bytes of the numbers that it computes with."""

    def nbytes(self, params: Params) -> float:
        """Bytes that it moves at least: each once, however often it is read."""
        both = {params[number][0] for number in (*self.reads, *self.writes)}
        return sum({storage(buffer): buffer.nbytes for buffer in both}.values())


class Single(Work):
    """A work that has no other in it. What it computes element by element is the body that its text ends with, `title`
    ahead of it where that is a part of the work."""

    __slots__ = ()
    title: ClassVar[str] = ""

    @abstractmethod
    def head(self, places: Sequence[str]) -> str:
        """The first line of its text; `places` are its parameters."""

    @property
    @abstractmethod
    def extents(self) -> tuple[int, ...]:
        """The sizes of what it computes: with a zero among them it touches no memory."""

    def singles(self, alone: bool = True, times: int = 1) -> Iterator[tuple[Single, bool, int]]:
        """Itself."""
        yield self, alone, times

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """Whether the body alone reads it, at the element that is written."""
        body = self.elements
        if self.in_order or body is None:
            return False
        if buffer in {buffer for buffer, _ in params[: self.operands]}:
            return False  # operands are read all over, and the product itself is not read through a Load
        places = set()
        for instruction in body.code:
            if isinstance(instruction, Gather) and params[instruction.param][0] is buffer:
                return False
            if isinstance(instruction, (Load, Store)) and params[instruction.param][0] is buffer:
                places.add((params[instruction.param][1], instruction.coefficients))
        if len(places) != 1:
            return False
        ((_, coefficients),) = places
        if any(isinstance(instruction, Reduce) for instruction in body.code):
            # Row-level values are read and written once, after the last reduction; others may be read in a later pass.
            return all(coefficients[d] == 0 for d in body.reduced) and visits_once(body, coefficients)
        return visits_once(body, coefficients)


class _Nest(Single):
    """What kinds of work have in common that compute a body element by element."""

    __slots__ = ()
    body: Body

    @property
    def elements(self) -> Body | None:
        """What is computed element by element."""
        return self.body

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""
        return self.body.reads

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written."""
        return self.body.writes

    @property
    def extents(self) -> tuple[int, ...]:
        """The domain of the body."""
        return self.body.domain

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether those after the operands are what the body takes."""
        return given[self.operands :] == self.body.params and len(given) >= self.operands

    def touches(self) -> Iterator[Touch]:
        """What the body touches."""
        return touches_of_body(self.body)

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        return f"{type(self).__name__.lower()} {over(self.body)}"

    def describe(self) -> str:
        """It in a few words."""
        return f"{type(self).__name__.lower()} over {_space(self.body)}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        return f"{_operations(self.body)}{self._sums()} in one pass over the elements."

    def _sums(self) -> str:
        return ""

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        return "takes its elements one after the other"

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return operations_of_body(self.body) * math.prod(self.body.domain)

    @property
    def itemsize(self) -> int:
        """Bytes of the numbers that it computes with."""
        return itemsize_of_body(self.body)

    def nbytes(self, params: Params) -> float:
        """Bytes of the elements that it reads and writes."""
        return bytes_of_body(self.body, params)


def _space(body: Body) -> str:
    return "x".join(map(str, body.domain)) or "one element"


def _operations(body: Body) -> str:
    count = sum(isinstance(i, Apply) for i in body.code)
    return f"{count} operation{plural(count)}"


@dataclass(frozen=True, slots=True)
class Prefetch:
    """What a loop prefetches that is read later: for each index of dimension `dim`, in order, `lines` lines of the
    cache, the first of them `start` bytes past where parameter `param` points."""

    param: int
    dim: int
    start: int
    lines: int


@dataclass(frozen=True, slots=True)
class Loop(_Nest):
    """A loop nest: maps, reductions, and rows of both."""

    body: Body
    prefetches: tuple[Prefetch, ...] = ()

    def _sums(self) -> str:
        sums = sum(isinstance(i, Reduce) for i in self.body.code)
        return f" and {sums} reduction{plural(sums)}" if sums else ""

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        made = writer.elements if isinstance(writer, Single) else None
        if self.body.reduced and writer.product_flops:
            return "reduces it, and a block of the product is not a whole row or column"
        if made is not None and isinstance(writer, Loop) and self.body.domain == made.domain:
            if self.body.reduced != made.reduced:
                return "reduces along another axis"
            if made.reduced:
                return "needs the finished reduction"
        return f"goes over {_space(self.body)}"


@dataclass(frozen=True, slots=True)
class Product(Single):
    """C = A B over (batch, m, n, k), then the epilogue on each finished tile.

    Parameters 0, 1 and 2 of the kernel are A, B and C (C may be scratch); the epilogue's follow. Strides are in
    elements (the elements of a row of C are adjacent); `batch` lists (extent, stride of A, of B, of C). Each element is
    a sum over k for each index of the `runs`, which list (extent, stride of A, of B), outermost first. The epilogue's
    domain is (batch, m, n).
    """

    dtype: np.dtype
    m: int
    n: int
    k: int
    a_strides: tuple[int, int]
    b_strides: tuple[int, int]
    c_row: int
    batch: tuple[tuple[int, int, int, int], ...]
    scratch: bool
    epilogue: Body | None
    runs: tuple[tuple[int, int, int], ...] = ()

    A: ClassVar[int] = 0
    B: ClassVar[int] = 1
    C: ClassVar[int] = 2
    """Numbers of the kernel's parameters."""
    RUNS: ClassVar[int] = 3
    """Loops around the sums, at most."""
    operands: ClassVar[int] = 3
    packs: ClassVar[bool] = True
    title: ClassVar[str] = "epilogue"

    @property
    def elements(self) -> Body | None:
        """What is computed element by element."""
        return self.epilogue

    @property
    def reads(self) -> Collection[int]:
        """Numbers of the parameters that are read."""
        return {self.A, self.B} | (self.epilogue.reads if self.epilogue is not None else set())

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written."""
        return {self.C} | (self.epilogue.writes if self.epilogue is not None else set())

    @property
    def extents(self) -> tuple[int, ...]:
        """The sizes of its result."""
        return (self.m, self.n, *(entry[0] for entry in self.batch))

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        """Whether three are of its dtype, and the others what the epilogue takes."""
        return given == ((self.dtype,) * 3 + (self.epilogue.params if self.epilogue is not None else ()))

    def touches(self) -> Iterator[Touch]:
        """What the product touches, then what the epilogue does."""
        yield from self.touches_of_product()
        if self.epilogue is not None:
            yield from touches_of_body(self.epilogue)

    def touches_of_product(self) -> Iterator[Touch]:
        """What the product itself touches, over (batch ..., m, n, runs ..., k); not its block where that is scratch."""
        counts = tuple(entry[0] for entry in self.batch)
        sums = (*(entry[0] for entry in self.runs), self.k)
        a, b = (tuple(entry[which] for entry in self.runs) for which in (1, 2))
        places = (
            (self.A, sums, (self.a_strides[0], 0, *a, self.a_strides[1])),
            (self.B, sums, (0, self.b_strides[1], *b, self.b_strides[0])),
            (self.C, (), (self.c_row, 1)),
        )
        for param, summed, strides in places:
            if param == self.C and self.scratch:
                continue
            steps = (*(entry[1 + param] for entry in self.batch), *strides)
            nbytes = tuple(step * self.dtype.itemsize for step in steps)
            yield Touch(param, self.dtype, 0, (*counts, self.m, self.n, *summed), nbytes, param == self.C)

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        batch = "".join(f" batch={count} {numbers(strides)}" for count, *strides in self.batch)
        runs = "".join(f" runs={count} {numbers(strides)}" for count, *strides in self.runs)
        scratch = " scratch" if self.scratch else ""
        return (
            f"product{batch} m={self.m} n={self.n} k={self.k}{runs}  A={places[self.A]} {numbers(self.a_strides)}  "
            f"B={places[self.B]} {numbers(self.b_strides)}  C={places[self.C]} ({self.c_row},1){scratch}"
        )

    def describe(self) -> str:
        """It in a few words."""
        batch = "".join(f"{entry[0]}x" for entry in self.batch)
        return f"product {batch}{self.m}x{self.n}x{self.sums} {dtype_name(self.dtype)}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        if self.epilogue is None:
            return "A matrix product alone: what reads it does so at other places than its tiles."
        count = sum(isinstance(i, Apply) for i in self.epilogue.code)
        stored = "; the product itself is not kept" if self.scratch else ""
        return f"{count} operations on each finished block of the product while it is in the cache{stored}."

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        """Why it is not joined to its writer."""
        if not {self.A, self.B}.isdisjoint(mine):
            return "reads it as a matrix"
        return "reads it with each block of its product"

    @property
    def sums(self) -> int:
        """Multiplications for each element of C."""
        return self.k * math.prod(entry[0] for entry in self.runs)

    @property
    def product_flops(self) -> int:
        """Floating-point operations, without the epilogue's."""
        return 2 * self.m * self.n * self.sums * math.prod(entry[0] for entry in self.batch)

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        if self.epilogue is None:
            return float(self.product_flops)
        return self.product_flops + operations_of_body(self.epilogue) * math.prod(self.epilogue.domain)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    def nbytes(self, params: Params) -> float:
        """Bytes of the matrices, and of what the epilogue reads and writes: twice what it does both with."""
        old, new = ({params[number][0] for number in which} for which in (self.reads, self.writes))
        once = {storage(buffer): buffer.nbytes for buffer in old | new}
        return sum(once.values()) + sum(buffer.nbytes for buffer in old & new)


@dataclass(frozen=True, slots=True)
class Running(_Nest):
    """A running sum or product along the one reduced dimension; the body's only Reduce is the running value."""

    body: Body
    reverse: bool

    in_order: ClassVar[bool] = True

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        return f"running {over(self.body)}{' reverse' if self.reverse else ''}"

    def _sums(self) -> str:
        return " and a running reduction"


@dataclass(frozen=True, slots=True)
class Scatter(_Nest):
    """Sequentially over the domain: target[coefficients . index + stride * at] = or += value.

    Parameter 0 is the target; `at` and `value` are instructions of the body."""

    body: Body
    at: int
    value: int
    coefficients: tuple[int, ...]
    stride: int
    size: int
    add: bool

    TARGET: ClassVar[int] = 0
    """The number of the kernel's parameter."""
    operands: ClassVar[int] = 1
    in_order: ClassVar[bool] = True

    @property
    def writes(self) -> Collection[int]:
        """Numbers of the parameters that are written; the target is read where it is written, which does not count."""
        return {self.TARGET} | self.body.writes

    @property
    def changes(self) -> Collection[int]:
        """The target."""
        return {self.TARGET}

    def touches(self) -> Iterator[Touch]:
        """What the body touches, and the target."""
        yield from touches_of_body(self.body)
        dtype = self.body.code[self.value].dtype
        strides = tuple(c * dtype.itemsize for c in self.coefficients)
        yield at_any_position(self.TARGET, dtype, self.body.domain, strides, self.stride, self.size, True)

    def overwrites_safely(self, params: Params, buffer: Buffer) -> bool:
        """One element is written when all is read."""
        return math.prod(self.body.domain) == 1

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        where = affine(0, self.coefficients, (self.at, self.stride))
        action = f"{'add' if self.add else 'set'} v{self.value} -> {places[self.TARGET]}[{where}]"
        return f"scatter {over(self.body)} {action} v{self.at} in [0,{self.size})"

    def _sums(self) -> str:
        return ", written to places that are computed"


@dataclass(frozen=True, slots=True)
class CheckRange(_Nest):
    """Leaves the program with `number` + 1 where the value of `at` is outside [low, high) anywhere in the domain."""

    body: Body
    at: int
    low: int
    high: int
    number: int

    in_order: ClassVar[bool] = True

    @property
    def may_fail(self) -> bool:
        """That is all it does."""
        return True

    @property
    def reports(self) -> bool:
        """The value goes into the report."""
        return True

    def head(self, places: Sequence[str]) -> str:
        """The first line of its text."""
        return f"checkrange {over(self.body)} v{self.at} in [{self.low},{self.high}) check {self.number}"

    def explain(self) -> str:
        """What became one kernel, in a sentence."""
        return "Checks an index before anything of the state is written."
