"""Checkpoints: a state as a safetensors file, from which training goes on bit for bit.

Tensors carry the names of the state's leaves (`params.w1`, `optimizer.w1.m`, `model_state.mean`, `hyper.learning_rate`,
`key`, `step`), so that other programs can read them; the metadata has the pytrees' structure as JSON, and a checksum of
all, without which a file loads, too. A file is replaced in one piece, so that a crash leaves the old one. Nothing in a
file is believed: what is not a whole checkpoint is a FormatError, and no state is made of it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optree

from adjit_runtime import checks
from adjit_runtime.errors import AdjitError, ArgumentError, FileMissing, FormatError, MissingExtraError
from adjit_runtime.public import public
from adjit_runtime.replace import replace_file
from adjit_runtime.state import PARTS, ROOTS, Layout, State, layout_of
from adjit_runtime.trees import DTYPES, LeafType, flatten, leaf_names, numbered

VERSION, WITHOUT_MODEL_STATE = "3", "2"
"""Of files, and of those of a state without a model state, which is what older versions of adjit read and wrote."""

_PARAMETERS = frozenset(map(np.dtype, ("float32", "float64")))
_NUMBER, _INTEGER = LeafType(np.dtype(np.float64)), LeafType(np.dtype(np.int64))

MOST_MAPPINGS = 10
"""Mappings in `hyper` that a number may lie in: the rate of a group's fallback lies in three, that of a schedule in
four."""

Tensors = Mapping[str, np.ndarray]
Way = tuple[Any, ...]
"""A leaf's way from its root: part, then a key for each container; a str or int, or (class, text) for others."""


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise MissingExtraError("checkpoints need the package safetensors: pip install 'adjit[train]'") from None
    return safetensors


@public({"filename": "path", "file": "path", "model": "state", "params": "state", "obj": "state"})
def save(path: str | bytes | os.PathLike[Any], state: State) -> None:
    """Write a state: parameters, what the optimiser keeps, model state, hyper-parameters, key and step count.

    `path` is replaced in one piece, and keeps its mode; where it is a symlink, its target is replaced. Raises
    StateError where the state is busy or closed, ArgumentError where it is no state, FileMissing (a FileNotFoundError)
    where there is no such folder, OSError where the file cannot be written, MissingExtraError without the
    package safetensors."""
    library = _safetensors()
    if isinstance(path, State):
        raise ArgumentError(f"save: the path comes first: save({_example(state)}, state)")
    target = _file_name("save", path)
    folder = os.path.dirname(target)
    if folder and not os.path.exists(folder):
        raise FileMissing(f"save: there is no folder {folder!r}: os.makedirs({folder!r}) makes it")
    if not isinstance(state, State):
        raise ArgumentError(
            f"save takes a path and a state, which step.init(params) makes, not {checks.kind(state)}; arrays of "
            "your own are for numpy.savez"
        )
    layout = state.layout
    tensors = dict(zip(layout.names, state.leaves(), strict=True))
    whole = {part: _encode(getattr(layout, part)) for part in PARTS} | {"structural": layout.structural}
    version = VERSION
    if whole["model_state"] is None:
        version = WITHOUT_MODEL_STATE
        del whole["model_state"]
    structure = json.dumps(whole)
    metadata = {"adjit": version, "structure": structure}
    try:
        metadata["checksum"] = _checksum(structure, tensors)
        data = library.numpy.save(tensors, metadata)
    except UnicodeEncodeError as error:
        raise ArgumentError(f"save: a file cannot hold the name {error.object!r}; rename this key") from None
    replace_file(target, data)


@public({"filename": "path", "file": "path", "state": "like", "step": "like"})
def load(path: str | bytes | os.PathLike[Any], like: State | None = None) -> State:
    """The state that `save` wrote. A step takes it as one of its own if its optimiser and parameters have that form.

    Pytrees of dicts, lists, tuples and None are read from the file; for others pass a state of the same form as
    `like`. Raises FormatError for a file that is damaged or not a checkpoint, ArgumentError where `like` has another
    form or is no state, FileMissing (a FileNotFoundError) where there is no such file, OSError where it cannot be
    read."""
    library = _safetensors()
    name = _file_name("load", path)
    if like is not None and not isinstance(like, State):
        raise ArgumentError(
            f"load: like is a state of the form that the file has, which step.init(params) makes, not "
            f"{checks.kind(like)}"
        )
    try:
        data = Path(name).read_bytes()
    except FileNotFoundError:
        raise FileMissing(f"load: there is no file {name!r} (from the folder {os.getcwd()!r})") from None
    try:
        tensors, structure = _read(library, data)
        layout, values = _restored(tensors, structure) if like is None else _fitted(tensors, structure, like.layout)
    except MemoryError:
        raise
    except AdjitError as error:
        raise type(error)(f"{name}: {error}") from None
    except Exception as error:
        # Whatever a library or a walk over the file's structure stumbles on.
        raise FormatError(
            f"{name}: this is no checkpoint of adjit, or it is damaged: {type(error).__name__}: {error}"
        ) from error
    return State(layout, values, "checkpoint")


