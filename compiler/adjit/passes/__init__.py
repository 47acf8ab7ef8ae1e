"""Graph to graph: one file per pass, the rule table in `rules`, the order in `pipeline`.

rewrite             the engine of the local passes: one forward walk
pattern, rules      the notation of rewrite rules, and the rules
simplify            named rules, casts of casts
flatten_branches    cheap branches
fold                constants
compose_moves       movement of movement
hoist_broadcasts    elementwise work before broadcasts
fold_contractions   movement around contractions
join_pads           sums of zero pads
cse, eliminate_dead
factor              sums of contractions
loops               loops taken apart, for the passes that rewrite them
drop_results        what nobody reads of a loop
forward_parts       what a loop need not stack or slice
hoist_invariants    what is the same in each turn of a loop
leave_loops         products that are better taken of all turns at once
orient              the order of axes of elementwise work
tile                loops over tiles of rows
pipeline            PIPELINE, optimize
"""
