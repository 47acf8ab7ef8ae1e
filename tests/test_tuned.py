"""Tuned numbers stand in `adjit/tuned` or `adjit_runtime/tuned`, with their reasons, and nowhere else; docs/tuning.md
has a row for each, with its value and what was measured.

What a test can see of that: numbers with a name in capitals at the top of a module. Those that stand elsewhere are in
the table below, each with what fixes it; a number that a measurement chose has no place there.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import adjit
from adjit_runtime import cache
from adjit_runtime import sources as loaded_sources
from tests.test_layers import COMPILER, ROOT, RUNTIME, sources

TUNED = (COMPILER / "tuned.py", RUNTIME / "tuned.py")

# Coefficients and the parts of constants, written by a program that proves their errors.
TABLES = {COMPILER / "ops" / "mathematics" / "coefficients.py"}

# Module -> names -> what fixes them.
DEFINITIONS: dict[str, dict[str, str]] = {
    "compiler/adjit/codegen/call_frame.py": {
        "TYPE NUMBER TUPLE_WORDS": "offsets in objects of CPython",
        "ARRAY_DATA ARRAY_NDIM ARRAY_DIMS ARRAY_DESCR ARRAY_FLAGS C_CONTIGUOUS_ALIGNED": "offsets and flags of NumPy",
        "DESCR_ORDER DESCR_NUMBER": "offsets in descriptors of NumPy",
    },
    "compiler/adjit/codegen/call_trees.py": {"EQUAL": "a number of CPython"},
    "compiler/adjit/codegen/constructors.py": {"_COUNT": "bits of an argument of CPython"},
    "compiler/adjit/codegen/cuts.py": {"BATCH ROWS COLUMNS": "dimensions of a product"},
    "compiler/adjit/codegen/gemm/variants.py": {
        "ACCUMULATE SCRATCH PREFETCH REGISTER_TILES SWAPPED DOTS_A DOTS_B": "bits of the argument `flags`",
        "MOST_PREFETCHED": "words that every caller sets aside before the context",
        "PACKED_UNIT": "how packing memory is shared",
    },
    "compiler/adjit/codegen/pool.py": {
        "FUTEX _WAIT _WAKE SET_AFFINITY GET_AFFINITY GET_CPU": "numbers of Linux",
        "PARTS": "bits of a word",
        "CPU_WORDS": "Linux's usual set of CPUs",
    },
    "compiler/adjit/codegen/emit.py": {"REGISTER_ARGUMENTS": "the calling convention of x86-64 on Linux"},
    "compiler/adjit/codegen/races.py": {"MOST_INTERVALS": "a bound for safety"},
    "compiler/adjit/codegen/sorting/library.py": {"SLACK ALIGN": "how the workspace is laid out"},
    "compiler/adjit/codegen/sorting/quick.py": {
        "DEPTH": "bits of a size",
        "MULTIPLIER INCREMENT": "a generator of random numbers",
    },
    "compiler/adjit/codegen/subnormals.py": {"FLUSH": "bits of control registers"},
    "compiler/adjit/codegen/straight.py": {"_BITS": "types, not numbers"},
    "compiler/adjit/codegen/trial.py": {"CALLS ALONE LEAST": "words of a trial", "MONOTONIC": "a clock of Linux"},
    "compiler/adjit/codegen/run_loop.py": {"FOLD": "the counters of adjit.random"},
    "compiler/adjit/autodiff/loops.py": {"STATES": "a default that users read of"},
    "compiler/adjit/autodiff/signs.py": {"_EXTREMES _POINTS": "where functions are tried"},
    "compiler/adjit/control/bounds.py": {"_COUNTABLE": "a bound for safety"},
    "compiler/adjit/custom/traced.py": {"_MOST_RULES": "a bound for safety"},
    "compiler/adjit/formulas/scalars.py": {"MOST_FACTORS": "what rounding may cost"},
    "compiler/adjit/formulas/expressions.py": {"MOST_TERMS": "a bound for safety", "_EXACT": "how expressions look"},
    "compiler/adjit/formulas/formula.py": {"_MOST_SHOWN": "how the text looks"},
    "compiler/adjit/formulas/special.py": {"_STEP _TERMS": "the error of a quadrature"},
    "compiler/adjit/formulas/terms.py": {"_EXACT_DIGITS": "more than float64 has"},
    "compiler/adjit/sympy_functions.py": {"_MOST_SHOWN": "how the text looks"},
    "compiler/adjit/ir/builder.py": {"SMALL_CONSTANT": "how the text looks"},
    "compiler/adjit/ir/graph.py": {"MOST_NESTED": "a bound for safety", "MOST_SHOWN": "how the text looks"},
    "compiler/adjit/ir/tokens.py": {"_SHOWN": "how an error looks"},
    "compiler/adjit/ir/types.py": {"MOST_DIMENSIONS MOST_BYTES": "NumPy's bounds"},
    "compiler/adjit/ir/text.py": {"HEADER_WIDTH COMMENT_COLUMN": "how the text looks"},
    "compiler/adjit/autodiff/fewer.py": {"MOST_RUNS": "where a search ends"},
    "compiler/adjit/schedule/limit.py": {"MOST_WORSE": "where a search ends"},
    "compiler/adjit/schedule/recompute.py": {"STRETCHES SMALL": "what a search tries"},
    "compiler/adjit/machine.py": {
        "RUNS SECONDS MOST_PASSES": "how long a measurement takes, not what it gives",
        "AGREEMENT": "when two measurements are one",
    },
    "compiler/adjit/rewriting/branches.py": {"_MOST_NESTED": "a bound for safety"},
    "compiler/adjit/rewriting/functions.py": {"_MOST": "a bound for safety"},
    "compiler/adjit/rewriting/source.py": {"_MOST_TREES": "a bound for safety"},
    "compiler/adjit/ops/loops.py": {"MOST_TURNS": "a bound for safety"},
    "compiler/adjit/ops/mathematics/elementary.py": {
        "ROOT_HALF": "mathematics",
        "LOG_EDGES": "an operand of vfixupimm",
    },
    "compiler/adjit/ops/mathematics/trigonometry.py": {
        "LARGE LARGE_F32 PIECES": "where the reduction of the argument is exact"
    },
    "compiler/adjit/passes/pipeline.py": {"ROUNDS LOOP_ROUNDS": "a bound for safety"},
    "compiler/adjit/passes/rewrite.py": {"FUEL": "a bound for safety"},
    "compiler/adjit/profile.py": {"WARM": "how a measurement begins", "RIGHT": "columns of a table"},
    "compiler/adjit/random/__init__.py": {
        "_FOLD _SPLIT _LOWEST": "which counters are whose",
        "_DTYPES": "types, not numbers",
        "_MOST_KEYS": "a bound for safety",
    },
    "compiler/adjit/minimizing/search.py": {
        "LOWER FLATTER _LONGEST _SHORTEST _MARGIN": "constants of the method, as others choose them",
        "_ROUNDING": "what rounding may differ by",
    },
    "compiler/adjit/roll/joins.py": {"OUTSIDE": "the number of no loop"},
    "compiler/adjit/roll/loops.py": {
        "FOLLOWS STAYS DIFFERS NOT": "names of ways",
        "NEAR MOST_TRIED": "bounds for safety",
    },
    "compiler/adjit/roll/reading.py": {"MOST_STEPS": "a bound for safety"},
    "compiler/adjit/schedule/planner.py": {"ROUNDS_ALONE CHAIN": "bounds for safety"},
    "compiler/adjit/schedule/group.py": {"WIDEST": "bytes of AVX-512's vectors"},
    "compiler/adjit/sparse/functions.py": {"SMALL": "what users see"},
    "compiler/adjit/trace/frozen.py": {"_MOST_PARTS _MOST_ITEMS": "bounds for safety"},
    "compiler/adjit/trace/functions/gamma.py": {
        "_EULER _BERNOULLI": "mathematics",
        "_FAR _FACTORS": "where eight terms of the series are enough",
    },
    "compiler/adjit/trace/integers.py": {"LEAST MOST": "the range of int64"},
    "compiler/adjit/trace/locate.py": {"_MOST_PLACES": "a bound for safety"},
    "compiler/adjit/trace/refuse.py": {"_NB_SUBSCR": "an operand of CPython's code"},
    "compiler/adjit/training.py": {"MOST_DEEP": "a bound for safety"},
    "runtime/adjit_runtime/call.py": {"SIGNATURES_TO_WARN": "what users see"},
    "runtime/adjit_runtime/call_trees.py": {"_KINDS": "words of the native entry"},
    "runtime/adjit_runtime/constructors.py": {
        "_NEW _FINALIZE _VECTORCALL": "offsets in classes of CPython",
        "_SLOT_CALL _SLOT_NEW _SLOT_FINALIZE _SLOT_VECTORCALL": "numbers of CPython",
    },
    "runtime/adjit_runtime/guests.py": {"_MOST_DIMENSIONS": "NumPy's bound"},
    "runtime/adjit_runtime/trees.py": {"MOST_SIGNATURES": "a bound for safety"},
    "runtime/adjit_runtime/checkpoint.py": {"MOST_MAPPINGS": "a bound for safety"},
    "compiler/adjit/optim/matrices.py": {"_QUINTIC": "the polynomial of a paper"},
    "runtime/adjit_runtime/variety.py": {"_SHOWN": "how a warning looks"},
    "runtime/adjit_runtime/cache.py": {
        "_DIGEST": "bytes of SHA-256",
        "ABANDONED_SECONDS": "longer than any write takes",
    },
    "runtime/adjit_runtime/checks.py": {"LOWEST HIGHEST": "the range of int64", "_UNITS": "units of bytes"},
    "runtime/adjit_runtime/environment.py": {"_SHOWN": "what fits a line"},
    "runtime/adjit_runtime/guard.py": {"_FASTCALL _ONE_ARGUMENT": "flags of CPython"},
    "runtime/adjit_runtime/history.py": {
        "_CURVE_POINTS _CURVE_WIDTH _CURVE_HEIGHT _MOST_CURVES": "how a picture looks"
    },
    "runtime/adjit_runtime/link.py": {
        "_RELOCATABLE _X86_64 _PROGBITS _SYMTAB _RELA _NOBITS _UNWIND _WRITE _ALLOC _THREADS_OWN _UNDEFINED _ADDRESS "
        "_DISTANCE _CALL _SLOTS": "numbers of ELF",
    },
    "runtime/adjit_runtime/load.py": {
        "PAGE": "bytes of a page",
        "_DATA": "a layout",
    },
    "runtime/adjit_runtime/native.py": {
        "MOST_LEAVES": "a bound for safety",
        "_METH _NEW_FROM_DESCR _RETURN _NEW_COPY": "numbers of CPython and NumPy",
        "_KINDS_OF_NUMBERS": "words of the native entry",
    },
    "runtime/adjit_runtime/program.py": {
        "ALIGN INTERRUPTED": "the contract of the arena and of the entry",
        "MOST_DIMENSIONS MOST_CONSTRUCTORS POOL_WORDS POOL_SIZE": "layout of what the runtime and machine code share",
    },
    "runtime/adjit_runtime/runs.py": {"_MOST_STEPS": "a bound for safety"},
    "runtime/adjit_runtime/target.py": {
        "_DEFAULT_CACHES": "sizes of caches where the system does not tell",
        "LINE": "bytes of a line of cache",
        "LLVMLITE": "a version",
    },
    "runtime/adjit_runtime/state.py": {"CLOSED TORN": "what a word says"},
    "runtime/adjit_runtime/threads.py": {
        "MOST_THREADS": "the contract of set_threads",
        "_ENDING": "what a word says",
    },
}


def is_number(value: ast.expr) -> bool:
    """Whether an expression is made of numbers alone, or is a tuple, set, list or dict of such."""
    match value:
        case ast.Constant():
            return isinstance(value.value, int | float) and not isinstance(value.value, bool)
        case ast.Name():
            return value.id.isupper()
        case ast.UnaryOp():
            return is_number(value.operand)
        case ast.BinOp():
            return is_number(value.left) and is_number(value.right)
        case ast.Tuple() | ast.List() | ast.Set():
            return bool(value.elts) and all(map(is_number, value.elts))
        case ast.Dict():
            return bool(value.values) and all(map(is_number, value.values))
    return False


def numbers_of(text: str) -> list[str]:
    """Names in capitals at the top of a module that are bound to numbers."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            targets = [name for target in node.targets for name in getattr(target, "elts", [target])]
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if node.value is not None and is_number(node.value):
            found += [name.id for name in targets if isinstance(name, ast.Name) and name.id.isupper()]
    return found


