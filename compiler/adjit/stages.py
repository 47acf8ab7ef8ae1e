"""The pipeline in one place: what becomes of a function, stage by stage.

    trace -> roll -> adjoint -> step -> batch -> inline -> widen -> passes -> plan -> code -> object -> link

`STAGES` is the whole of it: each stage with what makes it, how it is shown and how it is verified. A stage reads what
the one before it made and the program's `Options`, nothing else: no setting and no variable of the environment. So a
stage that is made again for whoever looks is the one that ran, and graph and options are all that the cache knows a
program by.

trace, roll, adjoint, step and batch are a function's own (`JitFunction.build` hands them to the record); the others are
the same for all. `Record` keeps what is needed to make each again; `compilation` runs the stages. With a limit of
memory what loops keep for their gradients is chosen by what plans come to (`Record.plan`), and noted in the options, so
that it is what it was whenever a stage is made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from adjit.autodiff.fewer import Fewer, keep_fewer, levels_of, loops_of
from adjit.codegen.emit import Code, assemble, code_rules, memory_of, straight_code, write
from adjit.codegen.interpreter import undisturbed
from adjit.codegen.races import verify_jobs
from adjit.ir.graph import Graph
from adjit.ir.text import print_graph
from adjit.ir.types import MOST_BYTES
from adjit.ir.verify import verify
from adjit.passes.inline_calls import inline_calls
from adjit.passes.pipeline import optimize
from adjit.passes.widen import widen
from adjit.schedule.cost import time_of_graph
from adjit.schedule.limit import Recomputed, Unreached, plan_within
from adjit.schedule.overlaps import without_overlaps
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.straight import fits, straight_plan
from adjit.schedule.text import print_plan
from adjit.schedule.verify import verify_plan
from adjit_runtime import checks, environment
from adjit_runtime.errors import AdjitError, ArgumentError, InternalError, OutOfMemory
from adjit_runtime.load import Loaded
from adjit_runtime.program import Program
from adjit_runtime.target import Target, host_target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loops:
    """What loops keep for their gradients, those that are taken within the trace too where it says `within`; `again`
    turns run once more, which takes so much `more` time than `before`, that of the plan where they keep what they like,
    as `schedule.cost` has it."""

    fewer: Fewer = field(default_factory=Fewer)
    within: bool = False
    again: int = 0
    more: float = 0.0
    before: float = 0.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the stages may read beside the graph.

    tile     whether work may run tile by tile over rows, where it pays
    flush    whether subnormal numbers count as zero
    inexact  whether the rewrite rules that hold on the reals alone run
    target   the machine that code is made for; the one of this moment, if none is given
    memory_limit  the most bytes that a call may need, arena and all; None: as many as are best
    loops    what loops keep so that this holds, which the compiler chooses (`Record.plan`)"""

    tile: bool = True
    flush: bool = False
    inexact: bool = False
    target: Target = field(default_factory=host_target)
    memory_limit: int | None = None
    loops: Loops = field(default_factory=Loops)

    @property
    def key(self) -> str:
        """Their part of the cache's key: all of them, a new one too."""
        return repr(self)


@dataclass(frozen=True, eq=False, slots=True)
class Planned:
    """What the stage `plan` makes. A straight line is measured by its code, which then goes along. `note` says what is
    computed again for a limit of memory."""

    plan: Plan
    code: Code | None = None
    note: str = ""


Made = Any
"""What a stage makes, of the type that it says."""


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One stage of the pipeline.

    name    what the record calls it
    makes   the type of what it makes
    make    (what the stage before it made, options) -> what it makes; None where that is the function's own
    shown   what `ir` calls what it made, and what it shows of it: a Graph, or text
    verify  (what it made, options): raises where that is invalid; where ADJIT_VERIFY is 1
    part    what ADJIT_LOG=compile calls its time, where that is not its name
    ahead   of one that is the function's own: what options make of what the stage before it made"""

    name: str
    makes: type
    make: Callable[[Made, Options], Made] | None
    shown: dict[str, Callable[[Made], Graph | str]]
    verify: Callable[[Made, Options], None] | None
    part: str = ""
    ahead: Callable[[Made, Options], Made] | None = None


def _itself(graph: Graph) -> Graph:
    return graph


def _verify_graph(graph: Graph, options: Options) -> None:
    verify(graph)


