"""The parts that have documents of their own beside the main one: first calls, and calls by kind of argument.

A document is what one run of its part writes, whole: docs/benchmarks-start.md, docs/benchmarks-calls.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.calls import CALLS, CALLS_MEANING
from benchmarks.measure import PATIENCE, Settings, measure_first_calls, measure_row
from benchmarks.programs import START, START_MEANING
from benchmarks.report import TITLES, failures_text, joined, rounded, table, title
from benchmarks.results import Measured, Report, Row
from benchmarks.sides import CACHED, CALLED

BLOCK_SECONDS = 0.05
"""Of a block of calls, which take microseconds."""


@dataclass(frozen=True)
class Part:
    """`rows` are its workloads in words, `measure` gives one of them, `text` the document without its notes."""

    rows: Mapping[str, str]
    measure: Callable[[str, Sequence[int], Sequence[str], Settings], Row]
    text: Callable[[Report], str]


def _first_calls(name: str, threads: Sequence[int], sides: Sequence[str], settings: Settings) -> Row:
    """On as many threads as there are, as users have it."""
    return measure_first_calls(name, threads[-1], sides, settings)


def _calls(name: str, threads: Sequence[int], sides: Sequence[str], settings: Settings) -> Row:
    """What a call costs does not depend on threads."""
    return measure_row(name, threads[0], sides, dataclasses.replace(settings, seconds=BLOCK_SECONDS))


def milliseconds(cpu: float, wall: float) -> str:
    """Of the CPU and by the clock; a dash where nothing was measured."""
    return f"{rounded(cpu * 1e3)} / {rounded(wall * 1e3)}" if wall else "–"


def _first(side: Measured | None, warm: bool) -> str:
    """A cell: the first call of a side, without or with what is in its cache."""
    if side is None:
        return "–"
    if side.none:
        return "–" if warm else "failed" if side.failure else f"> {side.slow * 1e3:,.0f}"
    return milliseconds(side.warm_cpu, side.warm) if warm else milliseconds(side.cold_cpu, side.cold)


def _start_line(row: Row, names: Sequence[str]) -> list[str]:
    """One program."""
    ours, jax, wrong = row.sides.get("adjit"), row.sides.get("jax"), row.disagreeing()
    cells = [_first(row.sides.get(name), warm) for name in names for warm in (False, True)[: 1 + (name in CACHED)]]
    if ours is None or ours.none:
        return [row.workload, "–", *cells, "–", "–", "–"]
    a_node = f"{1e6 * ours.cold_cpu / ours.nodes[1]:,.0f}" if ours.nodes[1] else "–"
    counted = f"{ours.cold_cpu / ours.counting:.2f} / {ours.warm_cpu / ours.counting:.3f}" if ours.counting else "–"
    ratio = "–"
    if jax and not jax.failure:
        ratio = f"> {jax.slow / ours.cold_cpu:.0f}" if jax.slow else f"{jax.cold_cpu / ours.cold_cpu:.2f}"
    ratio = f"DISAGREE: {', '.join(wrong)}" if wrong else ratio
    return [row.workload, f"{ours.nodes[0]:,} / {ours.nodes[1]:,}", *cells, ratio, a_node, counted]


def _import_line(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """The median of each library's import."""
    cells = []
    for name in names:
        sides = [row.sides[name] for row in rows if name in row.sides and row.sides[name].imported]
        middle = sorted(sides, key=lambda side: side.imported)[len(sides) // 2] if sides else Measured()
        cells += [milliseconds(middle.imported_cpu, middle.imported)] + ["–"] * (name in CACHED)
    return ["import, over NumPy's", "–", *cells, "–", "–", "–"]


def start_table(rows: Sequence[Row]) -> str:
    """First calls, one program a line; the imports in the last one."""
    names = [name for name in ("adjit", *CALLED) if any(name in row.sides for row in rows)]
    columns = [TITLES[name] + cached for name in names for cached in ("", ", cached")[: 1 + (name in CACHED)]]
    head = ["program", "nodes", *columns, "JAX / adjit", "µs a node", "adjit / counting"]
    return table(head, [*(_start_line(row, names) for row in rows), _import_line(rows, names)])


def start_text(report: Report) -> str:
    """docs/benchmarks-start.md."""
    names = dict.fromkeys(row.workload for row in report.rows)
    threads = max((row.threads for row in report.rows), default=1)
    return joined(
        "# First calls",
        title(report),
        "Milliseconds of the CPU, of all threads, / by the clock of the first call of `value_and_grad` in a process "
        "after its import, float64: trace, differentiate, compile, run. (A step is one of `adjit.training_step`, of "
        f"Adam by hand for the others.) On {threads} thread{'s' * (threads > 1)}; a process for each figure, sides in "
        "turn, medians of three; what takes more than a second of the CPU is measured once, and ended after "
        f"{PATIENCE:.0f}. Cached: in a process that finds what an earlier one left on disk, which is how adjit works "
        "as it comes, and JAX if one asks it to. autograd does not compile: each later call costs it about as much "
        "again. Python loops are unrolled on every side, as they are written; whoever knows JAX well writes `lax.scan` "
        "where loops are long. JAX sets up its backend in its first call.",
        "Values and gradients of the sides agree within 1e-9, or the row says DISAGREE. Nodes: of adjit's graph as it "
        "was traced / with its gradients; µs a node: of the CPU without a cache, by the latter. JAX / adjit: CPU, "
        "neither cached. Last: adjit's CPU time without / with a cache as a share of that in which Python counts to "
        "ten million in the same process.",
        table(["program", "what it is"], [[name, START_MEANING[name]] for name in names], "---"),
        start_table(report.rows),
        failures_text(report.rows),
    )


def _call_line(row: Row, names: Sequence[str]) -> list[str]:
    """One kind of call."""
    rates, wrong, units = row.rates("step"), row.disagreeing(), [row.in_units(name) for name in names]

    def cell(name: str) -> str:
        side = row.sides.get(name)
        if side is not None and side.failure:
            return "failed"
        return f"{rounded(1e6 / rates[name].median)} ±{100 * rates[name].spread:.0f}%" if name in rates else "–"

    unit = rounded(1e6 / row.unit.step.median) if row.unit and row.unit.step else "–"
    ratio = row.ratio("step")
    verdict = f"DISAGREE: {', '.join(wrong)}" if wrong else "–" if ratio is None else f"{ratio:.1f}"
    relative = ["–" if one is None else rounded(one) for one in units]
    return [row.workload, *(cell(name) for name in names), unit, *relative, verdict]


def calls_table(rows: Sequence[Row]) -> str:
    """Microseconds of a call, one kind a line."""
    names = [name for name in ("adjit", *CALLED) if any(name in row.sides for row in rows)]
    titles = [TITLES[name] for name in names]
    head = ["call", *titles, "`np.add`", *(f"{name} / `np.add`" for name in titles), "best peer / adjit"]
    return table(head, [_call_line(row, names) for row in rows])


def calls_text(report: Report) -> str:
    """docs/benchmarks-calls.md."""
    names = dict.fromkeys(row.workload for row in report.rows)
    return joined(
        "# Calls by kind of argument",
        title(report),
        "Microseconds of a call that is compiled, on arrays so small that the arithmetic is next to nothing: medians "
        f"of {report.blocks} blocks of {BLOCK_SECONDS * 1e3:.0f} ms, ± half the distance of the quartiles, one thread. "
        "One process each (the faster of two), on the same core, in turn with blocks of `np.add` of two arrays of 8 "
        "numbers, the unit in which the ratios can be read on any machine. JAX has its jitted equivalents, waits for "
        "each result (`block_until_ready`) and holds arrays as its own; those in another order, and what "
        "`scipy.optimize` passes, are NumPy's. autograd has the kinds with gradients. Results agree within 1e-9, or "
        "the row says DISAGREE.",
        table(["call", "what it is"], [[name, CALLS_MEANING[name]] for name in names], "---"),
        calls_table(report.rows),
        failures_text(report.rows),
    )


PARTS: dict[str, Part] = {
    "start": Part({name: START_MEANING[name] for name in START}, _first_calls, start_text),
    "calls": Part({name: CALLS_MEANING[name] for name in CALLS}, _calls, calls_text),
}
