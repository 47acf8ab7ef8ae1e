"""What a loop refuses, and how it says so: the same in a trace and in plain Python, with the line of the body."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from tests.control.check import trace_of

X = np.ones((3, 2), np.float32)


def wide(c: Any, x: Any) -> Any:
    return {"h": [c["h"][0].astype(float)]}, None


def grows(c: Any, x: Any) -> Any:
    return np.concatenate([c, x]), None


def no_pair(c: Any, x: Any) -> Any:
    return c + x


def new_key(c: Any, x: Any) -> Any:
    return {"a": c["a"], "b": c["a"]}, None


def list_of(c: Any, x: Any) -> Any:
    return list(c), None


def added(c: Any, x: Any) -> Any:
    return c + x, None


def half(c: Any, x: Any) -> Any:
    return 0.5, None


def whole(c: Any, x: Any) -> Any:
    return np.int64(2), None


def text(c: Any, x: Any) -> Any:
    return c, {"a": 1.0, "b": "text"}


def two_returns(c: Any, x: Any) -> Any:
    if x.shape == (2,):
        return c[:1], None
    return c, None


KEEPS = "a carry keeps its type: "
CHANGES = {
    "dtype": (
        adjit.DTypeError, wide, {"h": [np.zeros(2, np.float32)]},
        "scan: carry['h'][0] is f32[2] before a turn of the loop and f64[2] after it; " + KEEPS
        + "start with float64, or return x.astype(np.float32)",
    ),
    "shape": (
        adjit.ShapeError, grows, np.zeros(2, np.float32),
        "scan: carry is f32[2] before a turn of the loop and f32[4] after it; " + KEEPS
        + "give what grows back as y, or carry an array of the full size and write into it",
    ),
    "a number that becomes an array": (
        adjit.ShapeError, added, 0.0,
        "scan: carry is a Python float before a turn of the loop and f32[2] after it; " + KEEPS
        + "start with an array, np.zeros((2,)), or return its sum or an element",
    ),
    "rank": (
        adjit.ShapeError, added, np.zeros((1, 1), np.float32),
        "scan: carry is f32[1,1] before a turn of the loop and f32[1,2] after it",
    ),
    "a float for an integer": (
        adjit.DTypeError, half, np.int64(3),
        "scan: carry is i64[] before a turn of the loop and a Python float after it; " + KEEPS
        + "start with float64, or return np.int64(value)",
    ),
    "an integer for a float": (
        adjit.DTypeError, whole, np.float32(3),
        "scan: carry is f32[] before a turn of the loop and i64[] after it; " + KEEPS
        + "start with int64, or return np.float32(value)",
    ),
    "a number that is none after the first turn": (
        adjit.DTypeError, whole, 0.5, "scan: carry is f64[] before a turn of the loop and i64[] after it",
    ),
    "structure": (
        adjit.ArgumentError, new_key, {"a": 1.0},
        "scan: carry is {'a': *} before a turn of the loop and {'a': *, 'b': *} after it (carry['b'] is new); a carry "
        "keeps its structure: return what is in init, in the same dicts, lists and tuples",
    ),
    "a list for a tuple": (
        adjit.ArgumentError, list_of, (1.0, 2.0),
        "scan: carry is (*, *) before a turn of the loop and [*, *] after it; a carry keeps its structure",
    ),
    "no pair": (
        adjit.ArgumentError, no_pair, np.zeros(2, np.float32),
        "write return carry, y; or return carry, None where nothing is stacked",
    ),
    "what is no array": (
        adjit.ArgumentError, text, 0.0, "scan: y['b'] is 'text', where arrays and numbers stand in a loop",
    ),
    "several returns": (
        adjit.ShapeError, two_returns, np.zeros(2), "(it returns in lines ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("traced", [False, True])
def test_what_a_body_may_not_give(name: str, traced: bool) -> None:
    kind, body, init, message = CHANGES[name]

    def f(x: Any) -> Any:
        return adjit.scan(body, init, x)

    with pytest.raises(kind) as caught:
        trace_of(f, X) if traced else f(X)
    found = str(caught.value)
    assert message in found
    # The line of the body's return, and the line itself.
    line = body.__code__.co_firstlineno + (0 if name == "several returns" else 1)
    assert found.startswith(f"test_errors.py:{line}: ")
    assert "\n    return " in found or name == "several returns"


def test_bodies_without_source_of_their_own() -> None:
    for body in (functools.partial(half), functools.partial(lambda extra, c, x: half(c, x), 1), Body()):
        with pytest.raises(adjit.DTypeError, match="scan: carry is i64"):
            adjit.scan(body, np.int64(1), X)
    with pytest.raises(adjit.ShapeError, match="scan: carry is"):
        adjit.scan(lambda c, x: (c[:1], x), np.zeros(3), X)


class Body:
    def __call__(self, c: Any, x: Any) -> Any:
        return 0.5, None


def looped(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda x: adjit.scan(lambda c, x: (c, x), 0.0, *args, **kwargs)


class Own:
    def __init__(self) -> None:
        self.w = 1


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

ARGUMENTS: dict[str, tuple[type, Callable[[Any], Any], str]] = {
    "extents": (
        adjit.ShapeError, lambda x: looped({"a": x, "b": [x[:2]]})(x),
        "scan: xs['a'] and xs['b'][0] differ along axis 0: 3 and 2 elements",
    ),
    "a scalar": (
        adjit.ShapeError, lambda x: looped({"a": x[0, 0]})(x), "scan: xs['a'] is f32[], which has no axis 0",
    ),
    "a list": (
        adjit.ShapeError, looped([1.0, 2.0]),
        "scan: xs[0] is a number, which has no axis 0 to go along; a list is a tree of its items: write np.array(list)",
    ),
    "no length": (
        adjit.ShapeError, looped(), "scan: xs has no arrays, so the number of turns is not known: give an array",
    ),
    "another length": (
        adjit.ShapeError, lambda x: looped((x,), 4)(x), "scan: length is 4, and xs[0] has 3 elements along axis 0",
    ),
    "a negative length": (adjit.ArgumentError, looped(length=-1), "scan: length is an integer >= 0, not -1"),
    "no length at all": (adjit.ArgumentError, looped(length=2.0), "scan: length is an integer >= 0, not 2.0"),
    "reverse": (adjit.ArgumentError, lambda x: looped(x, reverse=1)(x), "scan: reverse is True or False, not 1"),
    "init": (
        adjit.ArgumentError, lambda x: adjit.scan(half, {"a": "s"}, x),
        "scan: init['a'] is 's', where arrays and numbers stand in a loop",
    ),
    "init of a class": (
        adjit.ArgumentError, lambda x: adjit.scan(half, Own(), x),
        "where arrays and numbers stand in a loop: make Own a dataclass, or register it with optree",
    ),
    "init in itself": (
        adjit.ArgumentError, lambda x: adjit.scan(half, CYCLE, x), "scan: init is nested too deep, or holds itself",
    ),
    "a mask": (
        adjit.ArgumentError, looped(np.ma.array([1.0])), "scan: xs is a MaskedArray: a masked array would lose",
    ),
    "no function": (adjit.ArgumentError, lambda x: adjit.scan(3, 0.0, x), "scan: f is a function, not 3"),
    "unroll": (adjit.ArgumentError, lambda x: looped(x, unroll=2)(x), "scan has no argument 'unroll': a loop is"),
    "checkpoint": (adjit.ArgumentError, lambda x: looped(x, checkpoint=0)(x), "scan: checkpoint, a number of carries"),
    "body_fun": (
        adjit.ArgumentError, lambda x: adjit.fori_loop(0, 3, body_fun=half, init=0), "it is 'body' here",
    ),
    "a float as a bound": (
        adjit.ArgumentError, lambda x: adjit.fori_loop(0, 2.0, half, 0.0), "fori_loop: upper is an integer, not 2.0",
    ),
    "map of nothing": (adjit.ShapeError, lambda x: adjit.map(half, None), "map: xs has no arrays"),
    "map in chunks": (adjit.ArgumentError, lambda x: adjit.map(half, x, chunk=2), "map has no argument 'chunk'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("traced", [False, True])
def test_arguments(name: str, traced: bool) -> None:
    kind, f, message = ARGUMENTS[name]
    with pytest.raises(kind, match=re.escape(message)):
        trace_of(f, X) if traced else f(X)


def test_a_turn_that_stacks_something_else() -> None:
    """Python's own control flow may do that, where a trace takes one way."""
    turns = iter([(1.0, 2.0), (1.0, 2.0, 3.0)])
    with pytest.raises(adjit.ArgumentError, match=r"y is \(\*, \*\) in the first turn and \(\*, \*, \*\) in turn 1"):
        adjit.scan(lambda c, x: (c, next(turns)), 0.0, X)
    sizes = iter([1, 1, 2])
    with pytest.raises(adjit.ShapeError, match=r"y\['a'\] is f64\[1\] in the first turn and f64\[2\] in turn 2"):
        adjit.scan(lambda c, x: (c, {"a": np.ones(next(sizes))}), 0.0, X)
    numbers = iter([1, 1, 0.5])
    with pytest.raises(adjit.DTypeError, match="carry is a Python int before a turn of the loop and a Python float"):
        adjit.scan(lambda c, x: (next(numbers), None), 0, X)
    numbers = iter([1, 0.5, 0])
    with pytest.raises(adjit.DTypeError, match=r"y is i64\[\] in the first turn and f64\[\] in turn 1"):
        adjit.scan(lambda c, x: (c, next(numbers)), 0, X)
    # A dtype for what was a number of Python is none: a side that is taken later may give it.
    numbers = iter([0.5, 1.0, np.float32(2.5)])
    last, _ = adjit.scan(lambda c, x: (next(numbers), None), 0.0, X)
    assert (type(last), last) == (np.float32, 2.5)


