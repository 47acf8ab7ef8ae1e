"""Loops whose turns come one after the other, in machine code: in registers, as plans in plans, in one another."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import stages
from adjit.codegen.emit import code_rules
from adjit.codegen.nested import turns_between_polls
from adjit.ir.builder import Builder, Value
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.ir.types import F32, F64, Array
from adjit.ops.loops import MOST_TURNS
from adjit.passes.pipeline import optimize
from adjit.schedule.memory import CodeRules
from adjit.schedule.plan import Plan
from adjit.schedule.turns import Nested, StraightLoop
from adjit.schedule.work import Product, Work
from adjit_runtime.target import Target, host_target
from tests.codegen.running import Lowered, Ran
from tests.graphs import GraphMaker
from tests.schedule.texts import WIDE, assert_comes_back
from tests.thresholds import POLLED, force

FORMS = ("registers", "kernels")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether bodies that are small enough stay in registers."""
    if request.param == "kernels":
        in_kernels(monkeypatch)
    return str(request.param)


def in_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def rules(target: Target) -> CodeRules:
        return CodeRules(code_rules(target).scratch)

    monkeypatch.setattr(stages, "code_rules", rules)


def works(plan: Plan) -> list[Work]:
    """The works of a plan, and of those in it."""
    found: list[Work] = []
    for kernel in plan.kernels:
        found.append(kernel.work)
        if kernel.inner is not None:
            found += works(kernel.inner)
    return found


def body_of(seed: int, small: bool, depth: int) -> tuple[Graph, int, int]:
    """A random body: the graph, and how many of its inputs are carried and read part by part; in it, rarely, a loop."""
    choose = random.Random(seed)
    maker = GraphMaker(seed, F32 if seed % 3 == 0 else F64, empty=not small, small=small)
    while len(maker.b.nodes) < (8 if small else 14):
        maker.grow()
    b = maker.b
    if depth:
        results = looped(b, [b.value(node) for node in b.inputs], seed + 1000, small, depth - 1)
        maker.values += [value for value in results if value.dtype == maker.dtype]
    inputs = [b.value(node) for node in b.inputs]
    carried = choose.randint(0, len(inputs))
    sliced = choose.randint(0, len(inputs) - carried)
    results = [maker.values[-1], *choose.choices(maker.values, k=choose.randint(0, 2))]
    news = [_renewed(b, value, choose.choice(maker.values)) for value in inputs[:carried]]
    # What is carried may be handed on as it is, to where another was, or be given out.
    if carried > 1 and inputs[0].type == inputs[1].type and choose.random() < 0.5:
        news[1] = inputs[0]
    if carried and choose.random() < 0.2:
        results.append(inputs[0])
    outputs = [*news, *results]
    return Graph(f"body{seed}", tuple(b.inputs), tuple(b.nodes), tuple(v.node for v in outputs)), carried, sliced


def _renewed(b: Builder, value: Value, other: Value) -> Value:
    """A new value of a carried one's type, which stays small however often it is made anew."""
    axes = tuple(range(len(other.shape)))
    total = b.tanh(b.sum(other, axes=axes) if axes else other)
    if value.shape:
        total = b.broadcast(total, shape=value.shape, axes=())
    return b.tanh(value * 0.75 + total * 0.5) if value.dtype == other.dtype else b.tanh(value * 0.75)


def looped(b: Builder, given: list[Value], seed: int, small: bool, depth: int) -> list[Value]:
    """The results of a random loop, for whose operands `given` is bent."""
    choose = random.Random(seed)
    body, carried, sliced = body_of(seed, small, depth)
    length = choose.choice((0, 1, 2, 3, 7) if not small else (0, 1, 2, 7, 40))
    operands = []
    for i, node in enumerate(body.inputs):
        shape = (length, *node.shape) if carried <= i < carried + sliced else node.shape
        operands.append(_bent(b, choose, given, shape, node.dtype))
    made = b.emit(
        "scan", *(value.node for value in operands), length=length, carried=carried, sliced=sliced,
        reverse=choose.random() < 0.5, body=body,
    )  # fmt: skip
    return [b.value(b.emit("item", made, index=i)) for i in range(len(body.outputs))]


