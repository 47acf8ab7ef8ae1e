"""Engines ask what an op declares, not its name. Where a name is asked for, it stands here with its reason.

`ENGINES` has the ops that a file of an engine knows by name. `REWRITES` are passes that are rules on certain ops: what
they look for is what they are about."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from adjit.ir.op import OPS

COMPILER = Path(__file__).resolve().parent.parent / "compiler" / "adjit"
FOLDERS = ("roll", "autodiff", "passes", "schedule", "codegen")

ENGINES: dict[tuple[str, str], str] = {
    ("autodiff/placed.py", "pad"): "what the derivative of a slice is, whose places it combines",
    ("autodiff/cotangent.py", "not"): "conditions that exclude each other",
    ("autodiff/reach.py", "stop_gradient"): "is what it does: no derivative flows",
    ("autodiff/reverse.py", "select"): "makes the guards that all others hand on",
    ("autodiff/reverse.py", "cumprod"): "the one running op whose other elements are factors",
    ("autodiff/reverse.py", "or lt le gt ge eq"): "conditions that exclude a NaN",
    ("autodiff/signs.py", "cast"): "integers are finite",
    ("passes/orient.py", "transpose broadcast"): "the movement that an order of axes saves",
    ("roll/rebuild.py", "concatenate"): "what joins the values of turns",
    ("schedule/body.py", "stop_gradient cast"): "nothing to compute, where the dtype is the same",
    ("schedule/group.py", "broadcast"): "what a leaf is read through, so that rows and their maps join",
    ("schedule/group.py", "cast"): "the one scalar that joins what it is read by, as it costs nothing there",
    ("schedule/group.py", "pad"): "gaps are no index map",
    ("schedule/lines.py", "windows"): "the view whose lines are laid side by side",
    ("schedule/memory.py", "broadcast transpose"): "a transpose that is read several times is copied",
    ("schedule/normalize.py", "transpose broadcast"): "how axes of size 1 leave their attributes",
    ("schedule/normalize.py", "pad"): "what is left of a pad of nothing",
    ("codegen/straight.py", "stop_gradient"): "nothing to compute",
    ("codegen/straight.py", "pad"): "its value is no operand",
}
MOST = 25

REWRITES = {
    "passes/compose_moves.py": "movement of movement",
    "passes/cse.py": "operands of what commutes are in order",
    "passes/factor.py": "sums of contractions",
    "passes/flatten_branches.py": "branches, which become selects",
    "passes/fold.py": "what constants give",
    "passes/fold_contractions.py": "movement around contractions",
    "passes/fold_windows.py": "products that are added up by windows",
    "passes/forward_parts.py": "broadcasts that are sliced",
    "passes/hoist_broadcasts.py": "broadcasts below elementwise ops",
    "passes/hoist_invariants.py": "broadcasts that loops read",
    "passes/join_pads.py": "sums of pads",
    "passes/leave_loops.py": "sums that are carried",
    "passes/mask_from_result.py": "rectifiers",
    "passes/pattern.py": "the matcher of rules that name ops",
    "passes/rewrite.py": "the engine of rules that name ops",
    "passes/simplify.py": "casts of casts, beside its table of rules",
    "passes/tile.py": "the table of reductions that are taken part by part (ops/tiles)",
    "passes/widen.py": "the table of ops that narrow dtypes go through",
}


def literals(node: ast.expr) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def is_name_of_op(node: ast.expr, names: set[str]) -> bool:
    """`x.op.name`, or a variable that it was assigned to."""
    if isinstance(node, ast.Name):
        return node.id in names
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "name"
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "op"
    )


def assigned(tree: ast.AST) -> set[str]:
    """Variables that have the name of an op."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            unpacked = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts, strict=False) if unpacked else [(target, node.value)]
            found |= {name.id for name, value in pairs if isinstance(name, ast.Name) and is_name_of_op(value, set())}
    return found


def names_asked_for(path: Path) -> set[str]:
    """The ops whose names a file compares with."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    variables = assigned(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and is_name_of_op(node.left, variables):
            asked = set().union(*map(literals, node.comparators))
            found |= asked & set(OPS) if asked else {"?"}
        if isinstance(node, ast.Match) and is_name_of_op(node.subject, variables):
            found |= set().union(*(literals(case.pattern) for case in node.cases)) & set(OPS)  # type: ignore[arg-type]
    return found


def engines() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((COMPILER / folder).rglob("*.py"))]
    return [path for path in paths if path.relative_to(COMPILER).as_posix() not in REWRITES]


@pytest.mark.parametrize("path", engines(), ids=lambda p: p.relative_to(COMPILER).as_posix())
def test_engines_know_few_ops_by_name(path: Path) -> None:
    allowed = {
        name
        for file, names in ENGINES
        if file == path.relative_to(COMPILER).as_posix()
        for name in names.split()
    }  # fmt: skip
    found = names_asked_for(path)
    assert found <= allowed, "declare what is asked for (ops/declare, ir/axes), or give the reason here"
    assert allowed <= found, "no longer asked for"


def test_the_list_is_short_and_right() -> None:
    assert len(ENGINES) <= MOST
    for file, names in ENGINES:
        assert (COMPILER / file).exists()
        assert set(names.split()) <= set(OPS)


@pytest.mark.parametrize("file", REWRITES)
def test_rewrites_are_about_the_ops_that_they_name(file: str) -> None:
    assert names_asked_for(COMPILER / file), "asks for no op: not in the list"


SAMPLE = """
def f(node):
    name, kind = node.op.name, node.op.kind
    if name == "tanh" or node.op.name in ("exp", "nothing"):
        return node.name == "sin"
"""


def test_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(SAMPLE)
    assert names_asked_for(path) == {"tanh", "exp"}
