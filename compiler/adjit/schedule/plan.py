"""Plan: kernels in order, each with its domain and body, and buffers with places. Data only.

A kernel's **body** is a tuple of instructions over scalars, in order; an instruction's operands are the numbers of
earlier ones. Memory is named by parameter: parameter p is a pointer to an element of one buffer, and an access
adds `coefficients . index` elements to it. So two kernels that differ only in buffers and offsets have equal
bodies, are emitted once and are called twice.

Levels of a loop kernel with reduced dimensions: an instruction whose value varies along no reduced dimension is
computed once for each point of the others ("row"); a `Reduce` turns a value that varies into a row's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc

Bounds = tuple[tuple[int, tuple[int, ...], int], ...]
"""Predicates (constant, coefficients, n): 0 <= constant + coefficients . index < n, all of them."""


@dataclass(frozen=True, slots=True)
class Load:
    """The element at parameter + coefficients . index; where a bound fails memory is not touched (the value is 0)."""

    param: int
    coefficients: tuple[int, ...]
    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Gather:
    """The element at parameter + coefficients . index + stride * value of `at`, which is held within [0, size)."""

    param: int
    coefficients: tuple[int, ...]
    at: int
    stride: int
    size: int
    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Tile:
    """In the epilogue of a contraction: the finished element of the product."""

    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Const:
    """A constant; `bits` tells apart what == does not (nan, -0.0)."""

    value: Any
    bits: bytes
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Index:
    """constant + coefficients . index, as a number."""

    constant: int
    coefficients: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Inside:
    """Whether all bounds hold."""

    bounds: Bounds
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise op of the registry."""

    op: str
    args: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Reduce:
    """A reduction op over the reduced dimensions; argmax and argmin give the linear index over them."""

    op: str
    arg: int
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Store:
    """Write the value of `arg` at parameter + coefficients . index."""

    param: int
    coefficients: tuple[int, ...]
    arg: int
    dtype: np.dtype


Instruction = Load | Gather | Tile | Const | Index | Inside | Apply | Reduce | Store


def operands(instruction: Instruction) -> tuple[int, ...]:
    """The numbers of the instructions that an instruction reads."""
    if isinstance(instruction, Apply):
        return instruction.args
    if isinstance(instruction, (Reduce, Store)):
        return (instruction.arg,)
    if isinstance(instruction, Gather):
        return (instruction.at,)
    return ()


@dataclass(frozen=True, slots=True)
class Body:
    """Instructions over a domain; `reduced` lists the domain's reduced dimensions; `params` the dtype of each."""

    domain: tuple[int, ...]
    reduced: tuple[int, ...]
    params: tuple[np.dtype, ...]
    code: tuple[Instruction, ...]
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        # Each layer of a network asks for it several times.
        if self._hash == 0:
            object.__setattr__(self, "_hash", hash((self.domain, self.reduced, self.params, self.code)))
        return self._hash

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Load | Gather)}

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written."""
        return {instruction.param for instruction in self.code if isinstance(instruction, Store)}


@dataclass(frozen=True, slots=True)
class Prefetch:
    """What a loop prefetches that is read later: for each index of dimension `dim`, in order, `lines` lines of the
    cache, the first of them `start` bytes past where parameter `param` points."""

    param: int
    dim: int
    start: int
    lines: int


class _Nest:
    """What kinds of work have in common that compute a body element by element."""

    __slots__ = ()
    body: Body

    operands: ClassVar[int] = 0
    """Parameters of the kernel that come ahead of those that the body names."""
    in_order: ClassVar[bool] = False
    """Whether its elements come one after the other, so that neither vectors nor threads share them."""
    may_fail: ClassVar[bool] = False
    """Whether it may leave the program, by a check."""

    @property
    def elements(self) -> Body | None:
        """What is computed element by element."""
        return self.body

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read."""
        return self.body.reads

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written."""
        return self.body.writes

    @property
    def parts(self) -> tuple[Single, ...]:
        """The kinds of work that it consists of: itself."""
        return (self,)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Loop(_Nest):
    """A loop nest: maps, reductions, and rows of both."""

    body: Body
    prefetches: tuple[Prefetch, ...] = ()


@dataclass(frozen=True, slots=True)
class Product:
    """C = A B over (batch, m, n, k), then the epilogue on each finished tile.

    Parameters 0, 1 and 2 of the kernel are A, B and C (C may be scratch); the epilogue's follow. Strides are in
    elements (the elements of a row of C are adjacent); `batch` lists (extent, stride of A, of B, of C). The epilogue's
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

    A: ClassVar[int] = 0
    B: ClassVar[int] = 1
    C: ClassVar[int] = 2
    """Numbers of the kernel's parameters."""
    operands: ClassVar[int] = 3
    in_order: ClassVar[bool] = False
    may_fail: ClassVar[bool] = False

    @property
    def elements(self) -> Body | None:
        """What is computed element by element."""
        return self.epilogue

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read."""
        return {self.A, self.B} | (self.epilogue.reads if self.epilogue is not None else set())

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written."""
        return {self.C} | (self.epilogue.writes if self.epilogue is not None else set())

    @property
    def parts(self) -> tuple[Single, ...]:
        """The kinds of work that it consists of: itself."""
        return (self,)

    @property
    def flops(self) -> int:
        """Floating-point operations, without the epilogue's."""
        return 2 * self.m * self.n * self.k * math.prod(entry[0] for entry in self.batch)


