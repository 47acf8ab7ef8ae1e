"""One compilation: passes, plan, machine code and linking of a graph, what an earlier process left in the cache, and
the libraries that programs share.

`Record` keeps what each stage made, for whoever looks.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adjit.codegen.gemm import GEMM_DTYPES
from adjit.codegen.interpreter import undisturbed
from adjit.codegen.program import Lowered, build, library
from adjit.codegen.races import verify_jobs
from adjit.ir.graph import Graph
from adjit.ir.node import Data
from adjit.ir.text import print_graph
from adjit.ir.types import Array, dtype_name
from adjit.ir.verify import verify
from adjit.passes.pipeline import optimize
from adjit.schedule.normalize import product_sizes
from adjit.schedule.plan import may_be_direct
from adjit.schedule.text import print_plan
from adjit.schedule.verify import verify_plan
from adjit.tuned import THREADED_ELEMENTS
from adjit_runtime import cache, checks, environment, fork, log
from adjit_runtime.errors import AdjitError, ArgumentError, InternalError
from adjit_runtime.load import Loaded, provide_libraries
from adjit_runtime.program import Library, Program, dump_program, load_program
from adjit_runtime.target import Target, host_target

_LOG = logging.getLogger("adjit.threads")

STAGES = ("trace", "adjoint", "step", "optimized", "plan", "llvm", "asm")
"""The stages of a dump. A function that is not differentiated has no adjoint, and only a training step has a step."""


class Text(str):
    """Text that shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(eq=False, slots=True)
class Record:
    """One compilation: the graph of each stage, the program, and the milliseconds of each part.

    A program that comes from the cache was found by its `source`, the graph that the passes take; `optimized` and
    `lowered` make what it skipped when someone looks."""

    name: str
    flushes: bool = False
    tiles: bool = True
    source: Graph | None = None
    graphs: dict[str, Graph] = field(default_factory=dict)
    program: Program | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    cached: bool = False
    _lowered: Lowered | None = None

    @property
    def optimized(self) -> Graph:
        """The graph after the passes."""
        if "optimized" not in self.graphs:
            assert self.source is not None
            with self.timed("passes"):
                self.keep("optimized", undisturbed(self._optimize, self.source))
        return self.graphs["optimized"]

    def _optimize(self, source: Graph) -> Graph:
        return optimize(source, tiles=self.tiles, registers=host_target().registers)

    @property
    def lowered(self) -> Lowered:
        """Plan and LLVM text."""
        if self._lowered is None:
            graph = self.optimized
            with self.timed("code"):
                self._lowered = self._built(graph)
        return self._lowered

    def _built(self, graph: Graph) -> Lowered:
        try:
            return build(graph, host_target(), self.name, flushes=self.flushes, begin=begin_library)
        except InternalError as error:
            raise InternalError(f"{self.name}: {error}\n\nThe graph:\n{print_graph(graph)}") from error

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - begun) * 1e3
            self.milliseconds[part] = self.milliseconds.get(part, 0.0) + spent

    def keep(self, stage: str, graph: Graph) -> Graph:
        """Note a stage's graph; it is verified where ADJIT_VERIFY is 1."""
        if environment.flag("ADJIT_VERIFY", False):
            try:
                verify(graph)
            except AdjitError as error:
                raise InternalError(
                    f"{stage} made a graph that does not hold: {error}\n\n{print_graph(graph)}"
                ) from error
        self.graphs[stage] = graph
        return graph

    def stage(self, stage: str) -> Any:
        """What a stage made: a Graph, or text."""
        checks.choice("stage", stage, STAGES)
        if stage in self.graphs:
            return self.graphs[stage]
        if self.source is None or stage not in ("optimized", "plan", "llvm", "asm"):
            raise ArgumentError(f"{self.name} has no stage {stage!r}; it has {', '.join([*self.graphs, *STAGES[-3:]])}")
        if stage == "optimized":
            return self.optimized
        if stage == "plan":
            return Text(print_plan(self.lowered.plan))
        return Text(self.lowered.llvm if stage == "llvm" else self.lowered.asm)


class _LibraryJob:
    """The object code of one library: made once, by the first who asks; the others wait.

    Nobody waits for what is made already: the interrupt of a `with` may leave its lock taken, re-entrant so that the
    thread that was interrupted can go on. (`guard.Lock` is itself made of a library.)"""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.library: Library | None = None

    def get(self, name: str, target: Target) -> Library:
        if self.library is None:
            with self.lock:
                if self.library is None:
                    self.library = _made(name, target)
        return self.library

    def begin(self, name: str, target: Target) -> None:
        """`get`, on a thread of its own."""
        try:
            self.get(name, target)
        except AdjitError as error:
            # Who needs the library meets the same error, where it can be caught.
            _LOG.debug("%s was not made beside: %s", name, error)


