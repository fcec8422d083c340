"""ADJUST: approximate joint sampling (arXiv 2509.22738)."""

NETWORKS = {"JointSampler": "network"}
