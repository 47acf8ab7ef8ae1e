"""Index expressions of `np.einsum`: both of its calling conventions, parsed to one letter for each axis.

`parse(operands, shapes)` gives the operands' letters and the result's, with `...` replaced by letters of its own.
Nothing here knows of tracers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjit_runtime.errors import ShapeError, TraceError

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def interleaved(arguments: Sequence[Any]) -> tuple[str, list[Any]]:
    """The sublist form `einsum(x, [0, 1], y, [1, 2], [0, 2])` as a string and its operands."""
    pairs = len(arguments) // 2
    operands = [arguments[2 * i] for i in range(pairs)]
    lists = [arguments[2 * i + 1] for i in range(pairs)]
    spec = ",".join(_sublist(entries) for entries in lists)
    if len(arguments) % 2:
        spec += "->" + _sublist(arguments[-1])
    return spec, operands


def letters(count: int, of: Sequence[str] = LETTERS) -> str:
    """The first letters of an alphabet, one for an axis; raises ShapeError where it has not as many."""
    if count > len(of):
        raise ShapeError(f"sums of products have a letter for each axis, and {count - len(of)} axes are too many")
    return "".join(of[:count])


def _sublist(entries: Sequence[Any]) -> str:
    text = ""
    for entry in entries:
        if entry is Ellipsis:
            text += "..."
            continue
        number = entry.__index__()
        if not 0 <= number < len(LETTERS):
            raise TraceError(f"einsum: subscript {number} is not within [0, {len(LETTERS)})")
        # NumPy orders implicit results by number, upper-case letters first.
        text += (LETTERS[26:] + LETTERS[:26])[number]
    return text


def parse(spec: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """The letters of each operand and of the result."""
    spec = spec.replace(" ", "")
    if spec.count("->") > 1 or set(spec) - set(LETTERS + ".,->"):
        raise ShapeError(f"einsum: {spec!r} is no index expression")
    left, arrow, result = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ShapeError(f"einsum: {spec!r} names {len(terms)} operands, {len(shapes)} are given")
    ranks = [_ellipsis_rank(term, shape) for term, shape in zip(terms, shapes, strict=True)]
    dots = letters(max(ranks, default=0), [letter for letter in LETTERS if letter not in spec])
    named = [_expand(term, dots, rank) for term, rank in zip(terms, ranks, strict=True)]
    if arrow and dots and "..." not in result:
        raise ShapeError(f"einsum: {spec!r} has no '...' in the result for the axes that '...' stands for")
    if arrow:
        return named, _expand(result, dots, len(dots))
    once = sorted(letter for letter in set(left) - set(".,") if left.count(letter) == 1)
    return named, dots + "".join(once)


def _ellipsis_rank(term: str, shape: tuple[int, ...]) -> int:
    named = term.replace("...", "")
    if "." in named or term.count("...") > 1:
        raise ShapeError(f"einsum: {term!r} is no index expression")
    rank = len(shape) - len(named)
    if rank < 0 or (rank and "..." not in term):
        raise ShapeError(f"einsum: {term!r} does not name the {len(shape)} axes of an operand of shape {shape}")
    return rank


def _expand(term: str, dots: str, rank: int) -> str:
    if "..." not in term:
        return term
    return term.replace("...", dots[len(dots) - rank :])


def sizes_of(terms: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The size of each letter; a size of 1 stretches, as in NumPy."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(set(zip(term, shape, strict=True))) != len(set(term)):
            raise ShapeError(f"einsum: a letter that is repeated in {term!r} has two sizes in {shape}")
        for letter, n in zip(term, shape, strict=True):
            known = sizes.setdefault(letter, n)
            if known != n and 1 not in (known, n):
                raise ShapeError(
                    f"einsum: letter {letter!r} has size {known} in one operand and {n} in another: {', '.join(terms)} "
                    f"for shapes {', '.join(map(str, shapes))}"
                )
            if known == 1:
                sizes[letter] = n
    return sizes
