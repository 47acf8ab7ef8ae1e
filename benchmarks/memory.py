"""Limits of memory: what a training step needs, what is computed again for that, and its time, predicted and measured.

    python -m benchmarks.memory [--quick]

Three models, each without a limit and with ever smaller ones, down to the smallest that is within reach. What a step
takes is what NumPy allocates for its first calls. All of a model run in turn, block by block, so that the ratios are
those of the same minutes; times are those of the processor, which a machine that does something else disturbs less: run
it on one thread (taskset -c 1). Prints the table of docs/performance.md. The exit code is 1 where a limit is exceeded,
a smaller one takes more, or more is taken than the program says."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import adjit
from adjit import nn, optim
from adjit_runtime import load
from adjit_runtime.errors import OutOfMemory
from benchmarks.report import table

SHARES = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
"""Limits, as shares of what the step needs without one."""
BESIDE = 1 << 16
"""Bytes of the tables of addresses that a call reads, of its results, and of the places between."""
WARM = 3
"""Calls after which all memory is there, and the step has its native entry."""
F32 = np.float32


@dataclass(frozen=True)
class Model:
    """A loss of (params, batch)."""

    loss: Callable[..., Any]
    params: Any
    batch: Any


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(F32)


def deep() -> Model:
    """64 layers of 128 with tanh, batch 512."""
    rng = np.random.default_rng(0)

    def loss(params: Any, x: Any) -> Any:
        h = x
        for w in params:
            h = np.tanh(h @ w)
        return np.mean(h * h)

    return Model(loss, [_normal(rng, 128, 128) for _ in range(64)], rng.normal(size=(512, 128)).astype(F32))


def residual() -> Model:
    """12 residual blocks 128-512-128 with gelu and normalised rows, batch 1,024."""
    rng = np.random.default_rng(1)

    def loss(params: Any, x: Any) -> Any:
        h = x
        for up, down in params:
            rows = h - np.mean(h, axis=1, keepdims=True)
            rows = rows / np.sqrt(np.mean(rows * rows, axis=1, keepdims=True) + 1e-5)
            h = h + nn.gelu(rows @ up) @ down
        return np.mean(h * h)

    params = [(_normal(rng, 128, 512), _normal(rng, 512, 128)) for _ in range(12)]
    return Model(loss, params, rng.normal(size=(1024, 128)).astype(F32))


def ode() -> Model:
    """A neural ODE, 64-128-64, 400 steps of Runge and Kutta in a scan, batch 64."""
    rng = np.random.default_rng(2)

    def loss(params: Any, x: Any) -> Any:
        def slope(h: Any) -> Any:
            return np.tanh(h @ params[0]) @ params[1]

        def step(h: Any, _: Any) -> Any:
            k1 = slope(h)
            k2 = slope(h + 0.005 * k1)
            k3 = slope(h + 0.005 * k2)
            k4 = slope(h + 0.01 * k3)
            return h + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        h, _ = adjit.scan(step, x, length=400)
        return np.mean(h * h)

    return Model(loss, [_normal(rng, 64, 128), _normal(rng, 128, 64)], rng.normal(size=(64, 64)).astype(F32))


MODELS = {"deep": deep, "residual": residual, "ode": ode}


@dataclass(eq=False)
class Limited:
    """A step within a limit: the bytes that it says it needs, those that it took, and the seconds of a call in each
    block."""

    limit: int | None
    run: Callable[[], object]
    needs: int
    took: int
    note: str
    seconds: list[float]

    @property
    def again(self) -> str:
        """What is computed again."""
        turns = re.search(r"(\d+) turns", self.note)
        values = re.search(r"(\d+) values", self.note)
        found = [f"{m[1]} {what}" for m, what in ((turns, "turns"), (values, "values")) if m]
        return ", ".join(found) or "–"

    @property
    def predicted(self) -> float:
        """The time over that without a limit."""
        found = re.search(r"([0-9.]+) times the time", self.note)
        return float(found[1]) if found else 1.0


def limited(model: Model, limit: int | None) -> Limited:
    """The step, after its first calls."""
    step = adjit.training_step(model.loss, optim.sgd(1e-4), memory_limit=limit)
    state = step.init(model.params)
    took = allocated(lambda: [step(state, model.batch) for _ in range(WARM)])
    record = next(iter(step.records.values()))
    assert record.program is not None
    note = record.made("plan").note
    return Limited(limit, lambda: step(state, model.batch), record.program.arena_bytes, took, note, [])


def allocated(call: Callable[[], object]) -> int:
    """Bytes of the arrays that a call leaves behind, to whomever they belong, its scratch memory among them."""
    for arenas in load._ARENAS.values():
        # It would take the memory of steps before, which nobody allocates.
        while len(arenas):
            arenas.borrow(0)
    tracemalloc.start()
    try:
        call()
        of_numpy = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        traces = tracemalloc.take_snapshot().filter_traces([of_numpy]).traces
        return sum(trace.size for trace in traces)
    finally:
        tracemalloc.stop()


def within(model: Model) -> list[Limited]:
    """Without a limit, then with each that is within reach; last the smallest."""
    found = [limited(model, None)]
    for share in SHARES:
        try:
            found.append(limited(model, int(share * found[0].needs)))
        except OutOfMemory as error:
            least = re.search(r"memory_limit=(\d+)", str(error))
            assert least is not None
            found.append(limited(model, int(least[1])))
            break
    return found


def measure(steps: list[Limited], blocks: int, seconds: float) -> None:
    """Seconds of a step, of all in turn."""
    for _ in range(blocks):
        for one in steps:
            begun, count = time.process_time(), 0
            while time.process_time() - begun < seconds or not count:
                one.run()
                count += 1
            one.seconds.append((time.process_time() - begun) / count)


def _mb(nbytes: int | None) -> str:
    return "none" if nbytes is None else f"{nbytes / 1e6:,.2f}"


def lines(name: str, steps: list[Limited]) -> list[list[str]]:
    """The rows of a model."""
    first = steps[0]
    found = []
    for one in steps:
        ratio = float(np.median(np.array(one.seconds) / np.array(first.seconds)))
        off = f"{100 * (one.predicted / ratio - 1):+.0f}%"
        spent = f"{1e3 * float(np.median(one.seconds)):.2f}"
        found.append(
            [name, _mb(one.limit), _mb(one.took), one.again, f"{one.predicted:.2f}", f"{ratio:.2f}", off, spent]
        )
    return found


def faults(name: str, steps: list[Limited]) -> list[str]:
    """What must not be."""
    found = [f"{name}: {one.took} bytes within {one.limit}" for one in steps if one.took > _most(one)]
    pairs = itertools.pairwise(steps)
    return found + [f"{name}: {b.limit} needs more than {a.limit}" for a, b in pairs if b.needs > a.needs]


def _most(one: Limited) -> int:
    """What a step may take at most: its limit, else what its program says; and what no limit counts, the table of
    addresses and the results."""
    return (one.needs if one.limit is None else one.limit) + BESIDE


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 blocks instead of 7")
    options = parser.parse_args()
    rows, wrong = [], []
    for name, make in MODELS.items():
        steps = within(make())
        measure(steps, 2 if options.quick else 7, 0.3)
        rows += lines(name, steps)
        wrong += faults(name, steps)
    head = ["model", "limit, MB", "takes, MB", "computed again", "predicted", "measured", "off", "ms a step"]
    print(table(head, rows))
    for fault in wrong:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
