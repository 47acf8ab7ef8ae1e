"""What must hold when the program runs, and no value is made of: assertions, and errors that are raised on a condition.

    %1 = check_holds 0, %holds text="x is negative" : i64[]      # an AssertionError where it does not hold
    %2 = reshape %y shape=(1,3) : f64[1,3]
    %3 = take %2, %1 axis=0 : f64[3]                             # what the trace gives is known when it held

A check is one of the trace in which it is noted. Where that ends, what it gives depends on it; what nobody reads is not
computed, nor are its checks."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.ir.builder import Builder
from adjit.ir.node import Loc, Node
from adjit.ir.types import BOOL, I64, Array
from adjit.trace import lower
from adjit.trace.context import Trace, current_trace
from adjit.trace.refuse import trace_error
from adjit.trace.tracer import Tracer, fresh, node_of


def note(holds: Tracer, error: str, text: str, loc: Loc | None) -> None:
    """Have the program raise `error`, a class of ours or of Python's, where `holds`, a bool, is false."""
    b = lower.builder()
    flag = lower.lift(holds)
    b.loc = loc
    _trace().checks.append(b.emit("check_holds", b.splat(0, Array(I64)), flag, error=error, text=text))


def keep(place: Tracer) -> None:
    """Note checks that a part of the program has taken along: `taken` of it."""
    _trace().checks.append(node_of(place))


def dropped() -> None:
    """Forget the checks of the trace under way, which is one more for its types alone."""
    _trace().checks.clear()


def taken() -> Tracer | None:
    """The checks of the trace under way as a value, 0 where they hold, which whoever takes it hands on."""
    trace = _trace()
    if not trace.checks:
        return None
    place = _place(trace.builder, trace.checks)
    trace.checks.clear()
    return fresh(place)


def tied(trace: Trace, outputs: Sequence[Node]) -> list[Node]:
    """The outputs of a trace, so that its checks have held where one is read. Numbers of Python, and inputs that are
    given back, are tied where there is nothing else. Raises TraceError where there are none."""
    if not trace.checks:
        return list(outputs)
    if not outputs:
        raise trace_error(
            f"what is asserted or raised here is in a {trace.part or 'function'} of which nothing is read: check it "
            "outside, of all elements at once, or carry a value"
        )
    b = trace.builder
    place = _place(b, trace.checks)
    given = set(b.inputs)
    made = [node for node in outputs if not node.array_type.weak and node not in given]
    some = set(made or [node for node in outputs if not node.array_type.weak] or outputs)
    return [_after(b, node, place) if node in some else node for node in outputs]


def _trace() -> Trace:
    trace = current_trace()
    assert trace is not None
    return trace


def _place(b: Builder, checks: Sequence[Node]) -> Node:
    place = checks[0]
    for other in checks[1:]:
        place = b.emit("maximum", place, other)
    return place


def _after(b: Builder, node: Node, place: Node) -> Node:
    """A value that is there when checks have held."""
    b.loc = node.loc
    if node.is_splat:
        return _constant_after(b, node, place)
    found = b.emit("take", b.emit("reshape", node, shape=(1, *node.shape)), place, axis=0)
    return _as_weak(b, found) if node.array_type.weak else found


def _constant_after(b: Builder, node: Node, place: Node) -> Node:
    """The same of a number, which is one whatever place it is taken from: less 0, and so to the bit."""
    is_bool = node.dtype == BOOL
    zero = b.emit("ne", place, b.splat(0, place.array_type)) if is_bool else b.emit("cast", place, dtype=node.dtype)
    spread = b.emit("broadcast", zero, shape=node.shape, axes=()) if node.shape else zero
    found = b.emit("or" if is_bool else "sub", b.splat(node.attrs["value"], spread.array_type), spread)
    return _as_weak(b, found) if node.array_type.weak else found


def _as_weak(b: Builder, node: Node) -> Node:
    return b.emit("cast", node, dtype=node.dtype, weak=True)
