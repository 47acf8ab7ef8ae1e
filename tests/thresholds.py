"""Thresholds at their ends, so that small programs take the ways of large ones: tables of numbers, and how to set them.

    force(monkeypatch, CUT, TILED)

A table names the modules that read a number, not the one that defines it; a name that is not there is an error."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from adjit.codegen import cuts, emit, entry, kernels, light, nested, products, signals
from adjit.passes import tile
from adjit.schedule import arena, straight
from adjit.schedule import products as planned_products

Table = dict[tuple[ModuleType, str], Any]
NEVER, ALWAYS = 1 << 60, 0

CUT: Table = {
    (cuts, "PARALLEL_FLOPS"): 1,
    (cuts, "PARALLEL_COST"): 1,
    (cuts, "LOOP_PARTS"): 4,
    (entry, "WAKE_FLOPS"): 1,
}
"""Everything that can be cut for threads is cut."""
SHARED: Table = {(cuts, "SHORT_JOBS"): 0}
"""What is cut is shared whether or not a program finds that faster."""
NARROW: Table = {(cuts, "PRODUCT_PART_UNIT"): 16, (products, "PRODUCT_PART_UNIT"): 16}
"""Parts of products are of few rows or columns."""
TILED: Table = {
    (tile, "TILING_BYTES"): 1,
    (tile, "FEWEST_TILES"): 2,
    (tile, "TILE_ROWS"): (4, 8),
}
"""What works row by row does so tile by tile, however little that is."""
FINE: Table = {
    (tile, "TILING_GAIN"): 0.0,
    (tile, "LOOP_TILE_ROWS"): (4, 12),
    (tile, "INNER_TILE_ROWS"): (4, 12),
    (tile, "LAYER_TILE_ROWS"): (4, 12),
    (tile, "STREAM_TILE_ROWS"): (16, 32),
}
"""Tiles of every sort have few rows, and need not pay."""
RIDING: Table = {
    (arena, "INPLACE_REDUCTION_BYTES"): 1,
    (products, "EPILOGUE_PREFETCH_BYTES"): dict.fromkeys((16, 32), 1),
}
"""Results lie in place of operands, and epilogues prefetch what lies beside, at any size."""
POLLED: Table = {
    (signals, "POLL_EFFORT"): 0,
    (products, "POLL_EFFORT"): 0,
    (kernels, "TURN_EFFORT"): 1,
    (nested, "TURN_EFFORT"): 1,
    (products, "TURN_PRODUCT_EFFORT"): 1,
    (products, "TURN_EXTENT"): 32,
    (cuts, "PARALLEL_FLOPS"): 1,
    (cuts, "PARALLEL_COST"): 1,
}
"""Signals are looked for ahead of every kernel where they may be, and in the midst of all that can be cut."""
LOOPS: Table = {(straight, "STRAIGHT_WORK"): ALWAYS}
"""No straight lines."""
STRAIGHT: Table = {(straight, "STRAIGHT_WORK"): NEVER, (emit, "STRAIGHT_EFFORT"): NEVER}
"""Straight lines however much work they are."""
LIBRARY: Table = {(planned_products, "DIRECT_ROWS"): ALWAYS, (planned_products, "DIRECT_SUMS"): ALWAYS}
"""No products with their sizes in the code."""
LIGHT: Table = {(light, "GLUE_SHARE"): NEVER}
"""All kernels are light: LLVM does not optimise them."""


def force(patch: pytest.MonkeyPatch, *tables: Table) -> None:
    """Set the numbers of all tables."""
    for table in tables:
        for (module, name), value in table.items():
            patch.setattr(module, name, value)
