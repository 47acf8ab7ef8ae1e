"""A graph, run by the interpreter and in machine code; both agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.passes.pipeline import optimize
from adjit_runtime import errors
from tests.codegen.running import Ran


def run_both(graph: Graph, *inputs: Any, terms: float = 0.0) -> list[np.ndarray]:
    """What the interpreter gives for `graph`; machine code of the optimised graph gives the same, but for the rounding
    of sums of `terms` as large as that."""
    expected = evaluate(graph, *inputs)
    ran = Ran(optimize(graph), [np.asarray(x) for x in inputs])
    if ran.status:
        check = ran.lowered.program.checks[ran.status - 1]
        raise getattr(errors, check.error)(check.message(int(ran.report[0])))
    for found, wanted in zip(ran.outputs, expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted)
            continue
        # Sums are taken in another order, and functions differ from libm's in the last bits; sums near 0 cancel.
        single = wanted.dtype == np.float32
        finite = np.abs(wanted[np.isfinite(wanted)])
        scale = float(np.max(finite, initial=terms))
        np.testing.assert_allclose(
            found, wanted, rtol=2e-5 if single else 1e-11, atol=(2e-6 if single else 1e-13) * scale, equal_nan=True
        )
    return expected
