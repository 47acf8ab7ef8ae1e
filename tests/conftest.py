"""What all tests share: the verifier is on, and `--bless` rewrites expected text in place of comparing it."""

from __future__ import annotations

import os

# Before adjit is imported anywhere: every graph is verified after tracing, autodiff and each pass.
os.environ.setdefault("ADJIT_VERIFY", "1")
# Nothing is read from or written to the user's cache; the tests of the cache turn it on in a folder of their own.
os.environ["ADJIT_CACHE"] = "0"
# Pictures are drawn without a display.
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

# The same tree gives the same verdict on every machine: derandomised, and no limit of time (a first call compiles).
settings.register_profile(
    "adjit", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("adjit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="rewrite the expected part of tests/filetests/*.ir")


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """True where expected text is to be rewritten, not compared."""
    return bool(request.config.getoption("--bless"))
