"""Products by what is known: an element of an operand has part in the result where the other operand is not 0."""

from __future__ import annotations

import math

import numpy as np

from adjit.ir.node import Node
from adjit.ops.contraction import sizes_of, subscripts_of
from adjit.sparse.sets import Sets, collected
from adjit.tuned import PATTERN_ENTRIES


def multiplied(node: Node, i: int, sets: Sets, other: np.ndarray) -> Sets | None:
    """What comes of operand `i` of a contraction, whose sets these are, where the other one has that value; None where
    there are too many products to look at each."""
    spec, sizes = subscripts_of(node), sizes_of(node)
    own, partner = spec.operands[i], spec.operands[1 - i]
    rest = [c for c in own if c not in partner]
    each = [sizes[c] for c in rest]
    factors = np.nonzero(other)
    count, repeats = int(np.count_nonzero(other)), math.prod(each)
    if count * repeats > PATTERN_ENTRIES:
        return None
    places = {c: np.repeat(at, repeats) for c, at in zip(partner, factors, strict=True)}
    places |= {c: np.tile(at.ravel(), count) for c, at in zip(rest, np.indices(each), strict=True)}
    size = node.array_type.size

    def numbers(letters: str) -> np.ndarray:
        found, stride = np.zeros(count * repeats, np.int64), 1
        for c in reversed(letters):
            found += places[c] * stride
            stride *= sizes[c]
        return found

    return collected(sets.taken(numbers(own)), numbers(spec.result), size)
