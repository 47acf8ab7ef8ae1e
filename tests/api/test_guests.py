"""Arguments of classes that others wrote: dataclasses, classes known to optree, arrays of Python and pandas."""

from __future__ import annotations

import array
import copy
import enum
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import optree
import pytest

import adjit


class Kind(enum.Enum):
    TANH = 1
    SIN = 2


@dataclass
class Params:
    w: np.ndarray
    b: float
    inner: Any = None


@dataclass(frozen=True, slots=True)
class Frozen:
    w: Any
    kind: Kind = Kind.TANH
    name: str = "frozen"
    depth: int = field(default=2, metadata={"static": True})
    other: Any = field(default=(0.0,), metadata={"pytree_node": False})


@dataclass
class Strict:
    """Looks at values when it is made."""

    x: np.ndarray
    scale: InitVar[float] = 1.0
    total: Any = field(init=False)

    def __post_init__(self, scale: float) -> None:
        if not np.all(np.isfinite(self.x)):
            raise ValueError("not finite")
        self.total = np.sum(self.x) * scale


W = np.array([0.3, 0.7])


def loss(p: Any) -> Any:
    return np.sum(np.tanh(p.w + p.b))


def test_a_gradient_is_of_the_same_class() -> None:
    p = Params(W, 0.1, {"c": np.ones(2), "frozen": Frozen(W)})
    value, slope = adjit.value_and_grad(lambda p: loss(p) + np.sum(p.inner["frozen"].w * p.inner["c"]))(p)
    assert type(slope) is Params
    np.testing.assert_allclose(value, loss(p) + 1.0)
    np.testing.assert_allclose(slope.w, 1 - np.tanh(W + 0.1) ** 2)
    np.testing.assert_allclose(slope.b, np.sum(slope.w))
    assert slope.inner["c"].tolist() == W.tolist()
    assert type(slope.inner["frozen"]) is Frozen
    assert slope.inner["frozen"].w.tolist() == [1, 1]


def test_fields_that_are_no_arrays_are_a_part_of_the_signature() -> None:
    def f(p: Any) -> Any:
        x = np.tanh(p.w) if p.kind is Kind.TANH else np.sin(p.w)
        for _ in range(p.depth):
            x = x * 2 if p.name == "frozen" else x * 3
        return Frozen(np.copysign(x, p.other[0]), p.kind, "result")

    compiled = adjit.jit(f)
    cases = [Frozen(W), Frozen(W, Kind.SIN), Frozen(W, name="x"), Frozen(W, depth=3), Frozen(W, other=(-0.0,))]
    for _ in range(3):
        for p in cases:
            result = compiled(p)
            assert (type(result), result.name, result.kind) == (Frozen, "result", p.kind)
            np.testing.assert_allclose(result.w, f(p).w)
    assert len(compiled.signatures()) == len(cases)
    assert "p.w: f64[2]" in compiled.signatures()[0]
    with pytest.raises(adjit.ArgumentError, match=r"static fields kind, name, depth, other need values with a hash"):
        compiled(Frozen(W, other=[1]))


def test_what_init_does_is_not_done_again() -> None:
    p = Strict(np.array([1.0, 2.0]), 10.0)
    result = adjit.jit(lambda p: Params(p.x * p.total, 0.5))(p)
    assert result.w.tolist() == [30, 60]
    assert result.b == 0.5


def test_errors_name_the_field() -> None:
    with pytest.raises(adjit.ArgumentError, match=r"p\.inner.*object is no array"):
        adjit.jit(loss)(Params(W, 1.0, object()))
    with pytest.raises(adjit.DTypeError, match=r"p\.b"):
        adjit.grad(loss)(Params(W, 1))


def test_inside_of_traces() -> None:
    def f(p: Any) -> Any:
        slope = adjit.grad(loss)(p)
        stopped = adjit.stop_gradient(p)
        return np.sum(slope.w) + np.sum(stopped.w) * np.sum(p.w)

    slope = adjit.grad(f)(Params(W, 0.1))
    t = np.tanh(W + 0.1)
    np.testing.assert_allclose(slope.w, -2 * t * (1 - t * t) + 1.0)


