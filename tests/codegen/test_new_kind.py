"""A kind of work is added at one place: a toy that calls a function of LAPACK by address goes through a plan's text,
the verifiers, machine code, nesting, `profile` and `explain` with its class, its emitter and the reader of its text."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.linalg import cython_lapack

from adjit import profile as profiles
from adjit.codegen.emit import assemble, write
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.kernels import EMITTERS
from adjit.codegen.llvm import I8, I32, I64, PTR, VOID, Function, Value, int_literal, literal
from adjit.codegen.races import verify_jobs
from adjit.ir.types import F64
from adjit.schedule.buffer import Params
from adjit.schedule.parse import parse_plan
from adjit.schedule.parse_work import KINDS, Head
from adjit.schedule.plan import Plan
from adjit.schedule.text import print_plan
from adjit.schedule.touches import Touch
from adjit.schedule.verify import verify_plan
from adjit.schedule.work import Single, Work
from adjit.stages import Options
from adjit_runtime import load
from adjit_runtime.errors import InternalError, NotFiniteError
from adjit_runtime.program import Check
from adjit_runtime.target import host_target


def address_of(name: str) -> int:
    """Where a function of LAPACK is, as SciPy has it."""
    capsule = cython_lapack.__pyx_capi__[name]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer_of(capsule, name_of(capsule)))


@dataclass(frozen=True, slots=True)
class Factor(Single):
    """The lower Cholesky factor of a matrix of n rows in its own place; what is above the diagonal stays. Leaves the
    program with `number` + 1 where there is none."""

    n: int
    number: int

    MATRIX: ClassVar[int] = 0
    operands: ClassVar[int] = 1
    in_order: ClassVar[bool] = True

    @property
    def reads(self) -> Collection[int]:
        return {self.MATRIX}

    @property
    def writes(self) -> Collection[int]:
        return {self.MATRIX}

    @property
    def extents(self) -> tuple[int, ...]:
        return self.n, self.n

    @property
    def may_fail(self) -> bool:
        return True

    @property
    def reports(self) -> bool:
        return True

    def takes(self, given: tuple[np.dtype, ...]) -> bool:
        return given == (F64,)

    def touches(self) -> Iterator[Touch]:
        for writes in (False, True):
            yield Touch(self.MATRIX, F64, 0, self.extents, (8 * self.n, 8), writes)

    def head(self, places: Sequence[str]) -> str:
        return f"factor n={self.n} {places[self.MATRIX]} check {self.number}"

    def describe(self) -> str:
        return f"Cholesky factor {self.n}x{self.n}"

    def explain(self) -> str:
        return "A function of LAPACK, which nothing joins."

    def why_apart(self, writer: Work, mine: Collection[int]) -> str:
        return "factors it"

    @property
    def flops(self) -> float:
        return self.n**3 / 3

    @property
    def itemsize(self) -> int:
        return 8

    def nbytes(self, params: Params) -> float:
        return 2.0 * params[self.MATRIX][0].nbytes


class FactorEmitter(Emitter[Factor]):
    """A call of dpotrf, to which rows are columns: its upper factor is our lower one."""

    def is_glue(self, work: Factor, how: How) -> bool:
        return True

    def write(self, f: Function, params: Sequence[Value], name: str, work: Factor, how: How) -> None:
        matrix, report = params
        uplo, n, info = f.alloca(I8, 1), f.alloca(I32, 1), f.alloca(I32, 1)
        f.store(literal(I8, ord("U")), uplo)
        f.store(literal(I32, work.n), n)
        function = Value(PTR, f"inttoptr (i64 {address_of('dpotrf')} to ptr)")
        f.call_pointer(function, VOID, [uplo, n, matrix, n, info])
        found = f.load(info, I32)
        bad = f.compare("ne", found, literal(I32, 0))
        f.return_if(bad, int_literal(work.number + 1), lambda: f.store(f.convert("sext", found, I64), report))


def read_factor(head: Head) -> None:
    """`factor n=5 %a check 0`."""
    reader = head.reader
    reader.expect("word", "n")
    reader.expect("sign", "=")
    n = reader.natural()
    head.params = [head.place()]
    reader.expect("word", "check")
    head.bare = Factor(n, reader.natural())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "factor", read_factor)
    monkeypatch.setitem(EMITTERS, Factor, FactorEmitter())


CHECK = 'check 0 raises "NotFiniteError" "no factor at row " value ""'

TURN = f"""\
plan @factored  arena 0 bytes (0 without reuse), peak 0 bytes
buffer %x : f64[3,3] input slot 0
buffer %result0 : f64[3,3] output slot 1
{CHECK}
kernel 0 loop over (9)
    v0 = load %x[d0] : f64
    store v0 -> %result0[d0] : f64
