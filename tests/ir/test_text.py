"""Text: what prints parses back to an equal graph and to the same text, and is quick for large graphs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphMaker, arrays

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import INPUT, Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.node import Loc, Node
from adjit.ir.op import OPS, Op, register
from adjit.ir.text import literal, parse, print_graph
from adjit.ir.types import BOOL, DTYPE_NAMES, F32, F64, I32, I64, Array, Tuple
from adjit.ir.verify import verify
from adjit_runtime.errors import ArgumentError, FormatError

HAND_WRITTEN = {
    "loss": """\
graph @loss(%w: f32[2,8], %x: f32[4,2]) -> f32[] {
  %0 = contract %x, %w [ik,kj->ij] : f32[4,8]  # model.py:12
  %1 = maximum %0, 0.0 : f32[4,8]              # model.py:12
  %2 = sum %1 axes=(0,1) : f32[]               # model.py:13
  return %2
  update %w = 0.5
}
""",
    "names": """\
graph @"<lambda>"(%"params['w1']": f32[2], %params.layers.0.w: f32[2], %"7": f32[2]) -> (f32[2], f32[2]) {
  %0 = add %"params['w1']", %params.layers.0.w : f32[2]  # my model.py:3
  %1 = mul %0, %"7" : f32[2]                             # <ipython-input-3-0a>:1
  return %1, %"params['w1']"
}
""",
    "literals": """\
graph @f(
  %x: f32[3],
  %t: f64[]~,
  %n: i64[3],
  %b: u8[3],
  %p: bool[3]
) -> (f32[3], f64[]~, bool[3], f32[], bool[]) {
  %0 = add %x, 0.1 : f32[3]
  %1 = add %0, nan : f32[3]
  %2 = add %1, inf : f32[3]
  %3 = sub %2, -inf : f32[3]
  %4 = mul %3, -0.0 : f32[3]
  %5 = mul %4, 1e-45 : f32[3]
  %6 = mul %5, 3.4028235e+38 : f32[3]
  %7 = mul %t, 0.1 : f64[]~
  %8 = mul 0.1, %7 : f64[]
  %9 = add %n, -9223372036854775808 : i64[3]
  %10 = add %b, 255 : u8[3]
  %11 = gt %x, 0.5 : bool[3]
  %12 = select %p, 1.0, %6 : f32[3]
  %13 = select %11, 1.0, 0.0 : f32[3]
  %14 = isnan 0.0:f32[3] : bool[3]
  %15 = and %p, true : bool[3]
  return %12, 2.5, %15, 0.25, false
}
""",
    "constants": """\
graph @f(%x: f32[2,2]) -> f32[2,2] {
  %0 = constant [1.0, nan, -0.0, 0.1] : f32[2,2]       # data.py:1
  %1 = constant [true, false] : bool[2]
  %2 = constant [] : i64[0]
  %3 = constant @c0 sha256=0123456789abcdef : f32[60000,784]  # data.py:2
  %4 = add %x, %0 : f32[2,2]
  return %4
}
""",
    "attributes": """\
graph @f(%x: f32[4]) -> (f32[4], i64[2,3], f32[9], f64[]) {
  %0 = cumsum %x axis=0 reverse=true : f32[4]
  %1 = cumsum %0 axis=0 : f32[4]
  %2 = iota shape=(2,3) axis=1 dtype=i64 : i64[2,3]
  %3 = pad %1 low=(1) high=(1) interior=(1) value=-0.5 : f32[9]
  %4 = sum %x axes=(0) : f32[]
  %5 = cast %4 dtype=f64 : f64[]
  %6 = cast %5 dtype=f64 weak=true : f64[]~
  %7 = broadcast %4 shape=(4) axes=() : f32[4]
  return %1, %2, %3, %5
}
""",
    "nothing": """\
graph @f() -> () {
  return
}
""",
    "many inputs": """\
