"""The cache of object code: hits generate no code, damaged and foreign files are never run, many processes agree, what
is killed or interrupted leaves nothing behind. Which code an entry stands for is tested in test_sources."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim, stages
from adjit.compilation import compile_graph
from adjit.stages import SHOWN, Loops, Options, Record
from adjit_runtime import cache, sources
from adjit_runtime.load import Loaded
from adjit_runtime.target import _target
from tests.api.models import data, loss, make_params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(place))
    # The verifier would make the plan of a program that comes from the cache.
    monkeypatch.delenv("ADJIT_VERIFY", raising=False)
    return place


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.adjit"))


def run_python(program: str, *args: str, code: int = 0) -> str:
    """The output of a program that ends with this code."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "compiler"), str(ROOT / "runtime")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout


def train() -> tuple[list[float], Any]:
    step = adjit.training_step(loss, optim.adam(1e-2))
    state = step.init(make_params())
    x, y = data()
    losses = [step(state, x, y) for _ in range(5)]
    (record,) = step.records.values()
    return losses, record


def test_a_hit_runs_no_pass_and_no_code_generation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, record = train()
    assert not record.cached
    assert entries(folder)
    run = Record.run
    ran: list[str] = []

    def note(record: Record, stage: str, before: Any) -> Any:
        ran.append(stage)
        return run(record, stage, before)

    monkeypatch.setattr(Record, "run", note)
    again, record = train()
    assert record.cached
    assert again == first
    assert ran == ["roll", "adjoint", "inline", "link"]


