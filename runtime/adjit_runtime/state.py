"""State: one aligned block of parameters, what the optimiser keeps, the state of the model, hyper-parameters, key and
step count.

`params` are views of the block, which lives as long as its last view; what is assigned in their containers is refused
or performed (see `shown`). One writer at a time: a call on a busy or closed state raises, and so does one on a
state that was busy in another thread when the process forked.
"""

from __future__ import annotations

import html
import math
import operator
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import optree

from adjit_runtime import fork
from adjit_runtime.containers import ReadOnlyDict
from adjit_runtime.errors import ArgumentError, StateError
from adjit_runtime.guard import Lock, exclusive
from adjit_runtime.load import address_of, aligned_bytes
from adjit_runtime.models import keys_for, numbers_for
from adjit_runtime.program import ALIGN
from adjit_runtime.shown import Shown
from adjit_runtime.trees import MOST_SIGNATURES, LeafType, flatten, leaf_names

ResultT = TypeVar("ResultT")

CLOSED, TORN = 2, 3
"""Words of a state that no call gets into any more; the number of a thread is greater."""

_ALIVE: fork.Living[State] = fork.Living()


# States and programs keep their layouts; what none of them has any more goes.
_LAYOUTS: weakref.WeakValueDictionary[tuple[Any, ...], Layout] = weakref.WeakValueDictionary()
_LAYOUTS_LOCK = Lock()

PARTS = ("params", "moments", "model_state", "shared", "hyper")
"""The pytrees of a state, in the order of its leaves."""

ROOTS = {part: part for part in PARTS} | {"moments": "optimizer"}
"""What the names of their leaves begin with."""


