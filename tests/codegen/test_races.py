"""No part of a kernel meets another one: proved from the plan, and shown by running parts in several orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen import products, races
from adjit.codegen.cuts import BATCH, COLUMNS, Cut, cut_of
from adjit.codegen.races import Owned, by_unit, meeting, verify_jobs
from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph
from adjit.ir.types import F32, F64, Array
from adjit.passes.pipeline import optimize
from adjit.schedule import arena
from adjit.schedule.instructions import Load, Store
from adjit.schedule.parse import parse_plan
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.touches import Touch
from adjit.schedule.turns import Nested
from adjit.schedule.verify import verify_plan
from adjit.schedule.work import Loop, Product
from adjit_runtime.errors import InternalError
from adjit_runtime.target import host_target
from tests.codegen.ordered_pool import ORDERS
from tests.codegen.running import Ran
from tests.graphs import GraphMaker, arrays
from tests.networks import network
from tests.ops.samples import COMPUTED, cases_of, graph_of
from tests.schedule.texts import WIDE
from tests.thresholds import CUT, NARROW, RIDING, TILED, force

THREADS = (2, 3, 8)


# -- the proof ---------------------------------------------------------------------------------------------------------


def plan_of(graph: Graph) -> Plan:
    return make_plan(graph, host_target(), slots_of(graph))


def soft_product(m: int = 16, k: int = 12, n: int = 256, dtype: Any = F32) -> Graph:
    """A product whose sizes stand in the code where it is not cut, with an epilogue."""
    b = Builder()
    x, w = b.value(b.input("x", Array(dtype, (m, k)))), b.value(b.input("w", Array(dtype, (k, n))))
    z = b.contract(x, w, spec="ik,kj->ij")
    soft = b.maximum(z, b.full(0.0, z)) + b.log1p(b.exp(-b.abs(z)))
    return b.graph("soft", [soft.node])


def test_an_epilogue_over_all_columns_of_a_product_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops of an epilogue ran over all columns, whose number stands in the code, in each part of a product."""
    force(monkeypatch, CUT)
    plan = plan_of(soft_product())
    (kernel,) = plan.kernels
    cut = cut_of(kernel.work, host_target())
    assert cut is not None
    assert cut.dim == COLUMNS
    verify_jobs(plan, host_target())
    monkeypatch.setattr(races, "follows_columns", lambda *_: False)
    with pytest.raises(InternalError, match=r"kernel 0 of @soft .*one part touches what another one writes"):
        verify_jobs(plan, host_target())


def test_that_epilogue_in_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, CUT)
    graph = soft_product()
    inputs = arrays(graph, 0)
    good = same_in_all_orders(graph, inputs).outputs
    z = inputs[0].astype(float) @ inputs[1]
    np.testing.assert_allclose(good[0], np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(products, "follows_columns", lambda *_: False)
    with pytest.raises(AssertionError, match="parts"):
        same_in_all_orders(soft_product(), inputs)


def loop_plan() -> Plan:
    b = Builder()
    p, x = b.value(b.input("p", Array(F64, (64, 48)))), b.value(b.input("x", Array(F64, (64, 48))))
    return plan_of(b.graph("loop", [b.sum(b.exp(x), axes=(1,)).node], [(p.node, (p - b.tanh(x) * 0.1).node)]))


def broken(plan: Plan, number: int, **changes: Any) -> Plan:
    """The plan with another kernel in the place of one."""
    kernels = list(plan.kernels)
    kernels[number] = replace(kernels[number], **changes)
    return Plan(**{name: getattr(plan, name) for name in plan.__slots__} | {"kernels": tuple(kernels)})


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, CUT)


