"""Thresholds forced to their least, so that small programs take the ways of large ones."""

from __future__ import annotations

import pytest

from adjit.codegen import cuts, entry, products
from adjit.passes import tile
from adjit.schedule import arena


def cut_everything(patch: pytest.MonkeyPatch) -> None:
    """Everything that can be cut for threads is cut."""
    patch.setattr(cuts, "PARALLEL_FLOPS", 1)
    patch.setattr(cuts, "PARALLEL_COST", 1)
    patch.setattr(cuts, "LOOP_PARTS", 4)
    patch.setattr(entry, "WAKE_FLOPS", 1)


def tile_everything(patch: pytest.MonkeyPatch) -> None:
    """What works row by row does so tile by tile, whether or not that pays."""
    patch.setattr(tile, "TILING_BYTES", 1)
    patch.setattr(tile, "TILE_ROWS", (4, 8))
    patch.setattr(tile, "FEWEST_TILES", 2)


def ride_everything(patch: pytest.MonkeyPatch) -> None:
    """Results lie in place of operands, and epilogues bring near what lies beside, at any size."""
    patch.setattr(arena, "INPLACE_REDUCTION_BYTES", 1)
    patch.setattr(products, "EPILOGUE_PREFETCH_BYTES", dict.fromkeys((16, 32), 1))
