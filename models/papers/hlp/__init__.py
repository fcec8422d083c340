"""Horizon-length prediction: while a gap is filled, say how much of it is left (arXiv 2410.03103)."""

NETWORKS = {"HorizonLlama": "network"}
