"""Sorting in machine code: the bits of NumPy's stable sort, of every size, pattern and way that rows lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen.races import verify_jobs
from adjit.codegen.sorting.bitonic import exchanges
from adjit.schedule.parse import parse_plan
from adjit.schedule.plan import Plan
from adjit.schedule.text import print_plan
from adjit.schedule.verify import verify_plan
from adjit_runtime.errors import InternalError
from adjit_runtime.target import Target, host_target
from tests.codegen.running import Ran
from tests.ops.samples import Case, graph_of
from tests.ops.test_compiled import targets

SPECIAL = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.0, -1.0, 5e-324, 2.0]

# Short rows that lie side by side, apart and neither; more rows than lanes, fewer; rows of several blocks.
SHAPES = [((1,), 0), ((2, 3), 1), ((5, 13), 1), ((20, 9), 0), ((3, 8, 11), 1), ((2, 4, 3), 1), ((3, 64), 1),
          ((1, 40), 1), ((200, 2), 0), ((2, 70), 1)]  # fmt: skip


def drawn(dtype: np.dtype, shape: tuple[int, ...], ties: bool) -> np.ndarray:
    rng = np.random.default_rng((len(shape), *shape))
    if dtype.kind != "f":
        low, high = (0, 5) if ties else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return rng.integers(low, high, shape, dtype, endpoint=True)
    x = rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.6, rng.choice(SPECIAL, shape), x).astype(dtype) if ties else x.astype(dtype)


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("name", ["float64", "float32", "int64", "int32", "uint64"])
def test_rows_of_any_layout(name: str, target: Target) -> None:
    cases = [
        Case(op, (drawn(np.dtype(name), shape, ties),), {"axis": axis})
        for shape, axis in SHAPES
        for ties in (False, True)
        for op in ("sort", "argsort")
    ]
    ran = Ran(graph_of(cases), [case.arrays[0] for case in cases], target)
    for case, found in zip(cases, ran.outputs, strict=True):
        meaning = np.sort if case.op == "sort" else np.argsort
        wanted = meaning(case.arrays[0], axis=case.attrs["axis"], kind="stable")
        assert found.tobytes() == wanted.tobytes(), case


PATTERNS: dict[str, Any] = {
    "random": lambda rng, n: rng.normal(size=n),
    "in order": lambda rng, n: np.sort(rng.normal(size=n)),
    "backwards": lambda rng, n: np.arange(n)[::-1],
    "one value": lambda rng, n: np.zeros(n),
    "the largest": lambda rng, n: np.full(n, np.nan),
    "two values": lambda rng, n: rng.integers(0, 2, n),
    "few values": lambda rng, n: rng.integers(0, 9, n),
    "a pipe": lambda rng, n: np.abs(np.arange(n) - n / 2),
    "special": lambda rng, n: rng.choice(SPECIAL, n),
}


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("n", [129, 257, 1000, 5001])
def test_long_rows(n: int, target: Target) -> None:
    rng = np.random.default_rng(n)
    rows = np.stack([make(rng, n) for make in PATTERNS.values()]).astype(np.float64)
    cases = [Case(op, (x,), {"axis": 1}) for x in (rows, rows.astype(np.float32)) for op in ("sort", "argsort")]
    ran = Ran(graph_of(cases), [case.arrays[0] for case in cases], target)
    for case, found in zip(cases, ran.outputs, strict=True):
        meaning = np.sort if case.op == "sort" else np.argsort
        assert found.tobytes() == meaning(case.arrays[0], axis=1, kind="stable").tobytes(), case


@pytest.mark.parametrize("shape", [(400, 30), (64, 900), (3, 20, 700)])
def test_threads_do_not_change_a_bit(shape: tuple[int, ...]) -> None:
    x = drawn(np.dtype(np.float64), shape, True)
    f = adjit.jit(lambda x: (np.sort(x, axis=1), np.argsort(x, axis=1)))
    before = adjit.get_threads()
    try:
        for threads in (1, 2, 3):
            adjit.set_threads(threads)
            found = f(x)
            assert found[0].tobytes() == np.sort(x, axis=1, kind="stable").tobytes()
            assert found[1].tobytes() == np.argsort(x, axis=1, kind="stable").tobytes()
    finally:
        adjit.set_threads(before)


def test_turns_that_threads_share() -> None:
    """Each group has a workspace of its own."""
    x = drawn(np.dtype(np.float64), (600, 300), False)
    f = adjit.jit(lambda x: adjit.map(lambda row: np.sort(np.exp(np.sort(row))) * np.argsort(row), x))
    wanted = np.exp(np.sort(x)) * np.argsort(x, kind="stable")
    np.testing.assert_allclose(f(x), wanted, rtol=1e-14)


@pytest.mark.parametrize("n", range(1, 18))
def test_the_network_sorts_zeros_and_ones(n: int) -> None:
    """Then it sorts anything (Knuth, volume 3, theorem Z)."""
    for bits in range(1 << n) if n < 11 else range(0, 1 << n, 37):
        row = [bits >> i & 1 for i in range(n)]
        for a, b in exchanges(n):
            row[a], row[b] = min(row[a], row[b]), max(row[a], row[b])
        assert row == sorted(row)


PLAN = """\
plan @sorted  arena 0 bytes (0 without reuse), peak 0 bytes
buffer %x : f64[300,40] input slot 0
buffer %result0 : f64[300,40] output slot 1
buffer %result1 : i64[300,40] output slot 2
kernel 0 sort f64 (300,40,1) %x -> %result0
kernel 1 argsort f64 (1,300,40) %x -> %result1
"""


def plan_of(text: str) -> Plan:
    plan = parse_plan(text)
    verify_plan(plan)
    verify_jobs(plan, host_target())
    return plan


def test_a_plan_parses_back() -> None:
    assert print_plan(plan_of(PLAN)) == PLAN


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ("(300,40,1)", "(300,41,1)", "reaches elements"),
        ("kernel 0 sort f64", "kernel 0 sort f32", "not given what its work takes"),
        ("kernel 0 sort", "kernel 0 argsort", "not given what its work takes"),
    ],
)
def test_a_wrong_plan_is_refused(before: str, after: str, match: str) -> None:
    with pytest.raises(InternalError, match=match):
        plan_of(PLAN.replace(before, after))


def test_explain_names_it() -> None:
    f = adjit.jit(lambda x: np.sort(np.exp(x)))
    x = drawn(np.dtype(np.float32), (50, 20), False)
    assert "sort of 50 x 20 f32" in str(f.explain(x))
    assert "A network sorts as many rows at once" in str(f.explain(x))
