"""Checkpoints: a state as a safetensors file, from which training goes on bit for bit.

Tensors carry the names of the state's leaves (`params.w1`, `optimizer.w1.m`, `hyper.learning_rate`, `key`, `step`), so
that other programs can read them; the metadata has the pytrees' structure as JSON. A file is written beside its place
and then moved there, so that a crash leaves the old one.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import optree

from adjit_runtime.errors import ArgumentError, FormatError, MissingExtraError
from adjit_runtime.state import PARTS, Layout, State, layout_of

VERSION = "2"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise MissingExtraError("checkpoints need the package safetensors: pip install 'adjit[train]'") from None
    return safetensors


def save(path: str | os.PathLike[str], state: State) -> None:
    """Write a state: parameters, what the optimiser keeps, hyper-parameters, key and step count.

    `path` is replaced in one piece. Raises StateError where the state is busy or closed, OSError where the file cannot
    be written, MissingExtraError without the package safetensors."""
    library = _safetensors()
    layout = state.layout
    tensors = dict(zip(_names(layout), state.leaves(), strict=True))
    structure = {part: _encode(getattr(layout, part)) for part in PARTS} | {"structural": layout.structural}
    data = library.numpy.save(tensors, {"adjit": VERSION, "structure": json.dumps(structure)})
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str], like: State | None = None) -> State:
    """The state that `save` wrote. A step takes it as one of its own if its optimiser and parameters have that form.

    Pytrees of dicts, lists, tuples and None are read from the file; for others pass a state of the same form as
    `like`. Raises FormatError for a file that is damaged or not a checkpoint, ArgumentError where `like` has another
    form, OSError where there is no such file."""
    library = _safetensors()
    data = Path(path).read_bytes()
    try:
        tensors = library.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        if metadata["adjit"] != VERSION:
            raise FormatError(
                f"{path}: a checkpoint of version {metadata['adjit']}; this is adjit for version {VERSION}"
            )
        structure = json.loads(metadata["structure"])
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"{path}: this is no checkpoint of adjit, or it is damaged: {error}") from error
    if like is None:
        layout = _layout(path, structure, tensors)
    else:
        layout = like.layout
    names = _names(layout)
    if sorted(names) != sorted(tensors):
        kind = ArgumentError if like is not None else FormatError
        different = sorted(set(names) ^ set(tensors))
        raise kind(f"{path}: the file and the state differ in {', '.join(different[:5])}")
    for name, type in zip(names, layout.types, strict=True):
        found = tensors[name]
        if found.shape != type.shape or found.dtype != type.dtype:
            raise (ArgumentError if like is not None else FormatError)(
                f"{path}: {name} is {found.dtype}{list(found.shape)}, not {type}"
            )
    return State(layout, [tensors[name] for name in names], "checkpoint")


def _names(layout: Layout) -> list[str]:
    """A name for each leaf; a number is added where two paths read alike."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for name in layout.names:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _layout(path: Any, structure: dict[str, Any], tensors: dict[str, np.ndarray]) -> Layout:
    try:
        params, moments, shared, hyper = (_decode(structure[part]) for part in PARTS)
        structural = {str(name): str(reason) for name, reason in structure["structural"].items()}
    except _ForeignNode as foreign:
        raise ArgumentError(
            f"{path}: the parameters hold a {foreign}, which the file cannot rebuild; pass like=step.init(params)"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: the structure of the checkpoint is damaged: {error}") from error
    # Names follow from the trees alone, and the leaves from the names.
    empty, _ = layout_of(params, moments, shared, hyper, structural)
    values = [tensors.get(name, 0.0) for name in _names(empty)]
    parts: dict[str, Any] = {
        part: optree.tree_unflatten(getattr(empty, part), values[leaves]) for part, leaves in empty.parts.items()
    }
    return layout_of(**parts, structural=structural)[0]


class _ForeignNode(Exception):
    pass


def _encode(spec: optree.PyTreeSpec) -> Any:
    """A tree's structure as JSON: "*" is a leaf."""
    if spec.is_leaf(strict=True):
        return "*"
    kind = spec.type
    if kind is type(None):
        return None
    children = [_encode(child) for child in spec.children()]
    if kind is dict:
        keys = spec.entries()
        if all(type(key) in (str, int) for key in keys):
            return {"dict": [[key, child] for key, child in zip(keys, children, strict=True)]}
    elif kind in (list, tuple):
        return {kind.__name__: children}
    return {"foreign": getattr(kind, "__qualname__", str(kind))}


def _decode(code: Any) -> Any:
    if code == "*":
        return 0.0
    if code is None:
        return None
    ((kind, children),) = code.items()
    if kind == "foreign":
        raise _ForeignNode(children)
    if kind == "dict":
        return {key: _decode(child) for key, child in children}
    items = [_decode(child) for child in children]
    return tuple(items) if kind == "tuple" else items
