"""save and load: training goes on bit for bit; damaged files are refused and nothing is lost."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import optim
from tests.api.models import data, loss, make_params

OPTIMIZERS = [
    optim.sgd(0.1), optim.sgd(0.1, momentum=0.9), optim.adam(optim.schedule.cosine(1e-2, 100)), optim.adamw(1e-3),
    optim.rmsprop(1e-3, momentum=0.5), optim.adagrad(1e-2),
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.name)
def test_training_goes_on_bit_for_bit(tmp_path: Path, optimizer: Any) -> None:
    x, y = data()
    step = adjit.training_step(loss, optimizer, clip_norm=1.0)
    state, other = step.init(make_params(), key=5), step.init(make_params(), key=5)
    losses = step.run(state, (x, y), batch_size=8, epochs=10).losses
    first = step.run(other, (x, y), batch_size=8, epochs=5).losses
    other.hyper["clip_norm"] = 1.0
    adjit.save(tmp_path / "state.safetensors", other)
    other.close()
    again = adjit.training_step(loss, optimizer, clip_norm=1.0)
    loaded = adjit.load(tmp_path / "state.safetensors")
    assert (loaded.step, loaded.key) == (25, 5)
    second = again.run(loaded, (x, y), batch_size=8, epochs=5).losses
    assert [*first, *second] == losses.tolist()
    for name, array in state.params.items():
        np.testing.assert_array_equal(array, loaded.params[name])


def test_hyper_parameters_and_structure_come_back(tmp_path: Path) -> None:
    params = {"b": [np.ones(2, np.float32), (np.zeros((0, 3)), None)], "a": np.array(1.5)}
    step = adjit.training_step(lambda p: np.sum(p["b"][0].astype(float)) * p["a"], optim.sgd(0.1))
    state = step.init(params)
    state.hyper["learning_rate"] = 0.025
    adjit.save(tmp_path / "s", state)
    loaded = adjit.load(tmp_path / "s")
    step(loaded)
    assert loaded.hyper["learning_rate"] == 0.025
    assert loaded.params["b"][0].dtype == np.float32
    assert loaded.params["b"][1][0].shape == (0, 3)
    assert loaded.params["b"][1][1] is None
    with pytest.raises(adjit.StateError, match="momentum cannot be set"):
        loaded.hyper["momentum"] = 0.5


def test_other_trees_need_a_state_like_them(tmp_path: Path) -> None:
    params = OrderedDict(w=np.ones(2), b=np.zeros(1))
    step = adjit.training_step(lambda p: np.sum(p["w"]) + np.sum(p["b"]), optim.sgd(0.1))
    state = step.init(params)
    step(state)
    adjit.save(tmp_path / "s", state)
    with pytest.raises(adjit.ArgumentError, match="OrderedDict, which the file cannot rebuild; pass like="):
        adjit.load(tmp_path / "s")
    loaded = adjit.load(tmp_path / "s", like=step.init(params))
    assert type(loaded.params.copy()) is OrderedDict
    np.testing.assert_array_equal(loaded.params["w"], state.params["w"])
    other = adjit.training_step(loss, optim.sgd(0.1)).init(make_params())
    with pytest.raises(adjit.ArgumentError, match="the file and the state differ in"):
        adjit.load(tmp_path / "s", like=other)


def saved(path: Path, checksum: bool = True) -> tuple[Any, bytes]:
    """A step, and the file of a state of it, which has all kinds of parts."""
    step = adjit.training_step(
        lambda p: np.sum(p["w"] ** 2) + np.sum(p["b"][0]), optim.adam(optim.schedule.cosine(1e-2, 100))
    )
    state = step.init({"w": np.ones(3), "b": [np.ones(2), None]})
    adjit.save(path, state)
    header, body = opened(path.read_bytes())
    if not checksum:
        del header["__metadata__"]["checksum"]
    return step, closed(header, body)


def opened(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def closed(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(adjit.FormatError, match="file"):
        adjit.load(path)


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield from places(tree[key], (*at, key))


def changed(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy of a tree of JSON with another value at one place, or without the place, where that is `changed`."""
    if not at:
        return value
    tree = copy.copy(tree)
    if value is changed and len(at) == 1:
        del tree[at[0]]
    else:
        tree[at[0]] = changed(tree[at[0]], at[1:], value)
    return tree


