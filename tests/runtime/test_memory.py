"""What stays of a program that is dropped: no Python object, no layout, nothing of LLVM's."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit_runtime import load
from adjit_runtime import state as states
from adjit_runtime.load import address_of
from tests.test_layers import ROOT

RNG = np.random.default_rng(0)


def a_function(number: int) -> None:
    x = np.ones(600 + number)
    f = adjit.jit(lambda x: np.sin(x) * 2.0)
    for _ in range(3):
        f(x)


def a_gradient(number: int) -> None:
    f = adjit.value_and_grad(lambda x: np.sum(np.sin(x) ** 2))
    for _ in range(3):
        f(np.ones(600 + number))


def a_step(number: int) -> None:
    step = adjit.training_step(lambda p, x: np.sum((p["w"] * x) ** 2), optim.adam(0.1))
    state = step.init({"w": np.ones(600 + number)})
    for _ in range(3):
        step(state, np.ones(600 + number))
    step.run(state, (np.ones((4, 600 + number)),), batch_size=2)


@pytest.mark.parametrize("make", [a_function, a_gradient, a_step], ids=lambda make: make.__name__)
def test_no_object_stays(make: Callable[[int], None]) -> None:
    """Twice as many programs that are gone leave as many objects."""
    programs = 10
    counts = []
    for start in (0, programs, 2 * programs):
        for number in range(programs):
            make(start + number)
        gc.collect()
        counts.append(len(gc.get_objects()))
    # Less than one object for each program.
    assert counts[2] - counts[1] < programs


def network(params: Any, x: Any, y: Any) -> Any:
    """A loss of some twenty operations; its gradient has fifty."""
    z = np.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    z = z - np.max(z, axis=1, keepdims=True)
    return -np.mean(np.sum(y * (z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))), axis=1))


def batches(start: int, count: int) -> Iterator[tuple[Any, ...]]:
    """Arguments of `network` with another number of rows each."""
    params = {"w1": np.ones((3, 8)), "b1": np.zeros(8), "w2": np.ones((8, 4)), "b2": np.zeros(4)}
    for rows in range(start, start + count):
        yield params, np.ones((rows, 3)), np.ones((rows, 4))


def test_a_signature_keeps_little() -> None:
    """Graphs after the trace, plan, text and the object code that was linked have several times these bytes; what
    is shown of them is made again, and goes."""
    f = adjit.value_and_grad(network)
    # The first ones need the largest arena, which the others use again.
    for arguments in batches(60, 3):
        f(*arguments)
    tracemalloc.start()
    try:
        for arguments in batches(43, 12):
            f(*arguments)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        for stage in ("adjoint", "optimized", "plan", "llvm", "asm"):
            assert str(f.ir(stage)) == str(f.ir(stage))
        gc.collect()
        shown = tracemalloc.get_traced_memory()[0] - kept
    finally:
        tracemalloc.stop()
    assert kept / 12 < 28 << 10
    assert shown < 24 << 10
    assert len(f.ir("llvm")) > 64 << 10
    assert f.ir("trace") is f.ir("trace")


def test_programs_share_scratch_memory_that_goes_with_the_last_of_them() -> None:
    f = adjit.jit(lambda x: np.sum(np.sin(x @ x.T), axis=0) @ x)
    before = dict(load._ARENAS)
    for rows in (260, 261, 300):
        f(np.ones((rows, 3)))
    held = [compiled.loaded._arenas for compiled in f._compiled.values()]
    assert len(set(map(id, held))) == 1
    assert [len(arena) for arena in held[0]._free] == [max(c.loaded.program.arena_bytes for c in f._compiled.values())]
    del held
    f.retrace()
    gc.collect()
    assert dict(load._ARENAS) == before


def squares(x: Any) -> Any:
    return np.sin(x @ x.T) @ x


def test_native_entries_of_large_programs_share_scratch_memory() -> None:
    """From several threads, too: one is in an entry, the others go by Python."""
    f = adjit.jit(squares)
    arguments = [RNG.normal(size=(rows, 3)) for rows in (460, 440, 420, 400)]
    wanted = [[f(x) for _ in range(3)][-1] for x in arguments]
    assert len(f._entries) == len(arguments)
    assert len({address_of(entry.arena) for entry in f._entries}) == 1
    with ThreadPoolExecutor(4) as pool:
        found = [list(pool.map(f, arguments)) for _ in range(50)]
    for results in found:
        for result, want in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(result, want)
    f(RNG.normal(size=(10, 3)))
    f(RNG.normal(size=(10, 3)))
    assert len({address_of(entry.arena) for entry in f._entries}) == 2


def test_steps_of_a_state_share_scratch_memory() -> None:
    step = adjit.training_step(lambda p, x: np.mean(np.tanh(squares(x) * p) ** 2), optim.sgd(0.1))
    state = step.init(np.ones(3))
    again = step.init(np.ones(3))
    arguments = [RNG.normal(size=(rows, 3)) for rows in (60, 50)]
    for _ in range(3):
        for x in arguments:
            assert step(state, x) == step(again, x)
    assert len(state.entries) == 2
    assert len({address_of(entry.arena) for entry in state.entries}) == 1
    assert not {address_of(e.arena) for e in state.entries} & {address_of(e.arena) for e in again.entries}


def test_layouts_go_with_their_states_and_programs() -> None:
    gc.collect()
    before = len(states._LAYOUTS)
    step = adjit.training_step(lambda p, x: np.sum(p * x), optim.sgd(0.1))
    made = [step.init(np.ones(1000 + i)) for i in range(10)]
    assert len(states._LAYOUTS) == before + 10
    again = step.init(np.ones(1000))
    assert again.layout is made[0].layout
    step(made[1], np.ones(1001))
    del made
    gc.collect()
    # One of a state, one of a program.
    assert len(states._LAYOUTS) == before + 2
    del again, step
    gc.collect()
    assert len(states._LAYOUTS) == before


PROGRAM = """
import gc
import sys
import numpy as np
import adjit
from adjit_runtime import load
from adjit_runtime.load import Loaded
from adjit_runtime.tuned import LINKS_PER_JIT
from tests.runtime.test_memory import resident

