"""Whose code a file has."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import optree
import pytest

import adjit
from adjit.trace.locate import origin

BESIDE = """
import sys
import llvmlite.binding, numpy, optree, platformdirs
before = set(sys.modules)
import adjit
late = {"numpy.random", "sysconfig", "scipy", "sympy"} - before
assert not late & set(sys.modules), late & set(sys.modules)
import numpy as np
try:
    adjit.jit(lambda x: x + np.random.random())(1.0)
except adjit.TraceError as error:
    assert "np.random.random would be called once" in str(error)
else:
    raise AssertionError("not refused")
"""


def test_origins() -> None:
    for module in (adjit, np, optree, np.linalg):
        assert origin(str(module.__file__)) == "ours"
    for module in (os, json):
        assert origin(str(module.__file__)) == "standard"
    assert origin("<frozen importlib._bootstrap>") == "standard"
    assert origin(str(pytest.__file__)) == "installed"
    assert origin("/usr/lib/python3/dist-packages/model.py") == "installed"
    for file in (__file__, "<stdin>", "<string>", "<ipython-input-1>", os.path.join(sys.prefix, "model.py")):
        assert origin(file) == "user"


def test_what_an_import_leaves_for_later() -> None:
    """And that the first trace refuses what was not imported before it."""
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
