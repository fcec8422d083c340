"""MixedAE (arXiv 2303.17152)."""

NETWORKS = {"MixedAEForPreTraining": "network"}
