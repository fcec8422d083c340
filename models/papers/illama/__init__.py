"""iLLaMA (arXiv 2404.06773)."""

NETWORKS = {"IllamaForImageClassification": "network"}
