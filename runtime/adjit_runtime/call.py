"""Calls of compiled functions: arguments are checked and bound, results are fresh arrays.

`CompiledFunction` keeps a program for each signature. A call that fits none reaches the compiler through `compile`.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import optree

from adjit_runtime import fork, variety
from adjit_runtime.call_trees import Places
from adjit_runtime.checks import kind
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guard import Lock
from adjit_runtime.load import Loaded, address_of
from adjit_runtime.native import Entry, fits
from adjit_runtime.trees import (
    MOST_SIGNATURES,
    LeafType,
    Signature,
    Static,
    as_array,
    flatten,
    known_dtype,
    leaf_names,
    leaf_type,
)
from adjit_runtime.tuned import CALLS_TO_ENTRY, NATIVE_ENTRIES, RELEASE_SECONDS

SIGNATURES_TO_WARN = 16


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """A loaded program and the tree of its results."""

    loaded: Loaded
    out_tree: optree.PyTreeSpec

    def __call__(self, leaves: Sequence[Any]) -> Any:
        """Run on the leaves of the arguments, whose types fit the signature."""
        return optree.tree_unflatten(self.out_tree, invoke(self.loaded, leaves))


def invoke(loaded: Loaded, leaves: Sequence[Any]) -> list[Any]:
    """One call: a fresh array for each result, NumPy scalars where they have no dimensions. Releases the GIL."""
    program = loaded.program
    slots = program.slots
    arrays: list[np.ndarray | None] = [None] * len(slots)
    for number, leaf in zip(program.inputs, leaves, strict=True):
        arrays[number] = as_array(leaf, np.dtype(slots[number].dtype))
    results = []
    for number in program.outputs:
        result = loaded.result(number)
        arrays[number] = result
        results.append(result)
    table = (ctypes.c_void_p * len(slots))()
    for number, array in enumerate(arrays):
        table[number] = loaded.constant_addresses[number] if array is None else address_of(array)
    report = (ctypes.c_int64 * 2)()
    arena = loaded.borrow_arena()
    try:
        status = loaded.entry(ctypes.addressof(table), address_of(arena), ctypes.addressof(report))
    finally:
        loaded.return_arena(arena)
    if status:
        raise loaded.failure(status, report)
    return [result if result.ndim else result[()] for result in results]


class CompiledFunction:
    """A Python function with one compiled program for each signature of its arguments.

    `compile(signature, names, reason)` is the way to the compiler: it gets the signature, a name for each leaf and
    what is new about it, and returns a `Compiled`.
    """

    def __init__(self, function: Callable[..., Any], name: str, static_argnames: Iterable[str]) -> None:
        self.__wrapped__ = function
        # What a trace calls: the function, or another that does the same.
        self.called = function
        self.__name__ = name
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__doc__ = function.__doc__
        # A method of a C type has none, nor has a ufunc of NumPy 2.0.
        self.__module__ = getattr(function, "__module__", type(function).__module__)
        self.static_argnames = frozenset(static_argnames)
        try:
            self.__signature__ = inspect.signature(function)
        except (TypeError, ValueError):
            self.__signature__ = inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
        for static in self.static_argnames - set(self.__signature__.parameters):
            raise ArgumentError(f"static_argnames: {name} has no parameter {static!r} that could be static")
        self._compiled: dict[Signature, Compiled] = {}
        self._lock = Lock()
        self._used: dict[Compiled, int] = {}
        self._clock = itertools.count()
        self._warned = False
        self._entries: list[Entry] = []
        self._calls: dict[tuple[Compiled, tuple[Any, ...]], int] = {}
        self.retraced = 0
        _ALIVE.add(self)

    def compile(self, signature: Signature, names: Sequence[str], reason: str) -> Compiled:
        """Make the program of a signature."""
        raise NotImplementedError

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance of a class of its own, so that its `__call__` can be a native entry."""
        return super().__new__(type(cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__}))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled program of these arguments; compiles it where there is none."""
        signature, leaves, tree_names = self.signature_of(args, kwargs)
        compiled = self.compiled(signature, tree_names)
        begun = time.perf_counter()
        result = compiled(leaves)
        self._offer_entry(compiled, signature, leaves, args, kwargs, time.perf_counter() - begun)
        return result

    def _offer_entry(
        self,
        compiled: Compiled,
        signature: Signature,
        leaves: Sequence[Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Make a native entry for calls like this one, if it can take them."""
        if not self._is_due(compiled, args, kwargs):
            return
        places = self._places(args, kwargs)
        if fits(signature.types, leaves, places, compiled.loaded):
            release = seconds > RELEASE_SECONDS
            others = self._entries
            self.install(
                Entry(compiled.loaded, signature.types, places, compiled.out_tree, others=others, release=release)
            )

    def _is_due(self, compiled: Compiled, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call that came through Python is one after which such calls get a native entry."""
        # At the second call, as many functions are called once; later an entry that left the chain comes back.
        shape = (len(args), *sorted(kwargs))
        key = (compiled, shape)
        self._calls[key] = calls = self._calls.get(key, 0) + 1
        if calls % CALLS_TO_ENTRY != 2:
            return False
        return not any(entry.loaded is compiled.loaded and entry.shape == shape for entry in self._entries)

    def _places(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], bound: int = 0) -> Places:
        """Where a native entry finds the leaves of a call; the first `bound` arguments are no trees."""
        statics = self.static_argnames
        parameters = list(self.__signature__.parameters)

        def is_static(place: int | str) -> bool:
            if isinstance(place, str):
                return place in statics
            return place < len(parameters) and parameters[place] in statics

        return Places(args, kwargs, is_static, bound)

    def has_entry(self, entry: Entry) -> bool:
        """Whether an entry is in the chain."""
        return any(known is entry for known in self._entries)

    def install(self, entry: Entry) -> None:
        """Put a native entry before the others; the oldest one goes where there are too many."""
        self._lock.run(self._chain, lambda: [entry, *self._entries])

    def leave_busy_entries(self) -> None:
        """In a child process: an entry that another thread was in stays busy, so it leaves the chain."""
        if any(entry.busy[0] for entry in self._entries):
            self._lock.run(self._chain, lambda: [entry for entry in self._entries if not entry.busy[0]])

    def _chain(self, entries: Callable[[], list[Entry]]) -> None:
        """Link entries, and at last, each in one store, make them the function's; so an interrupt leaves a whole chain,
        the old one or the new."""
        kind = type(self)
        chosen = entries()[:NATIVE_ENTRIES]
        # The Python path stands on the class below the function's own.
        path: Callable[..., Any] = functools.partial(kind.__mro__[1].__call__, self)
        # An entry that goes may be running in another thread: it keeps its next path, and itself, alive.
        for known in reversed(chosen):
            known.fall_through_to(path)
            path = known.function
        if chosen:
            kind.__call__ = path  # type: ignore[method-assign]
        elif "__call__" in vars(kind):
            # The class below has the Python path.
            del kind.__call__
        self._entries = chosen

    def __reduce__(self) -> str:
        return self.__qualname__

    def __copy__(self) -> CompiledFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        return self

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Methods: self is the first argument."""
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {self.__name__}>"

    def compiled(self, signature: Signature, names: Callable[[], list[str]]) -> Compiled:
        """The program of a signature."""
        found = self._compiled.get(signature)
        if found is None:
            found = self._lock.run(self._made, signature, names)
            self._warn_of_many(signature, names)
        self._used[found] = next(self._clock)
        return found

    def _made(self, signature: Signature, names: Callable[[], list[str]]) -> Compiled:
        found = self._compiled.get(signature)
        if found is None:
            why = variety.reason(signature, next(reversed(self._compiled)), names()) if self._compiled else "first call"
            found = self.compile(signature, names(), why)
            self._used[found] = next(self._clock)
            self._compiled[signature] = found
            self._forget_the_oldest()
        return found

    def _warn_of_many(self, signature: Signature, names: Callable[[], list[str]]) -> None:
        if len(self._compiled) >= SIGNATURES_TO_WARN and not self._warned:
            self._warned = True
            others = [known for known in list(self._compiled) if known != signature]
            variety.warn(self.__name__, [*others, signature], names())

    def _forget_the_oldest(self) -> None:
        """Let go of the program that was used longest ago where there are too many. One with a native entry, whose
        calls nobody counts, is in use."""
        if len(self._compiled) <= MOST_SIGNATURES:
            return
        entered = {entry.loaded for entry in self._entries}
        oldest = min(
            (signature for signature, found in self._compiled.items() if found.loaded not in entered),
            key=lambda signature: self._used.get(self._compiled[signature], 0),
        )
        self.forget(oldest)

    def forget(self, signature: Signature) -> None:
        """Let go of a signature's program; a call makes it again."""
        self._compiled.pop(signature, None)
        known = set(self._compiled.values())
        self._used = {found: self._used.get(found, 0) for found in known}
        self._calls = {key: calls for key, calls in list(self._calls.items()) if key[0] in known}

    def signatures(self) -> list[str]:
        """What it has been compiled for, in order."""
        return [signature.describe(self._names(signature.tree)) for signature in self._compiled]

    def signature_of(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Signature, list[Any], Callable[[], list[str]]]:
        """The signature of a call, the leaves of its arguments, and a function that names them."""
        args, kwargs, statics = self._split(args, kwargs)
        leaves, tree = flatten((args, kwargs))
        types: list[LeafType] = []
        for i, leaf in enumerate(leaves):
            dtype = known_dtype(leaf)
            if dtype is not None:
                types.append(LeafType(dtype, leaf.shape, False, not leaf.shape))
            else:
                types.append(leaf_type(leaf, _Name(self, tree, i)))
        return Signature(tree, tuple(types), statics), leaves, lambda: self._names(tree)

    def _split(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], tuple[Static, ...]]:
        """Take the static arguments out; None stays in their positions."""
        if not self.static_argnames:
            return args, dict(kwargs), ()
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.__name__}: {error}") from None
        bound.apply_defaults()
        statics = tuple(Static(name, bound.arguments[name]) for name in sorted(self.static_argnames))
        for name, value in ((static.name, static.value) for static in statics):
            try:
                hash(value)
            except TypeError:
                raise ArgumentError(
                    f"{self.__name__}: the static argument {name} is {kind(value)}, which has no hash; "
                    + ("write @dataclass(frozen=True)" if is_dataclass(value) else "give a tuple, a number or a string")
                ) from None
        named = {name: value for name, value in kwargs.items() if name not in self.static_argnames}
        parameters = list(self.__signature__.parameters.values())
        # None, which has no leaves, holds a static argument's place, so that positions stay what they were.
        places = [
            None if i < len(parameters) and parameters[i].name in self.static_argnames else value
            for i, value in enumerate(args)
        ]
        return tuple(places), named, statics

    def call_plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], statics: tuple[Static, ...]) -> Any:
        """The Python function on arguments that `_split` took apart."""
        return self.call_placed(*self.placed(args, kwargs, statics))

    def placed(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], statics: tuple[Static, ...]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments that `_split` took apart, with the static ones where they were."""
        values = {static.name: static.value for static in statics}
        parameters = list(self.__signature__.parameters.values())
        positional = list(args)
        for i, parameter in enumerate(parameters[: len(args)]):
            if parameter.name in values:
                positional[i] = values.pop(parameter.name)
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                values.pop(parameter.name, None)
        return positional, {**kwargs, **values}

    def call_placed(self, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """The Python function on its own arguments."""
        if isinstance(self.__wrapped__, FunctionType):
            self._check_arguments(positional, named)
        return self.called(*positional, **named)

    def _check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise ArgumentError for arguments that the function does not have, or that it lacks."""
        # A training step shows a signature of its own, which is not that of its loss.
        signature = inspect.signature(self.__wrapped__)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.__name__}: {error}; it takes {tuple(signature.parameters)}") from None

    def _names(self, tree: optree.PyTreeSpec) -> list[str]:
        """A name for each leaf of (args, kwargs)."""
        positional, named = tree.children()
        names: list[str] = []
        parameters = list(self.__signature__.parameters.values())
        for i, child in enumerate(positional.children()):
            if i < len(parameters) and parameters[i].kind is not inspect.Parameter.VAR_POSITIONAL:
                root = parameters[i].name
            else:
                root = f"arg{i}"
            names.extend(leaf_names(child, root))
        for key, child in zip(named.entries(), named.children(), strict=True):
            names.extend(leaf_names(child, key))
        return names


_ALIVE: fork.Living[CompiledFunction] = fork.Living()


def _leave_busy_entries() -> None:
    for function in _ALIVE:
        function.leave_busy_entries()


fork.in_child(_leave_busy_entries)


class _Name:
    """The name of a leaf, worked out when an error prints it."""

    def __init__(self, function: CompiledFunction, tree: optree.PyTreeSpec, number: int) -> None:
        self.function = function
        self.tree = tree
        self.number = number

    def __str__(self) -> str:
        return f"{self.function.__name__}: {self.function._names(self.tree)[self.number]}"
