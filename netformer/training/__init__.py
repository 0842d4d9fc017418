"""Training: what a step reads, what it minimises, and the loop.

Read `loop` first, then `losses` and `batches`.
"""