if sys.argv[1] == "llvm":
    load.is_linked_here = lambda code: False
f = adjit.jit(lambda x: x * 2.0)
f(np.ones(3))
(record,) = f.records.values()
program = record.made("object")
kept = []

def link(count):
    for number in range(count):
        loaded = Loaded(program)
        if number % 100 == 0:
            kept.append(loaded)
    del loaded
    gc.collect()

link(4 * LINKS_PER_JIT)
before = resident()
link(1000)
print((resident() - before) // 1000)
from adjit_runtime.call import Compiled
(compiled,) = f._compiled.values()
print({float(Compiled(loaded, compiled.out_tree)([np.ones(3)])[0]) for loaded in kept})
"""


SIGNATURES = """
import warnings
import adjit
from tests.runtime.test_memory import batches, network, resident

warnings.simplefilter("ignore", adjit.SignaturesWarning)
f = adjit.value_and_grad(network)
for arguments in batches(100, 32):
    f(*arguments)
before = resident()
for arguments in batches(132, 64):
    f(*arguments)
print((resident() - before) // 64)
"""


def resident() -> int:
    """Bytes of this process in memory, without what only waits to be given back, and without pages of files, which the
    system takes away and brings back as it likes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        _, whole, of_files, *_ = map(int, file.read().split())
    return (whole - of_files) * mmap.PAGESIZE


def output(program: str, *args: str) -> list[str]:
    """The lines that a process of its own prints."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "compiler"), str(ROOT / "runtime")])
    settings: dict[str, Any] = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", program, *args], env=settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="reads /proc, and calls malloc_trim")


@glibc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="LLVM links, and keeps some 50 KB")
def test_the_process_grows_little_with_a_signature() -> None:
    (kept,) = output(SIGNATURES)
    # A page or two of code, and some 20 KB of Python's objects.
    assert int(kept) < 48 << 10


@glibc
@pytest.mark.parametrize("linker", ["ours", "llvm"])
def test_nothing_is_kept_of_programs_that_are_gone(linker: str) -> None:
    left, results = output(PROGRAM, linker)
    # One JIT of LLVM's for all keeps 10 KB of each. Here the ten that live keep up to 31 others of theirs.
    assert int(left) < 5000
    assert results == "{2.0}"
