"""ENAT: encode only what is new (arXiv 2411.06959)."""

NETWORKS = {"EnatTransformer": "network"}
