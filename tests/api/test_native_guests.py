"""Native entries of calls with dataclasses, OrderedDicts and defaultdicts, in and out."""

from __future__ import annotations

import copy
import dataclasses
import gc
import sys
import threading
import tracemalloc
import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import optim
from tests.api.entries import natively, same, taken

X, Y = np.arange(3.0), np.arange(3.0, 6.0)
Pair = namedtuple("Pair", "x y")
STATIC = {"static": True}


@dataclass
class Two:
    x: Any
    y: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    y: Any
    x: Any = 1.0


@dataclass
class Layer:
    """Fields that are static by their value, and as they say."""

    w: Any
    activation: str = "tanh"
    b: Any = None
    size: Any = field(default=3, metadata=STATIC)
    flag: Any = field(default=True, metadata={"pytree_node": False})


@dataclass
class Deeper(Two):
    z: Any = None


@optree.dataclasses.dataclass(namespace="tests")
class Optree:
    x: Any
    y: Any


@optree.dataclasses.dataclass(namespace="tests")
class OptreeLayer:
    x: Any
    y: Any
    n: Any = optree.dataclasses.field(default=2, pytree_node=False)


def by_hand(t: Any) -> Any:
    return t["x"] - t["y"] if isinstance(t, dict) else t.x - t.y


TREES: list[tuple[Any, Callable[[Any], Any]]] = [
    (Two(X, Y), by_hand),
    (Frozen(X, Y), by_hand),
    (Optree(X, Y), by_hand),
    (OptreeLayer(X, Y), lambda t: by_hand(t) * t.n),
    (Layer(X, b=Y), lambda t: np.tanh(t.w) + t.b * t.size),
    (Layer(X), lambda t: (t.w, t.b is None)),
    (Deeper(X, Y, 2.0), lambda t: by_hand(t) * t.z),
    (Two(Two(X, {"z": [Y]}), None), lambda t: t.x.x - t.x.y["z"][0]),
    (OrderedDict(y=Y, x=X), by_hand),
    (defaultdict(list, y=Y, x=X), by_hand),
    (defaultdict(None, y=Y, x=X), by_hand),
    (OrderedDict({1: X, "a": OrderedDict(), (2, 3): Y}), lambda t: t[1] - t[2, 3]),
    (
        {"a": OrderedDict(b=Two(X, [2.0])), "c": (defaultdict(dict, d=Frozen(Y)),)},
        lambda t: t["c"][0]["d"].y * t["a"]["b"].x,
    ),
    (Pair(Layer(X, b=OrderedDict(v=Y, u=X)), 3), lambda t: t.x.w * t.y + sum(t.x.b.values())),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "function"), TREES)
def test_trees_of_arguments(tree: Any, function: Callable[[Any], Any]) -> None:
    call = natively(adjit.jit(function), tree)
    same(call(tree), adjit.jit(function)(tree))
    # What lies in it counts, not which object it is.
    same(call(optree.tree_map(copy.copy, tree, namespace="adjit")), adjit.jit(function)(tree))


RESULTS: list[Callable[[Any], Any]] = [
    lambda x: Two(x, x + 1),
    lambda x: Frozen(x, [x + 1, None]),
    lambda x: Layer(x, "relu", b={"z": np.sum(x), "a": ()}, size=(1, "two")),
    lambda x: {"two": Two(Two(x, None), (Frozen(x),)), "od": OrderedDict(z=x, a=x + 1)},
    lambda x: Optree(x, Optree(x + 1, [x])),
    lambda x: OptreeLayer(x, x + 1, n=5),
    lambda x: OrderedDict(z=x, a=x + 1, m=OrderedDict()),
    lambda x: defaultdict(list, z=x, a=defaultdict(None, {3: x})),
    lambda x: [Pair(x, Two(x, x)), OrderedDict(b=x, a=x)],
]


@pytest.mark.parametrize("make", RESULTS)
def test_trees_of_results(make: Callable[[Any], Any]) -> None:
    # `natively` compares with the path through Python.
    found = natively(adjit.jit(make), X)(X)
    assert type(found) is type(make(X))
    if isinstance(found, OrderedDict):
        found.move_to_end("z")
        assert list(found) == ["a", "m", "z"]
        assert found.popitem()[0] == "z"
    if isinstance(found, defaultdict):
        assert found["new"] == []


class Sub(Two):
    pass


class SubOrdered(OrderedDict):  # type: ignore[type-arg]
    pass


class SubDefault(defaultdict):  # type: ignore[type-arg]
    pass


def without(x: Any, name: str) -> Any:
    delattr(x, name)
    return x


