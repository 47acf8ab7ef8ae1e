"""Native entries take what fits and hand on the rest: the same bits on both paths, no leak, every wrong argument."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import tracemalloc
import types
import weakref
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit_runtime import native
from adjit_runtime.tuned import NATIVE_ENTRIES
from tests.api.models import data, loss, make_params

BUILTIN = types.BuiltinFunctionType


def entered(function: Any, *args: Any) -> Any:
    """`function`, after two calls, which give it a native entry for such arguments."""
    function(*args)
    function(*args)
    assert type(type(function).__call__) is BUILTIN
    return function


def by_python(function: Any, *args: Any) -> Any:
    """The same call on the path through Python."""
    return type(function).__mro__[1].__call__(function, *args)


def test_this_platform_has_native_entries() -> None:
    assert native.available()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (17,), (2, 3, 5), (1,) * 8])
def test_both_paths_give_the_same_bits(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    f = entered(adjit.jit(lambda x, y: (x, x == y, np.sum(x) + 1)), x, x)
    for found, wanted in zip(f(x, x), by_python(f, x, x), strict=True):
        assert type(found) is type(wanted)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_every_kind_of_array_goes_where_it_should() -> None:
    x = np.arange(12.0).reshape(3, 4)
    f = entered(adjit.jit(lambda x: np.cumsum(x * 2, axis=1)), x)
    wanted = np.cumsum(x * 2, axis=1)
    raw = np.zeros(12 * 8 + 1, np.uint8)
    odd = raw[1:].view(np.float64).reshape(3, 4)
    odd[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for array in (
        x, frozen, odd, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], pickle.loads(pickle.dumps(x)),
        copy.deepcopy(x), x.astype(">f8"), np.ma.masked_array(x).data, x.astype(np.longdouble).astype("d"),
    ):  # fmt: skip
        np.testing.assert_array_equal(f(array), wanted)
    assert len(f.signatures()) == 1
    ints = entered(adjit.jit(lambda x: x + 1), np.arange(3))
    assert ints(np.arange(3).astype("q")).tolist() == [1, 2, 3]
    assert len(ints.signatures()) == 1


def test_memmaps_and_subclasses(tmp_path: Any) -> None:
    class Mine(np.ndarray):
        pass

    f = entered(adjit.jit(lambda x: x * 2), np.ones(3))
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(3,))
    mapped[...] = 1
    for array in (mapped, np.ones(3).view(Mine)):
        assert type(f(array)) is np.ndarray
        assert f(array).tolist() == [2, 2, 2]


def test_wrong_arguments_get_the_errors_of_the_python_path() -> None:
    f = entered(adjit.jit(lambda x, y: x + y), np.ones(3), np.ones(3))
    x = np.ones(3)
    for wrong, error in [
        (("a", x), adjit.ArgumentError),
        ((x, object()), adjit.ArgumentError),
        ((x, x.astype(np.complex64)), adjit.DTypeError),
        ((x, np.array([None] * 3)), adjit.DTypeError),
        ((x, np.ones(4)), ValueError),
        ((x,), TypeError),
        ((x, x, x), TypeError),
    ]:
        with pytest.raises(error):
            f(*wrong)
    with pytest.raises(TypeError):
        f(x, x, z=x)
    assert f(x, y=x).tolist() == [2, 2, 2]
    assert f(x, x).tolist() == [2, 2, 2]


def test_python_numbers() -> None:
    f = entered(adjit.jit(lambda x, n: x * n), 2.0, 3)
    assert f(2.5, -4) == -10.0
    assert f(float("inf"), 2) == float("inf")
    assert f(np.float64(2.0), 3) == 6.0
    assert f(True, 3) == 3
    with pytest.raises(adjit.ArgumentError, match="does not fit int64"):
        f(1.0, 2**63)
    assert f(1.0, -(2**63)) == -(2.0**63)


def test_checks_that_fail_raise_and_leave_the_entry_usable() -> None:
    f = entered(adjit.jit(lambda x, i: x[i]), np.arange(4.0), np.array([1]))
    with pytest.raises(IndexError, match=r"test_native\.py:\d+: index 7 is out of bounds"):
        f(np.arange(4.0), np.array([7]))
    assert f(np.arange(4.0), np.array([-1])).tolist() == [3.0]


def test_more_signatures_than_entries() -> None:
    f = adjit.jit(lambda x: x + 1)
    for _ in range(3):
        for n in range(1, NATIVE_ENTRIES + 6):
            assert f(np.zeros(n)).tolist() == [1.0] * n
    x = np.zeros(1)
    for _ in range(100):
        f(x)
    assert len(f._entries) == NATIVE_ENTRIES
    assert f.__wrapped__(1) == 2


def test_tracers_and_captures_pass_through() -> None:
    inner = entered(adjit.jit(lambda x: x * 3), np.ones(2))
    assert adjit.jit(lambda x: inner(x) + inner(np.ones(2)))(np.ones(2)).tolist() == [6, 6]
    assert adjit.grad(lambda x: np.sum(inner(x)))(np.ones(2)).tolist() == [3, 3]


def test_nothing_leaks() -> None:
    x = np.ones(8)
    f = entered(adjit.jit(lambda x, n: (x * n, np.sum(x))), x, 2.0)
    step = adjit.training_step(loss, optim.adam(0.1))
    state = step.init(make_params())
    batch = data()
    step(state, *batch)

    def work(count: int) -> None:
        for _ in range(count):
            f(x, 2.0)
            step(state, *batch)

    work(100)
    gc.collect()
    references = sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(state)
    tracemalloc.start()
    work(10)
    before = tracemalloc.get_traced_memory()[0]
    work(2000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2000
    assert (sys.getrefcount(x), sys.getrefcount(x.dtype), sys.getrefcount(state)) == references


def test_functions_states_and_code_are_collected() -> None:
    def make() -> tuple[Any, Any, Any]:
        f = entered(adjit.jit(lambda x: x + 1), np.ones(2))
        step = adjit.training_step(loss, optim.sgd(0.1))
        state = step.init(make_params())
        step(state, *data())
        step(state, *data())
        return weakref.ref(f), weakref.ref(step), weakref.ref(state)

    found = make()
    gc.collect()
    assert [reference() for reference in found] == [None, None, None]


def test_a_step_falls_through_for_other_states_batches_and_overlaps() -> None:
    step = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(1.0))
    state, other = step.init(np.array([1.0, 2.0])), step.init(np.array([5.0, 5.0]))
    x = np.array([1.0, 1.0])
    entered(step, state, x)
    assert step(other, x) == 10.0
    state.params[...] = 0.5
    assert step(state, x) == 1.0
    # The argument lies in the state: it is copied before anything is written.
    state.params[...] = [1.0, 2.0]
    assert step(state, state.params) == 5.0
    assert state.params.tolist() == [0.0, 0.0]
    assert step(state, np.ones(2, np.int64)) == 0.0
    with pytest.raises(adjit.ArgumentError, match="takes a state"):
        step(None, x)
    state.close()
    with pytest.raises(adjit.StateError, match="closed"):
        step(state, x)
    assert type(step(other, x)) is float


def test_a_busy_state_is_refused_by_the_native_entry() -> None:
    step = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(1.0))
    state, x = step.init(np.ones(2)), np.ones(2)
    entered(step, state, x)
    with pytest.raises(adjit.StateError, match="busy in another thread"):
        state.exclusively(step, state, x)
    state.params[...] = 1.0
    assert step(state, x) == 2.0


def test_a_long_step_gives_the_gil_back() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(400, 400))
    step = adjit.training_step(lambda p, x: np.mean((x @ p) ** 2), optim.sgd(0.0))
    state, x = step.init(w), rng.normal(size=(400, 400))
    first = step(state, x)
    results: list[Any] = []
    refused: list[adjit.StateError] = []

    def work() -> None:
        for _ in range(20):
            try:
                results.append(step(state, x))
            except adjit.StateError as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whether two threads meet is chance; that every call either ran or was refused is not.
    assert len(results) + len(refused) == 60
    assert set(results) == {first}


def test_one_function_with_an_entry_from_many_threads() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 300))
    f = entered(adjit.jit(lambda a: a @ a), x)
    inputs = [rng.normal(size=(300, 300)) for _ in range(6)]
    expected = [f(a) for a in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(15) if not np.array_equal(f(inputs[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_without_the_known_layout_everything_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    f = adjit.jit(lambda x: x + 1)
    assert f(np.ones(2)).tolist() == [2, 2]
    assert f(np.ones(2)).tolist() == [2, 2]
    assert type(type(f).__call__) is not BUILTIN


@adjit.jit
def exported(x: Any) -> Any:
    return x + 1


def test_pickling_is_by_name_and_copies_are_the_function() -> None:
    assert copy.copy(exported) is exported
    assert copy.deepcopy([exported])[0] is exported
    assert pickle.loads(pickle.dumps(exported)) is exported


def test_many_threads_with_entries_that_come_and_go() -> None:
    """More signatures than entries, calls long enough to give the GIL back, and threads that change at any moment."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        compiled = adjit.jit(lambda x, y: (np.cumsum(np.sin(x @ x.T), axis=1), np.sum(y) + x[0, 0]))
        step = adjit.training_step(lambda w, x: np.mean(np.tanh(x @ w) ** 2), adjit.optim.adam(1e-2))
        rng = np.random.default_rng(7)
        arrays = [(rng.normal(size=(20 + i % 12, 30 + i % 3)), np.ones(i % 5 + 1)) for i in range(12)]
        wanted = [compiled.__wrapped__(*pair) for pair in arrays]
        start = [np.full((30 + i % 3, 20), 0.01) for i in range(len(arrays))]
        states = [step.init(w) for w in start]
        wrong: list[int] = []

        def work(i: int) -> None:
            for _ in range(80):
                running, total = compiled(*arrays[i])
                if not (np.allclose(running, wanted[i][0]) and np.allclose(total, wanted[i][1])):
                    wrong.append(i)
                step(states[i], arrays[i][0])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(arrays))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    for i, (w, state) in enumerate(zip(start, states, strict=True)):
        alone = step.init(w)
        for _ in range(80):
            step(alone, arrays[i][0])
        np.testing.assert_array_equal(alone.params, state.params)
