"""Plans as text: what prints parses back to an equal plan, to the same text, and to the same machine code."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks import sides
from benchmarks.workloads import WORKLOADS
from tests.graphs import GraphMaker
from tests.networks import network
from tests.ops.samples import COMPUTED, cases_of, graph_of
from tests.schedule.texts import HASWELL, WIDE, assert_comes_back, plan_for
from tests.thresholds import CUT, RIDING, TILED, force

from adjit import stages
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.ir.types import F32, F64, Array
from adjit.passes.pipeline import optimize
from adjit.schedule.buffer import Buffer
from adjit.schedule.instructions import Const, Gather, Load, Store
from adjit.schedule.parse import parse_plan
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.text import print_plan
from adjit.schedule.work import Loop
from adjit_runtime.errors import ArgumentError, FormatError
from adjit_runtime.target import Target

TARGETS = (WIDE, HASWELL)


def come_back(graph: Graph, target: Target) -> Plan:
    """The plan of a graph, kernels and, where it fits, the straight line."""
    plan = plan_for(graph, target)
    assert_comes_back(plan, target)
    return plan


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
@pytest.mark.parametrize("name", [name for name in COMPUTED if cases_of(name)])
def test_every_op(name: str, target: Target) -> None:
    cases = cases_of(name)
    come_back(optimize(graph_of(cases)), target)
    # Alone, where more are straight lines.
    for case in cases[:: len(cases) // 3 + 1]:
        come_back(graph_of([case]), target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int, target: Target) -> None:
    graph = GraphMaker(seed, F64 if seed % 2 else F32).graph(25, outputs=4)
    come_back(graph if seed % 3 else optimize(graph), target)


@pytest.mark.parametrize("seed", range(12))
def test_random_steps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 3 == 1:
        force(monkeypatch, RIDING)
    if seed % 3 == 2:
        force(monkeypatch, TILED)
    if seed % 2:
        force(monkeypatch, CUT)
    net = network(seed, batch=200, hidden=300)
    params, x, y = net.arrays()
    step = net.step()
    (graph,) = sources(monkeypatch, lambda: step(step.init(params, key=seed), x, y))
    for target in TARGETS:
        come_back(optimize(graph, registers=target.registers), target)


class Enough(Exception):
    """The graph is known; nothing is to be compiled."""


def sources(monkeypatch: pytest.MonkeyPatch, call: Any) -> list[Graph]:
    """The graphs that the passes would take for a call, which ends at the first."""
    found = []

    def note(source: Graph, *_: Any) -> Graph:
        found.append(source)
        raise Enough

    with monkeypatch.context() as patch:
        patch.setattr(stages, "optimize", note)
        with pytest.raises(Enough):
            call()
    return found


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    side = sides.build("adjit", name, WORKLOADS[name]())
    assert side is not None
    (graph,) = sources(monkeypatch, side.step)
    for target in TARGETS:
        come_back(optimize(graph, registers=target.registers), target)


# -- names, lines, constants ------------------------------------------------------------------------------------------


def kernels_of(graph: Graph) -> Plan:
    """The plan of a graph in kernels, however small it is."""
    return make_plan(graph, WIDE, slots_of(graph))


def test_names_that_are_no_words_and_names_that_two_have() -> None:
    b = Builder()
    names = ["params['w 1']", "t5", "7", 'a\u00e9\n"b\\', "result0", "\ud800", "a\u0007", "a?"]
    inputs = [b.value(b.input(name, Array(F32, (5,)))) for name in names]
    total = b.cumsum(sum(inputs[1:], inputs[0]), axis=0, reverse=False)
    plan = kernels_of(b.graph("<lambda>", [(total * 2.0).node]))
    again = assert_comes_back(plan, WIDE)
    assert [slot.name for slot in again.slots] == [*names, "result0"]
    assert [buffer.name for buffer in again.buffers][:8] == [buffer.name for buffer in plan.buffers][:8]
    assert print_plan(plan).isascii()


def test_arrays_of_one_name() -> None:
    graphs = [parse(f"graph @f() -> f64[2] {{ %0 = constant [{i}.5, 1.0] : f64[2] return %0 }}") for i in range(3)]
    nodes = [graph.nodes[0] for graph in graphs]
    plan = kernels_of(Graph("f", (), tuple(nodes), tuple(nodes)))
    assert [slot.name for slot in plan.slots] == ["result0", "result1", "result2", "c0", "c0", "c0"]
    again = assert_comes_back(plan, WIDE)
    assert [data.array.tolist() for data in again.constants.values() if data.array is not None] == [
        [0.5, 1.0], [1.5, 1.0], [2.5, 1.0],
    ]  # fmt: skip


def test_lines_come_back_as_far_as_the_text_has_them() -> None:
    lines = (
        "graph @f(%x: f64[9]) -> f64[9] {",
        "%0 = cumsum %x axis=0 : f64[9] # a, b.py:3",
        "%1 = tanh %0 : f64[9] # c.py:4",
        "%2 = exp %1 : f64[9] # <ipython-input-1-0a>:1",
        "return %2 }",
    )
    plan = kernels_of(parse("\n".join(lines)))
    again = assert_comes_back(plan, WIDE)
    assert [[str(loc) for loc in kernel.locs] for kernel in again.kernels] == [
        ["a, b.py:3"], ["c.py:4", "<ipython-input-1-0a>:1"],
    ]  # fmt: skip
    assert [str(buffer.loc) for buffer in again.buffers] == ["None", "None", "a, b.py:3"]


def large_constant() -> tuple[Plan, np.ndarray]:
    array = np.arange(40, dtype=np.float32)
    b = Builder()
    return kernels_of(b.graph("f", [(b.value(b.input("x", Array(F32, (40,)))) + b.value(b.array(array))).node])), array


def test_a_large_constant_is_bound_by_the_name_of_its_buffer() -> None:
    plan, array = large_constant()
    text = print_plan(plan)
    assert re.search(r"^buffer %c0 : f32\[40\] constant slot \d sha256=[0-9a-f]{16}$", text, re.MULTILINE)
    (data,) = parse_plan(text, {"c0": array}).constants.values()
    np.testing.assert_array_equal(data.array, array)
    (unbound,) = parse_plan(text).constants.values()
    assert unbound.array is None
    assert print_plan(parse_plan(text)) == text
    with pytest.raises(FormatError, match=r"line \d: .*'c0'.*digest"):
        parse_plan(text, {"c0": array + 1})


SMALL = """\
plan @f  arena 0 bytes (0 without reuse), peak 0 bytes
buffer %x : f64[8] input slot 0
buffer %y : f64[] output slot 1
kernel 0 loop over ()
    v0 = const 0.5 : f64
    store v0 -> %y[0] : f64
