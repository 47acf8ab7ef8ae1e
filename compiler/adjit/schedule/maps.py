"""Affine index maps: where in a node's index space a kernel stands, as a function of its iteration domain.

An `Affine` is a constant and one coefficient for each dimension of the domain; a `Map` has one `Affine` for each
dimension of a node. Movement ops compose: `operand_map(node, map)` gives the map of a movement op's operand.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjit.ir.axes import Along, Linear, Mixed, relation_of
from adjit.ir.node import Node

Affine = tuple[int, tuple[int, ...]]
Map = tuple[Affine, ...]
Bound = tuple[Affine, int]
"""A predicate 0 <= affine < n."""


def unit(rank: int, dim: int) -> Affine:
    """The index of one dimension of a domain of `rank` dimensions."""
    return 0, tuple(int(i == dim) for i in range(rank))


def identity(rank: int, dims: Sequence[int]) -> Map:
    """The map of a node whose dimensions are the domain's `dims`."""
    return tuple(unit(rank, dim) for dim in dims)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-ordered array."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def linear(map_: Map, strides: Sequence[int], offset: int = 0) -> Affine:
    """offset + sum of stride * index: the element of a strided array that a map names."""
    rank = len(map_[0][1]) if map_ else 0
    coefficients = [0] * rank
    for (constant, terms), stride in zip(map_, strides, strict=True):
        offset += constant * stride
        for i, term in enumerate(terms):
            coefficients[i] += term * stride
    return offset, tuple(coefficients)


def bounds(affine: Affine, extents: Sequence[int]) -> tuple[int, int]:
    """The smallest and the largest value over a domain (which is not empty)."""
    constant, terms = affine
    low = high = constant
    for term, n in zip(terms, extents, strict=True):
        low, high = (low, high + term * (n - 1)) if term > 0 else (low + term * (n - 1), high)
    return low, high


def delinearize(index: Affine, shape: Sequence[int], extents: Sequence[int]) -> Map | None:
    """The map into `shape` whose linear index is `index`; None where it is not affine."""
    if 0 in extents or 0 in shape:
        return tuple((0, (0,) * len(extents)) for _ in shape)
    result: list[Affine] = []
    constant, terms = index
    for stride in contiguous_strides(shape):
        quotient = tuple(term // stride if term % stride == 0 else 0 for term in terms)
        rest = tuple(0 if term % stride == 0 else term for term in terms)
        leading, constant = divmod(constant, stride)
        low, high = bounds((constant, rest), extents)
        if low < 0 or high >= stride:
            return None
        result.append((leading, quotient))
        terms = rest
    return tuple(result)


def operand_map(node: Node, map_: Map, extents: Sequence[int]) -> tuple[Map | None, tuple[Bound, ...]]:
    """The map of what a movement node moves, its first operand, and the bounds outside which there is only padding.

    None where a reshape is not affine over this domain, or a pad has interior elements."""
    arg = node.args[0]
    relation = relation_of(node)
    assert relation is not None
    axes = relation.operands[0]
    if isinstance(axes, Linear):
        if not map_:
            # A scalar seen as (1, 1, ...): every index is 0.
            return tuple((0, (0,) * len(extents)) for _ in arg.shape), ()
        index = linear(map_, contiguous_strides(node.shape))
        return delinearize(index, arg.shape, extents), ()
    inner: list[Affine] = []
    checked: list[Bound] = []
    for at, n in zip(axes, arg.shape, strict=True):
        if not isinstance(at, Along | Mixed) or at.gap != 1:
            return None, ()
        if isinstance(at, Mixed):
            moved = linear(tuple(map_[dim] for dim in at.dims), at.steps)
        else:
            moved = map_[at.dim]
            if at.start != 0 or at.step != 1:
                constant, terms = moved
                moved = at.start + at.step * constant, tuple([term * at.step for term in terms])
        inner.append(moved)
        if relation.filled and not _inside(moved, n, extents):
            checked.append((moved, n))
    return tuple(inner), tuple(checked)


def _inside(affine: Affine, n: int, extents: Sequence[int]) -> bool:
    if 0 in extents:
        return True
    low, high = bounds(affine, extents)
    return low >= 0 and high < n
