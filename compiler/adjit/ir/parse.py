"""`parse` reads the text that `ir.text` prints; what does not parse raises FormatError with line and caret.

Types are inferred anew and compared with the ones written. Nodes may have any names; printing numbers them.
A literal without a type has the type that `bare_type` in `ir.text` describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.ir.builder import CONSTANT, INPUT
from adjit.ir.graph import MOST_NESTED, Graph, too_deep
from adjit.ir.node import Data, Node, digest_of
from adjit.ir.op import OPS, Op
from adjit.ir.subscripts import Subscripts
from adjit.ir.tokens import Token, Tokens
from adjit.ir.types import BOOL, DTYPE_NAMES, Array, Type
from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError
from adjit_runtime.public import public


@dataclass(slots=True)
class _Literal:
    """A splat operand as written; `type` is None where none is."""

    token: Token
    type: Array | None


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
    parser = Reader(text, constants or {})
    graph = parser.graph()
    parser.expect("end", "")
    return graph


class Reader(Tokens):
    """Reads graphs, and what texts that have graphs in them share with those: attributes and arrays."""

    def __init__(self, text: str, constants: Mapping[str, np.ndarray]) -> None:
        super().__init__(text)
        self.constants = constants
        self.depth = 0

    # -- graphs -------------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """`graph @f(...) -> ... { ... }`."""
        word = self.expect("word", "graph")
        name = self.unquoted(self.expect("name"))
        if self.depth > MOST_NESTED:
            self.fail(str(too_deep(name)), word)
        self.depth += 1
        found = _Body(self, name).read()
        self.depth -= 1
        return found

    # -- attributes ---------------------------------------------------------------------------------------------------

    def attributes(self, op: Op, word: Token) -> dict[str, Any]:
        """The attributes of a node of `op`, whose name is `word`: `axes=(0,1) dtype=f32`."""
        found: dict[str, Any] = {}
        while self.token.kind in ("word", "subscripts"):
            token = self.take()
            name = "spec" if token.kind == "subscripts" else token.text
            if name not in op.attr_kinds or name in found:
                self.fail(f"{op.name} has no{' second' if name in found else ''} attribute {name!r}", token)
            if token.kind == "subscripts":
                found[name] = self.subscripts(token)
                continue
            self.expect("sign", "=")
            found[name] = self.attribute(op.attr_kinds[name])
        for name, kind in op.attr_kinds.items():
            if name not in found and kind != "rule":
                if kind not in ("bool", "count"):
                    self.fail(f"{op.name} needs the attribute {name!r}", word)
                found[name] = kind == "count" and 0
        return {name: found[name] for name in op.attr_kinds if name in found}

    def subscripts(self, token: Token) -> Subscripts:
        """`[ik,kj->ij]`."""
        try:
            return Subscripts.of(token.text[1:-1])
        except ValueError as error:
            self.fail(str(error), token)

    def attribute(self, kind: str) -> Any:
        """The value of an attribute of a kind of `Op.attr_kinds`."""
        if kind == "ints":
            self.expect("sign", "(")
            return tuple(self.sequence(")", lambda: self.attribute("int")))
        if kind in ("graph", "rule"):
            return self.graph()
        if kind == "str":
            return self.unquoted(self.expect("string"))
        if kind == "dtype":
            return self.dtype()
        token = self.literal_token()
        dtypes = {"bool": "bool", "int": "i64", "count": "i64", "float": "f64"}
        if kind in dtypes:
            return self.scalar(token, DTYPE_NAMES[dtypes[kind]])
        if token.text in ("true", "false"):
            return token.text == "true"
        return self.scalar(token, DTYPE_NAMES["i64" if token.text.lstrip("-").isdecimal() else "f64"])

    # -- arrays -------------------------------------------------------------------------------------------------------

    def array(self, tokens: Sequence[Token], type: Array, at: Token) -> np.ndarray:
        """The array of these literals, in C order; `at` is where its type stands."""
        if len(tokens) != type.size or type.weak:
            self.fail(f"{len(tokens)} elements are no {type}", at)
        values = [self.scalar(token, type.dtype) for token in tokens]
        return np.array(values, dtype=type.dtype).reshape(type.shape)

    def bound(self, token: Token, digest: Token, type: Array) -> Data:
        """A named array of a type and digest, which `constants` may have."""
        name, wanted = self.unquoted(token), digest.text.removeprefix("sha256=")
        if name not in self.constants:
            return Data(name, wanted, None)
        array = self.constants[name]
        if not isinstance(array, np.ndarray | np.generic):
            self.fail(f"constants[{name!r}] is a {array.__class__.__name__}, not an array", token)
        array = np.asarray(array)
        if Array(array.dtype, array.shape) != type:
            self.fail(f"constants[{name!r}] is {Array(array.dtype, array.shape)}, not {type}", token)
        if digest_of(array) != wanted:
            self.fail(f"constants[{name!r}] has the digest {digest_of(array)}: it is another array", token)
        return Data.of(array, name)


class _Body:
    """One graph of the text: its names, and the splats that it has made."""

    def __init__(self, parser: Reader, name: str) -> None:
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

    def outputs(self, results: list[Type], start: Token) -> list[Node]:
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

    def define(self, token: Token, node: Node) -> None:
        name = self.key(token)
        if name in self.values:
            self.parser.fail(f"{token.text} is defined twice", token)
        self.values[name] = node

    def key(self, token: Token) -> str:
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

    def application(self, op: Op, word: Token) -> Node:
        parser = self.parser
        written: list[Node | _Literal] = []
        if parser.token.kind in ("node", "number") or parser.token.text in ("true", "false"):
            written.append(self.written())
            while parser.accept("sign", ","):
                written.append(self.written())
        if op.arity is not None and len(written) != op.arity:
            parser.fail(f"{op.name} takes {op.arity} operands, not {len(written)}", word)
        attrs = parser.attributes(op, word)
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
        return Node(op, args, attrs, type, parser.loc())

    # -- constants ----------------------------------------------------------------------------------------------------

    def constant(self, word: Token) -> Node:
        """A named array, an array written out, or (by hand only) a splat: `%c = constant 0.5 : f64[3]`."""
        parser = self.parser
        name = parser.accept("name")
        if name is not None:
            digest = parser.expect("digest")
            parser.expect("sign", ":")
            type = parser.array_type()
            return Node(CONSTANT, (), {"data": parser.bound(name, digest, type)}, type, parser.loc())
        if parser.accept("sign", "["):
            tokens = parser.sequence("]", parser.literal_token)
            parser.expect("sign", ":")
            at = parser.token
            type = parser.array_type()
            data = Data.of(parser.array(tokens, type, at), f"c{self.arrays}")
            self.arrays += 1
            return Node(CONSTANT, (), {"data": data}, type, parser.loc())
        token = parser.literal_token()
        parser.expect("sign", ":")
        type = parser.array_type()
        return Node(CONSTANT, (), {"value": parser.scalar(token, type.dtype)}, type, parser.loc())