def _inlined(graph: Graph, options: Options) -> Graph:
    return inline_calls(graph)


def _widened(graph: Graph, options: Options) -> Graph:
    return widen(graph)


def _with_fewer_states(graph: Graph, options: Options) -> Graph:
    return keep_fewer(graph, options.loops.fewer)


def _optimized(graph: Graph, options: Options) -> Graph:
    return optimize(graph, options.inexact, options.tile, options.target.registers)


def plan_line(graph: Graph, options: Options) -> Planned | None:
    """The plan of an optimised graph as a straight line: None where it is too large for one, or LLVM would take long
    for it, which codegen says of the code."""
    graph = without_overlaps(graph)
    if not fits(graph):
        return None
    plan = straight_plan(graph, slots_of(graph))
    code = straight_code(plan, options.target, options.flush)
    return Planned(plan, code) if code is not None else None


def plan_kernels(graph: Graph, options: Options) -> Planned:
    """The plan of an optimised graph as kernels in an arena. Raises OutOfMemory for more than can be addressed,
    Unreached for more than the limit."""
    given = (graph, options.target, slots_of(graph), code_rules(options.target))
    limit = options.memory_limit
    plan, again = (make_plan(*given), None) if limit is None else plan_within(limit, *given)
    if plan.arena_bytes > MOST_BYTES:
        raise OutOfMemory(f"{plan.arena_bytes} bytes of memory are needed, more than int64 counts")
    return Planned(plan, note="" if limit is None else _note(limit, plan, again, options.loops))


def _note(limit: int, plan: Plan, again: Recomputed | None, loops: Loops) -> str:
    """What a limit of memory did, in one line."""
    done = []
    if loops.again:
        done.append(f"{loops.again} turns of loops run once more, as fewer states are kept")
    if again is not None:
        lines = ", ".join(map(str, again.locs))
        done.append(f"{again.values} values of {again.nbytes} bytes are computed again{f' ({lines})' if lines else ''}")
    if not done:
        return f"memory limit of {limit} bytes: nothing is computed again"
    before = loops.before or (again.before if again is not None else 0.0)
    more = loops.more + (again.after - again.before if again is not None else 0.0)
    time = f"{1 + more / before:.2f} times the time without a limit, as predicted" if before else ""
    return f"memory limit of {limit} bytes: {'; '.join([*done, *([time] if time else [])])}"


def _planned(graph: Graph, options: Options) -> Planned:
    line, limit = plan_line(graph, options), options.memory_limit
    if line is not None and (limit is None or memory_of(line.plan, options.target) <= limit):
        return line
    return plan_kernels(graph, options)


def _show_plan(planned: Planned) -> str:
    note = f"# {planned.note}\n" if planned.note else ""
    return note + print_plan(planned.plan)


def _verify_plan(planned: Planned, options: Options) -> None:
    """The plan holds, and threads never meet in it, as codegen is going to cut its kernels."""
    verify_plan(planned.plan)
    verify_jobs(planned.plan, options.target)


def _written(planned: Planned, options: Options) -> Code:
    return planned.code or write(planned.plan, options.target, options.flush)


def _show_llvm(code: Code) -> str:
    return code.llvm


def _show_asm(code: Code) -> str:
    return code.asm


def _assembled(code: Code, options: Options) -> Program:
    return assemble(code)


def _linked(program: Program, options: Options) -> Loaded:
    return Loaded(program, options.target)


STAGES: tuple[Stage, ...] = (
    Stage("trace", Graph, None, {"trace": _itself}, _verify_graph),
    Stage("roll", Graph, None, {"rolled": _itself}, _verify_graph),
    Stage("adjoint", Graph, None, {"adjoint": _itself}, _verify_graph, ahead=_with_fewer_states),
    Stage("step", Graph, None, {"step": _itself}, _verify_graph),
    Stage("batch", Graph, None, {"batch": _itself}, _verify_graph),
    Stage("inline", Graph, _inlined, {}, _verify_graph, part="passes"),
    Stage("widen", Graph, _widened, {}, _verify_graph, part="passes"),
    Stage("passes", Graph, _optimized, {"optimized": _itself}, _verify_graph),
    Stage("plan", Planned, _planned, {"plan": _show_plan}, _verify_plan, part="code"),
    Stage("code", Code, _written, {"llvm": _show_llvm, "asm": _show_asm}, None),
    Stage("object", Program, _assembled, {}, None, part="code"),
    Stage("link", Loaded, _linked, {}, None),
)
"""The pipeline. A function that is not differentiated has no adjoint, only one of `vmap` has a batch, and
only a training step has a step. vmap of a step is a batch of those."""