def _file_name(what: str, path: Any) -> str:
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise ArgumentError(f"{what}: the path is a str, bytes or an os.PathLike, not {checks.kind(path)}") from None
    if "\0" in name:
        raise ArgumentError(f"{what}: {name!r} is no path: it has a null character")
    return name


def _example(path: Any) -> str:
    """A path as it is written in a call."""
    return repr(path) if isinstance(path, str | os.PathLike) else "'model.safetensors'"


def _checksum(structure: str, tensors: Tensors) -> str:
    found = zlib.crc32(structure.encode())
    for name in sorted(tensors):
        array = tensors[name]
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, found)
    return f"{found:08x}"


def _read(library: Any, data: bytes) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and structure of a file whose checksum, if it has one, is right."""
    tensors = library.numpy.load(data)
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    if (version := metadata["adjit"]) not in (VERSION, WITHOUT_MODEL_STATE):
        raise FormatError(f"a checkpoint of version {version}; this is adjit for version {VERSION}")
    structure = json.loads(metadata["structure"])
    if metadata.get("checksum", found := _checksum(metadata["structure"], tensors)) != found:
        raise FormatError("the checkpoint is damaged: its checksum differs")
    parts = {*PARTS, "structural"} - ({"model_state"} if version == WITHOUT_MODEL_STATE else set())
    if not isinstance(structure, dict) or structure.keys() != parts:
        raise FormatError("the structure of the checkpoint is damaged")
    return tensors, {"model_state": None, **structure}


# -- the state that a file describes ----------------------------------------------------------------------------------


def _restored(tensors: Tensors, structure: dict[str, Any]) -> tuple[Layout, list[np.ndarray]]:
    """Layout and values of the state that was saved."""
    specs = {part: flatten(_decode(structure[part]))[1] for part in PARTS}
    structural = structure["structural"]
    if not isinstance(structural, dict) or not all(isinstance(reason, str) for reason in structural.values()):
        raise FormatError("the structure of the checkpoint is damaged: structural")
    _check_form(specs)
    names = {part: leaf_names(specs[part], ROOTS[part]) for part in PARTS}
    order = [name for part in PARTS for name in names[part]] + ["key", "step"]
    _check_names(order, tensors, FormatError)
    _check_types(names, tensors)
    trees: dict[str, Any] = {
        part: optree.tree_unflatten(specs[part], [tensors[name] for name in names[part]]) for part in PARTS
    }
    models = tensors["key"].shape
    return layout_of(**trees, structural=structural, models=models)[0], [tensors[name] for name in order]


def _check_form(specs: Mapping[str, optree.PyTreeSpec]) -> None:
    """The form that every state has: moments for each parameter, numbers by name; hyper-parameters may lie in
    mappings."""
    if not optree.treespec_is_prefix(specs["params"], specs["moments"]):
        raise FormatError("the structure of the checkpoint is damaged: the moments are not those of the parameters")
    mappings = [specs["hyper"], specs["shared"]]
    for depth in range(MOST_MAPPINGS + 1):
        for spec in mappings:
            if spec.type is not dict or not all(isinstance(name, str) for name in spec.entries()):
                raise FormatError("the structure of the checkpoint is damaged: numbers without names")
        # Shared numbers have no mappings in them.
        inner = [child for spec in mappings for child in spec.children() if not child.is_leaf(strict=True)]
        is_shared = not depth and not all(child.is_leaf(strict=True) for child in specs["shared"].children())
        if is_shared or (inner and depth == MOST_MAPPINGS):
            raise FormatError("the structure of the checkpoint is damaged: names without numbers")
        mappings = inner


def _check_types(names: Mapping[str, list[str]], tensors: Tensors) -> None:
    # Each model has a key; what there is of many models has them as its first axes.
    models = tensors["key"].shape
    if 0 in models:
        raise FormatError("the file is of no models")
    for part, known in (("params", _PARAMETERS), ("moments", DTYPES), ("model_state", DTYPES)):
        for name in names[part]:
            if tensors[name].dtype not in known:
                raise FormatError(f"{name} is {tensors[name].dtype}, which no step has there")
            if tensors[name].shape[: len(models)] != models:
                raise FormatError(f"{name} has shape {list(tensors[name].shape)}, and the models are {list(models)}")
    each = replace(_NUMBER, shape=models)
    numbers = dict.fromkeys([*names["shared"], *names["hyper"]], each)
    numbers |= {"key": replace(_INTEGER, shape=models), "step": _INTEGER}
    for name, type in numbers.items():
        _check_type(name, tensors[name], type, FormatError)
    if tensors["step"] < 0:
        raise FormatError(f"the step count is {tensors['step']}")


def _check_type(name: str, found: np.ndarray, type: LeafType, kind: type[AdjitError]) -> None:
    if found.shape != type.shape or found.dtype != type.dtype:
        raise kind(f"{name} is {found.dtype}{list(found.shape)}, not {type}")


def _check_names(names: Iterable[str], found: Iterable[str], kind: type[AdjitError]) -> None:
    different = sorted(set(names) ^ set(found))
    if different:
        raise kind(f"the file and the state differ in {', '.join(different[:5])}")


# -- the file for a state that is there -------------------------------------------------------------------------------


def _fitted(tensors: Tensors, structure: dict[str, Any], layout: Layout) -> tuple[Layout, list[np.ndarray]]:
    """A layout and the values for it, leaf by leaf from the same place; the containers may be of other classes."""
    wanted = _named({part: _encode(getattr(layout, part)) for part in PARTS})
    try:
        ways = _named(structure)
    except _NoKeys:
        ways = wanted
    _check_names([*ways.values(), "key", "step"], tensors, ArgumentError if ways is wanted else FormatError)
    if ways.keys() != wanted.keys():
        known = {**wanted, **ways}
        different = sorted(known[path] for path in ways.keys() ^ wanted.keys())
        raise ArgumentError(f"the file and the state differ in {', '.join(different[:5])}")
    order = [*(ways[path] for path in wanted), "key", "step"]
    for name, type in zip(order, layout.types, strict=True):
        _check_type(name, tensors[name], type, ArgumentError)
    if tensors["step"] < 0:
        raise FormatError(f"the step count is {tensors['step']}")
    return layout, [tensors[name] for name in order]


def _named(structure: Mapping[str, Any]) -> dict[Way, str]:
    """The name of each leaf's tensor by its path, in the order of the leaves."""
    found: dict[Way, str] = {}
    for part in PARTS:
        paths = _paths(structure[part], ())
        texts = (".".join([ROOTS[part], *(e[1] if isinstance(e, tuple) else str(e) for e in path)]) for path in paths)
        named = dict(zip(((part, *path) for path in paths), numbered(texts), strict=True))
        if len(named) != len(paths):
            raise FormatError("the structure of the checkpoint is damaged: it has a key twice")
        found |= named
    return found


