"""VAR: next-scale prediction (arXiv 2404.02905)."""

NETWORKS = {"ScaleTransformer": "network"}
