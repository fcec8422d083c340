"""MaskAlign (arXiv 2211.08887)."""

NETWORKS = {"MaskAlignForPreTraining": "network"}
