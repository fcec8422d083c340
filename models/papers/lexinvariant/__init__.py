"""Lexinvariant language models (arXiv 2305.16349)."""

NETWORKS = {"LexinvariantLM": "network"}
