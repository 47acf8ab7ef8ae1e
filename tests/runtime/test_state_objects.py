"""A state as a Python object: its containers refuse or perform every assignment, and copies of it are plain."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest

import adjit
from adjit import optim
from adjit_runtime.native import available
from adjit_runtime.state import State

Pair = namedtuple("Pair", ["w", "b"])
X = np.arange(3.0)


class Layer:
    """Registered as most are: its leaves have numbers, not names."""

    def __init__(self, w: Any, b: Any, activation: str = "tanh") -> None:
        self.w, self.b, self.activation = w, b, activation


class Slots:
    """A class without a dict of attributes."""

    __slots__ = ("b", "w")

    def __init__(self, w: Any, b: Any) -> None:
        self.w, self.b = w, b


class Bag:
    """Keeps its leaves in a dict of its own."""

    def __init__(self, items: dict[str, Any]) -> None:
        self.items = items

    def __getitem__(self, key: str) -> Any:
        return self.items[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.items[key] = value


class Fresh(Layer):
    """Makes a new dict of its arrays whenever it is flattened."""


class Deaf(Layer):
    """Does not take its leaves back."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ and getattr(value, "base", None) is not None:
            return
        super().__setattr__(name, value)


@dataclass
class Data:
    """A dataclass, registered by hand."""

    w: Any
    b: Any


@dataclass(frozen=True)
class Frozen:
    """One that refuses by itself."""

    w: Any
    b: Any


for _cls in (Slots, Data, Frozen):
    optree.register_pytree_node(_cls, lambda p: ((p.w, p.b), None), lambda _, c, make=_cls: make(*c), namespace="adjit")  # type: ignore[misc]
for _cls in (Layer, Deaf):
    optree.register_pytree_node(
        _cls, lambda p: ((p.w, p.b), p.activation), lambda a, c, make=_cls: make(*c, a), namespace="adjit"
    )  # type: ignore[misc]
optree.register_pytree_node(
    Fresh, lambda p: (({"w": p.w, "b": p.b},), None), lambda _, c: Fresh(c[0]["w"], c[0]["b"]), namespace="adjit"
)
optree.register_pytree_node(
    Bag,
    lambda p: (tuple(p.items.values()), tuple(p.items), tuple(p.items)),
    lambda keys, c: Bag(dict(zip(keys, c, strict=True))),
    namespace="adjit",
)


def by_key(p: Any) -> tuple[Any, Any]:
    return p["w"], p["b"]


def by_name(p: Any) -> tuple[Any, Any]:
    return p.w, p.b


def set_key(p: Any, name: str, value: Any) -> None:
    p[name] = value


def set_place(p: Any, name: str, value: Any) -> None:
    p["wb".index(name)] = value


def made(params: Any, read: Callable[[Any], tuple[Any, Any]], momentum: float | None = None) -> tuple[Any, Any]:
    def loss(p: Any, x: Any) -> Any:
        w, b = read(p)
        return np.sum((w * x) ** 2) / 2 + np.sum(b)

    step = adjit.training_step(loss, optim.sgd(1.0, momentum=momentum))
    return step, step.init(params)


def w() -> np.ndarray:
    return np.ones(3)


def b() -> np.ndarray:
    return np.zeros(2)


REFUSING = {
    "dict": ({"w": w(), "b": b()}, by_key, set_key),
    "OrderedDict": (OrderedDict(w=w(), b=b()), by_key, set_key),
    "defaultdict": (defaultdict(list, w=w(), b=b()), by_key, set_key),
    "list": ([w(), b()], tuple, set_place),
    "deque": (deque([w(), b()], 5), tuple, set_place),
    "tuple": ((w(), b()), tuple, set_place),
    "namedtuple": (Pair(w(), b()), by_name, setattr),
    "frozen": (Frozen(w(), b()), by_name, setattr),
}
PERFORMING = {
    "class": (Layer(w(), b()), by_name, setattr),
    "slots": (Slots(w(), b()), by_name, setattr),
    "dataclass": (Data(w(), b()), by_name, setattr),
    "items": (Bag({"w": w(), "b": b()}), by_key, set_key),
    "fresh": (Fresh(w(), b()), by_name, setattr),
}
ALL = REFUSING | PERFORMING


