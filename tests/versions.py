"""The tests on every Python that is there, with the lowest and the newest versions of what adjit depends on.

    python tests/versions.py [--lowest] [--pythons python3.11,python3.13] [arguments of pytest]

Each pair has an environment of its own under `.venvs`; the lowest versions are those of `tests/lowest.txt`, the newest
are looked up at every run. A Python that is not there is skipped with a line that says so; it is an error where none
is. All pairs run, whatever fails, and the last lines say which did."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOWEST = ROOT / "tests" / "lowest.txt"
PYTHONS = "python3.11,python3.13,python3.14"
BOUNDS = ("lowest", "newest")


def version_of(python: str | Path) -> str:
    """What the interpreter says that it is, or "" where it does not run."""
    try:
        done = subprocess.run([python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find(name: str) -> str | Path | None:
    """The interpreter of that name. Those of pyenv are looked up in its folder: a name on the path may be a stand-in
    for a version that is not switched on, and then does not run."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    there = [shutil.which(name), *sorted(home.glob(f"*/bin/{name}"), reverse=True)]
    return next((path for path in there if path and version_of(path)), None)


def pip(environment: Path, *arguments: str | Path) -> None:
    command = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # No source of NumPy or SciPy is built here: where there is no wheel, tests/lowest.txt names the first that has one.
    subprocess.run([*command, "--only-binary", ":all:", *arguments, "--editable", ".[test]"], cwd=ROOT, check=True)


def environment_of(python: str | Path, name: str, bound: str) -> Path:
    """The environment of a pair, brought up to date."""
    environment = ROOT / ".venvs" / f"{name}-{bound}"
    stamp = environment / "made-of"
    wanted = version_of(python) + (ROOT / "pyproject.toml").read_text("utf-8")
    wanted += LOWEST.read_text("utf-8") if bound == "lowest" else ""
    made = stamp.exists() and stamp.read_text("utf-8") == wanted
    if not made:
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    if bound == "newest":
        pip(environment, "--upgrade", "--upgrade-strategy", "eager")
    elif not made:
        pip(environment, "--constraint", LOWEST)
    stamp.write_text(wanted, "utf-8")
    return environment


def run(name: str, bound: str, arguments: list[str]) -> str:
    """Run the tests of a pair; how that ended."""
    python = find(name)
    if python is None:
        return "skipped: there is no such Python here"
    print(f"== {name}, {bound} versions", flush=True)
    try:
        environment = environment_of(python, name, bound)
    except subprocess.CalledProcessError as error:
        return f"FAILED: the environment could not be made ({error})"
    code = subprocess.run([environment / "bin" / "python", "-m", "pytest", *arguments], cwd=ROOT).returncode
    return f"FAILED: pytest ended with {code}" if code else "passed"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--lowest", action="store_true", help="the lowest versions only")
    parser.add_argument("--pythons", default=PYTHONS, help=f"names of interpreters, {PYTHONS} if not given")
    chosen, arguments = parser.parse_known_args()
    bounds = BOUNDS[:1] if chosen.lowest else BOUNDS
    ends = {(name, bound): run(name, bound, arguments) for name in chosen.pythons.split(",") for bound in bounds}
    for (name, bound), end in ends.items():
        print(f"{name}, {bound} versions: {end}")
    return int("passed" not in ends.values() or any(end.startswith("FAILED") for end in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
