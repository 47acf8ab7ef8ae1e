"""`checkpoint=` of loops, as it is said and refused; `adjit.checkpoint` of a function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.ir.graph import Graph
from adjit_runtime.errors import ArgumentError, WeakOverflowError
from tests.control.check import run, same, scan_of, scans


def decayed(x: Any, checkpoint: Any, length: int = 50) -> Any:
    return adjit.scan(lambda h, _: (np.sin(h), None), x, length=length, checkpoint=checkpoint)[0]


@pytest.mark.parametrize(
    ("checkpoint", "length", "count"),
    [
        (None, 50, 0), ("all", 50, 0), ("sqrt", 50, 8), ("sqrt", 49, 7), ("sqrt", 1, 1), ("sqrt", 0, 1), (3, 50, 3),
        (np.int32(3), 50, 3), (50, 50, 50), (1000, 50, 50), (5, 0, 1), ("240B", 50, 9), ("0.25kB", 50, 9),
        ("48 B", 50, 1), ("71B", 50, 1), ("64MB", 50, 50), ("1KiB", 50, 41), ("1e", 50, None),
    ],
)  # fmt: skip
def test_how_many_carries_are_kept(checkpoint: Any, length: int, count: int | None) -> None:
    """A carry has 24 bytes; one place more is for what is not to be kept."""
    x = np.ones(3)
    if count is None:
        with pytest.raises(ArgumentError):
            decayed(x, checkpoint, length)
        return
    loop = scan_of(lambda x: decayed(x, checkpoint, length), x)
    assert loop.attrs.get("checkpoints", 0) == count
    same(lambda x: decayed(x, checkpoint, length), x)


def test_what_no_turn_changes_takes_no_memory() -> None:
    def turn(carry: Any, _: Any) -> Any:
        return {"h": carry["h"] * carry["w"].sum(), "w": carry["w"]}, None

    carry = {"h": np.ones(2), "w": np.ones(1000)}
    loop = scan_of(lambda carry: adjit.scan(turn, carry, length=50, checkpoint="64B"), carry)
    assert loop.attrs["checkpoints"] == 3


@pytest.mark.parametrize(
    ("checkpoint", "text"),
    [
        (0, 'checkpoint, a number of carries, "sqrt", "all", or bytes as in "64MB", is an integer >= 1, not 0'),
        (-3, "is an integer >= 1, not -3"),
        (True, "is an integer >= 1, not True"),
        ([3], r"is an integer >= 1, not \[3\]"),
        (2.5, 'checkpoint is 2.5, where it is a number of carries, "sqrt", "all", or bytes as in "64MB"'),
        ("64", "checkpoint is '64', where it is a number of carries"),
        ("MB", "checkpoint is 'MB'"),
        ("-64MB", "checkpoint is '-64MB'"),
        ("half", "checkpoint is 'half'"),
    ],
)
def test_what_is_no_way_to_keep_carries(checkpoint: Any, text: str) -> None:
    """In a trace and outside of one."""
    loops = [
        ("scan", lambda x: decayed(x, checkpoint)),
        ("fori_loop", lambda x: adjit.fori_loop(0, 9, lambda i, h: np.sin(h), x, checkpoint=checkpoint)),
        ("while_loop", lambda x: by_while(x, 9, checkpoint, None)),
    ]
    for name, loop in loops:
        for call in (loop, adjit.jit(loop)):
            with pytest.raises(ArgumentError, match=text) as caught:
                call(np.ones(3))
            assert f"{name}: " in str(caught.value)


def test_a_number_that_is_none_of_a_machine() -> None:
    with pytest.raises(WeakOverflowError, match="does not fit int64"):
        decayed(np.ones(3), 2**70)


def test_too_few_bytes_are_an_error_that_names_the_least() -> None:
    with pytest.raises(
        ArgumentError, match=r"test_checkpoint.py:\d+: scan: checkpoint='47B' is less .* 24 bytes.* 48B"
    ):
        adjit.jit(lambda x: decayed(x, "47B"))(np.ones(3))


def by_for(x: Any, n: Any, checkpoint: Any, most: int | None) -> Any:
    return adjit.fori_loop(0, n, lambda i, h: np.sin(h), x, max_steps=most, checkpoint=checkpoint)


def by_while(x: Any, n: Any, checkpoint: Any, most: int | None) -> Any:
    def turn(now: Any) -> Any:
        return now[0] + 1, np.sin(now[1])

    return adjit.while_loop(lambda now: now[0] < n, turn, (0, x), max_steps=most, checkpoint=checkpoint)[1]


@pytest.mark.parametrize("loop", [by_for, by_while])
def test_loops_whose_turns_are_not_known(loop: Any) -> None:
    x, n = np.ones(3), np.int64(3)
    for checkpoint, most, count in (
        (None, None, 0), (7, None, 7), ("360B", None, 9), (None, 9, 0), ("all", 9, 0), ("sqrt", 9, 3), (7, 5, 5),
    ):  # fmt: skip
        made = scan_of(lambda x, n: loop(x, n, checkpoint, most), x, n)  # noqa: B023
        # A carry has a counter and, of a while_loop, whether it goes on, beside 24 bytes.
        assert made.attrs.get("checkpoints", 0) in (count, count + 1 if checkpoint == "360B" else count)
        assert not made.attrs["sliced"] or made.attrs.get("checkpoints", 0) == 0
        same(lambda x, n: loop(x, n, checkpoint, most), x, n)  # noqa: B023
    for checkpoint in ("sqrt", "all"):
        with pytest.raises(
            ArgumentError,
            match=rf"_loop: checkpoint='{checkpoint}' is of a most number of turns, .*: give max_steps=, ",
        ):
            adjit.jit(lambda x, n: loop(x, n, checkpoint, None))(x, 3)  # noqa: B023


def test_explain_and_the_plan_say_the_steps() -> None:
    def loss(x: Any) -> Any:
        return decayed(x, 4, 30).sum()

    x = np.ones(3)
    made = adjit.grad(loss)
    text = str(made.explain(x))
    assert "computed again for the gradient" in text
    assert (
        "Of the 30 turns of @body (test_checkpoint.py:17), 4 states of 24 B are kept: 69 steps forward in all." in text
    )
    assert "plan @body_forward_69_steps" in str(made.ir("plan", x))
    assert "checkpoints=4" in str(made.ir("trace", x))
    assert "computed again" not in str(adjit.jit(loss).explain(x))


# -- a function -----------------------------------------------------------------------------------------------------


def layer(h: Any, w: Any, scale: float = 1.0, *, also: bool = True) -> Any:
    h = np.tanh(h @ w) * scale
    return {"h": h, "s": np.exp(h).sum() if also else None}


def test_a_function_gives_what_it_gave() -> None:
    h, w = np.ones((2, 3)), np.ones((3, 3)) / 2
    again = adjit.checkpoint(layer)
    assert again.__name__ == "layer"
    for call in (lambda f: f(h, w), lambda f: f(h, w, scale=0.5), lambda f: f(h, w, also=False)):
        plain, wrapped = call(layer), call(again)
        assert plain.keys() == wrapped.keys()
        np.testing.assert_array_equal(plain["h"], wrapped["h"])

    def model(h: Any, w: Any) -> Any:
        return again(h, w, 2.0), again(h, w, also=False)

    found = run(model, h, w)
    np.testing.assert_allclose(found[0]["h"], layer(h, w, 2.0)["h"], rtol=1e-12)
    assert found[1]["s"] is None


def test_a_function_that_is_none() -> None:
    with pytest.raises(ArgumentError, match="checkpoint: f is a function, not 3"):
        adjit.checkpoint(3)  # type: ignore[arg-type]


def deep(w: Any, h: Any, wrapped: bool) -> Any:
    each = adjit.checkpoint(layer) if wrapped else layer
    total = 0.0
    for _ in range(3):
        found = each(h, w)
        h, total = found["h"], total + found["s"]
    return np.sum(h * h) + total


def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 4)) / 2, rng.normal(size=(64, 4))


def test_gradients_of_all_orders_are_those_of_the_function() -> None:
    w, h = inputs()
    grads = [adjit.grad(lambda w, h: deep(w, h, wrapped), argnums=(0, 1)) for wrapped in (False, True)]  # noqa: B023
    for wanted, found in zip(*(each(w, h) for each in grads), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    plain, again = (lambda w: deep(w, h, False)), (lambda w: deep(w, h, True))
    for made in (
        lambda f: adjit.hvp(f)(w, w),
        lambda f: adjit.jacfwd(f)(w),
        lambda f: adjit.grad(lambda w: np.sum(adjit.grad(f)(w) ** 2))(w),
        lambda f: adjit.vmap(adjit.grad(f))(np.stack([w, -w])),
        lambda f: adjit.grad(lambda w: adjit.vmap(f)(np.stack([w, -w])).sum())(w),
    ):
        np.testing.assert_allclose(made(again), made(plain), rtol=1e-10)


def wide(h: Any, w: Any) -> Any:
    for _ in range(4):
        h = np.exp(-(np.tanh(h * w) ** 2))
    return h


def test_no_pass_keeps_what_is_computed_again() -> None:
    """Neither cse, nor what leaves loops, nor what makes one turn the graph around it."""
    w, h = np.linspace(0.1, 1, 50), np.random.default_rng(0).normal(size=(300, 50))

    def loss(w: Any, h: Any, wrapped: bool) -> Any:
        each = adjit.checkpoint(wide) if wrapped else wide
        x = h * w
        for _ in range(4):
            x = each(x, w)
        return np.sum(x)

    def peak(wrapped: bool) -> int:
        line = str(adjit.grad(lambda w, h: loss(w, h, wrapped)).ir("plan", w, h)).splitlines()[0]
        return int(line.split("arena ")[1].split(" ")[0])

    assert peak(True) < 0.7 * peak(False)
    graph: Graph = adjit.grad(lambda w, h: loss(w, h, True)).ir("optimized", w, h)
    inner = [node for node in scans(graph) if node.attrs.get("closed", False)]
    assert len(inner) == 4
    # The values of each are computed in its own derivative, from what it was given.
    assert all(sum(each.op.name == "tanh" for each in node.attrs["body"].nodes) == 4 for node in inner)


def test_without_a_gradient_nothing_is_left_of_it() -> None:
    w, h = inputs()
    assert not scans(adjit.jit(lambda w, h: adjit.checkpoint(layer)(h, w)).ir("optimized", w, h))


def test_the_body_of_a_loop() -> None:
    w, h = inputs()

    def loss(w: Any, wrapped: bool) -> Any:
        def turn(h: Any, x: Any) -> Any:
            return np.tanh(wide(h @ w, x)), None

        return np.sum(adjit.scan(adjit.checkpoint(turn) if wrapped else turn, h[0], h)[0])

    wanted, found = (adjit.grad(lambda w: loss(w, wrapped))(w) for wrapped in (False, True))  # noqa: B023
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_what_is_random_is_the_same_again() -> None:
    key = adjit.random.key(3)

    def loss(w: Any, wrapped: bool) -> Any:
        def noisy(w: Any) -> Any:
            return np.sum(np.sin(w * adjit.random.normal(key, w.shape).astype(float)))

        return (adjit.checkpoint(noisy) if wrapped else noisy)(w)

    w = np.ones(5)
    wanted, found = (adjit.grad(lambda w: loss(w, wrapped))(w) for wrapped in (False, True))  # noqa: B023
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
