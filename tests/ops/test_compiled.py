"""Every op: machine code gives what the evaluator gives, to the bit, or for functions of floats to the last few.

All sample calls of an op stand side by side in one graph, so that an op is one compilation for each target. `Ran`
surrounds every buffer with guard bytes, so a write beside a result fails, too.
"""

from __future__ import annotations

import numpy as np
import pytest

from adjit.compilation import compile_graph
from adjit.ir.evaluate import evaluate
from adjit.stages import Record
from adjit_runtime.call import invoke
from adjit_runtime.errors import DomainError
from adjit_runtime.target import Target, _target, host_target
from tests.codegen.running import Ran
from tests.ops.samples import COMPUTED, Case, assert_close, cases_of, graph_of, tolerance


def targets() -> list[Target]:
    """The host, and AVX2 where the host is wider."""
    host = host_target()
    return [host] if host.vector_bytes <= 32 or not host.triple.startswith("x86") else [host, _target("haswell")]


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("name", COMPUTED)
def test_machine_code_means_what_the_evaluator_means(name: str, target: Target) -> None:
    cases = cases_of(name)
    graph = graph_of(cases)
    inputs = [array for case in cases for array in case.arrays]
    wanted = evaluate(graph, *inputs)
    ran = Ran(graph, inputs, target)
    assert ran.status == 0
    for case, found, want in zip(cases, ran.outputs, wanted, strict=True):
        assert_close(found, want, case, tolerance(case))


def awkward(array: np.ndarray, number: int) -> np.ndarray:
    """The same values elsewhere: transposed memory, every second element, or reversed; read-only, at odd addresses."""
    if not array.ndim:
        memory = np.zeros(array.itemsize + 1, np.uint8)[1:].view(array.dtype)
        view = memory.reshape(())
    elif number % 3 == 0:
        view = np.empty(array.shape[::-1], array.dtype).T
    elif number % 3 == 1:
        view = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    else:
        view = np.empty(array.shape, array.dtype)[::-1]
    view[...] = array
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("name", COMPUTED)
def test_arguments_of_any_layout(name: str) -> None:
    """What a call takes need be neither contiguous nor aligned nor writable, and is not changed."""
    cases = cases_of(name)
    graph = graph_of(cases)
    inputs = [awkward(array, i) for i, array in enumerate(array for case in cases for array in case.arrays)]
    before = [array.tobytes() for array in inputs]
    plain = Ran(graph, inputs).outputs
    found = invoke(compile_graph(graph, Record(name)), inputs)
    for case, a, b in zip(cases, found, plain, strict=True):
        assert np.asarray(a).tobytes() == b.tobytes(), case
    assert [array.tobytes() for array in inputs] == before


@pytest.mark.parametrize(("value", "size"), [(7, 7), (-8, 7), (0, 0)])
def test_an_index_out_of_range_is_refused(value: int, size: int) -> None:
    case = Case("check_index", (np.array([value, value]),), {"size": size, "axis": 0})
    with pytest.raises(IndexError, match="out of bounds"):
        evaluate(graph_of([case]), *case.arrays)
    ran = Ran(graph_of([case]), case.arrays)
    assert (ran.status, ran.report[0]) == (1, value)


@pytest.mark.parametrize("size", [(), (1000,)])
def test_what_does_not_hold_is_refused(size: tuple[int, ...]) -> None:
    attrs = {"error": "DomainError", "text": "a {text}"}
    case = Case("check_holds", (np.ones(size, np.int64), np.array(False)), attrs)
    with pytest.raises(DomainError, match=r"a \{text\}"):
        evaluate(graph_of([case]), *case.arrays)
    ran = Ran(graph_of([case]), case.arrays)
    check = ran.lowered.program.checks[ran.status - 1]
    assert (ran.status, check.error, check.message(7)) == (1, "DomainError", "a {text}")


@pytest.mark.parametrize(("value", "dtype"), [(256, "uint8"), (-1, "uint8"), (2**31, "int32"), (-1, "uint64")])
def test_an_integer_that_does_not_fit_is_refused(value: int, dtype: str) -> None:
    case = Case("check_fits", (np.array(value),), {"dtype": np.dtype(dtype)})
    with pytest.raises(OverflowError, match="out of bounds"):
        evaluate(graph_of([case]), *case.arrays)
    ran = Ran(graph_of([case]), case.arrays)
    assert (ran.status, ran.report[0]) == (1, value)
