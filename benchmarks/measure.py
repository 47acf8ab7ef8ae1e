"""The side-by-side of one workload: first steps one after the other, then blocks of all sides in turn."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.calls import CALLS
from benchmarks.goals import UNITS, Unit
from benchmarks.processes import Process, TooSlow, WorkerError
from benchmarks.results import Limits, Measured, Rates, Row, better
from benchmarks.shapes import SHAPES
from benchmarks.sides import CACHED, LOOPS
from benchmarks.worker import LOSSES
from benchmarks.workloads import problem_of

REST_SECONDS = 0.2
"""Pause between blocks on several threads: those of the last side still look for work and must not take the next one's
cores. (OpenBLAS's do for more than 50 ms: products of 512 cubed right after NumPy's run at 0.41 of its rate, after 50
ms at 0.62 and 0.76, after 150 at 0.82 to 0.94, after 200 at 0.88 and 0.89.)"""


UNIT = "unit"
"""The name among sides of the unit of what calls cost."""

PATIENCE = 12.0
"""CPU seconds of a process after which a first call counts as too slow, in the part on first calls."""

REPEATED = 1.0
"""CPU seconds of a first call from which on it is measured once: they differ by 3% from process to process."""


@dataclass(frozen=True)
class Settings:
    """How long and how often: blocks for each side, seconds of a block, processes for a first call, interpreters of
    sides that have others, and the lesser CPU whose code is measured, if any."""

    blocks: int = 7
    seconds: float = 0.3
    processes: int = 3
    interpreters: Mapping[str, str] | None = None
    cpu: str = ""

    def start(self, side: str, threads: int, workload: str, cache: Path) -> Process:
        """A worker. What needs adjit's compiler runs where adjit does."""
        interpreters = dict(self.interpreters or {})
        if "adjit" in interpreters:
            interpreters.setdefault("machine", interpreters["adjit"])
        return Process(side, threads, workload, cache, interpreters, self.cpu)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def installed(sides: Sequence[str], settings: Settings) -> tuple[dict[str, str], list[str]]:
    """Versions of the sides that are installed, and those that are not."""
    versions, missing = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            with settings.start(side, 1, "", Path(folder)) as process:
                version = process.ask("version")["version"]
            if version is None:
                missing.append(side)
            else:
                versions[side] = version
    return versions, missing


def measure_row(workload: str, threads: int, sides: Sequence[str], settings: Settings) -> Row:
    """Everything about one workload with so many threads."""
    problem = problem_of(workload)
    row = Row(workload, threads, problem.tolerance, problem.flops, problem.bytes, problem.double, {})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes: dict[str, Process] = {}
        for side in [side for side in sides if side in (problem.sides or sides)]:
            measured = row.sides.setdefault(side, Measured())
            try:
                process = _first_steps(stack, measured, side, threads, workload, folder / side, settings)
            except WorkerError as error:
                measured.failure = str(error)
                say(f"  {workload}: {side} failed: {error}")
                continue
            if process is None:
                del row.sides[side]
            else:
                processes[side] = process
        turns = dict(row.sides)
        unit = UNITS.get(workload) or (Unit("numpy", "add8", "`np.add`") if workload in CALLS else None)
        if unit:
            row.unit = turns[UNIT] = Measured()
            with _failing(row.unit):
                process = stack.enter_context(settings.start(unit.side, threads, unit.workload, folder / UNIT))
                row.unit.cold_cpu = process.ask("first")["first_cpu"]
                processes[UNIT] = process
        bounded = bool(problem.flops or problem.bytes)
        machine = stack.enter_context(settings.start("machine", threads, "", folder)) if bounded else None
        if machine:
            row.limits = _limits(machine, problem.working_set)
        _blocks(turns, threads, "step", "steps", 1, processes, settings)
        if problem.loop_steps:
            looping = {side: process for side, process in processes.items() if side in ("adjit", *LOOPS)}
            _blocks(turns, threads, "loop", "loops", problem.loop_steps, looping, settings)
        if machine and row.limits:
            # Twice, before and after: the clock drifts.
            row.limits = better(row.limits, _limits(machine, problem.working_set))
    return row


def _limits(machine: Process, working_set: float) -> Limits:
    return Limits(**machine.ask("limits", working_set=working_set, seconds=0.1))


def _first_steps(
    stack: contextlib.ExitStack,
    measured: Measured,
    side: str,
    threads: int,
    workload: str,
    cache: Path,
    settings: Settings,
) -> Process | None:
    """A process with an empty cache, one with what that left behind; the faster stays. None without such a workload.

    They differ: what torch.compile loads from its cache can be half as fast as what it has just compiled, and the same
    code can be in one process what it is not in the next."""
    cache.mkdir()
    first, second = (stack.enter_context(settings.start(side, threads, workload, cache)) for _ in range(2))
    cold = first.ask("first")
    if cold.get("none"):
        first.close()
        second.close()
        return None
    warm = second.ask("first")
    measured.values, measured.cached_values = cold["values"], warm["values"]
    measured.imported, measured.cold, measured.warm = warm["import"], cold["first"], warm["first"]
    measured.cold_cpu, measured.warm_cpu = cold["first_cpu"], warm["first_cpu"]
    measured.memory, measured.memory_after_first = cold["memory"], cold["memory_after_first"]
    measured.arena = cold["arena"]
    if side == "adjit":
        measured.counting = first.ask("counting")["seconds"]
    measured.loop_value = first.ask("loop_value")["value"]
    seconds = {process: _seconds_of_step(process, settings.seconds) for process in (first, second)}
    faster, slower = sorted(seconds, key=seconds.__getitem__)
    slower.close()
    return faster


