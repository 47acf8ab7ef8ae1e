"""Which kind a work is, engines do not ask: what differs from kind to kind is a method of its class, or stands in a
table by kind. A function may ask for one kind; a ladder of several stands in the emitters alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from adjit.codegen.kernels import EMITTERS
from adjit.schedule.turns import Nested, Straight, StraightLoop

ROOT = Path(__file__).resolve().parent.parent / "compiler" / "adjit"
KINDS = {kind.__name__ for kind in (*EMITTERS, Nested, Straight, StraightLoop)}

LADDERS = {
    ("codegen/emit.py", "_function"): "the emitters of loops",
    ("codegen/emit.py", "ranges_of"): "the emitters of loops",
}
"""Functions that ask for several kinds, each with its reason."""


def asked(function: ast.FunctionDef) -> Iterator[str]:
    """The kinds of work that a function asks for, but where it asserts."""
    waiting: list[ast.AST] = [function]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assert):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            subject, kinds = node.args
            if "work" in ast.unparse(subject):
                yield from ({name.id for name in ast.walk(kinds) if isinstance(name, ast.Name)} & KINDS)
        waiting.extend(ast.iter_child_nodes(node))


def ladders(source: str) -> dict[str, set[str]]:
    """Functions of a module that ask for several kinds of work."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    found = {function.name: set(asked(function)) for function in functions}
    return {name: kinds for name, kinds in found.items() if len(kinds) > 1}


def test_no_engine_asks_which_kind_a_work_is() -> None:
    found = {
        (str(path.relative_to(ROOT)), name) for path in sorted(ROOT.rglob("*.py")) for name in ladders(path.read_text())
    }
    assert found == LADDERS.keys(), "a method of the kinds of work, or a table by kind, says what differs"


def test_a_ladder_is_found() -> None:
    source = "def f(work):\n    if isinstance(work, Product): return 1\n    return isinstance(work, Loop | Nested)\n"
    assert ladders(source) == {"f": {"Product", "Loop", "Nested"}}
    assert not ladders("def f(work):\n    assert isinstance(work, Product)\n    return isinstance(work, Loop)\n")
