"""A pattern as a matrix of SciPy, and the node of a result's tree that becomes one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import optree

from adjit.sparse.colours import Pattern
from adjit_runtime.errors import MissingExtraError
from adjit_runtime.guests import NAMESPACE


def scipy_sparse(asked: str) -> Any:
    """`scipy.sparse`. Raises MissingExtraError where SciPy is not installed."""
    try:
        import scipy.sparse
    except ImportError:
        raise MissingExtraError(f"{asked} gives matrices of SciPy: pip install 'adjit[linalg]'") from None
    return scipy.sparse


class Form:
    """Where the entries of a matrix are: all matrices of one form share the arrays that say so, which are read-only."""

    def __init__(self, pattern: Pattern) -> None:
        self.shape = (pattern.height, pattern.width)
        largest = max(len(pattern.columns), *self.shape)
        dtype = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
        self.starts, self.columns = pattern.starts.astype(dtype), pattern.columns.astype(dtype)
        self.starts.flags.writeable = self.columns.flags.writeable = False

        sparse = scipy_sparse("adjit.sparse_jacobian")
        entries = np.zeros(len(self.columns), bool)
        self._like = sparse.csr_array((entries, self.columns, self.starts), shape=self.shape, copy=False)
        # They are; SciPy would look whenever it is asked.
        self._like.has_sorted_indices = self._like.has_canonical_format = True

    def filled(self, entries: Any) -> Any:
        """The matrix with these entries."""
        # SciPy's constructor takes ten times as long.
        made = copy.copy(self._like)
        made.data = entries
        return made

    def pattern(self) -> Any:
        """The matrix with True in all entries."""
        return self.filled(np.ones(len(self.columns), bool))


class Entries:
    """A node of a result's tree: its child are the entries, and what is made of it is the matrix."""

    def __init__(self, form: Form, entries: Any = 0) -> None:
        self.form = form
        self.entries = entries


def _flatten(node: Any) -> tuple[list[Any], Form]:
    return [node.entries], node.form


def _unflatten(form: Any, children: Iterable[Any]) -> Any:
    (entries,) = children
    return form.filled(entries)


_NODE: Any = Entries
optree.register_pytree_node(_NODE, _flatten, _unflatten, namespace=NAMESPACE)
