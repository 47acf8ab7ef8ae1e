"""Plan: kernels in order, each with its domain and body, and buffers with places. Data only.

A kernel's **body** is a tuple of instructions over scalars, in order; an instruction's operands are the numbers of
earlier ones. Memory is named by parameter: parameter p is a pointer to an element of one buffer, and an access
adds `coefficients . index` elements to it. So two kernels that differ only in buffers and offsets have equal
bodies, are emitted once and are called twice.

Levels of a loop kernel with reduced dimensions: an instruction whose value varies along no reduced dimension is
computed once for each point of the others ("row"); a `Reduce` turns a value that varies into a row's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Data, Loc
from adjit.tuned import (
    DIRECT_ROWS,
    DIRECT_SUMS,
    GEMM_BLOCKING,
    GEMM_CACHE_SHARE,
    GEMM_SMALL_BLOCK_BYTES,
    GemmBlocking,
)
from adjit_runtime.target import Target

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


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a loop brings near that is read later: for each index of dimension `dim`, in order, `lines` lines of the
    cache, the first of them `start` bytes behind where parameter `param` points."""

    param: int
    dim: int
    start: int
    lines: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop nest: maps, reductions, and rows of both."""

    body: Body
    ahead: tuple[Ahead, ...] = ()


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


def is_small(dtype: np.dtype, m: int, n: int, k: int, vector_bytes: int) -> bool:
    """Whether the sizes of a product may stand in its code: few rows and sums, and whole vectors of columns.

    All of C is one block then, so that its epilogue may reduce."""
    size = dtype.itemsize
    few = m <= DIRECT_ROWS and 0 < k <= DIRECT_SUMS
    return dtype.kind == "f" and few and n * size >= vector_bytes and m * n * size <= GEMM_SMALL_BLOCK_BYTES


def may_be_direct(m: int, n: int, k: int) -> bool:
    """Whether a product of these sizes, either way round, may have them in its code, as far as sums and rows go."""
    return k <= DIRECT_SUMS and min(m, n) <= DIRECT_ROWS


def is_direct(work: Product, vector_bytes: int) -> bool:
    """Whether a product is written with its sizes in the code: a small one whose B has adjacent columns."""
    return work.b_strides[1] == 1 and is_small(work.dtype, work.m, work.n, work.k, vector_bytes)


def rows_of_block(dtype: np.dtype) -> int:
    """Rows up to which each block that an epilogue is given has all rows of the product, if the caches allow it."""
    return min(
        (b.mc for (_, size), b in GEMM_BLOCKING.items() if dtype.kind == "f" and size == dtype.itemsize), default=0
    )


def gemm_blocking(dtype: np.dtype, target: Target) -> GemmBlocking:
    """The blocking of products of a float dtype: a block of A fits into a part of L2, one of packed B into a part of
    the last cache."""
    found = GEMM_BLOCKING[target.vector_bytes, dtype.itemsize]
    row = found.kc * dtype.itemsize
    columns = found.vectors * target.vector_bytes // dtype.itemsize

    def fitting(most: int, cache: int, unit: int) -> int:
        if not cache:
            return most
        return max(unit, min(most, cache // GEMM_CACHE_SHARE // row // unit * unit))

    mc, nc = fitting(found.mc, target.l2, found.rows), fitting(found.nc, max(target.l2, target.l3), columns)
    return replace(found, mc=mc, nc=nc)


def may_reduce(work: Product, target: Target) -> bool:
    """Whether the epilogue of a product may reduce its rows."""
    if is_direct(work, target.vector_bytes):
        return True
    return not work.batch and work.m <= min(rows_of_block(work.dtype), gemm_blocking(work.dtype, target).mc)


@dataclass(frozen=True, slots=True)
class Running:
    """A running sum or product along the one reduced dimension; the body's only Reduce is the running value."""

    body: Body
    reverse: bool


@dataclass(frozen=True, slots=True)
class Scatter:
    """Sequentially over the domain: target[coefficients . index + stride * at] = or += value.

    Parameter 0 is the target; `at` and `value` are instructions of the body."""

    body: Body
    at: int
    value: int
    coefficients: tuple[int, ...]
    stride: int
    size: int
    add: bool


@dataclass(frozen=True, slots=True)
class CheckRange:
    """Leaves the program with `number` + 1 where the value of `at` is outside [low, high) anywhere in the domain."""

    body: Body
    at: int
    low: int
    high: int
    number: int


Single = Loop | Product | Running | Scatter | CheckRange


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter of a tile's kernel points: `start` bytes behind parameter `param` of the whole, `tile` bytes
    more for each tile and `group` more for each group of tiles."""

    param: int
    start: int
    tile: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel of a tile, and where its parameters point."""

    work: Single
    params: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Tiles:
    """The steps for each of `count` tiles. Tiles are in `groups`, each with sums and scratch memory of its own, so that
    groups may run at the same time. `reads` and `writes` are numbers of parameters, `extents` the bytes that are
    reached from each."""

    count: int
    groups: int
    steps: tuple[Step, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    extents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Straight:
    """A whole graph without loops, in registers; its parameters are the program's slots."""

    graph: Graph


Work = Single | Tiles | Straight


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


def works_of(work: Work) -> Iterator[Single]:
    """A kernel's work, or those of its tiles."""
    if isinstance(work, Tiles):
        for step in work.steps:
            yield step.work
    elif not isinstance(work, Straight):
        yield work


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