kernel 1 factor n=3 %result0 check 0
"""

LOOP = f"""\
plan @all  arena 0 bytes (0 without reuse), peak 0 bytes
buffer %x : f64[4,3,3] input slot 0
buffer %result0 : f64[4,3,3] output slot 1
buffer %scratch : f64[0] arena+0  kernels 0..0
check 0 raises "NotFiniteError" "no factor at row " value "" loop "model.py:3"
kernel 0 4 turns checks 0 on %x by 9 %result0 by 9 %scratch {{
{"".join(f"    {line}{chr(10)}" for line in TURN.splitlines())}}}
"""


def called(plan: Plan, x: np.ndarray) -> np.ndarray:
    """What the program of a plan gives."""
    target = host_target()
    verify_plan(plan)
    verify_jobs(plan, target)
    loaded = load.Loaded(assemble(write(plan, target)), target)
    arena, result, report = loaded.borrow_arena(), np.zeros_like(x), np.zeros(2, np.int64)
    table = (ctypes.c_void_p * 2)(x.ctypes.data, result.ctypes.data)
    status = loaded.entry(ctypes.addressof(table), load.address_of(arena), load.address_of(report))
    if status:
        raise loaded.failure(status, report)
    return result


def definite(*shape: int) -> np.ndarray:
    a = np.random.default_rng(5).normal(size=shape)
    return a @ np.swapaxes(a, -1, -2) + 3 * np.eye(shape[-1])


def assert_factors(found: np.ndarray, x: np.ndarray) -> None:
    wanted = np.linalg.cholesky(x)
    np.testing.assert_allclose(np.tril(found), wanted, rtol=1e-13)  # NumPy has a LAPACK of its own


@pytest.mark.parametrize("text", [TURN, LOOP], ids=["alone", "in a loop"])
def test_its_text_parses_back(text: str) -> None:
    assert print_plan(parse_plan(text)) == text


def test_it_computes_what_the_function_does() -> None:
    x = definite(3, 3)
    assert_factors(called(parse_plan(TURN), x), x)


def test_it_runs_in_a_loop() -> None:
    x = definite(4, 3, 3)
    assert_factors(called(parse_plan(LOOP), x), x)


def test_where_it_fails_the_check_says_so() -> None:
    with pytest.raises(NotFiniteError, match="no factor at row 1"):
        called(parse_plan(TURN), -np.eye(3))
    x = definite(4, 3, 3)
    x[2, 1, 1] = -1
    with pytest.raises(NotFiniteError, match="no factor at row 2"):
        called(parse_plan(LOOP), x)


def test_the_verifiers_know_what_it_touches() -> None:
    with pytest.raises(InternalError, match="kernel 1 reaches elements 0 to 15 of %result0, which has 9"):
        verify_plan(parse_plan(TURN.replace("factor n=3", "factor n=4")))
    with pytest.raises(InternalError, match="kernel 1 is not given what its work takes"):
        verify_plan(parse_plan(TURN.replace("f64", "f32")))
    shared = LOOP.replace("4 turns checks 0", "4 turns in 2 groups checks 0").replace("%result0 by 9", "%result0")
    with pytest.raises(InternalError, match="threads share kernel 0, whose turns come in order"):
        verify_plan(parse_plan(shared))
    with pytest.raises(InternalError, match="one part touches what another one writes in %result0"):
        verify_jobs(parse_plan(shared), host_target())


def test_profile_and_explain_describe_it() -> None:
    plan, options = parse_plan(TURN), Options(target=host_target())
    planned = SimpleNamespace(plan=plan)
    record: Any = SimpleNamespace(options=options, made=lambda _: planned, until=lambda _: {"plan": planned})
    table = profiles.profile(record, "factored", [definite(3, 3)], calls=3)
    assert [row.what for row in table.rows] == ["loop over 9", "Cholesky factor 3x3"]
    assert (table.rows[1].work.flops, table.rows[1].work.nbytes) == (9.0, 144.0)
    assert plan.checks == (Check("NotFiniteError", "no factor at row ", ""),)


def test_explain_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "reasons_against", lambda graph: [])
    planned = SimpleNamespace(plan=parse_plan(TURN), note="")
    made = {"plan": planned, "passes": None}
    record: Any = SimpleNamespace(options=Options(target=host_target()), forward=True, until=lambda _: made)
    text = str(profiles.explain(record, "factored"))
    assert "kernel 1: Cholesky factor 3x3\n    A function of LAPACK, which nothing joins." in text
    assert "On one thread: its elements come one after the other." in text
