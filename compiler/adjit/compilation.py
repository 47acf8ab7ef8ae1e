"""One compilation: the stages of a graph, what an earlier process left in the cache, and the libraries that programs
share.

`stages` says what the stages are."""

from __future__ import annotations

import logging
import pickle
import threading

import numpy as np

from adjit.codegen.emit import libraries_of
from adjit.codegen.gemm import GEMM_DTYPES
from adjit.codegen.libraries import library
from adjit.ir.graph import Graph
from adjit.ir.node import Data
from adjit.ir.text import print_graph
from adjit.ir.types import Array, dtype_name
from adjit.schedule.normalize import product_sizes
from adjit.schedule.products import may_be_direct
from adjit.stages import Options, Record
from adjit.tuned import THREADED_ELEMENTS
from adjit_runtime import cache, environment, fork, log
from adjit_runtime.errors import AdjitError, InternalError, OutOfMemory
from adjit_runtime.load import Loaded, provide_libraries
from adjit_runtime.program import Library, Program, dump_program, load_program
from adjit_runtime.target import Target, host_target

_LOG = logging.getLogger("adjit.threads")


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


def shared_library(name: str, target: Target) -> Library:
    """The object code of a library that programs share; from the cache if it is there."""
    return _JOBS.setdefault((name, target), _LibraryJob()).get(name, target)


def begin_library(name: str, target: Target) -> None:
    """Begin to make a library, beside what the compiler does meanwhile."""
    if (name, target) not in _JOBS:
        job = _JOBS.setdefault((name, target), _LibraryJob())
        try:
            threading.Thread(target=job.begin, args=(name, target), name=f"adjit {name}").start()
        except RuntimeError as error:
            _LOG.warning("%s is not made beside, but by who needs it: %s", name, error)


def begin_libraries(graph: Graph) -> None:
    """Begin to make the libraries that the graph will need: of its products, and of threads where it has large arrays.

    A guess: what it misses is begun when the plan is made."""
    target = host_target()
    for node in graph.all_nodes():
        sizes = product_sizes(node) if node.op.name == "contract" and node.dtype in GEMM_DTYPES else None
        if sizes is not None and not may_be_direct(*sizes):
            begin_library(f"gemm_{dtype_name(node.dtype)}", target)
    if any(isinstance(node.type, Array) and node.type.size >= THREADED_ELEMENTS for node in graph.all_nodes()):
        begin_library("pool", target)


def compile_graph(graph: Graph, record: Record) -> Loaded:
    """All stages from the function's own to the last; what an earlier process left in the cache skips all but the
    last."""
    log.check()
    if not record.own:
        record.keep("trace", graph)
    graph = record.run("inline", graph)
    with record.timed("cache"):
        key = _program_key(graph, record.options)
        found = cache.load(key)
        if found is not None:
            program = load_program(found, _Constants(graph, record).array)
            record.cached = True
    if found is None:
        program = _compiled(graph, record, key)
    elif environment.flag("ADJIT_VERIFY", False):
        record.until("plan")
    with record.timed("libraries"):
        for name in program.libraries:
            shared_library(name, record.options.target)
    loaded: Loaded = record.run("link", program)
    record.program, record.code_bytes = loaded.program, len(program.code)
    return loaded


def _compiled(graph: Graph, record: Record, key: str) -> Program:
    """The program of a graph that the cache does not have; now it has."""
    # The second call would wait for it.
    begin_library("call", host_target())
    optimized = graph
    try:
        optimized, planned = record.plan(graph)
        for name in libraries_of(planned.plan, record.options.target):
            begin_library(name, record.options.target)
        program: Program = record.run("object", record.run("code", planned))
    except OutOfMemory as error:
        raise OutOfMemory(f"{record.name}: {error}") from None
    except InternalError as error:
        raise InternalError(f"{record.name}: {error}\n\nThe graph:\n{print_graph(optimized)}") from error
    with record.timed("cache"):
        cache.store(key, dump_program(program, _digests(program, optimized)))
    return program


def _constants(graph: Graph) -> list[Data]:
    return [node.attrs["data"] for node in graph.all_nodes() if "data" in node.attrs]


class _Constants:
    """The constants of a program by digest: the user's, and those that the passes make of them."""

    def __init__(self, graph: Graph, record: Record) -> None:
        self._record = record
        self._known = _arrays(graph)
        self._all = False

    def array(self, digest: str) -> np.ndarray:
        """The constant with a digest."""
        if digest not in self._known and not self._all:
            self._known |= _arrays(self._record.made("passes"))
            self._all = True
        if digest not in self._known:
            raise InternalError(
                f"{self._record.name}: the cache has a program with a constant that its graph does not have"
            )
        return self._known[digest]


def _arrays(graph: Graph) -> dict[str, np.ndarray]:
    return {data.digest: data.array for data in _constants(graph) if data.array is not None}


def _digests(program: Program, graph: Graph) -> dict[int, str]:
    """The digest of each constant of a program."""
    by_array = {id(data.array): data.digest for data in _constants(graph)}
    return {number: by_array[id(array)] for number, array in program.constants.items()}


def _program_key(graph: Graph, options: Options) -> str:
    """What decides the code of a graph: its text, and the options. Lines of source are no part of it but where a check
    names one in its error."""
    checks = [str(node.loc) for node in graph.all_nodes() if node.op.kind == "check"]
    return cache.key_of(("program", options.key, print_graph(graph, locs=False), *checks))


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