def modules() -> list[Path]:
    return [path for path in sources() if path not in TUNED and path not in TABLES]


def defined_in(path: Path) -> set[str]:
    rows = DEFINITIONS.get(path.relative_to(ROOT).as_posix(), {})
    return {name for names in rows for name in names.split()}


def tuned_names(path: Path) -> set[str]:
    return set(numbers_of(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_tuned_numbers_stand_in_one_place(path: Path) -> None:
    found = set(numbers_of(path.read_text(encoding="utf-8")))
    assert found - defined_in(path) == set(), "move it to tuned.py, or say in the table what fixes it"
    assert defined_in(path) - found == set(), "the table names what is not there"


def test_the_table_names_modules_that_there_are() -> None:
    assert set(DEFINITIONS) <= {path.relative_to(ROOT).as_posix() for path in modules()}


@pytest.mark.parametrize("path", TUNED, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_tuned_number_has_its_reason(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert said, f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)} without a docstring"


def values_of(text: str) -> dict[tuple[str, ...], str]:
    """What is bound at the top of a module of tuned numbers -> its value, written one way."""
    values = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names = tuple(ast.unparse(name) for name in getattr(target, "elts", [target]))
            values[names] = ast.unparse(node.value)
    return values


def rows_of(text: str) -> list[list[str]]:
    """The cells of the rows of the tables of docs/tuning.md that are about numbers."""
    return [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]


def test_the_page_has_every_tuned_number_with_its_value() -> None:
    rows = rows_of((ROOT / "docs" / "tuning.md").read_text(encoding="utf-8"))
    assert [row for row in rows if len(row) != 5 or not all(cell.strip() for cell in row)] == []
    shown = [
        (tuple(re.findall(r"`(\w+)`", names)), ast.unparse(ast.parse(value.strip().strip("`"), mode="eval")))
        for names, value, *_ in rows
    ]
    assert shown == [item for path in TUNED for item in values_of(path.read_text(encoding="utf-8")).items()]


@pytest.mark.parametrize("path", TUNED, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_tuned_number_is_read(path: Path) -> None:
    readers = [p for p in sources() if p not in TUNED and (RUNTIME in p.parents) == (RUNTIME in path.parents)]
    read = {
        node.id
        for reader in readers
        for node in ast.walk(ast.parse(reader.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    assert not tuned_names(path) - read


@pytest.mark.parametrize("path", TUNED, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_changed_number_is_another_cache_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(adjit.__file__).parent == COMPILER
    before = cache.loaded_code.__wrapped__()
    monkeypatch.setitem(loaded_sources._STATES, str(path), "another state")
    assert cache.loaded_code.__wrapped__() != before


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("TILE = 1 << 4", ["TILE"]),
        ("_WAIT: float = -0.5", ["_WAIT"]),
        ("LOW, HIGH = 1, 2", ["LOW", "HIGH"]),
        ("ROWS = (24, HIGH)", ["ROWS"]),
        ("BY_WIDTH = {16: (4, 2), 32: 8}", ["BY_WIDTH"]),
        ("ON = True", []),
        ("NAMES = ('a', 'b')", []),
        ("INF = float('inf')", []),
        ("rows = 3", []),
        ("def f():\n    ROWS = 3", []),
    ],
)
def test_the_rule_sees_what_it_should(text: str, names: list[str]) -> None:
    assert numbers_of(text) == names
