"""The tests: folders mirror the layers of the compiler and the runtime."""
