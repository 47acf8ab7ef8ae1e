"""Environment variables: what has no meaning raises at every use; a cache without a folder is off."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import adjit
from adjit_runtime import cache, cpus, environment, log
from adjit_runtime.target import host_target
from tests.test_layers import ROOT


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ADJIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ADJIT_CACHE", "0")


def call() -> Any:
    """The first call of a function: a compilation."""
    return adjit.jit(lambda x: x - 3.0)(np.full(2, 5.0))[0]


WRONG = [
    ("ADJIT_CPU", "foo", "no CPU that is known; known are native, .*haswell"),
    ("ADJIT_CPU", "Haswell", "no CPU that is known"),
    ("ADJIT_CPU", "help", "no CPU that is known"),
    ("ADJIT_CPU", "i686", "no CPU that is known"),
    ("ADJIT_CPU", "apple-m1", "code for aarch64-unknown-linux-gnu does not run here"),
    ("ADJIT_CACHE_MB", "nan", "the bound of the cache in MB, a number from 0 on, or inf for none"),
    ("ADJIT_CACHE_MB", "-1", "the bound of the cache in MB"),
    ("ADJIT_CACHE_MB", "-inf", "the bound of the cache in MB"),
    ("ADJIT_CACHE_MB", "abc", "the bound of the cache in MB"),
    ("ADJIT_CACHE_MB", "256MB", "the bound of the cache in MB"),
    ("ADJIT_CACHE", "foo", r"neither on \(1, on, yes, true\) nor off \(0, off, no, false\)"),
    ("ADJIT_VERIFY", "foo", "neither on .* nor off"),
    ("ADJIT_LOG", "compile,foo", "there is no log foo; there are cache, compile, threads, trace"),
]


@pytest.mark.parametrize(("name", "value", "text"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_what_has_no_meaning_raises_each_time(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    # What is there already is refused as what is not.
    assert call() == 2.0
    monkeypatch.setenv(name, value)
    for _ in range(3):
        with pytest.raises(adjit.ArgumentError, match=f"^{re.escape(name)}={re.escape(value)}: {text}"):
            call()
    monkeypatch.delenv(name)
    assert call() == 2.0


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in {name for name, _, _ in WRONG} | {"ADJIT_THREADS", "ADJIT_CACHE_DIR"}:
        monkeypatch.setenv(name, "")
    assert call() == 2.0
    assert cache.enabled()
    assert cache.folder() == tmp_path / "adjit"
    assert adjit.get_threads() >= 1


def test_long_values_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    adjit.set_threads(None)
    monkeypatch.setenv("ADJIT_THREADS", "9" * 10_000)
    with pytest.raises(adjit.ArgumentError, match=r"^ADJIT_THREADS=9{57}\.\.\.: a number of threads from 1 to 256$"):
        adjit.get_threads()


@pytest.mark.parametrize("value", ["inf", "1e400", "Infinity"])
def test_no_bound(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("ADJIT_CACHE_MB", value)
    for i in range(3):
        cache.store(cache.key_of((str(i),)), bytes(1000))
    assert len(list(tmp_path.glob("*.adjit"))) == 3
    monkeypatch.setenv("ADJIT_CACHE_MB", "0")
    cache.store(cache.key_of(("3",)), bytes(1000))
    assert not list(tmp_path.iterdir())


# -- the folder of the cache -------------------------------------------------------------------------------------------


def kept() -> bool:
    """Whether the cache keeps what it is given."""
    cache.store("0" * 64, b"payload")
    return cache.load("0" * 64) is not None


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache is on, and the current folder is an empty one."""
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """This user is not in the table of users."""
    pwd = pytest.importorskip("pwd")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("home", [None, "", "/", "relative"])
