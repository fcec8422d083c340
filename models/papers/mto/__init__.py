"""Masked-token optimisation (arXiv 2404.08330)."""

NETWORKS = {"MTOForPreTraining": "network"}
