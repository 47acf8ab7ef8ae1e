"""Dataclasses, OrderedDicts and defaultdicts that change, raise or are dropped while a native entry looks at them."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from tests.api.entries import changing, natively, same, taken
from tests.api.nodes import (
    Config,
    Hashed,
    Identical,
    Layer,
    Optree,
    Pair,
    Two,
    X,
    Y,
    by_hand,
    without,
)


@pytest.mark.parametrize("make", [Config, Identical, Hashed, lambda n: Config(Hashed(n)), lambda n: Hashed(Config(n))])
def test_a_static_value_that_is_changed_in_place_is_another(make: Callable[[Any], Any]) -> None:
    """As an argument and as a field; each call sees the value as it is."""

    def inner(config: Any) -> Any:
        return config if isinstance(config.n, int | float | list) else config.n

    f = adjit.jit(lambda x, config: x * inner(config).n, static_argnames="config")
    g = adjit.jit(lambda t: t.w * inner(t.size).n)
    config = make(2)
    for n in (2, 5, 2.0, 7):
        inner(config).n = n
        for _ in range(3):
            same(f(X, config), X * n)
            same(g(Layer(X, size=config)), X * n)
    assert f._entries
    assert g._entries
    inner(config).n = []
    with pytest.raises((adjit.ArgumentError, TypeError), match="hash"):
        f(X, config)
    with pytest.raises(adjit.ArgumentError, match="hash"):
        g(Layer(X, size=config))


def test_a_tuple_of_values_that_can_be_changed_is_static_by_way_of_python() -> None:
    f = adjit.jit(lambda x, pair: x * pair.x.n, static_argnames="pair")
    pair = Pair(Identical(2), 3)
    for n in (2, 3):
        pair.x.n = n
        for _ in range(4):
            same(f(X, pair), X * n)
    assert not f._entries


class Broken:
    """A value whose comparison, or hash, raises when it is told to."""

    error: type[BaseException] | None = None
    hash_error: type[BaseException] | None = None

    def __eq__(self, other: object) -> bool:
        if self.error is not None:
            raise self.error
        return isinstance(other, Broken)

    def __hash__(self) -> int:
        if self.hash_error is not None:
            raise self.hash_error
        return 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, AttributeError])
def test_a_static_value_that_raises(error: type[BaseException]) -> None:
    f = adjit.jit(lambda t: t.w * 2)
    call = natively(f, Layer(X, size=Broken()))
    good, bad, worse = Broken(), Broken(), Broken()
    bad.error, worse.hash_error = error, error
    assert taken(lambda: call(Layer(X, size=good)))
    for value in (bad, worse):
        with pytest.raises(error):
            call(Layer(X, size=value))
        assert taken(lambda: call(Layer(X, size=good)))
    with pytest.raises(error):
        natively(adjit.jit(lambda t: t["x"] * 2), OrderedDict(x=X))(OrderedDict({Raising(error): X}))
    factory = defaultdict(lambda: None, x=X)
    assert taken(lambda: natively(adjit.jit(lambda t: t["x"] * 2), factory)(factory))


class Raising:
    """A key that is like "x", and does something when it is compared."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def __hash__(self) -> int:
        return hash("x")

    def __eq__(self, other: object) -> bool:
        if isinstance(self.action, type):
            raise self.action
        self.action()
        return other == "x"


def test_an_ordered_dict_that_changes_while_its_keys_are_compared() -> None:
    call = natively(adjit.jit(lambda t: t["x"] + t["y"]), OrderedDict(x=X, y=Y))

    def changed_by(change: Callable[[OrderedDict[Any, Any]], Any]) -> Any:
        changing: OrderedDict[Any, Any] = OrderedDict()
        changing[Raising(lambda: change(changing))] = np.ones(3)
        changing["y"] = np.full(3, 5.0)
        return call(changing)

    assert changed_by(lambda d: d.update(y=np.full(3, 7.0))).tolist() == [8.0] * 3
    assert not taken(lambda: changed_by(OrderedDict.clear))
    assert not taken(lambda: changed_by(lambda d: d.pop("y")))
    for change in (lambda d: d.update(dict.fromkeys(range(1000), X)), lambda d: d.move_to_end("y", last=False)):
        assert changed_by(change).tolist() == [6.0] * 3
    assert call(OrderedDict(x=X, y=Y)).tolist() == (X + Y).tolist()