@pytest.mark.parametrize("kind", REFUSING)
def test_assignment_is_refused(kind: str) -> None:
    params, read, put = REFUSING[kind]
    step, state = made(params, read)
    # A tuple refuses by itself.
    own = {"tuple": TypeError, "namedtuple": AttributeError, "frozen": AttributeError}
    for container in (state.params, made({"deep": [params]}, lambda p: read(p["deep"][0]))[1].params["deep"][0]):
        with pytest.raises(own.get(kind, adjit.StateError)):
            put(container, "w", np.full(3, 100.0))
        np.testing.assert_array_equal(read(container)[0], w())
    step(state, X)
    np.testing.assert_array_equal(read(state.params)[0], w() * (1 - X**2))


@pytest.mark.parametrize("kind", PERFORMING)
@pytest.mark.parametrize("calls", [0, 8], ids=["python", "native"])
@pytest.mark.parametrize("holding", [False, True])
def test_assignment_is_performed(kind: str, calls: int, holding: bool, tmp_path: Path) -> None:
    params, read, put = PERFORMING[kind]
    step, state = made({"deep": [params]}, lambda p: read(p["deep"][0]))
    for _ in range(calls):
        step(state, X)
    held = state.params["deep"][0] if holding else None
    for _ in range(3):
        # Each time: after the first, the container has to have its view back.
        put(held or state.params["deep"][0], "w", np.full(3, 100.0))
        step(state, X)
        np.testing.assert_array_equal(read(state.params["deep"][0])[0], 100.0 * (1 - X**2))
        assert held is None or held is state.params["deep"][0]
    put(state.params["deep"][0], "w", np.full(3, 7, np.float32))
    adjit.save(tmp_path / "s", state)
    put(state.params["deep"][0], "w", np.full(3, 9.0))
    np.testing.assert_array_equal(read(state.copy().params["deep"][0])[0], np.full(3, 9.0))
    loaded = adjit.load(tmp_path / "s", like=state)
    np.testing.assert_array_equal(read(loaded.params["deep"][0])[0], np.full(3, 7.0))


def test_entries_made_while_a_container_is_held_stand_back() -> None:
    step, state = made(Layer(w(), b()), by_name)
    held = state.params
    for _ in range(8):
        step(state, X)
    held.w = w()
    step(state, X)
    np.testing.assert_array_equal(state.params.w, w() * (1 - X**2))


@pytest.mark.skipif(not available(), reason="no native entries here")
def test_native_entries_stand_back_while_a_container_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    step, state = made(Layer(w(), b()), by_name)
    for _ in range(8):
        step(state, X)
    seen = []
    exclusively = State.exclusively

    def spy(state: State, *args: Any) -> Any:
        seen.append(state)
        return exclusively(state, *args)

    monkeypatch.setattr(State, "exclusively", spy)

    def goes_through_python() -> bool:
        seen.clear()
        step(state, X)
        return bool(seen)

    assert not goes_through_python()
    state.params.w[...] = 1.0
    # Once, to see that nobody holds it.
    assert goes_through_python()
    assert not goes_through_python()
    inner = state.optimizer, state.params
    for _ in range(3):
        assert goes_through_python()
    del inner
    assert goes_through_python()
    assert not goes_through_python()


