"""Tests of Python's own control flow, rewritten."""
