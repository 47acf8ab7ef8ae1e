"""What holds for the whole tree: one version, lowest versions that agree, whole data, no machine's paths, contracts on
top, small files."""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [ROOT / "compiler" / "adjit", ROOT / "runtime" / "adjit_runtime"]
MODULES = sorted(p for package in PACKAGES for p in package.rglob("*.py"))

TEXTS = {".py", ".md", ".toml", ".ir", ".cfg", ".yml", ".yaml", ".sh", ""}
SKIPPED = {
    ".git",
    ".venv",
    ".venvs",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
}

# A path on somebody's machine. Written with a class so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w.~)}\]-])[/](work|root|tmp|home|Users)[/]\w")

# Lines a file may have. A file near it wants splitting by meaning.
LONGEST = 600


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts() -> list[Path]:
    inside = (p for p in sorted(ROOT.rglob("*")) if not SKIPPED & set(p.relative_to(ROOT).parts))
    return [p for p in inside if p.is_file() and p.suffix in TEXTS]


def project() -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def assigned(path: Path, variable: str) -> object:
    """The literal that a module assigns to `variable`, read without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and variable in [ast.unparse(t) for t in node.targets]:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{name(path)} does not assign {variable}")


def test_one_version() -> None:
    assert assigned(PACKAGES[0] / "__init__.py", "__version__") == project()["version"]


def bounds(requirements: Iterable[str]) -> dict[str, Version]:
    """The lowest version of each requirement that has a lower bound."""
    found = {}
    for text in requirements:
        requirement = Requirement(text)
        for specifier in requirement.specifier:
            if specifier.operator in (">=", "=="):
                found[requirement.name] = Version(specifier.version)
    return found


def lowest(python: str) -> dict[str, Version]:
    """What tests/lowest.txt pins for a version of Python."""
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    chosen = [r for r in requirements if r.marker is None or r.marker.evaluate({"python_version": python})]
    assert len({r.name for r in chosen}) == len(chosen), "a package is pinned twice"
    return bounds(f"{r.name}{r.specifier}" for r in chosen)


def declared() -> dict[str, Version]:
    """The lower bounds of pyproject.toml, but for those of the tools and of the benchmarks' peers."""
    table: dict[str, Any] = project()
    extras = table["optional-dependencies"]
    return bounds(
        itertools.chain(table["dependencies"], *(extras[name] for name in ("train", "plot", "linalg", "test")))
    )


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    least = str(project()["requires-python"]).removeprefix(">=")
    assert lowest(least) == declared()


@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_the_lowest_versions_of_other_pythons_are_allowed(python: str) -> None:
    pinned = lowest(python)
    assert pinned.keys() == declared().keys()
    assert all(pinned[name] >= version for name, version in declared().items())


def test_every_dependency_has_a_lower_bound() -> None:
    table: dict[str, Any] = project()
    names = {Requirement(text).name for text in table["dependencies"]}
    assert names <= declared().keys()


def test_every_package_says_that_it_is_typed() -> None:
    assert all((package / "py.typed").is_file() for package in PACKAGES)


def test_no_machine_paths() -> None:
    hits = [
        f"{name(path)}:{number}: {line.strip()[:90]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("open('{}tmp/x')", True),
        ("see {}home/me/model.py", True),
        ("a{}tmp/x", False),
        ("https://example.org{}work/x", False),
        ("work{}done", False),
    ],
)
def test_what_a_machine_path_is(line: str, hit: bool) -> None:
    assert bool(MACHINE_PATH.search(line.format("/"))) is hit


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_opens_with_its_contract(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_file_is_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines, at most {LONGEST}: split it by meaning"


def test_digits_are_whole() -> None:
    with gzip.open(ROOT / "examples" / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        rows = [[int(cell) for cell in row] for row in csv.reader(file)]
    assert len(rows) == 1797
    assert all(len(row) == 65 and set(row[:64]) <= set(range(17)) and row[64] in range(10) for row in rows)


def test_data_are_those_of_their_page() -> None:
    folder = ROOT / "examples" / "data"
    page = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.gz"):
        part = page.partition(f"## {path.name}\n")[2].partition("\n## ")[0]
        assert f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`" in part, path.name


def _without_code(path: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name(path)}: {target}"
        for path in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", _without_code(path))
        if not (path.parent / target).exists()
    ]
    assert not broken, "\n".join(broken)


def test_what_a_program_does_not_use_is_not_imported() -> None:
    """Each module takes a millisecond of every start; what is asked for late is there all the same."""
    code = """
import sys
import adjit
late = {"adjit.control", "adjit.vectorize", "adjit.transforms", "adjit.jacobians", "adjit.checking", "sympy"}
assert not late & set(sys.modules), late & set(sys.modules)
assert set(adjit.__all__) <= set(dir(adjit))
missing = [name for name in adjit.__all__ if getattr(adjit, name, None) is None]
assert not missing, missing
assert adjit.scan is adjit.scan
# What imports a module of the same name as a function comes first.
names = sorted({*adjit.nn.__all__} - {"init"}, key="transformer_block".__ne__)
layers = [getattr(adjit.nn, name) for name in names]
assert all(map(callable, layers)), layers
try:
    adjit.scann
except AttributeError as error:
    assert "scann" in str(error)
else:
    raise AssertionError("there is no scann")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
