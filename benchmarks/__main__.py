"""Side by side with peers.

    python -m benchmarks [--workloads mlp,xor] [--threads 1,2] [--peers jax,torch] [--cpu haswell] [--quick]
        [--output FILE]

A process for each side, blocks of all sides in turn, agreement checked. A whole run writes docs/benchmarks.md. The
parts `start` (first calls) and `calls` (by kind of argument) have documents of their own beside it, named after it
(docs/benchmarks-start.md), which a whole run and `--workloads start,calls` write. A run of some rows, of some peers, or
a quick one, prints its text instead, unless it is told where the main document would be. The exit code is 1 where sides
disagree, a rate is impossible, a row misses a limit of its own (`benchmarks/goals.py`) or adjit fails. `--pythons
numba=PATH` (or BENCH_PYTHONS) runs a side in another interpreter: libraries that pin different versions of the same
package cannot share one. `--cpu haswell` keeps all sides to AVX2 on a machine that has AVX-512; a whole run writes
docs/benchmarks-avx2.md, without the parts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Settings, installed, measure_micro, measure_products, measure_row, say
from benchmarks.parts import PARTS, Part
from benchmarks.processes import LESSER_CPUS, ROOT, pythons
from benchmarks.report import text_of, write, write_text
from benchmarks.results import Report, Row
from benchmarks.sides import CALLED, PEERS, RATED
from benchmarks.workloads import MICRO, WORKLOADS

OUTPUTS = {"": ROOT / "docs" / "benchmarks.md", "haswell": ROOT / "docs" / "benchmarks-avx2.md"}
"""The main document, by the CPU whose code is measured."""
BY_THEMSELVES = ("gemm", "vector_math")
"""What is measured against NumPy in one process."""
MAIN = (*WORKLOADS, *MICRO, *BY_THEMSELVES)
ROWS = tuple(name for part in PARTS.values() for name in part.rows if name not in MAIN)
"""Those of the parts, one by one."""


def machine() -> str:
    """The processor, its cores and the system."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {cores()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen(text: str, known: Sequence[str], kind: str, parser: argparse.ArgumentParser) -> list[str]:
    """Names from a list separated by commas; "" for all."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            parser.error(f"no such {kind}: {name}; there are {', '.join(known)}")
    return names or list(known)


def summary(row: Row) -> str:
    """One line of progress."""
    parts = [f"{row.workload}, {row.threads} thread{'s' * (row.threads > 1)}:"]
    for kind in ("step", "loop"):
        rates, best, ratio = row.rates(kind), row.best_peer(kind), row.ratio(kind)
        if "adjit" in rates:
            against = f", {ratio:.2f} of {best}" if ratio else ""
            parts.append(f"{kind} {rates['adjit'].median:,.1f}{against};")
    return "  " + " ".join([*parts, *(f"DISAGREE: {name}" for name in row.disagreeing())])


def measure_main(
    names: Sequence[str], threads: Sequence[int], sides: Sequence[str], settings: Settings, report: Report
) -> None:
    """What the main document has."""
    for count in threads:
        for name in names:
            # What a call costs does not depend on threads.
            if name in BY_THEMSELVES or (name in MICRO and count != threads[0]):
                continue
            report.rows.append(measure_row(name, count, sides, settings))
            say(summary(report.rows[-1]))
    for name in [name for name in names if name in BY_THEMSELVES]:
        say(f"  {name}")
        report.micro[name] = measure_micro(name, report.quick, settings)
        if name == "gemm" and threads[-1] > 1:
            report.micro["products"] = measure_products(threads[-1], report.quick, settings)


def measure_part(
    part: Part, names: Sequence[str], threads: Sequence[int], sides: Sequence[str], settings: Settings, report: Report
) -> None:
    """What the document of a part has."""
    for name in names:
        report.rows.append(part.measure(name, threads, sides, settings))
        say(f"  {name}" + "".join(f" DISAGREE: {side}" for side in report.rows[-1].disagreeing()))


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="", help=", ".join((*MAIN, *PARTS, *ROWS)))
    parser.add_argument("--threads", default=",".join(str(n) for n in (1, 2) if n <= cores()))
    parser.add_argument("--peers", default="", help=", ".join(PEERS))
    parser.add_argument("--cpu", choices=tuple(LESSER_CPUS), default="", help="keep all sides to its instructions")
    parser.add_argument("--quick", action="store_true", help="3 blocks instead of 7")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--pythons", default=os.environ.get("BENCH_PYTHONS", ""), metavar="SIDE=PATH,...")
    options = parser.parse_args()
    names = chosen(
        options.workloads or ",".join(MAIN if options.cpu else (*MAIN, *PARTS)),
        (*MAIN, *PARTS, *ROWS),
        "workload",
        parser,
    )
    peers = chosen(options.peers, PEERS, "peer", parser)
    threads = sorted({int(text) for text in options.threads.split(",")})
    if threads[-1] > cores():
        parser.error(f"{threads[-1]} threads on {cores()} cores measure nothing")
    blocks = 3 if options.quick else 7
    try:
        interpreters = pythons(options.pythons)
    except ValueError as error:
        parser.error(f"--pythons: {error}")
    settings = Settings(blocks, 0.2 if options.quick else 0.3, 1 if options.quick else 3, interpreters, options.cpu)
    main_names = [name for name in MAIN if name in names]
    parts = {
        part: [row for row in kind.rows if part in names or (row in ROWS and row in names)]
        for part, kind in PARTS.items()
    }
    wanted = [name for name in peers if (main_names and name in RATED) or (any(parts.values()) and name in CALLED)]
    # NumPy does what JAX and autograd are measured beside.
    versions, missing = installed(list(dict.fromkeys(["adjit", "numpy", *wanted])), settings)
    for name in missing:
        say(f"left out: {name}, not installed")

    def report_of(beside: Sequence[str], part: str = "") -> Report:
        return Report(
            [],
            {},
            {name: version for name, version in versions.items() if name in ("adjit", *beside)},
            [name for name in missing if name in beside],
            machine(),
            str(datetime.date.today()),
            options.quick,
            blocks,
            part,
            options.cpu,
        )

    reports = []
    if main_names:
        report = report_of([name for name in wanted if name in RATED])
        reports.append(report)
        measure_main(main_names, threads, list(report.versions), settings, report)
        whole = not (options.workloads or options.peers or options.quick)
        output = options.output or (OUTPUTS[options.cpu] if whole else None)
        if output:
            write(report, output)
            say(f"written: {output}")
        else:
            print(text_of(report))
    for part, rows in parts.items():
        if not rows:
            continue
        report = report_of(["numpy", *CALLED], part)
        reports.append(report)
        sides = [name for name in report.versions if name != "numpy"]
        measure_part(PARTS[part], rows, threads, sides, settings, report)
        whole = part in names and not (options.peers or options.quick)
        output = options.output or (OUTPUTS[options.cpu] if whole else None)
        if output:
            output = output.with_name(f"{output.stem}-{part}{output.suffix}")
            write_text(PARTS[part].text(report), output)
            say(f"written: {output}")
        else:
            print(PARTS[part].text(report))
    faults = [fault for report in reports for fault in report.faults()]
    for fault in faults:
        say(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
