"""SparK (arXiv 2301.03580)."""

NETWORKS = {"SparkNet": "network"}
