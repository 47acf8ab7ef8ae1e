"""Native entries of calls with dataclasses, OrderedDicts and defaultdicts, in and out."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, defaultdict, deque
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
from tests.api.nodes import (
    STATIC,
    Deeper,
    Frozen,
    Layer,
    Optree,
    OptreeLayer,
    Pair,
    Two,
    X,
    Y,
    by_hand,
    without,
)

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


def test_a_deque_goes_by_python() -> None:
    f = adjit.jit(lambda t: t[0] - t[1])
    for _ in range(4):
        same(f(deque([X, Y])), X - Y)
    assert not f._entries
