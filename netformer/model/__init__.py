"""Model: the transformer VAE that reads networks and tasks and writes networks.

Read `vae` first, then its modules: `task_encoder` (the condition), `latent`, `decoder`; then `grammar` and `head`.
"""
