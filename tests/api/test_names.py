"""Names that users give, of files, functions and keys of trees, are data: whatever stands in them, all stages print and
parse, and errors name the place."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim

SOURCE = """
import adjit
import numpy as np
f = adjit.jit(lambda x, i: x[i] * 2)
"""
FILES = [
    "mo{d}el.py",
    "mo{value}.py",
    "{}.py",
    "100%s.py",
    "a\nb.py",
    "a\udcffb.py",
    "a#b.py",
    " a .py",
    "\u00e9.py",
    "'\".py",
]


@pytest.mark.parametrize("file", FILES)
def test_files_of_any_name(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    try:
        path.write_text(SOURCE, encoding="utf-8")
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system has no such names")
    f = runpy.run_path(os.fspath(path))["f"]
    assert f(np.ones(3), np.int64(1)) == 2
    with pytest.raises(adjit.IndexOutOfRange, match=r"py:4: index 7 is out of bounds for axis 0 with size 3"):
        f(np.ones(3), np.int64(7))
    graph = f.ir("optimized")
    with pytest.raises(adjit.IndexOutOfRange, match=r"py:4: index 7 is out of bounds for axis 0 with size 3"):
        adjit.evaluate(graph, np.ones(3), 7)
    for stage in ("trace", "optimized", "plan", "llvm"):
        str(f.ir(stage)).encode()
    assert str(adjit.parse(str(graph))) == str(graph)


KEYS: list[Any] = [
    1, 1.5, None, True, b"x", (1, 2), "%s", "{x}", '"', "'", "\n", "\0", "\udcff", "\ud83d\ude00", "\U0001f600", "a.b",
    "", " ", "\\", "\u03bb", "x" * 100_000, frozenset((1,)),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:20])
def test_trees_with_any_keys(key: Any) -> None:
    f = adjit.jit(lambda tree: {name: np.tanh(x) + 1 for name, x in tree.items()})
    np.testing.assert_allclose(f({key: np.ones(2)})[key], np.tanh(np.ones(2)) + 1, rtol=1e-15)  # our tanh
    graph = f.ir("optimized")
    assert str(adjit.parse(str(graph))) == str(graph)
    for stage in ("plan", "llvm"):
        str(f.ir(stage)).encode()
    f.signatures()
    with pytest.raises(adjit.ArgumentError):
        f({key: object()})
    step = adjit.training_step(lambda p, x: np.sum((p[key] * x) ** 2), optim.adam(0.1))
    s = step.init({key: np.ones(2)})
    assert step(s, np.ones(2)) == 2
    assert list(s.params) == [key]


def test_keys_that_print_alike() -> None:
    f = adjit.jit(lambda tree: tree["a.b"] - tree["a"]["b"] + tree[1] - tree["1"])
    tree = {"a.b": np.float64(8), "a": {"b": np.float64(4)}, 1: np.float64(2), "1": np.float64(1)}
    assert f(tree) == 5
    graph = f.ir("trace")
    assert str(adjit.parse(str(graph))) == str(graph)


@pytest.mark.parametrize("name", ["a b", "{x}", "\u03bb", "\n", "\udcff", '"', "", "x" * 100_000])
def test_functions_of_any_name(name: str) -> None:
    def plain(x: Any) -> Any:
        return x + 1

    plain.__name__ = name
    f = adjit.jit(plain)
    assert f(1.0) == 2
    assert str(adjit.parse(str(f.ir("trace")))) == str(f.ir("trace"))
    str(f.ir("llvm")).encode()