@pytest.mark.parametrize("cached", [False, True])
def test_stages_of_a_program_are_made_again_when_asked_for(cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown is what runs, to the last byte."""
    linked = []
    monkeypatch.setattr(stages, "Loaded", lambda program, target: linked.append(program) or Loaded(program, target))
    for _ in range(1 + cached):
        _, record = train()
    assert record.cached == cached
    assert "arena" in str(record.show("plan"))
    program = record.made("object")
    assert program.code == linked[-1].code
    assert len(program.code) == record.code_bytes
    assert replace(program, code=b"") == record.program
    for stage in SHOWN:
        if stage != "batch":
            assert str(record.show(stage)) == str(record.show(stage))


def test_constants_are_bound_again() -> None:
    table = np.arange(100.0)

    def make() -> Any:
        return adjit.jit(lambda x: np.sum(table * x))

    first, second = make(), make()
    assert first(2.0) == second(2.0) == table.sum() * 2
    assert next(iter(second.records.values())).cached
    table[0] = 1000.0
    third = make()
    assert third(2.0) == table.sum() * 2
    assert not next(iter(third.records.values())).cached


def test_constants_that_the_passes_make_are_bound_again() -> None:
    def make() -> Any:
        return adjit.jit(lambda x, y: y + np.concatenate([np.zeros_like(x), np.ones_like(x)]))

    x, y = np.arange(4.0), np.arange(800.0).reshape(100, 8)
    first, second = make(), make()
    np.testing.assert_array_equal(first(x, y), y + np.repeat([0.0, 1.0], 4))
    np.testing.assert_array_equal(second(x, y), first(x, y))
    (record,) = second.records.values()
    assert record.cached
    assert record.program.constants
    assert not any("data" in node.attrs for node in record.made("trace").nodes)
    assert any("data" in node.attrs for node in record.made("passes").nodes)


OTHER = {
    "tile": False, "flush": True, "inexact": True, "target": _target("nehalem"), "memory_limit": 1 << 20,
    "loops": Loops(again=1),
}  # fmt: skip
"""Of each option a value that is not its default."""


@pytest.mark.parametrize("name", [field.name for field in fields(Options)])
def test_every_option_is_part_of_the_key(name: str) -> None:
    graph = adjit.parse("graph @f(%x: f64[3]) -> f64[3] {\n  %0 = sin %x : f64[3]\n  return %0\n}")

    def cached(options: Options) -> bool:
        record = Record("f", options)
        compile_graph(graph, record)
        return record.cached

    chosen = (Options(), replace(Options(), **{name: OTHER[name]}))
    assert [cached(options) for options in chosen * 2] == [False, False, True, True]


def test_lines_of_source_are_no_part_of_the_key_but_of_checks(folder: Path) -> None:
    def compiled(text: str, *args: Any) -> Any:
        names: dict[str, Any] = {"np": np, "adjit": adjit}
        exec(compile(text, "model.py", "exec"), names)
        function = adjit.jit(names["f"])
        function(*args)
        return next(iter(function.records.values())).cached

    assert not compiled("def f(x): return np.sin(x)", 1.0)
    assert compiled("\n\ndef f(x): return np.sin(x)", 1.0)
    x, i = np.ones(3), np.array([0])
    assert not compiled("def f(x, i): return x[i]", x, i)
    # The error of an index names the line.
    assert not compiled("\ndef f(x, i): return x[i]", x, i)


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "text", "of another key"])
def test_a_damaged_entry_is_written_again_and_never_run(folder: Path, damage: str) -> None:
    first, _ = train()
    whole = {path: path.read_bytes() for path in entries(folder)}
    for path, content in whole.items():
        if damage == "empty":
            path.write_bytes(b"")
        elif damage == "short":
            path.write_bytes(content[:-7])
        elif damage == "flipped":
            path.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
        elif damage == "text":
            path.write_bytes(b"not an object" * 100)
        else:
            cache.store("another", b"valid, but not what this key stands for")
            path.write_bytes((folder / "another.adjit").read_bytes())
    again, record = train()
    assert not record.cached
    assert again == first
    _, record = train()
    assert record.cached


def test_files_that_others_may_write_are_not_used(folder: Path) -> None:
    train()
    for path in entries(folder):
        path.chmod(0o666)
    _, record = train()
    assert not record.cached
    folder.chmod(0o777)
    _, record = train()
    assert not record.cached


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_entries_of_another_owner_are_not_used(folder: Path) -> None:
    train()
    for path in entries(folder):
        os.chown(path, 12345, 12345)
    _, record = train()
    assert not record.cached
    os.chown(folder, 12345, 12345)
    _, record = train()
    assert not record.cached


def test_off_and_unusable_folders(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "0")
    train()
    assert not folder.exists()
    monkeypatch.setenv("ADJIT_CACHE", "1")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path / "file" / "inside"))
    losses, record = train()
    assert not record.cached
    assert losses == train()[0]


def keys_of(count: int) -> list[str]:
    return [cache.key_of((str(i),)) for i in range(count)]


def store_in_order(folder: Path, keys: list[str]) -> None:
    """Entries of 10,000 bytes, the first of which were used least recently."""
    for i, key in enumerate(keys):
        cache.store(key, bytes(10_000))
        os.utime(folder / f"{key}.adjit", ns=(i, i))


def test_the_least_recently_used_entries_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE_MB", str(35 / 1024))
    keys = keys_of(5)
    store_in_order(folder, keys[:3])
    assert cache.load(keys[0]) is not None
    cache.store(keys[3], bytes(10_000))
    assert [cache.load(key) is not None for key in keys] == [True, False, True, True, False]
    cache.clear()
    assert not entries(folder)


def left_by_a_writer(folder: Path, seconds: float, size: int = 10_000) -> Path:
    """What a process that was killed so long ago left of an entry."""
    path = folder / f".{os.urandom(4).hex()}.tmp"
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_what_a_killed_writer_left_counts_and_goes_with_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE_MB", str(35 / 1024))
    keys = keys_of(4)
    store_in_order(folder, keys[:2])
    young, old = left_by_a_writer(folder, 60), left_by_a_writer(folder, 2 * cache.ABANDONED_SECONDS)
    other = folder / ".keep.tmp"
    other.write_bytes(b"not ours")
    os.utime(other, (0, 0))
    cache.store(keys[2], bytes(10_000))
    assert not old.exists()
    assert young.exists()
    assert [(folder / f"{key}.adjit").exists() for key in keys] == [False, True, True, False]
    cache.store(keys[3], bytes(10_000))
    assert [(folder / f"{key}.adjit").exists() for key in keys] == [False, False, True, True]
    left_by_a_writer(folder, 0)
    cache.clear()
    assert [path.name for path in folder.iterdir()] == [".keep.tmp"]


KILLED = """
import os, signal, sys
from adjit_runtime import cache
if sys.argv[1] == "replace":
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cache.store(cache.key_of(("key",)), bytes(100_000))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
def test_a_writer_that_is_killed(folder: Path) -> None:
    run_python(KILLED, "replace", code=-9)
    (left,) = folder.iterdir()
    assert not entries(folder)
    os.utime(left, (0, 0))
    run_python(KILLED, "nothing")
    assert [path.suffix for path in folder.iterdir()] == [".adjit"]


def test_the_folder_is_not_searched_at_every_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    evict = cache._evict
    monkeypatch.setattr(cache, "_evict", lambda *args: (looks.append(args), evict(*args)))
    for i in range(50):
        cache.store(cache.key_of((str(i),)), bytes(1000))
    assert len(looks) == 1
    monkeypatch.setenv("ADJIT_CACHE_MB", "0.04")
    for i in range(50, 100):
        cache.store(cache.key_of((str(i),)), bytes(1000))
        assert sum(path.stat().st_size for path in entries(folder)) <= 0.04 * (1 << 20)
    assert len(entries(folder)) > 30
    monkeypatch.setenv("ADJIT_CACHE_MB", "inf")
    looks.clear()
    cache.store(cache.key_of(("last",)), bytes(1000))
    assert not looks


def test_two_processes_throw_out_the_same_entries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process threw out meanwhile is gone, and nothing else goes in its place."""
    for i in range(6):
        key = cache.key_of((str(i),))
        cache.store(key, bytes(10_000))
        os.utime(folder / f"{key}.adjit", ns=(i, i))
    unlink = os.unlink

    def race(path: Any) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", race)
    cache._evict(folder, 35_000)
    assert len(entries(folder)) == 3


class Interrupter:
    """Raises KeyboardInterrupt at one bytecode of a call and of what that calls."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self

    def reaches(self, call: Callable[[], Any]) -> bool:
        """Whether the bytecode was reached; the interrupt must come out then."""
        # On a thread of its own: CPython's record of the exceptions that are being handled, one for each thread, does
        # not survive that the bytecodes which keep it raise.
        with ThreadPoolExecutor(1) as pool:
            came_out = pool.submit(self._comes_out, call).result()
        assert came_out or self.left > 0, "an interrupt was swallowed"
        return came_out

    def _comes_out(self, call: Callable[[], Any]) -> bool:
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


@pytest.fixture
def interruptible(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One file of adjit's stands for all, each of which takes a few hundred bytecodes. An interrupt between `open` and
    `with` leaves a file to the garbage collector, which closes it and warns."""
    cache.loaded_code()
    monkeypatch.setattr(sources, "_STATES", dict([next(iter(sources._STATES.items()))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@pytest.mark.parametrize("there", [False, True], ids=["new", "again"])
def test_interrupts_at_every_bytecode_of_store(folder: Path, there: bool, interruptible: None) -> None:
    key = cache.key_of(("key",))
    old, new = b"old" * 100, b"new" * 100
    cache.store(cache.key_of(("other",)), old)
    at, found = 1, True
    while found:
        if there:
            cache.store(key, old)
        else:
            (folder / f"{key}.adjit").unlink(missing_ok=True)
        # So that this store looks at all entries.
        cache._WRITTEN.clear()
        left_by_a_writer(folder, 2 * cache.ABANDONED_SECONDS)
        found = Interrupter(at).reaches(lambda: cache.store(key, new))
        assert cache.load(key) in (new, old if there else None)
        left = {path.name for path in folder.glob(".*.tmp") if path.stat().st_size != 10_000}
        assert not left, f"bytecode {at}"
        for path in folder.glob(".*.tmp"):
            path.unlink()
        at += 1
    assert cache.load(key) == new
    assert at > 300


def test_interrupts_at_every_bytecode_of_load_and_clear(folder: Path, interruptible: None) -> None:
    key = cache.key_of(("key",))
    for call in (lambda: cache.load(key), cache.clear):
        at, found = 1, True
        while found:
            cache.store(key, b"new")
            found = Interrupter(at).reaches(call)
            assert cache.load(key) in (b"new", None if call is cache.clear else b"new")
            at += 1
        assert at > 50
    assert not list(folder.iterdir())


def test_keys_depend_on_every_part() -> None:
    assert len({cache.key_of(parts) for parts in [("a", "b"), ("ab",), ("a", "b", ""), ("b", "a")]}) == 4


WORKER = """
import sys
from tests.runtime.test_cache import train
print(train()[0])
"""


def test_many_processes_at_once(folder: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "compiler"), str(ROOT / "runtime")])
    environment = {**os.environ, "PYTHONPATH": paths}
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    found = {process.communicate(timeout=120)[0] for process in processes}
    assert len(found) == 1
    assert "[" in found.pop()
    assert not list(folder.glob(".*.tmp"))
    assert train()[1].cached
