"""Values that are known while a function is traced: what NumPy makes inside a trace of plain values alone.

A known tracer has an array of its own (`Root.plain`), in which plain writes happen at once, so that it can be a shape,
an index, a truth or an argument of any function. NumPy itself runs on known values, and its results are known. The
first write of a traced value makes a constant of the array, and the tracer one like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from adjit.ir.types import COMPILED_DTYPES, Array
from adjit.trace import refuse
from adjit.trace.context import current_trace
from adjit.trace.handle import Step
from adjit.trace.locate import locate
from adjit.trace.root import Root
from adjit.trace.tracer import Tracer, blank, is_tracer, note_write, plain_of, read_only


def known(array: np.ndarray, readonly: str = "") -> Tracer:
    """A tracer of a plain array of a dtype that is compiled; it owns `array`, which is its value until something traced
    is written into it."""
    trace = current_trace()
    if trace is None:
        raise refuse.trace_error("a traced value is made outside a trace")
    return known_view(array, Root(trace, None, readonly, array), ())


def known_view(array: np.ndarray, root: Root, path: tuple[Step, ...]) -> Tracer:
    """A tracer of a view of a known array."""
    tracer = blank(root, path, Array(array.dtype, array.shape), scalar=False)
    tracer._adjit_node = None
    tracer._adjit_plain = array
    tracer._adjit_version = -1
    tracer._adjit_strides = tuple(step // array.itemsize for step in array.strides)
    tracer._adjit_made = locate()
    return tracer


def holds(x: Any, wanted: Callable[[Tracer], bool]) -> bool:
    """Whether a tracer of that kind stands in `x`, or in its lists, tuples, dicts and slices."""
    if isinstance(x, Tracer):
        return wanted(x)
    if isinstance(x, list | tuple):
        return any(holds(item, wanted) for item in x)
    if isinstance(x, slice):
        return any(holds(bound, wanted) for bound in (x.start, x.stop, x.step))
    return isinstance(x, dict) and any(holds(item, wanted) for item in x.values())


def is_known(x: Tracer) -> bool:
    """Whether the values of a tracer are known now."""
    return plain_of(x) is not None


def holds_known(x: Any) -> bool:
    """Whether a known tracer stands in `x`."""
    return holds(x, is_known)


def holds_traced(x: Any) -> bool:
    """Whether a tracer stands in `x` whose values are not known."""
    return holds(x, lambda tracer: plain_of(tracer) is None)


def settled(x: Any) -> Any:
    """`x` with the plain arrays of known tracers in their places; read-only."""
    if isinstance(x, Tracer):
        plain = plain_of(x)
        return x if plain is None else read_only(plain)
    if not holds_known(x):
        return x
    if isinstance(x, dict):
        return {key: settled(item) for key, item in x.items()}
    if isinstance(x, slice):
        return slice(*(settled(bound) for bound in (x.start, x.stop, x.step)))
    items = [settled(item) for item in x]
    if hasattr(x, "_fields"):
        return type(x)(*items)
    return tuple(items) if isinstance(x, tuple) else items


def wrapped(x: Any, readonly: str = "") -> Any:
    """A result of NumPy: its arrays become known tracers, where a trace is under way and code for the dtype exists."""
    if isinstance(x, list | tuple):
        items = [wrapped(item, readonly) for item in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if type(x) is not np.ndarray or x.dtype not in COMPILED_DTYPES or current_trace() is None:
        return x
    return known(x, readonly)


def shares(result: Any, given: Any) -> bool:
    """Whether a result of NumPy is, or has, a view of what was given."""
    arrays = list(_arrays(given))
    return any(np.may_share_memory(x, y) for x in _arrays(result) for y in arrays)


def _arrays(x: Any) -> Any:
    if is_tracer(x):
        return
    if isinstance(x, np.ndarray):
        yield x
    elif isinstance(x, list | tuple):
        for item in x:
            yield from _arrays(item)
    elif isinstance(x, Mapping):
        yield from _arrays(list(x.values()))


def memory(x: Tracer) -> np.ndarray | None:
    """The array of a known tracer for a write, which its views see; None where the tracer is not known."""
    plain = plain_of(x)
    if plain is not None and not x._adjit_root.readonly:
        note_write(x)
    return plain