def test_a_state_of_a_dataclass() -> None:
    step = adjit.training_step(lambda p, x: np.sum((p.w * x + p.b) ** 2), adjit.optim.adam(0.1))
    one, other = step.init(Params(W, 0.1)), step.init(Params(W, 0.1))
    x = np.arange(4.0).reshape(2, 2)
    losses = [step(one, row) for row in x]
    history = step.run(other, (x,), batch_size=1, shuffle=False)
    np.testing.assert_allclose(history.losses, losses)
    assert type(one.params) is Params
    np.testing.assert_array_equal(one.params.w, other.params.w)
    assert one.params.w[0] != W[0]
    assert copy.deepcopy(one).params.w.tolist() == one.params.w.tolist()
    assert adjit.jit(lambda p: p.w * 2)(one.params).tolist() == (one.params.w * 2).tolist()


class Pair:
    """A class that only another namespace of optree knows."""

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


optree.register_pytree_node(
    Pair, lambda p: ((p.a, p.b), None, ("a", "b")), lambda _, parts: Pair(*parts), namespace="somebody"
)


@optree.dataclasses.dataclass(namespace="somebody")
class Theirs:
    w: Any
    name: str = optree.dataclasses.field(default="x", pytree_node=False)


def test_classes_of_other_namespaces() -> None:
    value, slope = adjit.value_and_grad(lambda p: np.sum(p.a * p.b))(Pair(W, W * 2))
    np.testing.assert_allclose(value, np.sum(W * W * 2))
    assert type(slope) is Pair
    assert slope.a.tolist() == (W * 2).tolist()
    result = adjit.jit(lambda p: Pair(p.w, 1.0))(Theirs(W, "y"))
    assert result.a.tolist() == W.tolist()
    # Nobody else's functions know them now.
    assert optree.tree_leaves(Pair(1, 2)) != [1, 2]
    assert len(optree.tree_leaves(Params(W, 1.0))) == 1


@pytest.mark.filterwarnings("ignore:The 'u' type code:DeprecationWarning")
def test_arrays_of_python() -> None:
    f = adjit.jit(lambda x, y: x * y)
    assert f(array.array("d", [1.0, 2.0]), array.array("i", [3, 4])).tolist() == [3, 8]
    assert f(np.ones(2), array.array("q", [3, 4])).dtype == np.float64
    with pytest.raises(adjit.ArgumentError, match="array is no array"):
        f(array.array("u", "ab"), 1.0)
    step = adjit.training_step(lambda p, x: np.sum((p - x) ** 2), adjit.optim.sgd(0.5))
    state = step.init(np.zeros(()) + 1.0)
    step.run(state, (array.array("d", [3.0, 3.0]),), batch_size=1)
    assert state.params == 3.0


def test_lists_of_numbers_are_trees_of_numbers() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]
    value, slope = adjit.value_and_grad(lambda x: np.sum(np.stack([np.stack(row) for row in x]) ** 2))(rows)
    assert (value, slope) == (30.0, [[2.0, 4.0], [6.0, 8.0]])


def test_lists_of_rows() -> None:
    step = adjit.training_step(lambda p, x, y: np.mean((x @ p - y) ** 2), adjit.optim.sgd(0.01))
    one, other = step.init(np.zeros(2)), step.init(np.zeros(2))
    x, y = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [1, 2, 3]
    lists = step.run(one, (x, y), batch_size=2, epochs=2)
    arrays = step.run(other, (np.array(x), np.array(y)), batch_size=2, epochs=2)
    assert lists.losses.tolist() == arrays.losses.tolist()
    with pytest.raises(adjit.ShapeError, match="a list of lists is no array"):
        step.run(one, ([[1.0], [1.0, 2.0]], y), batch_size=1)


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]})
    f = adjit.jit(lambda x, w: x @ w)
    assert f(frame, np.ones(2)).tolist() == [5, 7, 9]
    assert f(frame[["b", "a"]][::-1], np.ones(2)).tolist() == [9, 7, 5]
    assert adjit.jit(lambda x: x * 2)(frame["a"]).tolist() == [2, 4, 6]
    step = adjit.training_step(lambda p, x, y: np.mean((x @ p - y) ** 2), adjit.optim.sgd(0.01))
    state = step.init(np.zeros(2))
    assert len(step.run(state, (frame, frame["a"]), batch_size=1, epochs=2)) == 6
    step(state, frame, frame["a"])
    mixed = frame.assign(c=[1, 2, 3])
    with pytest.raises(adjit.ArgumentError, match=r"x: pandas.*write x\.to_numpy\(\), of one dtype"):
        f(mixed, np.ones(3))
    with pytest.raises(adjit.AdjitError, match="x: "):
        f(pandas.Series(["a", "b"]), 1.0)
