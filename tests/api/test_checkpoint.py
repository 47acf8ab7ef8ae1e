"""save and load: training goes on bit for bit; damaged files are refused and nothing is lost."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
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


def test_damaged_files(tmp_path: Path) -> None:
    step = adjit.training_step(loss, optim.sgd(0.1))
    path = tmp_path / "s"
    adjit.save(path, step.init(make_params()))
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[:50], whole[:-3], b"\xff" * 100, whole.replace(b'"adjit":"2"', b'"adjit":"1"')):
        path.write_bytes(damaged)
        with pytest.raises(adjit.FormatError):
            adjit.load(path)
    with pytest.raises(FileNotFoundError):
        adjit.load(tmp_path / "nothing")


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
