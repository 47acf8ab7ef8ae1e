"""A run as text and as a picture: docs/benchmarks.md and docs/benchmarks.png; and what all documents have in common."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import judged
from benchmarks.picture import RATIO, draw
from benchmarks.results import Measured, Rates, Report, Row
from benchmarks.sides import LOOPS, MODULES, PEERS
from benchmarks.workloads import MEANING, MICRO

NOTES = "<!-- notes -->"
"""What stands from this line on is written by hand and survives."""

TITLES = {"torch": "torch eager", "torch_compile": "torch.compile", "numpy": "NumPy", "jax": "JAX"} | {
    "pytensor": "PyTensor",
    "numba": "Numba by hand",
    "adjit": "adjit",
    "autograd": "autograd",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """A Markdown table; all columns but the first are aligned so."""
    lines = [head, ["---"] + [align] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rounded(value: float) -> str:
    """Three significant digits with separators of thousands."""
    if value == 0:
        return "0"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{float(f'{value:.3g}'):,.0f}"


def rate(rates: Rates | None, bold: bool = False) -> str:
    """The median with the spread."""
    if rates is None:
        return "–"
    text = f"{rounded(rates.median)} ±{100 * rates.spread:.0f}%"
    return f"**{text}**" if bold else text


def seconds(value: float) -> str:
    """Seconds, or milliseconds below one."""
    return f"{value:.1f} s" if value >= 1 else f"{value * 1e3:.0f} ms"


def megabytes(value: int) -> str:
    """MB with one decimal."""
    return f"{value / 1e6:.1f}"


def present(rows: Sequence[Row]) -> list[str]:
    """Sides that have anything in these rows, adjit first."""
    return [name for name in ("adjit", *PEERS) if any(name in row.sides for row in rows)]


def cell(row: Row, name: str, kind: str) -> str:
    """A side's rate in a row, or why there is none."""
    side = row.sides.get(name)
    if side is None:
        return "–"
    if side.failure:
        return "failed"
    best = name in (row.best_peer(kind),)
    return rate(getattr(side, kind), best)


def rates_table(rows: Sequence[Row], kind: str) -> str:
    """Rates, the ratio to the best peer and the share of the limit; "" where no row has such rates."""
    rows = [row for row in rows if row.rates(kind)]
    if not rows:
        return ""
    names = [name for name in present(rows) if kind == "step" or name in ("adjit", *LOOPS)]
    lines = []
    for row in rows:
        ratio, limit = row.ratio(kind), row.limit
        wrong = row.disagreeing()
        verdict = f"DISAGREE: {', '.join(wrong)}" if wrong else "–" if ratio is None else f"{ratio:.2f}"
        ours = row.rates(kind).get("adjit")
        share = f"{100 * ours.median / limit:.0f}%" if ours and limit else "–"
        lines.append([row.workload, *(cell(row, name, kind) for name in names), verdict, share])
    return table(["workload", *(TITLES[name] for name in names), RATIO, "of the limit"], lines)


def first_table(rows: Sequence[Row]) -> str:
    """First steps, without and with a filled cache."""
    names = present(rows)

    def text(side: Measured | None) -> str:
        return "–" if side is None or side.failure else f"{seconds(side.cold)} / {seconds(side.warm)}"

    def share(side: Measured | None) -> str:
        if side is None or side.failure or not side.counting:
            return "–"
        return f"{side.cold / side.counting:.2f} / {side.warm / side.counting:.3f}"

    lines = [
        [row.workload, *(text(row.sides.get(name)) for name in names), share(row.sides.get("adjit"))] for row in rows
    ]
    return table(["workload", *(TITLES[name] for name in names), "adjit / counting"], lines)


def memory_table(rows: Sequence[Row]) -> str:
    """Growth of the peak of the memory."""
    names = present(rows)

    def text(side: Measured | None) -> str:
        if side is None or side.failure:
            return "–"
        return f"{megabytes(side.memory)} / {megabytes(side.memory_after_first)}"

    lines = []
    for row in rows:
        ours = row.sides.get("adjit")
        arena = f"{ours.arena / 1e3:,.1f}" if ours and not ours.failure else "–"
        lines.append([row.workload, *(text(row.sides.get(name)) for name in names), arena])
    return table(["workload", *(TITLES[name] for name in names), "adjit's arena, KB"], lines)


