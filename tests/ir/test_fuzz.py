"""Texts that are no graphs: FormatError comes out of `parse`, AdjitErrors out of `verify` and `evaluate`, nothing else.

Texts are printed graphs, random ones and those of the filetests, cut off or changed by a seeded generator."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphMaker, arrays

import adjit.ops  # noqa: F401  (fills the registry)
from adjit.ir.builder import Builder
from adjit.ir.equal import equal
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import MOST_NESTED, Graph
from adjit.ir.node import Data, Node
from adjit.ir.op import OPS
from adjit.ir.quote import quote, unquote
from adjit.ir.text import parse, print_graph
from adjit.ir.types import DTYPE_NAMES, F32, F64, Array, Tuple
from adjit.ir.verify import verify
from adjit_runtime.errors import AdjitError, FormatError, InternalError

FILETESTS = Path(__file__).resolve().parent.parent / "filetests"


def filetests() -> list[str]:
    """Every graph that stands in a filetest."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(FILETESTS.glob("*.ir")))
    return re.findall(r"^graph @.*?^\}", re.sub(r"^; ?", "", text, flags=re.MULTILINE), re.MULTILINE | re.DOTALL)


TEXTS = [print_graph(GraphMaker(seed, F32 if seed % 2 else F64).graph(12)) for seed in range(20)] + filetests()

PIECES = [
    "", "%", "@", '"', "\\", "\n", "\0", "\udcff", "->", "[->->", "[", "]", "(", ")", "{", "}", ",", ":", "=", "~",
    "#", " ", "-", "%x", "%0", '%"\\q"', '%"\\u12"', '%"\\UFFFFFFFF"', '@"', "@f", "f32[]", "f32[2]", "f64[]~",
    "i64[0]", "bool[3]", "f99[1]", "f32[99999999999999999999]", "f32[0,4611686018427387904,9]", "(f32[], f32[2])",
    "()", "[ik,kj->ij]", "[->]", "[a,a->a]", "[,->]", "1" * 5000, "-" + "9" * 30, "1e999", "-1e400", "1.5", "nan",
    "-nan", "inf", "-inf", "true", "false", "9223372036854775808", "-9223372036854775808", "256", "\u0663", "graph",
    "return", "update %x = %0", "constant", "input", "item", "index=-1", "index=9", "axis=-1", "axis=7", "axes=(0)",
    "axes=(0,0)", "shape=(-1)", "shape=(2)", "dtype=u8", "dtype=f16", "value=nan", "size=0", "sha256=0", "sha256=",
    "body=graph @b() -> () { return }", "tiled", "count=-1", "sliced=9", 'combine="\\q"', 'combine="sum,"', "add",
    "contract", "take", "scatter", "pad", "slice", "reshape", "concatenate", "check_index", "check_fits", "cast",
    "select", "weak=true", "# a.py:" + "1" * 5000, "# a.py:\u0663",
]  # fmt: skip


def changed(text: str, choose: random.Random, pieces: Sequence[str] = PIECES) -> str:
    """The text after one to three changes, by `pieces` or by parts of itself."""
    for _ in range(choose.choice((1, 1, 1, 1, 2, 3))):
        words = [match.span() for match in re.finditer(r"[%@]?[\w.]+|\S", text)] or [(0, 0)]
        start, end = choose.choice(words)
        kind = choose.randrange(6)
        if kind == 0:
            text = text[:start] + choose.choice(pieces) + text[end:]
        elif kind == 1:
            text = text[:start] + " " + choose.choice(pieces) + " " + text[start:]
        elif kind == 2:
            other = choose.choice(words)
            text = text[:start] + text[slice(*other)] + text[end:]
        elif kind == 3:
            at = choose.randrange(len(text) + 1)
            text = (
                text[:at]
                + chr(choose.choice((*range(32, 127), 0, 10, 0xDCFF, 0x3BB)))
                + text[at + choose.randint(0, 2) :]
            )
        elif kind == 4:
            lines = text.split("\n")
            i, j = choose.randrange(len(lines)), choose.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
            text = "\n".join(lines)
        else:
            text = text[:start] + text[end:]
    return text


def small(graph: Graph) -> bool:
    """Whether it takes neither much memory nor long to run a graph."""
    types = [t for node in (*graph.inputs, *graph.nodes) for t in getattr(node.type, "items", (node.type,))]
    counts = [value for node in graph.nodes for value in node.attrs.values() if isinstance(value, int)]
    inner = [small(value) for node in graph.nodes for value in node.attrs.values() if isinstance(value, Graph)]
    return all(t.size < 1 << 16 for t in types) and all(abs(n) < 1 << 16 for n in counts) and all(inner)


