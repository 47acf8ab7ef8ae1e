"""The declared relations of axes are what the ops do: which result depends on which operand's element is found by
changing that element, and compared with what the declaration says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from adjit.ir.axes import Along, Axis, Indexed, Linear, Mixed, Relation, relation_of
from adjit.ir.builder import Builder
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from tests.ops.samples import FACTORING, Case, cases_of

WITHOUT = {
    "input": "a leaf",
    "constant": "a leaf",
    "item": "picks a result of another op",
    "tiled": "has a body, which has relations of its own",
    "scan": "has a body, which has relations of its own",
    "call": "has a body, which has relations of its own",
    "sort": "an element may come from anywhere along the axis",
    "argsort": "a position may be any along the axis",
    **dict.fromkeys(FACTORING, "each element of a matrix has part in all of its factors"),
}
WITHOUT_CASES = frozenset({"after"})
"""What orders kernels reads nothing of its gate, whatever that is."""
MOST = 60
"""Elements of an operand and of a result; larger cases ask nothing that small ones do not."""


def related(node: Node) -> Relation:
    found = relation_of(node)
    assert found is not None
    return found


def node_of(case: Case) -> Node:
    b = Builder()
    args = [b.input(f"x{i}", Array(array.dtype, array.shape)) for i, array in enumerate(case.arrays)]
    return b.emit(case.op, *args, **case.attrs)


def small_cases(name: str) -> Iterator[Case]:
    for case in cases_of(name):
        sizes = [array.size for array in case.arrays]
        if max(sizes, default=0) <= MOST and node_of(case).array_type.size <= MOST:
            yield case


def matches(at: Axis, place: int, dims: tuple[int, ...]) -> bool:
    if isinstance(at, Mixed):
        return sum(step * dims[dim] for dim, step in zip(at.dims, at.steps, strict=True)) == at.gap * place
    return not isinstance(at, Along) or at.start + at.step * dims[at.dim] == at.gap * place


def declared(relation: Relation, operand: int, shape: tuple[int, ...], result: tuple[int, ...]) -> np.ndarray:
    """[element of the operand, element of the result]: whether the one may have part in the other."""
    found = np.zeros((math.prod(shape), math.prod(result)), bool)
    axes = relation.operands[operand]
    if isinstance(axes, Linear):
        return np.eye(len(found), dtype=bool)
    used = {at.dim for at in axes if isinstance(at, Along)}
    used.update(dim for at in axes if isinstance(at, Mixed) for dim in at.dims)
    rest = [range(n) if len(result) + k in used else (0,) for k, n in enumerate(relation.reduced)]
    for e, place in enumerate(np.ndindex(*shape)):
        for r, index in enumerate(np.ndindex(*result)):
            found[e, r] = any(
                all(matches(at, i, (*index, *more)) for at, i in zip(axes, place, strict=True))
                for more in itertools.product(*rest)
            )
    return found


def changed(case: Case, operand: int) -> np.ndarray:
    """[element of the operand, element of the result]: whether changing the one changes the other."""
    op = OPS[case.op]
    with np.errstate(all="ignore"):
        before = np.asarray(op.evaluate(*case.arrays, **case.attrs))
        rows = []
        for place in np.ndindex(*case.arrays[operand].shape):
            seen = np.zeros(before.shape, bool)
            for by in (1, 2, 5):
                arrays = [np.array(array) for array in case.arrays]
                x = arrays[operand]
                x[place] = not x[place] if x.dtype == bool else x[place] + x.dtype.type(by)
                try:
                    after = np.asarray(op.evaluate(*arrays, **case.attrs))
                except (IndexError, ValueError, OverflowError):
                    continue
                seen |= (after != before) & ~((after != after) & (before != before))
            rows.append(seen.ravel())
    return np.array(rows, bool).reshape(case.arrays[operand].size, before.size)


@pytest.mark.parametrize("name", sorted(set(OPS) - set(WITHOUT) - WITHOUT_CASES))
def test_what_is_declared_is_what_happens(name: str) -> None:
    tried = 0
    for case in small_cases(name):
        node = node_of(case)
        relation = related(node)
        assert len(relation.operands) == len(node.args)
        for i, array in enumerate(case.arrays):
            allowed = declared(relation, i, array.shape, node.shape)
            found = changed(case, i)
            assert not (found & ~allowed).any(), f"{name}{case.attrs}: operand {i} has part in what is not declared"
            if node.op.kind == "movement":
                np.testing.assert_array_equal(found, allowed, err_msg=f"{name}{case.attrs}: operand {i}")
            tried += array.size > 0
    assert tried or OPS[name].arity == 0


def test_ops_without_a_relation_are_listed() -> None:
    ours = {name: op for name, op in OPS.items() if op.infer.__module__.startswith("adjit.")}
    assert {name for name, op in ours.items() if op.axes is None} == set(WITHOUT)


@pytest.mark.parametrize("name", sorted(set(OPS) - set(WITHOUT) - WITHOUT_CASES))
def test_an_axis_and_its_dimension(name: str) -> None:
    for case in small_cases(name):
        node = node_of(case)
        relation = related(node)
        for i, arg in enumerate(node.args):
            for axis in range(len(arg.shape)):
                dim = relation.dimension(i, axis)
                if dim is None:
                    continue
                assert (*node.shape, *relation.reduced)[dim] == arg.shape[axis]
                assert arg.shape.count(arg.shape[axis]) > 1 or relation.axis(i, dim) == axis


def test_rows_through_structure() -> None:
    b = Builder()
    x, w = b.input("x", Array(np.dtype(np.float32), (8, 3))), b.input("w", Array(np.dtype(np.float32), (3, 5)))
    product = b.value(x), b.value(w)
    y = b.contract(*product, spec="ik,kj->ji").node
    assert related(y).dimension(0, 0) == 1
    assert related(y).dimension(0, 1) == 2 == related(y).dimension(1, 0)
    assert related(y).axis(1, 1) is None
    part = b.emit("slice", y, start=(1, 0), stop=(3, 8), step=(1, 1))
    assert related(part).dimension(0, 0) is None
    assert related(part).dimension(0, 1) == 1
    index = b.input("i", Array(np.dtype(np.int64), (2, 4)))
    taken = b.emit("take", x, index, axis=0)
    assert isinstance(related(taken).operands[0][0], Indexed)  # type: ignore[index]
    assert [related(taken).dimension(1, axis) for axis in (0, 1)] == [0, 1]
    assert related(taken).dimension(0, 1) == 2
    flat = b.emit("reshape", part, shape=(2, 2, 4))
    assert related(flat).dimension(0, 0) == 0
    assert related(flat).dimension(0, 1) is None
