"""Documents say what the code does: examples run, the table of functions is the code's, links of README hold."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from tests import functions

ROOT = Path(__file__).resolve().parent.parent


def examples(name: str) -> list[doctest.DocTest]:
    """The blocks of a page that show a session of Python, as one."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    parser = doctest.DocTestParser()
    # Other lines stay as empty ones, so that failures have the page's line numbers.
    inside, lines = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```pycon"
        lines.append(line if inside and not line.startswith("```") else "")
    return [parser.get_doctest("\n".join(lines), {}, name, name, 0)]


@pytest.mark.parametrize(
    "name",
    ["control_flow.md", "formulas.md", "gotchas.md", "loops.md", "networks.md", "sparse.md", "transformations.md"],
)
def test_examples_of_documents(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    for test in examples(name):
        assert len(test.examples) > 15
        output: list[str] = []
        result = doctest.DocTestRunner(optionflags=flags).run(test, out=output.append)
        assert not result.failed, "".join(output)


MODULES = (adjit, adjit.optim, adjit.optim.schedule, adjit.random)
SHOWN = [module for module in MODULES if module is not adjit]
SHOWN += [getattr(module, name) for module in MODULES for name in getattr(module, "__all__", ())]
# It measures the machine.
NOT_RUN = {"machine"}


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
def test_examples_of_docstrings(shown: Any) -> None:
    text = inspect.getdoc(shown) or ""
    assert text
    name = shown.__name__
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    output: list[str] = []
    if name not in NOT_RUN:
        result = doctest.DocTestRunner().run(test, out=output.append)
        assert not result.failed, "".join(output)


def test_the_table_of_functions_is_the_codes() -> None:
    """To the letter with the versions that it was made with; with others, what both have."""
    text = functions.PAGE.read_text(encoding="utf-8")
    made = functions.page()
    if functions.versions(text) == functions.versions(made):
        assert text == made, "make functions"
    for where, found in functions.verdicts().items():
        works = text.partition(f"## {where}\n")[2].partition("### Works")[2].partition("\n#")[0]
        stated = set(re.findall(r"`(\w+)`", works))
        ours = {name for name, said in found.items() if said == functions.WORKS}
        assert len(ours & stated) > len(stated) // 2
        # What this version lacks, or the other one lacked, is no contradiction.
        both = set(re.findall(r"`(\w+)`", text.partition(f"## {where}\n")[2].partition("\n## ")[0])) & found.keys()
        assert ours & both <= stated


def test_every_function_has_a_verdict() -> None:
    for found in functions.verdicts().values():
        assert all(found.values())
    assert functions.verdicts()["np"]["sum"] == functions.WORKS
    assert functions.verdicts()["np"]["isscalar"] == functions.PLAIN
    assert functions.verdicts()["scipy.special"]["erf"] == functions.WORKS
    assert functions.verdicts()["scipy.special"]["logsumexp"].endswith("write adjit.nn.logsumexp")
    assert "complex" in functions.verdicts()["np.linalg"]["eigvals"]


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "docs/adding-an-op.md", "docs/design.md", "docs/features.md", "docs/formulas.md",
        "docs/gotchas.md", "docs/loops.md", "docs/networks.md", "docs/performance.md", "docs/sparse.md",
        "docs/transformations.md",
    ],
)  # fmt: skip
def test_documents_name_what_there_is(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"\badjit\.((?:[a-zA-Z]\w*\.)*[a-zA-Z]\w*)", text):
        at: object = adjit
        for part in path.split("."):
            assert hasattr(at, part), f"there is no adjit.{path}"
            at = getattr(at, part)


SYSTEMS = ["adjit", "JAX", "PyTorch", "PyTensor", "autograd", "CasADi"]
# No verdicts.
FIGURES = "installed, with what it needs"


def rows_of_features() -> list[list[str]]:
    """The cells of each row of the tables of docs/features.md, with those of the headers left out."""
    lines = (ROOT / "docs" / "features.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if row[1:] != SYSTEMS and set(row[0]) != {"-"}]


def test_each_feature_has_a_verdict_for_each_system() -> None:
    rows = rows_of_features()
    assert len(rows) > 60
    assert len({row[0] for row in rows}) == len(rows)
    for feature, *cells in rows:
        assert len(cells) == len(SYSTEMS), feature
        if not feature.startswith(FIGURES):
            verdicts = [re.match(r"(yes|partly|no)\b", cell) for cell in cells]
            assert all(verdicts), f"{feature}: {cells}"
        # What is there in part says in which.
        assert "partly" not in cells, feature


def test_what_adjit_has_in_the_table_of_features_is_there() -> None:
    made: dict[str, Any] = {
        "jit": adjit.jit(np.sin),
        "training_step": adjit.training_step(lambda w, x: (w - x) ** 2, adjit.optim.sgd(0.1)),
    }
    arguments, attributes = 0, 0
    for feature, ours, *_ in rows_of_features():
        for name, argument in re.findall(r"adjit\.(\w+)\((\w+)=", ours):
            arguments += 1
            assert argument in inspect.signature(getattr(adjit, name)).parameters, f"{feature}: {ours}"
        for name, attribute in re.findall(r"adjit\.(\w+)\([^`]*\)\.(\w+)", ours):
            attributes += 1
            assert hasattr(made[name], attribute), f"{feature}: {ours}"
        for name in re.findall(r"\bnp\.(\w+)", ours):
            assert functions.verdicts()["np"][name] == functions.WORKS, f"{feature}: {ours}"
    assert arguments > 3
    assert attributes > 3


def test_notes_of_the_table_of_features_are_all_there_and_read() -> None:
    text = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    written = re.findall(r"^\[\^([\w-]+)\]:", text, re.MULTILINE)
    read = re.findall(r"\[\^([\w-]+)\](?!:)", text)
    assert len(set(written)) == len(written)
    assert set(written) == set(read)