class Property:
    """What reads a field: a function of the node that has it."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def __get__(self, node: Any, owner: type | None = None) -> Any:
        if node is None:
            raise AttributeError
        return self.read(node)

    def __set__(self, node: Any, value: Any) -> None:
        node.__dict__["x"] = value


def with_property() -> tuple[type[Any], Property]:
    """A dataclass whose field x is read by a property, which is changed later."""
    read = Property(lambda node: node.__dict__["x"])

    @dataclass
    class Read:
        y: Any
        x: Any
        z: Any = None

    Read.x = read
    return Read, read


def test_a_field_that_is_a_property() -> None:
    kind, prop = with_property()
    f = adjit.jit(by_hand)
    call = natively(f, kind(Y, X))
    assert taken(lambda: call(kind(Y, X)))

    def missing(node: Any) -> Any:
        raise AttributeError("no x")

    prop.read = missing
    assert not taken(lambda: call(kind(Y, X)))
    for error in (ValueError, KeyboardInterrupt):

        def raises(node: Any, error: type[BaseException] = error) -> Any:
            raise error

        prop.read = raises
        with pytest.raises(error):
            call(kind(Y, X))

    def changes(node: Any) -> Any:
        # What was read before is alive, whoever drops it.
        node.y = None
        gc.collect()
        return node.__dict__["x"]

    prop.read = changes
    same(call(kind(np.copy(Y), np.copy(X))), X - Y)

    def fresh(node: Any) -> Any:
        return np.copy(node.__dict__["x"])

    prop.read = fresh
    same(call(kind(Y, X)), X - Y)
    # A function whose first calls have fresh arrays goes by Python.
    g = adjit.jit(by_hand)
    for _ in range(4):
        same(g(kind(Y, X)), X - Y)
    assert not g._entries


def test_a_property_that_calls_the_function_again() -> None:
    kind, prop = with_property()
    f = adjit.jit(by_hand)
    natively(f, kind(Y, X))
    f._entries[0].fall_through_to(lambda *args: type(f).__mro__[1].__call__(f, *args))
    depth = [0]

    def again(node: Any) -> Any:
        if depth[0] < 3:
            depth[0] += 1
            same(f(kind(Y, X)), X - Y)
            depth[0] -= 1
        return node.__dict__["x"]

    prop.read = again
    same(f(kind(Y, X)), X - Y)
    assert not f._entries[0].busy[0]


def test_a_result_whose_field_is_set_by_a_property() -> None:
    """It is made as Python makes it."""
    kind, _ = with_property()
    f = adjit.jit(lambda x: {"read": kind(x + 1, x)})
    found = natively(f, X)(X)["read"]
    assert type(found) is kind
    assert (found.x.tolist(), found.y.tolist()) == (X.tolist(), (X + 1).tolist())


def test_a_class_that_refuses_what_its_result_is_made_of() -> None:
    """One of optree's dataclasses is made by a call, as by optree itself."""
    wrong = [False]

    @optree.dataclasses.dataclass(namespace="tests")
    class Checked:
        x: Any

        def __post_init__(self) -> None:
            if wrong[0]:
                raise ZeroDivisionError

    f = adjit.jit(lambda x: [x, Checked(x * 2)])
    call = natively(f, X)
    wrong[0] = True
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            call(X)
    wrong[0] = False
    assert call(X)[1].x.tolist() == (X * 2).tolist()