def test_a_loop_cut_along_what_it_reduces(cut: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = loop_plan()
    verify_jobs(plan, host_target())
    number = next(i for i, kernel in enumerate(plan.kernels) if kernel.work.body.reduced)  # type: ignore[union-attr]
    work = plan.kernels[number].work
    assert isinstance(work, Loop)
    dim = work.body.reduced[0]
    wrong = Cut(dim, work.body.domain[dim], 1, 4, 2, False)
    monkeypatch.setattr(races, "cut_of", lambda work, target: wrong if work.body.reduced else None)
    with pytest.raises(InternalError, match="one part touches what another one writes"):
        verify_jobs(plan, host_target())


def test_stores_to_one_place(cut: None) -> None:
    plan = loop_plan()
    number, work = next((i, k.work) for i, k in enumerate(plan.kernels) if isinstance(k.work, Loop))
    code = [
        replace(instruction, coefficients=(0,) * len(work.body.domain))
        if isinstance(instruction, Store)
        else instruction
        for instruction in work.body.code
    ]
    wrong = broken(plan, number, work=replace(work, body=replace(work.body, code=tuple(code))))
    with pytest.raises(InternalError, match="one part touches what another one writes"):
        verify_jobs(wrong, host_target())


def test_state_that_is_read_beside_where_it_is_written(cut: None) -> None:
    plan = loop_plan()
    states = [buffer for buffer in plan.buffers if buffer.slot is not None and plan.slots[buffer.slot].role == "state"]
    number, kernel = next((i, k) for i, k in enumerate(plan.kernels) if states[0] in arena.written(k))
    work = kernel.work
    assert isinstance(work, Loop)
    param, (buffer, offset) = next((i, at) for i, at in enumerate(kernel.params) if at[0] is states[0])
    code = [
        replace(i, param=len(kernel.params)) if isinstance(i, Load) and i.param == param else i for i in work.body.code
    ]
    body = replace(work.body, code=tuple(code), params=(*work.body.params, buffer.dtype))
    wrong = broken(plan, number, work=replace(work, body=body), params=(*kernel.params, (buffer, offset + 1)))
    with pytest.raises(InternalError, match="one part touches what another one writes"):
        verify_jobs(wrong, host_target())


def test_groups_of_tiles_that_share_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, TILED)
    step = adjit.value_and_grad(lambda w, x: np.sum(np.tanh(x @ w) ** 2))
    step(np.ones(20), np.ones((400, 20)))
    plan = plan_of(optimize(step.ir("adjoint")))
    verify_jobs(plan, host_target())
    number, work = next((i, k.work) for i, k in enumerate(plan.kernels) if isinstance(k.work, Nested))
    assert work.groups > 1
    steps = [replace(s, params=tuple(replace(place, group=0) for place in s.params)) for s in work.steps]
    with pytest.raises(InternalError, match="one part touches what another one writes"):
        verify_jobs(broken(plan, number, work=replace(work, steps=tuple(steps))), host_target())


BLOCKS = """\
plan @f  arena 1048576 bytes (1048576 without reuse), peak 1048576 bytes
buffer %x : f32[16,100] input slot 0
buffer %w : f32[100,64] input slot 1
buffer %y : f32[16,64] output slot 2
buffer %t : f32[262144] arena+0  kernels 0..0
kernel 0 product m=16 n=64 k=100  A=%x (100,1)  B=%w (64,1)  C=%t (64,1) scratch
  epilogue over (1,16,64)
    v0 = product : f32
    store v0 -> %y[64*d1 + d2] : f32
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"f32[262144]": "f32[16]"}, "the blocks of 1 parts take .* bytes, %t has less"),
        ({"C=%t": "C=%t+262140"}, "the blocks of 1 parts take .* bytes, %t has less"),
        ({"[16,100]": "[16,90000]", "[100,64]": "[90000,64]", "k=100": "k=90000"}, "are not finished one by one"),
        ({"f32": "i32"}, "are not finished one by one"),
        ({"(1,16,64)": "(1,9999,64) reduced (1)", "[16,": "[9999,", "m=16": "m=9999"}, "blocks have not all rows"),
    ],
)
def test_blocks_of_a_product_that_is_not_cut(changes: dict[str, str], message: str) -> None:
    verify_jobs(parse_plan(BLOCKS), WIDE)
    text = BLOCKS
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    plan = parse_plan(text)
    verify_plan(plan)
    with pytest.raises(InternalError, match=message):
        verify_jobs(plan, WIDE)


BATCH_OF_PRODUCTS = """\
plan @f  arena 24576 bytes (24576 without reuse), peak 24576 bytes
buffer %x : f32[32,20] input slot 0
buffer %w : f32[2,3,20,16] input slot 1
buffer %y : f32[2,3,32,16] output slot 2
buffer %t : f32[6144] arena+0  kernels 0..0
kernel 0 product batch=2 (0,960,1536) batch=3 (0,320,512) m=32 n=16 k=20  A=%x (20,1)  B=%w (16,1)  C=%t (16,1)
  epilogue over (6,32,16)
    v0 = product : f32
    store v0 -> %y[512*d0 + 16*d1 + d2] : f32
