"""Teacher: a larger model that answers in context, and what a delivered network learns from its answers.

Read `transformer` first, then `inputs` (what it reads of a table), `batches` and `loop` (its training) and `taught`
(networks whose output layer is solved on its answers too).
"""
