"""The process of one side: it reads requests and writes answers, one JSON object a line, and sleeps in between.

    python -m benchmarks.worker SIDE THREADS [WORKLOAD]

The answers go to what was standard output; what libraries print goes to standard error. A request is {"do": name} with
arguments; an answer has what was asked for, or "error". The parent sets the variables that limit threads; here the
process is pinned, before NumPy is imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.sides import Side
    from benchmarks.workloads import Problem

Answer = dict[str, Any]

LOSSES = 5
"""Steps whose losses are compared."""

STEPS = 20
"""Steps after which memory is taken."""


def memory(field: str) -> int:
    """A figure of this process in bytes, such as VmRSS; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def mark() -> int:
    """Bytes in use now; the peak (VmHWM) counts from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return memory("VmRSS")


def counting() -> float:
    """CPU seconds in which Python counts to ten million: how fast a machine is where seconds are limits."""
    begun = time.process_time()
    number = 0
    while number < 10_000_000:
        number += 1
    return time.process_time() - begun


def clocks() -> tuple[float, float]:
    """Seconds by the clock and of the CPU, of all threads of this process."""
    return time.perf_counter(), time.process_time()


class Worker:
    """One side and one workload in this process."""

    def __init__(self, side: str, threads: int, workload: str) -> None:
        self.name, self.threads, self.workload = side, threads, workload
        self.problem: Problem
        self.side: Side

    def version(self) -> Answer:
        """The library's version; None where it is not installed."""
        from benchmarks.sides import MODULES

        package = MODULES[self.name]
        if find_spec(package) is None:
            return {"version": None}
        try:
            return {"version": metadata.version(package)}
        except metadata.PackageNotFoundError:
            # A checkout that is not installed.
            return {"version": str(getattr(import_module(package), "__version__", "?"))}

    def first(self, steps: int = STEPS) -> Answer:
        """Import, build, make the first step: seconds of both, and the losses of the first five of so many steps."""
        from benchmarks import sides, workloads

        begun, begun_cpu = clocks()
        import_module(f"benchmarks.sides.{self.name}")
        ended, ended_cpu = clocks()
        imported, imported_cpu = ended - begun, ended_cpu - begun_cpu
        self.problem = workloads.problem_of(self.workload)
        start = mark()
        begun, begun_cpu = clocks()
        built = sides.build(self.name, self.workload, self.problem)
        if built is None:
            return {"none": True}
        self.side = built
        values = [sides.as_number(built.step())]
        ended, ended_cpu = clocks()
        peak = memory("VmHWM")
        one = mark()
        result: Any = None
        for i in range(1, steps):
            # What a side keeps is counted, not what the caller keeps: results of 40 MB would be there twice.
            result = None
            result = built.step()
            if i < LOSSES:
                values.append(sides.as_number(result))
        sides.as_number(result)
        last = memory("VmHWM")
        values += sides.observed(result)[1:]
        return {
            "import": imported,
            "import_cpu": imported_cpu,
            "first": ended - begun,
            "first_cpu": ended_cpu - begun_cpu,
            "values": values,
            "memory": max(peak, last) - start,
            "memory_after_first": last - one,
            "arena": built.arena_bytes(),
        }

    def counting(self) -> Answer:
        """Seconds in which Python counts to ten million here."""
        return {"seconds": counting()}

    def nodes(self) -> Answer:
        """Nodes of the side's graphs, as it was traced and with gradients."""
        return {"nodes": self.side.nodes()}

    def loop_value(self) -> Answer:
        """The last loss of a short loop; None for a side without loops."""
        from benchmarks import sides

        if self.side.loop is None:
            return {"value": None}
        batches = self.problem.batches
        return {"value": sides.as_number(self.side.loop(batches if batches > 1 else LOSSES))}

    def steps(self, count: int) -> Answer:
        """Seconds of so many steps, one call each. The last result is waited for."""
        return {"seconds": self._timed(self.side.step, count)}

    def loops(self, count: int) -> Answer:
        """Seconds of so many calls of the loop, `loop_steps` steps each; None for a side without."""
        loop, steps = self.side.loop, self.problem.loop_steps
        return {"seconds": None if loop is None else self._timed(lambda: loop(steps), count)}

    def _timed(self, call: Callable[[], Any], count: int) -> float:
        from benchmarks import sides

        result: Any = None
        begun = time.perf_counter()
        for _ in range(count):
            result = call()
        value = sides.as_number(result)
        seconds = time.perf_counter() - begun
        if not value - value == 0:
            raise ArithmeticError(f"the loss is {value}")
        return seconds

    def limits(self, working_set: float, seconds: float) -> Answer:
        """The machine's limits for a working set, as the fields of `Limits`."""
        from dataclasses import asdict

        from benchmarks.limits import measure

        return asdict(measure(self.threads, working_set, seconds))

    def micro(self, kind: str, seconds: float, quick: bool) -> Answer:
        """The rows of a micro benchmark of adjit against NumPy."""
        from benchmarks.micro import TABLES

        return {"rows": TABLES[kind](seconds, quick)}


def main() -> None:
    """Answer until the parent closes the pipe."""
    side, threads, workload = (*sys.argv[1:], "")[:3]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: int(threads)]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(side, int(threads), workload)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
