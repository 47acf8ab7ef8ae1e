"""The import table: which layer may import which. Imports follow the data, and none hides in a function.

A layer is a folder of `adjit`, a module beside them, or the whole of `adjit_runtime`. Standard library and NumPy
are free to all; every other package is listed with those that may import it, and how.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILER = ROOT / "compiler" / "adjit"
RUNTIME = ROOT / "runtime" / "adjit_runtime"

# Layer -> layers of the compiler that it may import. Its own modules are always allowed.
LAYERS: dict[str, set[str]] = {
    "ir": set(),
    "ops": {"ir"},
    "trace": {"ir", "ops", "tuned"},
    "roll": {"ir", "ops", "tuned"},
    "autodiff": {"ir", "ops", "tuned"},
    "passes": {"ir", "ops", "tuned"},
    "schedule": {"ir", "ops", "tuned"},
    "codegen": {"ir", "ops", "schedule", "tuned"},
    "control": {"ir", "ops", "trace"},
    "custom": {"control", "ir", "ops", "trace"},
    "formulas": {"autodiff", "ir", "ops", "trace"},
    "rewriting": {"control", "ir", "ops", "trace"},
    "random": {"ir", "ops", "trace"},
    "nn": {"control", "custom", "ir", "ops", "random", "trace", "tuned"},
    "optim": set(),
    "tuned": set(),
    "runtime": set(),
}

# Modules that stand above the layers and may import all of them.
TOP: set[str] = {
    "__init__", "batching", "checking", "compilation", "driver", "ensembles", "functions", "implicit", "jacobians",
    "machine", "minimizing", "profile", "raveling", "results", "sparse", "stages", "sympy_functions", "touched",
    "training", "transforms", "updating", "vectorize", "watching",
}  # fmt: skip

# What a layer of the compiler may import of the runtime (`program` is data: what codegen makes and the runtime
# runs; `checks` and `environment` refuse what users give; `constructors`, `fork` and `guard` are for whoever sets the
# interpreter or calls LLVM; `lapack` says where SciPy's functions are); the rest is for the modules above the layers.
RUNTIME_FOR_ALL: set[str] = {
    "checks", "constructors", "environment", "errors", "fork", "guard", "guests", "lapack", "program", "public",
    "target",
}  # fmt: skip

# Layers that users' networks are made of: the same NumPy that users write, so nothing of the runtime but its errors
# and the checks of arguments that raise them.
LIBRARY: set[str] = {"nn", "optim", "random"}

# Third-party package -> layers that may import it at module level. NumPy: everyone.
AT_TOP: dict[str, set[str]] = {
    "llvmlite": {"codegen", "runtime"},
    "optree": {
        "batching", "checking", "control", "custom", "ensembles", "formulas", "functions", "implicit", "jacobians",
        "minimizing", "nn", "optim", "raveling", "results", "rewriting", "runtime", "sparse", "sympy_functions",
        "trace", "training", "transforms", "updating", "vectorize",
    },
    "platformdirs": {"runtime"},
}  # fmt: skip

# Heavy or optional packages that may be imported late, inside the function that needs them, and only so.
LATE: set[str] = {"sympy", "rich", "safetensors", "matplotlib", "scipy"}


@dataclass(frozen=True)
class Import:
    """One imported module, as an absolute name, and where it is imported."""

    module: str
    path: Path
    line: int
    late: bool
    typing_only: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.module}"


def sources() -> list[Path]:
    return sorted(p for root in (COMPILER, RUNTIME) for p in root.rglob("*.py"))


def layer_of(path: Path) -> str:
    """The layer that a source file belongs to: `ir`, `driver`, `runtime` ..."""
    if RUNTIME in path.parents:
        return "runtime"
    return path.relative_to(COMPILER).parts[0].removesuffix(".py")


def module_of(path: Path) -> tuple[str, ...]:
    """The dotted name of a source file, as a tuple; of a package without `__init__`."""
    parts = path.relative_to(COMPILER.parent if COMPILER in path.parents else RUNTIME.parent).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def resolve(node: ast.ImportFrom, path: Path) -> str:
    """The absolute name of the module that a `from` import reads."""
    if node.level == 0:
        return node.module or ""
    package = module_of(path) if path.name == "__init__.py" else module_of(path)[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)


def imports_of(path: Path, text: str | None = None) -> list[Import]:
    """Every import of a file. `from a import b` counts as `a.b`: b may be a module, and a layer is never less deep."""
    tree = ast.parse(path.read_text(encoding="utf-8") if text is None else text)
    return list(_walk(tree, path, late=False, typing_only=False))


def _walk(parent: ast.AST, path: Path, *, late: bool, typing_only: bool) -> Iterator[Import]:
    # Not `ast.walk`: whether an import is late depends on what it stands in.
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, path, node.lineno, late, typing_only)
        elif isinstance(node, ast.ImportFrom):
            module = resolve(node, path)
            for alias in node.names:
                name = module if alias.name == "*" else f"{module}.{alias.name}"
                yield Import(name, path, node.lineno, late, typing_only)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _walk(node, path, late=late or function, typing_only=typing_only or checking)


def dynamic_imports(path: Path) -> list[str]:
    """Calls of `importlib.import_module` and `__import__`, which no table can judge."""
    calls = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call))
    found = [(n.lineno, ast.unparse(n.func)) for n in calls]
    return [f"{path.name}:{line}: {f}" for line, f in found if f.split(".")[-1] in {"import_module", "__import__"}]


def complaint(found: Import) -> str | None:
    """Why an import breaks the table; None where it does not."""
    layer = layer_of(found.path)
    if found.package == "adjit":
        return _compiler_complaint(found, layer)
    if found.package == "adjit_runtime":
        return _runtime_complaint(found, layer)
    if found.package == "numpy" or found.package in sys.stdlib_module_names:
        return None
    if found.package in LATE:
        return None if found.late or found.typing_only else f"{found}: may be imported only inside functions"
    if found.package not in AT_TOP:
        return f"{found}: is no dependency of the project"
    if layer not in AT_TOP[found.package]:
        return f"{found}: {layer} may not import {found.package}"
    return f"{found}: a late import of a light package" if found.late else None


SELDOM = {("functions", "rewriting")}
"""What few programs use, and is imported when it is: no cycle, as the table below the layer shows."""


def _compiler_complaint(found: Import, layer: str) -> str | None:
    if layer == "runtime":
        return f"{found}: the runtime imports nothing of the compiler"
    target = (*found.module.split("."), "__init__")[1]
    if found.late and (layer, target) not in SELDOM:
        return f"{found}: a function-level import hides a cycle"
    if layer in TOP or target == layer or target in LAYERS.get(layer, set()):
        return None
    return f"{found}: {layer} may import {sorted(LAYERS.get(layer, set()))} alone"


def _runtime_complaint(found: Import, layer: str) -> str | None:
    if found.late:
        return f"{found}: a function-level import hides a cycle"
    target = (*found.module.split("."), "__init__")[1]
    allowed = {"checks", "errors", "public"} if layer in LIBRARY else RUNTIME_FOR_ALL
    if layer == "runtime" or layer in TOP or target in allowed:
        return None
    return f"{found}: {layer} may import {sorted(allowed)} of the runtime alone"


def test_every_layer_stands_in_the_table() -> None:
    layers = {layer_of(p) for p in sources()}
    assert layers - TOP == set(LAYERS), "a folder without a row, or a row without a folder"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    complaints = [c for found in imports_of(path) if (c := complaint(found)) is not None]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_by_name_at_run_time(path: Path) -> None:
    # The public faces import what few programs use when it is first asked for; the names stand in their tables.
    assert not dynamic_imports(path) or path == RUNTIME / "public.py"


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(LAYERS):
        free = {layer for layer, below in LAYERS.items() if layer not in done and below <= done}
        assert free, f"a cycle among {sorted(set(LAYERS) - done)}"
        done |= free


@pytest.mark.parametrize(
    ("file", "text", "breaks"),
    [
        ("ops/x.py", "from adjit.ir.types import Array", False),
        ("ops/x.py", "from adjit.trace import apply", True),
        ("ops/x.py", "from ..trace import apply", True),
        ("ops/x.py", "from .. import trace", True),
        ("ops/__init__.py", "from . import arithmetic", False),
        ("ops/x.py", "def f():\n    from adjit.ir.types import Array", True),
        ("ops/x.py", "import sympy", True),
        ("ops/x.py", "def f():\n    import sympy", False),
        ("ops/x.py", "import llvmlite.binding as llvm", True),
        ("ops/x.py", "import adjit", True),
        ("ops/x.py", "from adjit import jit", True),
        ("ops/x.py", "import torch", True),
        ("codegen/x.py", "import llvmlite.binding as llvm", False),
        ("codegen/x.py", "from adjit_runtime import target", False),
        ("codegen/x.py", "from adjit_runtime.program import Program", False),
        ("codegen/x.py", "from adjit_runtime.load import Loaded", True),
        ("nn/x.py", "from adjit_runtime.target import Target", True),
        ("optim/x.py", "from adjit.trace import apply", True),
        ("passes/x.py", "from adjit.tuned import TILE_ROWS", False),
        ("optim/x.py", "from adjit.tuned import TILE_ROWS", True),
        ("tuned.py", "from adjit.ir.types import Array", True),
        ("tuned.py", "from adjit_runtime.tuned import CACHE_MB", True),
        ("driver.py", "from adjit_runtime.program import Program", False),
        ("training.py", "from adjit.codegen import emit", False),
        ("passes/tile.py", "from adjit_runtime.load import Loaded", True),
    ],
)
def test_the_rules_catch_what_they_should(file: str, text: str, breaks: bool) -> None:
    found = imports_of(COMPILER / file, text)
    assert any(complaint(i) is not None for i in found) is breaks


def test_the_runtime_may_not_import_the_compiler() -> None:
    (found,) = imports_of(RUNTIME / "x.py", "from adjit.ir import types")
    assert complaint(found) is not None
