"""What stays of a program that is dropped: no Python object, no layout, nothing of LLVM's."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit_runtime import state as states
from tests.test_layers import ROOT


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


def test_a_signature_keeps_little() -> None:
    """The LLVM text of one, which is written anew for who asks, has several times these bytes."""
    f = adjit.jit(lambda x: np.tanh(x) * 2.0 + x)
    f(np.ones(100))
    tracemalloc.start()
    try:
        for n in range(101, 105):
            f(np.ones(n))
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] / 4
    finally:
        tracemalloc.stop()
    assert kept < 64 << 10
    assert len(f.ir("llvm")) > 64 << 10
    assert f.ir("llvm") == f.ir("llvm")


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
import numpy as np
import adjit
from adjit_runtime.load import Loaded
from adjit_runtime.tuned import LINKS_PER_JIT

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

f = adjit.jit(lambda x: x * 2.0)
f(np.ones(3))
(record,) = f.records.values()
kept = []

def link(count):
    for number in range(count):
        loaded = Loaded(record.program)
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_llvm_keeps_nothing_of_programs_that_are_gone() -> None:
    paths = os.pathsep.join([str(ROOT / "compiler"), str(ROOT / "runtime")])
    settings: dict[str, Any] = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    left, results = done.stdout.splitlines()
    # One JIT for all keeps 9 KB of each. Here the ten that live keep up to 31 others of theirs.
    assert int(left) < 5000
    assert results == "{2.0}"
