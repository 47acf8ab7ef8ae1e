"""Code for other machines: vectors of their width, in kernels, products and straight lines; and it is not run here."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim
from adjit.codegen.gemm import GEMM_LIBRARIES, emit_gemm_library, sizes_for
from adjit.codegen.libraries import library
from adjit.codegen.llvm import Module
from adjit.ir.graph import Graph
from adjit_runtime import target as targets
from adjit_runtime.errors import MissingExtraError
from adjit_runtime.target import Target, _target
from tests.codegen.running import Lowered

WIDTHS = {"apple-m1": 16, "x86-64-v4": 64, "haswell": 32, "znver3": 32}
REGISTERS = {
    "apple-m1": (r"\bfmla\.4s|\bfmla\s+v\d+\.4s", r"\.4s"),
    "x86-64-v4": (r"vfmadd\d+ps.*%zmm", r"%zmm"),
    "haswell": (r"vfmadd\d+ps.*%ymm", r"%ymm"),
    "znver3": (r"vfmadd\d+ps.*%ymm", r"%ymm"),
}


@pytest.fixture(autouse=True)
def every_backend() -> None:
    targets.initialize()
    targets.llvm.initialize_all_targets()
    targets.llvm.initialize_all_asmprinters()


def loss(p: Any, x: Any, labels: Any) -> Any:
    return nn.cross_entropy(np.tanh(x @ p["w"] + p["b"]) @ p["v"], labels)


def graph() -> Graph:
    rng = np.random.default_rng(0)
    shapes = {"w": (64, 96), "b": (96,), "v": (96, 10)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    step = adjit.training_step(loss, optim.adam(1e-3))
    state = step.init(params)
    x, labels = rng.normal(size=(64, 64)).astype(np.float32), rng.integers(0, 10, 64)
    found: Graph = step.ir("optimized", state, x, labels)
    return found


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    made: Target = _target.__wrapped__(request.param)
    return made


@pytest.mark.parametrize("target", WIDTHS, indirect=True)
def test_code_has_vectors_of_the_machines_width(target: Target) -> None:
    assert target.vector_bytes == WIDTHS[target.cpu]
    lowered = Lowered(graph(), target)
    _, wide = REGISTERS[target.cpu]
    assert len(re.findall(wide, lowered.code.asm)) > 100
    assert len(lowered.program.code) > 1000


@pytest.mark.parametrize("target", WIDTHS, indirect=True)
def test_products_multiply_and_add_in_one_instruction(target: Target) -> None:
    made = library("gemm_f32", target)
    assert "adjit_gemm_f32" in made.symbols
    machine = targets.target_machine(target)
    module = Module("gemm")
    emit_gemm_library(module, target, "gemm_f32")
    parsed = targets.llvm.parse_assembly(str(module))
    parsed.triple = target.triple
    parsed.data_layout = str(machine.target_data)
    fused, _ = REGISTERS[target.cpu]
    sizes = sizes_for(np.dtype(np.float32), target)
    assert len(re.findall(fused, machine.emit_assembly(parsed))) >= sizes.rows * sizes.vectors


def test_code_of_another_architecture_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CPU", "apple-m1")
    with pytest.raises(adjit.ArgumentError, match=r"ADJIT_CPU=apple-m1: code for aarch64.* does not run here"):
        adjit.jit(lambda x: x + 1.0)(np.ones(3))


@pytest.mark.parametrize("target", WIDTHS, indirect=True)
@pytest.mark.parametrize("name", GEMM_LIBRARIES)
def test_every_library_of_products_compiles(target: Target, name: str) -> None:
    made = library(name, target)
    assert f"adjit_{name}" in made.symbols
    assert set(made.needs) <= set(GEMM_LIBRARIES) - {name}


@pytest.mark.parametrize("target", ["apple-m1", "haswell"], indirect=True)
@pytest.mark.parametrize("name", ["sort_f32", "argsort_f64"])
def test_libraries_that_sort_compile(target: Target, name: str) -> None:
    assert library(name, target).symbols == (f"adjit_{name}",)


def test_an_old_llvmlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.llvmlite, "__version__", "0.47.1")
    with pytest.raises(MissingExtraError, match=r"llvmlite 0\.50 or newer; 0\.47\.1 is installed"):
        targets.initialize.__wrapped__()
