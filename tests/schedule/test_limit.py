"""What a plan computes again so that it needs less memory: bits stay, plans hold, waits are orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjit.autodiff.reverse import gradient
from adjit.codegen.emit import code_rules
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.parse import parse
from adjit.ir.text import print_graph
from adjit.ir.types import Array
from adjit.ir.verify import verify
from adjit.passes.pipeline import optimize
from adjit.schedule.limit import Unreached, plan_within
from adjit.schedule.memory import CodeRules
from adjit.schedule.planner import make_plan, timeline_of
from adjit.schedule.recompute import recompute
from adjit.schedule.slots import slots_of
from adjit.schedule.verify import verify_plan
from adjit_runtime.target import host_target

F64 = np.dtype(np.float64)
TARGET, RULES = host_target(), CodeRules()


def layers(count: int, rows: int, n: int, op: str = "tanh") -> Graph:
    """The gradient of a chain of layers by all of its weights."""
    b = Builder()
    x = b.input("x", Array(F64, (rows, n)))
    h: Any = b.value(x)
    for i in range(count):
        w = b.value(b.input(f"w{i}", Array(F64, (n, n))))
        product = b.contract(h, w, spec="ik,kj->ij")
        # Two of them are read late.
        h = b.tanh(product) * b.value(b.emit(op, product.node))
    graph = b.graph("layers", [b.sum(h * h, axes=(0, 1)).node])
    return optimize(gradient(graph, range(1, count + 1)), tiles=False)


def values_of(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=node.shape) / 3 for node in graph.inputs]


@pytest.mark.parametrize("op", ["tanh", "exp", "sin"])
@pytest.mark.parametrize("count", [3, 12])
def test_every_way_gives_the_same_bits(op: str, count: int) -> None:
    graph = layers(count, 33, 20, op)
    inputs = values_of(graph)
    wanted = evaluate(graph, *inputs)
    time = timeline_of(graph, TARGET, slots_of(graph), RULES)
    arenas = [make_plan(graph, TARGET, slots_of(graph), RULES).arena_bytes]
    for stretches in time.ways():
        made = recompute(time, stretches)
        verify(made)
        for found, value in zip(evaluate(made, *inputs), wanted, strict=True):
            np.testing.assert_array_equal(found, value)
        plan = make_plan(made, TARGET, slots_of(graph), RULES)
        verify_plan(plan)
        arenas.append(plan.arena_bytes)
    assert len(arenas) > 2
    assert min(arenas) < (0.45 if count == 12 else 0.9) * arenas[0]


def test_of_a_chain_all_but_the_square_root_is_gone() -> None:
    """Of 48 layers some 2 sqrt(48) activations are alive at a time, and no layer is computed more than twice."""
    graph = layers(48, 24, 16)
    first = make_plan(graph, TARGET, slots_of(graph), RULES)
    with pytest.raises(Unreached) as caught:
        plan_within(0, graph, TARGET, slots_of(graph), RULES)
    assert caught.value.smallest < 0.35 * first.arena_bytes
    plan, again = plan_within(caught.value.smallest, graph, TARGET, slots_of(graph), RULES)
    assert again is not None
    assert again.before < again.after < 2 * again.before
    products = [kernel for kernel in plan.kernels if "Product" in type(kernel.work).__name__]
    assert len(products) <= 4 * 48


def test_what_its_kernel_reads_itself_is_not_put_off() -> None:
    """tanh is read at once, for its square, and late: put off, its product would be computed twice."""
    graph = layers(6, 24, 16)
    time = timeline_of(graph, TARGET, slots_of(graph), RULES)
    assert any(node.op.name == "tanh" for node in time.uses)
    assert not any(node.op.name == "tanh" for stretch in time.later() for node in stretch.values)


def test_a_smaller_limit_never_needs_more() -> None:
    graph = layers(12, 24, 16)
    first = make_plan(graph, TARGET, slots_of(graph), RULES)
    before, again = first.arena_bytes, 0.0
    for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        limit = int(share * first.arena_bytes)
        plan, found = plan_within(limit, graph, TARGET, slots_of(graph), RULES)
        assert plan.arena_bytes <= min(limit, before)
        time = found.after if found is not None else 0.0
        assert time >= again * 0.99
        before, again = plan.arena_bytes, time


def test_without_need_nothing_is_computed_again() -> None:
    graph = layers(4, 20, 16)
    first = make_plan(graph, TARGET, slots_of(graph), RULES)
    plan, again = plan_within(first.arena_bytes, graph, TARGET, slots_of(graph), RULES)
    assert again is None
    assert len(plan.kernels) == len(first.kernels)


def test_what_products_pack_in_counts() -> None:
    graph = layers(4, 64, 64)
    rules = code_rules(TARGET)
    plan = make_plan(graph, TARGET, slots_of(graph), rules)
    assert rules.memory(plan) > plan.arena_bytes
    with pytest.raises(Unreached):
        plan_within(plan.arena_bytes, graph, TARGET, slots_of(graph), CodeRules(memory=lambda plan: 1 << 40))


@pytest.mark.parametrize(
    ("shape", "gate"), [((), (3,)), ((17,), (2, 5)), ((3, 5), ()), ((0,), (4,)), ((2, 1, 5), (0,))]
)
def test_what_waits_is_what_it_was(shape: tuple[int, ...], gate: tuple[int, ...]) -> None:
    """`after` prints, parses, and plans, read by itself, by an element, by a product and by a sum."""
    b = Builder()
    x, y = b.input("x", Array(F64, shape)), b.input("y", Array(F64, gate))
    late = b.value(b.emit("after", x, b.exp(b.value(y)).node))
    outputs = [late, late + 1.0, b.sum(late * late, axes=tuple(range(len(shape))))]
    graph = b.graph("waits", [value.node for value in outputs])
    assert print_graph(parse(print_graph(graph))) == print_graph(graph)
    verify_plan(make_plan(graph, TARGET, slots_of(graph), RULES))
    x_value = np.arange(float(np.prod(shape))).reshape(shape)
    found = evaluate(graph, x_value, np.ones(gate))
    np.testing.assert_array_equal(found[0], x_value)
    np.testing.assert_array_equal(found[1], x_value + 1)


def test_waiting_is_an_order_of_kernels() -> None:
    """Without it the product that is ready would come first."""
    b = Builder()
    x = b.value(b.input("x", Array(F64, (40, 40))))
    first = b.contract(b.contract(x, x, spec="ik,kj->ij"), x, spec="ik,kj->ij")
    waiting = b.contract(b.value(b.emit("after", x.node, first.node)), x, spec="ki,kj->ij")
    graph = b.graph("order", [waiting.node, first.node])
    plan = make_plan(graph, TARGET, slots_of(graph), RULES)
    outputs = [next(iter(buffer.slot for buffer, _ in kernel.params[2:3])) for kernel in plan.kernels]
    assert outputs.index(2) < outputs.index(1)
