"""Exact byte-level probabilities (arXiv 2410.09303)."""