"""


@pytest.mark.parametrize("bits", [0xFFF8 << 48, 0x7FF8 << 48, 0x7FF0 << 48 | 1, 0xFFFF << 48 | 5, 1 << 63, 0x7FF << 52])
def test_constants_keep_their_bits(bits: int) -> None:
    value = np.array(bits, np.uint64).view(np.float64)
    plan = parse_plan(SMALL)
    (kernel,) = plan.kernels
    assert isinstance(kernel.work, Loop)
    code = (Const(value.item(), value.tobytes(), value.dtype), *kernel.work.body.code[1:])
    work = replace(kernel.work, body=replace(kernel.work.body, code=code))
    plan.kernels = (replace(kernel, work=work),)
    assert_comes_back(plan, WIDE)


def with_params(plan: Plan, params: tuple[tuple[Buffer, int], ...], numbers: dict[int, int]) -> Plan:
    """The plan with other parameters of its kernel, and a body that names them by other numbers."""
    (kernel,) = plan.kernels
    assert isinstance(kernel.work, Loop)
    body = kernel.work.body
    code = tuple(replace(i, param=numbers[i.param]) if isinstance(i, Load | Gather | Store) else i for i in body.code)
    dtypes = tuple(buffer.dtype for buffer, _ in params)
    work = replace(kernel.work, body=replace(body, code=code, params=dtypes))
    plan.kernels = (replace(kernel, work=work, params=params),)
    return plan


def test_parameters_in_another_order_than_the_bodys() -> None:
    graph = parse("graph @f(%x: f32[90], %y: f32[90]) -> f32[90] { %0 = sub %x, %y : f32[90] return %0 }")
    plan = kernels_of(graph)
    x, y, result = plan.kernels[0].params
    assert " on %" not in print_plan(plan)
    turned = with_params(plan, (y, result, x), {0: 2, 1: 0, 2: 1})
    assert "kernel 0 loop over (90) on %y %result0 %x\n" in print_plan(turned)
    assert_comes_back(turned, WIDE)
    y[0].first = y[0].last = -1
    twice = with_params(turned, (x, x, result), {2: 0, 0: 1, 1: 2})
    assert "v1 = load p1[d0]" in print_plan(twice)
    assert_comes_back(twice, WIDE)


# -- errors -----------------------------------------------------------------------------------------------------------

ERRORS = {
    ("plan @f", "pla @f"): "line 1: expected 'plan', found 'pla'",
    ("arena 0 bytes", "arena -1 bytes"): "line 1: -1 is negative",
    ("arena 0 bytes", "arena 1.5 bytes"): "line 1: 1.5 is no int64",
    ("slot 1", "slot 0"): "line 3: slot 0 is there twice",
    ("slot 1", "slot 3"): "line 1: nothing has slot 1",
    ("output", "result"): "line 3: expected one of input, state, output, constant, found 'result'",
    ("output slot 1", "constant slot 1"): "line 4: expected digest, found 'kernel'",
    ("output slot 1", "constant slot 1 [1.0, 2.0]"): r"line 3: 2 elements are no f64\[\]",
    ("%y : f64[]", "%x : f64[]"): "line 3: %x is there twice",
    ("f64[]", "f65[]"): "line 3: 'f65.*' is no type",
    ("output slot 1", "arena+0  kernels 0..0"): "line 3: what lies in the arena has one dimension",
    ("f64[] output slot 1", "f64[1] arena+0"): "line 4: expected 'kernels', found 'kernel'",
    ("f64[] output slot 1", "f64[1] arena+0 in place of %x  kernels 0..0"): "line 3: %x does not lie in the arena",
    ("f64[] output slot 1", "f64[1] arena+0 in place of %y  kernels 0..0"): "line 3: %y lies in place of itself",
    ("f64[] output slot 1", "f64[1] arena+0 in place of %z  kernels 0..0"): "line 3: %z is no buffer",
    ("kernel 0", "kernel 1"): "line 4: expected '0', found '1'",
    ("loop over ()", "lop over ()"): "line 4: there is no kind of kernel 'lop'",
    ("over ()", "over (-2)"): "line 4: -2 is negative",
    ("over ()", "over (2) reduced (1)"): "line 4: these are not dimensions of 1, in order",
    ("over ()", "over (2,2) reduced (1,0)"): "line 4: these are not dimensions of 2, in order",
    ("v0 =", "v1 ="): "line 5: expected 'v0', found 'v1'",
    ("const", "cons"): "line 5: there is no elementwise op 'cons'",
    ("const 0.5", "const true"): "line 5: true is no float64",
    ("const 0.5", "const 0.5 bits=5"): "line 5: only what is not a number has bits",
    ("0.5 : f64", "0.5 : f63"): "line 5: 'f63' is no dtype",
    ("const 0.5", "product"): "line 5: only the epilogue of a product has the element of one",
    ("const 0.5", "reduce sum v0"): "line 5: v0 is no value before",
    ("const 0.5", "reduce tanh v0"): "line 5: 'tanh' reduces nothing here",
    ("const 0.5", "reduce cumsum v0"): "line 5: 'cumsum' reduces nothing here",
    ("const 0.5", "tanh v0"): "line 5: v0 is no value before",
    ("const 0.5", "load %z[0]"): "line 5: %z is no buffer",
    ("const 0.5", "load %x[d0]"): "line 5: 'd0' is none of 0 dimensions",
    ("const 0.5", "load %x[8]"): "line 5: the constant of an index stands with the buffer",
    ("const 0.5 : f64", "load %x[0] : f32"): "line 5: expected f64, found f32",
    ("const 0.5", "gather %x[0] v0 in [0,8)"): "line 5: expected a position, as v0.1, in the index",
    ("const 0.5", "gather %x[v0*1] v0 in [0,8)"): "line 5: v0 is no value before",
    ("store v0", "store v1"): "line 6: v1 is no value before",
    ("store v0", "store d0"): "line 6: expected a value, found 'd0'",
    (
        "    store",
        "    v1 = gather %x[v0*1] v0 in [0,8) : f64\n    store",
    ): "line 6: v0 is f64, which is no position",
    ("    store", "    v1 = add v0 : f64\n    store"): "line 6: add takes 2 operands, not 1",
    ("    store", "    v1 = and v0, v0 : f64\n    store"): "line 6: and: does not take f64",
    ("    store", "    v1 = cast v0 : f64\n    store"): "line 6: cast needs the attribute 'dtype'",
    ("    store", "    v1 = cast v0 dtype=i64 : f64\n    store"): "line 6: expected i64, found f64",
    ("    store", "    v1 = index 0 : i64\n    store v1 -> %y[0] : i64\n    store"): "line 7: v1 is i64, the buffer",
    ("%y[0] : f64", "%y[0] : f64 more"): "line 6: expected nothing more, found 'more'",
    ("kernel 0 loop", "kernel 0 as kernel 0, on %y\nkernel 1 loop"): "line 4: there is no kind of kernel 'as'",
    ("over ()\n", "over ()\n  as kernel 0, on %y\n"): "line 5: kernel 0 is not before, or is another work",
    ("loop over ()", "loop over () on %y %y"): None,
    ("over ()\n", "over () on %y\n  as kernel 0, on %y\n"): "line 5: expected nothing more, found 'as'",
    ("over ()", f"over ({'1,' * 64}1)"): "line 4: 65 dimensions, where there are at most 64",
    ("loop over ()", "loop over () on %x"): "line 6: %y is none of the places that the kernel is on",
    ("loop over ()", "running over (2) reduced (0)"): "line 4: a running result has one value, along one dimension",
    ("loop over ()", "checkrange over () v0 in [0,2) check 0"): "line 4: there are 0 checks",
    ("loop over ()", "scatter over () add v0 -> %x[v0*1] v1 in [0,8)"): "line 4: expected 'v0', found 'v1'",
    ("loop over ()", "scatter over () add v0 -> %x[v0*1] v0 in [0,8)"): "line 4: v0 is f64, which is no position",
    ("loop over ()", "2 turns in 3 groups on %x {"): "line 4: 2 turns are not in 3 groups",
    (
        "loop over ()",
        "2 turns on %x { plan @t arena 0 bytes (0 without reuse), peak 0 bytes kernel 0 straight line on",
    ): "line 4: a straight line is a whole plan; in a loop it has turns",
}  # fmt: skip
"""What is changed in `SMALL`, and what is said of it; None: it parses."""


@pytest.mark.parametrize("change", ERRORS)
def test_an_error_gives_line_and_caret(change: tuple[str, str]) -> None:
    old, new = change
    assert SMALL.count(old) >= 1
    text = new.join(SMALL.rsplit(old, 1))
    message = ERRORS[change]
    if message is None:
        parse_plan(text)
        return
    with pytest.raises(FormatError, match=message) as caught:
        parse_plan(text)
    _, line, caret = str(caught.value).splitlines()
    assert line.strip() in text
    assert set(caret) == {" ", "^"}


PRODUCT = """\
plan @f  arena 0 bytes (0 without reuse), peak 0 bytes
buffer %x : f64[4,8] input slot 0
buffer %w : f64[8,16] input slot 1
buffer %y : f64[4,16] output slot 2
kernel 0 product m=4 n=16 k=8  A=%x (8,1)  B=%w (16,1)  C=%y (16,1)
  epilogue over (1,4,16)
    v0 = product : f64
    v1 = neg v0 : f64
    store v1 -> %y[16*d1 + d2] : f64
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(1,4,16)", "(4,16)", r"line 6: the epilogue of this product is over \(1,4,16\)"),
        ("%w : f64", "%w : f32", "line 5: A and B are of two dtypes"),
        ("C=%y (16,1)", "C=%y (16,2)", "line 5: the elements of a row of C are adjacent"),
        ("A=%x (8,1)", "A=%x (8)", "line 5: expected 2 strides"),
        ("m=4", "batch=2 (1,2) m=4", "line 5: expected 3 strides"),
        ("product : f64", "product : f32", "line 7: expected f64, found f32"),
        ("(16,1)\n", "(16,1) on %x %w %w %y\n", "line 5: the first places are not those that the kernel names ahead"),
        (
            PRODUCT[PRODUCT.index("\n  epi") :],
            " on %x %w %y %y\n",
            "line 5: a product without an epilogue has 3 places",
        ),
        ("store", "as kernel 0, on %x %w %y %y store", "line 9: expected nothing more, found 'as'"),
    ],
)
def test_errors_of_products(old: str, new: str, message: str) -> None:
    assert print_plan(parse_plan(PRODUCT)) == PRODUCT
    assert PRODUCT.count(old) == 1
    with pytest.raises(FormatError, match=message):
        parse_plan(PRODUCT.replace(old, new))


def test_equal_works_are_one() -> None:
    """Written out or referred to: what asks for their code finds it without a comparison."""
    own = "kernel {} loop over ()\n    v0 = const 0.5 : f64\n    store v0 -> %y[0] : f64\n"
    plan = parse_plan(SMALL + own.format(1))
    assert plan.kernels[0].work is plan.kernels[1].work
    text = print_plan(plan)
    assert text == SMALL + "kernel 1 loop over ()\n  as kernel 0, on %y\n"
    again = parse_plan(text)
    assert again.kernels[0].work is again.kernels[1].work


def test_arguments_of_parse_plan() -> None:
    with pytest.raises(ArgumentError, match="text is a str, not"):
        parse_plan(b"plan")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="constants is a mapping"):
        parse_plan(SMALL, [1])  # type: ignore[arg-type]
