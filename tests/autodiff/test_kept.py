"""What a loop keeps: the decision by itself, against all that could be decided, and for loops as users write them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from adjit.autodiff.kept import Candidate, choose
from adjit.ir.builder import Builder
from adjit.ir.types import F64, Array
from tests.autodiff.loops import Loop, adjoint, scans


def draw(*shape: int) -> Any:
    return np.random.default_rng(shape).uniform(0.2, 0.9, shape)


def serves(candidates: Sequence[Candidate], wanted: Sequence[int], kept: frozenset[int]) -> bool:
    """Whether all that is wanted is there, or computed again from what is."""
    there: list[bool] = []
    for i, one in enumerate(candidates):
        there.append(one.here or i in kept or (one.again and all(there[arg] for arg in one.args)))
    return all(there[i] for i in wanted)


def random_candidates(choose: random.Random) -> tuple[list[Candidate], list[int]]:
    """Values of which each is computed from some before it."""
    made: list[Candidate] = []
    for i in range(choose.randint(1, 11)):
        args = tuple(choose.sample(range(i), min(i, choose.randint(0, 3))))
        made.append(
            Candidate(
                args,
                nbytes=choose.choice((1, 8, 8, 8, 24)) if not args or choose.random() < 0.9 else None,
                here=not args and choose.random() < 0.3,
                again=bool(args) and choose.random() < 0.7,
                made=choose.random() < 0.8,
            )
        )
    keepable = [i for i, one in enumerate(made) if one.nbytes is not None]
    return made, sorted(choose.sample(keepable, choose.randint(1, len(keepable))))


@pytest.mark.parametrize("seed", range(150))
def test_nothing_less_would_do(seed: int) -> None:
    candidates, wanted = random_candidates(random.Random(seed))
    found = choose(candidates, wanted).kept
    assert serves(candidates, wanted, found)
    keepable = [i for i, one in enumerate(candidates) if one.nbytes is not None and not one.here]
    sizes = [
        sum(candidates[i].nbytes or 0 for i in kept)
        for n in range(len(keepable) + 1)
        for kept in itertools.combinations(keepable, n)
        if serves(candidates, wanted, frozenset(kept))
    ]
    assert sum(candidates[i].nbytes or 0 for i in found) == min(sizes)


def test_among_equals_what_is_computed_last_is_kept_but_nothing_that_is_made_for_it() -> None:
    heavy = Candidate((), 8)
    light = Candidate((0,), 8, again=True)
    derivative = Candidate((1,), 8, again=True, made=False)
    assert choose([heavy, light, derivative], [2]) == (frozenset({1}), frozenset())
    assert choose([heavy, light, derivative._replace(nbytes=1)], [2]) == (frozenset({2}), frozenset())


def test_of_what_is_carried_the_value_before_a_turn_is_that_after_another() -> None:
    before, after = Candidate((), 8), Candidate((0,), 8, before=0)
    assert choose([before, after], [0, 1]) == (frozenset({0}), frozenset({1}))
    # By itself the value after a turn is kept, so that nothing needs to be carried.
    assert choose([before, after], [1]) == (frozenset({1}), frozenset())
    assert choose([before, after, Candidate((0,), 8, again=True)], [1, 2]) == (frozenset({0}), frozenset({1}))
    handed = [before, Candidate((), 8, before=0), Candidate((), 8, before=1), Candidate((0, 1, 2), 24, again=True)]
    assert choose(handed, [3]) == (frozenset({0}), frozenset({1, 2}))
    ring = [Candidate((), 8, before=1), Candidate((), 8, before=0)]
    assert choose(ring, [0]) == (frozenset(), frozenset({0, 1}))
    assert choose([before._replace(here=True), after], [1]) == (frozenset(), frozenset({1}))


def kept(body: Any, carried: Sequence[Any], parts: Sequence[Any] = (), whole: Sequence[Any] = ()) -> list[str]:
    """What the loop forward keeps, each by the op that makes it."""
    graph = Loop("loop", body, carried, parts, whole, length=len(parts[0]) if parts else 4).graph()
    forward = scans(adjoint(graph))[0].attrs["body"]
    return [f"{node.op.name} {node.type}" for node in forward.outputs[len(graph.outputs) :]]


X = draw(4, 3)
SQUARE = draw(3, 3)
KEPT = [
    ("constant coefficients", lambda h, x: (0.5 * h + x,), [X], [], []),
    ("an invariant as coefficient", lambda h, x, a: (a * h + x,), [X], [draw(3)], ["input f64[3]"]),
    ("tanh, by its result", lambda h, x: (np.tanh(h + x),), [X], [], ["tanh f64[3]"]),
    ("tanh, before and after", lambda h, x, a: (np.tanh(a * h + x),), [X], [draw(3)], ["input f64[3]"]),
    ("tanh that is a result", lambda h, x: ((y := np.tanh(h + x)), y), [X], [], []),
    ("light ones of what is sliced", lambda h, x: (h * (x * x + 1.0) / (x - 2.0),), [X], [], ["input f64[3]"]),
    ("of a slice, nothing", lambda h, x: (h + x * x * np.sqrt(x),), [X], [], []),
    ("a sine, by its operand", lambda h, x: (h + np.sin(x),), [X], [], []),
    ("exp of an invariant", lambda h, x, a: (h * 0.5 + x * np.exp(a),), [X], [draw(3)], []),
    ("what a product gives", lambda h, x, w: (h + np.exp(x @ w),), [X], [SQUARE], ["exp f64[3]"]),
    ("a truth value for a float", lambda h, x, w: (h + np.where(x @ w > 0.3, x, 0.0),), [X], [SQUARE], ["gt bool[3]"]),
    ("one value for two", lambda h, x, w: (h + ((z := np.exp(x @ w)) + (x + 1) @ w) ** 2 * x, np.sum(z)), [X],
     [SQUARE], ["exp f64[3]", "add f64[3]"]),
    ("an index that is sliced", lambda h, i, w: (h * w[i] + w[i],), [np.array([0, 2, -1])], [draw(4)],
     ["input f64[3]", "take f64[]"]),
    ("a scalar, not what it is spread over", lambda h, x: (h + np.exp(x.sum()) * x,), [X], [], ["exp f64[]"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "parts", "whole", "expected"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
def test_what_is_kept(body: Any, parts: list[Any], whole: list[Any], expected: list[str]) -> None:
    assert kept(body, [draw(3)], parts, whole) == expected


def test_an_invariant_is_never_stacked_whatever_is_computed_from_it() -> None:
    def body(h: Any, w: Any) -> Any:
        return (h @ np.exp(w) * np.sum(np.tanh(w) @ w),)

    graph = Loop("loop", body, [draw(3)], [], [SQUARE]).graph()
    forward, backward = scans(adjoint(graph))
    # h for the gradient of exp(w), h @ exp(w) for that of the sum.
    assert [node.shape for node in forward.attrs["body"].outputs] == [(3,)] * 3
    names = {node.op.name for node in backward.attrs["body"].nodes}
    assert not names & {"exp", "tanh"}, "computed ahead of the loop, once"


def test_what_passes_through_is_no_more_than_an_invariant() -> None:
    graph = Loop("loop", lambda h, c, x: (h * c + x, c), [draw(3), draw(3)], [X]).graph()
    forward, backward = scans(adjoint(graph))
    assert len(forward.attrs["body"].outputs) == 3
    # Carried are the two cotangents.
    assert (backward.attrs["carried"], backward.attrs["sliced"], len(backward.args)) == (2, 1, 4)


def test_a_loop_in_a_body_keeps_its_own_and_no_value_twice() -> None:
    inner = Loop("inner", lambda c, x: (np.tanh(c * c + x),), [np.array(0.0)], [draw(3)], length=3)
    b = Builder()
    c, x = b.input("c", Array(F64)), b.input("x", Array(F64, (3,)))
    (last,) = inner.enter(b, [c, x])
    body = b.graph("outer", [b.sin(b.value(last)).node])
    # What the inner loop leaves, which sin reads, and what its turns begin with.
    assert kept(body, [np.array(0.3)], [draw(4, 3)]) == ["item f64[]", "item f64[3]"]


def test_the_second_derivative_of_a_recursion_keeps_no_more_of_its_turns() -> None:
    """The value after a turn is that before the next one, which the first derivative has the loop keep."""
    graph = Loop("rnn", lambda h, x, w: (np.tanh(h @ w + x),), [draw(3)], [X], [SQUARE]).graph()
    second = adjoint(adjoint(graph))
    assert len(scans(second)[0].attrs["body"].outputs) == 2


def test_of_what_is_handed_from_one_to_the_other_one_is_kept() -> None:
    zero = np.array(0.0)

    def body(y1: Any, y2: Any, y3: Any, x: Any, p: Any) -> Any:
        return p @ np.stack([y1, y2, y3]) + x, y1, y2

    assert kept(body, [zero, zero, zero], [draw(5)], [draw(3)]) == ["input f64[]"]
    assert kept(lambda a, b, x: (b, a, np.sin(a * b * x)), [zero, zero], [draw(5)]) == []


def test_a_cotangent_that_no_turn_changes_is_not_carried() -> None:
    """Of a sum over turns: its cotangent is the same for all of them."""
    graph = Loop("loop", lambda s, x: (s + np.sum(x * x),), [np.array(0.0)], [X]).graph()
    forward, backward = scans(adjoint(graph))
    assert len(forward.attrs["body"].outputs) == 1
    assert (backward.attrs["carried"], backward.attrs["sliced"]) == (0, 1)
