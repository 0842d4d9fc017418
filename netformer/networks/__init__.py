"""Networks: small neural networks as data, as stacks of weights and as lists of edges.

Read `specs` (what an architecture is), then `stack` (n networks evaluated together), then `tokens` and `symmetry`.
"""
