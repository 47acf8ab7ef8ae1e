"""What a kernel touches of memory, as boxes of elements: what verifiers ask, of a plan and of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from adjit.schedule.instructions import Body, Bounds, Gather, Load, Store


class Touch(NamedTuple):
    """Elements of `dtype` at start + strides . index bytes of a parameter, for all indices below `extents` for which
    the bounds hold."""

    param: int
    dtype: np.dtype
    start: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    writes: bool
    bounds: Bounds = ()

    def shifted(self, param: int, nbytes: int) -> Touch:
        """The same elsewhere."""
        return self._replace(param=param, start=self.start + nbytes)

    def repeated(self, count: int, stride: int) -> Touch:
        """For one more index, the first, which the bounds do not ask."""
        bounds = tuple((constant, (0, *factors), n) for constant, factors, n in self.bounds)
        return self._replace(extents=(count, *self.extents), strides=(stride, *self.strides), bounds=bounds)


def touches_of_body(body: Body) -> Iterator[Touch]:
    """The loads and stores of a body, over its domain."""
    for instruction in body.code:
        if isinstance(instruction, Load | Gather | Store):
            yield _touch(instruction, body.domain)


def _touch(instruction: Load | Gather | Store, domain: tuple[int, ...]) -> Touch:
    dtype = instruction.dtype
    strides = tuple(c * dtype.itemsize for c in instruction.coefficients)
    if isinstance(instruction, Store):
        return Touch(instruction.param, dtype, 0, domain, strides, True)
    if isinstance(instruction, Load):
        return Touch(instruction.param, dtype, 0, domain, strides, False, instruction.bounds)
    return at_any_position(
        instruction.param, dtype, domain, strides, instruction.stride, instruction.size, False, instruction.bounds
    )


def at_any_position(
    param: int,
    dtype: np.dtype,
    domain: tuple[int, ...],
    strides: tuple[int, ...],
    stride: int,
    size: int,
    writes: bool,
    bounds: Bounds = (),
) -> Touch:
    """What is touched at one of `size` positions that is computed, each `stride` elements after another: an index more,
    which the bounds do not ask."""
    more = tuple((constant, (*factors, 0), n) for constant, factors, n in bounds)
    return Touch(param, dtype, 0, (*domain, max(size, 1)), (*strides, stride * dtype.itemsize), writes, more)


def visits_once(body: Body, coefficients: tuple[int, ...]) -> bool:
    """Whether no element is visited twice, but along reduced dimensions."""
    reached = 1
    kept = [
        (abs(c), n) for d, (c, n) in enumerate(zip(coefficients, body.domain, strict=True)) if d not in body.reduced
    ]
    for c, n in sorted(kept):
        if n == 1:
            continue
        if c < reached:
            return False
        reached = c * (n - 1) + reached
    return True