def test_errors_inside_of_a_body_have_its_line() -> None:
    def f(x: Any) -> Any:
        return adjit.scan(lambda c, x: (c @ np.ones((3, 3)), x), np.zeros(2), x)

    with pytest.raises(adjit.ShapeError, match=r"^test_errors.py:\d+: .*\n    return adjit.scan\(lambda"):
        trace_of(f, X)
    with pytest.raises(adjit.ArgumentError, match=r"None after it \(a return is missing in the body\?\)"):
        adjit.fori_loop(0, 3, lambda i, c: None, 0.0)
    with pytest.raises(adjit.TraceError, match=r"^test_errors.py:\d+: the truth of a traced"):
        trace_of(lambda x: adjit.scan(lambda c, x: (c if c > 0 else -c, None), 0.0, x), X)


def test_an_index_out_of_range_tells_the_turn() -> None:
    def failing(f: Callable[[Any, Any], Any], n: int, text: str) -> None:
        line = f.__code__.co_firstlineno
        with pytest.raises(adjit.IndexOutOfRange, match=re.escape(text.replace("HERE", f"test_errors.py:{line}"))):
            adjit.jit(f)(np.arange(10.0), n)

    index = "HERE: index {} is out of bounds for axis 0 with size 10"
    turn = index + " (in turn {} of the loop at HERE)"
    failing(lambda x, n: adjit.fori_loop(0, 20, lambda i, c: c + x[i + n], 0.0), 3, turn.format(10, 7))
    failing(lambda x, n: adjit.fori_loop(0, n, lambda i, c: c + x[i], 0.0), 13, turn.format(10, 10))
    failing(lambda x, n: adjit.while_loop(lambda i: i > 0, lambda i: i + (x[i] > 0) * 4, n), 1, turn.format(13, 3))
    # A loop in a loop tells the turn of the outer one, and a branch has none.
    failing(
        lambda x, n: adjit.fori_loop(0, n, lambda i, c: adjit.fori_loop(0, i, lambda j, c: c + x[j], c), 0.0), 13,
        turn.format(10, 11),
    )  # fmt: skip
    failing(
        lambda x, n: adjit.fori_loop(0, n, lambda i, c: adjit.cond(i > 3, lambda: x[i * 3], lambda: c), 0.0), 13,
        turn.format(12, 4),
    )  # fmt: skip
    with pytest.raises(adjit.IndexOutOfRange, match=r"index 13 is out of bounds for axis 0 with size 10$"):
        adjit.jit(lambda x, n: adjit.cond(n > 3, lambda: x[n], lambda: x[0]))(np.arange(10.0), 13)
    with pytest.raises(adjit.IndexOutOfRange, match=r"index 13 is out of bounds for axis 0 with size 10$"):
        # An index ahead of a loop is in none.
        adjit.jit(lambda x, n: adjit.fori_loop(0, 3, lambda i, c: c * np.sin(c), x[n]))(np.arange(10.0), 13)


def test_tracebacks_have_no_frames_of_ours() -> None:
    def body(c: Any, x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        adjit.scan(body, 0.0, X)
    names = [entry.frame.f_globals["__name__"].partition(".")[0] for entry in caught.traceback]
    assert "adjit" not in names


def test_a_number_that_does_not_fit() -> None:
    for f in (
        lambda x: adjit.scan(lambda c, x: (300, None), x[0], x),
        lambda x: adjit.scan(lambda c, x: (c + x, None), 300, x),
    ):
        x = np.ones(3, np.uint8)
        with pytest.raises(OverflowError, match="Python integer 300 out of bounds for uint8"):
            f(x)
        with pytest.raises(adjit.WeakOverflowError, match="Python integer 300 out of bounds for uint8"):
            trace_of(f, x)
