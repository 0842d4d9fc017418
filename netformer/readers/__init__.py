"""Readers: what a network is like, read from its weights, and how well; the zoo as a benchmark of such readers.

Read `questions` first: what is asked, of which networks, and how answers are scored. Then `boosted` and `learned`, the
readers; `outside`, those of another package; `latent`, what the latents of a model know;
`checkpoints`, networks along their training.
"""
