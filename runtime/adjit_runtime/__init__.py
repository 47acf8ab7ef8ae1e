"""The runtime: what a compiled program needs to load and run. Imports nothing of the compiler."""
