"""Sparse Jacobians and Hessians: the pattern is proved on the graph (`pattern`), columns and rows share products by
colours (`colors`), and one program computes all products and puts the entries in place (`compress`)."""
