"""Sparsifiner (arXiv 2303.13755)."""

NETWORKS = {"ConnectivityPredictors": "network"}
