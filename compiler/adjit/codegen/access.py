"""How a body's accesses become loads and stores: addresses that grow loop by loop, masks, gathers, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import (
    I8,
    I64,
    Function,
    Ty,
    Value,
    int_literal,
    literal,
    memory_type,
    vector_literal,
)
from adjit.schedule.plan import Body, Bounds, Gather, Load, Tile


@dataclass(frozen=True, slots=True)
class TileAccess:
    """Where the finished product lies in an epilogue: element (i, j) at pointer[(i - i0) * row + (j - j0)]."""

    pointer: Value
    row: Value
    i0: Value
    j0: Value
    m_dim: int
    n_dim: int


@dataclass(eq=False, slots=True)
class Scope:
    """What is known inside some loops: values of instructions, indices, addresses, and the mask of a tail.

    `steps` are products of a dimension's index and a coefficient."""

    entered: tuple[int, ...] = ()
    index: dict[int, Value] = field(default_factory=dict)
    values: dict[int, Lane] = field(default_factory=dict)
    addresses: dict[tuple[int, tuple[int, ...]], Value] = field(default_factory=dict)
    steps: dict[tuple[int, int], Value] = field(default_factory=dict)
    wide: dict[int, Lane] = field(default_factory=dict)
    mask: Value | None = None
    copy: int = 0

    def enter(self, dim: int, index: Value, mask: Value | None) -> Scope:
        """The scope inside one more loop."""
        return Scope(
            (*self.entered, dim),
            {**self.index, dim: index},
            dict(self.values),
            dict(self.addresses),
            {at: step for at, step in self.steps.items() if at[0] != dim},
            dict(self.wide),
            mask if mask is not None else self.mask,
            self.copy,
        )


