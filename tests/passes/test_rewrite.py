"""The walk of a rewrite: what a step may give, what it may not, and that it ends."""

from __future__ import annotations

import pytest

from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import F32, F64, Array
from adjit.passes.rewrite import Rewriter, rewrite
from adjit_runtime.errors import InternalError


def negated(weak: bool = False) -> Graph:
    b = Builder()
    x = b.input("x", Array(F64, (), weak) if weak else Array(F64, (3,)))
    return b.graph("f", [b.emit("neg", x)])


def test_a_step_that_changes_the_type_is_a_fault() -> None:
    def narrower(node: Node, rewriter: Rewriter) -> Node | None:
        return rewriter.emit("cast", node.args[0], dtype=F32) if node.op.name == "neg" else None

    with pytest.raises(InternalError, match=r"a rewrite of neg changes f64\[3\] into f32\[3\]"):
        rewrite(negated(), narrower)


def test_a_weak_value_is_no_replacement_for_a_strong_one() -> None:
    def stronger(node: Node, rewriter: Rewriter) -> Node | None:
        return rewriter.splat(1.0, node.array_type.strong) if node.op.name == "neg" else None

    graph = negated(weak=True)
    assert rewrite(graph, stronger).outputs[0].op.name == "neg"


def test_a_step_without_end_is_a_fault() -> None:
    def again(node: Node, rewriter: Rewriter) -> Node | None:
        return Node(node.op, node.args, {}, node.type) if node.op.name == "neg" else None

    with pytest.raises(InternalError, match=r"the rewrites of neg at .* do not end"):
        rewrite(negated(), again)


def test_a_graph_in_which_nothing_is_found_is_itself() -> None:
    graph = negated()
    assert rewrite(graph, lambda node, rewriter: None) is graph
