"""Patch Mixing (arXiv 2306.17848)."""

NETWORKS = {"ConvClassifier": "network"}
