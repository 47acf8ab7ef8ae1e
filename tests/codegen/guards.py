"""Runs programs with each of their buffers beside memory that faults: at the end of a page before it, then at the
beginning of one after it. What is read only is mapped so. A fault ends the process, so this is a program of its own,
which says what it runs before it does: `python -m tests.codegen.guards <way> <first seed> <last seed>`."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim
from adjit.compilation import compile_graph
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.stages import Options, Record
from adjit_runtime.load import Loaded
from tests.codegen.mixtures import Mixture
from tests.thresholds import CUT, FINE, LIBRARY, LIGHT, LOOPS, NARROW, SHARED, STRAIGHT, TILED, Table, force

PAGE = mmap.PAGESIZE
ALIGN = 64
NONE, READ, WRITE = 0, 1, 2
_C = ctypes.CDLL(None, use_errno=True)
_C.mmap.restype = ctypes.c_void_p
_C.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_C.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_C.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

THREADS = (CUT, SHARED, NARROW)
WAYS: dict[str, tuple[Table, ...]] = {
    "plain": (LOOPS,),
    "light": (LOOPS, LIGHT),
    "straight": (STRAIGHT,),
    "threads": (LOOPS, *THREADS),
    "threads of the library": (LOOPS, *THREADS, LIBRARY, LIGHT),
    "tiles": (LOOPS, TILED, FINE, *THREADS),
}


class Guarded:
    """Memory of `nbytes` that begins after a page that faults, or ends before one, as far as `align` lets it."""

    def __init__(self, nbytes: int, align: int, at_end: bool) -> None:
        self.nbytes = nbytes
        inside = -(-nbytes // PAGE) * PAGE
        self._size = inside + 2 * PAGE
        self._base = _C.mmap(None, self._size, NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self._first, self._inside = self._base + PAGE, inside
        self.address = self._first + ((inside - nbytes) // align * align if at_end else 0)
        self._protect(READ | WRITE)

    def _protect(self, mode: int) -> None:
        if self._inside and _C.mprotect(self._first, self._inside, mode):
            raise OSError(ctypes.get_errno(), "mprotect")

    def fill(self, array: np.ndarray) -> None:
        """Copy an array in."""
        ctypes.memmove(self.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)

    def read_only(self) -> None:
        """Make a write fault."""
        self._protect(READ)

    def copy(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """What it holds."""
        return np.frombuffer(ctypes.string_at(self.address, self.nbytes), dtype).reshape(shape)

    def free(self) -> None:
        """Give the pages back."""
        _C.munmap(self._base, self._size)


def call(loaded: Loaded, inputs: list[np.ndarray], at_end: bool) -> tuple[int, dict[int, np.ndarray]]:
    """One call in guarded memory: its status, and what the slots hold after it."""
    program = loaded.program
    given = dict(zip(program.inputs, inputs, strict=True))
    memories = []
    for number, slot in enumerate(program.slots):
        memory = Guarded(slot.nbytes, np.dtype(slot.dtype).itemsize, at_end)
        if slot.role != "output":
            memory.fill(np.asarray(given[number] if number in given else loaded.constants[number], slot.dtype))
        if slot.role in ("input", "constant"):
            memory.read_only()
        memories.append(memory)
    arena, report = Guarded(program.arena_bytes, ALIGN, at_end), Guarded(16, 8, at_end)
    arena.fill(np.full(program.arena_bytes, 0xFF, np.uint8))
    table = Guarded(8 * len(memories), 8, at_end)
    table.fill(np.array([memory.address for memory in memories], np.uint64))
    table.read_only()
    status = loaded.entry(table.address, arena.address, report.address)
    after = {
        number: memories[number].copy(np.dtype(slot.dtype), slot.shape) for number, slot in enumerate(program.slots)
    }
    for memory in (*memories, arena, report, table):
        memory.free()
    return status, after


def run(graph: Graph, inputs: list[np.ndarray], name: str, tiles: bool) -> int:
    """Run a graph at both ends of pages; returns how many loops over tiles it has. Raises AssertionError."""
    record = Record(name, Options(tile=tiles))
    loaded = compile_graph(graph, record)
    results = (*graph.outputs, *(value for _, value in graph.updates))
    with np.errstate(all="ignore"):
        wanted = evaluate(Graph(graph.name, graph.inputs, graph.nodes, results), *inputs)
    for at_end in (True, False):
        status, found = call(loaded, inputs, at_end)
        assert status == 0, (name, status)
        updated = [graph.inputs.index(target) for target, _ in graph.updates]
        places = [*loaded.program.outputs, *(loaded.program.inputs[i] for i in updated)]
        for want, place in zip(wanted, places, strict=True):
            compare(found[place], want, f"{name}, at the {'end' if at_end else 'beginning'} of its pages")
    return str(record.show("plan")).count(" turns ")


def compare(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Equal, or near where a float was rounded: sums have another order than NumPy's, functions 2 ULP each."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, name)
        return
    near = 1e-3 if wanted.dtype == np.float32 else 1e-9
    scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
    np.testing.assert_allclose(found, wanted, rtol=near, atol=near * scale, err_msg=name)


def mixtures(first: int, last: int) -> Iterator[tuple[str, Graph, list[np.ndarray]]]:
    """Random graphs of all ops."""
    for seed in range(first, last + 1):
        graph = Mixture(seed).graph(14)
        yield f"mixture {seed}", graph, operands(graph, seed)


def operands(graph: Graph, seed: int) -> list[np.ndarray]:
    """Inputs for a graph: small numbers."""
    rng = np.random.default_rng(seed)
    made = []
    for node in graph.inputs:
        if node.dtype.kind == "f":
            made.append(np.asarray(rng.normal(size=node.shape), node.dtype))
        else:
            low, high = {"b": (0, 2), "u": (0, 200), "i": (-9, 10)}[node.dtype.kind]
            made.append(np.asarray(rng.integers(low, high, node.shape), node.dtype))
    return made


def steps() -> Iterator[tuple[str, Graph, list[np.ndarray]]]:
    """Training steps, with state."""
    rng = np.random.default_rng(0)
    for rows, sizes, dtype in ((37, (5, 33, 3), "f4"), (24, (12, 70, 9, 1), "f8"), (65, (40, 16, 2), "f4")):
        shapes = list(itertools.pairwise(sizes))
        params = [(rng.normal(size=shape).astype(dtype) / 4, np.zeros(shape[1], dtype)) for shape in shapes]

        def loss(p: Any, x: Any, y: Any) -> Any:
            for w, b in p[:-1]:
                x = nn.relu(x @ w + b)
            return np.mean((np.tanh(x @ p[-1][0] + p[-1][1]) - y) ** 2)

        step = adjit.training_step(loss, optim.adam(1e-2))
        x, y = rng.normal(size=(rows, sizes[0])).astype(dtype), rng.normal(size=(rows, sizes[-1])).astype(dtype)
        graph = step.ir("step", step.init(params), x, y)
        inputs = operands(graph, 1)
        # Second moments and counts are not negative.
        inputs = [np.abs(a) + (a.dtype.kind == "i") if a.dtype.kind in "fi" else a for a in inputs]
        yield f"step of {rows} rows, {sizes}", graph, inputs


def main(way: str, first: int, last: int) -> None:
    """Run training steps, and the random graphs of some seeds, in one way."""
    adjit.set_threads(3 if CUT in WAYS[way] else 1)
    tiled = 0
    for name, graph, inputs in (*steps(), *mixtures(first, last)):
        print(f"{way}: {name}", flush=True)
        with pytest.MonkeyPatch.context() as patch:
            force(patch, *WAYS[way])
            tiled += run(graph, inputs, name, way == "tiles")
    assert way != "tiles" or tiled, "no graph ran in tiles"
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