def test_without_a_home_the_cache_is_off(
    home: str | None, on: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody(monkeypatch)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    caplog.set_level(logging.DEBUG, "adjit.cache")
    assert not kept()
    assert call() == 2.0
    cache.clear()
    assert "off: the user has no home folder" in caplog.text
    assert not list(on.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(on / "shared"))
    assert kept()
    assert (on / "shared" / "adjit").is_dir()


def test_a_relative_cache_home_is_none(on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert not kept() or not (on / "relative").exists()


def test_the_users_home_in_the_name_of_the_folder(on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(on / "home"))
    monkeypatch.setenv("ADJIT_CACHE_DIR", "~/kept")
    assert kept()
    assert (on / "home" / "kept").is_dir()
    nobody(monkeypatch)
    monkeypatch.delenv("HOME")
    assert not kept()
    assert not (on / "~").exists()


def test_a_relative_folder_is_one_of_the_current_folder(on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE_DIR", "some/where")
    assert kept()
    assert (on / "some" / "where").is_dir()


def test_a_name_that_is_no_text(on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE_DIR", os.fsdecode(bytes(on) + b"/\xff\xfe"))
    assert kept()
    assert call() == 2.0


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "file", "file/inside", "/proc/nowhere", "/dev/null"])
def test_folders_that_cannot_be(
    name: str, on: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (on / "file").write_text("mine")
    # The environment has no zeros; whoever sets the variable otherwise may.
    monkeypatch.setattr(environment, "value", lambda v: name if v == "ADJIT_CACHE_DIR" else os.environ.get(v, ""))
    caplog.set_level(logging.DEBUG, "adjit.cache")
    assert not kept()
    assert call() == 2.0
    cache.clear()
    assert "no entry was written" in caplog.text
    assert [path.name for path in on.iterdir()] == ["file"]
    assert (on / "file").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk(number: int, on: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(on))

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", full)
    assert not kept()
    assert call() == 2.0
    assert not list(on.iterdir())


def test_a_file_that_may_not_grow(on: Path) -> None:
    pytest.importorskip("resource")
    program = """
import resource
from adjit_runtime import cache
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for size in (1000, 10_000, 100_000):
    cache.store(cache.key_of((str(size),)), bytes(size))
    print(cache.load(cache.key_of((str(size),))) == bytes(size))
"""
    assert run(program, ADJIT_CACHE_DIR=str(on)).split() == ["True", "False", "False"]
    assert len(list(on.iterdir())) == 1


def run(program: str, **variables: str) -> str:
    """The output of a program that ends well."""
    paths = os.pathsep.join([str(ROOT / "compiler"), str(ROOT / "runtime")])
    settings = {**os.environ, "PYTHONPATH": paths, **variables}
    done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


# -- the CPU -----------------------------------------------------------------------------------------------------------


def test_native_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = host_target()
    monkeypatch.setenv("ADJIT_CPU", "native")
    assert host_target() is ours


FIRST = """
import numpy as np
import adjit
step = adjit.training_step(lambda p, x: np.sum(p["w"] * x), adjit.optim.sgd(0.1))
found = []
for _ in range(2):
    try:
        state = step.init({"w": np.ones(3)})
        found.append(step(state, np.ones(3)))
    except adjit.ArgumentError as error:
        found.append(str(error)[:13])
print(*found)
"""


def test_a_name_that_llvm_does_not_know_does_not_end_the_process() -> None:
    assert run(FIRST, ADJIT_CPU="foo").split() == ["ADJIT_CPU=foo"] * 2


@pytest.mark.skipif("x86-64" not in cpus.known_cpus(), reason="names of x86 CPUs")
def test_code_that_this_machine_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = dict.fromkeys(llvm.get_host_cpu_features(), True)
    nothing_new = everything | {"avx512vbmi": False}

    def refused(cpu: str, features: dict[str, bool]) -> bool:
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
        cpus._missing.cache_clear()
        monkeypatch.setenv("ADJIT_CPU", cpu)
        try:
            cpus.check_runs_here(cpu)
        except adjit.ArgumentError as error:
            return f"ADJIT_CPU={cpu}: its code does not run here: this machine, " in str(error)
        return False

    avx2 = {name: "avx512" not in name for name in everything}
    try:
        assert not any(refused(cpu, everything) for cpu in cpus.X86_CPUS[:4])
        assert [refused(cpu, avx2) for cpu in ("haswell", "znver3", "znver4", "x86-64-v4")] == [
            False,
            False,
            True,
            True,
        ]
        # Both have what we use of AVX-512; one has more, of which LLVM may choose.
        assert [refused(cpu, nothing_new) for cpu in ("skylake-avx512", "znver4")] == [False, True]
        hidden = everything | dict.fromkeys(("pku", "rdpru", "mwaitx", "wbnoinvd", "sgx", "rtm"), False)
        assert not refused("znver4", hidden)
    finally:
        monkeypatch.undo()
        cpus._missing.cache_clear()


def test_every_name_is_one_that_llvm_knows() -> None:
    """LLVM says on the standard error what it does not know, and ends where a name is none of 64 bits."""
    program = """
import llvmlite.binding as llvm
from adjit_runtime import cpus, target
target.initialize()
for cpu in cpus.known_cpus()[1:-1]:
    cpus.implied(cpu, ["avx2"])
print(sorted(cpus.implied("haswell", ["avx2", "fma", "avx512f", "sse4a", "64bit"])))
"""
    if "x86-64" in cpus.known_cpus():
        assert run(program) == "['64bit', 'avx2', 'fma']\n"


# -- logs --------------------------------------------------------------------------------------------------------------


def test_every_logger_can_be_named() -> None:
    files = [path for root in (ROOT / "compiler", ROOT / "runtime") for path in root.rglob("*.py")]
    found = {name for path in files for name in re.findall(r'getLogger\("adjit\.(\w+)"\)', path.read_text("utf-8"))}
    assert found == set(log.LOGS)


def test_logs_that_are_named_print() -> None:
    program = """
import logging, sys
sys.stderr = sys.stdout
import numpy as np
import adjit
adjit.jit(lambda x: x - 3.0)(np.ones(2))
"""
    assert "adjit.compile: " in run(program, ADJIT_LOG=" compile ,, cache", ADJIT_CACHE="0")
    assert not run(program, ADJIT_CACHE="0")
