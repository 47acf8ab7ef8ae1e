"""`ravel`: a pytree of arrays as one vector, and back. Plain NumPy, so that both ways may be traced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from adjit.trace import asarray, is_tracer
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, DTypeError, ShapeError
from adjit_runtime.public import public
from adjit_runtime.trees import LeafType, flatten, leaf_names, leaf_type

_NUMBERS = "biuf"


class Unravel:
    """The way back: a vector becomes a tree of the structure, shapes and dtypes of the one that `ravel` was given."""

    def __init__(self, spec: optree.PyTreeSpec, types: Sequence[LeafType], dtype: np.dtype) -> None:
        self._spec = spec
        self._types = tuple(types)
        self._sizes = [math.prod(type.shape) for type in types]
        self.dtype = dtype
        self.size = sum(self._sizes)

    def __call__(self, vector: Any) -> Any:
        """The tree, whose arrays are copies. `vector` has `size` numbers, of the `dtype` that `ravel` gave or another
        float where that is one; ShapeError and DTypeError for others."""
        given = asarray(vector)
        if given.shape != (self.size,):
            raise ShapeError(
                f"unravel takes a vector of shape ({self.size},), for {self._described()}, not {given.shape}"
            )
        if given.dtype != self.dtype and not given.dtype.kind == self.dtype.kind == "f":
            raise DTypeError(f"unravel takes a vector of {self.dtype}, for {self._described()}, not of {given.dtype}")
        leaves, at = [], 0
        for type, size in zip(self._types, self._sizes, strict=True):
            leaf = given[at : at + size].astype(type.dtype).reshape(type.shape)
            leaves.append(leaf if type.shape or type.is_array or is_tracer(leaf) else leaf[()])
            at += size
        return optree.tree_unflatten(self._spec, leaves)

    def _described(self) -> str:
        names = leaf_names(self._spec, "tree")
        return ", ".join(f"{name}: {type}" for name, type in zip(names, self._types, strict=True)) or "an empty tree"

    def __repr__(self) -> str:
        return f"<unravel of {self.size} numbers {self.dtype}: {self._described()}>"


@public({"pytree": "tree", "params": "tree", "parameters": "tree"})
def ravel(tree: Any) -> tuple[Any, Unravel]:
    """A pytree of arrays and numbers as one vector, and the function that makes such a tree of such a vector.

    The vector has the elements of all leaves in the order of the tree (dicts by sorted keys), each leaf in C order. Its
    dtype is the one that NumPy promotes those of all leaves to, Python numbers being float64, int64 and bool: integers
    beside floats become floats, which hold them exactly up to 2**53. `unravel(vector)` gives each leaf the shape and
    dtype that it had, and a number becomes a NumPy scalar. Where the vector is of floats, one of other floats is taken,
    too, as optimisers that compute in float64 give it for parameters of float32. An empty tree is a float64 vector
    without elements.

    Both work on plain arrays, and inside traced functions, where they are a part of those and have derivatives:

        >>> import numpy as np, adjit
        >>> params = {"w": np.ones((2, 3)), "b": 0.5}
        >>> vector, unravel = adjit.ravel(params)
        >>> vector.tolist()
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        >>> loss = lambda params: np.sum(params["w"] ** 2) * params["b"]
        >>> adjit.grad(lambda vector: loss(unravel(vector)))(vector).tolist()
        [6.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    Raises ArgumentError for a leaf that is no array or number, DTypeError for one whose dtype is no number; `unravel`
    raises ShapeError and DTypeError for what is no such vector. As `ravel_pytree` of JAX (Bradbury et al. 2018)."""
    leaves, spec = flatten(tree)
    types = [_type_of(leaf, name) for leaf, name in zip(leaves, leaf_names(spec, "tree"), strict=True)]
    dtype = np.result_type(*(type.dtype for type in types)) if types else np.dtype(np.float64)
    parts = [asarray(leaf).astype(dtype).reshape(-1) for leaf in leaves]
    return np.concatenate(parts) if parts else np.zeros(0), Unravel(spec, types, dtype)


def _type_of(leaf: Any, name: str) -> LeafType:
    if is_tracer(leaf):
        return LeafType(leaf.dtype, leaf.shape)
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind not in _NUMBERS:
        raise DTypeError(f"ravel: {name} is {leaf.dtype}; a vector is of bools, integers or floats")
    if isinstance(leaf, str | bytes) or callable(leaf):
        raise ArgumentError(f"ravel: {name} is {checks.kind(leaf)}, and a vector is of arrays and numbers")
    return leaf_type(leaf, f"ravel: {name}")