def imports_table(rows: Sequence[Row]) -> str:
    """The median of each library's import."""
    lines = []
    for name in present(rows):
        times = sorted(row.sides[name].imported for row in rows if name in row.sides and not row.sides[name].failure)
        if times and name != "numpy":
            lines.append([TITLES[name], seconds(times[len(times) // 2])])
    return table(["library", "import, over NumPy's"], lines)


def calls_table(row: Row, step: Row | None) -> str:
    """What one call costs: the smallest there is, and the smallest training step."""
    lines = []
    for title, source in (("`a + b`, 8 numbers", row), ("a training step of `xor`", step)):
        if source is None:
            continue
        rates = source.rates("step")
        lines.append([title, *(f"{1e9 / rates[n].median:,.0f}" if n in rates else "–" for n in present([row]))])
    return table(["ns of a call", *(TITLES[name] for name in present([row]))], lines)


def micro_table(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    """adjit's code beside NumPy's by dtype."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    found = {(row["name"], row["dtype"]): row for row in rows}
    lines = []
    for name in names:
        line = [name]
        for dtype in ("float32", "float64"):
            one = found[name, dtype]
            ratio = one["ours"] / one["theirs"] if kind != "vector_math" else one["theirs"] / one["ours"]
            line += [f"{one['ours']:.3g}", f"{one['theirs']:.3g}", f"{ratio:.2f}"]
        lines.append(line)
    columns = [f"{column}, {dtype}" for dtype in ("f32", "f64") for column in ("adjit", "NumPy", "ratio")]
    return table(["function" if kind == "vector_math" else "m x k x n", *columns], lines)


def means(rows: Sequence[dict[str, Any]]) -> str:
    """The ratios of products in a sentence."""
    parts = []
    for dtype in ("float32", "float64"):
        ratios = [row["ours"] / row["theirs"] for row in rows if row["dtype"] == dtype]
        parts.append(f"{dtype} {statistics.geometric_mean(ratios):.3f}, least {min(ratios):.2f}")
    return f"Geometric mean of the ratios: {'; '.join(parts)}."


def limits_text(rows: Sequence[Row]) -> str:
    """The limits of the machine in a sentence."""
    limits = [row.limits for row in rows if row.limits]
    if not limits:
        return ""
    single, double = max(one.flops_f32 for one in limits), max(one.flops_f64 for one in limits)
    sets = sorted({one.working_set: one.bandwidth for one in limits if one.working_set}.items())
    widths = ", ".join(f"{width * 1e-9:.0f} GB/s over {size / 1e6:.3g} MB" for size, width in sets)
    return (
        f"Limits measured beside: {single * 1e-9:.0f} GFLOP/s in float32, {double * 1e-9:.0f} in float64"
        f"{'; ' + widths if widths else ''}."
    )


def goals_table(rows: Sequence[Row]) -> str:
    """Limits and what was measured; "" where no row has any."""
    lines = [
        [row.workload, one.limit, one.measured if one.met else f"MISSED: {one.measured}"]
        for row in rows
        for one in judged(row)
    ]
    return table(["workload", "limit", "measured"], lines, "---") if lines else ""


def threads_section(report: Report, threads: int) -> str:
    """Everything measured with so many threads."""
    whole = [row for row in report.rows if row.threads == threads]
    rows = [row for row in whole if row.workload not in MICRO]
    parts = [f"## {threads} thread{'s' * (threads > 1)}"]
    if rows:
        parts += ["Steps a second, one call a step. Bold: the best peer.", rates_table(rows, "step")]
        loops = rates_table(rows, "loop")
        if loops:
            parts += [f"Steps a second of a compiled loop ({TITLES['jax']}: `lax.scan`; adjit: `step.run`).", loops]
        parts += [limits_text(rows)]
        goals = goals_table(rows)
        if goals:
            parts += ["What rows have to reach; times beside others are measured in the same blocks.", goals]
        parts += [
            "First step: build, trace, compile, run; without / with what an earlier process left in the cache. Last: "
            "adjit's as a share of the time in which Python counts to ten million in the same process."
        ]
        parts += [first_table(rows)]
        parts += [
            "Growth of the peak of the memory in MB: from the arrays to step 20 / from step 1 to step 20. What a step "
            "returns is let go before the next one."
        ]
        parts += [memory_table(rows), imports_table(rows)]
    for row in whole:
        if row.workload in MICRO:
            xor = next((other for other in rows if other.workload == "xor"), None)
            parts += ["One call:", calls_table(row, xor)]
    return "\n\n".join(part for part in [*parts, failures_text(whole)] if part)


def failures_text(rows: Sequence[Row]) -> str:
    """Which sides failed, and of what; "" where none did."""
    failures = [
        f"- {TITLES[name]} on {row.workload}: {side.failure}"
        for row in rows
        for name, side in row.sides.items()
        if side.failure
    ]
    return "\n".join(["Failed:", "", *failures]) if failures else ""


def title(report: Report) -> str:
    """Who wrote a document, when, on what."""
    packages = {MODULES[name]: version for name, version in report.versions.items()}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    part = f" --workloads {report.part}" if report.part else ""
    cpu = f" --cpu {report.cpu}" if report.cpu else ""
    text = f"Written by `python -m benchmarks{cpu}{part}` on {report.date}. {report.machine}. {versions}."
    if report.cpu:
        text += f" All sides are kept to the instructions of {report.cpu}."
    if report.left_out:
        text += f" Left out: {', '.join(f'{name}, not installed' for name in report.left_out)}."
    return text


def joined(*parts: str) -> str:
    """Paragraphs, wrapped; headings, tables and lists as they are."""
    kept = ("#", "|", "Failed:")
    # (Hyphens are part of options and of the names of files.)
    filled = [
        part if part.startswith(kept) else textwrap.fill(part, 120, break_on_hyphens=False) for part in parts if part
    ]
    return "\n\n".join(filled) + "\n"


def text_of(report: Report) -> str:
    """The whole document, but for the notes."""
    blocks = f"{report.blocks} blocks" + (", a quick run" if report.quick else "")
    parts = [
        "# Benchmarks" + (f" with code for {report.cpu}" if report.cpu else ""),
        title(report),
        "Every side computes the same from the same arrays; losses of five steps agree within the workload's "
        "tolerance, or the row says DISAGREE. One process each (the faster of two), on the same cores, in turn; "
        "medians over "
        f"{blocks}, ± half the distance of the quartiles. The limit is the time that the arithmetic at the peak of "
        "fused multiply-adds, or the traffic at the bandwidth of the working set, takes at least.",
        ""
        if report.cpu
        else "[First calls](benchmarks-start.md) of programs that Python loops unroll, and [calls by kind of "
        "argument](benchmarks-calls.md), have documents of their own.",
    ]
    if report.rows:
        names = dict.fromkeys(row.workload for row in report.rows)
        parts += [table(["workload", "what it is"], [[name, MEANING[name]] for name in names], "---")]
    parts += [threads_section(report, threads) for threads in sorted({row.threads for row in report.rows})]
    if report.micro.get("gemm"):
        parts += ["## Matrix products\n\nGFLOP/s, one thread; T: that operand is stored transposed."]
        parts += [micro_table("gemm", report.micro["gemm"]), means(report.micro["gemm"])]
    if report.micro.get("products"):
        parts += [
            "On all threads, each side in a process of its own; adjit's are calls of `jit` functions, with results."
        ]
        parts += [micro_table("products", report.micro["products"]), means(report.micro["products"])]
    if report.micro.get("vector_math"):
        parts += ["## Vector mathematics\n\nns of an element, arrays of 4,096; ratio above 1: adjit is faster."]
        parts += [micro_table("vector_math", report.micro["vector_math"])]
    return joined(*parts)


def write(report: Report, path: Path) -> None:
    """The main document with its notes kept, and the picture beside it."""
    head, _, rest = text_of(report).partition("\n\n## ")
    picture = f"![adjit against the best peer of each row]({path.with_suffix('.png').name})"
    write_text(f"{head}\n\n{picture}\n\n## {rest}" if rest else head, path)
    draw(path)


def write_text(text: str, path: Path) -> None:
    """A document, its notes kept."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    at = before.find(NOTES)
    notes = before[at:] if at >= 0 else NOTES + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n" + notes, encoding="utf-8")