def test_nothing_leaks() -> None:
    x, y = np.arange(8.0), np.ones(8)
    config, factory, key = Hashed(2), (lambda: None), ("a", "key")
    layer = Layer(x, "relu", [y], config)
    moved = OrderedDict([(key, x), ("b", y)])
    filled, plain = defaultdict(factory, z=y), Optree(x, y)
    f = adjit.jit(
        lambda layer, o, d, p: {
            "layer": Layer(layer.w * p.x, "tanh", size=config), "o": OrderedDict([(key, o[key]), ("n", o["b"])]),
            "d": defaultdict(factory, z=d["z"] + 1), "p": Optree(p.x, [p.y]),
        }
    )  # fmt: skip
    call = natively(f, layer, moved, filled, plain)
    broken = Broken()
    broken.error = ZeroDivisionError
    misfits = [
        (Layer(x, "relu", [y], 3), moved, filled, plain),
        (layer, OrderedDict([("b", y), (key, x)]), filled, plain),
        (layer, moved, defaultdict(None, z=y), plain),
        (layer, moved, filled, without(Optree(x, y), "y")),
        (layer, moved, filled, Optree(x, y[1:])),
    ]

    def work(count: int) -> None:
        for i in range(count):
            call(layer, moved, filled, plain)
            # Another key object, which is compared.
            call(layer, OrderedDict([(("a", "".join(["k", "ey"])), x), ("b", y)]), filled, plain)
            if i % 100 == 0:
                for misfit in misfits:
                    assert not taken(lambda misfit=misfit: call(*misfit))  # type: ignore[misc]

    work(200)
    gc.collect()
    things = [x, y, x.dtype, config, factory, layer, moved, filled, plain, key, Layer, Optree, OrderedDict]
    references = [sys.getrefcount(thing) for thing in things]
    tracemalloc.start()
    work(101)
    before = tracemalloc.get_traced_memory()[0]
    work(1001)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2000
    work(50_000)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == references


def test_what_raises_leaks_nothing() -> None:
    kind, prop = with_property()
    x, y = np.copy(X), np.copy(Y)
    f = adjit.jit(lambda t, o: t.x - t.y + o["x"])
    call = natively(f, kind(y, x), OrderedDict(x=x))
    node, key = kind(y, x), Raising(ZeroDivisionError)
    bad = OrderedDict({key: x})
    value = Broken()

    def fails(node: Any) -> Any:
        raise ValueError

    def work(count: int) -> None:
        for _ in range(count):
            prop.read = lambda node: node.__dict__["x"]
            with pytest.raises(ZeroDivisionError):
                call(node, bad)
            prop.read = fails
            with pytest.raises(ValueError):
                call(node, bad)

    work(50)
    gc.collect()
    things = [x, y, node, key, bad, value, kind]
    references = [sys.getrefcount(thing) for thing in things]
    work(500)
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == references


def test_functions_are_collected_with_what_their_entries_keep() -> None:
    def make() -> list[weakref.ref[Any]]:
        config = Identical(Config(2))
        f = adjit.jit(lambda t, d, config: {"y": t.x, "d": d}, static_argnames="config")
        # A cycle by way of what the entry keeps.
        config.f = f  # type: ignore[attr-defined]
        for _ in range(3):
            f(Two(X, Y), defaultdict(list, x=Y), config)
        assert f._entries
        return [weakref.ref(f), weakref.ref(config)]

    found = make()
    gc.collect()
    assert [reference() for reference in found] == [None] * 2


def test_the_collector_meets_results_half_made() -> None:
    f = adjit.jit(lambda x: {"o": OrderedDict(a=x, b=Two(x, Layer(x))), "d": defaultdict(list, z=Optree(x, x))})
    call = natively(f, X)
    wanted = repr(call(X))
    threshold = gc.get_threshold()

    def look(*_: Any) -> None:
        for thing in gc.get_objects(generation=0):
            if type(thing) in (Two, Layer, OrderedDict, defaultdict, Optree):
                getattr(thing, "x", None), isinstance(thing, dict) and len(thing)

    gc.callbacks.append(look)
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            assert repr(call(X)) == wanted
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(look)


@pytest.mark.parametrize(
    "make", [lambda x: Two(x, x), lambda x: OrderedDict(x=x, y=x), lambda x: defaultdict(list, x=x)]
)
def test_what_other_threads_change_meanwhile(make: Callable[[Any], Any]) -> None:
    """Arrays of a call are alive until it ends, also where the container has others by then."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 120, 120))

    def get(t: Any) -> Any:
        return t["x"] if isinstance(t, dict) else t.x

    f = adjit.jit(lambda t: OrderedDict(y=np.tanh(get(t) @ get(t)) @ get(t)))
    shared = make(first.copy())
    f(shared)
    f(shared)
    assert f._entries
    wanted = [f(make(array))["y"] for array in (first, second)]

    def change() -> None:
        for array in (second, first):
            if isinstance(shared, dict):
                shared["x"] = array.copy()
            else:
                shared.x = array.copy()

    with changing(change):
        for _ in range(200):
            found = f(shared)["y"]
            assert any(np.array_equal(found, array) for array in wanted)
