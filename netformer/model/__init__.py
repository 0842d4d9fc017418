"""Model: the transformer VAE that reads networks and tasks and writes networks.

Read `vae` first, then `task_encoder` and `head`.
"""
