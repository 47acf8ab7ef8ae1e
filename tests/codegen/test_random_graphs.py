"""Random graphs: machine code against the NumPy evaluator, on this CPU's instruction set and on AVX2's."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adjit.codegen import entry
from adjit.ir.evaluate import evaluate
from adjit.ir.types import F32, F64
from adjit_runtime.target import host_target
from tests.codegen.running import Ran
from tests.graphs import GraphMaker, arrays

# Sums are taken in another order than NumPy's, and vector functions are within 2 ULP; both grow along a chain of ops:
# to 2e-7 and 5e-16 of the largest result, and here is a hundred times that.
TOLERANCE = {F32: 2e-5, F64: 5e-14}


def compare(seed: int, dtype: np.dtype, steps: int) -> None:
    graph = GraphMaker(seed, dtype).graph(steps)
    inputs = arrays(graph, seed)
    wanted = evaluate(graph, *inputs)
    ran = Ran(graph, inputs)
    assert ran.status == 0
    for want, got in zip(wanted, ran.outputs, strict=True):
        finite = np.abs(want[np.isfinite(want)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale, err_msg=str(graph))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 18))
def test_random_graphs_f64(seed: int, steps: int) -> None:
    compare(seed, F64, steps)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 18))
def test_random_graphs_f32(seed: int, steps: int) -> None:
    compare(seed, F32, steps)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_for_another_cpu(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx2" not in host_target().features:
        pytest.skip("this machine does not run AVX2")
    monkeypatch.setitem(os.environ, "ADJIT_CPU", "haswell")
    assert host_target().vector_bytes == 32
    compare(seed, F32 if seed % 2 else F64, 14)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_whose_kernels_run_in_several_functions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "ENTRY_LINES", 4)
    compare(seed, F32 if seed % 2 else F64, 24)
