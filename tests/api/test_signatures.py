"""How many signatures a function keeps, and what it says about many."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit_runtime import call, state, step
from adjit_runtime.tuned import NATIVE_ENTRIES

MANY = call.SIGNATURES_TO_WARN


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A bound of signatures that is little more than there are native entries."""
    bound = NATIVE_ENTRIES + 4
    for module in (call, state, step):
        monkeypatch.setattr(module, "MOST_SIGNATURES", bound)
    return bound


def test_the_program_that_was_used_longest_ago_goes(few: int) -> None:
    f = adjit.jit(lambda x: x + 1)
    for n in range(1, few + 1):
        f(np.zeros(n))
    first = weakref.ref(next(iter(f._compiled.values())).loaded)
    f(np.zeros(2))
    f(np.zeros(1))
    f(np.zeros(few + 1))
    f(np.zeros(few + 2))
    assert len(f.signatures()) == few
    known = {signature.types[0].shape[0] for signature in f._compiled}
    assert known == {1, 2, *range(5, few + 3)}
    assert set(f.records) == set(f._compiled)
    assert first() is not None
    # What went is made again.
    assert f(np.zeros(3)).tolist() == [1.0] * 3
    assert len(f.signatures()) == few


def test_what_went_is_collected(few: int) -> None:
    f = adjit.jit(lambda x: x + 1)
    f(np.zeros(1))
    gone = weakref.ref(next(iter(f._compiled.values())).loaded)
    for n in range(2, few + 2):
        f(np.zeros(n))
    gc.collect()
    assert gone() is None
    assert {key[0] for key in f._calls} == set(f._compiled.values())


def test_signatures_with_a_native_entry_stay(few: int) -> None:
    f = adjit.jit(lambda x: x + 1)
    often = np.zeros(1)
    for _ in range(3):
        f(often)
    program = f._entries[0].loaded
    for n in range(2, few + 6):
        f(np.zeros(n))
        f(often)
    assert any(found.loaded is program for found in f._compiled.values())


def test_states_keep_as_many(few: int) -> None:
    training = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(0.0))
    own = training.init(np.ones(1))
    batches = [np.ones(n) for n in range(1, few + 4)]
    for batch in batches:
        for _ in range(2):
            training(own, batch)
    assert len(own.bindings) == few
    assert len(own.entries) == few
    assert [training(own, batch) for batch in batches] == [float(len(batch)) for batch in batches]


def warned(call: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(warning.category is adjit.SignaturesWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_one_warning_names_what_varies() -> None:
    @adjit.jit
    def scaled(x: Any, p: Any) -> Any:
        return x * 2 + p["b"]

    def work(start: int, stop: int) -> None:
        for n in range(start, stop):
            scaled(np.zeros(n), {"b": 1.0})

    assert warned(lambda: work(1, MANY)) == []
    (text,) = warned(lambda: work(MANY, MANY + 1))
    assert text == (
        f"scaled has been compiled for {MANY} signatures: x is f64[1], f64[2], f64[3], ... (pad it to a few sizes)"
    )
    assert warned(lambda: work(MANY + 1, MANY + 4)) == []


def test_static_arguments_structures_and_dtypes_are_named() -> None:
    f = adjit.jit(lambda x, n: x * n, static_argnames="n")

    def by_number() -> None:
        for n in range(MANY):
            f(np.zeros(2), n)

    (text,) = warned(by_number)
    assert "the static argument n is 0, 1, 2, ... (pass what need not be static as an array)" in text
    assert "x is" not in text
    g = adjit.jit(lambda p, x: x + len(p))

    def by_structure() -> None:
        for n in range(MANY):
            g([1.0] * n, np.zeros(1, ["f", "d"][n % 2]))

    (text,) = warned(by_structure)
    assert "the arguments have different structures" in text
    h = adjit.jit(lambda x, s: x + s)

    def by_class() -> None:
        for n in range(MANY):
            h(np.zeros(n + 1), [np.float64(1.0), np.array(1.0)][n % 2])

    (text,) = warned(by_class)
    assert "s is f64[], f64[] (an array) (give always a scalar, or always an array)" in text
    step_of = adjit.training_step(lambda p, x: np.sum(p) * np.sum(x), optim.sgd(0.0))

    def by_layout() -> None:
        for n in range(MANY):
            step_of(step_of.init(np.ones(n + 1)), np.zeros(2))

    (text,) = warned(by_layout)
    assert "states have different layouts" in text


def test_a_warning_that_is_an_error_is_raised_once() -> None:
    f = adjit.jit(lambda x: x + 1)
    for n in range(1, MANY):
        f(np.zeros(n))
    with pytest.raises(adjit.SignaturesWarning):
        f(np.zeros(MANY))
    assert f(np.zeros(MANY)).tolist() == [1.0] * MANY
