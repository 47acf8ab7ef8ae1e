"""Trace: one function on its way to becoming a graph; and the traces that are under way in this thread.

A trace owns a `Builder`. A value of an enclosing trace that is used inside becomes an extra input, a capture. A plain
array is a constant, one node for one array object as long as its bytes stay the same.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from adjit.ir.builder import Builder
from adjit.ir.node import Loc, Node
from adjit.ir.types import Array
from adjit_runtime.errors import AdjitError

ResultT = TypeVar("ResultT")


class Trace:
    """A trace under way. `alive` is False once its graph is closed; `refusal` is the first thing that it could not do
    and NumPy can; `part` says of which part of a program its graph is the body, where that does not run just once:
    "loop" or "branch"; `rule` is whose rule for a derivative it traces, for who traces rules. `checks` must hold where
    anything is read that it gives; `may_raise` says that who began it knows what an error is that it raises. `tables`
    are inputs of which a training step is to make no gradient of their size (`mark_table`). In that of the whole
    function, the `root`, is what was `made` once for all calls alike, by what they are."""

    def __init__(self, name: str, parent: Trace | None, part: str = "") -> None:
        self.name = name
        self.parent = parent
        self.part = part
        self.rule: object | None = None
        self.checks: list[Node] = []
        self.may_raise = False
        self.made: dict[Any, Any] = {}
        self.alive = True
        self.builder = Builder()
        self.captures: dict[Node, tuple[Node, Trace]] = {}
        self.refusal: AdjitError | None = None
        self.warned: set[tuple[str, int]] = set()
        self.bounds: dict[Node, tuple[int, int]] = {}
        self.tables: set[Node] = set()
        self._constants: dict[int, tuple[np.ndarray, Node]] = {}

    @property
    def root(self) -> Trace:
        """The outermost trace around this one."""
        at = self
        while at.parent is not None:
            at = at.parent
        return at

    def encloses(self, other: Trace) -> bool:
        """Whether `other` runs inside this trace."""
        at = other.parent
        while at is not None:
            if at is self:
                return True
            at = at.parent
        return False

    def part_inside(self) -> str:
        """The innermost loop or branch that the current trace, inside of this one, is in."""
        at = current_trace()
        while at is not None and at is not self:
            if at.part:
                return at.part
            at = at.parent
        return ""

    def capture(self, outer: Node, owner: Trace) -> Node:
        """The input that stands for a value of an enclosing trace."""
        if outer not in self.captures:
            names = {node.attrs["name"] for node in self.builder.inputs}
            name = next(name for i in itertools.count() if (name := f"capture{i}") not in names)
            inner = self.builder.input(name, outer.type)
            self.captures[outer] = (inner, owner)
            if outer in owner.bounds:
                self.bounds[inner] = owner.bounds[outer]
        return self.captures[outer][0]

    def constant(self, array: np.ndarray, loc: Loc | None) -> Node:
        """The node of a plain array: a splat where all its elements have the same bits."""
        known = self._constants.get(id(array))
        # An array that the user wrote to between two uses is another constant, so its bytes are compared.
        if known is not None and _holds(known[1], array):
            return known[1]
        self.builder.loc = loc
        if _is_uniform(array):
            node = self.builder.splat(array[(0,) * array.ndim], Array(array.dtype, array.shape))
        else:
            node = self.builder.array(array)
        # The array is kept, so that its id is not given to another one.
        self._constants[id(array)] = (array, node)
        return node


def _bits(array: np.ndarray) -> np.ndarray:
    """The elements as unsigned integers, so that -0.0 is not 0.0 and NaN is itself."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _is_uniform(array: np.ndarray) -> bool:
    if array.size == 0:
        return False
    bits = _bits(array)
    flat = bits.ravel()
    return bool(flat[0] == flat[-1] and (flat == flat[0]).all())


def _holds(node: Node, array: np.ndarray) -> bool:
    """Whether a constant node has the value that `array` has now."""
    data = node.attrs.get("data")
    if data is None:
        # A splat's bits were those of every element.
        return _is_uniform(array) and same_scalar(node.attrs["value"], array[(0,) * array.ndim])
    return data.array is not None and bool(np.array_equal(_bits(data.array), _bits(array)))


def same_scalar(value: float | int | bool, element: np.generic) -> bool:
    """Whether a splat's value has the bits of `element`."""
    return bool(_bits(np.asarray(value, dtype=element.dtype)) == _bits(np.asarray(element)))


_CURRENT: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("adjit trace", default=None)


def current_trace() -> Trace | None:
    """The innermost trace under way in this thread."""
    return _CURRENT.get()


def tracing(name: str, function: Callable[[Trace], ResultT], part: str = "") -> ResultT:
    """`function(trace)` with a new trace, which ends with it.

    In a context of its own, which C code leaves: however the function ends, an interrupt included, no trace stays
    behind as the current one."""
    trace = Trace(name, current_trace(), part)
    try:
        return contextvars.copy_context().run(_inside, trace, function)
    finally:
        trace.alive = False


def _inside(trace: Trace, function: Callable[[Trace], ResultT]) -> ResultT:
    _CURRENT.set(trace)
    return function(trace)
