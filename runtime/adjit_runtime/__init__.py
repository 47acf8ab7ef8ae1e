"""The runtime: what a compiled program needs to load and run. Imports nothing of the compiler."""

# Before any other module: it notes the files that they come from.
from adjit_runtime import sources as sources
