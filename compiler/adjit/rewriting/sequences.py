"""What a `for` goes over, as something with a length and numbered elements: of a range, an array, enumerate, zip and
reversed of such. The length of a range may be traced, and so may the number of an element."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.control.bounds import bound_of
from adjit.control.call import plain_or_tracer
from adjit.trace import Tracer, asarray, is_tracer, refuse
from adjit.trace.tracer import node_of
from adjit_runtime.errors import ArgumentError


@dataclass(eq=False)
class Sequence:
    """`length` elements, of which `item` gives that of a number. Python iterates over it where the length is known."""

    length: Any
    item: Callable[[Any], Any]
    plain: Any = None
    bounds: tuple[Any, Any] | None = None
    arrays: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        if is_tracer(self.length):
            raise refuse.index(node_of(self.length))
        return iter(map(self.item, range(self.length)) if self.plain is None else self.plain)

    def __len__(self) -> int:
        return operator.index(self.length)


def sequence_of(value: Any) -> Sequence | None:
    """A value as a sequence; None where it has no elements that a traced number could choose."""
    if isinstance(value, Sequence):
        return value
    if isinstance(value, range):
        return Sequence(len(value), lambda i: _linear(value.start, value.step, i), value)
    if isinstance(value, np.ndarray) and value.ndim:
        return Sequence(value.shape[0], lambda i: asarray(value)[i] if is_tracer(i) else value[i], arrays=(value,))
    return None


def _linear(start: Any, step: int, i: Any) -> Any:
    number = i if step == 1 else i * step
    return number if not is_tracer(start) and start == 0 else start + number


def counted_range(*args: Any) -> Any:
    """`range`, whose bounds may be traced. Raises ArgumentError for a traced step, and for what is no integer."""
    known = [plain_or_tracer(each) for each in args]
    if not any(map(is_tracer, known)):
        return range(*(operator.index(each) for each in known))
    start, stop, step = (0, known[0], 1) if len(known) == 1 else (*known, 1)[:3]
    if is_tracer(step):
        raise refuse.located(ArgumentError, "range: the step is known while the function is traced, not a traced value")
    by = operator.index(step)
    if not by:
        raise ValueError("range() arg 3 must not be zero")
    low, high = bound_of("range: start", start), bound_of("range: stop", stop)
    if by == 1:
        return Sequence(_length(high - low), lambda i: i, None, (low, high))
    distance = high - low if by > 0 else low - high
    return Sequence(_length((distance + (abs(by) - 1)) // abs(by)), lambda i: _linear(low, by, i))


def _length(count: Any) -> Tracer:
    found: Tracer = np.maximum(count, 0)
    return found


def along(function: Any) -> Callable[..., Any]:
    """`enumerate`, `zip` or `reversed`, of which sequences stay sequences."""
    ways: dict[Any, Callable[..., Any]] = {enumerate: _enumerated, zip: _zipped, reversed: _reversed}
    found: Callable[..., Any] = ways.get(function, function)
    return found


def _enumerated(value: Any, start: Any = 0) -> Any:
    found = sequence_of(value)
    if found is None:
        return enumerate(value, start)
    item = _from_zero(found)
    return Sequence(found.length, lambda i: (_linear(start, 1, i), item(i)), arrays=found.arrays)


def _zipped(*values: Any) -> Any:
    found = [sequence_of(value) for value in values]
    parts = [each for each in found if each is not None]
    if not parts or len(parts) < len(found):
        return zip(*values, strict=False)
    length = parts[0].length
    for each in parts[1:]:
        known = not is_tracer(length) and not is_tracer(each.length)
        length = min(length, each.length) if known else np.minimum(length, each.length)
    items = [_from_zero(each) for each in parts]
    arrays = tuple(array for each in parts for array in each.arrays)
    return Sequence(length, lambda i: tuple(item(i) for item in items), arrays=arrays)


def _reversed(value: Any) -> Any:
    found = sequence_of(value)
    if found is None:
        return reversed(value)
    last = found.length - 1
    item = _from_zero(found)
    return Sequence(found.length, lambda i: item(last - i), arrays=found.arrays)


def _from_zero(found: Sequence) -> Callable[[Any], Any]:
    """The elements by numbers from 0 on."""
    if found.bounds is None:
        return found.item
    first = found.bounds[0]
    return lambda i: _linear(first, 1, i)