def test_damaged_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _, whole = saved(path)
    header, body = opened(whole)
    start = len(whole) - len(body)
    for length in [*range(0, start, 11), *range(start, len(whole), 7)]:
        refused(path, whole[:length])
    for other in (b"text", b"\xff" * 100, whole + b"\0", whole.replace(b'"adjit": "2"', b'"adjit": "1"')):
        refused(path, other)
    used = [slice(*header[name]["data_offsets"]) for name in header if name != "__metadata__"]
    for at in [i for part in used for i in range(start + part.start, start + part.stop)]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        refused(path, bytes(flipped))
    with pytest.raises(FileNotFoundError):
        adjit.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        adjit.load(tmp_path)


VALUES = (
    None, True, 0, -1, 1.5, float("inf"), 2**70, "", "x", [], [[]], {}, {"list": 1}, {"foreign": 1}, {"a": 1, "b": 2},
    {"dict": [["w", "*"], ["w", "*"]]}, {"dict": [[[], "*"]]}, {"dict": [["w"]]}, {"dict": [[1.5, "*"]]}, {"x": ["*"]},
    [0, 10**30], changed,
)  # fmt: skip


@pytest.mark.parametrize("checksum", [True, False])
def test_damaged_headers(tmp_path: Path, checksum: bool) -> None:
    """Every value in the header, and in the structure in it, replaced by others: no state but a whole one is made."""
    path = tmp_path / "file"
    step, whole = saved(path, checksum)
    header, body = opened(whole)
    structure = json.loads(header["__metadata__"]["structure"])
    texts = [("__metadata__", "adjit"), ("__metadata__", "checksum")]
    headers = [
        changed(header, at, value)
        for at in places(header)
        for value in VALUES
        if at not in texts and (at or value is not changed)
    ]
    inner = [
        changed(structure, at, value) for at in places(structure) for value in VALUES if at or value is not changed
    ]
    headers += [changed(header, ("__metadata__", "structure"), json.dumps(new)) for new in inner if new != structure]
    taken = 0
    for new in [new for new in headers if json.dumps(new) != json.dumps(header)]:
        path.write_bytes(closed(new, body))
        try:
            found = adjit.load(path)
        except adjit.FormatError:
            continue
        taken += 1
        # Other reasons for what is switched off: another state, and a whole one.
        assert not checksum
        assert json.loads(new["__metadata__"]["structure"])["structural"] != structure["structural"]
        assert len(found.copy().leaves()) == len(header) - 1
        repr((found.params, found.optimizer, found.shared, found.hyper, found.key, found.step))
        with pytest.raises(adjit.StateError, match="does not fit this step"):
            step(found)
    assert (taken > 0) is not checksum


