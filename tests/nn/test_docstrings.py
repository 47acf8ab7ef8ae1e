"""Every public function of nn says what it does and shows it; what it shows is true."""

from __future__ import annotations

import doctest
import inspect
import sys
from typing import Any

import pytest

from adjit import nn

FUNCTIONS = [getattr(nn, name) for name in nn.__all__ if name != "init"]
FUNCTIONS += [getattr(nn.init, name) for name in nn.init.__all__]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_example(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    module = sys.modules[function.__module__]
    examples = doctest.DocTestParser().get_doctest(text, {}, function.__name__, module.__file__, 0)
    assert examples.examples, f"{function.__name__} shows no example"
    report: list[str] = []
    results = doctest.DocTestRunner().run(examples, out=report.append)
    assert results.failed == 0, "".join(report)
