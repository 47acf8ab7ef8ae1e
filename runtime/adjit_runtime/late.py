"""Names of a package that are imported when they are first asked for, so that programs without them start sooner."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def late(namespace: dict[str, Any], modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package with these globals; `modules` says where each name is."""

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        found = namespace[name] = getattr(importlib.import_module(modules[name]), name)
        return found

    return find, lambda: sorted({*namespace, *modules})
