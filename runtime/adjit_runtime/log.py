"""What adjit says while it works: `ADJIT_LOG=compile` prints each compilation to the standard error.

Everything goes through `logging` under the name `adjit`, so that programs can take it elsewhere."""

from __future__ import annotations

import logging
import os

COMPILE = logging.getLogger("adjit.compile")


def configure() -> None:
    """Turn on what `ADJIT_LOG` names, a list separated by commas."""
    wanted = {name.strip() for name in os.environ.get("ADJIT_LOG", "").split(",")} - {""}
    for name in wanted:
        logger = logging.getLogger(f"adjit.{name}")
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