OTHERS: list[tuple[Any, list[Any]]] = [
    (Two(X, Y), [
        Sub(X, Y), Deeper(X, Y), Frozen(X, Y), Optree(X, Y), Pair(X, Y), SimpleNamespace(x=X, y=Y), (X, Y),
        {"x": X, "y": Y}, Two(X, None), Two(X, [Y]), Two(X, "y"), Two(X[:2], Y), Two(X, Y.astype("f")), X, None, Two,
        without(Two(X, Y), "y"), without(Two(X, Y), "x"),
    ]),
    (Layer(X, b=Y), [
        Layer(X, "relu", Y), Layer(X, "tanh", None), Layer(X, "tanh", Y, 4), Layer(X, "tanh", Y, 3.0),
        Layer(X, "tanh", Y, np.int64(3)), Layer(X, "tanh", Y, 3, False), Layer(X, "tanh", Y, 3, 1), Layer(X, Y, Y),
        Layer(X, None, Y), Layer(X, np.str_("tanh"), Y),
    ]),
    (OptreeLayer(X, Y), [OptreeLayer(X, Y, 3), OptreeLayer(X, Y, 2.0), OptreeLayer(X, Y, (2,)), Optree(X, Y)]),
    (OrderedDict(x=X, y=Y), [
        OrderedDict(y=Y, x=X), OrderedDict(x=X), OrderedDict(x=X, y=Y, z=X), OrderedDict(x=X, z=Y), OrderedDict(),
        {"x": X, "y": Y}, SubOrdered(x=X, y=Y), defaultdict(None, x=X, y=Y), OrderedDict(x=X, y=None), [X, Y],
        OrderedDict(x=X, y=[Y]), None, X,
    ]),
    (defaultdict(list, x=X, y=Y), [
        {"x": X, "y": Y}, OrderedDict(x=X, y=Y), SubDefault(list, x=X, y=Y), defaultdict(dict, x=X, y=Y),
        defaultdict(None, x=X, y=Y), defaultdict(list, x=X), defaultdict(list, x=X, z=Y), None,
        defaultdict(list, x=X, y=Y, z=X), defaultdict(list, x=X, y=None),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "others"), OTHERS)
def test_other_trees_are_handed_on(tree: Any, others: list[Any]) -> None:
    call = natively(adjit.jit(lambda t: X * 2), tree)
    for other in others:
        assert not taken(lambda other=other: call(other))  # type: ignore[misc]
        assert taken(lambda: call(tree))


def test_what_is_no_part_of_the_tree_does_not_count() -> None:
    two = Two(X, Y)
    two.other = "attribute"  # type: ignore[attr-defined]
    assert taken(lambda: natively(adjit.jit(by_hand), Two(X, Y))(two))
    # The order of a dict with a factory is not its structure, as of any dict.
    assert taken(lambda: natively(adjit.jit(by_hand), defaultdict(list, x=X, y=Y))(defaultdict(list, y=Y, x=X)))


def test_the_order_of_an_ordered_dict_is_the_one_that_optree_reads() -> None:
    """A moved key stays where it was, to optree; so programs are the same, and values go by their keys."""
    f = adjit.jit(lambda t: [value * (i + 1) for i, value in enumerate(t.values())])
    call = natively(f, OrderedDict(x=X, y=Y))
    moved = OrderedDict(x=X, y=Y)
    moved.move_to_end("x")
    assert list(moved) == ["y", "x"]
    equal = optree.tree_structure(moved) == optree.tree_structure(OrderedDict(x=X, y=Y))
    assert taken(lambda: call(moved)) == equal
    if equal:
        same(call(moved), adjit.jit(f.__wrapped__)(moved))
    again = OrderedDict(x=X, y=Y)
    again["x"] = again.pop("x")
    assert not taken(lambda: call(again))
    again["y"] = again.pop("y")
    same(call(again), [X, Y * 2])
    same(call(OrderedDict([("".join(["x", ""]), X), ("y", Y)])), [X, Y * 2])
    numbers = natively(adjit.jit(lambda t: sum(t.values())), OrderedDict({1: X, 2: Y}))
    assert taken(lambda: numbers(OrderedDict({1.0: X, 2: Y})))
    assert not taken(lambda: numbers(OrderedDict({2: X, 1: Y})))


def test_the_containers_of_a_state_count_as_plain() -> None:
    params = {"o": OrderedDict(b=X, a=Y), "d": defaultdict(list, w=X), "two": Two([X], Y)}
    step = adjit.training_step(lambda p, x: np.sum(p["o"]["b"] * x + p["d"]["w"] * p["two"].x[0]), optim.sgd(0.1))
    state = step.init(params)

    def value(p: Any) -> Any:
        return p["o"]["b"] * 2 + p["d"]["w"] - p["two"].x[0] + p["o"]["a"] * p["two"].y

    for one, other in ((params, state.params), (state.params, params)):
        call = natively(adjit.jit(value), one)
        same(call(other), value(params))


def test_static_fields_are_compared_as_static_arguments() -> None:
    f = adjit.jit(lambda t: t.w * 2)
    long = "a string that no one interned"
    for value, equals, others in [
        (3, [3], [4, 3.0, True]), (long, [long[:5] + long[5:]], ["a"]), (2.5, [float("2.5")], [2.0, 2]),
        (0.0, [0.0], [-0.0, 0]), (float("nan"), [float("nan")], [0.0]), (np.sin, [np.sin], [np.cos]),
        ((1, (2.0, "a")), [(1, (2.0, "a"))], [(1, (2, "a")), (True, (2.0, "a")), (1,), [1, (2.0, "a")]]),
        (None, [None], [0]), (float, [float], [int]), (np.dtype("f4"), [np.dtype("f4")], [np.dtype("f8")]),
    ]:  # fmt: skip
        call = natively(f, Layer(X, size=value))
        for equal in equals:
            assert taken(lambda c=call, v=equal: c(Layer(X, size=v)))  # type: ignore[misc]
        for other in others:
            assert not taken(lambda c=call, v=other: c(Layer(X, size=v)))  # type: ignore[misc]


@dataclass(unsafe_hash=True)
class Config:
    n: Any


@dataclass(eq=False)
class Identical:
    n: Any


class Hashed:
    def __init__(self, n: Any) -> None:
        self.n = n

    def __hash__(self) -> int:
        return hash(self.n)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed) and self.n == other.n


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