def _bent(b: Builder, choose: random.Random, given: list[Value], shape: tuple[int, ...], dtype: np.dtype) -> Value:
    """A value of that shape made of an input of its own, by itself or through movement; rarely a constant."""
    if choose.random() < 0.1:
        return b.full(0.5, Array(dtype, shape))
    floats = [value for value in given if value.dtype == dtype and value.shape == shape]
    if floats and choose.random() < 0.5:
        return choose.choice(floats)
    scalars = [value for value in given if value.dtype == dtype and not value.shape]
    if scalars and choose.random() < 0.3 and shape:
        return b.broadcast(scalars[0], shape=shape, axes=())
    ramp = b.cast(b.iota(shape=shape, axis=0, dtype=F64), dtype=dtype) if shape else None
    if ramp is not None and given and given[0].dtype == dtype:
        axes = tuple(range(len(given[0].shape)))
        total = b.tanh(b.sum(given[0], axes=axes) if axes else given[0])
        return b.sin(ramp + b.broadcast(total, shape=shape, axes=()))
    return b.full(0.25, Array(dtype, shape))


def program(seed: int, small: bool = False, depth: int = 0) -> tuple[Graph, list[np.ndarray]]:
    """A random graph around a loop, and inputs for it."""
    choose = random.Random(seed)
    body, carried, sliced = body_of(seed, small, depth)
    length = choose.choice((0, 1, 2, 5, 9, 33))
    b = Builder()
    operands = []
    for i, node in enumerate(body.inputs):
        shape = (length, *node.shape) if carried <= i < carried + sliced else node.shape
        operands.append(_outer(b, choose, f"x{i}", shape, node.dtype))
    made = b.emit(
        "scan", *(value.node for value in operands), length=length, carried=carried, sliced=sliced,
        reverse=choose.random() < 0.5, body=body,
    )  # fmt: skip
    items = [b.value(b.emit("item", made, index=i)) for i in range(len(body.outputs))]
    items += [b.tanh(item) if item.dtype.kind == "f" else item for item in items if choose.random() < 0.5]
    items += [b.transpose(item, axes=(1, 0)) for item in items if len(item.shape) == 2 and choose.random() < 0.5]
    graph = b.graph(f"program{seed}", [item.node for item in items])
    rng = np.random.default_rng(seed)
    inputs = [np.asarray(rng.normal(size=node.shape), node.dtype) for node in graph.inputs]
    return graph, inputs


