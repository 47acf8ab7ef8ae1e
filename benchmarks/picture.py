"""The picture of a document of the benchmarks: bars of the ratios that its tables have, so that both always agree.

python -m benchmarks.picture [docs/benchmarks.md ...]     draws again what was measured
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

RATIO = "adjit / best peer"
_KINDS = {"Steps a second, one call": "one call a step", "Steps a second of a compiled loop": "loop"}
_KEY = "Description"


class Bar(NamedTuple):
    """A row: its name, adjit's rate over that of the best peer, and which that is."""

    label: str
    ratio: float
    peer: str


def bars_of(text: str) -> list[Bar]:
    """The rows of the tables of steps and of loops that have a ratio; the best peer is the bold one."""
    found: list[Bar] = []
    threads = kind = ""
    head: list[str] = []
    for line in text.splitlines():
        if line.startswith("## "):
            threads = line[3:] if re.fullmatch(r"## \d+ threads?", line) else ""
        if not line.startswith("|"):
            head = []
            kind = next((words for begin, words in _KINDS.items() if line.startswith(begin)), kind if not line else "")
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not head:
            head = cells
            continue
        if not (threads and kind and RATIO in head) or cells[0] == "---":
            continue
        bold = next((name for name, cell in zip(head, cells, strict=True) if cell.startswith("**")), "")
        ratio = cells[head.index(RATIO)]
        if bold and re.fullmatch(r"[\d.]+", ratio):
            found.append(Bar(f"{cells[0]}, {kind}, {threads}", float(ratio), bold))
    return found


def draw(document: Path) -> bool:
    """Draw the picture beside a document; False where it has no bars, or there is no Matplotlib."""
    bars = bars_of(document.read_text(encoding="utf-8"))
    try:
        import matplotlib
    except ImportError:
        return False
    if not bars:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8, 0.3 * len(bars) + 1.2), layout="constrained")
    shown = bars[::-1]
    colours = ["#3b7dd8" if bar.ratio >= 1 else "#c8553d" for bar in shown]
    axes.barh([bar.label for bar in shown], [bar.ratio for bar in shown], color=colours)
    for at, bar in enumerate(shown):
        axes.annotate(f" {bar.ratio:.2f} of {bar.peer}", (bar.ratio, at), va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.01)
    axes.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("adjit's rate over that of the best peer (log scale)")
    axes.tick_params(axis="y", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(document.with_suffix(".png"), dpi=130, metadata={_KEY: said(bars), "Software": None})
    pyplot.close(figure)
    return True


def said(bars: Sequence[Bar]) -> str:
    """The bars as text, which the picture carries."""
    return "; ".join(f"{bar.label}: {bar.ratio:.2f} of {bar.peer}" for bar in bars)


def carried(picture: bytes) -> str:
    """The text that a picture carries (PNG's chunks tEXt and iTXt)."""
    at = 8
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        if kind in (b"tEXt", b"iTXt") and data.startswith(_KEY.encode() + b"\0"):
            return data[len(_KEY) + 1 :].lstrip(b"\0").decode("latin-1" if kind == b"tEXt" else "utf-8")
        at += 12 + size
    return ""


if __name__ == "__main__":
    for name in sys.argv[1:] or ["docs/benchmarks.md"]:
        sys.exit(0 if draw(Path(name)) else f"{name} has no ratios, or Matplotlib is not there")
