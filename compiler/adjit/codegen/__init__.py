"""Plan -> Program: LLVM text and object code. See compiler/README.md for the map."""
