"""`parse` reads the text that `ir.text` prints; what does not parse raises FormatError with line and caret.

Types are inferred anew and compared with the ones written. Nodes may have any names; printing numbers them.
A literal without a type has the type that `bare_type` in `ir.text` describes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from adjit.ir.builder import CONSTANT, INPUT
from adjit.ir.graph import MOST_NESTED, Graph, too_deep
from adjit.ir.node import Data, Loc, Node, digest_of
from adjit.ir.op import OPS, Op
from adjit.ir.quote import unquote
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import BOOL, DTYPE_NAMES, Array, Tuple, Type
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, FormatError
from adjit_runtime.public import public

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>\#[^\n]*)
  | (?P<node>%(?:"(?:[^"\\\n]|\\.)*"|[\w.]+))
  | (?P<name>@(?:"(?:[^"\\\n]|\\.)*"|[\w.]+))
  | (?P<type>(?:bool|[iuf][0-9]+)\[[0-9,]*\]~?)
  | (?P<subscripts>\[(?:(?!->)[^\[\]\s"])*->[^\[\]\s"]*\])
  | (?P<digest>sha256=[0-9a-f]+)
  | (?P<number>-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf\b|nan\b))
  | (?P<word>[A-Za-z_]\w*)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<sign>->|[(){}\[\]:,=])
    """,
    re.VERBOSE,
)


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    start: int


@dataclass(slots=True)
class _Literal:
    """A splat operand as written; `type` is None where none is."""

    token: _Token
    type: Array | None


_LINE = re.compile(r"[0-9]{1,9}")
_SHOWN = 100
"""Characters of a line that an error shows on either side of what is wrong."""