def _seconds_of_step(process: Process, seconds: float) -> float:
    count = _calibrated(process, "steps", seconds)
    spent: float = process.ask("steps", count=count)["seconds"]
    return spent / count


def _blocks(
    sides: Mapping[str, Measured],
    threads: int,
    kind: str,
    request: str,
    steps: int,
    processes: Mapping[str, Process],
    settings: Settings,
) -> None:
    """Blocks of all sides in turn, A B C A B C; a side that fails on the way drops out."""
    counts: dict[str, int] = {}
    rates: dict[str, list[float]] = {}
    for side, process in processes.items():
        with _failing(sides[side]):
            count = _calibrated(process, request, settings.seconds)
            if count:
                counts[side], rates[side] = count, []
    for _ in range(settings.blocks):
        for side in [side for side in counts if not sides[side].failure]:
            with _failing(sides[side]):
                seconds = processes[side].ask(request, count=counts[side])["seconds"]
                rates[side].append(counts[side] * steps / seconds)
                if threads > 1:
                    time.sleep(REST_SECONDS)
    for side, found in rates.items():
        if not sides[side].failure:
            setattr(sides[side], kind, Rates(tuple(found)))


def _calibrated(process: Process, request: str, seconds: float) -> int:
    """Calls that take a block's time; they warm up as well. 0 for a side that has no such thing."""
    count = 1
    while True:
        spent: float | None = process.ask(request, count=count)["seconds"]
        if spent is None:
            return 0
        if spent > seconds / 4:
            # Once more: the first calls are often slower.
            spent = min(spent, process.ask(request, count=count)["seconds"])
            return max(1, round(count * seconds / spent))
        count *= 2 if spent > seconds / 20 else 8


@contextlib.contextmanager
def _failing(measured: Measured) -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        measured.failure = str(error)
        say(f"  failed: {error}")


def measure_first_calls(workload: str, threads: int, sides: Sequence[str], settings: Settings) -> Row:
    """First calls of one program alone: each in a process of its own, sides in turn, medians.

    A side that keeps compiled code has an empty cache, and then another process with what the first left behind."""
    problem = problem_of(workload)
    row = Row(workload, threads, problem.tolerance, 0.0, 0.0, problem.double, {side: Measured() for side in sides})
    answers: dict[str, list[dict[str, Any]]] = {f"{side} {state}": [] for side in sides for state in ("cold", "warm")}
    for turn in range(settings.processes):
        for side in sides:
            measured = row.sides[side]
            if measured.none or (turn and answers[f"{side} cold"][0]["first_cpu"] > REPEATED):
                continue
            try:
                with tempfile.TemporaryDirectory() as folder:
                    for state in ("cold", "warm") if side in CACHED else ("cold",):
                        with settings.start(side, threads, workload, Path(folder)) as process:
                            answers[f"{side} {state}"].append(process.ask("first", PATIENCE, steps=LOSSES))
                            if side == "adjit" and state == "cold" and turn == 0:
                                measured.nodes = tuple(process.ask("nodes")["nodes"])
                                measured.counting = process.ask("counting")["seconds"]
            except TooSlow:
                measured.slow = PATIENCE
            except WorkerError as error:
                measured.failure = str(error)
                say(f"  {workload}: {side} failed: {error}")
    for side, measured in row.sides.items():
        cold, warm = answers[f"{side} cold"], answers[f"{side} warm"]
        if cold:
            measured.values = cold[0]["values"]
            measured.imported, measured.imported_cpu = _medians([*cold, *warm], "import")
            measured.cold, measured.cold_cpu = _medians(cold, "first")
        if warm:
            measured.cached_values = warm[0]["values"]
            measured.warm, measured.warm_cpu = _medians(warm, "first")
    return row


def _medians(answers: Sequence[dict[str, Any]], what: str) -> tuple[float, float]:
    """By the clock and of the CPU."""
    wall, cpu = (statistics.median(answer[name] for answer in answers) for name in (what, f"{what}_cpu"))
    return wall, cpu


def measure_micro(kind: str, quick: bool, settings: Settings) -> list[dict[str, Any]]:
    """The rows of "gemm" or "vector_math": adjit's code against NumPy's in one process, one thread."""
    with tempfile.TemporaryDirectory() as folder, settings.start("machine", 1, "", Path(folder)) as machine:
        rows: list[dict[str, Any]] = machine.ask("micro", kind=kind, seconds=settings.seconds, quick=quick)["rows"]
    return rows


def measure_products(threads: int, quick: bool, settings: Settings) -> list[dict[str, Any]]:
    """Rows as those of "gemm" on several threads: each side in a process of its own, as OpenBLAS's threads go on
    looking for work when their product is done."""
    rows: list[dict[str, Any]] = []
    for dtype in ("float32", "float64"):
        for shape in SHAPES[:5] if quick else SHAPES:
            row = measure_row(f"product_{shape}_{dtype}", threads, ["adjit", "numpy"], settings)
            rates = {side: found.median * row.flops * 1e-9 for side, found in row.rates("step").items()}
            rows.append({"name": shape, "dtype": dtype, "ours": rates["adjit"], "theirs": rates["numpy"]})
            say(f"  {shape} {dtype}, {threads} threads: {rates['adjit']:.1f} and {rates['numpy']:.1f} GFLOP/s")
    return rows
