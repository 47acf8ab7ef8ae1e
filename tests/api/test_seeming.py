"""Arguments, static values and constants that are not what they seem: each means what it means, or is refused."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import adjit


class Tagged(np.ndarray):
    """Computes as an array does."""

    def __array_finalize__(self, given: Any) -> None:
        self.tag = getattr(given, "tag", None)


class Doubling(np.ndarray):
    """Has a rule of its own."""

    def __add__(self, other: Any) -> Any:
        return np.asarray(self) * 2 + other


FOREIGN = [
    np.ones((2, 2)).view(np.matrix),
    np.ma.array([1.0, 2.0], mask=[0, 1]),
    np.ones(2).view(Doubling),
    np.ones(2).view(np.recarray),
]


@pytest.mark.parametrize("x", FOREIGN, ids=lambda x: type(x).__name__)
def test_arrays_with_rules_of_their_own_are_refused(x: Any) -> None:
    with pytest.raises(adjit.ArgumentError, match=r"x: .*write"):
        adjit.jit(lambda x: x + 1)(x)
    step = adjit.training_step(lambda p, x: np.sum(p * p), adjit.optim.sgd(0.1))
    with pytest.raises(adjit.AdjitError, match="write"):
        step.init(x)
    with pytest.raises(adjit.ArgumentError, match="write"):
        step.run(step.init(np.ones(2)), (x,), batch_size=1)
    with pytest.raises(adjit.TraceError, match=r"a constant of class .*write"):
        adjit.jit(lambda y: y + x)(np.ones(2))


def test_masked_scalars_keep_their_mask() -> None:
    with pytest.raises(adjit.TraceError, match="would lose its mask"):
        adjit.jit(lambda y: np.add(y, np.ma.masked))(np.ones(2))


def test_arrays_of_classes_that_compute_plainly(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(2,))
    tagged = np.ones(2).view(Tagged)
    f = adjit.jit(lambda x: x + 1)
    assert f(mapped).tolist() == [1, 1]
    assert f(tagged).tolist() == [2, 2]
    assert adjit.jit(lambda y: y + tagged)(np.ones(2)).tolist() == [2, 2]


Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Options:
    scale: Any


nan, other_nan = float("nan"), float("inf") - float("inf")


@pytest.mark.parametrize("values", [
    (0.0, -0.0, 0, False, np.float64(0.0), np.float64(-0.0), np.float32(0.0), np.float32(-0.0), np.int64(0)),
    (1, 1.0, True, np.float64(1), np.bool_(True), 1 + 0j),
    (0j, complex(0.0, -0.0), complex(-0.0, 0.0)),
    ((0.0,), (-0.0,), ((0.0,),), ((-0.0,),), Pair(0.0, 1), Pair(-0.0, 1), Pair(0.0, True), frozenset([0.0]),
     frozenset([-0.0])),
    (Options(0.0), Options(-0.0), Options(False), Options((0.0,)), Options((-0.0,))),
    (range(0), range(1, 1), range(0, 3, 2), range(0, 4, 2)),
    (Decimal("1.0"), Decimal("1.00"), Decimal("0"), Decimal("-0")),
], ids=lambda values: str(values[0]))  # fmt: skip
def test_static_values_that_are_equal_but_not_the_same(values: tuple[Any, ...]) -> None:
    seen: list[Any] = []
    f = adjit.jit(lambda x, n: (seen.append(n), x)[1], static_argnames="n")
    for _ in range(2):
        for value in values:
            f(1.0, n=value)
    assert list(map(repr, seen)) == list(map(repr, values))


@pytest.mark.parametrize(("one", "other"), [
    (nan, other_nan), (np.float64(nan), np.float64(other_nan)), ((nan,), (other_nan,)), (Pair(1, nan), Pair(1, nan)),
    (Options(0.5), Options(0.5)), (frozenset([1, 2]), frozenset([2, 1])), (complex(nan, 0), complex(other_nan, 0)),
])  # fmt: skip
def test_static_values_that_are_the_same(one: Any, other: Any) -> None:
    f = adjit.jit(lambda x, n: x, static_argnames="n")
    f(1.0, n=one)
    f(1.0, n=other)
    assert len(f.signatures()) == 1
