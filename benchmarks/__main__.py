"""Side by side with peers.

    python -m benchmarks [--workloads mlp,xor] [--threads 1,2] [--peers jax,torch] [--quick] [--output FILE]

A process for each side, blocks of all sides in turn, agreement checked; a whole run writes docs/benchmarks.md. A run of
a part, or a quick one, prints its text instead, unless it is told where to write. The exit code is 1 where sides
disagree or a rate is impossible. `--pythons numba=PATH` (or BENCH_PYTHONS) runs a side in another interpreter:
libraries that pin different versions of the same package cannot share one.
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
from benchmarks.processes import ROOT, pythons
from benchmarks.report import text_of, write
from benchmarks.results import Report, Row
from benchmarks.sides import PEERS
from benchmarks.workloads import MICRO, WORKLOADS

OUTPUT = ROOT / "docs" / "benchmarks.md"
PARTS = ("gemm", "vector_math")


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


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = (*WORKLOADS, *MICRO, *PARTS)
    parser.add_argument("--workloads", default="", help=", ".join(everything))
    parser.add_argument("--threads", default=",".join(str(n) for n in (1, 2) if n <= cores()))
    parser.add_argument("--peers", default="", help=", ".join(PEERS))
    parser.add_argument("--quick", action="store_true", help="3 blocks instead of 7")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--pythons", default=os.environ.get("BENCH_PYTHONS", ""), metavar="SIDE=PATH,...")
    options = parser.parse_args()
    names = chosen(options.workloads, everything, "workload", parser)
    peers = chosen(options.peers, PEERS, "peer", parser)
    threads = sorted({int(text) for text in options.threads.split(",")})
    if threads[-1] > cores():
        parser.error(f"{threads[-1]} threads on {cores()} cores measure nothing")
    blocks = 3 if options.quick else 7
    try:
        settings = Settings(blocks, 0.2 if options.quick else 0.3, pythons(options.pythons))
    except ValueError as error:
        parser.error(f"--pythons: {error}")
    versions, missing = installed(["adjit", *peers], settings)
    for name in missing:
        say(f"left out: {name}, not installed")
    sides = list(versions)
    report = Report([], {}, versions, missing, machine(), str(datetime.date.today()), options.quick, blocks)
    for count in threads:
        for name in names:
            # What a call costs does not depend on threads.
            if name in PARTS or (name in MICRO and count != threads[0]):
                continue
            report.rows.append(measure_row(name, count, sides, settings))
            say(summary(report.rows[-1]))
    for name in [name for name in names if name in PARTS]:
        say(f"  {name}")
        report.micro[name] = measure_micro(name, options.quick, settings)
        if name == "gemm" and threads[-1] > 1:
            report.micro["products"] = measure_products(threads[-1], options.quick, settings)
    whole = not (options.workloads or options.peers or options.quick)
    output = options.output or (OUTPUT if whole else None)
    if output:
        write(report, output)
        say(f"written: {output}")
    else:
        print(text_of(report))
    faults = report.faults()
    for fault in faults:
        say(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