graph @step(
  %params.layers.0.weights: f32[128,784],
  %params.layers.0.bias: f32[128],
  %params.layers.1.weights: f32[10,128],
  %params.layers.1.bias: f32[10]
) -> (f32[], f32[10]) {
  %0 = sum %params.layers.0.bias axes=(0) : f32[]
  return %0, %params.layers.1.bias
  update %params.layers.0.bias = 0.0
  update %params.layers.1.bias = %params.layers.1.bias
}
""",
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_text_parses_and_prints_the_same(name: str) -> None:
    text = HAND_WRITTEN[name]
    graph = parse(text)
    verify(graph)
    again = parse(print_graph(graph))
    assert equal(graph, again)
    # The first text may align its comments otherwise.
    assert " ".join(print_graph(graph).split()) == " ".join(text.split())
    assert print_graph(again) == print_graph(graph)


def test_comments_are_aligned() -> None:
    assert print_graph(parse(HAND_WRITTEN["loss"])) == HAND_WRITTEN["loss"]


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_come_back(seed: int) -> None:
    graph = GraphMaker(seed, F32 if seed % 2 else F64).graph(30)
    text = print_graph(graph)
    again = parse(text)
    verify(again)
    assert print_graph(again) == text
    assert equal(graph, again)
    inputs = arrays(graph, seed)
    for one, other in zip(evaluate(graph, *inputs), evaluate(again, *inputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_locations_come_back() -> None:
    b = Builder(Loc("/models/model.py", 12, 4, 9))
    x = b.value(b.input("x", Array(F32)))
    graph = parse(print_graph(b.graph("f", [(-x).node])))
    assert graph.nodes[0].loc == Loc("model.py", 12)
    assert "model.py" not in print_graph(graph, locs=False)
    assert (
        parse("graph @f(%x: f32[]) -> f32[] {\n %0 = neg %x : f32[]  # not: a place\n return %0\n}").nodes[0].loc
        is None
    )


@pytest.mark.parametrize("name", [name for name in DTYPE_NAMES if name.startswith("f")])
def test_floats_are_exact(name: str) -> None:
    dtype = DTYPE_NAMES[name]
    bits = np.random.default_rng(0).integers(0, 2 ** (8 * dtype.itemsize), 3000, dtype=np.uint64)
    for value in bits.astype(f"u{dtype.itemsize}").view(dtype):
        text = literal(value, dtype)
        back = np.asarray(float(text), dtype)
        assert back.tobytes() == value.tobytes() or np.isnan(value)


def test_nodes_may_have_any_name_by_hand() -> None:
    graph = parse("graph @f(%x: f32[2]) -> f32[2] { %h = tanh %x : f32[2] %y = mul %h, 2 : f32[2] return %y }")
    assert print_graph(graph) == (
        "graph @f(%x: f32[2]) -> f32[2] {\n  %0 = tanh %x : f32[2]\n  %1 = mul %0, 2.0 : f32[2]\n  return %1\n}\n"
    )


# -- array constants --------------------------------------------------------------------------------------------------


def large() -> tuple[str, np.ndarray]:
    array = np.arange(40, dtype=np.float32).reshape(8, 5)
    b = Builder()
    x = b.value(b.input("x", Array(F32, (8, 5))))
    return print_graph(b.graph("f", [(x + b.value(b.array(array))).node])), array


def test_a_large_constant_is_bound_by_name() -> None:
    text, array = large()
    assert "constant @c0 sha256=" in text
    graph = parse(text, constants={"c0": array})
    np.testing.assert_array_equal(evaluate(graph, array)[0], array + array)
    assert equal(graph, parse(text))


def test_an_unbound_constant_says_its_name() -> None:
    text, array = large()
    with pytest.raises(ArgumentError, match=r"@c0 is not bound.*constants={'c0': array}"):
        evaluate(parse(text), array)


def test_another_array_is_refused() -> None:
    text, array = large()
    with pytest.raises(FormatError, match=r"line 2: .*'c0'.*digest"):
        parse(text, constants={"c0": array + 1})
    with pytest.raises(FormatError, match=r"f64\[8,5\], not f32\[8,5\]"):
        parse(text, constants={"c0": array.astype(np.float64)})


def test_two_constants_of_one_name_get_two() -> None:
    one, two = Builder(), Builder()
    nodes = [b.array(np.arange(20.0) + i) for i, b in enumerate((one, two))]
    graph = Graph("f", (), tuple(nodes), tuple(nodes))
    text = print_graph(graph)
    assert "@c0 " in text
    assert "@c0_1 " in text
    assert equal(parse(text), graph)


def test_a_nan_with_a_payload_keeps_its_bytes() -> None:
    array = np.array([0x7FC00001, 0], np.uint32).view(np.float32)
    b = Builder()
    graph = b.graph("f", [b.array(array)])
    assert "@c0 sha256" in print_graph(graph)
    assert equal(parse(print_graph(graph), constants={"c0": array}), graph)


# -- tuples and nested graphs -----------------------------------------------------------------------------------------


@pytest.fixture
def loop_op() -> Op:
    name = "test_loop"
    if name not in OPS:
        register(
            Op(
                name=name,
                kind="control",
                arity=1,
                infer=lambda types, attrs: Tuple((types[0], types[0])),
                evaluate=lambda x, *, body, length: (x, x),
                attr_kinds={"body": "graph", "length": "int"},
            )
        )
    return OPS[name]


def test_nested_graphs_and_tuples(loop_op: Op) -> None:
    text = """\
