"""MLM-U, masks at a uniform rate, in mazes (arXiv 2412.05117)."""
NETWORKS = {"PlaceTransformer": "network"}
