"""Equality of graphs is an isomorphism: names, order and lines do not count, everything else does."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import Builder
from adjit.ir.equal import equal, graph_key
from adjit.ir.graph import Graph
from adjit.ir.text import parse
from adjit.ir.types import F32, Array

BASE = """\
graph @f(%x: f32[2], %y: f32[2]) -> (f32[2], f32[2]) {
  %0 = exp %x : f32[2]  # a.py:1
  %1 = tanh %y : f32[2]
  %2 = sub %0, %1 : f32[2]
  %3 = add %2, 0.0 : f32[2]
  return %2, %3
  update %x = %2
  update %y = %3
}
"""

SAME = {
    "names": (("@f", "@g"), ("%x", "%a"), ("%2", "%h")),
    "lines": (("a.py:1", "b.py:9"),),
    "order": (("  %0 = exp %x : f32[2]  # a.py:1\n", ""), ("[2]\n  %2", "[2]\n  %0 = exp %x : f32[2]\n  %2")),
    "dead nodes": (("  return", "  %9 = neg %x : f32[2]\n  return"),),
    "order of updates": (("  update %x = %2\n  update %y = %3\n", "  update %y = %3\n  update %x = %2\n"),),
    "a splat written twice": (("%3 = add %2, 0.0", "%9 = constant 0.0 : f32[2]\n  %3 = add %2, %9"),),
}  # fmt: skip

OTHER = {
    "op": (("exp", "sin"),),
    "operands": (("sub %0, %1", "sub %1, %0"),),
    "sign of zero": (("0.0", "-0.0"),),
    "outputs": (("return %2, %3", "return %3, %2"),),
    "updates": (("update %x = %2", "update %x = %3"),),
    "one update": (("  update %y = %3\n", ""),),
    "inputs": (("exp %x", "exp %y"),),
    "types": (("[2]", "[3]"),),
    "two nodes for one": (("%3 = add %2", "%9 = sub %0, %1 : f32[2]\n  %3 = add %9"),),
}


def changed(changes: tuple[tuple[str, str], ...]) -> Graph:
    text = BASE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(text)


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_count(name: str) -> None:
    assert equal(parse(BASE), changed(SAME[name]))
    assert equal(changed(SAME[name]), parse(BASE))
    assert graph_key(changed(SAME[name])) == graph_key(parse(BASE))


@pytest.mark.parametrize("name", OTHER)
def test_what_counts(name: str) -> None:
    assert not equal(parse(BASE), changed(OTHER[name]))
    assert not equal(changed(OTHER[name]), parse(BASE))
    assert graph_key(changed(OTHER[name])) != graph_key(parse(BASE))


def test_arrays_are_compared_by_digest() -> None:
    def graph(*arrays: np.ndarray) -> Graph:
        b = Builder()
        return b.graph("f", [b.array(array) for array in arrays])

    a = np.arange(30.0)
    assert equal(graph(a), graph(a.copy()))
    assert not equal(graph(a), graph(a + 1))
    assert not equal(graph(a), graph(a.astype(np.float32)))
    assert not equal(graph(a), graph(a.reshape(5, 6)))


def test_attributes_count() -> None:
    def graph(axes: tuple[int, ...]) -> Graph:
        b = Builder()
        return b.graph("f", [b.emit("sum", b.input("x", Array(F32, (2, 2))), axes=axes)])

    assert equal(graph((0,)), graph((0,)))
    assert not equal(graph((0,)), graph((1,)))


def test_nan_is_nan() -> None:
    text = "graph @f(%x: f32[]) -> f32[] {\n  %0 = add %x, nan : f32[]\n  return %0\n}"
    assert equal(parse(text), parse(text))


LOOP = """\
graph @f(%x: f32[2]) -> f32[2] {
  %0 = scan %x length=3 carried=1 body=graph @turn(%x: f32[2]) -> f32[2] {
    %0 = mul %x, nan : f32[2]
    return %0
  } : (f32[2])
  %1 = item %0 index=0 : f32[2]
  return %1
}
"""


def test_bodies_count() -> None:
    for old, new, same in (("@turn(%x", "@other(%a", True), ("length=3", "length=4", False), ("nan", "1.0", False)):
        other = parse(LOOP.replace(old, new).replace("mul %x", "mul %a" if same else "mul %x"))
        assert equal(parse(LOOP), other) is same
        assert (graph_key(parse(LOOP)) == graph_key(other)) is same


def test_a_key_is_made_once_and_keeps_no_graph() -> None:
    graph = parse(LOOP)
    kept = weakref.ref(graph)
    assert graph_key(graph) is graph_key(graph)
    del graph
    gc.collect()
    assert kept() is None
