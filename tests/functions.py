"""docs/functions.md, made from the table of functions: `python -m tests.functions` writes it (`make functions`).

Every public function of NumPy, np.linalg, np.fft and scipy.special has one of four verdicts: it works on traced arrays;
it is refused, with the reason; it takes plain values alone; or nobody has written it yet.
"""

from __future__ import annotations

import re
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.special

import adjit
from adjit.trace import table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "functions.md"
MODULES: dict[str, types.ModuleType] = {
    "np": np, "np.linalg": np.linalg, "np.fft": np.fft, "scipy.special": scipy.special
}  # fmt: skip

WORKS, PLAIN, UNKNOWN = "works", "plain values alone", "not written yet"

NOT_ABOUT_ARRAYS = frozenset({"test", "info", "show_config", "show_runtime", "get_include"})


def functions(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """The public functions of a module, by name."""
    for name in sorted(dir(module)):
        function = getattr(module, name)
        if name.startswith("_") or name in NOT_ABOUT_ARRAYS or isinstance(function, type) or not callable(function):
            continue
        yield name, function


def verdict(where: str, name: str, function: Any) -> str:
    """One of the verdicts above, or the reason of a refusal."""
    if function in table.REFUSED:
        return table.REFUSED[function]
    if function in table.FUNCTIONS or (isinstance(function, np.ufunc) and table.has_ufunc(function)):
        return WORKS
    if where != "scipy.special":
        return UNKNOWN if isinstance(function, np.ufunc) or hasattr(function, "_implementation") else PLAIN
    if name in adjit.nn.__all__:
        return f"SciPy makes plain arrays of its arguments; write adjit.nn.{name}"
    return UNKNOWN if isinstance(function, np.ufunc) else PLAIN


def verdicts() -> dict[str, dict[str, str]]:
    """The verdict of each function by module and name."""
    return {
        where: {name: verdict(where, name, function) for name, function in functions(module)}
        for where, module in MODULES.items()
    }


def _listed(names: list[str]) -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in names), 120, break_long_words=False, break_on_hyphens=False)


def _section(where: str, found: dict[str, str]) -> list[str]:
    by_verdict: dict[str, list[str]] = {}
    for name, said in found.items():
        by_verdict.setdefault(said, []).append(name)
    works, plain, unknown = (by_verdict.pop(known, []) for known in (WORKS, PLAIN, UNKNOWN))
    lines = [f"## {where}", ""]
    if works:
        lines += [f"### Works ({len(works)})", "", _listed(works), ""]
    if by_verdict:
        lines += [
            f"### Refused ({sum(map(len, by_verdict.values()))})",
            "",
            "| function | why, and what to write |",
            "| --- | --- |",
        ]
        lines += [f"| {', '.join(f'`{name}`' for name in names)} | {said} |" for said, names in by_verdict.items()]
        lines.append("")
    if unknown:
        lines += [f"### Not written yet ({len(unknown)})", "", _listed(unknown), ""]
    if plain:
        lines += [f"### Takes plain values alone ({len(plain)})", "", _listed(plain), ""]
    return lines


def page() -> str:
    """The text of docs/functions.md."""
    lines = [
        "# Functions in a traced function",
        "",
        f"Made by `make functions`, with NumPy {np.__version__} and SciPy {scipy.__version__}; a test compares it with",
        "the code.",
        "",
        "- **Works**: on traced arrays, with derivatives where there are any, and with NumPy's own arguments; an",
        "  argument that is not taken is refused by its name.",
        "- **Refused**: raises `adjit.TraceError` with your line and the words of the table.",
        "- **Not written yet**: raises `adjit.TraceError`, which names the function.",
        "- **Takes plain values alone**: NumPy or SciPy hands no call of it over. On plain values it runs as ever,",
        "  once, while the function is traced, and its result is a constant of the program.",
        "",
    ]  # fmt: skip
    for where, found in verdicts().items():
        lines += _section(where, found)
    return "\n".join(lines).rstrip() + "\n"


def versions(text: str) -> tuple[str, str]:
    """The versions of NumPy and SciPy that a page was made with."""
    numpy_version, scipy_version = re.findall(r"(?:NumPy|SciPy) (\d[\w.+]*\w)", text)[:2]
    return numpy_version, scipy_version


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