"""


@pytest.mark.parametrize(
    "changes",
    [{}, {"(0,960,1536)": "(0,960,512)"}, {"C=%t": "C=%w"}, {"512*d0": "256*d0"}, {"-> %y[512*d0": "-> %y[0*d0"}],
)
def test_a_batch_of_products_whose_matrices_meet(cut: None, changes: dict[str, str]) -> None:
    """Threads take matrices along the first axis: each may meet itself, and no other one."""
    text = BATCH_OF_PRODUCTS
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    plan = parse_plan(text)
    found = cut_of(plan.kernels[0].work, WIDE)
    assert found is not None
    assert (found.dim, found.extent, found.unit) == (BATCH, 2, 1)
    if not changes:
        verify_jobs(plan, WIDE)
        return
    with pytest.raises(InternalError, match=r"kernel 0 of @f .*one part touches what another one writes"):
        verify_jobs(plan, WIDE)


def test_a_batch_that_an_epilogue_sums_is_not_cut(cut: None) -> None:
    text = BATCH_OF_PRODUCTS.replace("(6,32,16)", "(6,32,16) reduced (0)").replace("512*d0 + ", "")
    assert cut_of(parse_plan(text).kernels[0].work, WIDE) is None


def test_blocks_of_a_batch_lie_in_one_place(cut: None) -> None:
    """Those of later matrices lay behind the scratch memory, over other values."""
    text = BATCH_OF_PRODUCTS.replace("f32[6144]", "f32[1048576]").replace("24576", "4194304")
    text = text.replace("C=%t (16,1)", "C=%t (16,1) scratch")
    moved = text.replace("960,1536)", "960,0)").replace("320,512)", "320,0)")
    verify_jobs(parse_plan(moved), WIDE)
    with pytest.raises(InternalError, match="the blocks of a batch move with its matrices"):
        verify_jobs(parse_plan(text), WIDE)


def chain() -> Plan:
    """Two products, the first of which reads a value that later kernels need, too."""
    b = Builder()
    x = b.value(b.input("x", Array(F64, (40, 50))))
    w = b.value(b.input("w", Array(F64, (50, 50))))
    values: list[Value] = [x]
    for _ in range(3):
        values.append(b.tanh(b.contract(values[-1], w, spec="ik,kj->ij")))
    return plan_of(b.graph("chain", [b.contract(values[-1], values[1], spec="ki,kj->ij").node]))


def test_a_buffer_over_one_that_is_still_read() -> None:
    plan = chain()
    verify_jobs(plan, host_target())
    first, second = [buffer for buffer in plan.buffers if buffer.slot is None][:2]
    second.offset = first.offset
    with pytest.raises(InternalError, match=r"overwritten|reads elsewhere"):
        verify_jobs(plan, host_target())


def test_a_result_in_the_place_of_an_operand_of_a_product() -> None:
    plan = chain()
    kernel = next(k for k in plan.kernels if isinstance(k.work, Product) and k.params[0][0].slot is None)
    kernel.params[2][0].inside = kernel.params[0][0]
    kernel.params[2][0].offset = kernel.params[0][0].offset
    with pytest.raises(InternalError, match=r"which it reads elsewhere|overwritten"):
        verify_jobs(plan, host_target())


def test_an_operand_that_an_epilogue_overwrites(cut: None) -> None:
    """Each part reads all of B, and writes some of it."""
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (64, 64)))), b.value(b.input("w", Array(F64, (64, 64))))
    plan = plan_of(b.graph("f", [b.tanh(b.contract(x, w, spec="ik,kj->ij")).node]))
    verify_jobs(plan, host_target())
    (kernel,) = plan.kernels
    stores = {i.param for i in kernel.work.epilogue.code if isinstance(i, Store)}  # type: ignore[union-attr]
    params = [kernel.params[1] if number in (2, *stores) else at for number, at in enumerate(kernel.params)]
    with pytest.raises(InternalError, match="one part touches what another one writes"):
        verify_jobs(broken(plan, 0, params=tuple(params)), host_target())


def test_scratch_memory_for_fewer_parts(cut: None) -> None:
    lowered = Ran(soft_product(64, 30, 300), arrays(soft_product(64, 30, 300), 0)).lowered
    plan = lowered.plan
    kernel = next(k for k in plan.kernels if isinstance(k.work, Product))
    wrong = broken(plan, 0, work=replace(kernel.work, scratch=True))  # type: ignore[type-var]
    with pytest.raises(InternalError, match=r"blocks of \d+ parts take|is an operand, too"):
        verify_jobs(wrong, host_target())


# -- intervals ---------------------------------------------------------------------------------------------------------


def bytes_of(access: Touch, at: tuple[slice, ...]) -> set[int]:
    """All bytes of some indices of an access, one by one."""
    places = np.zeros((), np.int64) + access.start
    for extent, stride, part in zip(access.extents, access.strides, at, strict=True):
        places = places[..., None] + stride * np.arange(extent)[part]
    return {int(place) + i for place in places.ravel() for i in range(access.dtype.itemsize)}


@pytest.mark.parametrize("seed", range(60))
def test_intervals_are_the_bytes_of_each_unit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dims = int(rng.integers(1, 4))

    def access(writes: bool) -> Touch:
        extents = tuple(int(n) for n in rng.integers(1, 7, dims))
        strides = tuple(int(s) * 4 for s in rng.choice((-12, -6, -1, 0, 1, 2, 6, 7, 42), dims))
        return Touch(0, F32, int(rng.integers(0, 50)) * 4, extents, strides, writes)

    def units(of: Touch, dim: int, unit: int) -> list[set[int]]:
        starts = range(0, of.extents[dim], unit)
        where = [tuple(slice(a, a + unit) if d == dim else slice(None) for d in range(dims)) for a in starts]
        return [bytes_of(of, at) for at in where]

    dim, unit = int(rng.integers(0, dims)), int(rng.integers(1, 4))
    writes, reads = access(True), access(False)
    found = by_unit(writes, dim, unit)
    theirs = units(writes, dim, unit)
    for owner, wanted in enumerate(theirs):
        mine = found.owners == owner
        made = {i for a, b in zip(found.lows[mine], found.highs[mine], strict=True) for i in range(int(a), int(b))}
        assert made == wanted
    others = units(reads, dim, unit)
    meets = any((a & b) for i, a in enumerate(theirs) for j, b in [*enumerate(theirs), *enumerate(others)] if i != j)
    assert meeting(found, by_unit(reads, dim, unit)) == meets


def test_many_intervals_count_as_what_they_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "MOST_INTERVALS", 4)
    rows = Touch(0, F32, 0, (8, 8), (800, 100), True)
    assert not meeting(by_unit(rows, 0, 1), by_unit(rows, 0, 1))
    assert meeting(by_unit(rows, 1, 1), by_unit(rows, 1, 1))
    assert isinstance(by_unit(rows, None, 1), Owned)
    assert meeting(by_unit(rows, None, 1), by_unit(rows, None, 1))


# -- machine code ------------------------------------------------------------------------------------------------------


def cuts_in(plan: Plan) -> int:
    """How many kernels are cut."""
    return sum(isinstance(k.work, Nested) or cut_of(k.work, host_target()) is not None for k in plan.kernels)


def same_in_all_orders(graph: Graph, inputs: Sequence[np.ndarray], least: int = 1) -> Ran:
    """A run of a graph of which so many kernels are cut; it has the same bits for any number of parts in any order."""
    alone = Ran(graph, inputs)
    assert alone.status == 0
    assert cuts_in(alone.lowered.plan) >= least
    for threads in THREADS:
        for order in ORDERS:
            other = Ran(graph, inputs, threads=threads, order=order)
            assert other.status == alone.status
            for found, wanted in zip((*other.outputs, *other.inputs), (*alone.outputs, *alone.inputs), strict=True):
                assert found.tobytes() == wanted.tobytes(), f"other bits in parts for {threads} threads, {order}"
    return alone


WHOLE = {"cumsum": "one sum goes along the axis", "cumprod": "likewise", "check_fits": "a number alone"}
"""Ops whose kernels are not cut."""


@pytest.mark.parametrize("name", [name for name in COMPUTED if name not in WHOLE])
def test_every_op_in_parts(name: str, cut: None) -> None:
    cases = sorted(cases_of(name), key=lambda case: -max((array.size for array in case.arrays), default=0))[:16]
    same_in_all_orders(optimize(graph_of(cases)), [array for case in cases for array in case.arrays])


@pytest.mark.parametrize("first", range(0, 40, 5))
def test_random_graphs_in_parts(first: int, cut: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all have something that can be cut."""
    count = 0
    for seed in range(first, first + 5):
        with monkeypatch.context() as patch:
            if seed % 2:
                force(patch, RIDING)
            graph = optimize(GraphMaker(seed, F32 if seed % 3 else F64).graph(20, outputs=4))
            count += cuts_in(same_in_all_orders(graph, arrays(graph, seed), least=0).lowered.plan)
    assert count >= 5