class Access:
    """Memory of one body in one function: `pointers` are the parameters' addresses, `vector` the dimension of lanes."""

    def __init__(
        self,
        function: Function,
        body: Body,
        pointers: dict[int, Value],
        lanes: int,
        vector: int | None,
        tile: TileAccess | None = None,
    ) -> None:
        self.function = function
        self.body = body
        self.pointers = pointers
        self._first = min(pointers, default=0)
        self.lanes = lanes
        self.vector = vector
        self.tile = tile
        self.scalar = Lanes(function, 0)
        self.vectors = Lanes(function, lanes) if vector is not None else self.scalar

    def _address(self, param: int, coefficients: tuple[int, ...], scope: Scope) -> Value:
        """The address of an access as far as the loops that are entered say."""
        f = self.function
        dtype = self.body.params[param - self._first]
        key: tuple[int, ...] = (0,) * len(coefficients)
        address = self.pointers[param]
        for d in scope.entered:
            if coefficients[d] == 0:
                continue
            key = (*key[:d], coefficients[d], *key[d + 1 :])
            known = scope.addresses.get((param, key))
            if known is None:
                step = scope.steps.get((d, coefficients[d]))
                if step is None:
                    step = scope.steps[d, coefficients[d]] = f.mul(scope.index[d], coefficients[d])
                known = f.element(address, memory_type(dtype), step)
                scope.addresses[param, key] = known
            address = known
        return address

    def _affine(self, constant: int, coefficients: Sequence[int], scope: Scope, wide: bool) -> Value:
        f = self.function
        at = int_literal(constant)
        for d, c in enumerate(coefficients):
            if c:
                at = f.add(f.mul(scope.index[d], c), at)
        if not wide:
            return at
        assert self.vector is not None
        lanes = f.splat(at, self.lanes)
        stride = coefficients[self.vector]
        if stride == 0:
            return lanes
        return f.binary("add", lanes, self._steps(stride))

    def _within(self, bounds: Bounds, scope: Scope, wide: bool) -> Value:
        """Whether all bounds hold, in each lane where `wide`."""
        f = self.function
        result: Value | None = None
        for constant, coefficients, n in bounds:
            at = self._affine(constant, coefficients, scope, wide)
            test = f.compare("ult", at, literal(at.ty, n))
            result = test if result is None else f.binary("and", result, test)
        assert result is not None
        return result

    def _mask(self, bounds: Bounds, scope: Scope) -> Value | None:
        """The lanes that may be touched; None for all."""
        mask = scope.mask
        if bounds:
            within = self._within(bounds, scope, True)
            mask = within if mask is None else self.function.binary("and", mask, within)
        return mask

    def _load(self, instruction: Load, scope: Scope, wide: bool) -> Lane:
        f = self.function
        address = self._address(instruction.param, instruction.coefficients, scope)
        dtype = instruction.dtype
        memory = memory_type(dtype)
        if not wide:
            if instruction.bounds:
                address = self._safe(address, instruction.bounds, scope, dtype)
            return self.scalar.wrap(self._from_memory(f.load(address, memory), dtype), dtype)
        assert self.vector is not None
        stride = instruction.coefficients[self.vector]
        raw = self._load_lanes(address, memory.vector(self.lanes), stride, self._mask(instruction.bounds, scope))
        return self.vectors.wrap(self._from_memory(raw, dtype), dtype)

    def _load_lanes(self, address: Value, ty: Ty, stride: int, mask: Value | None) -> Value:
        f = self.function
        if stride == 1:
            return f.load(address, ty) if mask is None else f.masked_load(address, ty, mask)
        return f.gather(address, ty, self._steps(stride), mask)

    def _steps(self, stride: int) -> Value:
        """0, stride, 2 stride, ... in the lanes."""
        return vector_literal(
            I64.vector(self.lanes), range(0, stride * self.lanes, stride) if stride else [0] * self.lanes
        )

    def _safe(self, address: Value, bounds: Bounds, scope: Scope, dtype: np.dtype) -> Value:
        """An address that may be read whether or not the bounds hold."""
        f = self.function
        nowhere = f.alloca(memory_type(dtype), 1)
        f.store(literal(memory_type(dtype), 0), nowhere)
        return f.select(self._within(bounds, scope, False), address, nowhere)

    def _gather(self, instruction: Gather, scope: Scope, wide: bool) -> Lane:
        f = self.function
        dtype = instruction.dtype
        memory = memory_type(dtype)
        address = self._address(instruction.param, instruction.coefficients, scope)
        at = scope.values[instruction.at].value
        if not at.ty.lanes:
            # Held within the axis, whatever another thread does to the index after its check.
            at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(instruction.size - 1, 0))))
            address = f.element(address, memory, f.mul(at, instruction.stride))
            if not wide:
                if instruction.bounds:
                    address = self._safe(address, instruction.bounds, scope, dtype)
                return self.scalar.wrap(self._from_memory(f.load(address, memory), dtype), dtype)
            assert self.vector is not None
            mask = self._mask(instruction.bounds, scope)
            raw = self._load_lanes(address, memory.vector(self.lanes), instruction.coefficients[self.vector], mask)
            return self.vectors.wrap(self._from_memory(raw, dtype), dtype)
        assert self.vector is not None
        at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(instruction.size - 1, 0))))
        offsets = f.binary("mul", at, literal(at.ty, instruction.stride))
        stride = instruction.coefficients[self.vector]
        offsets = f.binary("add", offsets, self._steps(stride))
        raw = f.gather(address, memory.vector(self.lanes), offsets, self._mask(instruction.bounds, scope))
        return self.vectors.wrap(self._from_memory(raw, dtype), dtype)

    def _load_tile(self, instruction: Tile, scope: Scope) -> Lane:
        f = self.function
        assert self.tile is not None
        tile = self.tile
        row = f.mul(f.sub(scope.index[tile.m_dim], tile.i0), tile.row)
        at = f.add(row, f.sub(scope.index[tile.n_dim], tile.j0))
        memory = memory_type(instruction.dtype)
        address = f.element(tile.pointer, memory, at)
        if self.vector is None:
            return self.scalar.wrap(f.load(address, memory), instruction.dtype)
        ty = memory.vector(self.lanes)
        raw = f.load(address, ty) if scope.mask is None else f.masked_load(address, ty, scope.mask)
        return self.vectors.wrap(raw, instruction.dtype)

    def _from_memory(self, raw: Value, dtype: np.dtype) -> Value:
        if dtype.kind != "b":
            return raw
        return self.function.compare("ne", raw, literal(raw.ty, 0))

    def to_memory(self, value: Value, dtype: np.dtype) -> Value:
        """A register's value as it lies in memory: a bool is a byte."""
        return self.function.convert("zext", value, I8.vector(value.ty.lanes)) if dtype.kind == "b" else value

    def store_lanes(self, value: Value, address: Value, stride: int, mask: Value | None) -> None:
        """Write lanes `stride` elements apart."""
        f = self.function
        if stride == 1:
            if mask is None:
                f.store(value, address)
            else:
                f.masked_store(value, address, mask)
            return
        f.scatter(value, address, self._steps(stride), mask)
