"""Why do AI agents communicate in human language? A position paper; the test of it is ours (arXiv 2506.02739)."""

NETWORKS = {"StateChannel": "network", "VectorLlama": "network"}
