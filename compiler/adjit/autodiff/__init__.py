"""Graph -> Graph: the adjoint graph. `reverse` is the engine; the rules are in the declarations of the ops."""