@pytest.mark.parametrize("depth", [100, 900, 1100, 100_000])
@pytest.mark.parametrize("part", ["params", "moments", "shared", "hyper"])
def test_deep_structures(tmp_path: Path, depth: int, part: str) -> None:
    path = tmp_path / "file"
    _, whole = saved(path, checksum=False)
    header, body = opened(whole)
    structure = json.loads(header["__metadata__"]["structure"])
    for opening, closing in (("[", "]"), ('{"list":[', "]}"), ('{"dict":[["a",', "]]}")):
        deep = opening * depth + '"*"' + closing * depth
        text = json.dumps(structure | {part: 0}).replace(f'"{part}": 0', f'"{part}": {deep}')
        refused(path, closed(changed(header, ("__metadata__", "structure"), text), body))
    refused(path, closed(b"[" * depth + b"]" * depth, body))


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "values"),
    [
        ("params.w", "F16", [3], bytes(6)), ("params.w", "BF16", [3], bytes(6)), ("params.w", "I64", [3], bytes(24)),
        ("params.w", "BOOL", [3], bytes(3)), ("optimizer.w.m", "F16", [3], bytes(6)),
        ("optimizer.w.m", "BF16", [3], bytes(6)), ("optimizer.w.m", "I16", [3], bytes(6)),
        ("shared.b1_product", "F32", [], bytes(4)), ("shared.b1_product", "F64", [1], bytes(8)),
        ("hyper.b1", "F64", [2], bytes(16)), ("key", "I64", [1], bytes(8)), ("key", "F64", [], bytes(8)),
        ("step", "I32", [], bytes(4)), ("step", "I64", [], b"\xff" * 8), ("other", "F64", [], bytes(8)),
        ("params.w", None, [], b""), ("step", None, [], b""),
    ],
)  # fmt: skip
def test_tensors_of_other_types(tmp_path: Path, name: str, dtype: str | None, shape: list[int], values: bytes) -> None:
    path = tmp_path / "file"
    header, body = opened(saved(path, checksum=False)[1])
    tensors = {
        key: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])])
        for key, entry in header.items()
        if key not in ("__metadata__", name)
    }
    if dtype is not None:
        tensors[name] = (dtype, shape, values)
    new: dict[str, Any] = {"__metadata__": header["__metadata__"]}
    data = b""
    for key, (kind, sizes, raw) in tensors.items():
        new[key] = {"dtype": kind, "shape": sizes, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    refused(path, closed(new, data))


def test_a_file_without_a_checksum_loads(tmp_path: Path) -> None:
    path = tmp_path / "file"
    step, whole = saved(path, checksum=False)
    path.write_bytes(whole)
    state = adjit.load(path)
    step(state)
    assert state.step == 1
    assert (state.params["w"] < 1).all()


class Holder:
    """A class that users register."""

    def __init__(self, items: dict[Any, Any]) -> None:
        self.items = items


optree.register_pytree_node(
    Holder,
    lambda h: (list(h.items.values()), tuple(h.items), tuple(h.items)),
    lambda keys, children: Holder(dict(zip(keys, children, strict=True))),
    namespace="adjit",
)

COLLIDING: list[Any] = [
    {"a.b": 1.0, "a": {"b": 2.0}},
    {"a.b": 1.0, "a": {"b": 2.0, "b#2": 3.0}},
    {"a": {"b": 1.0, "b#2": 2.0, "b#3": 3.0}, "a.b": 4.0, "a.b#2": 5.0},
    {1: 1.0, "1": 2.0},
    {"0": 1.0, "": [2.0]},
    {"w": 1.0, "w.m": 2.0, "w.m.m": 3.0},
    {True: 1.0, "True": 2.0, 1.5: 3.0, "1.5": 4.0},
    Holder({"a.b": 1.0, "a": {"b": 2.0}}),
    OrderedDict([("a.b", 1.0), ("a", OrderedDict(b=2.0))]),
]


def filled(tree: Any) -> Any:
    return optree.tree_map(lambda x: np.full(2, x), tree, namespace="adjit")


@pytest.mark.parametrize("tree", COLLIDING, ids=str)
def test_keys_that_read_alike_are_told_apart(tmp_path: Path, tree: Any) -> None:
    def loss(p: Any, x: Any) -> Any:
        leaves = optree.tree_leaves(p, namespace="adjit")
        return sum(np.sum(leaf * x * (i + 1)) for i, leaf in enumerate(leaves))

    step = adjit.training_step(loss, optim.sgd(0.5, momentum=0.9))
    state = step.init(filled(tree))
    step(state, 1.0)
    names = state.layout.names
    assert len(set(names)) == len(names)
    adjit.save(tmp_path / "s", state)
    # The keys in another order.
    other = step.init(filled(tree))
    if isinstance(tree, OrderedDict):
        other = adjit.training_step(loss, optim.sgd(0.5, momentum=0.9)).init(
            filled(OrderedDict(reversed(tree.items())))
        )
    for loaded in [adjit.load(tmp_path / "s", like=other), *plain_only(tree, tmp_path / "s")]:
        for part in ("params", "optimizer"):
            now, then = (
                optree.tree_flatten_with_path(getattr(one, part), namespace="adjit") for one in (loaded, state)
            )
            found, kept = (
                {path: leaf.tolist() for path, leaf in zip(paths, leaves, strict=True)}
                for paths, leaves, _ in (now, then)
            )
            assert found == kept


def plain_only(tree: Any, path: Path) -> list[Any]:
    if type(tree) is dict and all(type(key) in (str, int) for key in tree):
        return [adjit.load(path)]
    with pytest.raises(adjit.ArgumentError, match="cannot rebuild; pass like="):
        adjit.load(path)
    return []


@pytest.mark.parametrize(
    ("tree", "other"),
    [
        ({"a.b": 1.0, "a": {"b": 2.0}}, {"a": {"b": 1.0, "b#2": 2.0}}),
        ({1: 1.0}, {"1": 1.0}),
        ({"a": {"b": 1.0}}, {"a.b": 1.0}),
        (OrderedDict([("a.b", 1.0), ("a", {"b": 2.0})]), OrderedDict([("a", {"b": 1.0, "b#2": 2.0})])),
    ],
)
def test_trees_whose_names_are_equal_are_not_mixed_up(tmp_path: Path, tree: Any, other: Any) -> None:
    step = adjit.training_step(lambda p: np.sum(optree.tree_leaves(p)[0]), optim.sgd(0.5))
    adjit.save(tmp_path / "s", step.init(filled(tree)))
    with pytest.raises(adjit.ArgumentError, match=r"s: the file and the state differ in params\."):
        adjit.load(tmp_path / "s", like=step.init(filled(other)))


def test_a_file_from_before_keys_were_written(tmp_path: Path) -> None:
    step = adjit.training_step(lambda p: np.sum(p["w"]), optim.sgd(0.1))
    state = step.init(OrderedDict(w=np.ones(2)))
    adjit.save(tmp_path / "s", state)
    header, body = opened((tmp_path / "s").read_bytes())
    del header["__metadata__"]["checksum"]
    structure = json.loads(header["__metadata__"]["structure"]) | {"params": {"foreign": "OrderedDict"}}
    (tmp_path / "s").write_bytes(closed(changed(header, ("__metadata__", "structure"), json.dumps(structure)), body))
    np.testing.assert_array_equal(adjit.load(tmp_path / "s", like=state).params["w"], np.ones(2))
    with pytest.raises(adjit.ArgumentError, match="hold a OrderedDict, which"):
        adjit.load(tmp_path / "s")


def test_arguments_that_are_none(tmp_path: Path) -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    state = step.init(make_params())
    path = tmp_path / "s"
    adjit.save(path, state)
    with pytest.raises(adjit.ArgumentError, match=r"like is a state .* step\.init\(params\) makes, not a dict"):
        adjit.load(path, like=make_params())
    with pytest.raises(adjit.ArgumentError, match=r"like is a state .* not a ReadOnlyDict"):
        adjit.load(path, like=state.params)
    with pytest.raises(adjit.ArgumentError, match=r"save takes a path and a state, .* not a dict"):
        adjit.save(path, make_params())
    for bad in (3, None, ["s"]):
        with pytest.raises(adjit.ArgumentError, match=r"the path is a str, bytes or an os\.PathLike, not (a|None)"):
            adjit.load(bad)
        with pytest.raises(adjit.ArgumentError, match=r"the path is a str, bytes or an os\.PathLike, not (a|None)"):
            adjit.save(bad, state)
    with pytest.raises(adjit.ArgumentError, match="null character"):
        adjit.save("a\0b", state)
    adjit.save(os.fsencode(path), state)
    assert adjit.load(os.fsencode(path)).step == 0
    single = adjit.training_step(lambda p: np.sum(p["\ud800"]), optim.sgd(0.1))
    with pytest.raises(adjit.ArgumentError, match="a file cannot hold the name"):
        adjit.save(tmp_path / "other", single.init({"\ud800": np.ones(2)}))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    state = step.init(make_params())
    path = tmp_path / "s"
    adjit.save(path, state)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        adjit.save(path, state)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    step = adjit.training_step(loss, optim.sgd(0.1))
    with pytest.raises(adjit.MissingExtraError, match=r"pip install 'adjit\[train\]'"):
        adjit.save(tmp_path / "s", step.init(make_params()))