class Layout:
    """Where each leaf of a state lies in its block: those of `PARTS`, whose trees are given in that order, key, step
    count.

    `models` are the first axes of all of them but the step count: () where the state is that of one model.
    `layout_of` gives one object for equal layouts, so they compare by identity."""

    def __init__(
        self,
        trees: Sequence[optree.PyTreeSpec],
        types: Sequence[LeafType],
        structural: Mapping[str, str],
    ) -> None:
        self.params, self.moments, self.model_state, self.shared, self.hyper = self.trees = tuple(trees)
        self.types = tuple(types)
        self.structural = dict(structural)
        self.names = [
            *(name for part in PARTS for name in leaf_names(getattr(self, part), ROOTS[part])), "key", "step",
        ]  # fmt: skip
        self.offsets: list[int] = []
        at = 0
        for type in self.types:
            self.offsets.append(at)
            nbytes = type.dtype.itemsize * math.prod(type.shape)
            at += -(-max(nbytes, 1) // ALIGN) * ALIGN
        self.nbytes = at

    @property
    def models(self) -> tuple[int, ...]:
        """The shape of the models that the state is of, () for a single one: that of the key, of which each has one."""
        return self.types[-2].shape

    def each(self) -> Layout:
        """The layout of the state of each of the models along the first axis."""
        *many, step = self.types
        numbers = self.parts["shared"].start
        types = [
            LeafType(type.dtype, type.shape[1:], weak=numbers <= i < len(many) - 1 and len(type.shape) == 1)
            for i, type in enumerate(many)
        ]
        return Layout(self.trees, [*types, step], self.structural)

    @property
    def parts(self) -> dict[str, slice]:
        """The leaves that each part of a state owns, by the part's name; key and step count follow."""
        found, at = {}, 0
        for name, tree in zip(PARTS, self.trees, strict=True):
            count = tree.num_leaves
            found[name] = slice(at, at + count)
            at += count
        return found


class State:
    """The state of a training run, made by `step.init` or `adjit.load`.

    `params`        the pytree of parameters, as views that may be written: state.params["w"][...] = array, or
                    state.params["w"] += array. Dicts, lists and their kind refuse other changes; what is assigned in a
                    container of another class, registered with optree, is copied into the state at its next use
    `model_state`   what the loss took and gave back at the last step beside its value, where the step was made with
                    state=True: views like those of parameters, else None
    `optimizer`     what the optimiser keeps for each parameter, as views
    `shared`        what it keeps once for all of them: numbers by name
    `hyper`         hyper-parameters by name; a new value takes effect at the next step
    `key`           the key of random numbers; each step folds its count into it
    `step`          how many steps have been made

    A state of many models, which a step of `adjit.vmap` makes, has them along axis 0 of all parameters, of what the
    optimiser keeps and of the models' states; its numbers and keys are arrays with one for each model. The step count
    is that of all.

    A copy (`copy()`, `copy.copy`, `copy.deepcopy`) is a state of its own. A pickle of a state is one of a plain dict
    with the entries above that it has, and pickles of its parts are plain containers: all load without adjit, and none
    is a state again, as `adjit.load` gives one from what `adjit.save` wrote.
    """

    def __init__(self, layout: Layout, values: Sequence[Any], owner: str) -> None:
        self._layout = layout
        self._owner = owner
        self._block = aligned_bytes(layout.nbytes)
        self._views: list[np.ndarray] = []
        for type, offset, value in zip(layout.types, layout.offsets, values, strict=True):
            count = math.prod(type.shape)
            raw = self._block[offset : offset + count * type.dtype.itemsize]
            view = raw.view(type.dtype).reshape(type.shape)
            view[...] = value
            self._views.append(view)
        self.addresses = [address_of(view) for view in self._views]
        self._shown: dict[str, Shown] = {}
        # What is not 0 lets no call in: 1 while a native entry writes, the number of a thread while that does by way of
        # Python, CLOSED or TORN for good. Set by one atomic instruction.
        self.busy = np.zeros(1, dtype=np.int64)
        self._busy_address = address_of(self.busy)
        # What steps keep with a state: tables with its addresses, by program; native loops; native entries.
        self.bindings: dict[Any, Any] = {}
        self.loops: dict[Any, Any] = {}
        self.entries: list[Any] = []
        _ALIVE.add(self)

    # -- what users see -----------------------------------------------------------------------------------------------

    @property
    def params(self) -> Any:
        """The pytree of parameters, as NumPy views of the state."""
        return self._show("params")

    @params.setter
    def params(self, value: Any) -> None:
        # `state.params *= 0.5` of a single array has written into it by now.
        if value is not self.params:
            raise StateError(
                "the parameters of a state stay where they are: write new values into an array, "
                "state.params[key][...] = array, or make a state with step.init(params)"
            )

    @property
    def model_state(self) -> Any:
        """What the loss carries from step to step beside the parameters, as NumPy views of the state."""
        return self._show("model_state")

    @model_state.setter
    def model_state(self, value: Any) -> None:
        if value is not self.model_state:
            raise StateError(
                "the model state of a state stays where it is: write new values into an array, "
                "state.model_state[key][...] = array, or make a state with step.init(params, model_state)"
            )

    @property
    def optimizer(self) -> Any:
        """What the optimiser keeps, as NumPy views of the state."""
        return self._show("moments")

    @property
    def shared(self) -> dict[str, float]:
        """What the optimiser keeps once for all parameters: numbers by name."""
        self._check_open()
        return ReadOnlyDict({name: _read_only(value) for name, value in self._tree("shared").items()})

    @property
    def hyper(self) -> Hyper:
        """Hyper-parameters: a mapping from names to numbers, or to mappings for schedules."""
        self._check_open()
        return Hyper(self, self._tree("hyper"), self._layout.structural)

    @property
    def key(self) -> Any:
        """The key of random numbers, an integer; of many models an array of them, as a view."""
        self._check_open()
        return _plain(self._views[-2])

    @key.setter
    def key(self, value: Any) -> None:
        self._check_open()
        self.exclusively(operator.setitem, self._views[-2], ..., keys_for("state.key", value, self._layout.models))

    @property
    def step(self) -> int:
        """How many steps have been made."""
        self._check_open()
        return int(self._views[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of the block."""
        return self._layout.nbytes

    def leaves(self) -> list[np.ndarray]:
        """Copies of all leaves in the order of the layout, all after the same step."""
        return self.exclusively(self._copies)

    def _copies(self) -> list[np.ndarray]:
        return [view.copy() for view in self._views]

    def close(self) -> None:
        """Let go of the memory; views that someone still holds stay valid."""
        # What was assigned in containers goes with them.
        exclusive(self._busy_address, self._refuse, self._close)

    def _close(self) -> None:
        # First of all: nothing reads what is gone, should an interrupt come in the middle.
        self.busy[0] = CLOSED
        self.bindings.clear()
        self.loops.clear()
        self.entries.clear()
        self._views.clear()
        self._shown.clear()
        self._block = np.empty(0, np.uint8)

    def copy(self) -> State:
        """A state of its own with the same values."""
        return State(self._layout, self.leaves(), self._owner)

    def __copy__(self) -> State:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A pickle of a plain dict, since a state belongs to code of the process that it was made in.

        `{"params", "optimizer", "shared", "hyper", "key", "step"}`, and `"model_state"` where there is one, with arrays
        that own their memory."""
        values, leaves = self.leaves(), self._layout.parts
        parts = {part: optree.tree_unflatten(getattr(self._layout, part), values[leaves[part]]) for part in PARTS}
        numbers = {part: optree.tree_map(_plain, parts[part]) for part in ("shared", "hyper")}
        key, step = map(_plain, values[-2:])
        plain = {"params": parts["params"], "optimizer": parts["moments"], **numbers, "key": key, "step": step}
        if parts["model_state"] is not None:
            plain["model_state"] = parts["model_state"]
        return dict, (plain,)

    def __repr__(self) -> str:
        if self.busy[0] == CLOSED:
            return f"<state of {self._owner}, closed>"
        models = " x ".join(map(str, self._layout.models))
        carried = self._layout.model_state.num_leaves
        return (
            f"<state of {self._owner}: {f'{models} models of ' if models else ''}{self._layout.params.num_leaves} "
            f"parameters, {f'{carried} arrays of model state, ' if carried else ''}{self.nbytes} bytes, step "
            f"{int(self._views[-1])}>"
        )

    def _repr_html_(self) -> str:
        """All leaves with their types, for a notebook."""
        text = f"<p>{html.escape(repr(self))}</p>"
        if self.busy[0] == CLOSED:
            return text
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{type}</td></tr>"
            for name, type in zip(self._layout.names, self._layout.types, strict=True)
        )
        return f"{text}<table><tr><th>name</th><th>type</th></tr>{rows}</table>"

    # -- for steps ----------------------------------------------------------------------------------------------------

    def exclusively(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """`function(*args)` as the one writer; StateError where there is one already, or the state is closed or torn.

        However it ends, an interrupt at any bytecode included, the state is free again afterwards."""
        self._settle()
        return exclusive(self._busy_address, self._refuse, function, *args)

    def add_entry(self, entry: Any) -> None:
        """Keep a native entry for steps of this state; it takes none while containers of it may change unseen, and none
        any more when it is the oldest of too many."""
        while len(self.entries) >= MOST_SIGNATURES:
            self.entries[0].unbind()
            del self.entries[0]
        self.entries.append(entry)
        if self._may_change():
            entry.unbind()

    def overlaps(self, array: np.ndarray) -> bool:
        """Whether a C-ordered array shares memory with the block."""
        low, start = address_of(array), self.addresses[0]
        return low < start + self._layout.nbytes and low + array.nbytes > start

    def values(self) -> list[np.ndarray]:
        """Every leaf, in the order of the layout."""
        return self._views

    @property
    def layout(self) -> Layout:
        """Where the leaves lie."""
        return self._layout

    def _tree(self, part: str) -> Any:
        """One of `PARTS` with the views as leaves."""
        return optree.tree_unflatten(getattr(self._layout, part), self._views[self._layout.parts[part]])

    def _show(self, part: str) -> Any:
        """The tree of views that users get: one object as long as someone holds it."""
        self._check_open()
        shown = self._shown.get(part)
        return self._look(part) if shown is None or shown.mutable else shown.tree

    def _look(self, part: str) -> Any:
        self._settle()
        leaves = self._layout.parts[part]
        shown = self._shown.get(part)
        if shown is None:
            fresh = Shown(getattr(self._layout, part), self._views[leaves], self._layout.names[leaves])
            shown = self._shown.setdefault(part, fresh)
        if shown.mutable:
            # Native entries do not look whether something was assigned.
            for entry in self.entries:
                entry.unbind()
        return shown.tree

    def _settle(self) -> None:
        """Perform what was assigned in containers that cannot refuse it; raises StateError where it does not fit.

        Every use of the state that goes through Python begins with this. While someone holds such a container,
        native entries are unbound, so that all do."""
        mutable = [(part, shown) for part, shown in self._shown.items() if shown.mutable]
        for part, shown in mutable:
            try:
                changes = shown.changes()
                if changes:
                    exclusive(self._busy_address, self._refuse, shown.perform, changes)
            except StateError:
                if shown.lost:
                    self._shown.pop(part, None)
                raise
            if not shown.held():
                self._shown.pop(part, None)
        if mutable and not self._may_change():
            for entry in self.entries:
                entry.bind(self)

    def _may_change(self) -> bool:
        return any(shown.mutable for shown in self._shown.values())

    def _check_open(self) -> None:
        if self.busy[0] == CLOSED:
            raise StateError("the state is closed")
        if self.busy[0] == TORN:
            raise StateError(
                "the state was being written in another thread when this process was forked, so its values are torn; "
                "make a new one with step.init or adjit.load"
            )

    def _refuse(self) -> NoReturn:
        self._check_open()
        raise StateError("the state is busy in another thread: one state has one writer at a time")


def _tear_busy_states() -> None:
    """In a child process: what another thread was writing stays half written; what this one writes, it goes on with."""
    for state in _ALIVE:
        if state.busy[0] not in (0, CLOSED, TORN, threading.get_ident()):
            state.busy[0] = TORN


fork.in_child(_tear_busy_states)


def _plain(value: np.ndarray) -> Any:
    """A number of a state as Python has it; of many models the array of them."""
    return value if value.ndim else value[()].item()


def _read_only(value: np.ndarray) -> Any:
    shown = value.view()
    shown.flags.writeable = False
    return _plain(shown)


class Hyper(MutableMapping[str, Any]):
    """Hyper-parameters of a state. Setting one takes effect at the next step; nothing is compiled again.

    Of many models each is an array with a number for each model, a view that may be written; a number that is set is
    that of all."""

    def __init__(self, state: State, tree: Mapping[str, Any], structural: Mapping[str, str], prefix: str = "") -> None:
        self._state = state
        self._tree = tree
        self._structural = structural
        self._prefix = prefix

    def __getitem__(self, name: str) -> Any:
        value = self._tree[name]
        if isinstance(value, np.ndarray):
            return _plain(value)
        return Hyper(self._state, value, self._structural, f"{self._prefix}{name}.")

    def __setitem__(self, name: str, value: Any) -> None:
        if (whole := f"{self._prefix}{name}") in self._structural:
            raise StateError(f"{whole} cannot be set: {self._structural[whole]}")
        if name not in self._tree:
            raise ArgumentError(f"there is no hyper-parameter {self._prefix}{name}; there are {', '.join(self._tree)}")
        place = self._tree[name]
        if not isinstance(place, np.ndarray):
            raise ArgumentError(f"{self._prefix}{name} has the numbers {', '.join(place)}; set one of these")
        numbers = numbers_for(f"state.hyper: {self._prefix}{name}", value, self._state.layout.models)
        self._state.exclusively(operator.setitem, place, ..., numbers)

    def __delitem__(self, name: str) -> None:
        raise StateError("hyper-parameters cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def __repr__(self) -> str:
        return repr(self.copy())

    def copy(self) -> dict[str, Any]:
        """The numbers in plain dicts."""
        return {name: value.copy() if isinstance(value := self[name], Hyper | np.ndarray) else value for name in self}

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.copy(),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        # As of a dict: NumPy takes other mappings for sequences of their keys.
        whole = np.empty((), object)
        whole[()] = self.copy()
        return whole if dtype is None else whole.astype(dtype)


def layout_of(
    params: Any,
    moments: Any,
    model_state: Any,
    shared: Any,
    hyper: Any,
    structural: Mapping[str, str],
    models: tuple[int, ...] = (),
) -> tuple[Layout, list[Any]]:
    """The layout for these values, and the values of all its leaves but key and step count. All of them have the axes
    of the `models` first."""
    parts = [flatten(tree) for tree in (params, moments, model_state, shared, hyper)]
    values = [leaf for leaves, _ in parts for leaf in leaves]
    n_arrays = sum(len(leaves) for leaves, _ in parts[:3])
    types = [LeafType(np.dtype(np.asarray(leaf).dtype.newbyteorder("=")), np.shape(leaf)) for leaf in values[:n_arrays]]
    types += [LeafType(np.dtype(np.float64), models, not models) for _ in values[n_arrays:]]
    integer = np.dtype(np.int64)
    types += [LeafType(integer, models), LeafType(integer, (), True)]
    trees = tuple(tree for _, tree in parts)
    key = (trees, tuple(types), tuple(sorted(structural.items())))
    return _LAYOUTS_LOCK.run(_shared_layout, key, lambda: Layout(trees, types, structural)), values


def _shared_layout(key: tuple[Any, ...], make: Callable[[], Layout]) -> Layout:
    layout = _LAYOUTS.get(key)
    if layout is None:
        layout = _LAYOUTS[key] = make()
    return layout
