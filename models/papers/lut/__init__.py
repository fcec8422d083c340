"""LUT, learning with unmasked tokens (arXiv 2310.13593)."""

NETWORKS = {"LutForPreTraining": "network"}
