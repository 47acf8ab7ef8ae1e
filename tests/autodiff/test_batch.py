"""A batched graph gives for each value of the batch what the graph gives for it, whichever inputs are batched and along
whichever axis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from adjit.autodiff.batch import batch
from adjit.autodiff.chunks import batch_in_chunks
from adjit.ir.builder import Builder
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.op import OPS
from adjit.ir.text import parse
from adjit.ir.types import BOOL, F64, I64, Array
from adjit.ir.verify import verify
from adjit_runtime.errors import DomainError, IndexOutOfRange, InternalError
from tests.both import run_both
from tests.graphs import GraphMaker, arrays
from tests.ops.samples import COMPUTED, Case, assert_close, cases_of, graph_of, tolerance

SIZES = (3, 1, 0)
LARGEST = 120
MOST_CASES = 24
RNG = np.random.default_rng(0)
Axes = Sequence[int | None]


def values_of(array: np.ndarray, size: int) -> list[np.ndarray]:
    """So many different values like `array`, in the domain that it is from."""
    rolled = [np.roll(array, turn) for turn in range(size)]
    return [x * x.dtype.type(1 - turn / 32) if x.dtype.kind == "f" else x for turn, x in enumerate(rolled)]


def stacked(array: np.ndarray, size: int, axis: int | None) -> np.ndarray:
    """These values along an axis; the array itself without one."""
    if axis is None:
        return array
    if not size:
        return np.empty((*array.shape[:axis], 0, *array.shape[axis:]), array.dtype)
    return np.stack(values_of(array, size), axis=axis)


def one(array: np.ndarray, turn: int, axis: int | None) -> np.ndarray:
    return array if axis is None else np.take(array, turn, axis=axis)


def small(name: str) -> list[Case]:
    """A few cases of an op, of all dtypes, shapes and attributes that there are, and none too large."""
    found = [case for case in cases_of(name) if all(array.size <= LARGEST for array in case.arrays)]
    return found[:: max(1, len(found) // MOST_CASES)]


def subsets(count: int) -> Iterator[tuple[bool, ...]]:
    """Each operand alone, all of them, and all but one."""
    for flags in itertools.product((False, True), repeat=count):
        if sum(flags) in (1, count, count - 1) and any(flags):
            yield flags


def placements(arrays: Sequence[np.ndarray]) -> Iterator[tuple[int | None, ...]]:
    """For each subset of operands the batch along axis 0, and along every other axis of each."""
    for flags in subsets(len(arrays)):
        yield tuple(0 if flag else None for flag in flags)
        for i, array in enumerate(arrays):
            for axis in range(1, array.ndim + 1) if flags[i] else ():
                yield tuple((axis if i == j else 0) if flag else None for j, flag in enumerate(flags))


def check(graph: Graph, axes: Axes, given: Sequence[np.ndarray], size: int, case: Case | None = None) -> None:
    """The batched graph against a loop over the graph."""
    made = batch(graph, axes, size)
    verify(made.graph)
    assert [node.attrs["name"] for node in made.graph.inputs] == [node.attrs["name"] for node in graph.inputs]
    found = evaluate(made.graph, *given)
    for output, flag, array in zip(graph.outputs, made.outputs, found, strict=True):
        assert array.shape == ((size, *output.shape) if flag else output.shape)
    for turn in range(size):
        wanted = evaluate(graph, *(one(array, turn, axis) for array, axis in zip(given, axes, strict=True)))
        for have, want, flag in zip(found, wanted, made.outputs, strict=True):
            compare(have[turn] if flag else have, want, case)


def compare(found: np.ndarray, wanted: np.ndarray, case: Case | None) -> None:
    if case is not None:
        assert_close(np.asarray(found), np.asarray(wanted), case, tolerance(case))
        return
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted)
        return
    # Sums are taken in another order, and NumPy's functions differ in the last bits by where an element stands.
    scale = float(np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12 * scale)


@pytest.mark.parametrize("name", [name for name in COMPUTED if name != "iota"])
def test_every_op(name: str) -> None:
    for case in small(name):
        graph = graph_of([case])
        for axes in placements(case.arrays):
            given = [stacked(array, 3, axis) for array, axis in zip(case.arrays, axes, strict=True)]
            if name == "check_holds":
                given[1] = np.ones_like(given[1])
            check(graph, axes, given, 3, case)


@pytest.mark.parametrize("size", SIZES)
def test_every_op_by_size(size: int) -> None:
    for name in COMPUTED:
        for case in small(name)[::6]:
            if not case.arrays:
                continue
            axes = [array.ndim for array in case.arrays]
            given = [stacked(array, size, axis) for array, axis in zip(case.arrays, axes, strict=True)]
            made = batch(graph_of([case]), axes, size)
            verify(made.graph)
            assert made.outputs == (True,)
            (found,) = evaluate(made.graph, *given)
            assert len(found) == size
            for turn in range(size):
                arrays = (one(array, turn, axis) for array, axis in zip(given, axes, strict=True))
                assert_close(found[turn], evaluate(graph_of([case]), *arrays)[0], case, tolerance(case))


def kinds() -> list[str]:
    return sorted({OPS[name].kind for name in COMPUTED} - {"creation"})


@pytest.mark.parametrize("kind", kinds())
def test_in_machine_code(kind: str) -> None:
    names = [name for name in COMPUTED if OPS[name].kind == kind]
    cases = [case for name in names for case in small(name)[:: 12 if len(names) > 3 else 3]]
    # A pow of integers is refused for negative exponents, whose sign values_of keeps.
    graph = graph_of(cases)
    given, axes = [], []
    for number, array in enumerate(array for case in cases for array in case.arrays):
        axes.append((0, array.ndim, None)[number % 3])
        given.append(stacked(array, 3, axes[-1]))
    with np.errstate(all="ignore"):
        run_both(batch(graph, axes, 3).graph, *given)


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs(seed: int) -> None:
    graph = GraphMaker(seed).graph(20)
    given = arrays(graph, seed)
    choose = np.random.default_rng(seed)
    axes: list[int | None] = [int(choose.integers(0, x.ndim + 1)) if choose.random() < 0.7 else None for x in given]
    axes[0] = 0 if axes == [None] * len(axes) else axes[0]
    size = (3, 1, 2)[seed % 3]
    filled = [stacked(array, size, axis) for array, axis in zip(given, axes, strict=True)]
    check(graph, axes, filled, size)
    if seed < 6:
        run_both(batch(graph, axes, size).graph, *filled, terms=10.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_of_batches(seed: int) -> None:
    graph = GraphMaker(100 + seed).graph(15)
    given = arrays(graph, seed)
    inner = batch(graph, [0] * len(given), 2)
    outer = batch(inner.graph, [array.ndim + 1 for array in given], 3)
    verify(outer.graph)
    filled = [np.stack([stacked(array, 2, 0) + turn for turn in range(3)], axis=-1) for array in given]
    found = evaluate(outer.graph, *filled)
    for i, j in itertools.product(range(3), range(2)):
        wanted = evaluate(graph, *(array[j, ..., i] for array in filled))
        for have, want, flags in zip(found, wanted, zip(outer.outputs, inner.outputs, strict=True), strict=True):
            compare(have[i, j] if all(flags) else have, want, None)


# -- what depends on the batch --------------------------------------------------------------------------------------


def test_what_does_not_depend_on_the_batch_stays_as_it_is() -> None:
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (3,)))), b.value(b.input("w", Array(F64, (3, 4))))
    both = b.contract(x, b.tanh(w), spec="i,ij->j")
    graph = b.graph("f", [both.node, b.exp(w).node])
    made = batch(graph, [0, None], 5)
    assert made.outputs == (True, False)
    assert [node.shape for node in made.graph.outputs] == [(5, 4), (3, 4)]
    # The weights are neither repeated nor made a batch of.
    assert max(node.array_type.size for node in made.graph.nodes) == 20
    assert batch(graph, [None, None], 5).outputs == (False, False)


def test_products_of_a_batch_with_one_matrix_are_one_product() -> None:
    b = Builder()
    x, w = b.value(b.input("x", Array(F64, (3,)))), b.value(b.input("w", Array(F64, (3, 4))))
    made = batch(b.graph("f", [b.contract(x, w, spec="i,ij->j").node]), [0, None], 5)
    assert [str(node.attrs["spec"]) for node in made.graph.nodes] == ["ai,ij->aj"]


def test_what_is_taken_from_one_array_does_not_repeat_it() -> None:
    b = Builder()
    x, index = b.input("x", Array(F64, (7, 4))), b.input("i", Array(I64, (2,)))
    for axis in (0, 1):
        made = batch(b.graph("f", [b.emit("take", x, index, axis=axis)]), [None, 0], 5)
        assert not any("broadcast" in str(node.op) for node in made.graph.nodes)


def test_a_weak_scalar_is_strong_in_a_batch() -> None:
    b = Builder()
    x = b.input("x", Array(F64, (), True))
    graph = b.graph("f", [b.emit("cast", b.emit("add", x, b.splat(1.0, x.array_type)), dtype=F64, weak=True)])
    made = batch(graph, [0], 4)
    verify(made.graph)
    assert made.graph.outputs[0].array_type == Array(F64, (4,))


def test_a_graph_keeps_its_checks_in_order() -> None:
    b = Builder()
    index = b.input("i", Array(I64, ()))
    near, far = (b.emit("check_index", index, size=size, axis=0) for size in (3, 2))
    made = batch(b.graph("f", [far, near]), [0], 4)
    assert [node.attrs["size"] for node in made.graph.nodes] == [3, 2]
    with pytest.raises(IndexOutOfRange, match="index 5 is out of bounds for axis 0 with size 3"):
        run_both(made.graph, np.array([0, 1, 5, 2]))


def test_what_must_be_true_of_each_must_be_true_of_all() -> None:
    b = Builder()
    x, holds = b.input("x", Array(I64, ())), b.input("holds", Array(BOOL, ()))
    graph = b.graph("f", [b.emit("check_holds", x, holds, error="DomainError", text="no")])
    for axes in ([None, 0], [0, 0]):
        made = batch(graph, axes, 3)
        given = [np.array(7) if axis is None else np.array([7, 8, 9]) for axis in axes[:1]]
        (found,) = run_both(made.graph, *given, np.array([True, True, True]))
        np.testing.assert_array_equal(found, np.broadcast_to(given[0], 3))
        with pytest.raises(DomainError, match="no"):
            run_both(made.graph, *given, np.array([True, False, True]))


def test_the_last_of_several_writes_stands() -> None:
    b = Builder()
    x, index, update = b.input("x", Array(F64, (4,))), b.input("i", Array(I64, (3,))), b.input("u", Array(F64, (3,)))
    graph = b.graph("f", [b.emit("scatter", x, index, update, axis=0)])
    given = [np.zeros((2, 4)), np.array([[1, 1, 3], [2, 0, 2]]), np.arange(6.0).reshape(2, 3)]
    for flags in subsets(3):
        axes = [0 if flag else None for flag in flags]
        check(graph, axes, [array if flag else array[0] for array, flag in zip(given, flags, strict=True)], 2)


# -- loops ----------------------------------------------------------------------------------------------------------

LOOP = """graph @f(%c: f64[2], %k: f64[], %x: f64[{length},2], %w: f64[2,2], %s: f64[]) -> (f64[2], f64[], \
f64[{length},2], f64[{length}]) {{
  %0 = scan %c, %k, %x, %w, %s length={length} carried=2 sliced=1 reverse={reverse} body=graph @turn(%c: f64[2], \
%k: f64[], %x: f64[2], %w: f64[2,2], %s: f64[]) -> (f64[2], f64[], f64[2], f64[]) {{
    %0 = contract %c, %w [i,ij->j] : f64[2]
    %1 = add %0, %x : f64[2]
    %2 = tanh %1 : f64[2]
    %3 = mul %k, %s : f64[]
    %4 = sin %3 : f64[]
    %5 = sub %2, %c : f64[2]
    return %2, %4, %5, %3
  }} : (f64[2], f64[], f64[{length},2], f64[{length}])
  %1 = item %0 index=0 : f64[2]
  %2 = item %0 index=1 : f64[]
  %3 = item %0 index=2 : f64[{length},2]
  %4 = item %0 index=3 : f64[{length}]
  return %1, %2, %3, %4
}}"""


def loop(length: int = 4, reverse: bool = False) -> Graph:
    return parse(LOOP.format(length=length, reverse=str(reverse).lower()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [4, 1, 0])
def test_a_loop(length: int, reverse: bool) -> None:
    graph = loop(length, reverse)
    given = arrays(graph, 3)
    for axes in placements(given):
        filled = [stacked(array, 3, axis) for array, axis in zip(given, axes, strict=True)]
        check(graph, axes, filled, 3)


def test_a_loop_in_machine_code() -> None:
    graph = loop()
    given = arrays(graph, 3)
    for axes in ([0, None, 1, None, None], [None, 0, None, 0, 0], [0, 0, 0, 0, 0], [None, None, 2, None, None]):
        filled = [stacked(array, 5, axis) for array, axis in zip(given, axes, strict=True)]
        run_both(batch(graph, axes, 5).graph, *filled)


def test_a_loop_stays_one_and_carries_a_batch_of_what_depends_on_it() -> None:
    for axes, flags in (
        ([None, None, 0, None, None], (True, False, True, False)),
        ([None, None, None, None, 0], (False, True, False, True)),
        ([None, 0, None, None, None], (False, True, False, True)),
        ([None, None, None, None, None], (False, False, False, False)),
    ):
        made = batch(loop(), axes, 3)
        assert made.outputs == flags
        (scan,) = (node for node in made.graph.nodes if node.op.name == "scan")
        body = scan.attrs["body"]
        shapes = [(3, 2) if flags[0] else (2,), (3,) if flags[1] else ()]
        assert [node.shape for node in body.inputs[:2]] == [node.shape for node in body.outputs[:2]] == shapes


CHAIN = """graph @f(%a: f64[], %b: f64[], %c: f64[], %x: f64[]) -> (f64[], f64[], f64[]) {
  %0 = scan %a, %b, %c, %x length=5 carried=3 body=graph @turn(%a: f64[], %b: f64[], %c: f64[], %x: f64[]) \
-> (f64[], f64[], f64[]) {
    %0 = add %a, %x : f64[]
    %1 = mul %b, %a : f64[]
    %2 = sub %c, %b : f64[]
    return %0, %1, %2
  } : (f64[], f64[], f64[])
  %1 = item %0 index=0 : f64[]
  %2 = item %0 index=1 : f64[]
  %3 = item %0 index=2 : f64[]
  return %1, %2, %3
}"""


def test_what_depends_on_the_batch_by_way_of_other_carries() -> None:
    graph = parse(CHAIN)
    given = arrays(graph, 1)
    for i, flags in ((0, (True,) * 3), (1, (False, True, True)), (2, (False, False, True)), (3, (True,) * 3)):
        axes = [0 if i == j else None for j in range(4)]
        filled = [stacked(array, 3, axis) for array, axis in zip(given, axes, strict=True)]
        assert batch(graph, axes, 3).outputs == flags
        check(graph, axes, filled, 3)
        run_both(batch(graph, axes, 3).graph, *filled)


def nested() -> Graph:
    """A loop in a loop, which carries a value that the inner one carries on, and stacks what it stacks."""
    inner = Builder()
    h, x, w = (inner.value(inner.input(name, Array(F64, shape))) for name, shape in (("h", ()), ("x", ()), ("w", ())))
    new = inner.sin(h * w + x)
    turn = inner.graph("inner", [new.node, (new * x).node])
    outer = Builder()
    h, rows, w = (
        outer.value(outer.input(name, Array(F64, shape))) for name, shape in (("h", ()), ("rows", (3,)), ("w", ()))
    )
    node = outer.emit("scan", h.node, rows.node, w.node, length=3, carried=1, sliced=1, reverse=True, body=turn)
    last, ys = (outer.value(outer.emit("item", node, index=i)) for i in range(2))
    body = outer.graph("outer", [(last + outer.sum(rows, axes=(0,))).node, ys.node])
    b = Builder()
    args = [b.input(name, Array(F64, shape)) for name, shape in (("h", ()), ("table", (4, 3)), ("w", ()))]
    node = b.emit("scan", *args, length=4, carried=1, sliced=1, reverse=False, body=body)
    return b.graph("f", [b.emit("item", node, index=i) for i in range(2)])


def test_a_loop_in_a_loop() -> None:
    graph = nested()
    given = arrays(graph, 5)
    for axes in placements(given):
        filled = [stacked(array, 3, axis) for array, axis in zip(given, axes, strict=True)]
        check(graph, axes, filled, 3)
    for axes in ([0, None, None], [None, 1, None], [None, None, 0]):
        run_both(batch(graph, axes, 3).graph, *(stacked(a, 3, axis) for a, axis in zip(given, axes, strict=True)))


HALVED = """graph @f(%go: bool[], %x: f64[], %low: f64[], %c: f64[3]) -> (f64[], f64[3], i64[]) {
  %0 = constant 0 : i64[]
  %1 = scan %go, %x, %c, %0, %low length=4611686018427387904 carried=4 stops=true \
body=graph @turn(%go: bool[], %x: f64[], %c: f64[3], %i: i64[], %low: f64[]) -> (bool[], f64[], f64[3], i64[]) {
    %0 = mul %x, 0.5 : f64[]
    %1 = gt %0, %low : bool[]
    %2 = sin %c : f64[3]
    %3 = add %i, 1 : i64[]
    return %1, %0, %2, %3
  } : (bool[], f64[], f64[3], i64[])
  %2 = item %1 index=1 : f64[]
  %3 = item %1 index=2 : f64[3]
  %4 = item %1 index=3 : i64[]
  return %2, %3, %4
}"""


def test_each_value_of_a_loop_that_stops_runs_to_its_own_end() -> None:
    graph = parse(HALVED)
    given = [np.array([True, True, False]), np.array([9.0, 100.0, 3.0]), np.array([1.0, 0.5, 8.0]), np.eye(3) + 1]
    for axes in placements([array[0] for array in given]):
        filled = [array if axis is not None else array[0] for array, axis in zip(given, axes, strict=True)]
        check(graph, axes, filled, 3)
        differs = any(axis is not None for axis in axes[:3])
        assert batch(graph, axes, 3).outputs == (differs, True, differs)
        run_both(batch(graph, axes, 3).graph, *filled)


def counted() -> Graph:
    inner = Builder()
    c, x = (inner.value(inner.input(name, Array(F64, ()))) for name in ("c", "x"))
    new = inner.sin(c) + x
    body = inner.graph("turn", [new.node, (new * x).node])
    b = Builder()
    c, x, n = b.input("c", Array(F64, ())), b.input("x", Array(F64, (6,))), b.input("n", Array(I64, ()))
    node = b.emit("scan", c, x, n, length=6, carried=1, sliced=1, reverse=False, counted=True, body=body)
    return b.graph("f", [b.emit("item", node, index=0)])


def test_a_number_of_turns_for_each_value() -> None:
    graph = counted()
    given = [np.array([1.0, 2.0, 3.0]), RNG.normal(size=(3, 6)), np.array([4, 0, 6])]
    for axes in placements([array[0] for array in given]):
        filled = [
            array[0] if axis is None else np.moveaxis(array, 0, axis) for array, axis in zip(given, axes, strict=True)
        ]
        check(graph, axes, filled, 3)
        run_both(batch(graph, axes, 3).graph, *filled)
        (loop,) = (node for node in batch(graph, axes, 3).graph.nodes if node.op.name == "scan")
        assert bool(loop.attrs.get("counted")) is (axes[2] is None)


# -- chunks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "most"), [(7, 3), (6, 3), (6, 2), (4, 1), (3, 3), (2, 5), (5, 4), (0, 2), (1, 1)])
def test_chunks_are_the_batch(size: int, most: int) -> None:
    b = Builder()
    x, w, k = (b.value(b.input(name, Array(F64, shape))) for name, shape in (("x", (3,)), ("w", (3, 2)), ("k", (2,))))
    y = b.tanh(b.contract(x, w, spec="i,ij->j")) * b.exp(k)
    graph = b.graph("f", [y.node, b.sum(y, axes=(0,)).node, b.exp(k).node])
    given = arrays(graph, 1)
    for axes in ([0, None, None], [1, 2, None], [None, 0, 1], [0, 0, 0], [None, None, 0]):
        filled = [stacked(array, size, axis) for array, axis in zip(given, axes, strict=True)]
        whole, made = batch(graph, axes, size), batch_in_chunks(graph, axes, size, most)
        verify(made.graph)
        assert made.outputs == whole.outputs
        assert [node.type for node in made.graph.outputs] == [node.type for node in whole.graph.outputs]
        for found, wanted in zip(evaluate(made.graph, *filled), evaluate(whole.graph, *filled), strict=True):
            compare(found, wanted, None)
        bodies = [node.attrs["body"] for node in made.graph.nodes if node.op.name == "scan"]
        assert len(bodies) == (size > most + (not all(whole.outputs) and size == most))
    run_both(made.graph, *filled)


@pytest.mark.parametrize("seed", range(8))
def test_chunks_of_random_graphs(seed: int) -> None:
    graph = GraphMaker(200 + seed).graph(15)
    axes = [0, *([None] * (len(graph.inputs) - 1))]
    filled = [stacked(array, 5, axis) for array, axis in zip(arrays(graph, seed), axes, strict=True)]
    made = batch_in_chunks(graph, axes, 5, 2)
    verify(made.graph)
    for found, wanted in zip(
        evaluate(made.graph, *filled), evaluate(batch(graph, axes, 5).graph, *filled), strict=True
    ):
        compare(found, wanted, None)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_a_loop_over_tiles_is_refused() -> None:
    inner = Builder()
    x = inner.input("x", Array(F64, (2, 3)))
    body = inner.graph("tile", [inner.emit("sum", x, axes=(0,))])
    b = Builder()
    rows = b.input("x", Array(F64, (8, 3)))
    node = b.emit("tiled", rows, count=4, sliced=1, combine="sum", body=body)
    with pytest.raises(InternalError, match="tiled: a loop over rows was to be batched"):
        batch(b.graph("f", [b.emit("item", node, index=0)]), [0], 3)


def test_a_graph_with_updates_is_refused() -> None:
    b = Builder()
    x = b.input("x", Array(F64, (3,)))
    y = b.emit("neg", x)
    with pytest.raises(InternalError, match="updates"):
        batch(b.graph("f", [y], [(x, y)]), [0], 3)