class _NoKeys(Exception):
    """A file of a time when the keys in containers of other classes were not written."""


def _paths(code: Any, at: Way) -> list[Way]:
    """The path of each leaf."""
    if code == "*":
        return [at]
    return [path for key, child in _children(code) for path in _paths(child, (*at, key))]


# -- structure as JSON ------------------------------------------------------------------------------------------------


def _encode(spec: optree.PyTreeSpec) -> Any:
    """A tree's structure as JSON: "*" is a leaf, null None, {"list": [..]} a list, {"dict": [[key, ..]]} a dict.

    Of other containers, {"foreign": [name, [[key, ..]]]}, only the leaves can be restored."""
    if spec.is_leaf(strict=True):
        return "*"
    kind = spec.type
    if kind is type(None):
        return None
    children = [_encode(child) for child in spec.children()]
    if kind in (list, tuple):
        return {kind.__name__: children}
    keys = spec.entries()
    if kind is dict and all(type(key) in (str, int) for key in keys):
        return {"dict": [[key, child] for key, child in zip(keys, children, strict=True)]}
    texts = [key if type(key) in (str, int) else [type(key).__qualname__, str(key)] for key in keys]
    name = getattr(kind, "__qualname__", str(kind))
    return {"foreign": [name, [[key, child] for key, child in zip(texts, children, strict=True)]]}


def _children(code: Any) -> list[tuple[Any, Any]]:
    """The keys and children of a container, in the order of their leaves."""
    if code is None:
        return []
    ((kind, children),) = code.items()
    if kind in ("list", "tuple"):
        return list(enumerate(children))
    if kind == "foreign" and isinstance(children, str):
        raise _NoKeys
    if kind == "foreign":
        _, children = children
    elif kind != "dict":
        raise FormatError(f"the structure of the checkpoint is damaged: it has a {kind!r}")
    return [(tuple(key) if isinstance(key, list) else key, child) for key, child in children]


def _decode(code: Any) -> Any:
    """A tree of that structure, with 0.0 as leaves."""
    if code == "*":
        return 0.0
    if code is None:
        return None
    ((kind, children),) = code.items()
    if kind == "foreign":
        name = children if isinstance(children, str) else children[0]
        raise ArgumentError(f"the parameters hold a {name}, which the file cannot rebuild; pass like=step.init(params)")
    if kind == "dict":
        pairs = [(key, _decode(child)) for key, child in children]
        if len(dict(pairs)) != len(pairs) or not all(type(key) in (str, int) for key, _ in pairs):
            raise FormatError("the structure of the checkpoint is damaged: the keys of a dict")
        return dict(pairs)
    if kind not in ("list", "tuple") or not isinstance(children, list):
        raise FormatError(f"the structure of the checkpoint is damaged: it has a {kind!r}")
    items = [_decode(child) for child in children]
    return tuple(items) if kind == "tuple" else items
