"""One compilation: passes, plan, machine code and linking of a graph, what an earlier process left in the cache, and
the libraries that programs share.

`Record` keeps what each stage made, for whoever looks.
"""

from __future__ import annotations

import functools
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adjit.codegen.gemm import GEMM_DTYPES
from adjit.codegen.interpreter import undisturbed
from adjit.codegen.program import Lowered, build, library, lower
from adjit.codegen.races import verify_jobs
from adjit.ir.graph import Graph
from adjit.ir.node import Data
from adjit.ir.text import print_graph
from adjit.ir.types import Array, dtype_name
from adjit.ir.verify import verify
from adjit.passes.pipeline import optimize
from adjit.passes.widen import widen
from adjit.schedule.normalize import product_sizes
from adjit.schedule.products import may_be_direct
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
_TEXTS = STAGES[-3:]


class Text(str):
    """Text that shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


Make = Callable[[Graph], Graph]


@dataclass(eq=False, slots=True)
class Record:
    """One compilation: what its stages made, its program without the code, and the milliseconds of each part.

    A graph that a trace made is kept, as the function may do something else by now. What follows from it (the adjoint,
    what the passes make, plan, code) is made again for whoever looks, by the functions that made it the first time:
    all of it takes several times the memory of all that a program needs to run."""

    name: str
    flushes: bool = False
    tiles: bool = True
    stages: dict[str, Graph | Make] = field(default_factory=dict)
    target: Target = field(default_factory=host_target)
    program: Program | None = None
    code_bytes: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    cached: bool = False

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
        self.stages[stage] = graph
        return _verified(stage, graph)

    def derive(self, stage: str, make: Make, graph: Graph) -> Graph:
        """Make a stage's graph of the one before it, and note how."""
        self.stages[stage] = make
        return _verified(stage, make(graph))

    def graph(self, stage: str) -> Graph:
        """The graph of a stage that there is."""
        names = list(self.stages)
        missing: list[tuple[str, Make]] = []
        for name in reversed(names[: names.index(stage) + 1]):
            kept = self.stages[name]
            if isinstance(kept, Graph):
                return undisturbed(_remade, kept, missing[::-1])
            missing.append((name, kept))
        raise InternalError(f"{self.name}: {stage} is made of no graph")

    @property
    def source(self) -> Graph:
        """The graph that the passes take, and by which the cache knows a program."""
        return self.graph("source")

    @property
    def optimized(self) -> Graph:
        """The graph after the passes."""
        return self.graph("optimized")

    @property
    def lowered(self) -> Lowered:
        """Plan, LLVM text and program."""
        return undisturbed(lower, self.optimized, self.target, self.name, False, True, self.flushes)

    def stage(self, stage: str) -> Any:
        """What a stage made: a Graph, or text."""
        checks.choice("stage", stage, STAGES)
        if stage in self.stages:
            return self.graph(stage)
        if stage not in _TEXTS:
            known = [stage for stage in STAGES if stage in self.stages or stage in _TEXTS]
            raise ArgumentError(f"{self.name} has no stage {stage!r}; it has {', '.join(known)}")
        lowered = self.lowered
        return Text(print_plan(lowered.plan) if stage == "plan" else getattr(lowered, stage))


def _remade(graph: Graph, makers: Sequence[tuple[str, Make]]) -> Graph:
    for stage, make in makers:
        graph = _verified(stage, make(graph))
    return graph


def _verified(stage: str, graph: Graph) -> Graph:
    if environment.flag("ADJIT_VERIFY", False):
        try:
            verify(graph)
        except AdjitError as error:
            raise InternalError(f"{stage} made a graph that does not hold: {error}\n\n{print_graph(graph)}") from error
    return graph


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


def compile_graph(graph: Graph, record: Record) -> Loaded:
    """Passes, plan, machine code and linking of a graph; what an earlier process left in the cache skips all but the
    last."""
    log.check()
    if not record.stages:
        record.keep("trace", graph)
    source = record.derive("source", widen, graph)
    passes = functools.partial(optimize, tiles=record.tiles, registers=record.target.registers)
    with record.timed("cache"):
        key = _program_key(source, record)
        found = cache.load(key)
        if found is not None:
            program = load_program(found, _Constants(record.name, source, passes).array)
            record.stages["optimized"] = passes
            record.cached = True
    if found is None:
        program = _compiled(source, passes, record, key)
    elif environment.flag("ADJIT_VERIFY", False):
        _verify_lowered(record.lowered)
    with record.timed("libraries"):
        for name in program.libraries:
            shared_library(name)
    with record.timed("link"):
        loaded = Loaded(program)
    record.program, record.code_bytes = loaded.program, len(program.code)
    return loaded


def _compiled(source: Graph, passes: Make, record: Record, key: str) -> Program:
    """The program of a graph that the cache does not have; now it has."""
    # The second call would wait for it.
    begin_library("call")
    with record.timed("passes"):
        graph = record.derive("optimized", passes, source)
    with record.timed("code"):
        try:
            lowered = build(graph, record.target, record.name, flushes=record.flushes, begin=begin_library)
        except InternalError as error:
            raise InternalError(f"{record.name}: {error}\n\nThe graph:\n{print_graph(graph)}") from error
    with record.timed("cache"):
        cache.store(key, dump_program(lowered.program, _digests(lowered.program, graph)))
    if environment.flag("ADJIT_VERIFY", False):
        _verify_lowered(lowered)
    return lowered.program


def _verify_lowered(lowered: Lowered) -> None:
    verify_plan(lowered.plan)
    verify_jobs(lowered.plan, lowered.target)


def _constants(graph: Graph) -> list[Data]:
    return [node.attrs["data"] for node in graph.nodes if "data" in node.attrs]


class _Constants:
    """The constants of a program by digest: the user's, and those that the passes make of them."""

    def __init__(self, name: str, source: Graph, passes: Make) -> None:
        self._name, self._source = name, source
        self._passes: list[Make] = [passes]
        self._known = self._found(source)

    def _found(self, graph: Graph) -> dict[str, np.ndarray]:
        return {data.digest: data.array for data in _constants(graph) if data.array is not None}

    def array(self, digest: str) -> np.ndarray:
        """The constant with a digest."""
        if digest not in self._known and self._passes:
            self._known |= self._found(self._passes.pop()(self._source))
        if digest not in self._known:
            raise InternalError(f"{self._name}: the cache has a program with a constant that its graph does not have")
        return self._known[digest]


def _digests(program: Program, graph: Graph) -> dict[int, str]:
    """The digest of each constant of a program."""
    by_array = {id(data.array): data.digest for data in _constants(graph)}
    return {number: by_array[id(array)] for number, array in program.constants.items()}


def _program_key(graph: Graph, record: Record) -> str:
    """What decides the code of a graph. Lines of source are no part of it but where a check names one in its error."""
    checks = [str(node.loc) for node in graph.nodes if node.op.kind == "check"]
    mode = f"flushes={record.flushes} tiles={record.tiles}"
    return cache.key_of(("program", record.name, mode, record.target.key, print_graph(graph, locs=False), *checks))


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
        record.name, signature, reason, total, parts, ", from the cache" if record.cached else "", record.code_bytes,
        program.arena_bytes,
    )  # fmt: skip


provide_libraries(shared_library)
