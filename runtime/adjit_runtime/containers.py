"""How a state shows its pytrees: the same containers, with views as leaves, in which no assignment is lost.

Python's own containers (dict, list, OrderedDict, defaultdict, deque) are shown as subclasses whose changing methods
raise StateError; as arguments they count as the plain ones, and every copy of one (`copy()`, `dict(x)`, `copy.copy`,
`copy.deepcopy`, `pickle`) is a plain one. Tuples, named tuples and frozen dataclasses cannot be changed anyway.
Containers of other classes, which are registered with optree, are shown as what they are: a subclass that refuses would
refuse what their own methods do, too; what is assigned in them is for `shown` to find.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import optree

from adjit_runtime.errors import StateError
from adjit_runtime.guests import NAMESPACE


def _refuse(*_: object, **__: object) -> NoReturn:
    raise StateError(
        "the arrays of a state stay where they are: write new values into one, state.params[key][...] = array "
        "(the numbers of state.shared are the optimiser's own)"
    )


class _ReadOnly:
    """What the containers below have in common: they refuse changes, and their copies are plain."""

    __slots__ = ()

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What makes a plain container with the same items: a class and its arguments."""
        raise NotImplementedError

    def copy(self) -> Any:
        """A plain container with the same items."""
        make, args = self._parts()
        return make(*args)

    def __copy__(self) -> Any:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What was pickled loads without adjit, and deepcopy copies the arrays.
        return self._parts()

    def __repr__(self) -> str:
        return repr(self.copy())

    def __setitem__(self: Any, key: Any, value: Any) -> None:
        # `params[key] += 1` has written into the array by now, and puts it where it is.
        there = key in self if isinstance(self, dict) else not isinstance(key, slice)
        if not (there and self[key] is value):
            _refuse()

    __setattr__ = __delattr__ = __delitem__ = clear = pop = _refuse


class _ReadOnlyMapping(_ReadOnly):
    __slots__ = ()

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    __ior__ = popitem = setdefault = update = _refuse


class _ReadOnlySequence(_ReadOnly):
    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return self.copy() + other

    def __mul__(self, times: Any) -> Any:
        return self.copy() * times

    __rmul__ = __mul__
    __iadd__ = __imul__ = append = extend = insert = remove = reverse = _refuse


class ReadOnlyDict(_ReadOnlyMapping, dict[Any, Any]):
    """A dict of a state's arrays: their elements may be written, the dict may not."""

    __slots__ = ()

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return dict, (dict(self),)


class ReadOnlyOrderedDict(_ReadOnlyMapping, OrderedDict[Any, Any]):
    """An OrderedDict of a state's arrays."""

    __slots__ = ()

    def __init__(self, items: Iterable[tuple[Any, Any]]) -> None:
        super().__init__()
        for key, value in items:
            OrderedDict.__setitem__(self, key, value)

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return OrderedDict, (list(self.items()),)

    move_to_end = _refuse


class ReadOnlyDefaultDict(_ReadOnlyMapping, defaultdict[Any, Any]):
    """A defaultdict of a state's arrays, which takes no new key when one is missing."""

    __slots__ = ()

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return defaultdict, (self.default_factory, dict(self))

    __missing__ = _refuse


class ReadOnlyList(_ReadOnlySequence, list[Any]):
    """A list of a state's arrays: their elements may be written, the list may not."""

    __slots__ = ()

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return list, (list(self),)

    sort = _refuse


class ReadOnlyDeque(_ReadOnlySequence, deque[Any]):
    """A deque of a state's arrays."""

    __slots__ = ()

    def _parts(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return deque, (list(self), self.maxlen)

    appendleft = extendleft = popleft = rotate = _refuse


_SHOWN: dict[type, Callable[[Any], Any]] = {
    dict: lambda tree: ReadOnlyDict({key: read_only(value) for key, value in tree.items()}),
    OrderedDict: lambda tree: ReadOnlyOrderedDict([(key, read_only(value)) for key, value in tree.items()]),
    defaultdict: lambda tree: ReadOnlyDefaultDict(
        tree.default_factory, {key: read_only(value) for key, value in tree.items()}
    ),
    list: lambda tree: ReadOnlyList([read_only(value) for value in tree]),
    deque: lambda tree: ReadOnlyDeque([read_only(value) for value in tree], tree.maxlen),
}

READ_ONLY = (ReadOnlyDict, ReadOnlyOrderedDict, ReadOnlyDefaultDict, ReadOnlyList, ReadOnlyDeque)


def _flatten_dict(mapping: Any) -> tuple[list[Any], tuple[Any, ...], list[Any]]:
    keys = list(optree.utils.total_order_sorted(mapping))
    return [mapping[key] for key in keys], tuple(keys), keys


def _rebuild_dict(keys: Any, children: Iterable[Any]) -> Any:
    return dict(zip(keys, children, strict=True))


def _flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec, list[Any]]:
    """A container as a node: its children, the form of a plain one, and their keys."""
    plain = tree.copy()
    children, form = optree.tree_flatten(plain, is_leaf=lambda x: x is not plain)
    return children, form, form.entries()


def _rebuild(form: Any, children: Iterable[Any]) -> Any:
    return optree.tree_unflatten(form, children)


# In every namespace, so that users' own tree functions know them, too.
_register = functools.partial(
    optree.register_pytree_node,
    namespace=optree.registry.__GLOBAL_NAMESPACE,
)
_register(ReadOnlyDict, _flatten_dict, _rebuild_dict)
_register(ReadOnlyList, lambda items: (list(items), None, range(len(items))), lambda _, children: list(children))
for _cls in READ_ONLY:
    if _cls not in (ReadOnlyDict, ReadOnlyList):
        _register(_cls, _flatten, _rebuild)


def children_of(tree: Any) -> list[Any] | None:
    """What a container holds, as its class was registered to say; None for a leaf."""
    if isinstance(tree, np.ndarray) or optree.tree_is_leaf(tree, namespace=NAMESPACE):
        return None
    return list(optree.tree_flatten_one_level(tree, namespace=NAMESPACE)[0])


def read_only(tree: Any) -> Any:
    """The same tree; what is a container of Python's own in it refuses to be changed."""
    if type(tree) in _SHOWN:
        return _SHOWN[type(tree)](tree)
    if children_of(tree) is None:
        return tree
    children, metadata, _, unflatten = optree.tree_flatten_one_level(tree, namespace=NAMESPACE)[:4]
    return unflatten(metadata, tuple(read_only(child) for child in children))