SHOWN: dict[str, Stage] = {name: stage for stage in STAGES for name in stage.shown}
"""What `ir` shows, in order, and the stage that makes it."""
_BY_NAME = {stage.name: stage for stage in STAGES}


class Text(str):
    """Text that shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


Derive = Callable[[Graph], Graph]


class Within(NamedTuple):
    """What a gradient that is taken within a trace is of, and that gradient."""

    rolled: Graph
    adjoint: Graph


_TRACING: ContextVar[Record | None] = ContextVar("tracing", default=None)


def limited_record() -> Record | None:
    """The record of the program that is being traced, if that has a limit of memory."""
    record = _TRACING.get()
    return record if record is not None and record.options.memory_limit is not None else None


def _again(graphs: list[Graph], fewer: Fewer) -> tuple[int, float]:
    """The turns that loops of graphs run once more, and their time."""
    found = list(loops_of(graphs, *fewer))
    more = sum(each.again * time_of_graph(each.node.attrs["body"]) for each in found)
    return sum(each.again for each in found), more


@dataclass(eq=False, slots=True)
class Record:
    """One compilation: what is needed to make its stages again, its program without the code, and the milliseconds of
    each part.

    A graph that a trace made is kept, as the function may do something else by now. What follows from it (the adjoint,
    what the passes make, plan, code) is made again for whoever looks, by what made it the first time: all of it takes
    several times the memory of all that a program needs to run. Where the adjoint is of mode `forward`, loops keep
    nothing for it."""

    name: str
    options: Options = field(default_factory=Options)
    own: dict[str, Graph | Derive] = field(default_factory=dict)
    traced: dict[str, tuple[str, Derive]] = field(default_factory=dict)
    within: list[Within] = field(default_factory=list)
    build_again: Callable[[], object] | None = None
    settled: bool = False
    forward: bool = False
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

    # -- while it is compiled -----------------------------------------------------------------------------------------

    def keep(self, stage: str, graph: Graph, again: tuple[str, Derive] | None = None) -> Graph:
        """Note the graph of a stage that is the function's own; `again` names the stage that it was traced of, and
        traces it of another graph of that, as a limit of memory may want."""
        self.own[stage] = graph
        if again is not None and self.options.memory_limit is not None:
            self.traced[stage] = again
        self._verify(_BY_NAME[stage], graph)
        return graph

    def build(self, make: Callable[[], T]) -> T:
        """Have a function make the stages that are its own; they are made again, function and all, where a limit of
        memory wants gradients within the trace to keep less."""
        if self.options.memory_limit is not None:
            self.build_again = lambda: self._build(make)
        return self._build(make)

    def _build(self, make: Callable[[], T]) -> T:
        self.within.clear()
        before = _TRACING.set(self)
        try:
            return make()
        finally:
            _TRACING.reset(before)

    def derive(self, stage: str, make: Derive, graph: Graph) -> Graph:
        """Make the graph of a stage that is the function's own from the one before it, and note how."""
        self.own[stage] = make
        made: Graph = self.run(stage, graph)
        return made

    def run(self, stage: str, before: Made) -> Made:
        """What a stage makes of what the one before it made: timed, and verified where ADJIT_VERIFY is 1."""
        found = _BY_NAME[stage]
        with self.timed(found.part or stage):
            return self._make(found, before)

    def plan(self, before: Graph) -> tuple[Graph, Planned]:
        """The optimised graph and its plan, of the graph that the stage ahead of `widen` made. With a limit of memory
        loops keep ever fewer states where nothing else is enough. Raises OutOfMemory where nothing is."""
        optimized: Graph = self.run("passes", self.run("widen", before))
        try:
            planned: Planned = self.run("plan", optimized)
        except Unreached as error:
            return self._plan_with_fewer_states(error)
        finally:
            self.settled = True
            self.within, self.build_again = [], None
        return optimized, planned

    def _plan_with_fewer_states(self, found: Unreached) -> tuple[Graph, Planned]:
        """The same where the plan needs more memory than the limit, as it was `found`."""
        limit, smallest = self.options.memory_limit, found.smallest
        for loops in self._ways(found.before):
            self.options = replace(self.options, loops=loops)
            self._make_again()
            try:
                with self.timed("limit"):
                    made = self._until("plan")
            except Unreached as error:
                smallest = min(smallest, error.smallest)
                continue
            return made["passes"], made["plan"]
        raise OutOfMemory(
            f"memory_limit is {limit} bytes, and a call of this program needs {smallest} at least, however much is "
            f"computed again: give memory_limit={smallest}, or smaller arguments"
        )

    def _make_again(self) -> None:
        """The stages that were traced, as the options have them now."""
        if self.options.loops.within and self.build_again is not None:
            self.build_again()
            return
        for stage, (before, make) in self.traced.items():
            self.own[stage] = make(self._until(before)[before])

    def _ways(self, before: float) -> Iterator[Loops]:
        """What loops may keep, ever less; the plan where they keep what they like takes the time `before`."""
        reverse = not self.forward and {"roll", "adjoint"} <= self.own.keys()
        own: list[Graph] = [self._until("roll")["roll"]] if reverse else []
        for fewer in levels_of(own):
            again, more = _again(own, fewer)
            yield Loops(fewer, False, again, more, before)
        within = list(self.within)
        rolled = [each.rolled for each in within]
        # How often they run is not known, nor on how many rows: all of the program, as far as one can tell.
        whole = sum(time_of_graph(each.adjoint) for each in within)
        for fewer in levels_of([*own, *rolled]) if rolled else ():
            (again, more), (of_own, more_of_own) = _again(rolled, fewer), _again(own, fewer)
            yield Loops(fewer, True, again + of_own, before * more / whole + more_of_own, before)

    # -- for whoever looks --------------------------------------------------------------------------------------------

    def until(self, stage: str) -> dict[str, Made]:
        """What the stages made up to one of them, by name, from the last graph that is kept; all others are made
        again."""
        if self.options.memory_limit is not None and not self.settled and stage not in ("trace", "roll"):
            self.plan(self._until("inline")["inline"])
        return self._until(stage)

    def _until(self, stage: str) -> dict[str, Made]:
        there = [each for each in STAGES if each.make is not None or each.name in self.own]
        there = there[: there.index(_BY_NAME[stage]) + 1]
        kept = max(i for i, each in enumerate(there) if isinstance(self.own.get(each.name), Graph))
        return undisturbed(self._remade, there[kept:])

    def made(self, stage: str) -> Made:
        """What one stage made."""
        return self.until(stage)[stage]

    def show(self, name: str) -> Any:
        """What `ir` shows by a name: a Graph, or text. Raises ArgumentError where there is no such thing."""
        stage = SHOWN[checks.choice("stage", name, tuple(SHOWN))]
        if stage.make is None and stage.name not in self.own:
            known = [name for name, each in SHOWN.items() if each.make is not None or each.name in self.own]
            raise ArgumentError(f"{self.name} has no stage {name!r}; it has {', '.join(known)}")
        shown = stage.shown[name](self.made(stage.name))
        return shown if isinstance(shown, Graph) else Text(shown)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _remade(self, stages: list[Stage]) -> dict[str, Made]:
        made: Made = self.own[stages[0].name]
        found = {stages[0].name: made}
        for stage in stages[1:]:
            made = found[stage.name] = self._make(stage, made)
        return found

    def _make(self, stage: Stage, before: Made) -> Made:
        own = self.own.get(stage.name)
        if own is not None and not isinstance(own, Graph):
            made: Made = own(before if stage.ahead is None or self.forward else stage.ahead(before, self.options))
        elif stage.make is not None:
            made = stage.make(before, self.options)
        else:
            raise InternalError(f"{self.name}: nothing says how {stage.name} is made")
        self._verify(stage, made)
        return made

    def _verify(self, stage: Stage, made: Made) -> None:
        if stage.verify is not None and environment.flag("ADJIT_VERIFY", False):
            try:
                stage.verify(made, self.options)
            except AdjitError as error:
                shown = f"\n\n{print_graph(made)}" if isinstance(made, Graph) else ""
                raise InternalError(f"{stage.name} made what is invalid: {error}{shown}") from error
