"""x[mask] with a traced mask: elements whose number is not known, computed as whole arrays until they are written back.

`x[mask] = x[mask] * a` becomes a select. Elementwise functions of chosen elements, of scalars and of others that the
same mask chose are chosen elements; their sum and mean are known too. Anything else needs a shape and is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from adjit.ir.node import Node
from adjit.trace import refuse
from adjit.trace.tracer import Tracer, fresh, node_of


class Chosen(np.lib.mixins.NDArrayOperatorsMixin):
    """The elements of `whole` where `mask` is true; both have one shape."""

    def __init__(self, whole: Tracer, mask: Tracer) -> None:
        # Values of now: what is written later into their arrays does not change the elements.
        self._adjit_whole = fresh(node_of(whole))
        self._adjit_mask = fresh(node_of(mask))
        self._adjit_error = refuse.mask(node_of(mask))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the value, as a tracer shows it."""
        return np.ndarray

    def is_chosen_by(self, mask: Tracer) -> bool:
        """Whether a mask is the one that chose these elements, or was computed in the same way."""
        return _is_same(node_of(mask), node_of(self._adjit_mask))

    def __array_ufunc__(self, ufunc: np.ufunc, how: str, *inputs: Any, **kwargs: Any) -> Any:
        # x[mask] *= a writes the result back by itself.
        in_place = len(kwargs) == 1 and isinstance(kwargs.get("out"), tuple) and kwargs["out"][0] is self
        if how != "__call__" or (kwargs and not in_place) or ufunc.signature is not None or ufunc.nout != 1:
            raise refuse.noted(self._adjit_error)
        return Chosen(ufunc(*map(self._operand, inputs)), self._adjit_mask)

    def _operand(self, x: Any) -> Any:
        if isinstance(x, Chosen):
            if not x.is_chosen_by(self._adjit_mask):
                raise refuse.noted(self._adjit_error)
            return x._adjit_whole
        if np.ndim(x):
            raise refuse.noted(self._adjit_error)
        return x

    def sum(self) -> Any:
        """The sum of the elements."""
        return np.sum(np.where(self._adjit_mask, self._adjit_whole, 0))

    def mean(self) -> Any:
        """Their mean."""
        return self.sum() / np.sum(self._adjit_mask)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function in _SUMS and len(args) == 1 and not kwargs:
            return _SUMS[function](self)
        raise refuse.noted(self._adjit_error)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise refuse.noted(self._adjit_error)

    def _needs_a_shape(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise refuse.noted(self._adjit_error)

    __array__ = __bool__ = __contains__ = __float__ = __getitem__ = __index__ = __int__ = __iter__ = __len__ = (
        __setitem__
    ) = _needs_a_shape


# Looked up at the import: inside a trace np.sum is another object.
_SUMS = {np.sum: Chosen.sum, np.mean: Chosen.mean}


def _is_same(x: Node, y: Node) -> bool:
    """Whether two nodes are one computation of the same nodes."""
    pairs = [(x, y)]
    while pairs:
        x, y = pairs.pop()
        if x is y:
            continue
        if x.op is not y.op or (x.op.kind == "leaf" and not x.is_splat) or x.type != y.type or x.attrs != y.attrs:
            return False
        pairs.extend(zip(x.args, y.args, strict=True))
    return True