def _outer(b: Builder, choose: random.Random, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Value:
    """An operand of a loop: an input, or a view of one, or what is computed of one."""
    how = choose.choice(("input", "input", "computed", "flipped", "sliced", "transposed", "constant"))
    if how == "constant":
        return b.full(choose.uniform(-1, 1), Array(dtype, shape))
    if how == "sliced" and shape and shape[0]:
        n = shape[0]
        x = b.value(b.input(name, Array(dtype, (3 * n + 2, *shape[1:]))))
        rest = len(shape) - 1
        return b.slice(x, start=(1, *(0,) * rest), stop=(3 * n - 1, *shape[1:]), step=(3, *(1,) * rest))
    if how == "transposed" and len(shape) > 1:
        axes = tuple(reversed(range(len(shape))))
        return b.transpose(b.value(b.input(name, Array(dtype, shape[::-1]))), axes=axes)
    x = b.value(b.input(name, Array(dtype, shape)))
    if how == "flipped" and shape:
        return b.flip(x, axes=(0,))
    return b.tanh(x) if how == "computed" else x


def same(graph: Graph, inputs: list[np.ndarray], **how: Any) -> Ran:
    """Run a graph both ways, and compare."""
    wanted = evaluate(graph, *inputs)
    ran = Ran(graph, inputs, **how)
    assert ran.status == 0
    for found, value in zip(ran.outputs, wanted, strict=True):
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        # Sums are taken in another order, and what is carried on carries their last bits on.
        single = value.dtype == np.float32
        scale = float(np.max(np.abs(value[np.isfinite(value)]), initial=1.0)) if value.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(
            found, value, rtol=1e-3 if single else 1e-9, atol=(1e-4 if single else 1e-10) * scale, equal_nan=True
        )
    return ran


@pytest.mark.parametrize("seed", range(60))
def test_random_loops_of_small_bodies(seed: int, form: str) -> None:
    graph, inputs = program(seed, small=True)
    ran = same(graph if seed % 2 else optimize(graph), inputs)
    assert_comes_back(ran.lowered.plan, host_target())


@pytest.mark.parametrize("seed", range(40))
def test_random_loops(seed: int) -> None:
    graph, inputs = program(seed)
    ran = same(graph if seed % 2 else optimize(graph), inputs)
    assert_comes_back(ran.lowered.plan, host_target())


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("seed", range(16))
def test_random_loops_in_loops(seed: int, small: bool, form: str) -> None:
    graph, inputs = program(seed, small, depth=1 + seed % 2)
    ran = same(graph, inputs)
    assert_comes_back(ran.lowered.plan, host_target())


@pytest.mark.parametrize("seed", range(12))
def test_random_loops_for_another_cpu(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx2" not in host_target().features:
        pytest.skip("this machine does not run AVX2")
    monkeypatch.setitem(os.environ, "ADJIT_CPU", "haswell")
    assert host_target().vector_bytes == 32
    graph, inputs = program(seed, small=seed % 2 == 0)
    same(graph, inputs)


RECURSION = """
graph @recursion(%c: f64[], %x: f64[N], %w: f64[]) -> (f64[], f64[N]) {
  %0 = scan %c, %x, %w length=N carried=1 sliced=1 body=graph @turn(%c: f64[], %x: f64[], %w: f64[]) -> (f64[], f64[]) {
    %0 = mul %c, %w : f64[]
    %1 = add %0, %x : f64[]
    return %1, %0
  } : (f64[], f64[N])
  %1 = item %0 index=0 : f64[]
  %2 = item %0 index=1 : f64[N]
  return %1, %2
}"""

LAYERS = """
graph @layers(%h: f32[40], %x: f32[N,50], %w: f32[50,40]) -> f32[40] {
  %0 = scan %h, %x, %w length=N carried=1 sliced=1 body=
  graph @layer(%h: f32[40], %x: f32[50], %w: f32[50,40]) -> f32[40] {
    %0 = contract %x, %w [k,kj->j] : f32[40]
    %1 = add %0, %h : f32[40]
    %2 = tanh %1 : f32[40]
    return %2
  } : (f32[40])
  %1 = item %0 index=0 : f32[40]
  return %1
}"""


@pytest.mark.parametrize("text", [RECURSION, LAYERS])
def test_code_does_not_grow_with_the_turns(text: str) -> None:
    graphs = [parse(text.replace("N", str(n))) for n in (10, 1000, 100_000)]
    lines = [Lowered(graph, WIDE).llvm.count("\n") for graph in graphs]
    # The loop over ranges, between which a long one may be left, is a few lines.
    assert max(lines) - min(lines) < 40


def test_kinds_of_loops() -> None:
    (line,) = Lowered(parse(RECURSION.replace("N", "9")), WIDE).plan.kernels
    assert isinstance(line.work, StraightLoop)
    layers = Lowered(parse(LAYERS.replace("N", "9")), WIDE).plan
    assert [type(kernel.work) for kernel in layers.kernels][-1] is Nested
    assert "in registers" not in str(layers.kernels[-1].work)


COUNTED = """
graph @counted(%c: f64[], %x: f64[6], %y: f64[6,WIDE], %n: i64[]) -> (f64[], f64[6]) {
  %0 = scan %c, %x, %y, %n length=6 carried=1 sliced=2 REVERSEcounted=true body=
  graph @turn(%c: f64[], %x: f64[], %y: f64[WIDE]) -> (f64[], f64[]) {
    %0 = mul %c, 0.5 : f64[]
    %1 = sum %y axes=(0) : f64[]
    %2 = mul %1, %x : f64[]
    %3 = add %0, %2 : f64[]
    return %3, %0
  } : (f64[], f64[6])
  %1 = item %0 index=0 : f64[]
  %2 = item %0 index=1 : f64[6]
  return %1, %2
}"""


@pytest.mark.parametrize("width", [3, 3000])
@pytest.mark.parametrize("reverse", ["", "reverse=true "])
def test_a_number_of_turns_that_is_known_when_it_runs(width: int, reverse: str, form: str) -> None:
    graph = parse(COUNTED.replace("WIDE", str(width)).replace("REVERSE", reverse))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=6), rng.normal(size=(6, width))
    for n in (-(2**63), -1, 0, 1, 4, 6, 7, 2**63 - 1):
        inputs = [np.array(1.5), x, y, np.array(n)]
        ran, wanted = Ran(graph, inputs), evaluate(graph, *inputs)
        np.testing.assert_allclose(ran.outputs[0], wanted[0], rtol=1e-12)
        count = min(max(n, 0), 6)
        # What is stacked for turns that do not run is arbitrary.
        np.testing.assert_allclose(ran.outputs[1][:count], wanted[1][:count], rtol=1e-12)
    assert_comes_back(ran.lowered.plan, host_target())


STOPPED = """
graph @stopped(%n: i64[], %c: f64[WIDE]) -> (i64[], f64[WIDE]) {
  %0 = gt %n, 1 : bool[]
  %1 = scan %0, %n, %c length=LENGTH carried=3 sliced=0 stops=true body=
  graph @collatz(%go: bool[], %n: i64[], %c: f64[WIDE]) -> (bool[], i64[], f64[WIDE]) {
    %0 = remainder %n, 2 : i64[]
    %1 = eq %0, 0 : bool[]
    %2 = floor_divide %n, 2 : i64[]
    %3 = mul %n, 3 : i64[]
    %4 = add %3, 1 : i64[]
    %5 = select %1, %2, %4 : i64[]
    %6 = gt %5, 1 : bool[]
    %7 = add %c, 1.0 : f64[WIDE]
    return %6, %5, %7
  } : (bool[], i64[], f64[WIDE])
  %2 = item %1 index=1 : i64[]
  %3 = item %1 index=2 : f64[WIDE]
  return %2, %3
}"""


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("width", [2, 400])
@pytest.mark.parametrize("length", [0, 50, MOST_TURNS])
def test_loops_that_stop(length: int, width: int, polled: bool, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if polled:
        force(monkeypatch, POLLED)
    graph = parse(STOPPED.replace("WIDE", str(width)).replace("LENGTH", str(length)))
    for n in (1, 2, 7, 27):
        ran = same(graph, [np.array(n), np.zeros(width)])
    assert_comes_back(ran.lowered.plan, host_target())
    if length == MOST_TURNS:
        assert int(ran.outputs[1][0]) == 111
        assert "@adjit_poll(" in ran.lowered.llvm


@pytest.mark.parametrize("way", ["counted", "stops"])
def test_what_decides_on_turns_is_read(way: str, form: str) -> None:
    """A kernel that computes it, small and with state of its own, is not put off past the loop."""
    graph = parse(
        (COUNTED if way == "counted" else STOPPED).replace("WIDE", "40").replace("REVERSE", "").replace("LENGTH", "9")
    )
    loop = Lowered(graph, host_target()).plan.kernels[-1]
    assert isinstance(loop.work, Nested | StraightLoop)
    decides = {buffer.name for number, (buffer, _) in enumerate(loop.params) if number in loop.work.reads}
    assert ("n" if way == "counted" else loop.params[0][0].name) in decides


CHECKED = """
graph @checked(%c: f64[], %at: i64[5], %w: f64[300]) -> f64[] {
  %0 = check_index %at size=900 axis=0 : i64[5]
  %1 = cast %0 dtype=f64 : f64[5]
  %2 = scan %c, %at, %1, %w length=5 carried=1 sliced=2 body=
  graph @turn(%c: f64[], %at: i64[], %s: f64[], %w: f64[300]) -> f64[] {
    %0 = check_index %at size=300 axis=0 : i64[]   # model.py:7
    %1 = take %w, %0 axis=0 : f64[]
    %2 = scan %c, %at, %w length=2 carried=1 sliced=0 body=graph @inner(%c: f64[], %at: i64[], %w: f64[300]) -> f64[] {
      %0 = add %at, 1 : i64[]
      %1 = check_index %0 size=300 axis=0 : i64[]  # model.py:9
      %2 = take %w, %1 axis=0 : f64[]
      %3 = add %2, %c : f64[]
      return %3
    } : (f64[])
    %3 = item %2 index=0 : f64[]
    %4 = add %3, %1 : f64[]
    %5 = add %4, %s : f64[]
    return %5
  } : (f64[])
  %3 = item %2 index=0 : f64[]
  return %3
}"""


@pytest.mark.parametrize(
    ("index", "line", "value"), [(299, "model.py:9", 300), (300, "model.py:7", 300), (-301, "model.py:7", -301)]
)
def test_a_check_in_a_loop_names_its_line(index: int, line: str, value: int) -> None:
    graph = parse(CHECKED)
    good = np.array([0, 1, 298, -1, 5])
    same(graph, [np.array(0.5), np.array([0, 1, 298, -5, 5]), np.arange(300.0)])
    good[3] = index
    ran = Ran(graph, [np.array(0.5), good, np.arange(300.0)])
    check = ran.lowered.program.checks[ran.status - 1]
    assert check.error == "IndexOutOfRange"
    assert check.message(int(ran.report[0])).startswith(f"{line}: index {value} is out of bounds")


@pytest.mark.parametrize("text", [RECURSION, LAYERS])
def test_long_loops_poll(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse(text.replace("N", "30"))
    rng = np.random.default_rng(0)
    inputs = [np.asarray(rng.normal(size=node.shape), node.dtype) for node in graph.inputs]
    plain = same(graph, inputs)
    assert "@adjit_poll(" not in plain.lowered.llvm
    force(monkeypatch, POLLED)
    polled = Ran(parse(text.replace("N", "30")), inputs)
    assert "@adjit_poll(" in polled.lowered.llvm
    for found, wanted in zip(polled.outputs, plain.outputs, strict=True):
        np.testing.assert_array_equal(found, wanted)
    (work,) = [w for w in works(polled.lowered.plan) if isinstance(w, Nested | StraightLoop)]
    assert turns_between_polls(work, host_target()) == 1


def test_state_that_a_loop_makes_anew() -> None:
    """A step whose state is what a loop carried: the old value is read to the end."""
    text = """
    graph @step(%p: f64[30], %x: f64[6,30]) -> f64[] {
      %0 = scan %p, %x, %p length=6 carried=1 sliced=1 body=
      graph @turn(%c: f64[30], %x: f64[30], %p: f64[30]) -> f64[30] {
        %0 = mul %c, %x : f64[30]
        %1 = add %0, %p : f64[30]
        return %1
      } : (f64[30])
      %1 = item %0 index=0 : f64[30]
      %2 = mul %1, %p : f64[30]
      %3 = sum %2 axes=(0) : f64[]
      return %3
      update %p = %1
    }"""
    graph = parse(text)
    rng = np.random.default_rng(3)
    p, x = rng.normal(size=30), rng.normal(size=(6, 30))
    ran = Ran(graph, [p, x])
    c = p
    for row in x:
        c = c * row + p
    np.testing.assert_allclose(ran.outputs[0], np.sum(c * p), rtol=1e-12)
    np.testing.assert_allclose(ran.inputs[0], c, rtol=1e-12)


def test_what_is_carried_begins_as_what_the_turns_read() -> None:
    """By way of a transpose that has memory of its own: no turn writes there."""
    text = """
    graph @f(%x: f64[3], %n: i64[3]) -> (f64[3], f64[3,3,3]) {
      %0 = scan %n length=3 carried=0 sliced=1 body=graph @row(%i: i64[]) -> f64[3] {
        %0 = cast %i dtype=f64 : f64[]
        %1 = broadcast %0 shape=(3) axes=() : f64[3]
        return %1
      } : (f64[3,3])
      %1 = item %0 index=0 : f64[3,3]
      %2 = transpose %1 axes=(1,0) : f64[3,3]
      %3 = scan %x, %2, %2 length=3 carried=2 sliced=0 body=
      graph @turn(%h: f64[3], %c: f64[3,3], %w: f64[3,3]) -> (f64[3], f64[3,3], f64[3,3]) {
        %0 = scan %h length=3 carried=1 sliced=0 body=graph @inner(%h: f64[3]) -> f64[3] {
          %0 = tanh %h : f64[3]
          return %0
        } : (f64[3])
        %1 = item %0 index=0 : f64[3]
        %2 = broadcast %1 shape=(3,3) axes=(1) : f64[3,3]
        %3 = add %2, %w : f64[3,3]
        %4 = mul 0.5, %c : f64[3,3]
        return %1, %4, %3
      } : (f64[3], f64[3,3], f64[3,3,3])
      %4 = item %3 index=0 : f64[3]
      %5 = item %3 index=2 : f64[3,3,3]
      return %4, %5
    }"""
    graph = parse(text)
    inputs = [np.array([0.5, -1.0, 2.0]), np.array([1, 5, 7])]
    ran = Ran(graph, inputs)
    for found, wanted in zip(ran.outputs, evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_what_a_loop_reads_is_also_a_part_of_a_concatenation() -> None:
    """That lies in the result with its strides, and once more without gaps for the loop."""

    def f(x: Any) -> Any:
        w = adjit.map(lambda row: np.tanh(row) * row.sum(), x).T
        last, ws = adjit.scan(lambda c, _: (np.sin(c @ w), w * c.sum()), x[0], length=3)
        return np.concatenate([w, np.cos(x)], axis=1), last, ws

    x = np.random.default_rng(0).normal(size=(6, 6))
    for found, wanted in zip(adjit.jit(f)(x), f(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("reverse", ["false", "true"])
def test_threads_share_turns_that_need_no_other(reverse: str) -> None:
    text = """
    graph @rows(%x: f64[700,600], %w: f64[600]) -> f64[700,600] {
      %0 = scan %x, %w length=700 carried=0 sliced=1 reverse=REVERSE body=
      graph @row(%x: f64[600], %w: f64[600]) -> f64[600] {
        %0 = cumsum %x axis=0 : f64[600]
        %1 = exp %0 : f64[600]
        %2 = mul %1, %w : f64[600]
        return %2
      } : (f64[700,600])
      %1 = item %0 index=0 : f64[700,600]
      return %1
    }"""
    graph = parse(text.replace("REVERSE", reverse))
    rng = np.random.default_rng(3)
    inputs = [rng.normal(size=(700, 600)) * 0.01, rng.normal(size=600)]
    whole = same(graph, inputs)
    (work,) = [w for w in works(whole.lowered.plan) if isinstance(w, Nested)]
    assert work.is_shared
    for threads in (1, 2, 3):
        for order in ("forward", "backward"):
            found = Ran(graph, inputs, threads=threads, order=order)
            np.testing.assert_array_equal(found.outputs[0], whole.outputs[0])


def test_threads_share_the_products_of_a_turn() -> None:
    text = """
    graph @deep(%h: f32[256,256], %w: f32[3,256,256]) -> f32[256,256] {
      %0 = scan %h, %w length=3 carried=1 sliced=1 body=
      graph @layer(%h: f32[256,256], %w: f32[256,256]) -> f32[256,256] {
        %0 = contract %h, %w [ik,kj->ij] : f32[256,256]
        %1 = tanh %0 : f32[256,256]
        return %1
      } : (f32[256,256])
      %1 = item %0 index=0 : f32[256,256]
      return %1
    }"""
    graph = parse(text)
    rng = np.random.default_rng(3)
    inputs = [np.asarray(rng.normal(size=node.shape) * 0.1, np.float32) for node in graph.inputs]
    whole = same(graph, inputs)
    assert any(isinstance(work, Product) for work in works(whole.lowered.plan))
    for threads in (2, 3):
        found = Ran(graph, inputs, threads=threads)
        np.testing.assert_array_equal(found.outputs[0], whole.outputs[0])


def _element(i: Any, y: Any) -> Any:
    y[i] = 0.5 * y[i - 1] + 1.0
    return y


def _several(i: Any, y: Any) -> Any:
    """Each element is made of others that are written, too."""
    places = adjit.asarray(np.array([3, 1, 0, 2]))
    y[places] = 2.0 * y[(places + i) % 4]
    return y


def _added(i: Any, y: Any) -> Any:
    y[i] += y[0] + y[-1]
    return y


def _read_after(i: Any, y: Any) -> Any:
    old = y.copy()
    y[i] = 3.0
    return y + 0.25 * old


def _rows(i: Any, y: Any) -> Any:
    y = y.reshape(8, 8)
    y[i] = y[i - 1] * 0.5 + y[:, i]
    return y.reshape(64)


@pytest.mark.parametrize("body", [_element, _several, _added, _read_after, _rows])
def test_writes_into_what_is_carried(body: Any) -> None:
    start = np.random.default_rng(5).normal(size=64)

    def loop(y: Any) -> Any:
        return adjit.fori_loop(1, 8, body, y)

    kept = start.copy()
    compiled = adjit.jit(loop)
    np.testing.assert_allclose(compiled(start), loop(start), rtol=1e-13)
    np.testing.assert_array_equal(start, kept)


def test_an_element_that_is_written_copies_nothing() -> None:
    function = adjit.jit(lambda y: adjit.fori_loop(1, 500, _element, y))
    function(np.ones(500))
    turns = str(function.ir("plan")).split(" turns on ")[1]
    assert "loop over (500)" not in turns
    assert "scatter over () set v1 -> %carry[" in turns


def test_state_that_is_written_at_computed_places() -> None:
    """The old value is read first, and to the end; where it cannot be, the new one goes to another place."""

    def loss(p: Any, at: Any, x: Any) -> Any:
        new = p.copy()
        new[at] = x
        return np.sum(new**2) + np.sum(p)

    rng = np.random.default_rng(5)
    p, at, x = rng.normal(size=30), rng.permutation(30)[:9], rng.normal(size=9)
    value, gradient = adjit.value_and_grad(loss)(p, at, x)
    changed = p.copy()
    changed[at] = x
    np.testing.assert_allclose(value, np.sum(changed**2) + np.sum(p), rtol=1e-12)
    mask = np.ones(30)
    mask[at] = 0
    np.testing.assert_allclose(gradient, 2 * p * mask + 1, rtol=1e-12)


def test_nothing_is_written_to_what_is_empty() -> None:
    text = """
    graph @empty(%x: f64[2,3]) -> (f64[2,0,3], f64[2,0,3]) {
      %0 = scan %x length=2 carried=0 sliced=1 body=graph @turn(%x: f64[3]) -> (f64[0,3], f64[0,3]) {
        %0 = scan %x length=0 carried=0 sliced=0 body=graph @inner(%x: f64[3]) -> f64[3] {
          %0 = tanh %x : f64[3]
          return %0
        } : (f64[0,3])
        %1 = item %0 index=0 : f64[0,3]
        return %1, %1
      } : (f64[2,0,3], f64[2,0,3])
      %1 = item %0 index=0 : f64[2,0,3]
      %2 = item %0 index=1 : f64[2,0,3]
      return %1, %2
    }"""
    same(parse(text), [np.ones((2, 3))])
