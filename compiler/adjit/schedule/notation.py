"""How a plan's text writes index maps and tuples of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.schedule.instructions import Body


def numbers(values: Sequence[int]) -> str:
    """`(32,64)`."""
    return f"({','.join(map(str, values))})"


def over(body: Body) -> str:
    """`over (32,64) reduced (1)`."""
    reduced = f" reduced {numbers(body.reduced)}" if body.reduced else ""
    return f"over {numbers(body.domain)}{reduced}"


def affine(constant: int, coefficients: Sequence[int], position: tuple[int, int] | None = None) -> str:
    """`8 + 3*d0 + d1`, and `v0*4` of a position (number, stride)."""
    terms = [f"{c}*d{d}" if c != 1 else f"d{d}" for d, c in enumerate(coefficients) if c]
    if position is not None:
        terms.append(f"v{position[0]}*{position[1]}")
    if constant or not terms:
        terms.insert(0, str(constant))
    return " + ".join(terms)


def plural(count: int) -> str:
    """The ending of a word for `count` things."""
    return "" if count == 1 else "s"
