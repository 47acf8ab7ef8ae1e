"""The plan: places never overlap while values are alive, updates wait for their readers, layers share bodies."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from tests.codegen.running import Ran
from tests.graphs import GraphMaker

from adjit.ir.builder import Builder, Value
from adjit.ir.graph import Graph
from adjit.ir.types import F32, F64, I64, Array
from adjit.schedule.arena import read, written
from adjit.schedule.instructions import Load
from adjit.schedule.plan import Plan
from adjit.schedule.planner import make_plan
from adjit.schedule.slots import slots_of
from adjit.schedule.text import print_plan
from adjit.schedule.verify import verify_plan
from adjit.schedule.work import Loop, Product
from adjit_runtime.errors import InternalError
from adjit_runtime.target import host_target


def plan_of(graph: Graph) -> Plan:
    return make_plan(graph, host_target(), slots_of(graph))


@pytest.mark.parametrize("seed", range(100))
def test_random_plans_hold(seed: int) -> None:
    plan = plan_of(GraphMaker(seed, F64 if seed % 2 else F32).graph(25, outputs=4))
    verify_plan(plan)


def test_the_verifier_sees_an_overlap() -> None:
    plan = plan_of(mlp_step(layers=2))
    a, b = next(
        (a, b)
        for a, b in itertools.combinations((x for x in plan.buffers if x.slot is None), 2)
        if a.first < b.first < a.last
    )
    plan.arena_bytes *= 2
    b.offset = a.offset
    with pytest.raises(InternalError, match="overlap"):
        verify_plan(plan)


def test_the_verifier_sees_kernels_out_of_order() -> None:
    plan = plan_of(mlp_step(layers=2))
    plan.kernels = plan.kernels[::-1]
    with pytest.raises(InternalError, match="before it is written"):
        verify_plan(plan)


def test_the_verifier_sees_an_access_outside() -> None:
    plan = plan_of(mlp_step(layers=1))
    plan.buffers[0].size //= 2
    with pytest.raises(InternalError, match="reaches elements"):
        verify_plan(plan)


def mlp_step(layers: int = 1, width: int = 32, batch: int = 16) -> Graph:
    """Residual tanh layers with plain gradient descent, derivatives by hand."""
    b = Builder()
    x = b.value(b.input("x", Array(F32, (batch, width))))
    weights = [b.value(b.input(f"w{i}", Array(F32, (width, width)))) for i in range(layers)]
    values, activations = [x], []
    for w in weights:
        activations.append(b.tanh(b.contract(values[-1], w, spec="ik,kj->ij")))
        values.append(values[-1] + activations[-1])
    loss = b.sum(values[-1] * values[-1], axes=(0, 1))
    g: Value = values[-1] * 2.0
    updates = []
    for w, value, a in reversed(list(zip(weights, values, activations, strict=False))):
        inner = g * (1.0 - a * a)
        updates.append((w.node, (w - 0.1 * b.contract(value, inner, spec="ki,kj->ij")).node))
        g = g + b.contract(inner, w, spec="ik,jk->ij")
    return b.graph("step", [loss.node], updates)


def test_old_state_is_read_before_it_is_overwritten() -> None:
    plan = plan_of(mlp_step(layers=3))
    state = {buffer for buffer in plan.buffers if buffer.slot is not None and plan.slots[buffer.slot].role == "state"}
    assert len(state) == 3
    for buffer in state:
        writers = [i for i, kernel in enumerate(plan.kernels) if buffer in written(kernel)]
        readers = [i for i, kernel in enumerate(plan.kernels) if buffer in read(kernel)]
        assert len(writers) == 1
        assert max(readers) <= writers[0]
        assert plan.kernels[writers[0]].work.overwrites_safely(plan.kernels[writers[0]].params, buffer)


def total_of(b: Builder, s: Value) -> Value:
    return b.broadcast(b.sum(s, axes=tuple(range(len(s.shape)))), shape=s.shape, axes=())


UPDATES: dict[str, tuple[tuple[int, ...], Callable[[Builder, Value, Value], Value], bool]] = {
    "element by element": ((4, 4), lambda b, s, v: s * 0.5 - b.tanh(v), True),
    "reshaped and back": ((4, 4), lambda b, s, v: b.reshape(b.reshape(s, shape=(16,)) * 2.0, shape=(4, 4)), True),
    "a row's value": ((4,), lambda b, s, v: s - b.sum(v, axes=(0,)) * 0.1, True),
    "a row's value, for its elements": ((4,), lambda b, s, v: s - b.sum(v * spread(b, s, 1), axes=(0,)), True),
    "a row's value, for other rows'": ((4,), lambda b, s, v: s - b.sum(v * spread(b, s, 0), axes=(0,)), False),
    "flipped": ((4, 4), lambda b, s, v: b.flip(s, axes=(0,)) * 0.5 + v, False),
    "transposed": ((4, 4), lambda b, s, v: b.transpose(s, axes=(1, 0)) + v, False),
    "less its own sum": ((4, 4), lambda b, s, v: s - total_of(b, s), False),
    "in a product": ((4, 4), lambda b, s, v: s + b.contract(s, v, spec="ik,kj->ij"), False),
    "beside a product": ((4, 4), lambda b, s, v: s + b.contract(v, v, spec="ik,kj->ij"), True),
}  # fmt: skip


def spread(b: Builder, s: Value, axis: int) -> Value:
    return b.broadcast(s, shape=(4, 4), axes=(axis,))


@pytest.mark.parametrize("name", UPDATES)
def test_what_state_is_renewed_in_place(name: str) -> None:
    """Where a kernel reads the old value but for the element that it writes, the new one is copied at the end."""
    shape, update, in_place = UPDATES[name]
    b = Builder()
    s, v = b.value(b.input("s", Array(F64, shape))), b.value(b.input("v", Array(F64, (4, 4))))
    plan = plan_of(b.graph("update", [], [(s.node, update(b, s, v).node)]))
    verify_plan(plan)
    assert any(kernel.commits for kernel in plan.kernels) == (not in_place)


def test_an_update_rides_in_the_epilogue_of_its_gradient() -> None:
    plan = plan_of(mlp_step(layers=2))
    state = {buffer for buffer in plan.buffers if buffer.slot is not None and plan.slots[buffer.slot].role == "state"}
    writers = [kernel for kernel in plan.kernels if written(kernel) & state]
    assert all(isinstance(kernel.work, Product) and kernel.work.epilogue is not None for kernel in writers)


def test_a_sum_that_several_read_is_stored_in_place_of_its_product() -> None:
    layers = 6
    plan = plan_of(mlp_step(layers))
    backward = [k for k in plan.kernels if isinstance(k.work, Product) and k.work.b_strides[0] == 1]
    assert len(backward) == layers - 1  # the gradient of the first layer's input is not wanted
    for kernel in backward[1:]:
        # Beside both operands: the gradient of the layer above and the activation below.
        assert len(read(kernel)) == 4, print_plan(plan)


@pytest.mark.parametrize(("rows", "kernels"), [(2, 1), (96, 1), (300, 2)])
def test_a_sum_over_few_rows_rides_in_the_epilogue_of_its_product(rows: int, kernels: int) -> None:
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (rows, 20)))), b.value(b.input("w", Array(F64, (20, 70))))
    bias = b.value(b.input("bias", Array(F64, (70,))))
    product = b.tanh(b.contract(x, w, spec="ik,kj->ij"))
    updated = bias - 0.1 * b.sum(product, axes=(0,))
    plan = plan_of(b.graph("f", [product.node, updated.node]))
    verify_plan(plan)
    assert len(plan.kernels) == kernels, print_plan(plan)


def test_what_goes_back_to_the_elements_does_not_ride() -> None:
    b = Builder()
    x, w = b.value(b.input("x", Array(F32, (10, 20)))), b.value(b.input("w", Array(F32, (20, 70))))
    product = b.contract(x, w, spec="ik,kj->ij")
    largest = b.broadcast(b.max(product, axes=(0,)), shape=(10, 70), axes=(1,))
    plan = plan_of(b.graph("f", [b.exp(product - largest).node]))
    assert [isinstance(kernel.work, Loop) for kernel in plan.kernels] == [False, True], print_plan(plan)


def test_bodies_do_not_grow_with_layers() -> None:
    few = {kernel.work for kernel in plan_of(mlp_step(layers=6)).kernels}
    many = {kernel.work for kernel in plan_of(mlp_step(layers=24)).kernels}
    assert len(many) == len(few)


def test_swapped_state_goes_through_shadows() -> None:
    b = Builder()
    p = b.input("p", Array(F32, (8,)))
    q = b.input("q", Array(F32, (8,)))
    plan = plan_of(b.graph("swap", [], [(p, q), (q, p)]))
    assert any(kernel.commits for kernel in plan.kernels)


@pytest.mark.parametrize("seed", range(40))
def test_state_that_becomes_the_old_value_of_other_state(seed: int) -> None:
    """Each new value is the old one of some state, as it is, turned or scaled: whatever the order, nothing is lost."""
    choose = random.Random(seed)
    b = Builder()
    values = [b.value(b.input(f"s{i}", Array(F32, (20, 20)))) for i in range(choose.randint(2, 5))]
    old = [np.random.default_rng((seed, i)).normal(size=(20, 20)).astype(np.float32) for i in range(len(values))]
    updates, wanted = [], list(old)
    for i in choose.sample(range(len(values)), choose.randint(2, len(values))):
        source, kind = choose.randrange(len(values)), choose.randrange(4)
        value, array = values[source], old[source]
        if kind == 2:
            value, array = b.transpose(value, axes=(1, 0)), array.T
        elif kind == 3:
            value, array = value * 0.5, array * np.float32(0.5)
        updates.append((values[i].node, value.node))
        wanted[i] = array
    ran = Ran(b.graph("exchange", [], updates), old)
    for found, want in zip(ran.inputs, wanted, strict=True):
        np.testing.assert_array_equal(found, want)


def test_checks_come_before_the_first_write_of_state() -> None:
    b = Builder()
    w = b.value(b.input("w", Array(F32, (10, 4))))
    y = b.value(b.input("y", Array(I64, (6,))))
    rows = b.take(w, b.check_index(y, size=10, axis=0), axis=0)
    loss = b.sum(rows, axes=(0, 1))
    plan = plan_of(b.graph("step", [loss.node], [(w.node, (w * 0.5).node)]))
    state = {buffer for buffer in plan.buffers if buffer.slot is not None and plan.slots[buffer.slot].role == "state"}
    check = next(i for i, kernel in enumerate(plan.kernels) if type(kernel.work).__name__ == "CheckRange")
    write = next(i for i, kernel in enumerate(plan.kernels) if written(kernel) & state)
    assert check < write


def test_softmax_is_one_kernel() -> None:
    b = Builder()
    x = b.value(b.input("x", Array(F32, (128, 10))))
    top = b.broadcast(b.max(x, axes=(1,)), shape=(128, 10), axes=(0,))
    e = b.exp(x - top)
    y = e / b.broadcast(b.sum(e, axes=(1,)), shape=(128, 10), axes=(0,))
    plan = plan_of(b.graph("softmax", [y.node]))
    assert len(plan.kernels) == 1
    assert isinstance(plan.kernels[0].work, Loop)


@pytest.mark.parametrize(("rows", "kernels"), [(20, 2), (2, 1)])
def test_what_broadcasts_repeat_is_stored_where_that_spares_much(rows: int, kernels: int) -> None:
    b = Builder()
    x, y = (b.value(b.input(name, Array(F64, (5, 300)))) for name in "xy")
    q = b.value(b.input("q", Array(F64, (5, rows, 300))))
    weights = b.broadcast(x * y, shape=(5, rows, 300), axes=(0, 2))
    assert len(plan_of(b.graph("weights", [(weights * q).node])).kernels) == kernels


@pytest.mark.parametrize("returns", [False, True])
def test_a_result_lies_in_place_of_an_operand_unless_a_reduction_returns(returns: bool) -> None:
    """Where the sum goes back to the elements, they are read in a second pass."""
    b = Builder()
    x, w = (b.value(b.input(name, Array(F32, shape))) for name, shape in (("x", (400, 60)), ("w", (50, 60))))
    h = b.cumsum(x, axis=1, reverse=False)
    total = b.sum(h, axes=(1,))
    g = b.exp(h * b.broadcast(total, shape=(400, 60), axes=(0,)) if returns else h)
    total = b.sum(g, axes=(1,))
    plan = plan_of(b.graph("sums", [b.contract(g, w, spec="ij,kj->ik").node, total.node]))
    verify_plan(plan)
    shared = [buffer for buffer in plan.buffers if buffer.inside is not None]
    assert [type(kernel.work).__name__ for kernel in plan.kernels] == ["Running", "Loop", "Product"]
    assert len(shared) == (0 if returns else 1)


@pytest.mark.parametrize(("copies", "kernels"), [(4, 2), (2, 1)])
def test_a_transpose_that_is_read_several_times_is_copied_first(copies: int, kernels: int) -> None:
    b = Builder()
    x, y = (b.value(b.input(name, Array(F64, shape))) for name, shape in (("x", (100, 6)), ("y", (copies, 6))))
    shape = (copies, 6, 100)
    rows = b.broadcast(b.transpose(x, axes=(1, 0)), shape=shape, axes=(1, 2))
    plan = plan_of(b.graph("rows", [(rows - b.broadcast(y, shape=shape, axes=(0, 1))).node]))
    assert len(plan.kernels) == kernels
    work = plan.kernels[-1].work
    assert isinstance(work, Loop)
    strides = {i.coefficients[-1] for i in work.body.code if isinstance(i, Load)}
    assert strides == ({0, 1} if kernels == 2 else {0, 6})


def test_a_product_reads_its_operands_through_movement() -> None:
    """Transposes, steps and reshapes of what lies in memory are strides; a flip would need another one than C's."""
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (40, 30)))), b.value(b.input("w", Array(F64, (160, 50))))
    left = b.transpose(x, axes=(1, 0))
    right = b.reshape(b.slice(w, start=(1, 0), stop=(160, 50), step=(4, 1)), shape=(40, 50))
    plan = plan_of(b.graph("product", [b.contract(left, right, spec="ik,kj->ij").node]))
    (kernel,) = plan.kernels
    assert isinstance(kernel.work, Product)
    assert (kernel.work.a_strides, kernel.work.b_strides) == ((1, 30), (200, 1))
    assert kernel.params[1][1] == 50


def test_plan_text_names_kernels_buffers_and_peak() -> None:
    plan = plan_of(mlp_step(layers=2))
    text = print_plan(plan)
    assert text.startswith("plan @step  arena ")
    assert "product m=16 n=32 k=32" in text
    assert "without reuse" in text
    assert plan.arena_bytes <= plan.bytes_without_reuse
    assert np.all([f"%{buffer.name} " in text for buffer in plan.buffers])