def _made(name: str, target: Target) -> Library:
    """A library from the cache, or a new one."""
    key = cache.key_of(("library", name, target.key))
    found = cache.load(key)
    if found is not None:
        return Library(name, *pickle.loads(found))
    made = library(name, target)
    cache.store(key, pickle.dumps((made.code, made.symbols, made.needs)))
    return made


_JOBS: dict[tuple[str, Target], _LibraryJob] = {}
# A child process has none of the threads that may hold a lock.
fork.in_child(_JOBS.clear)


def shared_library(name: str) -> Library:
    """The object code of a library that programs share, for this machine; from the cache if it is there."""
    target = host_target()
    return _JOBS.setdefault((name, target), _LibraryJob()).get(name, target)


def begin_library(name: str) -> None:
    """Begin to make a library, beside what the compiler does meanwhile."""
    target = host_target()
    if (name, target) not in _JOBS:
        job = _JOBS.setdefault((name, target), _LibraryJob())
        try:
            threading.Thread(target=job.begin, args=(name, target), name=f"adjit {name}").start()
        except RuntimeError as error:
            _LOG.warning("%s is not made beside, but by who needs it: %s", name, error)


def begin_libraries(graph: Graph) -> None:
    """Begin to make the libraries that the graph will need: of its products, and of threads where it has large arrays.

    A guess: what it misses is begun when the plan is made."""
    for node in graph.nodes:
        sizes = product_sizes(node) if node.op.name == "contract" and node.dtype in GEMM_DTYPES else None
        if sizes is not None and not may_be_direct(*sizes):
            begin_library(f"gemm_{dtype_name(node.dtype)}")
    if any(isinstance(node.type, Array) and node.type.size >= THREADED_ELEMENTS for node in graph.nodes):
        begin_library("pool")


def compile_graph(graph: Graph, record: Record, tiles: bool = True) -> Loaded:
    """Passes, plan, machine code and linking of a graph; what an earlier process left in the cache skips all but the
    last."""
    log.check()
    target = host_target()
    record.source, record.tiles = graph, tiles
    with record.timed("cache"):
        key = _program_key(graph, record, target)
        found = cache.load(key)
        if found is not None:
            record.program = load_program(found, lambda digest: _constant(digest, record))
            record.cached = True
    if record.program is None:
        record.program = record.lowered.program
        with record.timed("cache"):
            cache.store(key, dump_program(record.program, _digests(record.program, record.optimized)))
    if environment.flag("ADJIT_VERIFY", False):
        verify_plan(record.lowered.plan)
        verify_jobs(record.lowered.plan, target)
    with record.timed("libraries"):
        for name in record.program.libraries:
            shared_library(name)
    with record.timed("link"):
        return Loaded(record.program)


def _constants(graph: Graph) -> list[Data]:
    return [node.attrs["data"] for node in graph.nodes if "data" in node.attrs]


def _constant(digest: str, record: Record) -> np.ndarray:
    """A constant of a program: the user's, or one that the passes make of them."""
    for stage in ("source", "optimized"):
        for data in _constants(getattr(record, stage)):
            if data.digest == digest and data.array is not None:
                return data.array
    raise InternalError(f"{record.name}: the cache has a program with a constant that its graph does not have")


def _digests(program: Program, graph: Graph) -> dict[int, str]:
    """The digest of each constant of a program."""
    by_array = {id(data.array): data.digest for data in _constants(graph)}
    return {number: by_array[id(array)] for number, array in program.constants.items()}


def _program_key(graph: Graph, record: Record, target: Target) -> str:
    """What decides the code of a graph. Lines of source are no part of it but where a check names one in its error."""
    checks = [str(node.loc) for node in graph.nodes if node.op.kind == "check"]
    mode = f"flushes={record.flushes} tiles={record.tiles}"
    return cache.key_of(("program", record.name, mode, target.key, print_graph(graph, locs=False), *checks))


def log_compilation(record: Record, signature: str, reason: str) -> None:
    """One line for ADJIT_LOG=compile."""
    if not log.COMPILE.isEnabledFor(10):
        return
    assert record.program is not None
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in record.milliseconds.items())
    total = sum(record.milliseconds.values())
    program = record.program
    log.COMPILE.debug(
        "%s(%s) because: %s; %.1f ms (%s)%s; %d bytes of code, %d bytes of arena",
        record.name, signature, reason, total, parts, ", from the cache" if record.cached else "", len(program.code),
        program.arena_bytes,
    )  # fmt: skip


provide_libraries(shared_library)
