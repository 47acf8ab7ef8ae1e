"""Native entries of calls as people make them: trees, keywords, static arguments, scalars, strided arrays, aux results.

Each call is made with the Python path taken away, so that it fails where the native entry hands it on."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import sys
import tracemalloc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import optim
from tests.api.entries import changing, natively, refuse, same, taken

Pair = namedtuple("Pair", "x y")
EVERYWHERE = optree.registry.__GLOBAL_NAMESPACE
X, Y = np.arange(3.0), np.arange(3.0, 6.0)

TREES: list[tuple[Any, Callable[[Any], Any]]] = [
    ({"b": X, "a": Y}, lambda p: p["b"] - p["a"]),
    ({"b": {"d": X, "c": {}}, "a": [Y, (X, None)]}, lambda p: p["b"]["d"] - p["a"][0] + p["a"][1][0]),
    ([X, Y], lambda p: p[0] - p[1]),
    ((X, (), [], Y), lambda p: p[0] - p[3]),
    (Pair(X, {"z": Y}), lambda p: p.x - p.y["z"]),
    ({2: X, 10: Y, 1: X}, lambda p: p[2] - p[10] + p[1]),
    ({"a": X, 1: Y}, lambda p: p["a"] - p[1]),
    ({("w", 0): X, ("w", 1): Y}, lambda p: p["w", 0] - p["w", 1]),
    ({"x": 2.0, "n": 3, "flag": True, "s": np.float32(1.5)}, lambda p: (p["x"] * p["n"], p["flag"] + p["s"])),
    ([X] * 40, lambda p: sum(p)),
]


@pytest.mark.parametrize(("tree", "function"), TREES)
def test_trees_of_arguments(tree: Any, function: Callable[[Any], Any]) -> None:
    call = natively(adjit.jit(function), tree)
    same(call(tree), adjit.jit(function)(tree))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: {"b": x, "a": x + 1},
        lambda x: [x, x + 1],
        lambda x: (x, [x + 1, {"z": np.sum(x), "a": ()}], None),
        lambda x: {"only": None, "x": x, "nested": {"y": [x * 2], "x": (x,)}},
        lambda x: Pair(x, np.sum(x)),
        lambda x: {"pair": Pair(x, x), "od": OrderedDict(z=x, a=x)},
        lambda x: (x,),
        lambda x: [x + i for i in range(40)],
    ],
)
def test_trees_of_results(make: Callable[[Any], Any]) -> None:
    # `natively` compares with the path through Python.
    natively(adjit.jit(make), X)


def test_a_class_of_a_user_among_the_results() -> None:
    @dataclass
    class Both:
        x: Any
        y: Any

    optree.register_pytree_node(Both, lambda b: ((b.x, b.y), None), lambda _, c: Both(*c), namespace=EVERYWHERE)
    f = adjit.jit(lambda x: {"both": Both(x, x + 1)})
    call = natively(adjit.jit(lambda x: [x]), X)
    f(X)
    f(X)
    f._entries[0].fall_through_to(refuse)
    found = f(X)["both"]
    assert type(found) is Both
    assert found.y.tolist() == (X + 1).tolist()
    # As an argument it is none that the entry knows, and goes through Python.
    g = adjit.jit(lambda b: b.x - b.y)
    for _ in range(3):
        assert g(Both(X, Y)).tolist() == [-3.0] * 3
    assert not taken(lambda: call(Both(X, Y)))


def test_other_trees_are_handed_on() -> None:
    call = natively(adjit.jit(lambda p: p["a"] - p["b"][0]), {"a": X, "b": [Y]})
    for other in (
        {"a": X}, {"a": X, "c": [Y]}, {"a": X, "b": (Y,)}, {"a": X, "b": [Y, Y]}, {"a": X, "b": [Y], "c": X}, X, None,
        OrderedDict(a=X, b=[Y]), {"a": X, "b": [[Y]]}, {"a": X, "b": [None]}, {"a": X, "b": [Y.astype("f")]},
        {"a": X[:2], "b": [Y]}, [X, [Y]],
    ):  # fmt: skip
        assert not taken(lambda tree=other: call(tree))  # type: ignore[misc]
    assert taken(lambda: call({"b": [Y], "a": X}))
    assert taken(lambda: call({"".join(["", "a"]): X, "b": [Y]}))
    strings = natively(adjit.jit(lambda p: p["long key"]), {"long key": X})
    assert taken(lambda: strings({" ".join(["long", "key"]): X}))


def test_the_containers_of_a_state_count_as_plain() -> None:
    step = adjit.training_step(lambda p, x: np.sum((p["w"] * x + p["b"][0]) ** 2), optim.sgd(0.1))
    state = step.init({"w": X, "b": [Y]})
    call = natively(adjit.jit(lambda p, x: p["w"] * x + p["b"][0]), {"w": X, "b": [Y]}, X)
    assert call(state.params, X).tolist() == (X * X + Y).tolist()
    other = natively(adjit.jit(lambda p, x: p["w"] * x - p["b"][0]), state.params, X)
    assert other({"w": X, "b": [Y]}, X).tolist() == (X * X - Y).tolist()


def test_numpy_scalars_and_arrays_without_dimensions_are_two() -> None:
    """As `isinstance` tells them apart, a function may compute another thing of each."""
    for dtype in ("float32", "float64", "int32", "int64", "uint8", "uint64", "bool"):
        x, array = X.astype(dtype), np.ones((), dtype)
        for one, other in ((array, array[()]), (array[()], array)):
            call = natively(adjit.jit(lambda x, s: (x == s, s)), x, one)
            same(call(x, copy.copy(one)), (x == one, array[()]))
            for y in (other, 1.0, np.float16(1), np.ones(1, dtype)):
                assert not taken(lambda: call(x, y))  # noqa: B023


def test_what_is_asked_of_scalars_and_arrays_in_turn() -> None:
    f = adjit.jit(lambda s: s * 2 if isinstance(s, np.ndarray) else s * 3)
    for _ in range(6):
        assert (f(np.array(5.0)), f(np.float64(5.0)), f(5.0)) == (10.0, 15.0, 15.0)
    assert f.signatures() == ["s: f64[] (an array)", "s: f64[]", "s: f64[]~"]


def test_bools() -> None:
    call = natively(adjit.jit(lambda x, b: np.where(b, x, -x)), X, True)
    assert call(X, True).tolist() == X.tolist()
    assert call(X, False).tolist() == (-X).tolist()
    assert not taken(lambda: call(X, 1))
    assert not taken(lambda: call(X, None))


def test_arrays_in_any_order_of_memory_and_with_descriptors_of_their_own() -> None:
    x = np.arange(12.0).reshape(3, 4)
    call = natively(adjit.jit(lambda x: np.cumsum(x * 2, axis=1)), x)
    odd = np.zeros(12 * 8 + 1, np.uint8)[1:].view(np.float64).reshape(3, 4)
    odd[...] = x
    for array in (
        np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1], odd, pickle.loads(pickle.dumps(x)),
        np.repeat(x, 2, axis=0)[::-2][::-1],
    ):  # fmt: skip
        same(call(array), np.cumsum(x * 2, axis=1))
    broadcast = np.broadcast_to(np.arange(4.0), (3, 4))
    same(call(broadcast), np.cumsum(broadcast * 2, axis=1))
    assert not taken(lambda: call(x.astype(">f8")))
    assert not taken(lambda: call(np.ma.masked_array(x)))


def test_what_lies_in_the_state_is_copied_first() -> None:
    step = adjit.training_step(lambda p, b: np.sum(p * b["x"]), optim.sgd(1.0))
    state = step.init(np.array([1.0, 2.0]))
    call = natively(step, state, {"x": np.ones(2)})
    state.params[...] = [1.0, 2.0]
    assert call(state, {"x": state.params}) == 5.0
    assert state.params.tolist() == [0.0, 0.0]
    state.params[...] = [1.0, 2.0]
    assert call(state, {"x": state.params[::-1]}) == 4.0
    assert state.params.tolist() == [-1.0, 1.0]


def test_keywords() -> None:
    f = adjit.jit(lambda a, *, scale, shift=0.0: a * scale + shift)
    call = natively(f, X, scale=Y, shift=2.0)
    same(call(X, shift=2.0, scale=Y), X * Y + 2)
    same(call(X, **{"".join(["sca", "le"]): Y, "".join(["shi", "ft"]): 2.0}), X * Y + 2)
    assert not taken(lambda: call(X, scale=Y))
    assert not taken(lambda: call(X, Y, shift=2.0))
    assert not taken(lambda: call(X, scale=Y, other=2.0))
    assert not taken(lambda: call(scale=Y, shift=2.0))
    # By position and by keyword are two shapes of calls.
    same(natively(f, X, scale=Y)(X, scale=Y), X * Y)
    with pytest.raises(TypeError):
        adjit.jit(lambda a: a)(X, b=X)


def test_static_arguments() -> None:
    f = adjit.jit(lambda x, how: x * (how[0] if isinstance(how, tuple) and how else 2), static_argnames="how")
    long = "a string that no one interned"
    for value, equal in [
        (3, 3), (2**70, 2**70), (long, long[:5] + long[5:]), ((3, (2.0, "a")), (3, (2.0, "a"))), (None, None),
        (2.5, float("2.5")), (float("nan"), float("nan")), (frozenset({1}),) * 2, (np.sin, np.sin),
        (Pair(2, 3.0),) * 2, ((), ()), (b"bytes", bytes([*b"bytes"])),
    ]:  # fmt: skip
        call = natively(f, X, value)
        assert taken(lambda c=call, v=equal: c(X, v))  # type: ignore[misc]
    for value, others in [
        (3, (4, 3.0, True, "3")), (1, (True, 1.0)), (0.0, (-0.0, 0, False)),
        ((1, 2), ((1, 2.0), (True, 2), (1,), [1, 2])),
        (np.float64(0.0), (np.float64(-0.0), 0.0)), (Pair(2, 0.0), (Pair(2, -0.0), (2, 0.0))), (0j, (-0j,)),
        (True, (1,)), (frozenset({1}), (frozenset({True}), frozenset({1}))), ("a", ("b", None)),
    ]:  # fmt: skip
        call = natively(adjit.jit(lambda x, how: x * 2, static_argnames="how"), X, value)
        assert not any(taken(lambda c=call, v=other: c(X, v)) for other in others)  # type: ignore[misc]


def test_static_arguments_by_keyword_and_by_default() -> None:
    f = adjit.jit(lambda x, n=2: x * n, static_argnames=["n"])
    natively(f, X)
    natively(f, X, 2)
    natively(f, X, n=2)
    assert len(f._entries) == 3
    by_name, by_position, by_default = (entry.function for entry in f._entries)
    for entry in f._entries:
        entry.fall_through_to(refuse)
    assert taken(lambda: (by_default(X), by_position(X, 2), by_name(X, n=2)))
    assert not taken(lambda: by_name(X, n=3))
    assert not taken(lambda: by_name(X))


def test_methods() -> None:
    class Model:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        @functools.partial(adjit.jit, static_argnames="self")
        def scaled(self, p: Any, *, shift: Any) -> Any:
            return p["x"] * self.scale + shift

    model, other = Model(2.0), Model(3.0)
    natively(Model.scaled, model, {"x": X}, shift=Y)
    same(model.scaled({"x": X}, shift=Y), X * 2 + Y)
    assert not taken(lambda: other.scaled({"x": X}, shift=Y))
    assert len(model.scaled.signatures()) == 1
    assert model.scaled.__wrapped__ is Model.scaled.__wrapped__


def test_a_key_that_raises_or_changes_its_dict() -> None:
    class Key:
        def __init__(self, action: Callable[[], Any]) -> None:
            self.action = action

        def __hash__(self) -> int:
            return hash("a")

        def __eq__(self, other: object) -> bool:
            self.action()
            return other == "a"

    call = natively(adjit.jit(lambda p: p["a"] + p["b"]), {"a": X, "b": Y})

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call({Key(stop): X, "b": Y})
    changing: dict[Any, Any] = {}
    changing.update({Key(lambda: changing.update(b=np.full(3, 7.0))): np.ones(3), "b": np.full(3, 5.0)})
    assert call(changing).tolist() in ([8.0] * 3, [6.0] * 3)
    assert call({"a": X, "b": Y}).tolist() == (X + Y).tolist()


def test_a_static_argument_whose_comparison_raises() -> None:
    class Config:
        broken = False

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            if self.broken:
                raise ZeroDivisionError
            return isinstance(other, Config)

    f = adjit.jit(lambda x, how: x * 2, static_argnames="how")
    call = natively(f, X, Config())
    assert call(X, Config()).tolist() == (X * 2).tolist()
    broken = Config()
    broken.broken = True
    with pytest.raises(ZeroDivisionError):
        call(X, broken)
    assert call(X, Config()).tolist() == (X * 2).tolist()


def test_steps_with_trees_keywords_and_aux() -> None:
    def loss(p: Any, batch: Any, *, weight: Any) -> Any:
        error = p["w"] * batch["x"] - batch["y"]
        return np.sum(weight * error**2), {"error": error, "most": (np.max(error),)}

    step = adjit.training_step(loss, optim.sgd(0.0), has_aux=True)
    state = step.init({"w": X})
    batch = {"y": Y, "x": X}
    wanted = step(state, batch, weight=2.0)
    call = natively(step, state, batch, weight=2.0)
    same(call(state, batch, weight=2.0), wanted)
    assert type(call(state, batch, weight=2.0)[0]) is float


def test_nothing_leaks_from_trees() -> None:
    x = np.arange(8.0)
    p, scalar, strided, config = {"w": x, "b": [x, (x,)]}, np.float64(2.0), np.ones((8, 2))[:, 1], (1, "two")
    f = adjit.jit(lambda p, s, how, *, k: {"a": p["w"] * s + k, "b": [np.sum(p["b"][0])]}, static_argnames="how")
    call = natively(f, p, scalar, config, k=strided)

    def work(count: int) -> None:
        for _ in range(count):
            call(p, scalar, config, k=strided)
            # Handed on after some references were taken.
            taken(lambda: call({"w": x, "b": [x, (None,)]}, scalar, config, k=strided))
            taken(lambda: call(p, scalar, config, k=x[1:]))

    work(100)
    gc.collect()
    things = [x, x.dtype, p, scalar, strided, config, None if sys.version_info >= (3, 12) else x]
    references = [sys.getrefcount(thing) for thing in things]
    tracemalloc.start()
    work(10)
    before = tracemalloc.get_traced_memory()[0]
    work(1000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2000
    assert [sys.getrefcount(thing) for thing in things] == references


def test_a_failed_check_drops_what_was_made() -> None:
    f = adjit.jit(lambda p: {"a": p["x"][p["i"]], "b": [p["x"] + 1]})
    call = natively(f, {"x": X, "i": np.array([1])})
    bad = {"x": X, "i": np.array([7])}
    assert not taken(lambda: call(bad))
    tracemalloc.start()
    taken(lambda: call(bad))
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(500):
        taken(lambda: call(bad))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2000
    f._entries[0].fall_through_to(lambda *args: type(f).__mro__[1].__call__(f, *args))
    with pytest.raises(adjit.IndexOutOfRange, match="index 7"):
        call(bad)


def test_functions_with_trees_and_static_arguments_are_collected() -> None:
    class Config:
        pass

    def make() -> list[weakref.ref[Any]]:
        config = Config()
        f = adjit.jit(lambda p, how: {"y": p["x"]}, static_argnames="how")
        for _ in range(3):
            f({"x": X}, config)
        assert f._entries
        return [weakref.ref(f), weakref.ref(config)]

    found = make()
    gc.collect()
    assert [reference() for reference in found] == [None, None]


def test_dicts_that_other_threads_change_meanwhile() -> None:
    """Arrays of a call are alive until it ends, also where the dict has others by then."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 120, 120))
    f = adjit.jit(lambda p: {"y": np.tanh(p["x"] @ p["x"]) @ p["x"]})
    shared = {"x": first.copy()}
    f(shared)
    f(shared)
    assert f._entries
    wanted = [f({"x": array})["y"] for array in (first, second)]

    def change() -> None:
        shared["x"] = second.copy()
        shared["x"] = first.copy()

    with changing(change):
        for _ in range(200):
            found = f(shared)["y"]
            assert any(np.array_equal(found, array) for array in wanted)
