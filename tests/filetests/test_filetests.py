"""Runs `*.ir`: each case is a graph, the steps that it goes through, and what must come out; `--bless` rewrites that.

A step is a pass, all of them (`optimize`), `forward`, `beside`, `reverse`, `batched`, `in_chunks`, `tile`, or the last
of all: `plan`, which gives the plan, and `llvm`, which gives the LLVM text of that. These are of `texts.WIDE`, whatever
machine this is.

; what the case shows, in any number of lines
; run: simplify eliminate_dead
graph @f(...) ...
; expect:
; graph @f(...) ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.schedule.texts import WIDE, assert_comes_back, plan_for

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.autodiff.batch import batch
from adjit.autodiff.chunks import batch_in_chunks
from adjit.autodiff.forward_mode import jvp
from adjit.autodiff.reverse import vjp
from adjit.codegen.emit import write
from adjit.ir.equal import equal
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.ir.types import is_float
from adjit.ir.verify import verify
from adjit.passes.across import across
from adjit.passes.inline_calls import inline_calls
from adjit.passes.pipeline import PIPELINE, optimize, simplify_reals
from adjit.passes.tile import tile
from adjit.passes.untie import untie
from adjit.passes.widen import widen
from adjit.schedule.text import print_plan

HERE = Path(__file__).parent
RUN, EXPECT = "; run:", "; expect:"


def forward(graph: Graph) -> Graph:
    """The jvp by every float input."""
    return jvp(graph, [i for i, node in enumerate(graph.inputs) if is_float(node.dtype)])


def beside(graph: Graph) -> Graph:
    """The same, with loops of tangents beside those of values."""
    return jvp(graph, [i for i, node in enumerate(graph.inputs) if is_float(node.dtype)], joint=False)


def reverse(graph: Graph) -> Graph:
    """The adjoint with respect to every float input."""
    return vjp(graph, [i for i, node in enumerate(graph.inputs) if is_float(node.dtype)])


def batched(graph: Graph) -> Graph:
    """Five values of the first input, along axis 0."""
    return batch(graph, [0, *[None] * (len(graph.inputs) - 1)], 5).graph


def in_chunks(graph: Graph) -> Graph:
    """The same, two of them at once."""
    return batch_in_chunks(graph, [0, *[None] * (len(graph.inputs) - 1)], 5, 2).graph


STEPS: dict[str, Callable[[Graph], Graph]] = {
    step.__name__: step
    for step in (
        inline_calls,
        widen,
        untie,
        across,
        *PIPELINE,
        simplify_reals,
        optimize,
        forward,
        beside,
        reverse,
        batched,
        in_chunks,
        tile,
    )
}


def plan(graph: Graph) -> str:
    """The plan, which comes back from its text."""
    found = plan_for(graph, WIDE)
    assert_comes_back(found, WIDE)
    return print_plan(found)


def llvm(graph: Graph) -> str:
    """The LLVM text."""
    return write(plan_for(graph, WIDE), WIDE).llvm


LAST: dict[str, Callable[[Graph], str]] = {"plan": plan, "llvm": llvm}
"""Steps that give another text than a graph's."""


@dataclass
class Case:
    """One case: its place, comment, steps, input text and expected text."""

    path: Path
    line: int
    comment: list[str]
    steps: list[str]
    text: str
    expected: str

    @property
    def name(self) -> str:
        return f"{self.path.stem}:{self.line}"

    def outcome(self) -> str:
        graph = parse(self.text)
        verify(graph)
        *steps, last = self.steps
        for step in steps if last in LAST else self.steps:
            graph = STEPS[step](graph)
            verify(graph)
        if last in LAST:
            return LAST[last](graph)
        printed = str(graph)
        again = parse(printed)
        assert str(again) == printed
        assert equal(again, graph)
        return printed

    def blessed(self) -> list[str]:
        expected = [f"; {line}".rstrip() for line in self.outcome().splitlines()]
        return [*self.comment, f"{RUN} {' '.join(self.steps)}", *self.text.splitlines(), EXPECT, *expected, ""]


def cases(path: Path) -> list[Case]:
    found: list[Case] = []
    comment: list[str] = []
    part = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith(RUN):
            found.append(Case(path, number, comment, line.removeprefix(RUN).split(), "", ""))
            comment, part = [], "text"
        elif line.startswith(EXPECT):
            part = "expected"
        elif part == "expected" and line.startswith(";"):
            found[-1].expected += line.removeprefix(";").removeprefix(" ") + "\n"
        elif not line:
            part = ""
        elif part == "text":
            found[-1].text += line + "\n"
        else:
            comment.append(line)
    return found


FILES = sorted(HERE.glob("*.ir"))


@pytest.mark.parametrize("case", [case for path in FILES for case in cases(path)], ids=lambda case: case.name)
def test_a_case_gives_what_it_expects(case: Case, bless: bool) -> None:
    if bless:
        pytest.skip("the files are being rewritten")
    assert case.outcome() == case.expected, f"{case.path}:{case.line}: run `make bless` and read the difference"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_as_bless_writes_it(path: Path, bless: bool) -> None:
    text = "\n".join(line for case in cases(path) for line in case.blessed())
    if bless:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_every_pass_has_a_file() -> None:
    names = {step.__name__ for step in (inline_calls, widen, *PIPELINE)}
    assert names <= {path.stem for path in FILES}
