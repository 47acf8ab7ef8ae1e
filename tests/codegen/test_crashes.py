"""No input ends the process: not in LLVM while code is made, not in machine code beside what it may touch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import stages
from adjit.codegen.llvm import I1, I8, I32, I64, Module, Value, int_literal, literal
from adjit_runtime.errors import InternalError, ShapeError, WeakOverflowError
from adjit_runtime.target import host_target
from tests.codegen.guards import WAYS

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> None:
    """A module in a process of its own; what it said last names what failed."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("compiler", "runtime", "."))
    command = [sys.executable, "-W", "error", "-m", *arguments]
    made = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    last = made.stdout.strip().splitlines()[-1:]
    assert (made.returncode, last) == (0, ["done"]), f"{last} ended with {made.returncode}\n{made.stderr[-3000:]}"


@pytest.mark.skipif(not host_target().triple.startswith("x86"), reason="for x86")
@pytest.mark.parametrize("cpu", ["x86-64", "haswell", "x86-64-v4"])
def test_light_kernels_of_all_ops(cpu: str) -> None:
    """They are compiled without optimisation, which is another path through LLVM than all others take."""
    run("tests.codegen.glue", cpu)


@pytest.mark.skipif(sys.platform != "linux", reason="maps pages as Linux has them")
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_touched_beside_a_buffer(way: str) -> None:
    run("tests.codegen.guards", way, "0", "13")


def test_glue_has_no_vectors_of_bytes_and_no_known_masks() -> None:
    module = Module("test")
    glue = module.function("glue", I64, [(I64, "i")], glue=True)
    mask = Value(I1.vector(4), "<i1 true, i1 true, i1 true, i1 false>")
    wide = glue.splat(glue.params[0], 4)
    chosen = glue.binary("and", mask, glue.compare("slt", wide, glue.splat(int_literal(7), 4)))
    assert mask.ref not in str(glue)
    assert "i64 7)" in str(glue), "a known index is opaque"
    with pytest.raises(InternalError, match="glue has the type <4 x i8>"):
        glue.convert("zext", chosen, I8.vector(4))
    plain = module.function("plain", I64, [(I64, "i")])
    plain.binary("and", mask, mask)
    assert mask.ref in str(plain)


@pytest.mark.parametrize(
    ("ty", "value"),
    [(I1, 2), (I1, -1), (I8, 256), (I8, -129), (I32, 2**40), (I64, 2**64), (I64, -(2**63) - 1), (I32, 0.5)],
)
def test_a_literal_that_does_not_fit_is_no_text(ty: Any, value: Any) -> None:
    with pytest.raises(InternalError, match="does not fit"):
        literal(ty, value)


def test_literals_have_the_bits_of_their_values() -> None:
    assert [literal(I8, v).ref for v in (255, -128, 127)] == ["-1", "-128", "127"]
    assert [literal(I1, v).ref for v in (True, 0)] == ["1", "0"]
    assert literal(I64, 2**64 - 1).ref == "-1"
    for size in (2**63, -(2**63) - 1):
        with pytest.raises(InternalError, match="does not fit i64"):
            int_literal(size)


def test_text_that_llvm_refuses_is_an_error_that_shows_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    write = stages.write
    monkeypatch.setattr(stages, "write", lambda *args: replace(write(*args), llvm="define i64 @f() { ret i64 nan }"))
    with pytest.raises(InternalError, match=r"(?s)LLVM IR parsing error.*The graph:\ngraph @.*add %x, 1"):
        adjit.jit(lambda x: x + 1.0)(np.ones(1000))


BYTES = np.arange(6, dtype=np.uint8)
TOO_LARGE = {
    "repeat": lambda x: np.repeat(x, 2**62),
    "pad": lambda x: np.pad(x, 2**63),
    "broadcast": lambda x: np.broadcast_to(x, (2**61, 6)).sum(),
    "empty": lambda x: np.broadcast_to(x[:0, None], (0, 2**63)),
    "negative": lambda x: np.broadcast_to(x, (-3, 6)).sum(),
    "full": lambda x: np.full((2**40, 2**40), x[0], like=x),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_an_array_that_no_memory_holds_is_refused(name: str) -> None:
    with pytest.raises(ShapeError, match=r"too big|negative dimensions"):
        adjit.jit(TOO_LARGE[name])(BYTES)


MISFITS = {
    "pad": lambda x: np.pad(x.astype(np.int32), 1, constant_values=2**31),
    "pad differently": lambda x: np.pad(x.astype(np.int32), 1, constant_values=(1, 2**40)),
    "pad with a float": lambda x: np.pad(x.astype(np.int64), 1, constant_values=1e30),
    "pad with nan": lambda x: np.pad(x.astype(np.int64), 1, constant_values=np.nan),
    "full_like": lambda x: np.full_like(x, 256),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_number_that_does_not_fit_its_array_is_refused(name: str) -> None:
    with pytest.raises((OverflowError, ValueError)):
        MISFITS[name](BYTES)
    with pytest.raises(WeakOverflowError):
        adjit.jit(MISFITS[name])(BYTES)


def test_bytes_around_an_array_wrap_as_numpy_has_it() -> None:
    np.testing.assert_array_equal(adjit.jit(lambda x: np.pad(x, 1, constant_values=300))(BYTES)[:2], [44, 0])