graph @f(%x: f32[2]) -> f32[2] {
  %0 = test_loop %x body=graph @body(%y: f32[2]) -> f32[2] {
    %0 = test_loop %y body=graph @inner() -> f32[] {
      return 1.0
    } length=2 : (f32[2], f32[2])
    %1 = item %0 index=0 : f32[2]  # model.py:2
    return %1
  } length=3 : (f32[2], f32[2])  # model.py:1
  %1 = item %0 index=1 : f32[2]
  return %1
}
"""
    graph = parse(text)
    verify(graph)
    assert print_graph(graph) == text
    assert graph.nodes[0].loc == Loc("model.py", 1)
    assert equal(graph, parse(text))
    assert not equal(graph, parse(text.replace("return 1.0", "return 2.0")))
    (value,) = evaluate(graph, np.ones(2, np.float32))
    np.testing.assert_array_equal(value, np.ones(2))


# -- errors -----------------------------------------------------------------------------------------------------------

BROKEN = {
    "%0 = tanh %y : f32[2]": "line 2: %y is not defined before",
    "%0 = frobnicate %x : f32[2]": "line 2: there is no op 'frobnicate'",
    "%0 = add %x : f32[2]": "line 2: add takes 2 operands, not 1",
    "%0 = tanh %x : f32[3]": r"line 2: tanh gives f32\[2\] here, not f32\[3\]",
    "%0 = add %x, 1.0:f32[3] : f32[2]": "line 2: add: shapes differ",
    "%0 = add %x, true : f32[2]": "line 2: true is no float32",
    "%0 = tanh %x axis=1 : f32[2]": "line 2: tanh has no attribute 'axis'",
    "%0 = sum %x : f32[]": "line 2: sum needs the attribute 'axes'",
    "%0 = sum %x axes=(0) axes=(0) : f32[]": "line 2: sum has no second attribute 'axes'",
    "%0 = sum %x axes=(3) : f32[]": "line 2: sum: axes",
    "%0 = cast %x dtype=f31 : f32[2]": "line 2: 'f31' is no dtype",
    "%0 = tanh %x : f31[2]": "line 2: 'f31.2.' is no type",
    "%x = tanh %x : f32[2]": "line 2: %x is defined twice",
    "%0 = constant [1.0] : f32[2]": r"line 2: 1 elements are no f32\[2\]",
    "%0 = constant [1.5, 1] : i64[2]": "line 2: 1.5 is no int64",
    "%0 = tanh %x ? f32[2]": "line 2: '\\?' is not part of the grammar",
    "%0 = tanh %x : f32[2]~": "line 2: .* is no type",
    "%0 = reshape %x shape=(2 : f32[2]": "line 2: expected ',', found ':'",
    "return %x, %x": "line 2: the graph has 1 results",
    "return": r"line 2: returns \(\), where the graph says \(f32\[2\]\)",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_parse_error_gives_line_and_caret(line: str) -> None:
    rest = "" if line.startswith("return") else "  return %x\n"
    with pytest.raises(FormatError, match=BROKEN[line]) as caught:
        parse(f"graph @f(%x: f32[2]) -> f32[2] {{\n  {line}\n{rest}}}\n")
    message = str(caught.value).splitlines()
    assert message[1].strip() == line
    assert set(message[2]) == {" ", "^"}
    assert message[2].index("^") >= message[1].index(line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'graph', found 'the end of the text'"),
        ("graph @f() -> () {\n  return\n}\nmore", "line 4: expected nothing more, found 'more'"),
        (
            "graph @f(%x: f32[]) -> () {\n  %0 = neg %x : f32[]\n  return\n  update %0 = 1.0\n}",
            "line 4: %0 is no input",
        ),
        ("graph @f(%x: f32[]) -> () {\n  return\n  update %y = 1.0\n}", "line 3: %y is not defined before"),
    ],
)
def test_what_stands_around_nodes_is_checked(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text)


# -- speed ------------------------------------------------------------------------------------------------------------


def chain(length: int) -> Graph:
    """A chain whose nodes are each read twice: exponential for a walk without memory, deep for a recursion."""
    node = Node(INPUT, (), {"name": "x"}, Array(F32, (4,)))
    x, nodes = node, []
    for _ in range(length):
        node = Node(OPS["add"], (node, node), {}, Array(F32, (4,)))
        nodes.append(node)
    return Graph("chain", (x,), tuple(nodes), (node,))


def calls(length: int) -> int:
    """Calls that it takes to print, parse, compare and verify such a chain: like time, but the same everywhere."""
    graph = chain(length)
    count = 0

    def count_call(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        again = parse(print_graph(graph))
        same = equal(graph, again)
        verify(again)
    finally:
        sys.setprofile(None)
    assert same
    return count


def test_large_graphs_take_linear_time() -> None:
    assert calls(20_000) < 10.5 * calls(2_000)


def test_dtypes_print_short() -> None:
    assert [str(Array(dtype, (2,))) for dtype in (BOOL, I32, I64, F32)] == ["bool[2]", "i32[2]", "i64[2]", "f32[2]"]
    assert str(Tuple((Array(F32), Array(F64, (), True)))) == "(f32[], f64[]~)"
