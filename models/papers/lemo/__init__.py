"""LeMo (arXiv 2501.09767)."""

NETWORKS = {"BlockPredictors": "network"}