@public()
def parse(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that `text` prints. `constants` binds named array constants, whose digests must agree; one that is
    not bound keeps its name, and evaluating it raises. Raises FormatError, with line and caret, for everything that is
    no graph, and ArgumentError for arguments that are no text and no mapping.

    >>> import adjit
    >>> graph = adjit.parse("graph @f(%x: f32[]) -> f32[] { %0 = neg %x : f32[] return %0 }")
    >>> adjit.evaluate(graph, 2)
    [array(-2., dtype=float32)]
    """
    if not isinstance(text, str):
        raise ArgumentError(f"parse: text is a str, not {checks.kind(text)}")
    if constants is not None and not isinstance(constants, Mapping):
        raise ArgumentError(f"parse: constants is a mapping from names to arrays, not {checks.kind(constants)}")
    parser = _Parser(text, constants or {})
    graph = parser.graph()
    parser.expect("end", "")
    return graph


def parse_type(text: str) -> Array:
    """`f32[2,3]` as a type; KeyError or ValueError where it is none."""
    weak = text.endswith("~")
    dtype, _, shape = text.rstrip("~").rstrip("]").partition("[")
    array = Array(DTYPE_NAMES[dtype], tuple(int(n) for n in shape.split(",")) if shape else (), weak)
    if weak and array.shape:
        raise ValueError("only a scalar is weak")
    if array.problem:
        raise ValueError(array.problem)
    return array


def _float(text: str, dtype: np.dtype) -> float:
    """The float of `dtype` that a literal is rounded to; ValueError where that is an infinity that nobody wrote."""
    with np.errstate(over="ignore"):
        value = float(dtype.type(float(text)))
    if math.isinf(value) and not text.endswith("inf"):
        raise ValueError
    return value


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        self.text = text
        self.constants = constants
        self.tokens: list[_Token] = []
        self.comments: dict[int, str] = {}
        self.at = 0
        self.depth = 0
        self._scan()

    # -- tokens -------------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        place, end = 0, 0
        while place < len(self.text):
            match = _TOKEN.match(self.text, place)
            if match is None:
                self.fail(f"{self.text[place]!r} is not part of the grammar", place)
            kind = match.lastgroup or ""
            if kind == "comment" and self.tokens and self.text.find("\n", end, place) < 0:
                self.comments[len(self.tokens) - 1] = match.group()[1:].removeprefix(" ").rstrip()
            elif kind not in ("space", "comment"):
                self.tokens.append(_Token(kind, match.group(), place))
                end = match.end()
            place = match.end()
        self.tokens.append(_Token("end", "", len(self.text)))

    def fail(self, message: str, where: _Token | int) -> NoReturn:
        place = where.start if isinstance(where, _Token) else where
        number = self.text.count("\n", 0, place) + 1
        start = self.text.rfind("\n", 0, place) + 1
        stop = self.text.find("\n", place)
        left, right = max(start, place - _SHOWN), min(len(self.text) if stop < 0 else stop, place + _SHOWN)
        if len(message) > 2 * _SHOWN:
            message = f"{message[:_SHOWN]} ... {message[-_SHOWN:]}"
        raise FormatError(f"line {number}: {message}\n    {self.text[left:right]}\n    {' ' * (place - left)}^")

    def unquoted(self, token: _Token) -> str:
        """The name of a node or graph, or the text of a string, without quotes."""
        text = token.text if token.kind == "string" else token.text[1:]
        if not text.startswith('"'):
            return text
        try:
            return unquote(text)
        except ValueError as error:
            self.fail(str(error), token)

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, kind: str, text: str | None = None) -> _Token | None:
        token = self.tokens[self.at]
        if token.kind != kind or (text is not None and token.text != text):
            return None
        self.at += 1
        return token

    def expect(self, kind: str, text: str | None = None) -> _Token:
        token = self.accept(kind, text)
        if token is None:
            found = self.token.text or "the end of the text"
            self.fail(
                f"expected {repr(text) if text else 'nothing more' if kind == 'end' else kind}, found {found!r}",
                self.token,
            )
        return token

    def sequence(self, end: str, item: Callable[[], Any]) -> list[Any]:
        """`item, item, ... end`, the opening sign being read."""
        items: list[Any] = []
        if self.accept("sign", end):
            return items
        while True:
            items.append(item())
            if self.accept("sign", end):
                return items
            self.expect("sign", ",")

    # -- types and literals -------------------------------------------------------------------------------------------

    def array_type(self) -> Array:
        token = self.expect("type")
        try:
            return parse_type(token.text)
        except (KeyError, ValueError):
            self.fail(f"{token.text!r} is no type", token)

    def type(self) -> Type:
        if self.accept("sign", "("):
            return Tuple(tuple(self.sequence(")", self.array_type)))
        return self.array_type()

    def literal_token(self) -> _Token:
        token = self.accept("number") or self.accept("word", "true") or self.accept("word", "false")
        if token is None:
            self.fail(f"expected a number, found {self.token.text!r}", self.token)
        return token

    def scalar(self, token: _Token, dtype: np.dtype) -> Any:
        """The Python scalar that a literal is in `dtype`."""
        text = token.text
        try:
            if (text in ("true", "false")) != (dtype == BOOL):
                raise ValueError
            if dtype == BOOL:
                return text == "true"
            return _float(text, dtype) if dtype.kind == "f" else dtype.type(int(text)).item()
        except (ValueError, OverflowError):
            self.fail(f"{text} is no {dtype.name}", token)

    # -- graphs -------------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        word = self.expect("word", "graph")
        name = self.unquoted(self.expect("name"))
        if self.depth > MOST_NESTED:
            self.fail(str(too_deep(name)), word)
        self.depth += 1
        found = _Body(self, name).read()
        self.depth -= 1
        return found


class _Body:
    """One graph of the text: its names, and the splats that it has made."""

    def __init__(self, parser: _Parser, name: str) -> None:
        self.parser = parser
        self.name = name
        self.values: dict[str, Node] = {}
        self.nodes: list[Node] = []
        self.splats: dict[tuple[Array, str], Node] = {}
        self.arrays = 0

    def read(self) -> Graph:
        parser = self.parser
        parser.expect("sign", "(")
        inputs = parser.sequence(")", self.input)
        parser.expect("sign", "->")
        start = parser.token
        results = parser.sequence(")", parser.type) if parser.accept("sign", "(") else [parser.type()]
        parser.expect("sign", "{")
        while parser.token.kind == "node":
            self.node()
        outputs = self.outputs(results, start)
        updates = []
        while parser.accept("word", "update"):
            token = parser.token
            target = self.named()
            if target.op is not INPUT:
                parser.fail(f"{token.text} is no input", token)
            parser.expect("sign", "=")
            updates.append((target, self.operand(target.type)))
        parser.expect("sign", "}")
        return Graph(self.name, tuple(inputs), tuple(self.nodes), tuple(outputs), tuple(updates))

    def outputs(self, results: list[Type], start: _Token) -> list[Node]:
        parser = self.parser
        word = parser.expect("word", "return")
        outputs: list[Node] = []
        if parser.token.kind in ("node", "number") or parser.token.text in ("true", "false"):
            while True:
                if len(outputs) == len(results):
                    parser.fail(f"the graph has {len(results)} results", parser.token)
                outputs.append(self.operand(results[len(outputs)]))
                if not parser.accept("sign", ","):
                    break
        if [node.type for node in outputs] != results:
            found = ", ".join(str(node.type) for node in outputs)
            parser.fail(f"returns ({found}), where the graph says ({', '.join(map(str, results))})", word)
        return outputs

    def input(self) -> Node:
        token = self.parser.expect("node")
        self.parser.expect("sign", ":")
        node = Node(INPUT, (), {"name": self.parser.unquoted(token)}, self.parser.array_type())
        self.define(token, node)
        return node

    def define(self, token: _Token, node: Node) -> None:
        name = self.key(token)
        if name in self.values:
            self.parser.fail(f"{token.text} is defined twice", token)
        self.values[name] = node

    def key(self, token: _Token) -> str:
        # A quoted name made of digits is an input's; the bare digits are a node's number.
        bare = self.parser.unquoted(token)
        return token.text if token.text[1] == '"' and bare[:1].isdigit() else bare

    def named(self) -> Node:
        token = self.parser.expect("node")
        value = self.values.get(self.key(token))
        if value is None:
            self.parser.fail(f"{token.text} is not defined before", token)
        return value

    def written(self) -> Node | _Literal:
        parser = self.parser
        if parser.token.kind == "node":
            return self.named()
        token = parser.literal_token()
        return _Literal(token, parser.array_type() if parser.token.text == ":" and self.typed() else None)

    def typed(self) -> bool:
        """Whether the `:` ahead belongs to the literal before it: it stands against both neighbours."""
        parser = self.parser
        colon = parser.token
        before = parser.tokens[parser.at - 1]
        if colon.start != before.start + len(before.text):
            return False
        parser.take()
        return True

    def operand(self, bare: Type) -> Node:
        value = self.written()
        return value if isinstance(value, Node) else self.splat(value, bare)

    def splat(self, written: _Literal, bare: Type) -> Node:
        type = written.type or bare
        if not isinstance(type, Array):
            self.parser.fail("a tuple is no constant", written.token)
        value = self.parser.scalar(written.token, type.dtype)
        key = (type, repr(value))
        if key not in self.splats:
            self.splats[key] = Node(CONSTANT, (), {"value": value}, type)
            self.nodes.append(self.splats[key])
        return self.splats[key]

    # -- one node -----------------------------------------------------------------------------------------------------

    def node(self) -> None:
        parser = self.parser
        target = parser.take()
        parser.expect("sign", "=")
        word = parser.expect("word")
        op = OPS.get(word.text)
        if op is None or op is INPUT:
            parser.fail(f"there is no op {word.text!r}", word)
        node = self.constant(word) if op is CONSTANT else self.application(op, word)
        self.nodes.append(node)
        self.define(target, node)

    def loc(self) -> Loc | None:
        file, _, line = self.parser.comments.get(self.parser.at - 1, "").rpartition(":")
        return Loc(file, int(line)) if file and _LINE.fullmatch(line) else None

    def application(self, op: Op, word: _Token) -> Node:
        parser = self.parser
        written: list[Node | _Literal] = []
        if parser.token.kind in ("node", "number") or parser.token.text in ("true", "false"):
            written.append(self.written())
            while parser.accept("sign", ","):
                written.append(self.written())
        if op.arity is not None and len(written) != op.arity:
            parser.fail(f"{op.name} takes {op.arity} operands, not {len(written)}", word)
        attrs = self.attributes(op, word)
        parser.expect("sign", ":")
        at = parser.token
        type = parser.type()
        bare: Type = type
        if isinstance(type, Array) and type.dtype == BOOL:
            bare = next((value.type for value in written if isinstance(value, Node)), type)
        args = tuple(value if isinstance(value, Node) else self.splat(value, bare) for value in written)
        try:
            inferred = op.infer(tuple(arg.type for arg in args), attrs)  # type: ignore[misc]
        except (AdjitError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as error:
            parser.fail(str(error), word)
        if inferred != type:
            parser.fail(f"{op.name} gives {inferred} here, not {type}", at)
        return Node(op, args, attrs, type, self.loc())

    def attributes(self, op: Op, word: _Token) -> dict[str, Any]:
        parser = self.parser
        found: dict[str, Any] = {}
        while parser.token.kind in ("word", "subscripts"):
            token = parser.take()
            name = "spec" if token.kind == "subscripts" else token.text
            if name not in op.attr_kinds or name in found:
                parser.fail(f"{op.name} has no{' second' if name in found else ''} attribute {name!r}", token)
            if token.kind == "subscripts":
                found[name] = self.subscripts(token)
                continue
            parser.expect("sign", "=")
            found[name] = self.attribute(op.attr_kinds[name])
        for name, kind in op.attr_kinds.items():
            if name not in found:
                if kind not in ("bool", "count"):
                    parser.fail(f"{op.name} needs the attribute {name!r}", word)
                found[name] = kind == "count" and 0
        return {name: found[name] for name in op.attr_kinds}

    def subscripts(self, token: _Token) -> Subscripts:
        try:
            return Subscripts.of(token.text[1:-1])
        except ValueError as error:
            self.parser.fail(str(error), token)

    def attribute(self, kind: str) -> Any:
        parser = self.parser
        if kind == "ints":
            parser.expect("sign", "(")
            return tuple(parser.sequence(")", lambda: self.attribute("int")))
        if kind == "graph":
            return parser.graph()
        if kind == "str":
            return parser.unquoted(parser.expect("string"))
        if kind == "dtype":
            token = parser.expect("word")
            if token.text not in DTYPE_NAMES:
                parser.fail(f"{token.text!r} is no dtype", token)
            return DTYPE_NAMES[token.text]
        token = parser.literal_token()
        dtypes = {"bool": "bool", "int": "i64", "count": "i64", "float": "f64"}
        if kind in dtypes:
            return parser.scalar(token, DTYPE_NAMES[dtypes[kind]])
        if token.text in ("true", "false"):
            return token.text == "true"
        return parser.scalar(token, DTYPE_NAMES["i64" if token.text.lstrip("-").isdecimal() else "f64"])

    # -- constants ----------------------------------------------------------------------------------------------------

    def constant(self, word: _Token) -> Node:
        """A named array, an array written out, or (by hand only) a splat: `%c = constant 0.5 : f64[3]`."""
        parser = self.parser
        name = parser.accept("name")
        if name is not None:
            return self.named_constant(parser.unquoted(name), name)
        if parser.accept("sign", "["):
            tokens = parser.sequence("]", parser.literal_token)
            parser.expect("sign", ":")
            at = parser.token
            type = parser.array_type()
            if len(tokens) != type.size or type.weak:
                parser.fail(f"{len(tokens)} elements are no {type}", at)
            values = [parser.scalar(token, type.dtype) for token in tokens]
            array = np.array(values, dtype=type.dtype).reshape(type.shape)
            self.arrays += 1
            return Node(CONSTANT, (), {"data": Data.of(array, f"c{self.arrays - 1}")}, type, self.loc())
        token = parser.literal_token()
        parser.expect("sign", ":")
        type = parser.array_type()
        return Node(CONSTANT, (), {"value": parser.scalar(token, type.dtype)}, type, self.loc())

    def named_constant(self, name: str, token: _Token) -> Node:
        parser = self.parser
        digest = parser.expect("digest").text.removeprefix("sha256=")
        parser.expect("sign", ":")
        type = parser.array_type()
        if name not in self.parser.constants:
            return Node(CONSTANT, (), {"data": Data(name, digest, None)}, type, self.loc())
        array = parser.constants[name]
        if not isinstance(array, np.ndarray | np.generic):
            parser.fail(f"constants[{name!r}] is a {array.__class__.__name__}, not an array", token)
        array = np.asarray(array)
        if Array(array.dtype, array.shape) != type:
            parser.fail(f"constants[{name!r}] is {Array(array.dtype, array.shape)}, not {type}", token)
        if digest_of(array) != digest:
            parser.fail(f"constants[{name!r}] has the digest {digest_of(array)}: it is another array", token)
        return Node(CONSTANT, (), {"data": Data.of(array, name)}, type, self.loc())