@dataclass(frozen=True, slots=True)
class Running(_Nest):
    """A running sum or product along the one reduced dimension; the body's only Reduce is the running value."""

    body: Body
    reverse: bool

    in_order: ClassVar[bool] = True


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
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written; the target is read where it is written, which does not count."""
        return {self.TARGET} | self.body.writes


@dataclass(frozen=True, slots=True)
class CheckRange(_Nest):
    """Leaves the program with `number` + 1 where the value of `at` is outside [low, high) anywhere in the domain."""

    body: Body
    at: int
    low: int
    high: int
    number: int

    in_order: ClassVar[bool] = True
    may_fail: ClassVar[bool] = True


Single = Loop | Product | Running | Scatter | CheckRange


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter of a nested kernel points: `start` bytes past parameter `param` of the whole, `turn` bytes
    more for each turn and `group` more for each group of turns."""

    param: int
    start: int
    turn: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class NestedStep:
    """A kernel of a nested plan, and where its parameters point."""

    work: Work
    params: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Nested:
    """A plan in a plan: the steps for each of `count` turns. Turns are in `groups`, each with sums and scratch memory
    of its own, so that groups may run at the same time; those of one group come one after the other.

    `reads` and `writes` are numbers of parameters, `turns` the bytes by which each moves on with a turn, `extents`
    those that are reached from where it points: the first, and the one after the last. After these comes, where turns
    are `counted`, how many there are, `count` at most; where they are `ranged`, too, the first one and the one after
    the last. In `reverse` the last turn comes first. A loop that `stops` ends where parameter 0, a bool, is false ahead
    of a turn. The checks of the steps are numbered from `first_check` on, where there are any. All of these have one
    group. A turn of `stretches` goes through several turns of one and the same loop, by steps that do the same or are
    ranged, and tell errors the number."""

    count: int
    groups: int
    steps: tuple[NestedStep, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    turns: tuple[int, ...]
    extents: tuple[tuple[int, int], ...]
    reverse: bool = False
    stops: bool = False
    counted: bool = False
    ranged: bool = False
    stretches: bool = False
    first_check: int | None = None

    operands: ClassVar[int] = 0
    in_order: ClassVar[bool] = False
    elements: ClassVar[None] = None

    @property
    def may_fail(self) -> bool:
        """Whether it may leave the program, by a check."""
        return self.first_check is not None

    @property
    def tells_turn(self) -> bool:
        """Whether it reports the turn in which a check fails: a branch has but one."""
        return self.count > 1

    def tells_turn_of(self, step: NestedStep) -> bool:
        """Whether it does so for a check in a step: one that goes through turns of the same loop has told which."""
        work = step.work
        goes_through = isinstance(work, Nested | StraightLoop) and work.ranged
        goes_through |= isinstance(work, Nested) and work.stretches
        return self.tells_turn and not (self.stretches and goes_through)

    @property
    def is_shared(self) -> bool:
        """Whether its groups run on the threads of the pool: threads may share each step else."""
        return self.groups > 1

    @property
    def parts(self) -> tuple[Single, ...]:
        """The work of each step, and of the steps of what is nested in it."""
        return tuple(part for step in self.steps for part in step.work.parts)


@dataclass(frozen=True, slots=True)
class Straight:
    """A whole graph without loops, in registers; its parameters are the program's slots."""

    graph: Graph

    operands: ClassVar[int] = 0
    in_order: ClassVar[bool] = False
    elements: ClassVar[None] = None
    may_fail: ClassVar[bool] = False

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read: the inputs."""
        return set(range(len(self.graph.inputs)))

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written: the outputs, and inputs that have a new value."""
        inputs = self.graph.inputs
        renewed = {target for target, _ in self.graph.updates}
        return {i for i, node in enumerate(inputs) if node in renewed} | {
            len(inputs) + i for i in range(len(self.graph.outputs))
        }

    @property
    def parts(self) -> tuple[Single, ...]:
        """It consists of no other work."""
        return ()


@dataclass(frozen=True, slots=True)
class StraightLoop:
    """A straight line for each of `count` turns, one after the other; the first `carried` of its outputs are its first
    inputs in the next turn, in registers. Parameters are the inputs, then the outputs, of which what is carried is
    written once, at the end; then, where turns are `counted`, how many there are, `count` at most, and where they are
    `ranged`, too, the first one and the one after the last. In each turn, parameter i moves on by `turns[i]` elements;
    one that does not move is read before the first. In `reverse` the last turn comes first. A loop that `stops` ends
    where the first value that it carries, a bool, is false ahead of a turn. Checks are numbered from `first_check` on,
    where there are any."""

    graph: Graph
    count: int
    carried: int
    turns: tuple[int, ...]
    reverse: bool = False
    stops: bool = False
    counted: bool = False
    ranged: bool = False
    first_check: int | None = None

    operands: ClassVar[int] = 0
    in_order: ClassVar[bool] = False
    elements: ClassVar[None] = None

    @property
    def may_fail(self) -> bool:
        """Whether it may leave the program, by a check."""
        return self.first_check is not None

    @property
    def reads(self) -> set[int]:
        """Numbers of the parameters that are read: the inputs, and how many turns there are."""
        return set(range(len(self.graph.inputs))) | ({len(self.turns)} if self.counted else set())

    @property
    def writes(self) -> set[int]:
        """Numbers of the parameters that are written: the outputs."""
        first = len(self.graph.inputs)
        return set(range(first, first + len(self.graph.outputs)))

    @property
    def parts(self) -> tuple[Single, ...]:
        """It consists of no other work."""
        return ()


Work = Single | Nested | Straight | StraightLoop


def singles(work: Work, alone: bool = True, times: int = 1) -> Iterator[tuple[Single, bool, int]]:
    """The works without others in them that one consists of: each with whether threads may share it, and how often it
    runs."""
    if isinstance(work, Nested):
        for step in work.steps:
            yield from singles(step.work, alone and not work.is_shared, times * work.count)
    else:
        for part in work.parts:
            yield part, alone, times


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory of one value. `slot` is the program's slot, or None for the arena, where `offset` is its place.

    `first` and `last` are the numbers of the kernels that write it first and read it last. It may lie in the place of
    another one, `inside`, which may do so itself: the first of them is its `home`.
    """

    name: str
    dtype: np.dtype
    size: int
    slot: int | None = None
    offset: int = 0
    first: int = -1
    last: int = -1
    loc: Loc | None = None
    inside: Buffer | None = None
    home: Buffer | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize


class Located(Protocol):
    """What comes from a line of the user's: a node, or what a text says of some."""

    @property
    def loc(self) -> Loc | None:
        """The line."""


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """One piece of work and the memory that its parameters name: (buffer, offset in elements)."""

    work: Work
    params: tuple[tuple[Buffer, int], ...]
    nodes: tuple[Located, ...] = ()
    commits: bool = False
    inner: Plan | None = None

    @property
    def locs(self) -> list[Loc]:
        """The user's lines that this kernel computes, in order, each once."""
        seen: dict[str, Loc] = {}
        for node in self.nodes:
            if node.loc is not None:
                seen.setdefault(str(node.loc), node.loc)
        return list(seen.values())


@dataclass(eq=False, slots=True)
class Plan:
    """What code generation gets: kernels in order, buffers, the arena's size, and the program's slots."""

    name: str
    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    bytes_without_reuse: int
    peak_bytes: int
    peak_loc: Loc | None
    slots: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    checks: tuple[Any, ...]
    constants: dict[int, Data] = field(default_factory=dict)
