"""The static graph: types, nodes, graphs, and the one place where nodes are made.

types      Array and Tuple types, dtype names
op         what the graph knows of an op; the registry
node       Node, Loc, Data
graph      Graph, and how nodes become one
builder    Builder: makes typed nodes; Value: the notation in which rules are written
text       print and parse
verify     the invariants
evaluate   run a graph with NumPy
"""