def test_views_may_change_places() -> None:
    _, state = made(Layer(np.arange(2.0), np.arange(2.0) + 5, "relu"), by_name)
    p = state.params
    p.w, p.b = p.b, p.w
    assert (state.params.w.tolist(), state.params.b.tolist()) == ([5.0, 6.0], [0.0, 1.0])
    same = np.full(2, 3.0)
    p.w = p.b = same
    assert (state.params.w.tolist(), state.params.b.tolist()) == ([3.0, 3.0], [3.0, 3.0])
    p.w[...] = 1.0
    assert (p.w.tolist(), p.b.tolist(), same.tolist()) == ([1.0, 1.0], [3.0, 3.0], [3.0, 3.0])


def test_whole_containers_may_be_replaced() -> None:
    _, state = made(Layer(Data(w(), b()), {"x": w()}), lambda p: (p.w.w, p.w.b))
    held = state.params
    held.w = Data(w() + 1, b() + 2)
    held.b = {"x": w() + 3}
    assert state.params.w.w.tolist() == [2.0] * 3
    assert state.params.w.b.tolist() == [2.0] * 2
    assert state.params.b["x"].tolist() == [4.0] * 3
    held.w.w = w() + 8
    assert state.params.w.w.tolist() == [9.0] * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ones(4), r"params\.0: float64\[4\] was put in the place of float64\[3\]"),
        (np.ones(3, complex), r"params\.0: complex128\[3\] was put"),
        ("w", r"params\.0: <U1\[\] was put"),
        (None, "params: a container of the state was given another form"),
        ([np.ones(3)], "params: a container of the state was given another form"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_next_use(value: Any, text: str) -> None:
    step, state = made(Layer(w(), b()), by_name)
    for use in (lambda: step(state, X), lambda: state.params, state.copy, lambda: pickle.dumps(state), state.leaves):
        state.params.w = value
        with pytest.raises(adjit.StateError, match=text):
            use()
        np.testing.assert_array_equal(state.params.w, w())
    state.params.activation = "relu"
    with pytest.raises(adjit.StateError, match="was given another form"):
        step(state, X)
    assert state.params.activation == "tanh"


def test_a_container_that_does_not_take_its_view_back() -> None:
    step, state = made(Deaf(w(), b()), by_name)
    state.params.__dict__["w"] = np.full(3, 5.0)
    with pytest.raises(adjit.StateError, match=r"params\.0: another array was put in its place, in a container that"):
        step(state, X)
    np.testing.assert_array_equal(state.params.w, w())


CHANGES: dict[str, list[Callable[[Any], Any]]] = {
    "dict": [
        lambda p: p.__setitem__("w", w()), lambda p: p.__setitem__("new", w()), lambda p: p.__delitem__("w"),
        lambda p: p.pop("w"), lambda p: p.popitem(), lambda p: p.update(w=w()), lambda p: p.setdefault("new", w()),
        lambda p: p.setdefault("w", w()), lambda p: p.clear(), lambda p: p.__ior__({"w": w()}),
        lambda p: setattr(p, "w", w()), lambda p: delattr(p, "w"), lambda p: p.__setitem__("new", None),
    ],
    "list": [
        lambda p: p.__setitem__(0, w()), lambda p: p.__setitem__(slice(0, 1), [w()]), lambda p: p.__delitem__(0),
        lambda p: p.__setitem__(slice(None), list(p)), lambda p: p.append(w()), lambda p: p.extend([w()]),
        lambda p: p.insert(0, w()), lambda p: p.pop(), lambda p: p.remove(1), lambda p: p.clear(),
        lambda p: p.sort(), lambda p: p.reverse(), lambda p: p.__iadd__([w()]), lambda p: p.__imul__(2),
        lambda p: setattr(p, "w", w()),
    ],
    "deque": [
        lambda p: p.__setitem__(0, w()), lambda p: p.__delitem__(0), lambda p: p.append(w()), lambda p: p.rotate(1),
        lambda p: p.appendleft(w()), lambda p: p.extend([w()]), lambda p: p.extendleft([w()]), lambda p: p.pop(),
        lambda p: p.popleft(), lambda p: p.insert(0, w()), lambda p: p.remove(1), lambda p: p.clear(),
        lambda p: p.reverse(), lambda p: p.__iadd__([w()]), lambda p: p.__imul__(2), lambda p: setattr(p, "w", w()),
    ],
}  # fmt: skip
CHANGES["OrderedDict"] = [*CHANGES["dict"], lambda p: p.move_to_end("w")]
CHANGES["defaultdict"] = [*CHANGES["dict"], lambda p: p["new"], lambda p: setattr(p, "default_factory", None)]


@pytest.mark.parametrize("kind", CHANGES)
def test_no_method_changes_a_container(kind: str) -> None:
    params, read, _ = REFUSING[kind]
    _, state = made(params, read)
    for change in CHANGES[kind]:
        with pytest.raises(adjit.StateError, match=r"state\.params\[key\]\[\.\.\.\] = array"):
            change(state.params)
        assert repr(state.params) == repr(params)
    # What may change a plain one is in the list above.
    ours, plain = type(state.params), type(params)
    reading = {
        "__class_getitem__", "__contains__", "__copy__", "__doc__", "__eq__", "__ge__", "__getattribute__", "__repr__",
        "__getitem__", "__gt__", "__hash__", "__init__", "__iter__", "__le__", "__len__", "__lt__", "__ne__", "__new__",
        "__or__", "__reversed__", "__ror__", "__sizeof__", "copy", "fromkeys", "get", "items", "keys", "values",
        "__add__", "__mul__", "__rmul__", "count", "index", "__reduce__", "maxlen", "__dict__", "default_factory",
    }  # fmt: skip
    left = {name for name in vars(plain) if getattr(ours, name) is getattr(plain, name)}
    assert left <= reading


@pytest.mark.parametrize("kind", ALL)
def test_arrays_may_be_written_in_place(kind: str) -> None:
    params, read, _ = ALL[kind]
    step, state = made(params, read)
    view = read(state.params)[0]
    view += 1.0
    view[0] = 5.0
    np.multiply(view, 2.0, out=view)
    np.testing.assert_array_equal(read(state.params)[0], [10.0, 4.0, 4.0])
    step(state, X)
    np.testing.assert_array_equal(read(state.params)[0], np.array([10.0, 4.0, 4.0]) * (1 - X**2))


def test_augmented_assignment_writes_in_place() -> None:
    _, state = made({"w": w(), "b": [b()]}, lambda p: (p["w"], p["b"][0]))
    state.params["w"] += 1.0
    state.params["b"][0] -= 2.0
    assert (state.params["w"].tolist(), state.params["b"][0].tolist()) == ([2.0] * 3, [-2.0] * 2)
    _, state = made(Layer(w(), deque([b()])), lambda p: (p.w, p.b[0]))
    state.params.w *= 3.0
    state.params.b[0] -= 2.0
    assert (state.params.w.tolist(), state.params.b[0].tolist()) == ([3.0] * 3, [-2.0] * 2)
    single = adjit.training_step(lambda p: np.sum(p), optim.sgd(1.0)).init(w())
    single.params *= 4.0
    assert single.params.tolist() == [4.0] * 3
    with pytest.raises(adjit.StateError, match="the parameters of a state stay where they are"):
        single.params = w()


def test_the_shape_of_a_view_is_not_that_of_the_state(tmp_path: Path) -> None:
    _, state = made({"w": w(), "b": b()}, by_key)
    view = state.params["w"]
    view.setflags(write=False)
    view.resize((3, 1), refcheck=False)
    adjit.save(tmp_path / "s", state)
    assert adjit.load(tmp_path / "s").params["w"].shape == (3,)
    assert state.copy().params["w"].shape == (3,)


@pytest.mark.parametrize("kind", ALL)
def test_as_an_argument_it_is_the_plain_one(kind: str) -> None:
    params, read, _ = ALL[kind]
    _, state = made({"deep": (params, [params])}, lambda p: read(p["deep"][1][0]))
    seen: list[type] = []

    def predict(p: Any, x: Any) -> Any:
        seen.append(type(p["deep"][1][0]))
        return read(p["deep"][0])[0] * x

    compiled = adjit.jit(predict)
    first = compiled({"deep": (params, [params])}, X)
    np.testing.assert_array_equal(compiled(state.params, X), first)
    assert len(compiled.signatures()) == 1
    assert seen == [type(params)]
    # optree's functions know the containers in every namespace.
    if kind in CHANGES:
        doubled = optree.tree_map(lambda x: x * 2, state.params)
        assert type(doubled["deep"][0]) is type(params)


def strip(tree: Any) -> Any:
    """All containers and arrays of a tree."""
    found = [tree]
    for item in found:
        if isinstance(item, dict):
            found.extend(item.values())
        elif isinstance(item, list | tuple | deque):
            found.extend(item)
        elif hasattr(item, "__dict__"):
            found.extend(vars(item).values())
    return found


COPIES = {
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", sorted(ALL.keys() - {"slots"}))
def test_copies_are_plain(kind: str, how: str) -> None:
    params, read, _ = ALL[kind]
    _, state = made({"deep": [params, (params, None)]}, lambda p: read(p["deep"][1][0]), momentum=0.5)
    for tree in (state.params, state.optimizer):
        made_of = COPIES[how](tree)
        for item in strip(made_of):
            assert "adjit" not in type(item).__module__
            if type(item) is np.ndarray:
                assert item.base is None or item.base.nbytes == item.nbytes
                assert not np.shares_memory(item, state._block)
        assert type(made_of["deep"][0]) is type(params)
    array = read(COPIES[how](state.params)["deep"][0])[0]
    array[...] = 5.0
    np.testing.assert_array_equal(read(state.params["deep"][0])[0], w())


@pytest.mark.parametrize("kind", CHANGES)
def test_shallow_copies_are_plain_and_share_the_arrays(kind: str) -> None:
    params, read, _ = REFUSING[kind]
    _, state = made(params, read)
    for shallow in (copy.copy(state.params), state.params.copy()):
        assert type(shallow) is type(params)
        assert read(shallow)[0] is read(state.params)[0]
        assert repr(shallow) == repr(state.params)
    if isinstance(params, dict):
        assert type({**state.params}) is dict
        assert type(state.params | {"new": 1}) is type({} | state.params | params) is type(params)
        assert list(state.params) == list(params)
        assert isinstance(state.params, dict)
        assert json.loads(json.dumps(state.params, default=np.ndarray.tolist)) == {"w": [1.0] * 3, "b": [0.0] * 2}
    else:
        assert type(state.params * 2) is type(2 * state.params) is type(state.params + type(params)()) is type(params)
    assert state.params == state.params
    if kind == "defaultdict":
        assert shallow.default_factory is list
    if kind == "deque":
        assert shallow.maxlen == 5


LOADER = """
import pickle, sys, numpy as np
from collections import OrderedDict, deque, defaultdict
sys.modules["adjit"] = sys.modules["adjit_runtime"] = None
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        found = pickle.load(file) if path.endswith("pickle") else np.load(file, allow_pickle=True)[()]
    if "state" in path:
        assert type(found) is dict
        assert list(found) == ["params", "optimizer", "shared", "hyper", "key", "step"], list(found)
        assert found["key"] == 7 and type(found["key"]) is int and found["step"] == 2
        assert type(found["hyper"]["learning_rate"]) is dict
        assert type(found["optimizer"]["list"][0]) is dict
        found = found["params"]
    if "hyper" in path:
        assert type(found) is dict and type(found["learning_rate"]) is dict, found
        continue
    assert type(found) is dict and type(found["ordered"]) is OrderedDict, type(found)
    assert type(found["list"]) is list and type(found["deque"]) is deque and type(found["default"]) is defaultdict
    assert found["list"][0].tolist() == [1.0] * 3
    found["list"][0] += 1
print("loaded")
"""


def test_what_was_written_loads_without_adjit(tmp_path: Path) -> None:
    params = {
        "list": [w()],
        "ordered": OrderedDict(x=w()),
        "deque": deque([w()]),
        "default": defaultdict(float, x=(w(), None)),
    }
    schedule = optim.schedule.cosine(0.0, 10)
    step = adjit.training_step(lambda p: np.sum(p["list"][0]) * 0.0, optim.sgd(schedule, momentum=0.5))
    state = step.init(params, key=7)
    step(state)
    step(state)
    for name, value in (("params", state.params), ("state", state), ("hyper", state.hyper)):
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(value))
        np.save(tmp_path / f"{name}.npy", value, allow_pickle=True)
    np.savez(tmp_path / "flat.npz", **made({"w": w(), "b": b()}, by_key)[1].params)
    with np.load(tmp_path / "flat.npz") as flat:
        assert flat["w"].tolist() == [1.0] * 3
    files = [str(path) for path in sorted(tmp_path.iterdir()) if path.suffix != ".npz"]
    assert len(files) == 6
    # A folder without adjit, and no path to it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", LOADER, *files]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout == "loaded\n", result.stderr


def test_a_pickle_of_a_state_is_a_dict() -> None:
    step, state = made({"w": w(), "b": b()}, by_key)
    step(state, X)
    plain = pickle.loads(pickle.dumps(state))
    assert plain["step"] == 1
    assert plain["hyper"] == {"learning_rate": 1.0} == copy.copy(state.hyper) == copy.deepcopy(state.hyper)
    np.testing.assert_array_equal(plain["params"]["w"], state.params["w"])
    assert type(copy.copy(state)) is type(copy.deepcopy(state)) is type(state)
    # All of it is what a new state is made from.
    again = step.init(plain["params"], key=plain["key"])
    np.testing.assert_array_equal(again.params["w"], state.params["w"])
    state.busy[0] = 1
    for use in (lambda: pickle.dumps(state), lambda: copy.copy(state), lambda: copy.deepcopy(state)):
        with pytest.raises(adjit.StateError, match="busy"):
            use()
    state.busy[0] = 0
    state.close()
    for use in (lambda: pickle.dumps(state), lambda: copy.copy(state), lambda: state.params, lambda: state.shared):
        with pytest.raises(adjit.StateError, match="closed"):
            use()


def test_numbers_that_a_state_keeps() -> None:
    step = adjit.training_step(lambda p: np.sum(p**2), optim.adam(0.1))
    state = step.init(w())
    step(state)
    assert pickle.loads(pickle.dumps(state.shared)) == state.shared
    assert type(pickle.loads(pickle.dumps(state.shared))) is dict
    with pytest.raises(adjit.StateError, match="the optimiser's own"):
        state.shared["b1_product"] = 0.5


def test_a_state_in_use_shows_its_containers() -> None:
    """What a callback of a run reads; what it assigns is performed when the run is over."""
    step, state = made(Data(w(), b()), by_name)
    seen = []

    def progress(done: int, total: int, loss: float) -> None:
        seen.append(state.params.b.copy())
        if done == total:
            state.params.w = np.full(3, 4.0)

    step.run(state, (X[None],), batch_size=1, epochs=3, progress=progress)
    assert seen
    np.testing.assert_array_equal(state.params.w, np.full(3, 4.0))


def test_a_state_forgets_what_nobody_holds() -> None:
    class Params(NamedTuple):
        layers: list[Layer]

    step, state = made(Params([Layer(w(), b())]), lambda p: by_name(p.layers[0]))
    held = state.params.layers
    step(state, X)
    assert held is state.params.layers
    held[0].w = np.full(3, 2.0)
    del held
    step(state, X)
    np.testing.assert_array_equal(state.params.layers[0].w, 2.0 * (1 - X**2))
