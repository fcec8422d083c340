"""Scan and Snap (arXiv 2305.16380)."""

NETWORKS = {"PairwiseTransformer": "network"}
