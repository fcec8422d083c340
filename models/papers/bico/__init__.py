"""BICO (arXiv 2311.07468)."""