@pytest.mark.parametrize("seed", range(24))
def test_steps_of_random_networks_in_parts(seed: int, cut: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products, their epilogues and updates; with few sums, too, and tile by tile."""
    if seed % 3 == 1:
        force(monkeypatch, RIDING)
    if seed % 3 == 2:
        force(monkeypatch, TILED)
    if seed % 4 == 0:
        force(monkeypatch, NARROW)
    net = network(seed, batch=200, hidden=300)
    if seed % 2:
        net = replace(net, batch=1 + seed % 16, widths=(2 + seed % 12, *net.widths[1:]))
    params, x, y = net.arrays()
    step = net.step()
    state = step.init(params, key=seed)
    inputs = [*state.leaves(), x, y]
    step(state, x, y)
    same_in_all_orders(optimize(step.ir("step"), registers=host_target().registers), inputs)


@pytest.mark.parametrize(("m", "k", "n"), [(16, 12, 256), (2, 3, 640), (12, 5, 161), (16, 1, 500), (7, 12, 96)])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_small_products_in_parts(m: int, k: int, n: int, dtype: Any, cut: None) -> None:
    graph = soft_product(m, k, n, dtype)
    inputs = arrays(graph, m)
    (found,) = same_in_all_orders(graph, inputs).outputs
    z = inputs[0].astype(float) @ inputs[1]
    scale = 1e-5 if dtype == F32 else 1e-13
    np.testing.assert_allclose(found, np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), rtol=scale, atol=scale)


def test_buffers_in_place_are_left_to_the_arena() -> None:
    """What the arena puts in place of an operand is what the proof allows."""
    b = Builder()
    x = b.value(b.input("x", Array(F64, (300, 300))))
    h = b.cumsum(x, axis=1, reverse=False)
    plan = plan_of(b.graph("f", [b.contract(b.tanh(h) * 2.0, x, spec="ik,kj->ij").node]))
    shared = [buffer for buffer in plan.buffers if buffer.inside is not None]
    assert len(shared) == 1
    (kernel,) = [k for k in plan.kernels if shared[0] in arena.written(k)]
    assert arena.elements_in_place(kernel, shared[0].inside, shared[0])  # type: ignore[arg-type]
    assert not arena.elements_in_place(kernel, shared[0], plan.buffers[0])
