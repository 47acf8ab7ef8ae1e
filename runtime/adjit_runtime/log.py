"""What adjit says while it works: `ADJIT_LOG=compile` prints each compilation to the standard error.

Everything goes through `logging` under the name `adjit`, so that programs can take it elsewhere."""

from __future__ import annotations

import logging

from adjit_runtime import environment

COMPILE = logging.getLogger("adjit.compile")
LOGS = ("cache", "compile", "threads", "trace")
"""What `ADJIT_LOG` may name."""


def _wanted() -> set[str]:
    return {name.strip() for name in environment.value("ADJIT_LOG").split(",")} - {""}


def configure() -> None:
    """Turn on what `ADJIT_LOG` names, a list separated by commas; `check` says what it names wrongly."""
    for name in _wanted() & set(LOGS):
        logger = logging.getLogger(f"adjit.{name}")
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def check() -> None:
    """Raise ArgumentError where `ADJIT_LOG` names what is not there."""
    unknown = sorted(_wanted() - set(LOGS))
    if unknown:
        raise environment.refusal("ADJIT_LOG", f"there is no log {unknown[0]}; there are {', '.join(LOGS)}")
