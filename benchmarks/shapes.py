"""The shapes of matrix products that are measured: m x k x n, T where that operand is stored transposed."""

from __future__ import annotations

SHAPES = (
    "64x64x64", "128x128x128", "256x256x256", "512x512x512", "1024x1024x1024", "2048x2048x2048",
    "128x784x512", "512x128x784TN", "128x512x784NT", "1024x384x1536", "1024x1536x384NT", "384x1024x1536TN",
    "32x128x512", "32x64x32", "128x512x10",
)  # fmt: skip
# Thin and small ones, which memory or the call's cost limits.
MORE = (
    "512x128x10TN", "128x10x512NT", "1x1024x1024", "1x1024x1024NT", "1024x1024x1", "1024x1024x1TN", "100000x100x1",
    "100x100000x1TN", "1000x1x1000", "1x100000x1", "16x16x16", "8x8x8", "4x8x2", "250x250x250", "256x256x256TT",
    "1024x64x8", "4096x3x64",
)  # fmt: skip
