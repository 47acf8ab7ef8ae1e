"""Kernels that factor matrices and solve equations: `small` ones in code of ours, with a matrix in each lane of a
vector, larger ones by functions of `lapack`."""
