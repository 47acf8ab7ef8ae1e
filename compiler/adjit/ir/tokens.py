"""The tokens of texts that parse back, of graphs and of plans: what stands ahead, types and literals.

What is not expected raises FormatError with line and caret. A scan never goes back over what it has read, and a reader
is given the token that is ahead: none looks further."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from adjit.ir.node import Loc
from adjit.ir.quote import unquote
from adjit.ir.types import BOOL, DTYPE_NAMES, Array, Tuple, Type
from adjit_runtime.errors import FormatError

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>\#[^\n]*)
  | (?P<node>%(?:"(?:[^"\\\n]|\\.)*"|[\w.]+))
  | (?P<name>@(?:"(?:[^"\\\n]|\\.)*"|[\w.]+))
  | (?P<type>(?:bool|[iuf][0-9]+)\[[0-9,]*\]~?)
  | (?P<subscripts>\[(?:(?!->)[^\[\]\s"])*->[^\[\]\s"]*\])
  | (?P<digest>sha256=[0-9a-f]+)
  | (?P<range>[0-9]+\.\.[0-9]+)
  | (?P<number>-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf\b|nan\b))
  | (?P<word>[A-Za-z_]\w*)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<sign>->|<=|[(){}\[\]:,=+*<])
    """,
    re.VERBOSE,
)


@dataclass(slots=True)
class Token:
    """A piece of the text, of a kind that `_TOKEN` names, and where it begins."""

    kind: str
    text: str
    start: int


_LINE = re.compile(r"[0-9]{1,9}")
_SHOWN = 100
"""Characters of a line that an error shows on either side of what is wrong."""


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


class Tokens:
    """A text as tokens, and where one stands in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.comments: dict[int, str] = {}
        self.at = 0
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
                self.tokens.append(Token(kind, match.group(), place))
                end = match.end()
            place = match.end()
        self.tokens.append(Token("end", "", len(self.text)))

    def fail(self, message: str, where: Token | int) -> NoReturn:
        """Raise FormatError with the line of a place, and a caret under it."""
        place = where.start if isinstance(where, Token) else where
        number = self.text.count("\n", 0, place) + 1
        start = self.text.rfind("\n", 0, place) + 1
        stop = self.text.find("\n", place)
        left, right = max(start, place - _SHOWN), min(len(self.text) if stop < 0 else stop, place + _SHOWN)
        if len(message) > 2 * _SHOWN:
            message = f"{message[:_SHOWN]} ... {message[-_SHOWN:]}"
        raise FormatError(f"line {number}: {message}\n    {self.text[left:right]}\n    {' ' * (place - left)}^")

    def unquoted(self, token: Token) -> str:
        """The name of a node or graph, or the text of a string, without quotes."""
        text = token.text if token.kind == "string" else token.text[1:]
        if not text.startswith('"'):
            return text
        try:
            return unquote(text)
        except ValueError as error:
            self.fail(str(error), token)

    @property
    def token(self) -> Token:
        """The one that is ahead."""
        return self.tokens[self.at]

    def take(self) -> Token:
        """Read the token that is ahead."""
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, kind: str, text: str | None = None) -> Token | None:
        """Read the token that is ahead if it is of this kind and text."""
        token = self.tokens[self.at]
        if token.kind != kind or (text is not None and token.text != text):
            return None
        self.at += 1
        return token

    def expect(self, kind: str, text: str | None = None) -> Token:
        """Read the token that is ahead; it is an error if it is not of this kind and text."""
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
        """`f32[2,3]`."""
        token = self.expect("type")
        try:
            return parse_type(token.text)
        except (KeyError, ValueError):
            self.fail(f"{token.text!r} is no type", token)

    def type(self) -> Type:
        """An array's type, or a tuple of them."""
        if self.accept("sign", "("):
            return Tuple(tuple(self.sequence(")", self.array_type)))
        return self.array_type()

    def literal_token(self) -> Token:
        """A number or a bool, whose dtype stands elsewhere."""
        token = self.accept("number") or self.accept("word", "true") or self.accept("word", "false")
        if token is None:
            self.fail(f"expected a number, found {self.token.text!r}", self.token)
        return token

    def scalar(self, token: Token, dtype: np.dtype) -> Any:
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

    def integer(self) -> int:
        """An int64."""
        return int(self.scalar(self.expect("number"), DTYPE_NAMES["i64"]))

    def natural(self) -> int:
        """An int64 that is not negative."""
        token = self.token
        found = self.integer()
        if found < 0:
            self.fail(f"{token.text} is negative", token)
        return found

    def dtype(self) -> np.dtype:
        """A dtype by its short name."""
        token = self.expect("word")
        if token.text not in DTYPE_NAMES:
            self.fail(f"{token.text!r} is no dtype", token)
        return DTYPE_NAMES[token.text]

    # -- lines of source ----------------------------------------------------------------------------------------------

    def comment(self) -> str:
        """The comment after the token that was read last, on its line."""
        return self.comments.get(self.at - 1, "")

    def loc(self) -> Loc | None:
        """The line of source in that comment."""
        return loc_of(self.comment())


def loc_of(text: str) -> Loc | None:
    """`model.py:12` as a place; None where it is none."""
    file, _, line = text.rpartition(":")
    return Loc(file, int(line)) if file and _LINE.fullmatch(line) else None