def try_text(text: str) -> str:
    """How far a text comes; every step may raise AdjitErrors alone."""
    try:
        graph = parse(text)
    except FormatError:
        return "text"
    try:
        verify(graph)
    except InternalError:
        return "graph"
    printed = print_graph(graph)
    again = parse(printed)
    assert equal(again, graph)
    assert print_graph(again) == printed
    if small(graph):
        try:
            evaluate(graph, *arrays(graph, 0))
        except InternalError:
            # A node's rule and NumPy differ: a fault of ours, whatever the text.
            raise
        except AdjitError:
            return "values"
    return "results"


def test_filetests_are_found() -> None:
    assert len(filetests()) > 50


@pytest.mark.parametrize("number", range(0, len(TEXTS), 6))
def test_texts_that_end_early(number: int) -> None:
    text = TEXTS[number]
    reached = {try_text(text[:end]) for end in range(len(text) - 1)}
    assert reached <= {"text", "results"}


@pytest.mark.parametrize("seed", range(30))
def test_texts_that_are_changed(seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(60):
        try_text(changed(choose.choice(TEXTS), choose))


def test_changes_reach_every_stage() -> None:
    choose = random.Random(0)
    reached = Counter(try_text(changed(choose.choice(TEXTS), choose)) for _ in range(300))
    assert min(reached["text"], reached["results"]) >= 10, reached


@pytest.mark.parametrize("seed", range(20))
def test_texts_of_pieces(seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(40):
        line = " ".join(choose.choice(PIECES) for _ in range(choose.randint(1, 8)))
        try_text(f"graph @f(%x: f32[2]) -> f32[2] {{\n  %0 = {line}\n  return %0\n}}")


def test_errors_are_short() -> None:
    for text in ("x" * 100_000, f"graph @f() -> {'f32[]' * 50_000}", f"graph @f() -> () {{ %0 = {'x' * 50_000}"):
        with pytest.raises(FormatError) as caught:
            parse(text)
        assert len(str(caught.value)) < 1000


# -- sizes ------------------------------------------------------------------------------------------------------------


def in_one_another(depth: int) -> str:
    """The text of graphs in one another."""
    text = "graph @g() -> f32[] { return 1.0 }"
    for _ in range(depth):
        text = (
            'graph @f() -> f32[] { %0 = tiled count=1 sliced=0 combine="sum" body='
            f"{text} : (f32[]) %1 = item %0 index=0 : f32[] return %1 }}"
        )
    return text


def test_graphs_in_one_another() -> None:
    graph = parse(in_one_another(MOST_NESTED))
    verify(graph)
    assert evaluate(graph)[0] == 1
    assert equal(parse(print_graph(graph)), graph)
    for depth in (MOST_NESTED + 1, 400, 2000):
        with pytest.raises(FormatError, match=f"more than {MOST_NESTED} deep"):
            parse(in_one_another(depth))


def nested(depth: int, twice: bool = False) -> Graph:
    """Graphs in one another as objects; `twice` each holds the inner one in two nodes."""
    graph = parse("graph @g() -> f32[] { return 1.0 }")
    for _ in range(depth):
        attrs = {"count": 1, "sliced": 0, "combine": "sum", "body": graph}
        nodes = [Node(OPS["tiled"], (), attrs, Tuple((Array(F32),))) for _ in range(1 + twice)]
        items = [Node(OPS["item"], (node,), {"index": 0}, Array(F32)) for node in nodes]
        graph = Graph("f", (), (*nodes, *items), (items[-1],))
    return graph


def test_graphs_in_one_another_as_objects() -> None:
    deep = nested(2000)
    for refused in (print_graph, evaluate, verify):
        with pytest.raises(AdjitError, match=f"more than {MOST_NESTED} deep"):
            refused(deep)
    assert equal(deep, nested(2000))
    # Walks see a graph that is shared once: 2**32 times would not end.
    verify(nested(MOST_NESTED, twice=True))
    assert equal(nested(MOST_NESTED, twice=True), nested(MOST_NESTED, twice=True))


LONG = dict.fromkeys((
    "[->", "[", "[a,", "f32[1,", "1", "1e", "-", "%", '%"\\', "# x\n", "(", "a.", "sha256=", "f1[", "\\", " ",
), 20_000) | {"->": 300_000, "#\n": 500_000}  # fmt: skip
"""How often a piece is repeated: a scan that went back over what it has read would take hours for the last two."""


@pytest.mark.parametrize("piece", LONG)
def test_long_texts_of_one_piece(piece: str) -> None:
    for text in ("[" + piece * LONG[piece], f"graph @f({piece * 20_000}"):
        with pytest.raises(FormatError):
            parse(text)


@pytest.mark.parametrize("digits", [20, 400, 5000, 100_000])
@pytest.mark.parametrize("line", [
    "%0 = add %x, {} : f32[2]", "%0 = add %x, {}.5 : f32[2]", "%0 = constant {} : i64[2]",
    "%0 = constant [{}, 1] : u8[2]",
    "%0 = sum %x axes=({}) : f32[]", "%0 = pad %x low=(0) high=(0) interior=(0) value={} : f32[2]",
    "%0 = pad %x low=(0) high=(0) interior=(0) value=-{} : f32[2]", "%0 = iota shape=(2) axis={} dtype=i64 : i64[2]",
    "%0 = neg %x : f32[{}]", "%0 = neg %x : f{}[2]", "%0 = neg %x : f32[2] # a.py:{}\n %1 = neg %0 : f32[3]",
])  # fmt: skip
def test_numbers_of_many_digits(line: str, digits: int) -> None:
    text = f"graph @f(%x: f32[2]) -> () {{\n  {line.format('9' * digits)}\n  return\n}}"
    if "add" in line and digits == 20:
        assert "e+19" in str(parse(text)) or "e+20" in str(parse(text)), "a float32 holds it, rounded"
        return
    with pytest.raises(FormatError):
        parse(text)


@pytest.mark.parametrize(("value", "dtype"), [
    ("1e39", "f32"), ("-1e39", "f32"), ("65520.0", "f16"), ("1e309", "f64"), ("256", "u8"), ("-1", "u8"),
    ("2147483648", "i32"),
    ("9223372036854775808", "i64"), ("18446744073709551616", "u64"), ("1.0", "i64"), ("nan", "i64"), ("1", "bool"),
    ("true", "i64"),
])  # fmt: skip
def test_literals_that_their_dtype_does_not_hold(value: str, dtype: str) -> None:
    for written in (f"constant {value} : {dtype}[1]", f"constant [{value}] : {dtype}[1]"):
        with pytest.raises(FormatError, match=f"{re.escape(value)} is no {DTYPE_NAMES[dtype].name}"):
            parse(f"graph @f() -> () {{ %0 = {written} return }}")


# -- what comes back --------------------------------------------------------------------------------------------------

NAMES = [
    "", " ", "a b", "7", "%", '"', "\\", "\\n", "\n", "\r", "\t", "\0", "\x7f", "\x85", "\u2028", "\u03bb",
    "\U0001f600", "\ud83d\ude00", "\ud83d", "\udcff", "{x}", "a.b", "params['w']", "#", "// \\u00e9", "x" * 10_000,
    "\\U0001f600",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_names_come_back(name: str) -> None:
    assert unquote(quote(name)) == name
    assert quote(name).isascii()
    assert quote(name).isprintable()
    b = Builder()
    x = b.value(b.input(name, Array(F32)))
    constant = Node(OPS["constant"], (), {"data": Data(name, "ab", None)}, Array(F32, (20,)))
    negative = (-x).node
    graph = Graph(name, (x.node,), (negative, constant), (negative, constant))
    again = parse(print_graph(graph))
    assert equal(again, graph)
    assert (again.name, again.inputs[0].attrs["name"], again.outputs[1].attrs["data"].name) == (name, name, name)


def test_names_that_differ_stay_different() -> None:
    b = Builder()
    inputs = [b.input(name, Array(F32)) for name in (*NAMES, *NAMES)]
    graph = b.graph("f", inputs)
    verify(graph)
    assert [node.attrs["name"] for node in parse(print_graph(graph)).inputs] == [node.attrs["name"] for node in inputs]


@pytest.mark.parametrize("text", [r'"\q"', r'"\u12"', r'"\U0011ffff"', '"\\', r'"\x41"', r'"\u00g0"'])
def test_escapes_that_are_none(text: str) -> None:
    for graph in (f"graph @{text}() -> () {{ return }}", f"graph @f(%{text}: f32[]) -> () {{ return }}"):
        with pytest.raises(FormatError):
            parse(graph)
    body = "body=graph @b() -> () { return }"
    with pytest.raises(FormatError):
        parse(f"graph @f() -> () {{ %0 = tiled count=1 sliced=0 combine={text} {body} : () return }}")


def special(dtype: np.dtype) -> list[Any]:
    """Values at the edges of a dtype."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return [limits.min, limits.max, 0, 1, limits.max - 1]
    limits = np.finfo(dtype)
    edges = [limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, limits.max, limits.min, limits.eps]
    return [0.0, -0.0, np.inf, -np.inf, np.nan, 1 / 3, *edges]


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_constants_come_back(name: str) -> None:
    dtype = DTYPE_NAMES[name]
    values = np.array(special(dtype), dtype)
    b = Builder()
    splats = [b.splat(value, Array(dtype, (2,))) for value in values]
    array = b.array(values)
    graph = b.graph("f", [*splats, array])
    verify(graph)
    again = parse(print_graph(graph))
    assert equal(again, graph)
    for value, found in zip(values, evaluate(again)[:-1], strict=True):
        assert found.tobytes() == np.array([value, value]).tobytes()
    assert evaluate(again)[-1].tobytes() == values.tobytes()


def test_nans_with_payloads_come_back_by_name() -> None:
    values = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001], np.uint64).view(np.float64)
    b = Builder()
    graph = b.graph("f", [b.array(values)])
    again = parse(print_graph(graph), constants={"c0": values})
    assert equal(again, graph)
    assert evaluate(again)[0].tobytes() == values.tobytes()
