"""How a body's accesses become loads and stores: addresses that grow loop by loop, masks, gathers, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adjit.codegen.lanes import Lane
from adjit.codegen.llvm import (
    I8,
    I64,
    Ty,
    Value,
    int_literal,
    literal,
    memory_type,
    vector_literal,
)
from adjit.codegen.vectorized import Scope, Vectorized
from adjit.schedule.instructions import Bounds, Gather, Load, ProductElement, Store
from adjit.tuned import STORES_BESIDE


@dataclass(frozen=True, slots=True)
class TileAccess:
    """Where the finished product lies in an epilogue: element (i, j) at pointer[(i - i0) * row + (j - j0)]. Where rows
    come in `lines`, of `height` rows each, those from `line0` on follow one another."""

    pointer: Value
    row: Value
    i0: Value
    j0: Value
    m_dim: int
    n_dim: int
    line_dim: int | None = None
    line0: Value | None = None
    height: int = 0


class Access:
    """The memory of a body: `pointers` are the parameters' addresses.

    `address` is where an access lies as far as the loops that are entered say; `affine` and `within` are what else is
    computed of indices. `load`, `gather`, `load_product` and `store` do what the instructions of those names say, for
    one element or all lanes (`wide`); `load_element`, `load_lanes` and `store_lanes` do so at an address."""

    def __init__(self, work: Vectorized, pointers: dict[int, Value], tile: TileAccess | None = None) -> None:
        self.work = work
        self.pointers = pointers
        self.tile = tile
        self._first = min(pointers, default=0)

    # -- addresses ----------------------------------------------------------------------------------------------------

    def address(self, param: int, coefficients: tuple[int, ...], scope: Scope) -> Value:
        """The address of an access as far as the loops that are entered say."""
        f = self.work.function
        dtype = self.work.body.params[param - self._first]
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

    def affine(self, constant: int, coefficients: Sequence[int], scope: Scope, wide: bool) -> Value:
        """constant + coefficients . index, in each lane where `wide`."""
        f = self.work.function
        at = int_literal(constant)
        for d, c in enumerate(coefficients):
            if c:
                at = f.add(f.mul(scope.index[d], c), at)
        if not wide:
            return at
        lanes = f.splat(at, self.work.lanes)
        stride = self._stride(coefficients)
        if stride == 0:
            return lanes
        return f.binary("add", lanes, self._steps(stride))

    def within(self, bounds: Bounds, scope: Scope, wide: bool) -> Value:
        """Whether all bounds hold, in each lane where `wide`."""
        f = self.work.function
        result: Value | None = None
        for constant, coefficients, n in bounds:
            at = self.affine(constant, coefficients, scope, wide)
            test = f.compare("ult", at, literal(at.ty, n))
            result = test if result is None else f.binary("and", result, test)
        assert result is not None
        return result

    def _stride(self, coefficients: Sequence[int]) -> int:
        """How many elements apart lanes lie."""
        assert self.work.vector is not None
        return coefficients[self.work.vector]

    def _steps(self, stride: int) -> Value:
        """0, stride, 2 stride, ... in the lanes."""
        lanes = self.work.lanes
        return vector_literal(I64.vector(lanes), range(0, stride * lanes, stride) if stride else [0] * lanes)

    def _mask(self, bounds: Bounds, scope: Scope) -> Value | None:
        """The lanes that may be touched; None for all."""
        mask = scope.mask
        if bounds:
            within = self.within(bounds, scope, True)
            mask = within if mask is None else self.work.function.binary("and", mask, within)
        return mask

    def _safe(self, address: Value, bounds: Bounds, scope: Scope, dtype: np.dtype) -> Value:
        """An address that may be read whether or not the bounds hold."""
        if not bounds:
            return address
        f = self.work.function
        nowhere = f.alloca(memory_type(dtype), 1)
        f.store(literal(memory_type(dtype), 0), nowhere)
        return f.select(self.within(bounds, scope, False), address, nowhere)

    # -- loads --------------------------------------------------------------------------------------------------------

    def load(self, instruction: Load, scope: Scope, wide: bool) -> Lane:
        """The element, or that of each lane."""
        address = self.address(instruction.param, instruction.coefficients, scope)
        return self._loaded(instruction, address, scope, wide)

    def gather(self, instruction: Gather, scope: Scope, wide: bool) -> Lane:
        """The element at a position that was computed, in each lane its own where that varies."""
        f = self.work.function
        memory = memory_type(instruction.dtype)
        address = self.address(instruction.param, instruction.coefficients, scope)
        at = scope.values[instruction.at].value
        # Held within the axis, whatever another thread does to the index after its check.
        at = f.intrinsic("umin", at.ty, (at, literal(at.ty, max(instruction.size - 1, 0))))
        if not at.ty.lanes:
            address = f.element(address, memory, f.mul(at, instruction.stride))
            return self._loaded(instruction, address, scope, wide)
        offsets = f.binary("mul", at, literal(at.ty, instruction.stride))
        offsets = f.binary("add", offsets, self._steps(self._stride(instruction.coefficients)))
        ty = memory.vector(self.work.lanes)
        raw = f.gather(address, ty, offsets, self._mask(instruction.bounds, scope))
        return self.work.vectors.wrap(self._from_memory(raw, instruction.dtype), instruction.dtype)

    def _loaded(self, instruction: Load | Gather, address: Value, scope: Scope, wide: bool) -> Lane:
        dtype = instruction.dtype
        if not wide:
            return self.load_element(self._safe(address, instruction.bounds, scope, dtype), dtype)
        mask = self._mask(instruction.bounds, scope)
        return self.load_lanes(address, dtype, self._stride(instruction.coefficients), mask)

    def load_element(self, address: Value, dtype: np.dtype) -> Lane:
        """Read one element."""
        raw = self.work.function.load(address, memory_type(dtype))
        return self.work.scalar.wrap(self._from_memory(raw, dtype), dtype)

    def load_lanes(self, address: Value, dtype: np.dtype, stride: int, mask: Value | None) -> Lane:
        """Read lanes `stride` elements apart."""
        raw = self._raw_lanes(address, memory_type(dtype).vector(self.work.lanes), stride, mask)
        return self.work.vectors.wrap(self._from_memory(raw, dtype), dtype)

    def _raw_lanes(self, address: Value, ty: Ty, stride: int, mask: Value | None) -> Value:
        f = self.work.function
        if stride == 1:
            return f.load(address, ty) if mask is None else f.masked_load(address, ty, mask)
        return f.gather(address, ty, self._steps(stride), mask)

    def load_product(self, instruction: ProductElement, scope: Scope) -> Lane:
        """The finished product of an epilogue."""
        f, tile = self.work.function, self.tile
        assert tile is not None
        number = f.sub(scope.index[tile.m_dim], tile.i0)
        if tile.line_dim is not None and tile.line0 is not None:
            number = f.add(number, f.mul(f.sub(scope.index[tile.line_dim], tile.line0), tile.height))
        at = f.add(f.mul(number, tile.row), f.sub(scope.index[tile.n_dim], tile.j0))
        memory = memory_type(instruction.dtype)
        address = f.element(tile.pointer, memory, at)
        if self.work.vector is None:
            return self.work.scalar.wrap(f.load(address, memory), instruction.dtype)
        raw = self._raw_lanes(address, memory.vector(self.work.lanes), 1, scope.mask)
        return self.work.vectors.wrap(raw, instruction.dtype)

    def _from_memory(self, raw: Value, dtype: np.dtype) -> Value:
        if dtype.kind != "b":
            return raw
        return self.work.function.compare("ne", raw, literal(raw.ty, 0))

    # -- stores -------------------------------------------------------------------------------------------------------

    def store(self, instruction: Store, scope: Scope, wide: bool) -> None:
        """Write the element, or that of each lane."""
        address = self.address(instruction.param, instruction.coefficients, scope)
        if not wide:
            value = scope.values[instruction.arg].value
            self.work.function.store(self.to_memory(value, instruction.dtype), address)
            return
        raw = self.to_memory(self.work.widened(instruction.arg, scope).value, instruction.dtype)
        self.store_lanes(raw, address, self._stride(instruction.coefficients), scope.mask)

    def to_memory(self, value: Value, dtype: np.dtype) -> Value:
        """A register's value as it lies in memory: a bool is a byte."""
        f = self.work.function
        return f.convert("zext", value, I8.vector(value.ty.lanes)) if dtype.kind == "b" else value

    def store_lanes(self, value: Value, address: Value, stride: int, mask: Value | None) -> None:
        """Write lanes `stride` elements apart."""
        f = self.work.function
        if stride != 1:
            f.scatter(value, address, self._steps(stride), mask)
        elif mask is None:
            f.store(value, address)
        else:
            f.masked_store(value, address, mask)

    def fills(self, stores: Sequence[Store], scope: Scope) -> bool:
        """Whether stores side by side fill the memory of the lanes, and are few enough for that to be quicker."""
        vector = self.work.vector
        whole = vector is not None and scope.mask is None and vector in scope.entered
        return whole and stores[0].coefficients[vector or 0] == len(stores) <= STORES_BESIDE

    def store_beside(self, stores: Sequence[Store], scope: Scope) -> None:
        """Write the lanes of stores that fill memory together: its vectors one after the other."""
        f, lanes, count, dtype = self.work.function, self.work.lanes, len(stores), stores[0].dtype
        values = [self.to_memory(self.work.widened(store.arg, scope).value, dtype) for store in stores]
        address = self.address(stores[0].param, stores[0].coefficients, scope)
        target = f.module.target
        own = min(lanes, target.vector_bytes // dtype.itemsize) if target is not None else lanes
        for start in range(0, lanes, own):
            parts = values
            if own != lanes:
                parts = [f.shuffle(value, None, range(start, start + own)) for value in values]
            for first in range(0, own * count, own):
                at = f.element(address, memory_type(dtype), start * count + first)
                f.store(self._interleaved(parts, first, own), at)

    def _interleaved(self, parts: Sequence[Value], first: int, lanes: int) -> Value:
        """So many elements from one on, where each part has one in turn."""
        places = [divmod(first + lane, len(parts)) for lane in range(lanes)]
        merged = parts[0]
        for number, part in enumerate(parts[1:], 1):
            merged = self.work.function.shuffle(
                merged,
                part,
                [lanes + at if of == number else lane if number > 1 else at for lane, (at, of) in enumerate(places)],
            )
        return merged