def test_results_are_made_without_init() -> None:
    made = []

    @dataclass
    class Counted:
        x: Any
        label: str = "a"
        n: Any = field(default=1, metadata=STATIC)

        def __post_init__(self) -> None:
            made.append(self)

    f = adjit.jit(lambda t: Counted(t.x * 2, t.label + "b", n=(t.n, 2)))
    call = natively(f, Counted(X))
    made.clear()
    found = call(Counted(Y))
    assert len(made) == 1
    assert (found.x.tolist(), found.label, found.n) == ((Y * 2).tolist(), "ab", (1, 2))
    found.label, found.x = "mine", None
    assert call(Counted(Y)).label == "ab"


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


def test_steps() -> None:
    def loss(p: Any, batch: Any, *, options: Any) -> Any:
        batch = SimpleNamespace(**batch) if isinstance(batch, dict) else batch
        error = p["w"] * batch.x - batch.y
        return np.sum(options.w * error**2), Two(error, OrderedDict(most=np.max(error), least=np.min(error)))

    for batch in (Two(X, Y), Optree(X, Y), OrderedDict(y=Y, x=X), defaultdict(list, x=X, y=Y)):
        step = adjit.training_step(loss, optim.sgd(0.0), has_aux=True)
        state = step.init({"w": X})
        wanted = step(state, batch, options=Layer(2.0))
        call = natively(step, state, batch, options=Layer(2.0))
        same(call(state, batch, options=Layer(2.0)), wanted)
        other = dataclasses.replace(Layer(2.0), size=4)
        assert not taken(lambda c=call, s=state, b=batch, o=other: c(s, b, options=o))  # type: ignore[misc]
        inside = natively(step, state, Two(X, state.params["w"]), options=Layer(2.0))
        state.params["w"][...] = X + 1
        found, _ = inside(state, Two(X, state.params["w"]), options=Layer(2.0))
        assert found == 2 * np.sum(((X + 1) * X - (X + 1)) ** 2)


def test_gradients_are_trees_like_the_parameters() -> None:
    for params in (Two(X, [Y]), Frozen(X, Y), Optree(X, Y), OrderedDict(y=Y, x=X), defaultdict(list, y=Y, x=X)):
        f = adjit.value_and_grad(lambda p: sum(np.sum(leaf**2) for leaf in optree.tree_leaves(p, namespace="adjit")))
        _, slope = natively(f, params)(params)
        assert type(slope) is type(params)
        same(slope, optree.tree_map(lambda x: 2 * x, params, namespace="adjit"))


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
    interval, done = sys.getswitchinterval(), threading.Event()
    sys.setswitchinterval(1e-5)

    def change() -> None:
        while not done.is_set():
            for array in (second, first):
                if isinstance(shared, dict):
                    shared["x"] = array.copy()
                else:
                    shared.x = array.copy()

    worker = threading.Thread(target=change)
    worker.start()
    try:
        for _ in range(200):
            found = f(shared)["y"]
            assert any(np.array_equal(found, array) for array in wanted)
    finally:
        done.set()
        worker.join()
        sys.setswitchinterval(interval)


def test_a_deque_goes_by_python() -> None:
    f = adjit.jit(lambda t: t[0] - t[1])
    for _ in range(4):
        same(f(deque([X, Y])), X - Y)
    assert not f._entries
