"""What tests of traces share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No collection of garbage: destructors in Python, of what other tests left, swallow what a signal's handler raises
    in them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
